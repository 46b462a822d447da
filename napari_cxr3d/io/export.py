"""Writing radiographs and line integrals; `save` chooses the format by the suffix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt

from napari_cxr3d.errors import ExportError, InvalidInputError
from napari_cxr3d.imaging import Radiograph, XrayView
from napari_cxr3d.imaging.radiograph import Quantity
from napari_cxr3d.io.destination import full_suffix
from napari_cxr3d.io.dicom_export import write_dicom_secondary_capture
from napari_cxr3d.io.image_stack import as_frames, display_range
from napari_cxr3d.io.integral_export import write_integrals
from napari_cxr3d.io.movie_export import write_gif, write_mp4
from napari_cxr3d.io.png_export import write_png
from napari_cxr3d.io.volume_export import VOLUME_SUFFIXES, write_like, write_volume
from napari_cxr3d.progress import CancelToken, ProgressCallback

__all__ = [
    "SUFFIXES",
    "save",
    "save_radiograph",
    "write_dicom_secondary_capture",
    "write_gif",
    "write_integrals",
    "write_like",
    "write_mp4",
    "write_png",
    "write_volume",
]

SUFFIXES = (".npy", *VOLUME_SUFFIXES, ".png", ".dcm", ".gif", ".mp4")
"""What `save` writes; a name without a suffix is a folder of numbered PNG files."""

_FLOAT_SUFFIXES = (".npy", *VOLUME_SUFFIXES)


def save(
    images: npt.NDArray[Any],
    path: str | Path,
    *,
    views: Sequence[XrayView],
    quantity: Quantity = "display",
    provenance: Mapping[str, Any] | None = None,
    bits: Literal[8, 16] = 16,
    burn_mark: bool = True,
    frames_per_second: float = 12.0,
    overwrite: bool = False,
    sources: Sequence[Path] = (),
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> tuple[Path, ...]:
    """Write one radiograph or a sweep in the format that the path's suffix names.

    ``.npy``, ``.nii``, ``.nii.gz``, ``.nrrd``, ``.mha`` keep the values as they are
    (`write_integrals`); ``.png``, ``.dcm``, ``.gif``, ``.mp4`` and a folder are for looking
    at and say SYNTHETIC.

    Parameters
    ----------
    images : ndarray, shape (rows, cols) or (V, rows, cols)
        Pictures from 0 to 1, or line integrals.
    path : path-like
        A file with one of `SUFFIXES`, or a folder's name for numbered PNG files.
    views : sequence of XrayView
        One for each image, isocenter written out.
    quantity : {"display", "line_integral"}
        What `images` holds. Line integrals are stretched over all images where the format
        holds whole numbers.
    provenance : mapping, optional
        `Provenance.to_dict`.
    bits : {8, 16}
        Depth of PNG files.
    burn_mark : bool
        Burn SYNTHETIC into PNG and DICOM pixels; films always have it.
    frames_per_second : float
        Of a film.
    overwrite : bool
        Whether existing files may be replaced.
    sources : sequence of Path
        Files and folders that images were read from: never replaced.
    progress, cancel : optional
        Progress over the frames of a film or a folder, and its cancellation.

    Returns
    -------
    tuple of Path
        The files written, a JSON file beside float formats included.

    Raises
    ------
    ExportError
        If the suffix is unknown, or a file must not or cannot be written.
    InvalidInputError
        If images and views do not match.
    BackendUnavailableError
        If a film needs a library that is not installed.
    """
    path = Path(path).expanduser()
    frames = as_frames(images, views)
    suffix = full_suffix(path)
    if suffix in _FLOAT_SUFFIXES:
        return write_integrals(
            images,
            path,
            views=views,
            quantity=quantity,
            provenance=provenance,
            overwrite=overwrite,
            sources=sources,
        )
    if suffix == ".dcm":
        return write_dicom_secondary_capture(
            frames,
            path,
            views=views,
            quantity=quantity,
            provenance=provenance,
            burn_mark=burn_mark,
            overwrite=overwrite,
            sources=sources,
        )
    if suffix in ("", ".png"):
        return write_png(
            frames,
            path,
            views=views,
            quantity=quantity,
            provenance=provenance,
            bits=bits,
            burn_mark=burn_mark,
            overwrite=overwrite,
            sources=sources,
            progress=progress,
            cancel=cancel,
        )
    if suffix not in (".gif", ".mp4"):
        raise ExportError(
            f"Radiographs cannot be written as {suffix}",
            remedy=f"choose one of {', '.join(SUFFIXES)}, or a folder for numbered PNG files",
            path=path,
        )
    low, high = display_range(frames, quantity)
    write_film = write_gif if suffix == ".gif" else write_mp4
    film = write_film(
        (frames - low) / (high - low),
        path,
        views=views,
        frames_per_second=frames_per_second,
        overwrite=overwrite,
        sources=sources,
        progress=progress,
        cancel=cancel,
    )
    return (film,)


def save_radiograph(
    radiograph: Radiograph,
    path: str | Path,
    *,
    provenance: Mapping[str, Any] | None = None,
    bits: Literal[8, 16] = 16,
    burn_mark: bool = True,
    overwrite: bool = False,
) -> tuple[Path, ...]:
    """Write one synthetic radiograph; see `save`.

    Raises
    ------
    InvalidInputError
        If it is a measured radiograph or has no view: those are not ours to write.
    """
    if not radiograph.synthetic or radiograph.view is None:
        raise InvalidInputError(
            "Only radiographs that were projected here are written",
            why="this one was measured, or its view is unknown",
            remedy="copy its own file",
        )
    source = radiograph.source
    return save(
        radiograph.pixels,
        path,
        views=[radiograph.view],
        quantity=radiograph.quantity,
        provenance=provenance,
        bits=bits,
        burn_mark=burn_mark,
        overwrite=overwrite,
        sources=() if source is None or source.path is None else (source.path,),
    )
