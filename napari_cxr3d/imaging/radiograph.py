"""A two-dimensional X-ray picture: measured, or projected from a CT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging.volume import SourceInfo, _read_only
from napari_cxr3d.imaging.xray_view import XrayView

__all__ = ["Quantity", "Radiograph"]

Quantity = Literal["display", "line_integral"]


@dataclass(frozen=True, eq=False)
class Radiograph:
    """An X-ray picture, bone bright (MONOCHROME2).

    Parameters
    ----------
    pixels : ndarray of float32, shape (rows, columns)
        Display values in the file's own scale, or dimensionless line integrals.
    pitch_mm : tuple of 2 float or None
        Pixel pitch (row, column) in mm, None where the file does not know it.
    view : XrayView or None
        The exposure's geometry; known for projections of a CT.
    photometric : {"MONOCHROME1", "MONOCHROME2"}
        How the file stored the picture; the pixels here are always MONOCHROME2.
    source : SourceInfo, optional
        The file it came from.
    quantity : {"display", "line_integral"}
        What a pixel value means.
    view_position : str
        ``"PA"``, ``"AP"``, ``"LL"``, ``"RL"`` or ``""`` where unknown.
    display_range : tuple of 2 float or None
        The window the file asks for, as (low, high) in pixel values.
    synthetic : bool
        True for a picture that no detector measured.
    """

    pixels: npt.NDArray[Any]
    pitch_mm: tuple[float, float] | None = None
    view: XrayView | None = None
    photometric: str = "MONOCHROME2"
    source: SourceInfo | None = None
    quantity: Quantity = "display"
    view_position: str = ""
    display_range: tuple[float, float] | None = None
    synthetic: bool = False

    def __post_init__(self) -> None:
        pixels = np.asarray(self.pixels)
        if pixels.ndim != 2 or pixels.dtype.kind not in "iufb" or pixels.size == 0:
            raise InvalidInputError(
                "A radiograph needs a real array with rows and columns",
                why=f"it got {pixels.dtype} with shape {pixels.shape}",
            )
        pixels = pixels.astype(np.float32, copy=False)
        if not np.isfinite(pixels).all():
            raise InvalidInputError("The radiograph holds values that are not numbers")
        object.__setattr__(self, "pixels", _read_only(pixels))
        if self.pitch_mm is not None:
            row, column = (float(p) for p in self.pitch_mm)
            if not (np.isfinite([row, column]).all() and row > 0 and column > 0):
                raise InvalidInputError(
                    "The pixel pitch must be two positive numbers of mm",
                    why=f"it is {self.pitch_mm}",
                )
            object.__setattr__(self, "pitch_mm", (row, column))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, cols = self.pixels.shape
        return (rows, cols)
