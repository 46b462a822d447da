"""Fit the statistics by which an X-ray is recognised before a reconstruction.

    python scripts/fit_input_gate.py [--phantoms 30] [--samples FILE.npz] [--out FILE.npz]

Fitted to the radiographs of ``train/cxr`` whose patients are not among those of ``cxr/frontal``,
to X-rays of the CTs of ``train/ct`` and of phantoms, and to pictures that are no chest. Prints
figures that are cross-validated by patient, and those on the radiographs of ``cxr/``, which take
no part in the fit; writes the file that `xray_input_recognition` reads. The data folder is the one
of the tests (``CXR3D_TEST_DATA``). One seed, one file.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import input_gate_pictures as pictures
import numpy as np
import numpy.typing as npt
from input_gate_pictures import Sample
from scipy.optimize import minimize

from napari_cxr3d.inference.xray_input_features import SIDE, picture_features
from napari_cxr3d.inference.xray_input_recognition import KINDS
from napari_cxr3d.inference.xray_input_resampling import area_mean, footprints

Array = npt.NDArray[np.float64]

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("CXR3D_TEST_DATA", ROOT.parent / "shared" / "data"))
OUT = ROOT / "napari_cxr3d" / "inference" / "xray_input_recognition.npz"
FOLDS = 5
FIELDS = 6  # of each real radiograph
REFRAMED = (0.45, 0.25)  # most dark beside the patient, most of the lungs that is cut off
REFRAMED_WEIGHT = 0.15  # of such a field for the lungs' box: whole lungs matter most
REAL_WEIGHT = 6.0  # of a field of a real radiograph beside a simulated one
SOFTNESS = {"kinds": 0.1, "heart": 1e-3, "box": 100.0}  # chosen by cross-validation


@dataclass(frozen=True, eq=False)
class Rows:
    """Features, kinds, weights and patients of pictures."""

    features: Array
    kinds: npt.NDArray[np.intp]
    weights: Array
    patients: npt.NDArray[Any]


def gather(phantoms: int) -> tuple[list[Sample], Array, Array]:
    """All samples, and the measures of CT patients and of phantoms [N, 2, 3]."""
    found: list[Sample] = []
    of_cts, of_phantoms = [], []
    for index, (patient, volume) in enumerate(pictures.real_cts(DATA)):
        found += pictures.chest_pictures(volume, patient, "CT", index, 8)
        found += pictures.ct_slices(volume, patient, index, 60)
        of_cts.append(pictures.measures(volume))
    tested = {patient for _, patient in pictures.listed(DATA, "cxr/frontal")}
    fitted = [row for row in pictures.listed(DATA, "train/cxr") if row[1] not in tested]
    found += pictures.real_frontals(DATA, fitted, FIELDS)
    found += pictures.strangers(800, 0)
    for index in range(phantoms):
        volume = pictures.phantom(1000 + index)
        found += pictures.chest_pictures(volume, f"phantom {index}", "phantom", 100 + index, 2)
        found += pictures.ct_slices(volume, f"phantom {index}", 100 + index, 8)
        of_phantoms.append(pictures.measures(volume))
        print(f"phantom {index + 1} of {phantoms}", end="\r", flush=True)
    return found, np.array(of_cts), np.array(of_phantoms)


def stored(path: Path, phantoms: int) -> tuple[list[Sample], Array, Array]:
    """Samples from a file, or gathered and written there."""
    if not path.exists():
        samples, cts, made = gather(phantoms)
        part = path.with_suffix(".part.npz")
        np.savez_compressed(
            part,
            squares=np.stack([np.rint(255 * s.square).astype(np.uint8) for s in samples]),
            words=np.array([[s.kind, s.patient, s.source] for s in samples]),
            boxes=np.array([s.box or (np.nan,) * 4 for s in samples]),
            cts=cts,
            phantoms=made,
        )
        part.replace(path)
    with np.load(path, allow_pickle=False) as file:
        squares = file["squares"].astype(np.float32) / 255
        samples = [
            Sample(square, str(k), str(p), str(s), None if np.isnan(box[0]) else tuple(box))
            for square, (k, p, s), box in zip(squares, file["words"], file["boxes"], strict=True)
        ]
        return samples, file["cts"], file["phantoms"]


def expanded(samples: Sequence[Sample]) -> Rows:
    """Every sample, chests also in other fields, mirrored, turned and inverted."""
    rng = np.random.default_rng(0)
    rows: list[tuple[Any, int, float, str]] = []
    for each in samples:
        weight = REAL_WEIGHT if each.source == "real" else 1.0
        for picture, kind, part in variants(each, rng):
            features = picture_features(np.ascontiguousarray(picture))
            rows.append((features, KINDS.index(kind), weight * part, each.patient))
    features, kinds, weights, patients = zip(*rows, strict=True)
    return Rows(
        np.array(features, np.float64), np.array(kinds), np.array(weights), np.array(patients)
    )


def variants(each: Sample, rng: np.random.Generator) -> Iterator[tuple[Any, str, float]]:
    """A picture and what else can be made of it: picture, kind, part of its weight."""
    square = each.square
    yield square, each.kind, 1.0
    if each.kind not in ("frontal", "lateral"):
        for turns in range(1, 4):
            yield np.rot90(square, turns), each.kind, 0.3
        yield np.rot90(1 - square, int(rng.integers(4))), "other", 0.5
        return
    mirror = square[:, ::-1]
    mirrored = "frontal" if each.kind == "frontal" else "facing-right"
    yield mirror, mirrored, 0.5 if each.kind == "frontal" else 1.0
    other = reframed(each, rng).square
    yield other, each.kind, 0.7
    yield other[:, ::-1], mirrored, 0.5
    some = (square, mirror, other)[rng.integers(3)]
    yield np.rot90(some, int(rng.integers(1, 4))), "other", 0.7
    yield 1 - square, "other", 0.5
    yield np.rot90(1 - some, int(rng.integers(1, 4))), "other", 0.3


def reframed(each: Sample, rng: np.random.Generator) -> Sample:
    """The same chest in another field: dark beside the patient, or some of the lungs cut off."""
    box = each.box or (0.0, 1.0, 0.0, 1.0)
    most = REFRAMED if each.box else (REFRAMED[0] / 2, REFRAMED[1] / 3)
    low, high = np.zeros(2), np.ones(2)
    for axis in range(2):
        first, last = box[2 * axis : 2 * axis + 2]
        for side in range(2):
            chance = rng.random()
            if chance < 0.3 and axis == 1:  # air beside the patient, seldom above or below
                change = -rng.uniform(0, most[0])
            elif chance < 0.55:
                edge = (first, 1 - last)[side]
                change = max(edge, 0) + rng.uniform(-0.05, most[1]) * (last - first)
                change = max(change, 0)
            else:
                change = 0.0
            low[axis], high[axis] = (change, high[axis]) if side == 0 else (low[axis], 1 - change)
    size = high - low
    parts = [footprints(SIDE, SIDE * low[k], size[k], SIDE) for k in range(2)]
    square, covered = area_mean(each.square, parts[0], parts[1])
    dark = np.percentile(each.square[:, [0, -1]], 10)
    square = np.where(covered > 0.5, square, np.float32(dark))
    ends = np.percentile(square, [2, 98])
    square = np.clip((square - ends[0]) / max(ends[1] - ends[0], 1e-6), 0, 1).astype(np.float32)
    moved = None
    if each.box is not None:
        moved = tuple((box[k] - low[k // 2]) / size[k // 2] for k in range(4))
    return Sample(square, each.kind, each.patient, each.source, moved)  # type: ignore[arg-type]


def classifier(x: Array, y: npt.NDArray[np.intp], weights: Array, softness: float) -> Array:
    """Softmax regression with a quadratic penalty: weights and biases [kinds, features + 1]."""
    kinds, size = int(y.max()) + 1, x.shape[1]
    w, truth = (weights / weights.mean())[:, None], np.eye(kinds)[y]

    def loss(flat: Array) -> tuple[float, Array]:
        table = flat.reshape(kinds, size + 1)
        scores = x @ table[:, :-1].T + table[:, -1]
        scores -= scores.max(axis=1, keepdims=True)
        odds = np.exp(scores)
        chances = odds / odds.sum(axis=1, keepdims=True)
        value = -(w * truth * np.log(chances + 1e-30)).sum()
        value += 0.5 / softness * (table[:, :-1] ** 2).sum()
        back = w * (chances - truth)
        slopes = np.concatenate([back.T @ x + table[:, :-1] / softness, back.sum(0)[:, None]], 1)
        return float(value), slopes.ravel()

    start = np.zeros(kinds * (size + 1))
    fit = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return np.asarray(fit.x).reshape(kinds, size + 1)


def regressor(x: Array, y: Array, weights: Array, softness: float) -> Array:
    """Weighted ridge regression: [outputs, features + 1]."""
    mean, middle = (np.average(values, axis=0, weights=weights) for values in (x, y))
    centred = x - mean
    weighted = centred * weights[:, None]
    slopes = np.linalg.solve(
        weighted.T @ centred + softness * np.eye(x.shape[1]), weighted.T @ (y - middle)
    ).T
    return np.concatenate([slopes, (middle - slopes @ mean)[:, None]], axis=1)


def applied(table: Array, x: Array) -> Array:
    """Scores of rows of features."""
    return np.asarray(x @ table[:, :-1].T + table[:, -1])


def folds(patients: npt.NDArray[Any]) -> Iterator[tuple[Array, Array]]:
    """Rows to fit and rows to test, no patient in both."""
    names = sorted(set(patients.tolist()))
    np.random.default_rng(1).shuffle(names)
    fold = np.array([names.index(p) % FOLDS for p in patients.tolist()])
    for k in range(FOLDS):
        yield np.flatnonzero(fold != k), np.flatnonzero(fold == k)


def chances(scores: Array) -> Array:
    """Softmax."""
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def kinds_figures(rows: Rows, center: Array) -> None:
    """How often pictures of patients that took no part are taken for what they are."""
    x = rows.features - center
    found = np.zeros((len(x), len(KINDS)))
    for fit, test in folds(rows.patients):
        table = classifier(x[fit], rows.kinds[fit], rows.weights[fit], SOFTNESS["kinds"])
        found[test] = chances(applied(table, x[test]))
    print(f"\nKinds, cross-validated by patient ({len(x)} pictures):")
    print(f"  {'is':14}{'n':>6}  " + "".join(f"{kind:>14}" for kind in KINDS))
    for k, kind in enumerate(KINDS):
        seen = np.bincount(found[rows.kinds == k].argmax(axis=1), minlength=len(KINDS))
        print(f"  {kind:14}{seen.sum():6}  " + "".join(f"{n / seen.sum():14.1%}" for n in seen))
    chest = found[:, :3].sum(axis=1)
    is_chest = rows.kinds < 3
    print(f"  chests below a chance of 0.5: {(chest[is_chest] < 0.5).mean():.1%}, of 0.1: "
          f"{(chest[is_chest] < 0.1).mean():.1%}; others above 0.5: "
          f"{(chest[~is_chest] > 0.5).mean():.1%}")  # fmt: skip


def fit_boxes(samples: Sequence[Sample], kind: str, center: Array) -> tuple[Array, Array]:
    """The lungs' box of one kind; errors [n, 4] relative to the box's height and width.

    Other fields of a picture take part in the fit; the errors are those of pictures as they are.
    """
    rng = np.random.default_rng(2)
    whole = [s for s in samples if s.kind == kind and s.box is not None]
    chosen = whole + [reframed(s, rng) for s in whole for _ in range(2)]
    x = np.array([picture_features(s.square) for s in chosen], np.float64) - center
    y = np.array([s.box for s in chosen])
    weights = np.where(np.arange(len(y)) < len(whole), 1.0, REFRAMED_WEIGHT)
    errors = np.zeros_like(y)
    for fit, test in folds(np.array([s.patient for s in chosen])):
        table = regressor(x[fit], y[fit], weights[fit], SOFTNESS["box"])
        errors[test] = applied(table, x[test]) - y[test]
    size = np.repeat(np.stack([y[:, 1] - y[:, 0], y[:, 3] - y[:, 2]], axis=1), 2, axis=1)
    relative = (errors / size)[: len(whole)]
    words = " ".join(f"{n} {s:.1%}" for n, s in zip(
        ("top", "bottom", "left", "right"), relative.std(axis=0), strict=True))  # fmt: skip
    print(f"Lungs' box, {kind} ({len(whole)} pictures), standard error in box sizes: {words}")
    return regressor(x, y, weights, SOFTNESS["box"]), relative


def fit_heart(samples: Sequence[Sample]) -> Array:
    """On which side the heart lies: weights of the difference to the mirror image."""
    chosen = [s for s in samples if s.kind == "frontal"]
    x = np.array([
        picture_features(s.square) - picture_features(np.ascontiguousarray(s.square[:, ::-1]))
        for s in chosen
    ], np.float64)  # fmt: skip
    weight = np.array([REAL_WEIGHT if s.source == "real" else 1.0 for s in chosen])

    def fitted(rows: Any) -> Array:
        both = np.concatenate([x[rows], -x[rows]])
        side = np.repeat([1, 0], len(x[rows]))
        table = classifier(both, side, np.tile(weight[rows], 2), SOFTNESS["heart"])
        return np.asarray(table[1, :-1] - table[0, :-1])

    scores = np.zeros(len(x))
    for fit, test in folds(np.array([s.patient for s in chosen])):
        scores[test] = x[test] @ fitted(fit)
    real = np.array([s.source == "real" for s in chosen])
    for name, some in (("all", scores), ("real", scores[real])):
        print(f"Heart's side, {name}: right {(some > 0).mean():.1%}; mirrored pictures called "
              f"mirrored {(some > 2).mean():.1%}, others {(some < -2).mean():.1%}")  # fmt: skip
    return fitted(np.arange(len(x)))


def main() -> None:
    """Gather, fit, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--phantoms", type=int, default=30, help="How many are made.")
    parser.add_argument("--samples", type=Path, help="Keep the pictures here for the next fit.")
    parser.add_argument("--out", type=Path, default=OUT, help="Where the statistics go.")
    chosen = parser.parse_args()
    if chosen.samples is None:
        samples, cts, phantoms = gather(chosen.phantoms)
    else:
        samples, cts, phantoms = stored(chosen.samples, chosen.phantoms)
    rows = expanded(samples)
    center = np.average(rows.features, axis=0, weights=rows.weights)
    arrays: dict[str, Array] = {"center": center}
    fitted = classifier(rows.features - center, rows.kinds, rows.weights, SOFTNESS["kinds"])
    tables = {"kinds": fitted}
    tables["frontal"], frontal_error = fit_boxes(samples, "frontal", center)
    tables["lateral"], lateral_error = fit_boxes(samples, "lateral", center)
    for name, table in tables.items():
        arrays[name], arrays[f"{name}_bias"] = table[:, :-1], table[:, -1]
    arrays["heart"] = fit_heart(samples)
    arrays |= patients(np.concatenate([cts, phantoms]), phantoms, frontal_error, lateral_error)
    halves = {name: value.astype(np.float16) for name, value in arrays.items()}
    np.savez_compressed(chosen.out, **halves)
    print(f"{chosen.out.name}: {chosen.out.stat().st_size / 1000:.0f} kB")
    report()
    kinds_figures(rows, center)


def patients(all_of_them: Array, phantoms: Array, frontal: Array, lateral: Array) -> Any:
    """Usual measures; the models' grids are those of phantoms for the most part."""
    sizes = np.log(all_of_them[:, 0])
    height, width = frontal[:, 1] - frontal[:, 0], frontal[:, 3] - frontal[:, 2]
    depth = lateral[:, 3] - lateral[:, 2]
    reading = np.array([height.std(), depth.std(), width.std()])
    size = np.exp(sizes.mean(axis=0))
    offsets = phantoms[:, 1]
    middles = [
        frontal[:, :2].mean(axis=1).std() * size[0],
        frontal[:, 2:].mean(axis=1).std() * size[2],
    ]
    found = {
        "lung_size_mm": size,
        "lung_size_spread": np.hypot(sizes.std(axis=0), reading),
        "lung_offset_mm": offsets.mean(axis=0)[:2],
        "middle_sd_mm": np.hypot(middles, offsets.std(axis=0)[[0, 2]]),
    }
    for name, value in found.items():
        print(f"{name}: {' '.join(f'{v:.3g}' for v in value)}")
    return found


def report() -> None:
    """The gate on radiographs that took no part: false alarms, and what should be found."""
    from napari_cxr3d.inference.xray_input import examine, guess_input
    from napari_cxr3d.io import read_cxr

    for folder, projection in (
        ("cxr/frontal", "pa"),
        ("cxr/lateral", "lateral-left"),
        ("cxr/dicom", None),
    ):
        for path in sorted((DATA / folder).iterdir()):
            guess = guess_input(read_cxr(path))
            codes = [f"{f.code} ({f.severity})" for f in examine([guess.input])]
            told = "" if projection in (None, guess.input.projection) else " (guessed)"
            print(f"  {folder} {path.name[:24]:26}{guess.input.projection}{told}: "
                  f"{', '.join(codes) or 'nothing'}")  # fmt: skip


if __name__ == "__main__":
    main()
