"""Kernels that make and reorder the voxels that the projections read."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_cxr3d.xray.cpu._jit import kernel

__all__ = ["QUANTA", "quantise", "shrink", "swap", "swap_add"]

QUANTA = 32767
"""The largest stored value of a quantised copy."""

_BLOCK = 32  # voxels: a square block of two orders fits the first-level cache


@kernel
def quantise(hu: Any, table: Any, first_hu: int, out: Any, start: int, stop: int) -> None:
    """Voxels as whole quanta: ``table`` at each HU, linear between whole HU, rounded.

    Parameters
    ----------
    hu : ndarray of int16 or float32, one-dimensional
    table : ndarray of float32
        Quanta at ``first_hu``, ``first_hu + 1`` and so on, beyond the largest HU by one.
    out : ndarray of int16, one-dimensional
        Elements [start, stop) are written.
    """
    for n in range(np.uintp(start), np.uintp(stop)):
        position = np.float32(hu[n]) - np.float32(first_hu)
        k = np.uintp(position)
        part = position - np.float32(k)
        below, above = table[k], table[k + np.uintp(1)]
        out[n] = np.int16(below + part * (above - below) + np.float32(0.5))


@kernel
def swap(volume: Any, out: Any, start: int, stop: int) -> None:
    """Slices [start, stop) of an (I, P, L) array into one with axes (I, L, P)."""
    _, rows, columns = volume.shape
    for i in range(start, stop):
        for p in range(0, rows, _BLOCK):
            for ell in range(0, columns, _BLOCK):
                for column in range(ell, min(ell + _BLOCK, columns)):
                    for row in range(p, min(p + _BLOCK, rows)):
                        out[i, column, row] = volume[i, row, column]


@kernel
def swap_add(volume: Any, out: Any, start: int, stop: int) -> None:
    """Add slices [start, stop) of an (I, L, P) array to one with axes (I, P, L)."""
    _, columns, rows = volume.shape
    for i in range(start, stop):
        for p in range(0, rows, _BLOCK):
            for ell in range(0, columns, _BLOCK):
                for row in range(p, min(p + _BLOCK, rows)):
                    for column in range(ell, min(ell + _BLOCK, columns)):
                        out[i, row, column] += volume[i, column, row]


@kernel
def shrink(volume: Any, factors: Any, out: Any, start: int, stop: int) -> None:
    """Box means over ``factors`` voxels; boxes that stick out are filled up with zeros.

    Parameters
    ----------
    volume, out : ndarray of int16 with three axes
        Slices [start, stop) of `out` are written.
    factors : ndarray of int64, shape (3,)
        Voxels per box along each axis.
    """
    f0, f1, f2 = factors[0], factors[1], factors[2]
    n0, n1, n2 = volume.shape
    share = np.float32(1.0) / np.float32(f0 * f1 * f2)
    line = np.empty(out.shape[2], np.int32)
    for i in range(start, stop):
        for j in range(out.shape[1]):
            line[:] = 0
            for a in range(i * f0, min((i + 1) * f0, n0)):
                for b in range(j * f1, min((j + 1) * f1, n1)):
                    for c in range(n2):
                        line[c // f2] += volume[a, b, c]
            for k in range(out.shape[2]):
                out[i, j, k] = np.int16(np.float32(line[k]) * share + np.float32(0.5))
