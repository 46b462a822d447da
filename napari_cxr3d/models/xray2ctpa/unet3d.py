"""The U-Net of X-ray2CTPA: convolutions within slices, attention between them.

The form is that of video-diffusion-pytorch's ``Unet3D``, which X-ray2CTPA took over (Ho et al.,
Video Diffusion Models, NeurIPS 2022, arXiv 2204.03458): kernels of (1, 3, 3), slices made smaller
and the axis I never, linear attention in the slice and softmax attention along I on every level,
time and condition as a scale and shift in every residual block.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.xray2ctpa.attention import (
    DepthAttention,
    DepthPositions,
    RelativePositionBias,
    SliceAttention,
    SpatialLinearAttention,
    rotation,
)

__all__ = ["Block", "ResnetBlock", "Unet3d"]

_LONGEST_PERIOD = 10_000.0
_FIRST_KERNEL = 7
_ROTATED = 32  # features of a head that the rotary embedding turns, at most


class Block(nn.Module):
    """Convolution within slices, group normalisation, scale and shift, SiLU."""

    def __init__(self, dim_in: int, dim_out: int, groups: int) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(dim_in, dim_out, (1, 3, 3), padding=(0, 1, 1))
        self.norm = nn.GroupNorm(groups, dim_out)
        self.activation = nn.SiLU()

    def forward(self, x: Tensor, scale_shift: Tensor | None = None) -> Tensor:
        """Features (B, dim_out, I, P, L); `scale_shift` is (B, 2 * dim_out) or nothing."""
        x = self.norm(self.convolution(x))
        if scale_shift is not None:
            scale, shift = scale_shift[:, :, None, None, None].chunk(2, dim=1)
            x = x * (scale + 1) + shift
        out: Tensor = self.activation(x)
        return out


class ResnetBlock(nn.Module):
    """Two blocks and the way around them; the first is scaled and shifted by time and condition.

    Parameters
    ----------
    dim_in, dim_out : int
        Channels.
    told : int
        Length of the vector of time and condition; 0 for a block that is told nothing.
    groups : int
        Of the normalisation.
    """

    def __init__(self, dim_in: int, dim_out: int, told: int, groups: int) -> None:
        super().__init__()
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(told, 2 * dim_out)) if told else None
        self.block1 = Block(dim_in, dim_out, groups)
        self.block2 = Block(dim_out, dim_out, groups)
        self.around = nn.Conv3d(dim_in, dim_out, 1) if dim_in != dim_out else nn.Identity()

    def forward(self, x: Tensor, told: Tensor | None = None) -> Tensor:
        """Features (B, dim_out, I, P, L)."""
        scale_shift = None if self.modulation is None else self.modulation(told)
        out: Tensor = self.block2(self.block1(x, scale_shift)) + self.around(x)
        return out


class _Level(nn.Module):
    """Two residual blocks, then attention within the slices and between them."""

    def __init__(
        self, dim_in: int, dim_out: int, told: int, heads: int, head_dim: int, groups: int
    ) -> None:
        super().__init__()
        self.block1 = ResnetBlock(dim_in, dim_out, told, groups)
        self.block2 = ResnetBlock(dim_out, dim_out, told, groups)
        self.within = SpatialLinearAttention(dim_out, heads, head_dim)
        self.between = DepthAttention(dim_out, heads, head_dim)

    def forward(self, x: Tensor, told: Tensor, positions: DepthPositions) -> Tensor:
        x = self.block2(self.block1(x, told), told)
        out: Tensor = self.between(self.within(x), positions)
        return out


class _StepEmbedding(nn.Module):
    """Sines and cosines of the diffusion's step, and two layers on them."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.dim = dim
        self.layers = nn.Sequential(nn.Linear(dim, out), nn.GELU(), nn.Linear(out, out))

    def forward(self, step: Tensor) -> Tensor:
        half = self.dim // 2
        exponent = torch.arange(half, device=step.device) / max(1, half - 1)
        angle = step.float()[:, None] * _LONGEST_PERIOD**-exponent
        out: Tensor = self.layers(torch.cat((angle.sin(), angle.cos()), dim=-1))
        return out


class Unet3d(nn.Module):
    """See the module.

    Parameters
    ----------
    channels : int
        Channels of a latent.
    dim : int
        Channels of the first level, even, a multiple of `groups`.
    mults : sequence of int
        Times so many on each level; every level but the last halves the slices.
    condition : int
        Numbers of the X-ray's embedding.
    heads, head_dim : int
        Of the attentions.
    groups : int
        Of the group normalisations.

    Attributes
    ----------
    null_condition : Parameter, shape (1, condition)
        What stands for the embedding where there is none: a learned vector.

    Raises
    ------
    InvalidInputError
        If these do not make a network.
    """

    def __init__(
        self,
        channels: int = 4,
        dim: int = 32,
        mults: Sequence[int] = (1, 2, 4, 8),
        condition: int = 512,
        heads: int = 8,
        head_dim: int = 32,
        groups: int = 8,
    ) -> None:
        super().__init__()
        if min(channels, dim, condition, heads, head_dim, groups, *mults, len(mults)) < 1 or (
            dim % groups or dim % 2 or head_dim % 2
        ):
            raise InvalidInputError(
                "The U-Net cannot be built",
                why=f"dim {dim} must be even and a multiple of {groups} groups, head_dim "
                f"{head_dim} even, and every number positive",
            )
        self.channels = channels
        self.condition = condition
        self.factor = 2 ** (len(mults) - 1)
        self._rotated = min(_ROTATED, head_dim)
        time = 4 * dim
        told = time + condition
        sizes = [dim, *(dim * m for m in mults)]
        pairs = list(pairwise(sizes))
        attention = {"heads": heads, "head_dim": head_dim}

        self.null_condition = nn.Parameter(torch.randn(1, condition))
        self.step = _StepEmbedding(dim, time)
        self.position_bias = RelativePositionBias(heads)
        self.first = nn.Conv3d(
            channels,
            dim,
            (1, _FIRST_KERNEL, _FIRST_KERNEL),
            padding=(0, _FIRST_KERNEL // 2, _FIRST_KERNEL // 2),
        )
        self.first_attention = DepthAttention(dim, **attention)
        self.down, self.smaller = nn.ModuleList(), nn.ModuleList()
        self.up, self.larger = nn.ModuleList(), nn.ModuleList()
        for k, (a, b) in enumerate(pairs):
            last = k == len(pairs) - 1
            self.down.append(_Level(a, b, told, groups=groups, **attention))
            self.smaller.append(
                nn.Identity() if last else nn.Conv3d(b, b, (1, 4, 4), (1, 2, 2), (0, 1, 1))
            )
        middle = sizes[-1]
        self.middle1 = ResnetBlock(middle, middle, told, groups)
        self.middle_within = SliceAttention(middle, **attention)
        self.middle_between = DepthAttention(middle, **attention)
        self.middle2 = ResnetBlock(middle, middle, told, groups)
        for k, (a, b) in enumerate(reversed(pairs)):
            last = k == len(pairs) - 1
            self.up.append(_Level(2 * b, a, told, groups=groups, **attention))
            self.larger.append(
                nn.Identity() if last else nn.ConvTranspose3d(a, a, (1, 4, 4), (1, 2, 2), (0, 1, 1))
            )
        self.last_block = ResnetBlock(2 * dim, dim, 0, groups)
        self.last = nn.Conv3d(dim, channels, 1)

    def forward(self, x: Tensor, step: Tensor, condition: Tensor, shown: Tensor) -> Tensor:
        """The objective's estimate, of the shape of `x`.

        Parameters
        ----------
        x : Tensor, shape (B, channels, I, P, L)
            The state; P and L multiples of ``2 ** (levels - 1)``.
        step : Tensor, shape (B,)
            Of the diffusion, from 0.
        condition : Tensor, shape (B, condition)
            Embeddings of the X-rays.
        shown : Tensor, shape (B,)
            1 where the embedding is shown, 0 where the null vector stands for it.

        Raises
        ------
        InvalidInputError
            If the slices cannot be halved so often.
        """
        if any(n % self.factor for n in x.shape[-2:]):
            raise InvalidInputError(
                "The latent does not fit the U-Net",
                why=f"slices of {tuple(x.shape[-2:])} are not multiples of {self.factor}",
            )
        n = x.shape[2]
        positions = DepthPositions(*rotation(n, self._rotated, x.device), self.position_bias(n))
        embedding = torch.where(
            shown[:, None] > 0.5, condition.to(self.null_condition.dtype), self.null_condition
        )
        told = torch.cat((self.step(step), embedding), dim=-1)

        x = first = self.first(x)
        x = self.first_attention(x, positions)
        passed = []
        for level, smaller in zip(self.down, self.smaller, strict=True):
            x = level(x, told, positions)
            passed.append(x)
            x = smaller(x)
        x = self.middle_between(self.middle_within(self.middle1(x, told)), positions)
        x = self.middle2(x, told)
        for level, larger in zip(self.up, self.larger, strict=True):
            x = larger(level(torch.cat((x, passed.pop()), dim=1), told, positions))
        out: Tensor = self.last(self.last_block(torch.cat((x, first), dim=1)))
        return out
