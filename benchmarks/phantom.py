"""How fast phantoms are made, and whether their tissues lie where real patients' lie.

Prints three tables. Type::

    python benchmarks/phantom.py                      # the CTs of CXR3D_TEST_DATA beside phantoms
    python benchmarks/phantom.py --seeds 4            # fewer phantoms
    python benchmarks/phantom.py --out results/       # also phantom.md and phantom.json

*Speed*: seconds for a thorax at 2 mm, beside the reading of a real CT of that size from its
file, which is what a phantom stands in for. *Tissues*: HU of tissue classes, found by the same
thresholds and masks in both. *Radiographs*: statistics of the PA line integrals.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_cxr3d.imaging import Volume, XrayView
from napari_cxr3d.imaging.masks import body_mask, lung_mask, remove_table
from napari_cxr3d.io import read_ct
from napari_cxr3d.phantom import make_thorax
from napari_cxr3d.workers import available_threads
from napari_cxr3d.xray import projector

DATA = Path(
    os.environ.get("CXR3D_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
)
ROUNDS = 3


def tissues(volume: Volume) -> dict[str, float]:
    """HU of tissue classes: peaks and means within a mask, by the same rules for all.

    The modes are those of a histogram of 4 HU bins, smoothed over 12 HU.
    """
    hu = np.asarray(volume.hu, np.float32)
    body, lungs = body_mask(volume), lung_mask(volume)
    inner = ndimage.binary_erosion(body, iterations=2)
    soft = hu[inner & ~lungs]
    deep_lung = hu[ndimage.binary_erosion(lungs, iterations=2)]
    bone = soft[(soft > 200) & (soft < 2000)]
    return {
        "air outside": float(np.median(hu[~ndimage.binary_dilation(body, iterations=4)])),
        "lung, median": float(np.median(deep_lung)),
        "lung, 5 to 95 %": float(np.subtract(*np.percentile(deep_lung, [95, 5]))),
        "fat, mode": _mode(soft, -160, -40),
        "muscle and blood, mode": _mode(soft, 0, 110),
        "above 200 HU, share of body in %": 100 * bone.size / max(1, int(body.sum())),
        "above 200 HU, mean": float(bone.mean()),
        "soft tissue 99th percentile": float(np.percentile(soft, 99)),
        "noise in muscle": _noise(hu, inner & ~lungs),
        "lungs in litres": float(lungs.sum() * np.prod(volume.spacing_mm) / 1e6),
        "body width in mm": float(
            body.any(axis=(0, 1)).sum() * volume.spacing_mm[2]
        ),
    }  # fmt: skip


def _mode(values: npt.NDArray[np.float32], low: float, high: float) -> float:
    counts, edges = np.histogram(values, np.arange(low, high + 4, 4))
    smooth = np.convolve(counts, np.ones(3), "same")
    return float(edges[np.argmax(smooth)] + 2)


def _noise(hu: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]) -> float:
    """Median local standard deviation in the slice where all of 5 x 5 voxels are soft tissue."""
    soft = mask & (hu > 0) & (hu < 120)
    mean = ndimage.uniform_filter(hu, (1, 5, 5))
    square = ndimage.uniform_filter(hu * hu, (1, 5, 5))
    inside = ndimage.minimum_filter(soft, (1, 5, 5))
    spread = np.sqrt(np.maximum(square - mean * mean, 0))[inside]
    return float(np.median(spread)) if spread.size else float("nan")


def radiograph(volume: Volume) -> dict[str, float]:
    """Statistics of the PA line integrals behind the body."""
    view = XrayView(detector_shape=(256, 256), pixel_mm=1.6)
    image = projector("cpu").project(remove_table(volume), [view])[0]
    behind = image[image > 0.3]
    low, middle, high = np.percentile(behind, [5, 50, 95])
    rows, columns = np.gradient(image)
    return {
        "5th percentile": float(low),
        "median": float(middle),
        "95th percentile": float(high),
        "mean gradient per mm": float(
            np.hypot(rows, columns)[image > 0.3].mean() / (1.6 / view.magnification)
        ),
    }


def timed(work: Callable[[], object]) -> float:
    """Seconds of the fastest of some rounds."""
    best = np.inf
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return float(best)


def comparison(title: str, real: list[dict[str, float]], made: list[dict[str, float]]) -> list[str]:
    """A table of ranges, real and made, and whether each phantom's mean lies in the real range."""
    lines = [
        f"**{title}**, {len(real)} real CTs and {len(made)} phantoms", "",
        "| quantity | real, lowest to highest | phantoms, lowest to highest | phantoms' mean | |",
        "|---|---|---|---|---|",
    ]  # fmt: skip
    for name in made[0]:
        ours = np.array([row[name] for row in made])
        if not real:
            lines.append(f"| {name} | none at hand | {ours.min():.4g} to {ours.max():.4g} "
                         f"| {ours.mean():.4g} | |")  # fmt: skip
            continue
        theirs = np.array([row[name] for row in real])
        verdict = "inside" if theirs.min() <= ours.mean() <= theirs.max() else "OUTSIDE"
        lines.append(
            f"| {name} | {theirs.min():.4g} to {theirs.max():.4g} | {ours.min():.4g} to "
            f"{ours.max():.4g} | {ours.mean():.4g} | {verdict} |"
        )
    return lines


def real_volumes() -> Iterable[tuple[Path, Volume]]:
    """The full-chest CTs of the data folder, one a patient."""
    for pattern in ("ct/*.nii.gz", "ct/*.mha", "ct/*.nrrd"):
        for path in sorted(DATA.glob(pattern)):
            yield path, read_ct(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=12, help="number of phantoms")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()

    make_thorax(0, (40, 40, 40), 4.0)  # compiles the kernels
    volumes = list(real_volumes())
    seconds = timed(lambda: make_thorax(3))
    ill = timed(lambda: make_thorax(3, findings="random"))
    shape = make_thorax(3).volume.shape
    lines = [
        f"`python benchmarks/phantom.py` with {available_threads()} threads on "
        f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}.",
        "",
        "| what | seconds | over reading |\n|---|---|---|",
    ]
    reading = np.nan
    for path, volume in volumes[:1]:
        reading = timed(partial(read_ct, path))
        lines.append(
            f"| read a real CT of {' x '.join(map(str, volume.shape))} | {reading:.2f} | 1 |"
        )
    size = " x ".join(map(str, shape))
    lines.append(f"| make a healthy thorax of {size} | {seconds:.2f} | {seconds / reading:.2f} |")
    lines.append(f"| make one with random findings | {ill:.2f} | {ill / reading:.2f} |")
    lines.append(f"| target | < 3 | {'met' if max(seconds, ill) < 3 else 'MISSED'} |")

    cases = [make_thorax(seed, findings="random").volume for seed in range(arguments.seeds)]
    reports = {}
    for title, measure in (("Tissues", tissues), ("Radiographs", radiograph)):
        real = [measure(volume) for _, volume in volumes]
        made = [measure(volume) for volume in cases]
        reports[title] = {"real": real, "phantom": made}
        lines += ["", *comparison(title, real, made)]
    text = "\n".join(lines)
    print(text)
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "phantom.md").write_text(text + "\n", encoding="utf-8")
        record = {"seconds": seconds, "seconds_ill": ill, "seconds_reading": reading, **reports}
        (arguments.out / "phantom.json").write_text(json.dumps(record, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
