"""Single slices in Hounsfield units out of DICOM files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import GeometryError, UnreadableFileError, UnsupportedFileError
from napari_cxr3d.io.dicom_headers import SliceHeader, number
from napari_cxr3d.io.dicom_pixels import decoded_frames, padding_mask, read_dataset

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["FrameReader"]

_LARGEST_RESCALE = 1e6  # of slope and intercept; more overflows and means nothing


class FrameReader:
    """Decodes slices; keeps the last file, since an enhanced file holds many of them."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._dataset: Dataset | None = None
        self._frames: npt.NDArray[Any] | None = None

    def _stored(self, header: SliceHeader) -> tuple[Dataset, npt.NDArray[Any]]:
        if self._path != header.path or self._dataset is None or self._frames is None:
            self._dataset = read_dataset(header.path)
            self._frames = decoded_frames(self._dataset, header.path)
            self._path = header.path
        if header.frame >= len(self._frames):
            raise UnreadableFileError(
                "The file holds fewer frames than its header says",
                remedy="export it again",
                path=header.path,
            )
        stored = self._frames[header.frame]
        if stored.shape != header.shape:
            raise UnreadableFileError(
                "The decoded slice has another size than its header says",
                why=f"{stored.shape} instead of {header.shape}",
                remedy="export it again",
                path=header.path,
            )
        return self._dataset, stored

    def hounsfield(
        self, header: SliceHeader
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
        """A slice in HU, and which of its voxels are declared padding."""
        dataset, stored = self._stored(header)
        slope = 1.0 if header.slope is None else header.slope
        intercept = 0.0 if header.intercept is None else header.intercept
        if not (0 < abs(slope) <= _LARGEST_RESCALE and abs(intercept) <= _LARGEST_RESCALE):
            raise UnsupportedFileError(
                "The slice's rescale cannot lead to Hounsfield units",
                why=f"its slope is {slope:g} and its intercept {intercept:g}",
                remedy="export the series again",
                path=header.path,
            )
        padding = padding_mask(dataset, stored)
        if stored.dtype.kind in "iu" and slope == 1 and intercept == round(intercept):
            return stored.astype(np.int32) + round(intercept), padding
        return stored.astype(np.float32) * np.float32(slope) + np.float32(intercept), padding

    def display_range(self) -> tuple[float, float] | None:
        """The window that the slice read last asks for, as (low, high) in HU."""
        if self._dataset is None:
            return None
        try:
            center = number(self._dataset, "WindowCenter")
            width = number(self._dataset, "WindowWidth")
        except (ValueError, TypeError, OverflowError):
            return None  # a damaged window is no reason to refuse a sound slice
        if center is None or width is None or width < 1:
            return None
        return (center - width / 2, center + width / 2)

    def require_equal(self, kept: SliceHeader, repeat: SliceHeader, path: Path) -> None:
        """Raise `GeometryError` unless two slices at one position hold the same pixels."""
        if not np.array_equal(self.hounsfield(kept)[0], self.hounsfield(repeat)[0]):
            raise GeometryError(
                "Two slices lie at the same position but differ",
                why="the series holds several phases or reconstructions that nothing tells apart",
                remedy="export each phase as a series of its own",
                path=path,
            )
