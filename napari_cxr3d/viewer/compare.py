"""A DRR and a chest X-ray on one pixel grid: blended, as a checkerboard, subtracted.

Both pictures lie in the detector plane, so that they compare in millimetres there. All
arrays are display pictures, 0 (black) to 1 (white), on the DRR's detector grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Radiograph

__all__ = [
    "COMPARE_MODES",
    "Alignment",
    "CompareMode",
    "blend",
    "checkerboard",
    "composite",
    "difference",
    "display_picture",
    "fitting_pitch",
    "to_detector",
]

Picture = npt.NDArray[np.float32]
CompareMode = Literal["side by side", "blend", "checkerboard", "difference"]
COMPARE_MODES: tuple[CompareMode, ...] = ("side by side", "blend", "checkerboard", "difference")

_BULK = (0.5, 99.5)  # percentiles shown where the file asks for no window


@dataclass(frozen=True)
class Alignment:
    """How a radiograph is laid over a detector, centre on centre.

    Attributes
    ----------
    pitch_mm : tuple of 2 float
        The radiograph's pixel pitch (row, column) in the detector plane.
    shift_mm : tuple of 2 float
        How far it is moved (down, right) from the detector's centre.
    """

    pitch_mm: tuple[float, float]
    shift_mm: tuple[float, float] = (0.0, 0.0)


def fitting_pitch(shape: tuple[int, int], field_mm: tuple[float, float]) -> float:
    """The pitch in mm at which a picture of unknown scale just fills a field's height."""
    return field_mm[0] / shape[0]


def display_picture(radiograph: Radiograph) -> Picture:
    """The radiograph through its own window (its pixels' bulk where it has none), 0 to 1."""
    window = radiograph.display_range
    low, high = window if window is not None else np.percentile(radiograph.pixels, _BULK)
    span = high - low if high > low else 1.0
    return np.clip((radiograph.pixels - low) / span, 0.0, 1.0).astype(np.float32)


def to_detector(
    picture: Picture, alignment: Alignment, shape: tuple[int, int], pixel_mm: float
) -> Picture:
    """A picture resampled to a detector's pixels.

    Parameters
    ----------
    picture : ndarray of float32, shape (rows, columns)
        The radiograph as displayed.
    alignment : Alignment
        Its pitch and place.
    shape : tuple of 2 int
        Detector (rows, columns).
    pixel_mm : float
        Detector pixel pitch in mm.

    Returns
    -------
    ndarray of float32, shape (rows, columns) of the detector
        0 to 1; NaN where the radiograph does not reach.
    """
    if min(alignment.pitch_mm) <= 0 or pixel_mm <= 0:
        raise InvalidInputError("A pixel pitch must be a positive number of mm")
    for axis in (0, 1):
        ratio = pixel_mm / alignment.pitch_mm[axis]
        picture = _prefilter(picture, ratio, axis)
        center = (picture.shape[axis] - 1) / 2
        offset = (np.arange(shape[axis]) - (shape[axis] - 1) / 2) * pixel_mm
        index = center + (offset - alignment.shift_mm[axis]) / alignment.pitch_mm[axis]
        picture = _interpolate(picture, index, axis, outside=np.nan)
    return picture


def _prefilter(picture: Picture, ratio: float, axis: int) -> Picture:
    """Average over the pixels that fall into one detector pixel, against aliasing."""
    width = round(ratio)
    if width < 2:
        return picture
    from scipy.ndimage import uniform_filter1d

    smooth: Picture = uniform_filter1d(picture, width, axis=axis, mode="nearest")
    return smooth


def _interpolate(picture: Picture, index: npt.NDArray[Any], axis: int, outside: float) -> Picture:
    """Linear interpolation along one axis at fractional indices."""
    last = picture.shape[axis] - 1
    below = np.clip(np.floor(index).astype(np.intp), 0, max(last - 1, 0))
    weight = np.clip(index - below, 0.0, 1.0).astype(np.float32)
    lead = (slice(None),) * axis
    shape = (-1, 1) if axis == 0 else (1, -1)
    low = picture.take(below, axis)
    result = picture.take(np.minimum(below + 1, last), axis)
    result -= low
    result *= weight.reshape(shape)
    result += low
    beyond = (index < -0.5) | (index > last + 0.5)
    if beyond.any():
        result[(*lead, beyond)] = outside
    return result


def blend(drr: Picture, cxr: Picture, fraction: float) -> Picture:
    """`fraction` of the radiograph over the rest of the DRR; the DRR alone outside it."""
    mixed: Picture = np.where(np.isnan(cxr), drr, (1 - fraction) * drr + fraction * cxr)
    return mixed.astype(np.float32, copy=False)


def checkerboard(drr: Picture, cxr: Picture, square: int) -> Picture:
    """DRR and radiograph in alternating squares of `square` pixels."""
    if square < 1:
        raise InvalidInputError("A checkerboard's squares need one pixel or more")
    rows, cols = (np.arange(n) // square for n in drr.shape)
    take_drr = (rows[:, None] + cols[None, :]) % 2 == 0
    board: Picture = np.where(take_drr | np.isnan(cxr), drr, cxr)
    return board


def difference(drr: Picture, cxr: Picture) -> Picture:
    """DRR minus radiograph: mid-grey where equal, bright where the DRR is brighter."""
    subtracted: Picture = np.where(np.isnan(cxr), 0.5, 0.5 + 0.5 * (drr - cxr))
    return subtracted.astype(np.float32, copy=False)


def composite(
    mode: CompareMode, drr: Picture, cxr: Picture, *, fraction: float = 0.5, square: int = 32
) -> Picture:
    """One picture of both; side by side is two pictures, so there the DRR stays alone."""
    if mode == "blend":
        return blend(drr, cxr, fraction)
    if mode == "checkerboard":
        return checkerboard(drr, cxr, square)
    if mode == "difference":
        return difference(drr, cxr)
    return drr
