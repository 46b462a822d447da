"""Reading a CT, whatever it lies in: the one door for panel, drag and drop and command line."""

from __future__ import annotations

from pathlib import Path

from napari_cxr3d.imaging import Volume
from napari_cxr3d.io.catalogue import catalogue
from napari_cxr3d.io.dicom_ct import read_dicom_stack
from napari_cxr3d.io.guard import existing_path
from napari_cxr3d.io.series_entry import SeriesEntry
from napari_cxr3d.io.sniff import is_volume_file
from napari_cxr3d.io.volume_files import read_volume_file
from napari_cxr3d.progress import CancelToken, ProgressCallback

__all__ = ["list_series", "read_ct"]


def list_series(
    path: str | Path,
    *,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> tuple[SeriesEntry, ...]:
    """What a path offers to read, from headers alone.

    Parameters
    ----------
    path : str or Path
        A folder (searched with its subfolders), a DICOMDIR (its folder is searched), a
        DICOM file (the series of its folder), or a volume file.
    progress, cancel : optional
        Progress over files, and cancellation between them.

    Returns
    -------
    tuple of SeriesEntry
        Candidates for `read_ct` first, the largest first; then everything else, each
        with the reason why it is no CT.

    Raises
    ------
    UnreadableFileError
        If nothing is there.
    """
    return catalogue(path, progress=progress, cancel=cancel).entries


def read_ct(
    path: str | Path,
    *,
    series: str | None = None,
    allow_gaps: bool = False,
    allow_resampling: bool = False,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Volume:
    """A CT as a volume with axes (I, P, L) in true Hounsfield units.

    Parameters
    ----------
    path : str or Path
        A DICOM folder, a DICOMDIR, one DICOM file of a series (the whole series is read),
        or a NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr) or MetaImage (.mha, .mhd) file.
    series : str, optional
        Which series of a folder: its `SeriesEntry.uid`, or its index (from 0) in
        `list_series`. The largest CT when None; `Volume.source.notes` says so.
    allow_gaps : bool
        Interpolate missing slices instead of refusing.
    allow_resampling : bool
        Interpolate oblique, gantry-tilted or unevenly spaced slices onto an even grid
        along the patient's axes instead of refusing.
    progress, cancel : optional
        Progress over files, and cancellation between them.

    Returns
    -------
    Volume
        int16 where that is lossless, else float32; clipped to [-1024, 3071] HU.
        ``source.notes`` tells everything that was mended or assumed.

    Raises
    ------
    UnreadableFileError
        If nothing is there, or a file is damaged.
    UnsupportedFileError
        If there is no CT; the message names what is there instead.
    ConsentRequiredError
        If reading needs `allow_gaps` or `allow_resampling`.
    GeometryError
        If the geometry cannot be trusted.
    InvalidInputError
        If `series` names none.
    OutOfMemoryError
        If the volume does not fit into memory.
    """
    path = existing_path(path)
    if path.is_file() and is_volume_file(path):
        return read_volume_file(
            path, allow_resampling=allow_resampling, progress=progress, cancel=cancel
        )
    found = catalogue(path, progress=progress, cancel=cancel)
    entry, notes = found.choose(series)
    stack = found.stacks.get(entry.uid)
    if stack is None:
        return read_volume_file(
            entry.files[0],
            notes=notes,
            allow_resampling=allow_resampling,
            progress=progress,
            cancel=cancel,
        )
    return read_dicom_stack(
        stack,
        path,
        notes=notes,
        allow_gaps=allow_gaps,
        allow_resampling=allow_resampling,
        progress=progress,
        cancel=cancel,
    )
