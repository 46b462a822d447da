"""Running a convolutional network over a volume in tiles, and getting what it gives at once.

Two things tie a voxel to others: a convolution to its neighbours, a group normalisation to the
whole volume. Tiles therefore reach beyond what is kept of them, as far as the layers look; and
before a normalisation is applied its mean and variance are summed over all tiles. For that the
layers before it are computed again, tile by tile, instead of being kept: memory is paid for with
time.
Between changes of resolution the whole activation is kept, on its coarser side, so that no more
than one level is computed again.

Multidiffusion's tiled VAE (github.com/pkuliyi2015/multidiffusion-upscaler-for-automatic1111) keeps
all tiles' activations on the CPU between normalisations, or estimates the statistics from a small
picture; this neither needs the memory nor estimates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.progress import CancelToken, Progress, ProgressCallback

__all__ = ["Step", "run_layerwise", "steps_of_blocks"]

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]  # first and last cell an axis


@dataclass(frozen=True, eq=False)
class Step:
    """One thing that is done to a tile.

    Attributes
    ----------
    do : callable, optional
        Tensor to tensor.
    norm : GroupNorm, optional
        In place of `do`: a normalisation over the whole volume.
    keep : bool
        What `do` makes is put aside, and the tile left as it is: a branch begins.
    add : bool
        What was put aside last is added: it ends.
    reach : int
        Voxels to each side that an output voxel sees, counted on the finer of the two grids.
    grow, shrink : int
        Output voxels along an axis for one of the input, or input voxels for one of the output.
    """

    do: Callable[[Tensor], Tensor] | None = None
    norm: nn.GroupNorm | None = None
    keep: bool = False
    add: bool = False
    reach: int = 0
    grow: int = 1
    shrink: int = 1


def steps_of_blocks(blocks: Sequence[nn.Module]) -> list[Step]:
    """The blocks of MONAI's ``AutoencoderKL``, without attention, as steps.

    Raises
    ------
    InvalidInputError
        If there is another block among them.
    """
    return [step for block in blocks for step in _steps(block)]


def _steps(block: Any) -> Iterator[Step]:
    from monai.networks.blocks import Convolution, Upsample
    from monai.networks.nets.autoencoderkl import AEKLDownsample, AEKLResBlock

    if isinstance(block, AEKLResBlock):
        silu = Step(_silu)
        yield Step(block.nin_shortcut, keep=True)
        yield from (Step(norm=block.norm1), silu, _convolution(block.conv1))
        yield from (Step(norm=block.norm2), silu, _convolution(block.conv2))
        yield Step(add=True)
    elif isinstance(block, nn.GroupNorm):
        yield Step(norm=block)
    elif isinstance(block, AEKLDownsample):
        yield Step(block, reach=1, shrink=2)
    elif isinstance(block, Upsample):
        for part in block.children():
            if isinstance(part, nn.Upsample):  # an output voxel lies between two, if it is linear
                yield Step(part, reach=int(part.mode != "nearest"), grow=2)
            elif isinstance(part, nn.ConvTranspose3d):  # kernel 2, stride 2
                yield Step(part, grow=2)
            else:
                yield _convolution(part)
    elif isinstance(block, Convolution):
        yield _convolution(block)
    else:
        raise InvalidInputError(f"A {type(block).__name__} cannot be computed in tiles")


def _convolution(block: Any) -> Step:
    return Step(block, reach=(int(block.conv.kernel_size[0]) - 1) // 2)


def _silu(x: Tensor) -> Tensor:
    return nn.functional.silu(x, inplace=True)  # it follows a normalisation, whose result is new


def run_layerwise(
    steps: Sequence[Step],
    x: Tensor,
    grid: Sequence[int],
    *,
    tile: int,
    device: str | torch.device,
    out_device: str | torch.device | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Tensor:
    """What the steps make of a volume, tile by tile; without gradients.

    Parameters
    ----------
    steps : sequence of Step
        In their order; resolutions only grow or only shrink.
    x : Tensor, shape (B, C, I, P, L)
        Input, on any device.
    grid : sequence of 3 int
        Latent voxels along the axes.
    tile : int
        Edge of what is kept of a tile, in latent voxels; coarse levels take larger ones.
    device : str or torch.device
        Where the steps work.
    out_device : str or torch.device, optional
        Where activations between the levels, and the result, are put together; where `x` is if
        None.
    progress : callable, optional
        Told of every tile.
    cancel : CancelToken, optional
        Looked at before every tile.

    Returns
    -------
    Tensor, shape (B, C', I', P', L')
        As at once, but for the order of sums.

    Raises
    ------
    InvalidInputError
        If the tile is no positive number.
    Cancelled
        If the token was cancelled.
    """
    if tile < 1:
        raise InvalidInputError("A tile's edge must be 1 or more", why=f"it is {tile}")
    where = x.device if out_device is None else torch.device(out_device)
    levels = [_Level(part, torch.device(device), where) for part in _parted(steps)]
    zoom = math.prod(step.shrink for step in steps)  # of the input, over the latent's grid
    finest = max(zoom, math.prod(step.grow for step in steps))
    jobs = []
    for level in levels:
        edge = tile * max(1, finest // (2 * zoom * level.grow))
        jobs.append((level, _places(grid, edge), zoom))
        zoom = zoom * level.grow // level.shrink
    done, total = 0, sum(len(places) * (len(level.norms) + 1) for level, places, _ in jobs)

    def tick() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(Progress(done, total, f"tile {done} of {total}"))

    for level, places, zoom in jobs:
        x = level.run(x, places, zoom, tick, cancel or CancelToken())
    return x


def _parted(steps: Sequence[Step]) -> list[list[Step]]:
    """Cut where an activation is smallest: before it grows, and after it shrank."""
    parts: list[list[Step]] = [[]]
    for step in steps:
        if step.grow > 1 and parts[-1]:
            parts.append([])
        parts[-1].append(step)
        if step.shrink > 1:
            parts.append([])
    return [part for part in parts if part]


def _places(grid: Sequence[int], edge: int) -> list[Box]:
    """First and last cells, per axis, of tiles that cover the grid without overlap."""
    axes = [[(a, min(a + edge, n)) for a in range(0, n, edge)] for n in grid]
    return [(i, p, ell) for i, p, ell in product(*axes)]


class _Level:
    """Steps between two changes of resolution."""

    def __init__(self, steps: list[Step], device: torch.device, where: torch.device) -> None:
        self.steps = steps
        self.device = device
        self.where = where
        self.norms = [k for k, step in enumerate(steps) if step.norm is not None]
        self.grow = math.prod(step.grow for step in steps)
        self.shrink = math.prod(step.shrink for step in steps)

    def run(
        self, x: Tensor, places: list[Box], zoom: int, tick: Callable[[], None], cancel: CancelToken
    ) -> Tensor:
        """The whole output: the statistics of one normalisation after the other, then the rest.

        Parameters
        ----------
        x : Tensor
            The whole input, ``zoom`` times the latent's grid.
        places : list of box
            Tiles, in latent voxels.
        """
        known: dict[int, tuple[Tensor, Tensor]] = {}
        for k in self.norms:
            moments = _Moments(self.steps[k].norm)
            for place in places:
                cancel.raise_if_cancelled()
                moments.add(self._tile(x, place, zoom, k, known))
                tick()
            known[k] = moments.scale_and_shift()
        out: Tensor | None = None
        for place in places:
            cancel.raise_if_cancelled()
            part = self._tile(x, place, zoom, len(self.steps), known)
            after = zoom * self.grow // self.shrink
            if out is None:
                whole = [n * self.grow // self.shrink for n in x.shape[-3:]]
                out = torch.empty((*part.shape[:2], *whole), dtype=part.dtype, device=self.where)
            out[_region(place, after)] = part.to(self.where)
            tick()
        assert out is not None  # there is at least one tile
        return out

    def _tile(
        self, x: Tensor, place: Box, zoom: int, upto: int, known: Mapping[int, Any]
    ) -> Tensor:
        """One tile after the first `upto` steps, without what it reached beyond its edges."""
        steps = self.steps[:upto]
        margin = _margin(steps)
        grow, shrink = (math.prod(getattr(s, n) for s in steps) for n in ("grow", "shrink"))
        begins = [max(0, a * zoom - margin) for a, _ in place]
        ends = [min(n, b * zoom + margin) for (_, b), n in zip(place, x.shape[-3:], strict=True)]
        reached = (slice(None), slice(None), *map(slice, begins, ends))
        computed = self._compute(x[reached].to(self.device), steps, known)
        kept = [
            slice((a * zoom - c) * grow // shrink, (b * zoom - c) * grow // shrink)
            for (a, b), c in zip(place, begins, strict=True)
        ]
        return computed[(slice(None), slice(None), *kept)]

    @staticmethod
    def _compute(x: Tensor, steps: Sequence[Step], known: Mapping[int, Any]) -> Tensor:
        aside: list[Tensor] = []
        for k, step in enumerate(steps):
            if step.norm is not None:
                scale, shift = known[k]
                x = torch.addcmul(shift, x.float(), scale).to(x.dtype)
            elif step.add:
                x = x.add_(aside.pop())  # made by a convolution just now
            elif step.keep:
                aside.append(step.do(x))  # type: ignore[misc]
            else:
                x = step.do(x)  # type: ignore[misc]
        return x


def _margin(steps: Sequence[Step]) -> int:
    """Voxels of the input, beyond what is kept of a tile, that the steps look at."""
    margin = 0
    for step in reversed(steps):
        if step.grow > 1:
            margin = -(-(margin + step.reach) // step.grow)
        else:
            margin = margin * step.shrink + step.reach
    shrink = math.prod(step.shrink for step in steps)
    return -(-margin // shrink) * shrink  # a tile begins where a stride does


class _Moments:
    """Mean and variance of every group, from tiles (Chan, Golub and LeVeque, 1983)."""

    def __init__(self, norm: Any) -> None:
        self.norm: nn.GroupNorm = norm
        self.n = 0
        self.mean = self.squares = torch.zeros((), dtype=torch.float64)

    def add(self, x: Tensor) -> None:
        """Count a tile (B, C, i, p, l)."""
        grouped = x.view(len(x), self.norm.num_groups, -1, *x.shape[2:])
        variance, mean = (
            t.double().cpu()
            for t in torch.var_mean(grouped.float(), dim=(2, 3, 4, 5), correction=0)
        )
        n = grouped[0, 0].numel()
        total = self.n + n
        away = mean - self.mean
        self.squares = self.squares + n * variance + away.square() * (self.n * n / total)
        self.mean = self.mean + away * (n / total)
        self.n = total

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """What the normalisation multiplies by and adds, float32 (B, C, 1, 1, 1)."""
        norm = self.norm
        per_group = norm.num_channels // norm.num_groups
        rate = (self.squares / self.n + norm.eps).rsqrt().repeat_interleave(per_group, dim=1)
        mean = self.mean.repeat_interleave(per_group, dim=1)
        weight, bias = (t.detach().double().cpu() for t in (norm.weight, norm.bias))
        scale = rate * weight
        shift = bias - mean * scale
        device = norm.weight.device
        return tuple(t.float().to(device)[:, :, None, None, None] for t in (scale, shift))  # type: ignore[return-value]


def _region(place: Box, zoom: int) -> tuple[slice, ...]:
    return (slice(None), slice(None), *(slice(a * zoom, b * zoom) for a, b in place))
