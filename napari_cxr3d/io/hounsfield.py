"""Hounsfield units: clipping, padding, the smallest lossless type, and plausibility."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import UnreadableFileError
from napari_cxr3d.imaging import HU_MAX, HU_MIN

__all__ = ["HounsfieldArray", "plausibility_notes"]

_AIR_BELOW = -500  # every chest CT holds lung and air below this


@dataclass
class HounsfieldArray:
    """A volume filled plane by plane, kept as int16 for as long as that is lossless.

    Parameters
    ----------
    shape : tuple of 3 int
        Planes, rows, columns in the source's order.

    Attributes
    ----------
    values : ndarray of int16 or float32, shape `shape`
        HU clipped to [`HU_MIN`, `HU_MAX`].
    below, above, padding, not_finite : int
        How many voxels were clipped at either end, were the scanner's declared padding,
        or were not numbers.
    """

    shape: tuple[int, int, int]

    def __post_init__(self) -> None:
        self.values: npt.NDArray[Any] = np.full(self.shape, HU_MIN, dtype=np.int16)
        self.below = self.above = self.padding = self.not_finite = 0

    def set_plane(
        self,
        index: int,
        hu: npt.NDArray[Any],
        padding: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Store one plane of HU, shape (rows, columns); `padding` marks voxels outside the scan."""
        if hu.dtype.kind == "f":
            finite = np.isfinite(hu)
            if not finite.all():
                self.not_finite += int(hu.size - np.count_nonzero(finite))
                hu = np.where(finite, hu, HU_MIN)
        if padding is not None and padding.any():
            self.padding += int(np.count_nonzero(padding))
            hu = np.where(padding, hu.dtype.type(HU_MIN), hu)
        self.below += int(np.count_nonzero(hu < HU_MIN))
        self.above += int(np.count_nonzero(hu > HU_MAX))
        hu = np.clip(hu, HU_MIN, HU_MAX)
        if self.values.dtype == np.int16 and hu.dtype.kind == "f" and np.any(hu != np.rint(hu)):
            self.values = self.values.astype(np.float32)
        self.values[index] = hu

    def notes(self) -> list[str]:
        """One sentence for each kind of voxel that was changed."""
        total = self.values.size
        changed = (
            (self.padding, f"of scanner padding were set to {HU_MIN} HU"),
            (self.below, f"below {HU_MIN} HU were clipped to it (padding outside the field)"),
            (self.above, f"above {HU_MAX} HU were clipped to it"),
            (self.not_finite, f"that were not numbers were set to {HU_MIN} HU"),
        )
        return [
            f"{count} voxels ({100 * count / total:.2g}%) {what}."
            for count, what in changed
            if count
        ]

    def require_content(self, path: Path) -> None:
        """Raise `UnreadableFileError` if no voxel held a number."""
        if self.not_finite == self.values.size:
            raise UnreadableFileError(
                "The volume holds no numbers",
                why="every voxel is NaN or infinite",
                remedy="export it again",
                path=path,
            )


def plausibility_notes(hu: npt.NDArray[Any]) -> list[str]:
    """A warning where the values cannot be the Hounsfield units of a chest.

    Parameters
    ----------
    hu : ndarray
        The volume, any axes, after clipping.
    """
    low, high = float(hu.min()), float(hu.max())
    if low == high:
        return [f"Every voxel holds the same value ({low:g} HU): the volume is empty."]
    if low < _AIR_BELOW:
        return []
    found = f"The values run from {low:g} to {high:g}, without any air near -1000 HU"
    if low >= 0 and high <= 1:
        guess = "they look normalised to 0..1, not Hounsfield units"
    elif low >= 0 and high <= 255:
        guess = "they look like an 8-bit picture, not Hounsfield units"
    elif low >= 0:
        guess = "they look like raw scanner values that lack the rescale intercept of -1024"
    else:
        guess = "this is no whole chest, or the values are not Hounsfield units"
    return [f"{found}: {guess}; X-rays made from them will be wrong."]
