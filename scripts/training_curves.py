"""Draw the curves of runs from the logs that travel in their bundles.

    python scripts/training_curves.py napari_cxr3d/models/weights/reconstruct-demo --out curves.png

Several bundles, such as the stages of one model, are drawn over each other.

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


def draw(runs: dict[str, dict[str, tuple[list[int], list[float]]]], out: Path) -> None:
    """One picture: a panel a number, a line a run."""
    from matplotlib.figure import Figure

    names = sorted({name for found in runs.values() for name in found})
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(4 * columns, 2.6 * rows), layout="constrained")
    for index, name in enumerate(names):
        axes = figure.add_subplot(rows, columns, index + 1)
        for number, (run, found) in enumerate(runs.items()):
            if name not in found:
                continue
            steps, values = found[name]
            mark = "." if len(steps) < 30 else ""
            axes.plot(steps, values, linewidth=1, marker=mark, label=run, color=f"C{number}")
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.savefig(out, dpi=110)


def main() -> None:
    """Read the arguments, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", type=Path, nargs="+", help="the bundles' folders")
    parser.add_argument("--out", type=Path, required=True, help="the picture")
    chosen = parser.parse_args()
    runs = {
        bundle.resolve().name: curves(json.loads((bundle / LOG).read_text(encoding="utf-8")))
        for bundle in chosen.bundles
    }
    draw(runs, chosen.out)
    print(chosen.out)


if __name__ == "__main__":
    main()
