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
    w, u, v : int
        The main axis and the other two.
    enter, leave : float
        Where the walk starts and stops on the main axis; `enter` > `leave` if the ray
        misses the box.
    slope_u, offset_u, slope_v, offset_v : float
        The other coordinates are ``offset + slope * w``.
    length : float
        Millimetres per voxel of the walk.
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
    return (
        w,
        u,
        v,
        enter,
        leave,
        slope_u,
        su - slope_u * sw,
        slope_v,
        sv - slope_v * sw,
        length,
    )


@helper
def _crossing(cell_a: int, cell_b: int, offset: float, inverse: float, b: float) -> float:
    """Where the ray leaves `cell_a` for `cell_b`; at the end `b` if it does not."""
    return b if cell_a == cell_b else (max(cell_a, cell_b) - offset) * inverse


@helper
def _inverse(slope: float) -> float:
    """1 / slope; any number for a slope of 0, which crosses nothing."""
    return 1.0 / slope if slope != 0.0 else 0.0


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
    low = (0.0, 0.0, 0.0)
    high = (float(shape[0]), float(shape[1]), float(shape[2]))
    strides = (shape[1] * shape[2], shape[2], 1)
    for row in range(row_start, row_stop):
        for column in range(image.shape[1]):
            w, u, v, enter, leave, slope_u, offset_u, slope_v, offset_v, length = _walk(
                geometry, row, column, low, high, spacing
            )
            total = 0.0
            if enter < leave:
                inverse_u, inverse_v = _inverse(slope_u), _inverse(slope_v)
                stride_w, stride_u, stride_v = strides[w], strides[u], strides[v]
                a = enter
                ua, va = int(offset_u + a * slope_u), int(offset_v + a * slope_v)
                for k in range(int(enter), int(leave) + 1):
                    b = min(k + 1.0, leave)
                    ub, vb = int(offset_u + b * slope_u), int(offset_v + b * slope_v)
                    cu = _crossing(ua, ub, offset_u, inverse_u, b)
                    cv = _crossing(va, vb, offset_v, inverse_v, b)
                    um = ub if cu < cv else ua
                    vm = va if cu < cv else vb
                    at = k * stride_w
                    total += (min(cu, cv) - a) * volume[
                        np.uintp(at + ua * stride_u + va * stride_v)
                    ]
                    total += abs(cu - cv) * volume[np.uintp(at + um * stride_u + vm * stride_v)]
                    total += (b - max(cu, cv)) * volume[
                        np.uintp(at + ub * stride_u + vb * stride_v)
                    ]
                    a, ua, va = b, ub, vb
            image[row, column] = total * scale * length


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
    low = (float(slice_start), 0.0, 0.0)
    high = (float(slice_stop), float(shape[1]), float(shape[2]))
    strides = (shape[1] * shape[2], shape[2], 1)
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            w, u, v, enter, leave, slope_u, offset_u, slope_v, offset_v, length = _walk(
                geometry, row, column, low, high, spacing
            )
            value = image[row, column] * length
            if enter < leave and value != 0.0:
                inverse_u, inverse_v = _inverse(slope_u), _inverse(slope_v)
                stride_w, stride_u, stride_v = strides[w], strides[u], strides[v]
                a = enter
                ua, va = int(offset_u + a * slope_u), int(offset_v + a * slope_v)
                for k in range(int(enter), int(leave) + 1):
                    b = min(k + 1.0, leave)
                    ub, vb = int(offset_u + b * slope_u), int(offset_v + b * slope_v)
                    cu = _crossing(ua, ub, offset_u, inverse_u, b)
                    cv = _crossing(va, vb, offset_v, inverse_v, b)
                    um = ub if cu < cv else ua
                    vm = va if cu < cv else vb
                    at = k * stride_w
                    volume[np.uintp(at + ua * stride_u + va * stride_v)] += value * (
                        min(cu, cv) - a
                    )
                    volume[np.uintp(at + um * stride_u + vm * stride_v)] += value * abs(cu - cv)
                    volume[np.uintp(at + ub * stride_u + vb * stride_v)] += value * (
                        b - max(cu, cv)
                    )
                    a, ua, va = b, ub, vb


@helper
def _linear(position: float, low: int, high: int) -> Any:
    """The two cells in [low, high) about a position, and their weights (0 outside)."""
    first = int(math.floor(position - 0.5))
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
            w, u, v, enter, leave, slope_u, offset_u, slope_v, offset_v, length = _walk(
                geometry, row, column, low, high, spacing
            )
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
            w, u, v, enter, leave, slope_u, offset_u, slope_v, offset_v, length = _walk(
                geometry, row, column, low, high, spacing
            )
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
