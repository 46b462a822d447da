"""What the projections read: quantised copies of a volume, kept while the volume lives.

A copy holds attenuation (or bone fraction) as int16 in whole parts of the volume's
largest value: half the memory traffic of float32, at a rounding error of 1/65534 of that
value per voxel, which averages out along a ray. Copies exist in two orders, (I, P, L) for
views along I and P and (I, L, P) for views along L, and at up to three levels: full size
and the means of boxes of 2 and of 4 voxels a side. Each is made when it is first needed.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from napari_cxr3d.imaging import Grid, Volume
from napari_cxr3d.workers import Workers
from napari_cxr3d.xray.attenuation import hu_to_attenuation, hu_to_basis
from napari_cxr3d.xray.cpu import copy_kernels

__all__ = ["LEVELS", "Channel", "Copy", "copies_of", "level_grid", "swapped_order"]

Scalar = TypeVar("Scalar", np.int16, np.float32)

LEVELS = (1, 2, 4)

_KEPT_VOLUMES = 3  # the study on screen, a comparison, and the one before
_BUDGET = 8  # bytes per voxel of one volume's copies: twice the volume as float32
_CHUNK = 1 << 20  # voxels quantised at a time


@dataclass(frozen=True)
class Channel:
    """A quantity that depends on the HU alone.

    Attributes
    ----------
    energy_kev : float or None
        Attenuation at this energy, in 1/mm; None is the fraction of cortical bone.
    """

    energy_kev: float | None

    def values(self, hu: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The quantity at the given HU."""
        if self.energy_kev is None:
            return hu_to_basis(hu)[1]
        return hu_to_attenuation(hu, self.energy_kev)


@dataclass(frozen=True)
class Copy:
    """Voxels in whole parts of `scale`, with their grid (in (I, P, L), whatever the order)."""

    voxels: npt.NDArray[np.int16]
    scale: float
    grid: Grid


def _level_factors(grid: Grid, level: int) -> tuple[int, int, int]:
    """Voxels per box along each axis: fewer where the spacing is coarse already."""
    limit = 1.5 * level * min(grid.spacing_mm)

    def factor(spacing: float, count: int) -> int:
        best = 1
        while best < level and 2 * best * spacing <= limit and 2 * best <= count:
            best *= 2
        return best

    i, p, ell = (factor(s, n) for s, n in zip(grid.spacing_mm, grid.shape, strict=True))
    return (i, p, ell)


def level_grid(grid: Grid, level: int) -> Grid:
    """The grid of a volume's box means at a level of `LEVELS`."""
    factors = np.array(_level_factors(grid, level))
    shape = -(-np.array(grid.shape) // factors)
    spacing = factors * np.array(grid.spacing_mm)
    origin = grid.index_to_lps((factors - 1) / 2)
    return Grid(tuple(shape.tolist()), tuple(spacing.tolist()), tuple(origin.tolist()))


def swapped_order(voxels: npt.NDArray[Scalar], crew: Workers) -> npt.NDArray[Scalar]:
    """An (I, P, L) array as a new one with axes (I, L, P)."""
    i, p, ell = voxels.shape
    out = np.empty((i, ell, p), dtype=voxels.dtype)
    crew.run(lambda n: copy_kernels.swap(voxels, out, n, n + 1), i)
    return out


_Key = tuple[Channel, int, bool]


class _VolumeCopies:
    """The copies of one volume, the least recently used dropped beyond the budget."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._copies: OrderedDict[_Key, Copy] = OrderedDict()

    def get(
        self, volume: Volume, channel: Channel, level: int, swapped: bool, crew: Workers
    ) -> Copy:
        """The copy, made now if need be; a second thread that wants it waits."""
        with self._lock:
            copy = self._get(volume, (channel, level, swapped), crew)
            self._trim(volume.hu.size * _BUDGET, keep=copy)
            return copy

    def nbytes(self) -> int:
        """Memory that the copies hold now."""
        with self._lock:
            return sum(copy.voxels.nbytes for copy in self._copies.values())

    def _get(self, volume: Volume, key: _Key, crew: Workers) -> Copy:
        if key in self._copies:
            self._copies.move_to_end(key)
            return self._copies[key]
        channel, level, swapped = key
        if swapped:
            source = self._get(volume, (channel, level, False), crew)
            copy = Copy(swapped_order(source.voxels, crew), source.scale, source.grid)
        elif level > 1:
            copy = _shrunk(self._get(volume, (channel, 1, False), crew), level, crew)
        else:
            copy = _quantised(volume, channel, crew)
        self._copies[key] = copy
        return copy

    def _trim(self, budget: int, keep: Copy) -> None:
        held = sum(copy.voxels.nbytes for copy in self._copies.values())
        for key, copy in list(self._copies.items()):
            if held <= budget:
                return
            if copy is not keep:
                held -= copy.voxels.nbytes
                del self._copies[key]


def _quantised(volume: Volume, channel: Channel, crew: Workers) -> Copy:
    hu = np.ascontiguousarray(volume.hu)
    first, last = math.floor(hu.min()), math.ceil(hu.max())
    table = channel.values(np.arange(first, last + 2, dtype=np.float32))
    peak = float(table[: last - first + 1].max())
    scale = peak / copy_kernels.QUANTA if peak > 0 else 1.0
    table = (table / scale).astype(np.float32)
    voxels = np.empty(volume.shape, dtype=np.int16)
    flat_hu, flat = hu.reshape(-1), voxels.reshape(-1)
    crew.run(
        lambda n: copy_kernels.quantise(
            flat_hu, table, first, flat, n * _CHUNK, min((n + 1) * _CHUNK, flat.size)
        ),
        -(-flat.size // _CHUNK),
    )
    return Copy(voxels, scale, volume.grid)


def _shrunk(copy: Copy, level: int, crew: Workers) -> Copy:
    grid = level_grid(copy.grid, level)
    factors = np.array(_level_factors(copy.grid, level))
    out = np.empty(grid.shape, dtype=np.int16)
    crew.run(lambda n: copy_kernels.shrink(copy.voxels, factors, out, n, n + 1), grid.shape[0])
    return Copy(out, copy.scale, grid)


_lock = threading.Lock()
_volumes: OrderedDict[weakref.ref[Volume], _VolumeCopies] = OrderedDict()


def _forget(reference: weakref.ref[Volume]) -> None:
    # No lock: garbage collection may call this in a thread that holds it already.
    _volumes.pop(reference, None)


def copies_of(volume: Volume) -> _VolumeCopies:
    """The copies of a volume, shared by all projectors and freed with the volume.

    Those of a few volumes are kept; a volume that was not projected for longest loses
    its copies first, and gets new ones when it is projected again.
    """
    with _lock:
        reference = weakref.ref(volume, _forget)
        copies = _volumes.get(reference)
        if copies is None:
            copies = _volumes[reference] = _VolumeCopies()
        _volumes.move_to_end(reference)
        while len(_volumes) > _KEPT_VOLUMES:
            _volumes.popitem(last=False)
        return copies
