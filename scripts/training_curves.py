"""Draw the curves of a run from the log that travels in its bundle.

    python scripts/training_curves.py napari_cxr3d/models/weights/reconstruct-demo --out curves.png

matplotlib draws them; it comes with DiffDRR and is no dependency of the program itself.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

LOG = "training-log.json"


def curves(log: list[dict[str, Any]]) -> dict[str, tuple[list[int], list[float]]]:
    """Every number of the log but rates and weights, against its step."""
    found: dict[str, tuple[list[int], list[float]]] = {}
    for line in log:
        for name, value in line.items():
            if name == "step" or name.endswith(("/lr", "/gradient_norm", "/total")):
                continue
            if name.startswith("weight/"):
                continue
            steps, values = found.setdefault(name, ([], []))
            steps.append(line["step"])
            values.append(value)
    return found


def draw(title: str, found: dict[str, tuple[list[int], list[float]]], out: Path) -> None:
    """One picture, a panel a number."""
    from matplotlib.figure import Figure

    columns = min(3, len(found))
    rows = -(-len(found) // columns)
    figure = Figure(figsize=(4 * columns, 2.6 * rows), layout="constrained")
    for index, (name, (steps, values)) in enumerate(sorted(found.items())):
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.plot(steps, values, linewidth=1, marker="." if len(steps) < 30 else "")
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=7)
        if min(values) > 0 and max(values) > 20 * min(values):
            axes.set_yscale("log")
        axes.grid(alpha=0.3)
    figure.suptitle(title, fontsize=11)
    figure.savefig(out, dpi=110)


def main() -> None:
    """Read the arguments, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path, help="the bundle's folder")
    parser.add_argument("--out", type=Path, required=True, help="the picture")
    chosen = parser.parse_args()
    log = json.loads((chosen.bundle / LOG).read_text(encoding="utf-8"))
    draw(chosen.bundle.resolve().name, curves(log), chosen.out)
    print(chosen.out)


if __name__ == "__main__":
    main()
