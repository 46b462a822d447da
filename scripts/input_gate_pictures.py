"""Pictures for `fit_input_gate.py`: chests from real files, CTs and phantoms, and what is none."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_cxr3d.imaging import Volume, preset
from napari_cxr3d.imaging.masks import body_mask, lung_mask, remove_table
from napari_cxr3d.inference.xray_input_features import square_picture
from napari_cxr3d.io import read_ct, read_cxr
from napari_cxr3d.phantom import make_thorax
from napari_cxr3d.xray import project_basis, projector
from napari_cxr3d.xray.simulator import simulate
from napari_cxr3d.xray.simulator_patient import PatientSetup, chest_field

Picture = npt.NDArray[np.float32]
Quad = tuple[float, float, float, float]

DETECTOR = 192
MARGIN_MM = 70.0
GRID_MM, SPACING_MM = 384.0, 4.0  # of the model's grid; phantoms are painted coarser than usual
LUNG_ROWS, LUNG_COLUMNS = (1.0, 99.0), (0.3, 99.7)  # percentiles of the lungs' points: no trachea
CT_WINDOWS = ((-1000, 400), (-1350, 150), (-160, 240), (-450, 1050))


@dataclass(frozen=True, eq=False)
class Sample:
    """A square picture, what it shows and of whom; ``box``: lungs as parts of the content."""

    square: Picture
    kind: str
    patient: str
    source: str
    box: Quad | None = None


def sample(
    picture: Picture, kind: str, patient: str, source: str, box: Quad | None = None
) -> Sample:
    """A picture with borders cut off; its lungs' box (rows, columns in pixels) follows."""
    square, (top, bottom, left, right) = square_picture(picture)
    parts = None
    if box is not None:
        rows, cols = bottom - top, right - left
        parts = (
            (box[0] - top) / rows, (box[1] - top) / rows,
            (box[2] - left) / cols, (box[3] - left) / cols,
        )  # fmt: skip
    return Sample(square, kind, patient, source, parts)


def lungs_on(view: Any, volume: Volume, lungs: npt.NDArray[np.bool_]) -> Quad:
    """The lungs' box on the detector: first and last row, first and last column, in pixels."""
    i, p, ell = np.nonzero(lungs & ~ndimage.binary_erosion(lungs))
    x, y, z = volume.origin_lps
    di, dp, dl = volume.spacing_mm
    points = np.stack([x + ell * dl, y + p * dp, z - i * di], axis=-1)
    rows, cols = np.moveaxis(view.frame().project(points), -1, 0)
    return (*np.percentile(rows, LUNG_ROWS), *np.percentile(cols, LUNG_COLUMNS))


def crops(rng: np.random.Generator, picture: Picture, box: Quad, count: int) -> Iterator[Any]:
    """The field closed in on the lungs at random, now and then into them."""
    top, bottom, left, right = box
    height, width = bottom - top, right - left
    for _ in range(count):
        beyond = rng.uniform(-0.06, 0.32, 4) * np.array([height, height, width, width])
        r0, c0 = (max(0, int(e)) for e in (top - beyond[0], left - beyond[2]))
        r1 = min(picture.shape[0], int(bottom + beyond[1]))
        c1 = min(picture.shape[1], int(right + beyond[3]))
        yield picture[r0:r1, c0:c1], (top - r0, bottom - r0, left - c0, right - c0)


def cut_away(rng: np.random.Generator, picture: Picture, box: Quad) -> Picture:
    """A part of a picture that holds too little of the lungs to be a chest X-ray."""
    top, bottom, left, right = box
    r, c = picture.shape
    which = rng.integers(4)
    middle_r, middle_c = int((top + bottom) / 2), int((left + right) / 2)
    part = [
        picture[: max(16, int(top + 0.3 * (bottom - top)))],
        picture[min(r - 16, int(bottom - 0.25 * (bottom - top))) :],
        picture[middle_r - r // 6 : middle_r + r // 6, middle_c - c // 6 : middle_c + c // 6],
        picture[max(0, int(top)) : middle_r, int(left) : middle_c],
    ][which]
    return part if min(part.shape) > 12 else picture[: r // 4, : c // 4]


def chest_pictures(
    volume: Volume, patient: str, source: str, seed: int, each: int
) -> Iterator[Sample]:
    """Frontal and lateral X-rays of a volume, several fields of each, and useless parts."""
    rng = np.random.default_rng([11, seed])
    engine = projector("cpu")
    lungs = lung_mask(volume)
    for k in range(2 * each):
        frontal = k < each
        name = ("pa", "ap-bedside")[k % 2] if frontal else "left-lateral"
        base = replace(preset(name), detector_shape=(DETECTOR, DETECTOR))
        field, view = chest_field(volume, base, margin_mm=MARGIN_MM, lungs=lungs)
        view = PatientSetup.sample(int(rng.integers(1 << 30))).view(view)
        water, bone = project_basis(engine, field, [view])
        look = "realistic" if rng.random() < 0.85 else "drr"
        made = simulate((water[0], bone[0]), view, look, int(rng.integers(1 << 30)))
        box = lungs_on(view, volume, lungs)
        kind = "frontal" if frontal else "lateral"
        for part, own in crops(rng, made, box, 3):
            yield sample(part, kind, patient, source, own)
        yield sample(cut_away(rng, made, box), "other", patient, "part of a chest")


def measures(volume: Volume) -> npt.NDArray[np.float64]:
    """Size of the lungs' box, then its middle from the centre of a model's grid, (I, P, L) in mm.

    The grid's centre is the middle of the body's box along P and L, and of the volume along I.
    """
    lungs, body = lung_mask(volume), body_mask(volume)
    limits = (LUNG_ROWS, LUNG_COLUMNS, LUNG_COLUMNS)
    ends = np.array(
        [np.percentile(axis, q) for axis, q in zip(np.nonzero(lungs), limits, strict=True)]
    )
    center = [(volume.shape[0] - 1) / 2]
    for others in ((0, 2), (0, 1)):
        there = np.flatnonzero(body.any(axis=others))
        center.append((there[0] + there[-1]) / 2)
    spacing = np.array(volume.spacing_mm)
    return np.stack([np.diff(ends, axis=1)[:, 0], ends.mean(axis=1) - np.array(center)]) * spacing


def phantom(seed: int) -> Volume:
    """A patient that was made, on the model's field."""
    return make_thorax(seed, size_mm=(GRID_MM,) * 3, spacing_mm=SPACING_MM, threads=1).volume


def real_cts(folder: Path) -> Iterator[tuple[str, Volume]]:
    """Patient and CT, about 4 mm fine, without the table."""
    for path in sorted((folder / "train" / "ct").glob("*.nii.gz")):
        volume = remove_table(read_ct(path))
        step = [max(1, round(SPACING_MM / s)) for s in volume.spacing_mm]
        hu = ndimage.uniform_filter(volume.hu.astype(np.float32), step)
        hu = hu[:: step[0], :: step[1], :: step[2]]
        spacing = tuple(s * k for s, k in zip(volume.spacing_mm, step, strict=True))
        yield (
            re.sub(r"(-s\d)?_\dmm.*", "", path.name),
            replace(volume, hu=np.ascontiguousarray(hu), spacing_mm=spacing),
        )


def ct_slices(volume: Volume, patient: str, seed: int, count: int) -> Iterator[Sample]:
    """Slices in every plane, in usual windows, some turned."""
    rng = np.random.default_rng([12, seed])
    for k in range(count):
        axis = int(rng.choice(3, p=[0.6, 0.2, 0.2]))
        at = int(rng.uniform(0.2, 0.8) * volume.shape[axis])
        plane = np.take(volume.hu, at, axis=axis).astype(np.float32)
        low, high = CT_WINDOWS[k % len(CT_WINDOWS)]
        picture = np.clip((plane - low) / (high - low), 0, 1)
        if axis and volume.shape[0] < volume.shape[3 - axis]:
            picture = ndimage.zoom(
                picture, (volume.spacing_mm[0] / volume.spacing_mm[2], 1), order=1
            )
        picture = np.rot90(picture, int(rng.choice(4, p=[0.7, 0.1, 0.1, 0.1])))
        if rng.random() < 0.5:
            cut = (rng.uniform(0, 0.15, 2) * np.array(picture.shape)).astype(int)
            picture = picture[cut[0] : picture.shape[0] - cut[0] // 2, cut[1] // 2 or None :]
        yield sample(np.ascontiguousarray(picture), "ct", patient, "CT slice")


def real_frontals(folder: Path, paths: list[tuple[str, str]], fields: int) -> Iterator[Sample]:
    """Real radiographs, whole and with the field closed in a little."""
    for index, (name, patient) in enumerate(paths):
        rng = np.random.default_rng([13, index])
        pixels = read_cxr(folder / name).pixels
        rows, cols = pixels.shape
        for k in range(fields):
            cut = rng.uniform(0, 0.07, 4) * np.array([rows, rows, cols, cols]) * (k > 0)
            t, b, lt, rt = cut.astype(int)
            yield sample(pixels[t : rows - b, lt : cols - rt], "frontal", patient, "real")


def listed(folder: Path, prefix: str) -> list[tuple[str, str]]:
    """Files of the label table and their patients."""
    with (folder / "cxr_labels.csv").open(newline="", encoding="utf-8") as file:
        return [
            (row["path"], row["patient"])
            for row in csv.DictReader(file)
            if row["path"].startswith(prefix)
        ]


def _capsules(rng: np.random.Generator, size: int, bones: list[Any], soft: float) -> Picture:
    """Line integrals of round bones in round soft tissue: ``2 sqrt(r^2 - d^2)``."""
    y, x = np.mgrid[:size, :size] / size
    page = np.zeros((size, size))
    for (x0, y0), (x1, y1), radius in bones:
        length = max((x1 - x0) ** 2 + (y1 - y0) ** 2, 1e-9)
        t = np.clip(((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length, 0, 1)
        d2 = (x - x0 - t * (x1 - x0)) ** 2 + (y - y0 - t * (y1 - y0)) ** 2
        flesh = (radius * soft) ** 2
        page = np.maximum(page, 2 * np.sqrt(np.clip(flesh - d2, 0, None)))
        page += 2.2 * np.sqrt(np.clip(radius**2 - d2, 0, None))
        page -= 0.8 * np.sqrt(np.clip((0.5 * radius) ** 2 - d2, 0, None))
    page += ndimage.gaussian_filter(rng.normal(0, 0.05 * page.max(), page.shape), 1)
    return np.asarray(page / max(page.max(), 1e-6), np.float32)


def hand(rng: np.random.Generator, size: int = 128) -> Picture:
    """A hand: five rays of bones from a wrist, as far spread as it may be."""
    bones = []
    spread, thick = rng.uniform(10, 22), rng.uniform(0.012, 0.028)
    for k in range(5):
        angle = np.radians((k - 2) * spread + rng.normal(0, 4) - (20 if k == 0 else 0))
        start = np.array([0.5 + 0.05 * (k - 2), 0.72])
        for length in (0.2, 0.14, 0.09, 0.06)[: 3 if k == 0 else 4]:
            end = start + length * np.array([np.sin(angle), -np.cos(angle)])
            bones.append((start, end, thick * rng.uniform(0.85, 1.15)))
            start = end + 0.01 * np.array([np.sin(angle), -np.cos(angle)])
    if rng.random() < 0.7:
        bones += [((0.45, 0.78), (0.43, 1.05), 0.035), ((0.55, 0.78), (0.57, 1.05), 0.03)]
        bones.append(((0.42, 0.75), (0.58, 0.75), 0.035))
    return np.rot90(_capsules(rng, size, bones, rng.uniform(1.5, 2.8)), rng.integers(4)).copy()


def limb(rng: np.random.Generator, size: int = 128) -> Picture:
    """One or two long bones with a joint."""
    bend = rng.uniform(-0.25, 0.25)
    middle = (0.5 + rng.normal(0, 0.05), rng.uniform(0.3, 0.7))
    radius = rng.uniform(0.04, 0.09)
    bones = [((0.5 - bend, -0.1), middle, radius), (middle, (0.5 - bend, 1.1), 0.8 * radius)]
    if rng.random() < 0.6:
        bones.append(((middle[0] + 2.2 * radius, middle[1]), (0.5 + 2 * radius, 1.1), 0.5 * radius))
    return np.rot90(_capsules(rng, size, bones, rng.uniform(2.0, 3.2)), rng.integers(4)).copy()


def skull(rng: np.random.Generator, size: int = 128) -> Picture:
    """A shell with cavities."""
    y, x = np.mgrid[:size, :size] / size
    page = np.zeros((size, size))
    a, b = rng.uniform(0.3, 0.42), rng.uniform(0.36, 0.46)
    for scale, sign in ((1.0, 6.0), (0.93, -4.0)):
        page += sign * np.sqrt(
            np.clip(scale**2 - ((x - 0.5) / a) ** 2 - ((y - 0.45) / b) ** 2, 0, None)
        )
    for _ in range(6):
        cx, cy, r = rng.uniform(0.35, 0.65), rng.uniform(0.45, 0.8), rng.uniform(0.03, 0.1)
        page -= 1.5 * np.sqrt(np.clip(1 - ((x - cx) ** 2 + (y - cy) ** 2) / r**2, 0, None))
    return np.asarray(page, np.float32)


def scene(rng: np.random.Generator, size: int = 128) -> Picture:
    """What any other picture may look like: noise of every grain, shapes, ramps, print."""
    which = rng.integers(5)
    y, x = np.mgrid[:size, :size] / size
    if which == 0:
        frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
        frequency[0, 0] = 1
        spectrum = np.fft.rfft2(rng.normal(size=(size, size))) / frequency ** rng.uniform(0, 2)
        return np.fft.irfft2(spectrum, (size, size)).astype(np.float32)
    if which == 1:
        page = np.full((size, size), rng.random())
        for _ in range(rng.integers(4, 40)):
            cx, cy, r = rng.random(), rng.random(), rng.uniform(0.03, 0.3)
            page[((x - cx) / rng.uniform(0.5, 2)) ** 2 + (y - cy) ** 2 < r**2] = rng.random()
        return ndimage.gaussian_filter(page, rng.uniform(0, 2)).astype(np.float32)
    if which == 2:
        page = np.full((size, size), rng.random())
        for _ in range(rng.integers(4, 30)):
            r0, c0 = rng.integers(0, size, 2)
            h, w = rng.integers(4, size // 2, 2)
            page[r0 : r0 + h, c0 : c0 + w] = rng.random()
        return page.astype(np.float32) + rng.normal(0, 0.02, page.shape).astype(np.float32)
    if which == 3:
        turn = rng.uniform(0, 2 * np.pi)
        wave = np.sin(rng.uniform(1, 40) * (np.cos(turn) * x + np.sin(turn) * y))
        return (wave * (1 - rng.random() * y) + rng.normal(0, 0.05, x.shape)).astype(np.float32)
    lines = (rng.random((size // 8, size)) < 0.4).repeat(4, axis=0)
    page = np.ones((size, size))
    page[: len(lines) * 2 : 2][: len(lines)] -= lines[: size // 2]
    return ndimage.gaussian_filter(page, 0.7).astype(np.float32)


def strangers(count: int, seed: int) -> Iterator[Sample]:
    """What was never a chest."""
    for k in range(count):
        rng = np.random.default_rng([14, seed, k])
        make = (hand, limb, skull, scene, scene)[k % 5]
        picture = make(rng)
        if make is not scene and rng.random() < 0.3:
            picture = picture.max() - picture
        yield sample(picture, "other", f"{make.__name__}{k}", make.__name__)
