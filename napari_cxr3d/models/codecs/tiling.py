"""Running a network over a volume in overlapping tiles that blend into each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import Tensor

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.progress import CancelToken, Progress, ProgressCallback

__all__ = ["run_in_tiles"]


def run_in_tiles(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    grid: Sequence[int],
    *,
    tile: int | Sequence[int],
    overlap: int,
    device: str | torch.device,
    out_device: str | torch.device | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Tensor:
    """Apply a function tile by tile.

    The tiles lie on a coarse grid that input and output are whole multiples of. Where tiles
    overlap their weights are ramps that add up to one. The weights are a product of one
    factor an axis, and the tiles a product of intervals, so the sum of all weights is known
    beforehand and no second volume is needed to count them.

    Parameters
    ----------
    function : callable
        (B, C, I, P, L) to (B, C', I', P', L'); the ratio of the axes is the same everywhere.
    x : Tensor, shape (B, C, I, P, L)
        Input, on any device.
    grid : sequence of 3 int
        Cells along the axes; I, P, L are multiples of them.
    tile : int or sequence of 3 int
        Edge of a tile in cells, or its edges along the axes.
    overlap : int
        What neighbours share along every axis, in cells.
    device : str or torch.device
        Where the function works.
    out_device : str or torch.device, optional
        Where the result is put together; where `x` is if None.
    progress : callable, optional
        Told of every tile.
    cancel : CancelToken, optional
        Looked at before every tile.

    Raises
    ------
    InvalidInputError
        If the overlap is not smaller than the tile.
    Cancelled
        If the token was cancelled.
    """
    tiles = (tile,) * 3 if isinstance(tile, int) else tuple(tile)
    if not 0 <= overlap < min(tiles):
        raise InvalidInputError(
            "Tiles must be larger than their overlap",
            why=f"they have {tile} cells and share {overlap}",
        )
    zoom_in = [n // cells for n, cells in zip(x.shape[-3:], grid, strict=True)]
    starts = [_starts(cells, edge, overlap) for cells, edge in zip(grid, tiles, strict=True)]
    edges = [min(edge, cells) for cells, edge in zip(grid, tiles, strict=True)]
    places = list(product(*(range(len(s)) for s in starts)))
    weights: list[list[Tensor]] = []
    out: Tensor | None = None
    for done, place in enumerate(places):
        if cancel is not None:
            cancel.raise_if_cancelled()
        begins = [s[k] for s, k in zip(starts, place, strict=True)]
        part = function(x[_region(begins, edges, zoom_in)].to(device))
        zoom = [n // edge for n, edge in zip(part.shape[-3:], edges, strict=True)]
        if out is None:
            where = x.device if out_device is None else torch.device(out_device)
            whole = [cells * z for cells, z in zip(grid, zoom, strict=True)]
            out = torch.zeros((*part.shape[:2], *whole), dtype=part.dtype, device=where)
            weights = [
                [w.to(out) for w in _weights(s, edge, cells, z)]
                for s, edge, cells, z in zip(starts, edges, grid, zoom, strict=True)
            ]
        wi, wp, wl = (w[k] for w, k in zip(weights, place, strict=True))
        out[_region(begins, edges, zoom)] += (
            part.to(out.device) * wi[:, None, None] * wp[:, None] * wl
        )
        if progress is not None:
            progress(Progress(done + 1, len(places), f"tile {done + 1} of {len(places)}"))
    assert out is not None  # there is at least one tile
    return out


def _starts(cells: int, tile: int, overlap: int) -> list[int]:
    """First cells of the tiles along one axis; the last tile ends with the axis."""
    if cells <= tile:
        return [0]
    return [*range(0, cells - tile, tile - overlap), cells - tile]


def _region(begins: Sequence[int], edges: Sequence[int], zoom: Sequence[int]) -> tuple[slice, ...]:
    axes = (slice(b * z, (b + e) * z) for b, e, z in zip(begins, edges, zoom, strict=True))
    return (slice(None), slice(None), *axes)


def _weights(starts: Sequence[int], edge: int, cells: int, zoom: int) -> list[Tensor]:
    """Weights of each tile along one axis, that add up to one in every voxel."""
    raw = []
    for k, start in enumerate(starts):
        position = torch.arange(edge * zoom, dtype=torch.float64) + 0.5
        weight = torch.ones(edge * zoom, dtype=torch.float64)
        if k > 0 and (shared := (starts[k - 1] + edge - start) * zoom) > 0:
            weight = torch.minimum(weight, position / shared)
        if k + 1 < len(starts) and (shared := (start + edge - starts[k + 1]) * zoom) > 0:
            weight = torch.minimum(weight, (edge * zoom - position) / shared)
        raw.append(weight)
    total = torch.zeros(cells * zoom, dtype=torch.float64)
    for start, weight in zip(starts, raw, strict=True):
        total[start * zoom : (start + edge) * zoom] += weight
    return [w / total[s * zoom : (s + edge) * zoom] for s, w in zip(starts, raw, strict=True)]
