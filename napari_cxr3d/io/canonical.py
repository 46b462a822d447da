"""From a source's own axes to the canonical (I, P, L) volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import ConsentRequiredError, GeometryError
from napari_cxr3d.imaging import HU_MIN, CanonicalOrder, Grid, SourceInfo, Volume, canonical_order
from napari_cxr3d.imaging.frames import FloatArray
from napari_cxr3d.imaging.volume import SourceGrid
from napari_cxr3d.io.guard import require_memory
from napari_cxr3d.progress import CancelToken, Progress, ProgressCallback

__all__ = ["canonical_volume", "require_aligned", "source_axis_codes"]

_SPACING_MM = (0.01, 50.0)  # voxel spacings that a chest CT can have
_CHEST_MM = (60.0, 2500.0)  # longest side of a volume that shows a chest
_SLAB = 16  # canonical planes resampled between two looks at the cancel token


def canonical_volume(
    hu: npt.NDArray[Any],
    affine_lps: FloatArray,
    source: SourceInfo,
    path: Path,
    *,
    allow_resampling: bool = False,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Volume:
    """A volume with axes (I, P, L) from an array with any axes.

    Parameters
    ----------
    hu : ndarray of int16 or float32, shape (n0, n1, n2)
        Hounsfield units in the source's axes.
    affine_lps : ndarray, shape (4, 4)
        Matrix from array index to LPS mm.
    source : SourceInfo
        What is known of the file; grid, content hash and, where it is empty, the
        description are filled in here.
    path : Path
        The file or folder, for messages.
    allow_resampling : bool
        Whether an oblique or sheared volume may be interpolated onto canonical axes.
    progress, cancel : optional
        Progress of a resampling, and its cancellation.

    Raises
    ------
    ConsentRequiredError
        If the axes are oblique or sheared and `allow_resampling` is False.
    GeometryError
        If the axes do not span space or the spacing cannot be right.
    """
    shape = (hu.shape[0], hu.shape[1], hu.shape[2])
    order = require_aligned(affine_lps, path, allow_resampling=allow_resampling)
    notes = list(source.notes)
    if order is None:
        hu, grid = _resampled(hu, affine_lps, path, progress, cancel)
        notes.append(
            "Resampled onto the patient's axes by linear interpolation: "
            f"{_describe_tilt(affine_lps)}."
        )
    else:
        first = tuple(
            shape[axis] - 1 if flip else 0
            for axis, flip in sorted(zip(order.axes, order.flips, strict=True))
        )
        origin = affine_lps[:3, :3] @ np.array(first, dtype=np.float64) + affine_lps[:3, 3]
        hu = np.ascontiguousarray(order.apply(hu))
        spacing = np.linalg.norm(affine_lps[:3, :3], axis=0)
        i, p, ell = (float(spacing[axis]) for axis in order.axes)
        x, y, z = (float(v) for v in origin)
        grid = Grid((hu.shape[0], hu.shape[1], hu.shape[2]), (i, p, ell), (x, y, z))

    volume = Volume(hu, grid.spacing_mm, grid.origin_lps)
    if not _CHEST_MM[0] <= max(volume.size_mm) <= _CHEST_MM[1]:
        notes.append(
            f"The volume's longest side measures {max(volume.size_mm):.0f} mm, which is no chest: "
            "check the unit of the file's spacing."
        )
    digest = volume.content_sha256()
    return replace(
        volume,
        source=replace(
            source,
            content_sha256=digest,
            description=source.description or f"{source.kind} {digest[:6]}",
            grid=SourceGrid(shape, affine_lps, order),
            notes=tuple(notes),
        ),
    )


def require_aligned(
    affine_lps: FloatArray, path: Path, *, allow_resampling: bool
) -> CanonicalOrder | None:
    """The lossless way to canonical axes; None for axes that the user lets be resampled.

    Raises
    ------
    ConsentRequiredError
        If the axes are oblique or sheared and `allow_resampling` is False.
    GeometryError
        If the axes do not span space or the spacing cannot be right.
    """
    if not np.isfinite(affine_lps).all():
        raise GeometryError(
            "The volume's position is not a number", remedy="export it again", path=path
        )
    spacing = np.linalg.norm(affine_lps[:3, :3], axis=0)
    if np.any(spacing < _SPACING_MM[0]) or np.any(spacing > _SPACING_MM[1]):
        raise GeometryError(
            "The voxel spacing cannot be right",
            why=f"it is {', '.join(f'{s:.4g}' for s in spacing)} mm",
            remedy="check the file's spacing and units",
            path=path,
        )
    order = canonical_order(affine_lps)
    if order is None and not allow_resampling:
        raise ConsentRequiredError(
            "The volume's axes are oblique to the patient or sheared by gantry tilt",
            consent="allow_resampling",
            why=_describe_tilt(affine_lps),
            remedy="allow resampling onto the patient's axes, which interpolates the voxels",
            path=path,
        )
    return order


def source_axis_codes(affine_lps: FloatArray) -> str:
    """Patient letters of a source array's axes, fastest axis first, as in ``"LPS"``.

    An axis is named by the patient direction nearest to it.
    """
    letters = ("RL", "AP", "IS")
    codes = []
    for axis in (2, 1, 0):
        direction = affine_lps[:3, axis]
        k = int(np.argmax(np.abs(direction)))
        codes.append(letters[k][int(direction[k] > 0)])
    return "".join(codes)


def _describe_tilt(affine_lps: FloatArray) -> str:
    """How far the source's axes are from the patient's, in degrees, as a clause."""
    directions = affine_lps[:3, :3] / np.linalg.norm(affine_lps[:3, :3], axis=0)
    largest = np.degrees(np.arccos(np.clip(np.abs(directions).max(axis=0), 0, 1))).max()
    gram = directions.T @ directions
    shear = np.degrees(np.arcsin(np.clip(np.abs(gram - np.diag(np.diag(gram))).max(), 0, 1)))
    sheared = f", sheared by {shear:.1f} degrees" if shear > 0.1 else ""
    return f"an axis lies {largest:.1f} degrees off the patient's{sheared}"


def _canonical_spacing(affine_lps: FloatArray) -> tuple[float, float, float]:
    """Spacing of the source axis nearest to each of I, P and L, each axis used once."""
    matrix = np.abs(affine_lps[:3, :3])
    spacing = np.linalg.norm(affine_lps[:3, :3], axis=0)
    cosines = matrix / spacing
    permutations = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
    best = max(permutations, key=lambda axes: sum(cosines[k, axes[k]] for k in range(3)))
    x, y, z = (float(spacing[axis]) for axis in best)
    return (z, y, x)


def _bounding_grid(shape: Sequence[int], affine_lps: FloatArray) -> Grid:
    """The canonical grid, at the source's spacing, that just covers a source array."""
    corners = np.array(list(product(*((0, n - 1) for n in shape))), dtype=np.float64)
    points = corners @ affine_lps[:3, :3].T + affine_lps[:3, 3]
    low, high = points.min(axis=0), points.max(axis=0)
    si, sp, sl = _canonical_spacing(affine_lps)
    extent = high - low
    count = [
        int(np.ceil(e / s - 1e-6)) + 1 for e, s in zip(extent[::-1], (si, sp, sl), strict=True)
    ]
    return Grid(
        (count[0], count[1], count[2]),
        (si, sp, sl),
        (float(low[0]), float(low[1]), float(high[2])),
    )


def _resampled(
    hu: npt.NDArray[Any],
    affine_lps: FloatArray,
    path: Path,
    progress: ProgressCallback | None,
    cancel: CancelToken | None,
) -> tuple[npt.NDArray[np.float32], Grid]:
    """The array interpolated onto the canonical grid around it; air outside."""
    from scipy.ndimage import affine_transform

    grid = _bounding_grid(hu.shape, affine_lps)
    require_memory(6 * int(np.prod(grid.shape)), path)
    to_source = np.linalg.inv(affine_lps) @ grid.affine_lps
    out = np.empty(grid.shape, dtype=np.float32)
    for start in range(0, grid.shape[0], _SLAB):
        if cancel is not None:
            cancel.raise_if_cancelled()
        slab = out[start : start + _SLAB]
        affine_transform(
            hu,
            to_source[:3, :3],
            offset=to_source[:3, :3] @ np.array([start, 0, 0]) + to_source[:3, 3],
            output_shape=slab.shape,
            output=slab,
            order=1,
            mode="constant",
            cval=HU_MIN,
        )
        if progress is not None:
            done = min(start + _SLAB, grid.shape[0])
            progress(Progress(done, grid.shape[0], "resampling onto the patient's axes"))
    return out, grid
