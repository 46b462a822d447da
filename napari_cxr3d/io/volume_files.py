"""CT volumes in single files: NIfTI, NRRD, MetaImage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_cxr3d.imaging import SourceInfo, Volume
from napari_cxr3d.io.canonical import canonical_volume, require_aligned
from napari_cxr3d.io.guard import require_memory
from napari_cxr3d.io.hounsfield import HounsfieldArray, plausibility_notes
from napari_cxr3d.io.nifti import nifti_header
from napari_cxr3d.io.nrrd_metaimage import metaimage_header, nrrd_header
from napari_cxr3d.io.sniff import volume_kind
from napari_cxr3d.io.volume_header import VolumeHeader
from napari_cxr3d.progress import CancelToken, Progress, ProgressCallback

__all__ = ["read_volume_file", "volume_header"]

_HEADER_READERS = {"NIfTI": nifti_header, "NRRD": nrrd_header, "MetaImage": metaimage_header}


def volume_header(path: Path) -> VolumeHeader:
    """The header of a NIfTI, NRRD or MetaImage file, told apart by its name.

    Raises
    ------
    UnreadableFileError, UnsupportedFileError, GeometryError
        If the file is damaged, holds no single scalar volume, or has no known orientation.
    """
    return _HEADER_READERS[volume_kind(path)](path)


def read_volume_file(
    path: Path,
    *,
    notes: Sequence[str] = (),
    allow_resampling: bool = False,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Volume:
    """A CT volume from a NIfTI, NRRD or MetaImage file; see `read_ct`.

    Raises
    ------
    UnreadableFileError, UnsupportedFileError, GeometryError
        As `volume_header`, or if the voxels are damaged.
    ConsentRequiredError
        If its axes are oblique and `allow_resampling` is False.
    OutOfMemoryError
        If the volume does not fit into memory.
    """
    header = volume_header(path)
    require_aligned(header.affine_lps, path, allow_resampling=allow_resampling)
    n_voxels = header.shape[0] * header.shape[1] * header.shape[2]
    require_memory(n_voxels * (header.bytes_per_voxel + 6), path)
    if progress is not None:
        progress(Progress(0, header.shape[0], f"reading {header.kind} file"))
    stored = header.load()
    hu = HounsfieldArray(header.shape)
    for k, plane in enumerate(stored):
        if cancel is not None:
            cancel.raise_if_cancelled()
        if (header.slope, header.intercept) != (1.0, 0.0):
            plane = plane.astype(np.float64) * header.slope + header.intercept
        hu.set_plane(k, plane)
        if progress is not None:
            progress(Progress(k + 1, header.shape[0], f"reading {header.kind} file"))
    hu.require_content(path)
    source = SourceInfo(
        kind=header.kind,
        description="",
        notes=(*notes, *header.notes, *hu.notes(), *plausibility_notes(hu.values)),
        path=path,
    )
    volume = canonical_volume(
        hu.values,
        header.affine_lps,
        source,
        path,
        allow_resampling=allow_resampling,
        progress=progress,
        cancel=cancel,
    )
    return replace(volume, synthetic=header.synthetic)
