"""Matches of landmarks as a record, a picture and files."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d import __version__
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Radiograph
from napari_cxr3d.inference.similarity import EpipolarBand, MutualMatch, PatchFeatures, mutual_match
from napari_cxr3d.io.destination import (
    all_or_none,
    new_file,
    require_free,
    sidecar_path,
    write_json,
)
from napari_cxr3d.io.synthetic_mark import SYNTHETIC_NOTE, mark_text

__all__ = [
    "RESEARCH_USE",
    "SIMILARITY_SUFFIXES",
    "LandmarkMatch",
    "coloured",
    "match_landmarks",
    "similarity_picture",
    "similarity_record",
    "write_similarity",
]

Colours = npt.NDArray[np.uint8]

RESEARCH_USE = "Research use only. Not for diagnosis."
SIMILARITY_SUFFIXES = (".png", ".npy", ".csv")
"""The files that `write_similarity` writes."""

_HEIGHT = 512  # pixels of a panel
_GAP, _LINE, _BAR = 12, 24, 14
_GREYS = (0.5, 99.5)  # percentiles that become black and white
_STRONGEST = 0.65  # of the colour, at the peak
# Nine colours of matplotlib's "inferno" (van der Walt and Smith, CC0), evenly spaced.
_INFERNO = np.array(
    [(0, 0, 4), (31, 12, 72), (85, 15, 109), (136, 34, 106), (187, 55, 84), (227, 89, 51),
     (249, 140, 10), (249, 201, 50), (252, 255, 164)],
    np.float64,
)  # fmt: skip
_MARK, _PEAK = (80, 220, 255), (90, 255, 120)


@dataclass(frozen=True, eq=False)
class LandmarkMatch:
    """A landmark of one picture, and its match on the other.

    Attributes
    ----------
    name : str
        Of the landmark.
    point : tuple of 2 float
        (row, column) on the query's picture as it is stored.
    match : MutualMatch
        What was found.
    """

    name: str
    point: tuple[float, float]
    match: MutualMatch

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable form."""
        found = self.match.forward
        return {
            "name": self.name,
            "row": self.point[0],
            "column": self.point[1],
            "match_row": round(found.peak_source[0], 2),
            "match_column": round(found.peak_source[1], 2),
            "value": round(found.value, 4),
            "contrast": round(found.contrast, 4),
            "back_mm": round(self.match.distance_mm, 1),
            "trusted": self.match.trusted,
        }


def match_landmarks(
    query: PatchFeatures,
    points: Sequence[tuple[float, float]],
    target: PatchFeatures,
    *,
    names: Sequence[str] = (),
    bands: Sequence[EpipolarBand | None] | None = None,
) -> tuple[LandmarkMatch, ...]:
    """Match each landmark, and look whether it is found back.

    Parameters
    ----------
    query, target : PatchFeatures
        Of the picture with the landmarks, and of the other one.
    points : sequence of tuple of 2 float
        (row, column) on the query's picture as it is stored.
    names : sequence of str
        Of the landmarks; numbered where there are fewer.
    bands : sequence of EpipolarBand or None, optional
        Where each match must lie.

    Raises
    ------
    InvalidInputError
        If there are more names than points, or as
        `napari_cxr3d.inference.similarity.similarity_map`.
    """
    if len(names) > len(points):
        raise InvalidInputError(
            "There are more names than landmarks", why=f"{len(names)} and {len(points)}"
        )
    told = [*names, *(f"landmark {k + 1}" for k in range(len(names), len(points)))]
    return tuple(
        LandmarkMatch(name, point, mutual_match(query, point, target, band=band))
        for name, point, band in zip(told, points, bands or [None] * len(points), strict=True)
    )


def similarity_record(
    matches: Sequence[LandmarkMatch], query: PatchFeatures, target: PatchFeatures
) -> dict[str, Any]:
    """JSON-serialisable record of matches, without names of files."""
    return {
        "matches": [match.to_dict() for match in matches],
        "model": query.model,
        "synthetic": query.picture.synthetic or target.picture.synthetic,
        "query_shape": list(query.picture.source_shape),
        "target_shape": list(target.picture.source_shape),
        "notes": [
            *(f"first picture: {note}" for note in query.picture.notes),
            *(f"second picture: {note}" for note in target.picture.notes),
        ],
        "note": RESEARCH_USE,
    }


def coloured(values: npt.NDArray[Any]) -> Colours:
    """Colours of values from 0 to 1, shape (..., 3)."""
    place = np.clip(np.nan_to_num(values), 0, 1) * (len(_INFERNO) - 1)
    low = np.minimum(place.astype(np.intp), len(_INFERNO) - 2)
    part = (place - low)[..., None]
    return np.asarray(np.rint(_INFERNO[low] * (1 - part) + _INFERNO[low + 1] * part), np.uint8)


def similarity_picture(
    matches: Sequence[LandmarkMatch], query: Radiograph, target: Radiograph
) -> Colours:
    """Both pictures a row for each landmark: the click, and the map with its peak.

    Parameters
    ----------
    matches : sequence of LandmarkMatch
        One or more.
    query, target : Radiograph
        The pictures as they are stored.

    Returns
    -------
    ndarray of uint8, shape (rows, cols, 3)
        With a colour bar, the numbers, and what it must not be used for.
    """
    from PIL import Image, ImageDraw, ImageFont

    rows = [_row(match, query, target) for match in matches]
    synthetic = query.synthetic or target.synthetic
    width = max(row.width for row in rows)
    whole = Image.new("RGB", (width, sum(row.height + _GAP for row in rows) + _LINE))
    top = 0
    for row in rows:
        whole.paste(row, (0, top))
        top += row.height + _GAP
    told = f"{mark_text()}  {RESEARCH_USE}" if synthetic else RESEARCH_USE
    ImageDraw.Draw(whole).text(
        (6, top), told, fill=(255, 255, 255), font=ImageFont.load_default(14)
    )
    return np.asarray(whole)


def _row(match: LandmarkMatch, query: Radiograph, target: Radiograph) -> Any:
    """One landmark: the picture with its mark, the other with the map, the colour bar."""
    from PIL import Image, ImageDraw, ImageFont

    found = match.match.forward
    left, left_scale = _grey_panel(query)
    right, right_scale = _grey_panel(target)
    shown = np.asarray(
        Image.fromarray(np.nan_to_num(found.on_source(), nan=-2.0)).resize(
            right.size, Image.Resampling.BILINEAR
        )
    )
    inside = found.detector[found.picture.valid]
    low, high = float(np.median(inside)), max(float(inside.max()), float(np.median(inside)) + 1e-3)
    part = np.clip((shown - low) / (high - low), 0, 1)
    part[shown < -1] = 0
    alpha = (_STRONGEST * part)[..., None]
    mixed = np.asarray(right, np.float64) * (1 - alpha) + coloured(part) * alpha
    right = Image.fromarray(np.rint(mixed).astype(np.uint8))
    _ring(left, match.point, left_scale, _MARK)
    _ring(right, found.peak_source, right_scale, _PEAK)
    font = ImageFont.load_default(14)
    height = max(left.height, right.height)
    row = Image.new("RGB", (left.width + right.width + 3 * _GAP + _BAR + 48, height + _LINE))
    row.paste(left, (0, _LINE))
    at = left.width + _GAP
    row.paste(right, (at, _LINE))
    bar = np.repeat(coloured(np.linspace(1, 0, right.height))[:, None], _BAR, axis=1)
    row.paste(Image.fromarray(bar), (at + right.width + _GAP, _LINE))
    draw = ImageDraw.Draw(row)
    side = at + right.width + _GAP + _BAR + 4
    draw.text((side, _LINE), f"{high:.2f}", fill=(255, 255, 255), font=font)
    draw.text((side, _LINE + right.height - 18), f"{low:.2f}", fill=(255, 255, 255), font=font)
    point, peak = match.point, found.peak_source
    draw.text((4, 4), f"{match.name}: ({point[0]:.0f}, {point[1]:.0f})", fill=_MARK, font=font)
    trust = "found back" if match.match.trusted else "NOT found back"
    told = f"({peak[0]:.0f}, {peak[1]:.0f})  cosine {found.value:.2f}  {trust}"
    draw.text((at, 4), told, fill=_PEAK, font=font)
    return row


def _grey_panel(picture: Radiograph) -> tuple[Any, tuple[float, float]]:
    """RGB picture of `_HEIGHT` rows, and its pixels a stored pixel along (rows, columns)."""
    from PIL import Image

    low, high = picture.display_range or np.percentile(picture.pixels, _GREYS)
    greys = np.clip((picture.pixels - low) / max(float(high - low), 1e-6), 0, 1)
    down, along = picture.pitch_mm or (1.0, 1.0)
    size = (max(1, round(_HEIGHT * picture.shape[1] * along / (picture.shape[0] * down))), _HEIGHT)
    image = Image.fromarray(np.rint(255 * greys).astype(np.uint8))
    image = image.resize(size, Image.Resampling.BOX if picture.shape[0] > _HEIGHT else
                         Image.Resampling.BICUBIC).convert("RGB")  # fmt: skip
    return image, (size[1] / picture.shape[0], size[0] / picture.shape[1])


def _ring(
    image: Any, point: Sequence[float], scale: tuple[float, float], colour: tuple[int, int, int]
) -> None:
    """A ring and a dot, dark around so that they are seen on white too."""
    from PIL import ImageDraw

    draw = ImageDraw.Draw(image)
    y, x = ((p + 0.5) * s for p, s in zip(point, scale, strict=True))
    for radius, width, fill in ((11, 5, (0, 0, 0)), (10, 2, colour)):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=fill, width=width)
    draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=colour)


def write_similarity(
    path: str | Path,
    matches: Sequence[LandmarkMatch],
    query: tuple[PatchFeatures, Radiograph],
    target: tuple[PatchFeatures, Radiograph],
    *,
    overwrite: bool = False,
    sources: Iterable[Path] = (),
) -> tuple[Path, ...]:
    """Write matches as a picture, as maps, or as a table; the suffix decides.

    Parameters
    ----------
    path : path-like
        ``.png``: what `similarity_picture` draws. ``.npy``: the maps on the second picture as it
        is stored, float32 (landmarks, rows, cols), NaN off the detector, with a JSON file beside.
        ``.csv``: one line a landmark.
    matches : sequence of LandmarkMatch
        One or more.
    query, target : tuple of PatchFeatures and Radiograph
        The two pictures.
    overwrite : bool
        Whether files may be replaced.
    sources : iterable of Path
        Files that are never replaced.

    Returns
    -------
    tuple of Path
        The files written.

    Raises
    ------
    InvalidInputError
        If the suffix is none of these.
    ExportError
        If a file must not or cannot be written.
    """
    path, sources = Path(path).expanduser(), tuple(sources)
    suffix = path.suffix.lower()
    if suffix not in SIMILARITY_SUFFIXES:
        raise InvalidInputError(
            f"Maps cannot be written as {suffix or 'a file without suffix'}",
            remedy=f"choose one of {', '.join(SIMILARITY_SUFFIXES)}",
        )
    record = similarity_record(matches, query[0], target[0])
    beside = sidecar_path(path)
    if suffix == ".npy":
        require_free(beside, overwrite=overwrite)
    with all_or_none() as written:
        with new_file(path, overwrite=overwrite, sources=sources) as temporary:
            if suffix == ".png":
                _write_png(temporary, similarity_picture(matches, query[1], target[1]), record)
            elif suffix == ".npy":
                np.save(temporary, np.stack([m.match.forward.on_source() for m in matches]))
            else:
                _write_csv(temporary, record)
        written.append(path)
        if suffix == ".npy":
            write_json(beside, record, overwrite=overwrite)
            written.append(beside)
    return tuple(written)


def _write_png(path: Path, picture: Colours, record: dict[str, Any]) -> None:
    import json

    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    title = "Patch similarity"
    text.add_text("Title", f"{mark_text()}: {title}" if record["synthetic"] else title)
    if record["synthetic"]:
        text.add_text("Description", SYNTHETIC_NOTE)
    text.add_text("Warning", RESEARCH_USE)
    text.add_text("Software", f"napari-cxr3d {__version__}")
    text.add_text("Matches", json.dumps(record, sort_keys=True), zip=True)
    Image.fromarray(picture).save(path, format="PNG", pnginfo=text)


def _write_csv(path: Path, record: dict[str, Any]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        rows = [{**match, "synthetic": record["synthetic"]} for match in record["matches"]]
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
