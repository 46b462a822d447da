"""A stack of DICOM slices becomes a CT volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import ConsentRequiredError, GeometryError
from napari_cxr3d.imaging import SourceInfo, Volume
from napari_cxr3d.io.canonical import canonical_volume, require_aligned
from napari_cxr3d.io.dicom_frames import FrameReader
from napari_cxr3d.io.dicom_geometry import (
    SAME_POSITION_MM,
    SliceStack,
    slice_distances,
    stack_slices,
)
from napari_cxr3d.io.dicom_headers import SliceHeader, positions
from napari_cxr3d.io.dicom_series import DicomStack
from napari_cxr3d.io.guard import require_memory
from napari_cxr3d.io.hounsfield import HounsfieldArray, plausibility_notes
from napari_cxr3d.io.synthetic_mark import is_marked
from napari_cxr3d.progress import CancelToken, Progress, ProgressCallback

__all__ = ["read_dicom_stack"]


def read_dicom_stack(
    stack: DicomStack,
    path: Path,
    *,
    notes: Sequence[str] = (),
    allow_gaps: bool = False,
    allow_resampling: bool = False,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Volume:
    """A CT volume from the slices of one stack.

    Parameters
    ----------
    stack : DicomStack
        Slices of one size, orientation and pixel spacing, in any order.
    path : Path
        The file or folder that the user gave, for messages and as the volume's path.
    notes : sequence of str
        What choosing the series already had to tell.
    allow_gaps : bool
        Whether missing slices may be interpolated.
    allow_resampling : bool
        Whether uneven, oblique or tilted slices may be interpolated onto an even grid.
    progress, cancel : optional
        Progress over slices, and cancellation between them.

    Raises
    ------
    ConsentRequiredError
        If slices are missing, uneven, oblique or tilted and the consent is not given.
    GeometryError
        If the positions contradict each other.
    UnreadableFileError, OutOfMemoryError
        If a slice cannot be decoded, or the volume does not fit into memory.
    """
    try:
        places = _places(stack.slices)
        geometry = stack_slices(
            positions([place[0] for place in places]),
            places[0][0].orientation or (),
            places[0][0].spacing_mm or (),
        )
    except GeometryError as error:
        raise _with_path(error, path) from None
    require_aligned(geometry.affine_lps, path, allow_resampling=allow_resampling)
    _require_consents(geometry, path, allow_gaps, allow_resampling)
    rows, columns = places[0][0].shape
    n_bytes = 2 if not geometry.uneven else 6
    require_memory(2 * n_bytes * (geometry.n_planes + len(places)) * rows * columns, path)

    hu = HounsfieldArray((_n_stored(geometry), rows, columns))
    frames = FrameReader()
    for done, place in enumerate(places):
        if cancel is not None:
            cancel.raise_if_cancelled()
        index = done if geometry.uneven else round(float(geometry.plane[done]))
        hu.set_plane(index, *frames.hounsfield(place[0]))
        for repeat in place[1:]:
            frames.require_equal(place[0], repeat, path)
        if progress is not None:
            progress(Progress(done + 1, len(places), "reading slices"))
    values = _filled(hu.values, geometry)

    source = SourceInfo(
        kind="DICOM",
        description=stack.entry.description,
        modality=stack.entry.modality,
        series_uid_sha256=sha256(stack.entry.uid.split("#")[0].encode()).hexdigest(),
        notes=(
            *notes,
            *_stack_notes(geometry, places),
            *hu.notes(),
            *plausibility_notes(values),
        ),
        display_range=frames.display_range(),
        path=path,
    )
    volume = canonical_volume(
        values,
        geometry.affine_lps,
        source,
        path,
        allow_resampling=allow_resampling,
        progress=progress,
        cancel=cancel,
    )
    return replace(volume, synthetic=is_marked(source.description))


def _with_path(error: GeometryError, path: Path) -> GeometryError:
    return GeometryError(error.what, why=error.why, remedy=error.remedy, path=path)


def _places(slices: Sequence[SliceHeader]) -> list[list[SliceHeader]]:
    """Slices sorted along their normal; those at the same position share a place."""
    distances = slice_distances(positions(slices), slices[0].orientation or ())
    places: list[list[SliceHeader]] = []
    last = -np.inf
    for k in np.argsort(distances, kind="stable"):
        if distances[k] - last < SAME_POSITION_MM:
            places[-1].append(slices[k])
        else:
            places.append([slices[k]])
            last = distances[k]
    return places


def _require_consents(
    geometry: SliceStack, path: Path, allow_gaps: bool, allow_resampling: bool
) -> None:
    if geometry.uneven and not allow_resampling:
        steps = np.diff(geometry.plane) * geometry.spacing_mm
        raise ConsentRequiredError(
            "The slices are not evenly spaced",
            consent="allow_resampling",
            why=f"their distances run from {steps.min():.3g} to {steps.max():.3g} mm",
            remedy="allow resampling to even slices, which interpolates the voxels",
            path=path,
        )
    if geometry.has_gaps and not allow_gaps:
        missing = geometry.missing
        raise ConsentRequiredError(
            f"The series lacks {len(missing)} of {geometry.n_planes} slices",
            consent="allow_gaps",
            why=f"no slice lies at {_places_in_words(missing)}",
            remedy="export the whole series again, or allow the gaps to be interpolated",
            path=path,
        )


def _places_in_words(missing: Sequence[int]) -> str:
    """Planes as places in the stack, counted from 1, at most three of them named."""
    named = ", ".join(str(k + 1) for k in missing[:3]) + (", ..." if len(missing) > 3 else "")
    return f"place{'s' if len(missing) > 1 else ''} {named} of the stack"


def _n_stored(geometry: SliceStack) -> int:
    return len(geometry.plane) if geometry.uneven else geometry.n_planes


def _filled(values: npt.NDArray[Any], geometry: SliceStack) -> npt.NDArray[Any]:
    """The even stack: missing or uneven planes interpolated linearly from their neighbours."""
    if not geometry.uneven and not geometry.has_gaps:
        return values
    stored = np.arange(len(geometry.plane)) if geometry.uneven else np.rint(geometry.plane)
    even = (
        np.empty((geometry.n_planes, *values.shape[1:]), dtype=np.float32)
        if geometry.uneven
        else values
    )
    for k in range(geometry.n_planes):
        above = min(int(np.searchsorted(geometry.plane, k, side="right")), len(geometry.plane) - 1)
        below = above - 1
        span = geometry.plane[above] - geometry.plane[below]
        weight = float((k - geometry.plane[below]) / span)
        low, high = values[int(stored[below])], values[int(stored[above])]
        if not geometry.uneven and (weight == 0 or weight == 1):
            continue  # a measured slice already lies here
        mixed = low * np.float32(1 - weight) + high * np.float32(weight)
        even[k] = np.rint(mixed) if even.dtype.kind == "i" else mixed
    return even


def _stack_notes(geometry: SliceStack, places: Sequence[Sequence[SliceHeader]]) -> list[str]:
    notes = []
    repeats = sum(len(place) - 1 for place in places)
    if repeats:
        notes.append(f"{repeats} repeated slices with equal pixels were dropped.")
    if geometry.has_gaps:
        notes.append(
            f"{len(geometry.missing)} of {geometry.n_planes} slices are missing and were "
            "interpolated from their neighbours."
        )
    if geometry.uneven:
        notes.append(
            f"The unevenly spaced slices were interpolated to a spacing of "
            f"{geometry.spacing_mm:.4g} mm."
        )
    first = [place[0] for place in places]
    if any(s.slope is None or s.intercept is None for s in first):
        notes.append(
            "The file gives no rescale to Hounsfield units: stored values were taken as HU."
        )
    if len({(s.slope, s.intercept) for s in first}) > 1:
        notes.append("The rescale to Hounsfield units differs between slices; each had its own.")
    return notes
