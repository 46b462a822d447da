"""Ray-driven kernels: exact Siddon and Joseph, forward and adjoint.

Positions are in voxel units with voxel n covering [n, n + 1). A ray is the straight
line from the source (parameter 0) to the centre of a detector pixel (parameter 1), and
only that stretch is integrated, wherever source and detector lie.

Both methods walk a ray slice by slice along its main axis, the one on which it crosses
most voxels. Within one slice the ray then leaves its row and its column at most once
each, so Siddon's sum has three terms a slice and needs neither sorting nor branches.

The adjoints own a range of the first array axis: each ray is clipped to it, so that
blocks of the volume are independent and every sum has one order.

References
----------
R. L. Siddon, Med. Phys. 12 (1985) 252, doi:10.1118/1.595715.
P. M. Joseph, IEEE Trans. Med. Imaging 1 (1982) 192, doi:10.1109/TMI.1982.4307572.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from napari_cxr3d.xray.cpu._jit import helper, kernel

__all__ = ["joseph_adjoint", "joseph_forward", "siddon_adjoint", "siddon_forward"]

_CHUNK = 64  # slices whose segments are worked out at a time, by vector instructions
_EDGES = 72  # of a chunk's slices: one more than slices, rounded up to whole vectors
_BEAM = 16  # neighbouring rays that go through each chunk together, while it is in cache
_PARALLEL = 1e-12  # voxels over a whole ray: it runs along the other axes
_FACE = 1e-9  # voxels: keeps positions off the volume's far faces, where rounding could overstep


@helper
def _clip(source: float, step: float, low: float, high: float, a: float, b: float) -> Any:
    """The part of the parameter range [a, b] on which low <= source + t * step < high."""
    high -= _FACE
    if abs(step) < _PARALLEL:
        return (a, b) if low <= source < high else (1.0, 0.0)
    t0 = (low - source) / step
    t1 = (high - source) / step
    return max(a, min(t0, t1)), min(b, max(t0, t1))


@helper
def _walk(
    geometry: Any,
    row: int,
    column: int,
    low: Any,
    high: Any,
    spacing: Any,
) -> Any:
    """A ray inside the box [low, high) as a walk along its main axis.

    Returns
    -------
    axes : tuple of 3 int
        The main axis w and the other two, u and v.
    walk : tuple of 7 float
        Where the walk enters and leaves on the main axis (`enter` > `leave` if the ray
        misses the box); slope and offset of u, then of v, so that
        ``u = offset + slope * w``; millimetres per voxel of the walk.
    """
    s0, s1, s2 = geometry[0, 0], geometry[0, 1], geometry[0, 2]
    d0 = geometry[1, 0] + row * geometry[2, 0] + column * geometry[3, 0] - s0
    d1 = geometry[1, 1] + row * geometry[2, 1] + column * geometry[3, 1] - s1
    d2 = geometry[1, 2] + row * geometry[2, 2] + column * geometry[3, 2] - s2
    t0, t1 = _clip(s0, d0, low[0], high[0], 0.0, 1.0)
    t0, t1 = _clip(s1, d1, low[1], high[1], t0, t1)
    t0, t1 = _clip(s2, d2, low[2], high[2], t0, t1)
    if abs(d0) >= abs(d1) and abs(d0) >= abs(d2):
        w, u, v, sw, su, sv, dw, du, dv = 0, 1, 2, s0, s1, s2, d0, d1, d2
    elif abs(d1) >= abs(d2):
        w, u, v, sw, su, sv, dw, du, dv = 1, 0, 2, s1, s0, s2, d1, d0, d2
    else:
        w, u, v, sw, su, sv, dw, du, dv = 2, 0, 1, s2, s0, s1, d2, d0, d1
    enter, leave = sw + t0 * dw, sw + t1 * dw
    if dw < 0.0 and t0 <= t1:
        enter, leave = leave, enter
    elif t0 > t1:
        enter, leave = 1.0, 0.0
    slope_u, slope_v = du / dw, dv / dw
    length = math.sqrt(
        (d0 * spacing[0]) ** 2 + (d1 * spacing[1]) ** 2 + (d2 * spacing[2]) ** 2
    ) / abs(dw)
    walk = (enter, leave, slope_u, su - slope_u * sw, slope_v, sv - slope_v * sw, length)
    return (w, u, v), walk


@helper
def _segments(
    first: int,
    ray: int,
    axes: Any,
    walks: Any,
    low: Any,
    high: Any,
    strides: Any,
    cells: Any,
    offsets: Any,
    index: Any,
    weight: Any,
) -> None:
    """The voxels that a ray meets in `_CHUNK` slices from `first`, and its path in each.

    Within a slice from a to b the ray changes its u cell at cu and its v cell at cv (b if
    it does not), so it has three parts: up to the first change, between, and to b. The
    three fill one third each of `index` and `weight`; outside the walk all weights are 0.

    Parameters
    ----------
    cells : ndarray of float32, shape (3 * _EDGES,)
        Work space: where the slices' edges lie on the walk, and the u and v cells there.
    offsets : ndarray of uint32, shape (2 * _EDGES,)
        Work space: what the u and v cells add to a voxel's place.
    """
    w, u, v = axes[ray, 0], axes[ray, 1], axes[ray, 2]
    # Relative to the chunk's start, so that single precision is as good as it can be.
    begin, end = np.float32(walks[ray, 0] - first), np.float32(walks[ray, 1] - first)
    step_u, step_v = np.float32(walks[ray, 2]), np.float32(walks[ray, 4])
    start_u = np.float32(walks[ray, 3] + first * walks[ray, 2])
    start_v = np.float32(walks[ray, 5] + first * walks[ray, 4])
    low_u, high_u = np.float32(low[u]), np.float32(high[u] - 1.0)
    low_v, high_v = np.float32(low[v]), np.float32(high[v] - 1.0)
    low_w, high_w = np.float32(low[w] - first), np.float32(high[w] - 1.0 - first)
    stride_u, stride_v = np.uint32(strides[u]), np.uint32(strides[v])
    stride_w, base = np.uint32(strides[w]), np.uint32(first * strides[w])
    for n in range(_EDGES):
        m = np.uintp(n)
        at = min(max(np.float32(np.int32(n)), begin), end)
        cell_u = min(max(np.float32(math.floor(start_u + at * step_u)), low_u), high_u)
        cell_v = min(max(np.float32(math.floor(start_v + at * step_v)), low_v), high_v)
        cells[m] = at
        cells[m + np.uintp(_EDGES)] = cell_u
        cells[m + np.uintp(2 * _EDGES)] = cell_v
        offsets[m] = np.uint32(np.uint32(np.int32(cell_u)) * stride_u)
        offsets[m + np.uintp(_EDGES)] = np.uint32(np.uint32(np.int32(cell_v)) * stride_v)
    inverse_u = np.float32(1.0) / step_u if step_u != 0.0 else np.float32(0.0)
    inverse_v = np.float32(1.0) / step_v if step_v != 0.0 else np.float32(0.0)
    for n in range(_CHUNK):
        m, after = np.uintp(n), np.uintp(n) + np.uintp(1)
        a, b = cells[m], cells[after]
        ua, ub = cells[m + np.uintp(_EDGES)], cells[after + np.uintp(_EDGES)]
        va, vb = cells[m + np.uintp(2 * _EDGES)], cells[after + np.uintp(2 * _EDGES)]
        cu = (max(ua, ub) - start_u) * inverse_u if ua != ub else b
        cv = (max(va, vb) - start_v) * inverse_v if va != vb else b
        slice_w = np.uint32(np.int32(min(max(np.float32(np.int32(n)), low_w), high_w)))
        at_w = np.uint32(base + np.uint32(slice_w * stride_w))
        at_ua, at_ub = np.uint32(at_w + offsets[m]), np.uint32(at_w + offsets[after])
        at_va, at_vb = offsets[m + np.uintp(_EDGES)], offsets[after + np.uintp(_EDGES)]
        index[m] = np.uint32(at_ua + at_va)
        index[m + np.uintp(_CHUNK)] = (
            np.uint32(at_ub + at_va) if cu < cv else np.uint32(at_ua + at_vb)
        )
        index[m + np.uintp(2 * _CHUNK)] = np.uint32(at_ub + at_vb)
        weight[m] = min(cu, cv) - a
        weight[m + np.uintp(_CHUNK)] = abs(cu - cv)
        weight[m + np.uintp(2 * _CHUNK)] = b - max(cu, cv)


@helper
def _beam(
    geometry: Any,
    row: int,
    left: int,
    count: int,
    low: Any,
    high: Any,
    spacing: Any,
    axes: Any,
    walks: Any,
) -> Any:
    """Fill in the walks of neighbouring rays; the slices that any of them meets."""
    start, stop = 1 << 30, 0
    for ray in range(count):
        (w, u, v), walk = _walk(geometry, row, left + ray, low, high, spacing)
        axes[ray, 0], axes[ray, 1], axes[ray, 2] = w, u, v
        for n in range(7):
            walks[ray, n] = walk[n]
        if walk[0] < walk[1]:
            start, stop = min(start, int(walk[0])), max(stop, int(walk[1]) + 1)
    return start, stop


@kernel
def siddon_forward(
    volume: Any,
    shape: Any,
    spacing: Any,
    geometry: Any,
    scale: float,
    image: Any,
    row_start: int,
    row_stop: int,
) -> None:
    """Exact line integrals of a piecewise constant volume.

    Parameters
    ----------
    volume : ndarray of float32 or int16, shape (I * P * L,)
        Voxels in C order.
    shape, spacing : ndarray of int64 and float64, shape (3,)
        Voxels and mm along (I, P, L).
    geometry : ndarray of float64, shape (4, 3)
        Source, centre of pixel (0, 0), row step and column step in voxels.
    scale : float
        What a stored 1 means, in 1/mm.
    image : ndarray of float32, shape (rows, columns)
        Rows `row_start` to `row_stop` are written.
    """
    low = np.array((0.0, 0.0, 0.0))
    high = np.array((float(shape[0]), float(shape[1]), float(shape[2])))
    strides = np.array((shape[1] * shape[2], shape[2], 1))
    cells, offsets = np.empty(3 * _EDGES, np.float32), np.empty(2 * _EDGES, np.uint32)
    index = np.empty(3 * _CHUNK, np.uint32)
    weight = np.empty(3 * _CHUNK, np.float32)
    met = np.empty(3 * _CHUNK, volume.dtype)
    axes, walks = np.empty((_BEAM, 3), np.int64), np.empty((_BEAM, 7))
    totals = np.empty(_BEAM)
    for row in range(row_start, row_stop):
        for left in range(0, image.shape[1], _BEAM):
            beam = min(_BEAM, image.shape[1] - left)
            start, stop = _beam(geometry, row, left, beam, low, high, spacing, axes, walks)
            totals[:] = 0.0
            for first in range(start, stop, _CHUNK):
                for ray in range(beam):
                    if walks[ray, 0] >= first + _CHUNK or walks[ray, 1] <= first:
                        continue
                    _segments(
                        first, ray, axes, walks, low, high, strides, cells, offsets, index, weight
                    )
                    for n in range(3 * _CHUNK):
                        m = np.uintp(n)
                        met[m] = volume[index[m]]
                    part = np.float32(0.0)
                    for n in range(3 * _CHUNK):
                        m = np.uintp(n)
                        part += weight[m] * np.float32(met[m])
                    totals[ray] += part
            for ray in range(beam):
                image[row, left + ray] = totals[ray] * scale * walks[ray, 6]


@kernel
def siddon_adjoint(
    volume: Any,
    shape: Any,
    spacing: Any,
    geometry: Any,
    image: Any,
    slice_start: int,
    slice_stop: int,
) -> None:
    """Add the transpose of `siddon_forward` to slices [slice_start, slice_stop).

    Parameters are those of `siddon_forward`; `volume` is float32 and `image` is read.
    """
    low = np.array((float(slice_start), 0.0, 0.0))
    high = np.array((float(slice_stop), float(shape[1]), float(shape[2])))
    strides = np.array((shape[1] * shape[2], shape[2], 1))
    cells, offsets = np.empty(3 * _EDGES, np.float32), np.empty(2 * _EDGES, np.uint32)
    index = np.empty(3 * _CHUNK, np.uint32)
    weight = np.empty(3 * _CHUNK, np.float32)
    axes, walks = np.empty((_BEAM, 3), np.int64), np.empty((_BEAM, 7))
    for row in range(image.shape[0]):
        for left in range(0, image.shape[1], _BEAM):
            beam = min(_BEAM, image.shape[1] - left)
            start, stop = _beam(geometry, row, left, beam, low, high, spacing, axes, walks)
            for first in range(start, stop, _CHUNK):
                for ray in range(beam):
                    value = np.float32(image[row, left + ray] * walks[ray, 6])
                    if walks[ray, 0] >= first + _CHUNK or walks[ray, 1] <= first or value == 0.0:
                        continue
                    _segments(
                        first, ray, axes, walks, low, high, strides, cells, offsets, index, weight
                    )
                    for n in range(3 * _CHUNK):
                        m = np.uintp(n)
                        volume[index[m]] += value * weight[m]


@helper
def _linear(position: float, low: int, high: int) -> Any:
    """The two cells in [low, high) about a position, and their weights (0 outside)."""
    first = math.floor(position - 0.5)
    part = position - 0.5 - first
    weight0 = 1.0 - part if low <= first < high else 0.0
    weight1 = part if low <= first + 1 < high else 0.0
    return min(max(first, low), high - 1), min(max(first + 1, low), high - 1), weight0, weight1


@kernel
def joseph_forward(
    volume: Any,
    shape: Any,
    spacing: Any,
    geometry: Any,
    scale: float,
    image: Any,
    row_start: int,
    row_stop: int,
) -> None:
    """Line integrals with bilinear interpolation in each slice across the main axis.

    Parameters are those of `siddon_forward`. The volume is 0 outside; a slice that the
    ray crosses in part counts in part.
    """
    low = (-0.5, -0.5, -0.5)
    high = (shape[0] + 0.5, shape[1] + 0.5, shape[2] + 0.5)
    strides = (shape[1] * shape[2], shape[2], 1)
    for row in range(row_start, row_stop):
        for column in range(image.shape[1]):
            (w, u, v), walk = _walk(geometry, row, column, low, high, spacing)
            enter, leave, slope_u, offset_u, slope_v, offset_v, length = walk
            total = 0.0
            enter, leave = max(enter, 0.0), min(leave, float(shape[w]))
            if enter < leave:
                for k in range(int(enter), min(int(leave) + 1, shape[w])):
                    weight = min(k + 1.0, leave) - max(float(k), enter)
                    u0, u1, wu0, wu1 = _linear(offset_u + (k + 0.5) * slope_u, 0, shape[u])
                    v0, v1, wv0, wv1 = _linear(offset_v + (k + 0.5) * slope_v, 0, shape[v])
                    at0 = k * strides[w] + u0 * strides[u]
                    at1 = k * strides[w] + u1 * strides[u]
                    v0 *= strides[v]
                    v1 *= strides[v]
                    total += weight * (
                        wu0 * (wv0 * volume[np.uintp(at0 + v0)] + wv1 * volume[np.uintp(at0 + v1)])
                        + wu1
                        * (wv0 * volume[np.uintp(at1 + v0)] + wv1 * volume[np.uintp(at1 + v1)])
                    )
            image[row, column] = total * scale * length


@kernel
def joseph_adjoint(
    volume: Any,
    shape: Any,
    spacing: Any,
    geometry: Any,
    image: Any,
    slice_start: int,
    slice_stop: int,
) -> None:
    """Add the transpose of `joseph_forward` to slices [slice_start, slice_stop).

    Parameters are those of `siddon_forward`; `volume` is float32 and `image` is read.
    """
    low = (-0.5, -0.5, -0.5)
    high = (shape[0] + 0.5, shape[1] + 0.5, shape[2] + 0.5)
    first = (slice_start, 0, 0)
    stop = (slice_stop, shape[1], shape[2])
    strides = (shape[1] * shape[2], shape[2], 1)
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            (w, u, v), walk = _walk(geometry, row, column, low, high, spacing)
            enter, leave, slope_u, offset_u, slope_v, offset_v, length = walk
            value = image[row, column] * length
            enter, leave = max(enter, 0.0), min(leave, float(shape[w]))
            if enter >= leave or value == 0.0:
                continue
            k_start = max(int(enter), first[w])
            k_stop = min(int(leave) + 1, stop[w])
            if w != 0 and slope_u != 0.0:  # u is the first axis: where it meets the block
                a = (slice_start - 1.0 - offset_u) / slope_u
                b = (slice_stop + 1.0 - offset_u) / slope_u
                k_start = max(k_start, int(max(min(a, b), 0.0)))
                k_stop = min(k_stop, int(max(max(a, b), 0.0)) + 1)
            for k in range(k_start, k_stop):
                weight = value * (min(k + 1.0, leave) - max(float(k), enter))
                u0, u1, wu0, wu1 = _linear(offset_u + (k + 0.5) * slope_u, first[u], stop[u])
                v0, v1, wv0, wv1 = _linear(offset_v + (k + 0.5) * slope_v, first[v], stop[v])
                at0 = k * strides[w] + u0 * strides[u]
                at1 = k * strides[w] + u1 * strides[u]
                v0 *= strides[v]
                v1 *= strides[v]
                volume[np.uintp(at0 + v0)] += weight * wu0 * wv0
                volume[np.uintp(at0 + v1)] += weight * wu0 * wv1
                volume[np.uintp(at1 + v0)] += weight * wu1 * wv0
                volume[np.uintp(at1 + v1)] += weight * wu1 * wv1
