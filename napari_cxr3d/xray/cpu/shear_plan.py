"""Tables for the shear-warp kernels, and when the method may be used."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.xray.cpu.shear_kernels import BAND_TILE, SHEAR_TILE, SLICE_BATCH

__all__ = ["FEWEST_VOXELS", "ShearPlan", "plan_shear", "shear_axes"]

FloatArray = npt.NDArray[np.float64]
Axes = tuple[int, int, int]

FEWEST_VOXELS = 8
"""Along an axis; below, interpolation past the faces is most of the error."""

_LAYOUTS: tuple[Axes, ...] = ((0, 1, 2), (1, 0, 2), (2, 0, 1))
"""(slices, rows, columns) for each main axis. Columns are contiguous in an array with
axes (I, P, L) for the first two and (I, L, P) for the third."""

_MAX_SLOPE = 2.0  # voxels sideways per slice
_NEAREST = 0.3  # distance from the source of the nearest slice over that of the farthest
_GROUP = 32  # slices
_SHEAR_ERROR = 0.15  # voxels: largest error of a shift that a tile's columns share
_PAD = 4  # base-plane pixels of zeros about the volume's shadow, for the cubic warp


@dataclass(frozen=True)
class ShearPlan:
    """Everything that the kernels need to know of one view; see `shear_kernels`.

    Attributes
    ----------
    axes : ndarray of int64, shape (3,)
        The array axes that are slices, rows and columns.
    layout : ndarray of int64, shape (5,)
        Number of slices, rows, columns; strides of slices and rows.
    plane : ndarray of float64, shape (5,)
        Slice coordinate of the base plane, first row and step, first column and step.
    base_shape : tuple of 2 int
        Rows and columns of the base plane.
    """

    axes: npt.NDArray[np.int64]
    layout: npt.NDArray[np.int64]
    plane: FloatArray
    base_shape: tuple[int, int]
    source_row: float
    base_rows: FloatArray
    depth_ratio: FloatArray
    groups: npt.NDArray[np.int64]
    shift_start: npt.NDArray[np.int64]
    shift_part: npt.NDArray[np.float32]
    band_start: npt.NDArray[np.int64]
    band: npt.NDArray[np.float32]
    line_length: int
    margin: int
    cut: FloatArray

    @property
    def tables(self) -> tuple[Any, ...]:
        """The arguments of the shear kernels between the volume and the base plane."""
        return (
            self.layout,
            self.source_row,
            self.base_rows,
            self.depth_ratio,
            self.groups,
            self.shift_start,
            self.shift_part,
            self.band_start,
            self.band,
            self.line_length,
            self.margin,
            self.cut,
        )

    @property
    def swapped(self) -> bool:
        """Whether the kernels read an array with axes (I, L, P)."""
        return int(self.axes[0]) == 2


def shear_axes(
    geometry: FloatArray, shape: tuple[int, int, int], detector_shape: tuple[int, int]
) -> Axes | None:
    """The axes that are slices, rows and columns for a view; None if the method will not do.

    It will not do for a source in or near the volume's slices, where their magnification
    differs without limit, for rays that run along the slices, and for volumes of a few
    slices.
    """
    if min(shape) < FEWEST_VOXELS:
        return None
    source = geometry[0]
    center = np.array(shape) / 2 - source
    corners = np.array(list(np.ndindex(2, 2, 2))) * np.array(shape) - source
    rows, columns = detector_shape
    pixels = np.array(
        [
            geometry[1] + i * geometry[2] + j * geometry[3]
            for i in (0, rows - 1)
            for j in (0, columns - 1)
        ]
    )
    for main in np.argsort(-np.abs(center)):
        depths = corners[:, main] * np.sign(center[main])
        steps = (pixels - source)[:, main] * np.sign(center[main])
        if depths.min() < _NEAREST * depths.max() or steps.min() <= 0:
            continue
        others = np.delete(corners, main, axis=1)
        if np.all(np.abs(others) <= _MAX_SLOPE * depths[:, None]):
            return _LAYOUTS[main]
    return None


def plan_shear(
    geometry: FloatArray,
    shape: tuple[int, int, int],
    detector_shape: tuple[int, int],
    axes: Axes,
) -> ShearPlan:
    """The tables for one view.

    Parameters
    ----------
    geometry : ndarray of float64, shape (4, 3)
        Source, centre of pixel (0, 0), row step and column step in voxels (I, P, L), with
        voxel n covering [n, n + 1).
    shape : tuple of 3 int
        Voxels along (I, P, L).
    detector_shape : tuple of 2 int
        Detector rows and columns.
    axes : tuple of 3 int
        From `shear_axes`.
    """
    w, r, c = axes
    source = geometry[0]
    slices, rows, columns = shape[w], shape[r], shape[c]
    centers = np.arange(slices) + 0.5
    plane_w = slices / 2
    depth_ratio = (centers - source[w]) / (plane_w - source[w])
    first_row, base_rows = _base_extent(
        geometry, axes, r, rows, depth_ratio, plane_w, detector_shape
    )
    first_column, base_columns = _base_extent(
        geometry, axes, c, columns, depth_ratio, plane_w, detector_shape
    )
    base_columns = -(-base_columns // BAND_TILE) * BAND_TILE

    groups = _groups(centers - source[w])
    middles = np.array([centers[a:b].mean() for a, b in pairwise(groups)])
    shift_start, shift_part, first_voxel, tiles = _shifts(
        groups, middles, source[w], source[c], columns
    )
    positions = first_column + np.arange(base_columns)
    ratios = (middles - source[w]) / (plane_w - source[w])
    seen = source[c] + (positions - source[c]) * ratios[:, None] - 0.5 - first_voxel
    band_start, band, zeros = _band(seen, tiles * SHEAR_TILE)
    line_length = tiles * SHEAR_TILE + 2 * zeros
    low = int(shift_start.min())
    margin = max(-low, int(shift_start.max()) + SHEAR_TILE + 1 - line_length, 0)
    if w == 2:
        strides = (shape[1], shape[1] * shape[2])
    elif w == 1:
        strides = (shape[2], shape[1] * shape[2])
    else:
        strides = (shape[1] * shape[2], shape[2])
    return ShearPlan(
        axes=np.array(axes, dtype=np.int64),
        layout=np.array([slices, rows, columns, *strides], dtype=np.int64),
        plane=np.array([plane_w, first_row, 1.0, first_column, 1.0]),
        base_shape=(base_rows, base_columns),
        source_row=float(source[r]),
        base_rows=first_row + np.arange(base_rows, dtype=np.float64),
        depth_ratio=depth_ratio,
        groups=groups,
        shift_start=shift_start + margin,
        shift_part=shift_part,
        band_start=band_start,
        band=band,
        line_length=line_length,
        margin=margin,
        cut=_cut(geometry, shape, axes),
    )


def _base_extent(
    geometry: FloatArray,
    axes: Axes,
    axis: int,
    count: int,
    depth_ratio: FloatArray,
    plane_w: float,
    detector_shape: tuple[int, int],
) -> tuple[float, int]:
    """First coordinate and number of base-plane samples along an axis, one voxel apart.

    They cover what both the volume's shadow and the detector's footprint reach.
    """
    source, w = geometry[0], axes[0]
    faces = np.array([-0.5, count + 0.5])[:, None]  # interpolation reaches half a voxel out
    shadow = source[axis] + (faces - source[axis]) / depth_ratio[[0, -1]]
    rows, columns = detector_shape
    corners = np.array(
        [
            geometry[1] + i * geometry[2] + j * geometry[3]
            for i in (0, rows - 1)
            for j in (0, columns - 1)
        ]
    )
    t = (plane_w - source[w]) / (corners[:, w] - source[w])
    footprint = source[axis] + t * (corners[:, axis] - source[axis])
    low = max(shadow.min(), footprint.min())
    high = min(shadow.max(), footprint.max())
    high = max(low, high)  # no ray meets the volume: a base plane of zeros will do
    return math.floor(low) - _PAD, math.ceil(high) - math.floor(low) + 2 * _PAD + 1


def _groups(depths: FloatArray) -> npt.NDArray[np.int64]:
    """Where groups of slices start: as large as the shared shifts allow."""
    allowed = 4 * _SHEAR_ERROR * float(np.abs(depths).min()) / SHEAR_TILE
    size = SLICE_BATCH * int(np.clip(allowed // SLICE_BATCH, 1, _GROUP // SLICE_BATCH))
    count = -(-len(depths) // size)
    padded = -(-len(depths) // SLICE_BATCH) * SLICE_BATCH
    return np.minimum(np.arange(count + 1) * size, padded).astype(np.int64)


def _shifts(
    groups: npt.NDArray[np.int64],
    middles: FloatArray,
    source_slice: float,
    source_column: float,
    columns: int,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], int, int]:
    """Shift of every slice onto its group's middle slice, for each tile of columns.

    Parameters
    ----------
    groups, middles : ndarray, shape (groups + 1,) and (groups,)
        Where the groups start, and the slice coordinates of their middles in voxels.
    source_slice, source_column : float
        The source's coordinates along slices and columns in voxels.
    columns : int
        Columns of a slice.

    Returns
    -------
    start, part : ndarray of int64 and float32, shape (slices, tiles)
        Column of the slice that belongs to the tile's first, and the fraction beyond.
    first_voxel, tiles : int
        Column (negative) of the line's first sample, and number of tiles.
    """
    depths = middles - source_slice
    size = int(groups[1] - groups[0])
    slope = np.abs(np.array([0.0, columns]) - source_column).max() / np.abs(depths).min()
    reach = math.ceil(slope * size / 2) + 2
    tiles = -(-(columns + 2 * reach) // SHEAR_TILE)
    tile_start = np.arange(tiles) * SHEAR_TILE - reach
    slices = np.arange(groups[-1])
    group = np.searchsorted(groups, slices, side="right") - 1
    offset = (slices + 0.5 - middles[group]) / depths[group]
    shift = (tile_start + SHEAR_TILE / 2 - source_column) * offset[:, None]
    whole = np.floor(shift)
    start = (tile_start + whole).astype(np.int64)
    return start, (shift - whole).astype(np.float32), -reach, tiles


def _band(
    positions: FloatArray, length: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], int]:
    """Cubic interpolation of lines at `positions` (groups, columns), as a banded matrix.

    Returns
    -------
    start : ndarray of int64, shape (groups, tiles)
        Where in the padded line the first tap of a tile's first column lies; column j of
        the tile and tap t read sample ``start + j + t``.
    band : ndarray of float32, shape (groups, taps, columns)
    zeros : int
        Samples to pad a line with at each end.
    """
    count, columns = positions.shape
    first = np.floor(positions).astype(np.int64) - 1
    f = positions - (first + 1)
    weights = 0.5 * np.stack(
        [
            f * (f * (2 - f) - 1),
            f * f * (3 * f - 5) + 2,
            f * (f * (4 - 3 * f) + 1),
            f * f * (f - 1),
        ]
    )
    lead = first - np.arange(columns) % BAND_TILE
    start = lead.reshape(count, -1, BAND_TILE).min(axis=2)
    skipped = lead - np.repeat(start, BAND_TILE, axis=1)
    taps = 4 + int(skipped.max())
    band = np.zeros((count, taps, columns), dtype=np.float32)
    group, column = np.indices(positions.shape)
    for tap in range(4):
        sample = first + tap
        inside = (sample >= 0) & (sample < length)
        band[group, skipped + tap, column] = np.where(inside, weights[tap], 0.0)
    start = np.clip(start, -(BAND_TILE + taps), length)  # beyond, all weights are zero
    return start + BAND_TILE + taps, band, BAND_TILE + taps


def _cut(geometry: FloatArray, shape: tuple[int, int, int], axes: Axes) -> FloatArray:
    """How much of each voxel's slice lies before the detector plane; see `shear`."""
    w, r, c = axes
    normal = np.cross(geometry[2], geometry[3])
    normal *= np.sign(normal @ (geometry[0] - geometry[1])) / abs(normal[w])
    corners = np.array(list(np.ndindex(2, 2, 2))) * np.array(shape)
    cuts = float(((corners - geometry[1]) @ normal).min() < 0.5)
    constant = 0.5 - normal @ geometry[1] + 0.5 * normal[w] + 0.5 * normal[c]
    return np.array([cuts, constant, normal[w], normal[r], normal[c]])
