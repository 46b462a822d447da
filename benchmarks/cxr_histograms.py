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


def pooled(pictures: list[Picture]) -> npt.NDArray[np.float64]:
    """Share of each of 256 grey values over all pictures, each counting the same."""
    edges = np.linspace(0, 1, 257)
    shares = [np.histogram(p, edges)[0] / p.size for p in pictures]
    return np.asarray(np.mean(shares, axis=0))


def histogram_distance(a: list[Picture], b: list[Picture]) -> float:
    """Wasserstein distance of the pooled grey values, in parts of the grey range."""
    return float(np.abs(np.cumsum(pooled(a) - pooled(b))).sum() / 256)


def feature_distance(a: list[Picture], b: list[Picture]) -> float:
    """Mean over the features of their Wasserstein distance, in real standard deviations."""
    x, y = (np.array([features(p) for p in group]) for group in (a, b))
    scale = x.std(axis=0)
    distances = [stats.wasserstein_distance(x[:, k], y[:, k]) for k in range(x.shape[1])]
    return float(np.mean(distances / scale))


def half_splits(
    real: list[Picture], distance: Callable[[list[Picture], list[Picture]], float], splits: int
) -> float:
    """Median distance of one random half of the real pictures to the other."""
    rng, found = np.random.default_rng(0), []
    for _ in range(splits):
        order = rng.permutation(len(real))
        half = len(real) // 2
        found.append(
            distance([real[k] for k in order[:half]], [real[k] for k in order[half : 2 * half]])
        )
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
    """Median milliseconds of one picture of the domain ``realistic``."""
    spent = []
    for seed, (water, bone, view) in enumerate(views * 2):
        start = time.perf_counter()
        simulate((water, bone), view, "realistic", seed)
        spent.append(time.perf_counter() - start)
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

    print(f"{'group':<20}{'n':>4}" + "".join(f"{name:>16}" for name in FEATURES))
    for name, pictures in groups.items():
        table = np.array([features(p) for p in pictures])
        cells = (f"{m:.3f} ± {s:.3f}" for m, s in zip(table.mean(0), table.std(0), strict=True))
        print(f"{name:<20}{len(pictures):>4}" + "".join(f"{cell:>16}" for cell in cells))

    print()
    print("distance to real            greys   stretched greys   features (in real SD)")
    wide = [stretched(p) for p in real]
    print(
        f"{'real, split in halves':<24}{half_splits(real, histogram_distance, SPLITS):>9.4f}"
        f"{half_splits(wide, histogram_distance, SPLITS):>18.4f}"
        f"{half_splits(real, feature_distance, SPLITS // 10):>24.3f}"
    )
    for name, pictures in list(groups.items())[1:]:
        print(
            f"{name:<24}{histogram_distance(real, pictures):>9.4f}"
            f"{histogram_distance(wide, [stretched(p) for p in pictures]):>18.4f}"
            f"{feature_distance(real, pictures):>24.3f}"
        )
    print()
    print(f"one {options.size} x {options.size} picture, all steps: {time_one(patients):.1f} ms")
    if options.sheet:
        sheet(groups, options.sheet)


if __name__ == "__main__":
    main()
