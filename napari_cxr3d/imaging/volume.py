"""A CT volume in canonical axes, and what is known of the file it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging.frames import CanonicalOrder, FloatArray, Grid

__all__ = ["HU_MAX", "HU_MIN", "SourceGrid", "SourceInfo", "Volume"]

HU_MIN = -1024  # air and scanner padding
HU_MAX = 3071  # the upper end of the 12-bit CT scale


@dataclass(frozen=True)
class SourceGrid:
    """The geometry of a file as it lies on disk, so that results can go back into it.

    Attributes
    ----------
    shape : tuple of 3 int
        Shape of the source array, in the source's axis order.
    affine_lps : ndarray, shape (4, 4)
        Matrix from source array index to LPS mm.
    order : CanonicalOrder or None
        The lossless way to canonical axes; None if the volume had to be resampled.
    """

    shape: tuple[int, int, int]
    affine_lps: FloatArray
    order: CanonicalOrder | None


@dataclass(frozen=True)
class SourceInfo:
    """What is known of an image's file; free of patient identity but for `path`.

    Attributes
    ----------
    kind : str
        File kind for people: ``"DICOM"``, ``"NIfTI"``, ``"NRRD"``, ``"PNG"``...
    description : str
        A short name for layers: the series description, or the kind and a hash.
    content_sha256 : str
        sha256 of the decoded pixels and their geometry.
    modality : str
        DICOM modality, ``"CT"`` when the file does not say.
    series_uid_sha256 : str or None
        sha256 of the DICOM series instance UID.
    grid : SourceGrid or None
        The geometry on disk.
    notes : tuple of str
        What was mended or assumed while reading, one sentence each.
    display_range : tuple of 2 float or None
        The window that a CT's file asks for, as (low, high) in HU.
    path : Path or None
        Where the file lies: to guard it against being overwritten. It may hold a
        patient's name, so it never leaves the session (`to_metadata` omits it).
    """

    kind: str
    description: str
    content_sha256: str = ""
    modality: str = "CT"
    series_uid_sha256: str | None = None
    grid: SourceGrid | None = None
    notes: tuple[str, ...] = ()
    display_range: tuple[float, float] | None = None
    path: Path | None = field(default=None, repr=False)

    def to_metadata(self) -> dict[str, Any]:
        """JSON-serialisable form without path or identity."""
        return {
            "kind": self.kind,
            "description": self.description,
            "content_sha256": self.content_sha256,
            "modality": self.modality,
            "series_uid_sha256": self.series_uid_sha256,
            "notes": list(self.notes),
        }


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view


@dataclass(frozen=True, eq=False)
class Volume:
    """A CT volume with array axes (I, P, L) in Hounsfield units.

    Parameters
    ----------
    hu : ndarray of float32 or int16, shape (I, P, L)
        Hounsfield units; the index grows toward inferior, posterior, left.
        Other real dtypes are converted to float32. Seen read-only from here on.
    spacing_mm : tuple of 3 float
        Positive distance of voxel centres along (I, P, L) in mm.
    origin_lps : tuple of 3 float
        LPS position (x, y, z) of the centre of voxel [0, 0, 0] in mm: the most
        superior, anterior and right voxel.
    source : SourceInfo, optional
        The file it came from.
    synthetic : bool
        True for a volume that no scanner measured.

    Raises
    ------
    InvalidInputError
        If `hu` is not a finite real array with three axes.
    GeometryError
        If the spacing or the origin cannot be used.
    """

    hu: npt.NDArray[Any]
    spacing_mm: tuple[float, float, float]
    origin_lps: tuple[float, float, float] = (0.0, 0.0, 0.0)
    source: SourceInfo | None = None
    synthetic: bool = False

    def __post_init__(self) -> None:
        hu = np.asarray(self.hu)
        if hu.ndim != 3 or hu.dtype.kind not in "iuf":
            raise InvalidInputError(
                "A volume needs a real array with the three axes (I, P, L)",
                why=f"it got {hu.dtype} with shape {hu.shape}",
            )
        if hu.dtype not in (np.dtype(np.int16), np.dtype(np.float32)):
            hu = hu.astype(np.float32)
        if hu.dtype == np.float32 and not np.isfinite(hu).all():
            raise InvalidInputError(
                "The volume holds values that are not numbers",
                remedy="replace NaN and infinite voxels with -1024 HU (air)",
            )
        grid = Grid(hu.shape, tuple(self.spacing_mm), tuple(self.origin_lps))  # type: ignore[arg-type]
        object.__setattr__(self, "hu", _read_only(hu))
        object.__setattr__(self, "spacing_mm", grid.spacing_mm)
        object.__setattr__(self, "origin_lps", grid.origin_lps)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along (I, P, L)."""
        i, p, ell = self.hu.shape
        return (i, p, ell)

    @property
    def grid(self) -> Grid:
        """Where the voxels lie."""
        return Grid(self.shape, self.spacing_mm, self.origin_lps)

    @property
    def size_mm(self) -> tuple[float, float, float]:
        """Extent along (I, P, L) in mm."""
        return self.grid.size_mm

    @property
    def center_lps(self) -> tuple[float, float, float]:
        """LPS position (x, y, z) of the centre of the volume in mm."""
        return self.grid.center_lps

    def content_sha256(self) -> str:
        """sha256 of voxels and geometry: the volume's identity in provenance."""
        if self.source is not None and self.source.content_sha256:
            return self.source.content_sha256
        digest = sha256(np.ascontiguousarray(self.hu).data)
        digest.update(np.array([*self.spacing_mm, *self.origin_lps]).tobytes())
        return digest.hexdigest()

    def with_hu(self, hu: npt.NDArray[Any], **changes: Any) -> Volume:
        """The same grid with other voxels; the source's content hash is dropped."""
        source = self.source and replace(self.source, content_sha256="")
        settings: Mapping[str, Any] = {"hu": hu, "source": source, **changes}
        return replace(self, **settings)
