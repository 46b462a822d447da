"""Kernels of the separable perspective shear-warp, forward and adjoint.

Seen from the source, every slice across the main axis is a scaled and shifted copy of
every other. So the cone beam falls apart into one-dimensional steps (`shear_plan` makes
their tables):

1. *Rows.* Two voxel rows of a slice are blended into the row that a base-plane row sees.
2. *Shear.* The rows of a group of neighbouring slices are shifted onto the group's middle
   slice and summed into a line. Within a tile of columns the shift is one number for each
   slice, so the loop is contiguous.
3. *Magnification.* The line is resampled to base-plane columns with a banded matrix.
4. *Warp.* The finished base plane is resampled once to the detector, bicubically, and
   multiplied by the length of each ray's path through a slice.

Steps 1 to 3 run in contiguous loops without gathers and read each voxel once from memory.
All indices in these loops are unsigned: a signed index would cost a test for negative
values, and the compiler could not use vector instructions.

References
----------
P. Lacroute and M. Levoy, Proc. SIGGRAPH (1994) 451, doi:10.1145/192161.192283.
R. G. Keys, IEEE Trans. Acoust. Speech Signal Process. 29 (1981) 1153 (cubic convolution).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from napari_cxr3d.xray.cpu._jit import helper, kernel

__all__ = [
    "BAND_TILE",
    "SHEAR_TILE",
    "SLICE_BATCH",
    "shear",
    "shear_adjoint",
    "warp",
    "warp_adjoint",
]

SHEAR_TILE = 32
"""Columns that share one shift per slice."""

SLICE_BATCH = 4
"""Slices summed in one pass over a line; groups are multiples of it."""

BAND_TILE = 32
"""Base-plane columns that share one start in the banded matrix."""


@helper
def _row_pair(position: float, count: int) -> Any:
    """The two voxel rows about a position in voxels, and their weights (0 outside)."""
    first = math.floor(position - 0.5)
    part = np.float32(position - 0.5 - first)
    weight0 = np.float32(1.0) - part if 0 <= first < count else np.float32(0.0)
    weight1 = part if 0 <= first + 1 < count else np.float32(0.0)
    row0 = min(max(first, 0), count - 1)
    row1 = min(max(first + 1, 0), count - 1)
    return row0, row1, weight0, weight1


@helper
def _cut_row(rows: Any, start: int, columns: int, value: float, step: float) -> None:
    """Scale a row by ``value + column * step``, held within [0, 1]."""
    if value >= 1.0 and value + (columns - 1) * step >= 1.0:
        return
    at = np.uintp(start)
    for j in range(columns):
        part = np.float32(value) + np.float32(j) * np.float32(step)
        rows[at + np.uintp(j)] *= min(max(part, np.float32(0.0)), np.float32(1.0))


@kernel
def shear(
    volume: Any,
    base: Any,
    row_start: int,
    row_stop: int,
    layout: Any,
    source_row: float,
    base_rows: Any,
    depth_ratio: Any,
    groups: Any,
    shift_start: Any,
    shift_part: Any,
    band_start: Any,
    band: Any,
    line_length: int,
    margin: int,
    cut: Any,
) -> None:
    """Sum the slices of a volume onto the rows [row_start, row_stop) of a base plane.

    Parameters
    ----------
    volume : ndarray of float32 or int16, one-dimensional
        Voxels; columns are contiguous.
    base : ndarray of float32, shape (base rows, columns)
        The given rows are written.
    row_start, row_stop : int
        Which rows.
    layout : ndarray of int64, shape (5,)
        Number of slices, rows and columns, and the strides of slices and rows.
    source_row, base_rows : float and ndarray of float64, shape (base rows,)
        Row coordinates of the source and of the base plane's rows in voxels.
    depth_ratio : ndarray of float64, shape (slices,)
        Distance of each slice from the source over that of the base plane.
    groups : ndarray of int64, shape (groups + 1,)
        Where each group of slices starts.
    shift_start, shift_part : ndarray of int64 and float32, shape (slices, tiles)
        Where a tile of the line starts in a blended row, and the fraction of a voxel more.
    band_start, band : ndarray of int64 (groups, tiles), of float32 (groups, taps, columns)
        The banded matrix that takes lines to base-plane columns.
    line_length, margin : int
        Length of a line, and the zeros before a blended row.
    cut : ndarray of float64, shape (5,)
        Whether the detector plane cuts the volume; then the part of a slice before it
        is linear in slice, row and column: constant and three slopes.
    """
    slices, rows, columns = layout[0], layout[1], layout[2]
    tiles = shift_start.shape[1]
    length = margin + line_length + margin
    blended = np.zeros(SLICE_BATCH * length, np.float32)
    line = np.zeros(line_length, np.float32)
    first_tile = (line_length - tiles * SHEAR_TILE) // 2
    width = band.shape[2] // band_start.shape[1]  # a number that the compiler does not unroll
    one = np.uintp(1)
    unit = np.float32(1.0)
    for a in range(row_start, row_stop):
        for b in range(base.shape[1]):
            base[a, b] = 0.0
    for group in range(groups.shape[0] - 1):
        for a in range(row_start, row_stop):
            line[:] = 0.0
            for k in range(groups[group], groups[group + 1], SLICE_BATCH):
                for n in range(SLICE_BATCH):
                    at = np.uintp(n * length + margin)
                    if k + n >= slices:
                        for j in range(columns):
                            blended[at + np.uintp(j)] = 0.0
                        continue
                    position = source_row + (base_rows[a] - source_row) * depth_ratio[k + n]
                    row0, row1, weight0, weight1 = _row_pair(position, rows)
                    at0 = np.uintp((k + n) * layout[3] + row0 * layout[4])
                    at1 = np.uintp((k + n) * layout[3] + row1 * layout[4])
                    for j in range(columns):
                        u = np.uintp(j)
                        blended[at + u] = weight0 * np.float32(
                            volume[at0 + u]
                        ) + weight1 * np.float32(volume[at1 + u])
                    if cut[0] != 0.0:
                        value = cut[1] + (k + n) * cut[2] + position * cut[3]
                        _cut_row(blended, n * length + margin, columns, value, cut[4])
                for tile in range(tiles):
                    to = np.uintp(first_tile + tile * SHEAR_TILE)
                    at0 = np.uintp(shift_start[k, tile])
                    at1 = np.uintp(length + shift_start[k + 1, tile])
                    at2 = np.uintp(2 * length + shift_start[k + 2, tile])
                    at3 = np.uintp(3 * length + shift_start[k + 3, tile])
                    p0, p1 = shift_part[k, tile], shift_part[k + 1, tile]
                    p2, p3 = shift_part[k + 2, tile], shift_part[k + 3, tile]
                    q0, q1, q2, q3 = unit - p0, unit - p1, unit - p2, unit - p3
                    for j in range(SHEAR_TILE):
                        u = np.uintp(j)
                        line[to + u] += (
                            q0 * blended[at0 + u]
                            + p0 * blended[at0 + u + one]
                            + q1 * blended[at1 + u]
                            + p1 * blended[at1 + u + one]
                            + q2 * blended[at2 + u]
                            + p2 * blended[at2 + u + one]
                            + q3 * blended[at3 + u]
                            + p3 * blended[at3 + u + one]
                        )
            for tile in range(band_start.shape[1]):
                to = np.uintp(tile * width)
                for tap in range(band.shape[1]):
                    at0 = np.uintp(band_start[group, tile] + tap)
                    for j in range(width):
                        u = np.uintp(j)
                        base[np.uintp(a), to + u] += (
                            band[np.uintp(group), np.uintp(tap), to + u] * line[at0 + u]
                        )


@kernel
def shear_adjoint(
    volume: Any,
    base: Any,
    group: int,
    layout: Any,
    source_row: float,
    base_rows: Any,
    depth_ratio: Any,
    groups: Any,
    shift_start: Any,
    shift_part: Any,
    band_start: Any,
    band: Any,
    line_length: int,
    margin: int,
    cut: Any,
) -> None:
    """Add the transpose of `shear` to the slices of one group.

    Parameters are those of `shear`; `volume` is float32 and `base` is read.
    """
    slices, rows, columns = layout[0], layout[1], layout[2]
    tiles = shift_start.shape[1]
    length = margin + line_length + margin
    blended = np.zeros(length, np.float32)
    line = np.zeros(line_length, np.float32)
    first_tile = (line_length - tiles * SHEAR_TILE) // 2
    width = band.shape[2] // band_start.shape[1]  # a number that the compiler does not unroll
    one = np.uintp(1)
    for a in range(base.shape[0]):
        line[:] = 0.0
        for tile in range(band_start.shape[1]):
            to = np.uintp(tile * width)
            for tap in range(band.shape[1]):
                at0 = np.uintp(band_start[group, tile] + tap)
                for j in range(width):
                    u = np.uintp(j)
                    line[at0 + u] += (
                        band[np.uintp(group), np.uintp(tap), to + u] * base[np.uintp(a), to + u]
                    )
        for k in range(groups[group], min(groups[group + 1], slices)):
            position = source_row + (base_rows[a] - source_row) * depth_ratio[k]
            row0, row1, weight0, weight1 = _row_pair(position, rows)
            if weight0 == 0.0 and weight1 == 0.0:
                continue
            blended[:] = 0.0
            for tile in range(tiles):
                to = np.uintp(first_tile + tile * SHEAR_TILE)
                at0 = np.uintp(shift_start[k, tile])
                p0 = shift_part[k, tile]
                q0 = np.float32(1.0) - p0
                for j in range(SHEAR_TILE):
                    u = np.uintp(j)
                    blended[at0 + u] += q0 * line[to + u]
                for j in range(SHEAR_TILE):
                    u = np.uintp(j)
                    blended[at0 + u + one] += p0 * line[to + u]
            if cut[0] != 0.0:
                value = cut[1] + k * cut[2] + position * cut[3]
                _cut_row(blended, margin, columns, value, cut[4])
            at = np.uintp(margin)
            at0 = np.uintp(k * layout[3] + row0 * layout[4])
            for j in range(columns):
                u = np.uintp(j)
                volume[at0 + u] += weight0 * blended[at + u]
            at1 = np.uintp(k * layout[3] + row1 * layout[4])
            for j in range(columns):
                u = np.uintp(j)
                volume[at1 + u] += weight1 * blended[at + u]


@helper
def _cubic(part: float) -> Any:
    """Keys' cubic convolution weights (a = -1/2) of the four neighbours."""
    f = np.float32(part)
    half, one = np.float32(0.5), np.float32(1.0)
    two, three = np.float32(2.0), np.float32(3.0)
    return (
        half * f * (f * (two - f) - one),
        half * (f * f * (three * f - np.float32(5.0)) + two),
        half * f * (f * (np.float32(4.0) - three * f) + one),
        half * f * f * (f - one),
    )


@helper
def _base_hit(geometry: Any, axes: Any, spacing: Any, plane: Any, row: int, column: int) -> Any:
    """Where a pixel's ray meets the base plane, in base pixels, and its mm per slice."""
    w, r, c = axes[0], axes[1], axes[2]
    step_w = geometry[1, w] + row * geometry[2, w] + column * geometry[3, w] - geometry[0, w]
    step_r = geometry[1, r] + row * geometry[2, r] + column * geometry[3, r] - geometry[0, r]
    step_c = geometry[1, c] + row * geometry[2, c] + column * geometry[3, c] - geometry[0, c]
    t = (plane[0] - geometry[0, w]) / step_w
    at_row = (geometry[0, r] + t * step_r - plane[1]) / plane[2]
    at_column = (geometry[0, c] + t * step_c - plane[3]) / plane[4]
    length = math.sqrt(
        (step_w * spacing[w]) ** 2 + (step_r * spacing[r]) ** 2 + (step_c * spacing[c]) ** 2
    )
    return at_row, at_column, length / abs(step_w)


@kernel
def warp(
    base: Any,
    geometry: Any,
    axes: Any,
    spacing: Any,
    plane: Any,
    scale: float,
    image: Any,
    row_start: int,
    row_stop: int,
) -> None:
    """Resample the base plane to rows [row_start, row_stop) of the detector.

    Parameters
    ----------
    base : ndarray of float32, shape (base rows, base columns)
        Sums over slices; zero at and beyond the volume's shadow.
    geometry : ndarray of float64, shape (4, 3)
        Source, centre of pixel (0, 0), row step and column step in voxels.
    axes : ndarray of int64, shape (3,)
        The array axes that are slices, rows and columns.
    spacing : ndarray of float64, shape (3,)
        Voxel spacing along the array axes in mm.
    plane : ndarray of float64, shape (5,)
        The base plane: its slice coordinate, then first row and step, first column and
        step, in voxels.
    scale : float
        What a stored 1 means, in 1/mm.
    image : ndarray of float32, shape (rows, columns)
        Written.
    """
    for row in range(row_start, row_stop):
        for column in range(image.shape[1]):
            a, b, length = _base_hit(geometry, axes, spacing, plane, row, column)
            value = np.float32(0.0)
            if 1.0 <= a < base.shape[0] - 2 and 1.0 <= b < base.shape[1] - 2:
                i, j = int(a), int(b)
                across, down = _cubic(b - j), _cubic(a - i)
                for m in range(4):
                    u, v = np.uintp(i - 1 + m), np.uintp(j - 1)
                    value += down[m] * (
                        across[0] * base[u, v]
                        + across[1] * base[u, v + np.uintp(1)]
                        + across[2] * base[u, v + np.uintp(2)]
                        + across[3] * base[u, v + np.uintp(3)]
                    )
            image[row, column] = value * np.float32(length * scale)


@kernel
def warp_adjoint(
    base: Any,
    geometry: Any,
    axes: Any,
    spacing: Any,
    plane: Any,
    image: Any,
    row_start: int,
    row_stop: int,
) -> None:
    """Add the transpose of `warp` for detector rows [row_start, row_stop) to `base`."""
    for row in range(row_start, row_stop):
        for column in range(image.shape[1]):
            a, b, length = _base_hit(geometry, axes, spacing, plane, row, column)
            if 1.0 <= a < base.shape[0] - 2 and 1.0 <= b < base.shape[1] - 2:
                i, j = int(a), int(b)
                across, down = _cubic(b - j), _cubic(a - i)
                value = image[row, column] * np.float32(length)
                for m in range(4):
                    u, v = np.uintp(i - 1 + m), np.uintp(j - 1)
                    part = value * down[m]
                    base[u, v] += part * across[0]
                    base[u, v + np.uintp(1)] += part * across[1]
                    base[u, v + np.uintp(2)] += part * across[2]
                    base[u, v + np.uintp(3)] += part * across[3]
