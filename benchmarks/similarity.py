"""From a click on one picture to the map on another, features kept, beside making them anew.

Prints a table. Type::

    python benchmarks/similarity.py                         # the weights that come with the program
    python benchmarks/similarity.py --model FOLDER --points 5 --out results/

Two projections of a synthetic patient lie on the model's detector. *Features kept* is what a click
costs in the panel: the token at the click, its cosines, the map on the detector and on the picture
as it is stored, the peak and its way back. Its peers, in the same run: the same with both pictures
encoded anew (torch), and normalised cross-correlation of the patch of pixels about the click
(``skimage.feature.match_template``) on the same detector.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

_LIMIT_MS = 100.0  # what a hand on the mouse does not notice


def pictures(model: Any) -> tuple[Any, Any]:
    """A synthetic patient from the front and from 15 degrees beside, on the model's detector."""
    from napari_cxr3d.imaging import Radiograph, preset
    from napari_cxr3d.inference.orbit_picture import prepare_picture
    from napari_cxr3d.inference.xray_input import XrayInput
    from napari_cxr3d.phantom import make_thorax
    from napari_cxr3d.xray import projector

    volume = make_thorax(3, (384, 384, 384), 6.0).volume
    made = []
    for yaw in (0.0, 15.0):
        base = replace(preset("pa"), yaw=yaw, detector_shape=(512, 512), pixel_mm=0.86)
        view = replace(base, isocenter_lps=volume.center_lps)
        integrals = projector("cpu").project(volume, [view])[0]
        drawn = Radiograph(
            integrals, (0.86, 0.86), view=view, quantity="line_integral", synthetic=True
        )
        made.append(prepare_picture(XrayInput(drawn, "as-given"), model))
    return made[0], made[1]


def fastest(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Fastest and median wall time in ms, after one that does not count."""
    work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - began))
    return min(times), float(np.median(times))


def measure(model: str, points: int, repeats: int) -> dict[str, Any]:
    """Times of all three ways."""
    import torch
    from skimage.feature import match_template

    from napari_cxr3d.inference.similarity import mutual_match, patch_features
    from napari_cxr3d.inference.world_models import load_world_model

    loaded = load_world_model(model, device="cpu")
    query, target = pictures(loaded.model)
    rng = np.random.default_rng(0)
    clicks = rng.uniform(128, 384, (points, 2))
    kept = patch_features(query, loaded), patch_features(target, loaded)

    def click(features: tuple[Any, Any]) -> None:
        for point in clicks:
            mutual_match(features[0], point, features[1]).forward.on_source()

    def anew() -> None:
        click((patch_features(query, loaded), patch_features(target, loaded)))

    def correlate() -> None:
        for point in clicks:
            row, col = (int(v) for v in query.to_detector(point))
            around = query.pixels[row - 8 : row + 9, col - 8 : col + 9]
            match_template(target.pixels, around, pad_input=True)

    ways = {
        "features kept": lambda: click(kept),
        f"both encoded anew (torch {torch.__version__})": anew,
        f"match_template (scikit-image {version('scikit-image')})": correlate,
    }
    rows = {name: fastest(work, repeats) for name, work in ways.items()}
    return {
        "model": f"{loaded.name} {loaded.version}",
        "detector": list(loaded.model.detector_shape),
        "points": points,
        "threads": torch.get_num_threads(),
        "rows": [
            {"way": name, "fastest_ms": low, "median_ms": middle}
            for name, (low, middle) in rows.items()
        ],
    }


def table_of(found: dict[str, Any]) -> str:
    """Markdown."""
    first = found["rows"][0]["fastest_ms"]
    lines = [
        f"{found['points']} point(s), detector {found['detector']}, {found['model']}, "
        f"{found['threads']} thread(s)",
        "",
        "| way | fastest ms | median ms | ratio to features kept |",
        "|---|---:|---:|---:|",
    ]
    for row in found["rows"]:
        lines.append(
            f"| {row['way']} | {row['fastest_ms']:.2f} | {row['median_ms']:.2f} "
            f"| {row['fastest_ms'] / first:.2f} |"
        )
    kept = "within" if first <= _LIMIT_MS else "ABOVE"
    return "\n".join([*lines, "", f"{kept} the limit of {_LIMIT_MS:.0f} ms"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="xwin-demo", help="name or path of a world model")
    parser.add_argument("--points", type=int, default=1, help="landmarks at once")
    parser.add_argument("--repeats", type=int, default=30, help="repeats of each way")
    parser.add_argument("--out", type=Path, help="folder for similarity.json")
    chosen = parser.parse_args()
    found = measure(chosen.model, chosen.points, chosen.repeats)
    print(table_of(found))
    if chosen.out is not None:
        chosen.out.mkdir(parents=True, exist_ok=True)
        path = chosen.out / "similarity.json"
        path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
