"""Painting scenes on an NVIDIA GPU, many at a time; importing it imports numba's CUDA side.

The voxel code is `napari_cxr3d.phantom.painting_kernels`, compiled for the GPU: one block of
threads paints one tile of one scene. The compiler fuses products and sums there, which rounds
them once instead of twice, so a voxel whose centre lies on a surface to within rounding may
get another label than on a processor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import cuda

from napari_cxr3d.errors import BackendUnavailableError, InvalidInputError
from napari_cxr3d.imaging import Grid
from napari_cxr3d.phantom.painting import Painting, tiles_of
from napari_cxr3d.phantom.painting_kernels import TILE, paint_voxel
from napari_cxr3d.phantom.scene import Scene

__all__ = ["paint_batch"]


def paint_batch(scenes: Sequence[Scene], grid: Grid, *, device: int = 0) -> list[Painting]:
    """Paint scenes on one GPU in one launch.

    Parameters
    ----------
    scenes : sequence of Scene
        What to paint.
    grid : Grid
        Where the voxels lie, the same for all.
    device : int
        Number of the CUDA device.

    Returns
    -------
    list of Painting
        One for each scene, in the computer's own memory.

    Raises
    ------
    InvalidInputError
        If there is no scene.
    BackendUnavailableError
        If numba finds no CUDA device here.
    """
    if not scenes:
        raise InvalidInputError("There is no scene to paint")
    if not cuda.is_available():
        raise BackendUnavailableError(
            "The phantom cannot be painted on CUDA",
            why="numba finds no CUDA device or toolkit",
            remedy="paint on the device cpu, or see `cxr3d doctor`",
        )
    tiles = [tiles_of(scene, grid) for scene in scenes]
    shapes = _starts([len(scene) for scene in scenes])
    profiles = _starts([len(scene.profiles) for scene in scenes])
    members = _starts([len(t.members) for t in tiles])
    settings = np.array([[s.warp_mm, s.warp_scale_mm, s.background_hu] for s in scenes])
    count = len(tiles[0].first) - 1
    with cuda.gpus[device]:
        outputs = [
            cuda.device_array((len(scenes), *grid.shape), dtype)
            for dtype in (np.float32, np.uint8, np.uint32)
        ]
        _paint[(count, len(scenes)), TILE**3](
            np.array(tiles[0].shape),
            shapes, profiles, members,
            np.stack([t.first for t in tiles]),
            np.concatenate([t.members for t in tiles]),
            np.array(grid.spacing_mm),
            np.array(grid.origin_lps),
            np.concatenate([s.reals for s in scenes]),
            np.concatenate([s.whole for s in scenes]),
            np.concatenate([s.profiles for s in scenes]),
            np.concatenate([s.low for s in scenes]),
            np.concatenate([s.high for s in scenes]),
            settings,
            np.array([s.seed for s in scenes], np.int64),
            *outputs,
        )  # fmt: skip
        hu, labels, findings = (output.copy_to_host() for output in outputs)
    return [Painting(hu[k], labels[k], findings[k]) for k in range(len(scenes))]


def _starts(lengths: Sequence[int]) -> npt.NDArray[np.int64]:
    """Where each scene's rows begin, and where the last one's end."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


@cuda.jit  # type: ignore[untyped-decorator]
def _paint(
    tiles: Any, shapes: Any, profiles: Any, member_starts: Any, first: Any, members: Any,
    spacing: Any, origin: Any, reals: Any, whole: Any, profile_rows: Any, low: Any, high: Any,
    settings: Any, seeds: Any, hu: Any, labels: Any, findings: Any,
) -> None:  # fmt: skip
    tile, scene, thread = cuda.blockIdx.x, cuda.blockIdx.y, cuda.threadIdx.x
    i = tile // (tiles[1] * tiles[2]) * TILE + thread // (TILE * TILE)
    p = tile // tiles[2] % tiles[1] * TILE + thread // TILE % TILE
    ell = tile % tiles[2] * TILE + thread % TILE
    if i >= hu.shape[1] or p >= hu.shape[2] or ell >= hu.shape[3]:
        return
    a, b = shapes[scene], shapes[scene + 1]
    value, label, bits = paint_voxel(
        i, p, ell, first[scene, tile], first[scene, tile + 1],
        members[member_starts[scene] : member_starts[scene + 1]],
        spacing, origin, reals[a:b], whole[a:b],
        profile_rows[profiles[scene] : profiles[scene + 1]],
        low[a:b], high[a:b], settings[scene], seeds[scene],
    )  # fmt: skip
    hu[scene, i, p, ell] = value
    labels[scene, i, p, ell] = label
    findings[scene, i, p, ell] = bits
