"""Painting a scene into voxels on the processor; importing it imports numba."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from napari_cxr3d.imaging import Grid
from napari_cxr3d.imaging.frames import FloatArray
from napari_cxr3d.phantom.painting_kernels import (
    TILE,
    paint_tiles,
    sort_into_tiles,
    warp,
)
from napari_cxr3d.phantom.scene import Scene
from napari_cxr3d.progress import CancelToken
from napari_cxr3d.workers import Workers, available_threads

__all__ = ["Painting", "Tiles", "paint", "tiles_of", "where_painted"]

_TILES_A_BLOCK = 512
_WARP_STEPS = 40


@dataclass(frozen=True)
class Painting:
    """A painted scene.

    Attributes
    ----------
    hu : ndarray of float32, shape (I, P, L)
        Hounsfield units, free of noise and blur.
    labels : ndarray of uint8, shape (I, P, L)
        Anatomical labels.
    findings : ndarray of uint32, shape (I, P, L)
        One bit a kind of finding.
    """

    hu: npt.NDArray[np.float32]
    labels: npt.NDArray[np.uint8]
    findings: npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Tiles:
    """Which shapes reach which tile of a grid.

    Attributes
    ----------
    shape : tuple of 3 int
        Tiles along (I, P, L).
    first : ndarray of int64, shape (T + 1,)
        Where each tile's shapes begin in `members`.
    members : ndarray of int32, shape (K,)
        Numbers of shapes, in painting order within each tile.
    """

    shape: tuple[int, int, int]
    first: npt.NDArray[np.int64]
    members: npt.NDArray[np.int32]


def paint(
    scene: Scene, grid: Grid, *, threads: int | None = None, cancel: CancelToken | None = None
) -> Painting:
    """Paint a scene into the voxels of a grid.

    Parameters
    ----------
    scene : Scene
        What to paint.
    grid : Grid
        Where the voxels lie.
    threads : int, optional
        Processors to use; the result does not depend on it.
    cancel : CancelToken, optional
        Looked at between blocks of tiles.

    Raises
    ------
    Cancelled
        If the token was cancelled.
    """
    tiles = tiles_of(scene, grid)
    painting = Painting(
        np.empty(grid.shape, np.float32),
        np.empty(grid.shape, np.uint8),
        np.empty(grid.shape, np.uint32),
    )
    count = len(tiles.first) - 1
    spacing, origin = np.array(grid.spacing_mm), np.array(grid.origin_lps)
    whole = np.array([scene.warp_mm, scene.warp_scale_mm, scene.background_hu])

    def block(number: int) -> None:
        paint_tiles(
            number * _TILES_A_BLOCK, min(count, (number + 1) * _TILES_A_BLOCK),
            np.array(tiles.shape), tiles.first, tiles.members, spacing, origin,
            scene.reals, scene.whole, scene.profiles, scene.low, scene.high, whole, scene.seed,
            painting.hu, painting.labels, painting.findings,
        )  # fmt: skip

    with Workers(threads or available_threads(), cancel) as crew:
        crew.run(block, -(-count // _TILES_A_BLOCK))
    return painting


def tiles_of(scene: Scene, grid: Grid) -> Tiles:
    """Sort the scene's shapes into the tiles that they reach.

    A tile is bent by the warp at its centre; how much more or less its corners are bent is
    bounded by the slope of the warp.
    """
    shape = tuple(-(-n // TILE) for n in grid.shape)
    spacing = np.array(grid.spacing_mm)
    edge = 1.5 * float(spacing.max())  # an edge's partial volume reaches this far
    margin = scene.warp_mm + edge
    corners = np.stack(
        [grid.lps_to_index(scene.low - margin), grid.lps_to_index(scene.high + margin)]
    )
    low, high = corners.min(axis=0), corners.max(axis=0)
    top = np.array(shape) - 1
    begin = np.floor(np.clip(low / TILE, -1, top + 1)).astype(np.int64).clip(0, None)
    end = np.floor(np.clip(high / TILE, -1, top + 1)).astype(np.int64).clip(None, top)
    half = 0.5 * TILE * spacing[::-1]  # of a tile along x, y, z
    steepest = 3.75 / scene.warp_scale_mm * float(half.sum())
    reach = half + edge + scene.warp_mm * min(2.0, steepest)
    first, members = sort_into_tiles(
        begin, end, np.array(shape), spacing, np.array(grid.origin_lps), reach,
        scene.low, scene.high, scene.whole, scene.warp_mm, scene.warp_scale_mm, scene.seed,
    )  # fmt: skip
    return Tiles(cast(tuple[int, int, int], shape), first, members)


def where_painted(scene: Scene, points_lps: npt.ArrayLike) -> FloatArray:
    """Where points of the scene's shapes come to lie in the painted body.

    A voxel at ``p`` shows what the shapes have at ``p + warp(p)``; this solves for ``p`` by
    fixed-point iteration, which converges because the warp is gentle.

    Parameters
    ----------
    scene : Scene
        Its warp counts.
    points_lps : array_like, shape (N, 3)
        In the frame that the shapes were given in, LPS mm.

    Returns
    -------
    ndarray, shape (N, 3)
        LPS mm, to 0.001 mm.
    """
    targets = np.asarray(points_lps, np.float64).reshape(-1, 3)
    places = targets.copy()
    if scene.warp_mm > 0:
        for place, target in zip(places, targets, strict=True):
            for _ in range(_WARP_STEPS):
                x, y, z = place
                bend = np.array(warp(x, y, z, scene.warp_scale_mm, scene.seed), np.float64)
                place[:] = target - scene.warp_mm * bend
    return np.round(places, 3)
