"""What a volume file says before its voxels are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from napari_cxr3d.errors import UnsupportedFileError
from napari_cxr3d.imaging.frames import FloatArray

__all__ = ["VolumeHeader", "require_volume_shape"]


@dataclass(frozen=True)
class VolumeHeader:
    """The header of a NIfTI, NRRD or MetaImage file.

    Attributes
    ----------
    kind : str
        ``"NIfTI"``, ``"NRRD"`` or ``"MetaImage"``.
    shape : tuple of 3 int
        Planes, rows, columns: the slowest axis first.
    affine_lps : ndarray, shape (4, 4)
        Matrix from (plane, row, column) to LPS mm.
    bytes_per_voxel : int
        Of the stored values.
    slope, intercept : float
        From stored values to Hounsfield units.
    notes : tuple of str
        What was assumed.
    synthetic : bool
        Whether the file says that no scanner measured it.
    load : callable
        Reads the stored values, shape `shape`.
    """

    kind: str
    shape: tuple[int, int, int]
    affine_lps: FloatArray
    bytes_per_voxel: int
    slope: float
    intercept: float
    notes: tuple[str, ...]
    synthetic: bool
    load: Callable[[], npt.NDArray[Any]]


def require_volume_shape(size: tuple[int, ...], path: Path) -> None:
    """Refuse what is not one three-dimensional volume.

    Parameters
    ----------
    size : tuple of int
        Length of each axis, the fastest first, as the file gives it.

    Raises
    ------
    UnsupportedFileError
        If there are fewer than three axes, a further axis longer than one, or a single
        slice.
    """
    extent = " x ".join(map(str, size))
    if len(size) < 3 or any(n > 1 for n in size[3:]):
        raise UnsupportedFileError(
            "The file is not one CT volume",
            why=f"it holds a {len(size)}-dimensional image of {extent}",
            remedy="save one three-dimensional volume from it",
            path=path,
        )
    if min(size[:3]) < 2:
        raise UnsupportedFileError(
            "The file holds a single slice, not a volume",
            why=f"its size is {extent}",
            remedy="open the whole series",
            path=path,
        )
