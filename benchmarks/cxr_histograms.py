"""How near simulated radiographs come to real ones: greys, edges and texture.

    python benchmarks/cxr_histograms.py [--pictures 64] [--size 256] [--sheet FILE.png]

Real radiographs (``train/cxr``) are set beside radiographs of real CTs (``train/ct``) and, where
there is a phantom, of phantoms, once in the domain ``realistic`` and once in ``drr``. All share
one geometry: the field of a chest radiograph with the jitter of `PatientSetup`. The data folder
is the one of the tests (``CXR3D_TEST_DATA``).
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import stats

from napari_cxr3d.imaging import Volume, XrayView, preset
from napari_cxr3d.imaging.masks import lung_mask, remove_table
from napari_cxr3d.xray import project_basis, projector
from napari_cxr3d.xray.simulator import simulate
from napari_cxr3d.xray.simulator_patient import PatientSetup, chest_field

Picture = npt.NDArray[np.float32]
Table = npt.NDArray[np.float64]
Projected = tuple[Picture, Picture, XrayView]

DATA = Path(os.environ.get("CXR3D_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
SPLITS = 200
FEATURES = ("mean", "sd", "skew", "p5", "p50", "p95", "gradient", "slope")


def real_pictures(size: int) -> Iterator[Picture]:
    """Real radiographs, the longest side brought to `size` pixels."""
    from PIL import Image

    for path in sorted((DATA / "train" / "cxr").glob("*.png")):
        with Image.open(path) as file:
            picture = file.convert("L")
            picture.thumbnail((size, size), Image.Resampling.BOX)
            yield np.asarray(picture, np.float32) / np.float32(255)


def real_volumes() -> Iterator[Volume]:
    """Real CTs without their table."""
    from napari_cxr3d.io import read_ct

    for path in sorted((DATA / "train" / "ct").glob("*.nii.gz")):
        yield remove_table(read_ct(path))


def phantoms(count: int) -> Iterator[Volume]:
    """Procedural thoraces; none where this version has none."""
    try:
        from napari_cxr3d.phantom import make_thorax
    except ImportError:
        return
    for seed in range(count):
        yield make_thorax(seed).volume


def projections(volumes: Iterator[Volume], pictures: int, size: int, each: int) -> list[Projected]:
    """Water, bone and view of chest radiographs, half of them PA, half AP at the bedside."""
    engine = projector("cpu")
    found: list[Projected] = []
    for volume in volumes:
        lungs = lung_mask(volume)
        for _ in range(each):
            seed = len(found)
            setup = PatientSetup.sample(seed)
            base = preset(("pa", "ap-bedside")[seed % 2])
            base = replace(base, detector_shape=(size, size))
            margin = float(np.random.default_rng(seed).uniform(4, 26))
            breathed = setup.volume(volume, lungs=lungs)
            field, view = chest_field(breathed, base, margin_mm=margin, lungs=lungs)
            view = setup.view(view)
            water, bone = project_basis(engine, field, [view])
            found.append((water[0], bone[0], view))
            if len(found) == pictures:
                return found
    return found


def features(picture: Picture) -> list[float]:
    """Moments, percentiles, mean gradient and the slope of the power spectrum."""
    inner = picture[8:-8, 8:-8]
    low, middle, high = np.percentile(inner, [5, 50, 95])
    rows, cols = np.gradient(inner)
    return [
        float(inner.mean()),
        float(inner.std()),
        float(stats.skew(inner, axis=None)),
        float(low),
        float(middle),
        float(high),
        float(np.hypot(rows, cols).mean()),
        spectral_slope(inner),
    ]


def spectral_slope(picture: Picture) -> float:
    """Exponent of the power spectrum between 0.03 and 0.25 cycles per pixel."""
    window = np.outer(np.hanning(picture.shape[0]), np.hanning(picture.shape[1]))
    power = np.abs(np.fft.rfft2((picture - picture.mean()) * window)) ** 2
    v, u = np.fft.fftfreq(picture.shape[0])[:, None], np.fft.rfftfreq(picture.shape[1])[None]
    frequency = np.hypot(u, v)
    edges = np.geomspace(0.03, 0.25, 13)
    which = np.digitize(frequency, edges)
    mean = [power[which == k].mean() for k in range(1, len(edges))]
    centres = np.sqrt(edges[1:] * edges[:-1])
    return float(np.polyfit(np.log(centres), np.log(mean), 1)[0])


def stretched(picture: Picture) -> Picture:
    """The picture with its own 1 and 99 percent at 0 and 1."""
    low, high = np.percentile(picture, [1, 99])
    return np.asarray(np.clip((picture - low) / max(high - low, 1e-6), 0, 1), np.float32)


def grey_table(pictures: list[Picture]) -> Table:
    """Share of each of 256 grey values, a row for each picture."""
    edges = np.linspace(0, 1, 257)
    return np.array([np.histogram(p, edges)[0] / p.size for p in pictures])


def feature_table(pictures: list[Picture]) -> Table:
    """The features, a row for each picture."""
    return np.array([features(p) for p in pictures])


def grey_distance(a: Table, b: Table) -> float:
    """Wasserstein distance of the pooled grey values, in parts of the grey range."""
    return float(np.abs(np.cumsum(a.mean(axis=0) - b.mean(axis=0))).sum() / 256)


def feature_distance(a: Table, b: Table) -> float:
    """Mean over the features of their Wasserstein distance, in standard deviations of `a`."""
    distances = [stats.wasserstein_distance(a[:, k], b[:, k]) for k in range(a.shape[1])]
    return float(np.mean(distances / a.std(axis=0)))


def half_splits(real: Table, distance: Callable[[Table, Table], float]) -> float:
    """Median distance of one random half of the real pictures to the other."""
    rng, half, found = np.random.default_rng(0), len(real) // 2, []
    for _ in range(SPLITS):
        order = rng.permutation(len(real))
        found.append(distance(real[order[:half]], real[order[half : 2 * half]]))
    return float(np.median(found))


def develop(views: list[Projected], domain: str) -> list[Picture]:
    """Pictures of all projections, one seed each."""
    return [simulate((w, b), view, domain, seed) for seed, (w, b, view) in enumerate(views)]


def sheet(groups: dict[str, list[Picture]], path: Path, columns: int = 10) -> None:
    """Write the first pictures of each group beneath each other."""
    from PIL import Image

    size = max(groups["real"][0].shape)
    rows = []
    for pictures in groups.values():
        for start in (0, columns):
            row = np.zeros((size, columns * size), np.float32)
            for k, picture in enumerate(pictures[start : start + columns]):
                height, width = picture.shape
                row[:height, k * size : k * size + width] = picture
            rows.append(row)
    Image.fromarray((np.concatenate(rows) * 255).astype(np.uint8)).save(path)


def time_one(views: list[Projected]) -> float:
    """Median milliseconds of processor time of one picture of the domain ``realistic``."""
    spent = []
    for seed, (water, bone, view) in enumerate(views * 2):
        start = time.thread_time()
        simulate((water, bone), view, "realistic", seed)
        spent.append(time.thread_time() - start)
    return 1e3 * float(np.median(spent))


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=64, help="simulated pictures a group")
    parser.add_argument("--size", type=int, default=256, help="pixels a side")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet there")
    options = parser.parse_args()

    real = list(real_pictures(options.size))
    patients = projections(real_volumes(), options.pictures, options.size, each=8)
    groups = {
        "real": real,
        "realistic, CT": develop(patients, "realistic"),
        "drr, CT": develop(patients, "drr"),
    }
    thoraces = projections(phantoms(options.pictures // 4), options.pictures, options.size, each=4)
    if thoraces:
        groups["realistic, phantom"] = develop(thoraces, "realistic")
        groups["drr, phantom"] = develop(thoraces, "drr")
    else:
        print("no phantom in this version")

    tables = {name: feature_table(pictures) for name, pictures in groups.items()}
    print(f"{'group':<20}{'n':>4}" + "".join(f"{name:>16}" for name in FEATURES))
    for name, table in tables.items():
        cells = (f"{m:.3f} ± {s:.3f}" for m, s in zip(table.mean(0), table.std(0), strict=True))
        print(f"{name:<20}{len(table):>4}" + "".join(f"{cell:>16}" for cell in cells))

    print()
    print("distance to real            greys   stretched greys   features (in real SD)")
    plain = {name: grey_table(pictures) for name, pictures in groups.items()}
    wide = {name: grey_table([stretched(p) for p in ps]) for name, ps in groups.items()}
    for name in groups:
        if name == "real":
            label, numbers = "real, split in halves", (
                half_splits(plain[name], grey_distance),
                half_splits(wide[name], grey_distance),
                half_splits(tables[name], feature_distance),
            )  # fmt: skip
        else:
            label, numbers = name, (
                grey_distance(plain["real"], plain[name]),
                grey_distance(wide["real"], wide[name]),
                feature_distance(tables["real"], tables[name]),
            )  # fmt: skip
        print(f"{label:<24}{numbers[0]:>9.4f}{numbers[1]:>18.4f}{numbers[2]:>24.3f}")
    print()
    size = f"{options.size} x {options.size}"
    print(f"one {size} picture, all steps: {time_one(patients):.1f} ms on one core")
    if options.sheet:
        sheet(groups, options.sheet)


if __name__ == "__main__":
    main()
