"""What a file holds, in a few facts: for ``cxr3d info`` and the study panel."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from napari_cxr3d.errors import UnsupportedFileError
from napari_cxr3d.imaging import Radiograph, Volume
from napari_cxr3d.io.canonical import source_axis_codes
from napari_cxr3d.io.catalogue import catalogue
from napari_cxr3d.io.ct import read_ct
from napari_cxr3d.io.cxr import read_cxr
from napari_cxr3d.io.guard import existing_path
from napari_cxr3d.io.sniff import sniff
from napari_cxr3d.progress import CancelToken, ProgressCallback

__all__ = ["Inspection", "inspect_path"]


@dataclass(frozen=True)
class Inspection:
    """What `inspect_path` found; free of patient identity.

    Attributes
    ----------
    kind : {"ct", "cxr"}
        What it was read as.
    file_kind : str
        ``"DICOM"``, ``"NIfTI"``, ``"PNG"``...
    description : str
        Series description, or file kind and content hash.
    shape : tuple of int
        (I, P, L) voxels, or rows and columns.
    spacing_mm : tuple of float or None
        Along the same axes; None for a radiograph of unknown pitch.
    axes : str
        ``"IPL"`` for a CT, ``"YX"`` for a radiograph.
    value_range : tuple of 2 float
        Smallest and largest value: HU for a CT.
    orientation : str
        How the source's axes were brought to the canonical ones, as in ``"LPS→IPL"``: the
        source's fastest axis first, array axes behind the arrow; the view position of a
        radiograph.
    flipped : str
        Canonical axes that run against the source's, for example ``"I"``.
    resampled : bool
        Whether oblique or tilted axes needed interpolation.
    n_series : int
        CT series at the path; 1 for a radiograph.
    size_mm : tuple of float or None
        Outer extent along the axes.
    content_sha256 : str
        Identity of the decoded content.
    warnings : tuple of str
        What was mended, assumed or looks wrong.
    """

    kind: Literal["ct", "cxr"]
    file_kind: str
    description: str
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...] | None
    axes: str
    value_range: tuple[float, float]
    orientation: str
    flipped: str
    resampled: bool
    n_series: int
    size_mm: tuple[float, ...] | None
    content_sha256: str
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable form; for a CT the value range is also called ``hu_range``."""
        record = asdict(self)
        for name in ("shape", "spacing_mm", "value_range", "size_mm", "warnings"):
            if record[name] is not None:
                record[name] = list(record[name])
        if self.kind == "ct":
            record["hu_range"] = record["value_range"]
        return record


def inspect_path(
    path: str | Path,
    *,
    series: str | None = None,
    allow_gaps: bool = True,
    allow_resampling: bool = True,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Inspection:
    """Read a CT or a radiograph and sum it up.

    A CT that needs consent to be read (gaps, tilt) is read with it unless told otherwise,
    and the warnings say so: looking changes nothing.

    Raises
    ------
    Cxr3dError
        As `read_ct` and `read_cxr`.
    """
    path = existing_path(path)
    kind = sniff(path)
    if kind == "cxr":
        return _of_radiograph(read_cxr(path))
    if kind == "unknown" and path.is_file():
        raise UnsupportedFileError(
            "The file is neither a CT nor a chest X-ray that this program reads",
            remedy="give a DICOM, NIfTI, NRRD, MetaImage, PNG, JPEG or TIFF file, or a folder",
            path=path,
        )
    volume = read_ct(
        path,
        series=series,
        allow_gaps=allow_gaps,
        allow_resampling=allow_resampling,
        progress=progress,
        cancel=cancel,
    )
    n_series = len(catalogue(path, cancel=cancel).candidates) if path.is_dir() else 1
    return _of_volume(volume, n_series)


def _of_volume(volume: Volume, n_series: int) -> Inspection:
    source = volume.source
    assert source is not None and source.grid is not None  # the readers fill both
    order = source.grid.order
    flipped = (
        "" if order is None else "".join(a for a, f in zip("IPL", order.flips, strict=True) if f)
    )
    return Inspection(
        kind="ct",
        file_kind=source.kind,
        description=source.description,
        shape=volume.shape,
        spacing_mm=volume.spacing_mm,
        axes="IPL",
        value_range=(float(volume.hu.min()), float(volume.hu.max())),
        orientation=f"{source_axis_codes(source.grid.affine_lps)}→IPL",
        flipped=flipped,
        resampled=order is None,
        n_series=n_series,
        size_mm=volume.size_mm,
        content_sha256=source.content_sha256,
        warnings=source.notes,
    )


def _of_radiograph(radiograph: Radiograph) -> Inspection:
    source = radiograph.source
    assert source is not None  # the readers fill it
    pitch = radiograph.pitch_mm
    size = (
        None
        if pitch is None
        else (
            radiograph.shape[0] * pitch[0],
            radiograph.shape[1] * pitch[1],
        )
    )
    return Inspection(
        kind="cxr",
        file_kind=source.kind,
        description=source.description,
        shape=radiograph.shape,
        spacing_mm=pitch,
        axes="YX",
        value_range=(float(radiograph.pixels.min()), float(radiograph.pixels.max())),
        orientation=radiograph.view_position or "unknown view",
        flipped="",
        resampled=False,
        n_series=1,
        size_mm=size,
        content_sha256=source.content_sha256,
        warnings=source.notes,
    )
