"""The attention of video diffusion: along the depth at every place, and linear within a slice.

Ho et al., Video Diffusion Models, NeurIPS 2022 (arXiv 2204.03458), in the form that
video-diffusion-pytorch gave it and X-ray2CTPA took over: what was time there is the axis I here.
All three add what they find to what they were given.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

__all__ = [
    "Attention",
    "DepthAttention",
    "DepthPositions",
    "RelativePositionBias",
    "SliceAttention",
    "SpatialLinearAttention",
    "rotation",
]

_BASE = 10_000.0


class DepthPositions(NamedTuple):
    """Where the slices lie, for every `DepthAttention` of a pass.

    Attributes
    ----------
    cosine, sine : Tensor, shape (n, d)
        Of the angle by which each slice turns the features of queries and keys.
    bias : Tensor, shape (heads, n, n)
        What is added to the similarity of slice i, that asks, with slice j.
    """

    cosine: Tensor
    sine: Tensor
    bias: Tensor


def rotation(n: int, features: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the rotary embedding (Su et al., 2021, arXiv 2104.09864).

    Features 2k and 2k + 1 of slice i are a point in a plane, turned by
    ``i * 10000 ** (-2k / features)``.

    Returns
    -------
    cosine, sine : Tensor, shape (n, features)
    """
    pair = torch.arange(0, features, 2, device=device, dtype=torch.float32)
    place = torch.arange(n, device=device, dtype=torch.float32)
    angle = torch.outer(place, _BASE ** (-pair / features)).repeat_interleave(2, dim=1)
    return angle.cos(), angle.sin()


def _turned(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """The first features of each head turned, the others as they are."""
    count = cosine.shape[-1]
    head, rest = x[..., :count], x[..., count:]
    across = torch.stack((-head[..., 1::2], head[..., ::2]), dim=-1).flatten(-2)
    turned = head * cosine.to(x.dtype) + across * sine.to(x.dtype)
    return turned if not rest.shape[-1] else torch.cat((turned, rest), dim=-1)


class RelativePositionBias(nn.Module):
    """A learned number for every head and every class of distance between slices.

    Raffel et al., JMLR 2020 (T5, arXiv 1910.10683): half of the classes for each direction; near
    distances have one each, farther ones share them on a logarithmic scale.

    Parameters
    ----------
    heads : int
        Heads of the attention.
    classes : int
        Of distances, both directions together.
    farthest : int
        Slices; what lies beyond is in the last class.
    """

    def __init__(self, heads: int, classes: int = 32, farthest: int = 32) -> None:
        super().__init__()
        self.classes = classes
        self.farthest = farthest
        self.table = nn.Embedding(classes, heads)

    def forward(self, n: int) -> Tensor:
        """The bias (heads, n, n)."""
        place = torch.arange(n, device=self.table.weight.device)
        values: Tensor = self.table(self.class_of(place[None, :] - place[:, None]))
        return values.permute(2, 0, 1)

    def class_of(self, offset: Tensor) -> Tensor:
        """The class of the offset of a key from its query."""
        half = self.classes // 2
        exact = half // 2
        distance = offset.abs()
        far = torch.log(distance.clamp_min(1).float() / exact) / math.log(self.farthest / exact)
        shared = (exact + (far * (half - exact)).long()).clamp_max(half - 1)
        return torch.where(distance < exact, distance, shared) + half * (offset > 0).long()


class Attention(nn.Module):
    """Softmax attention among the tokens of a sequence, without biases.

    Parameters
    ----------
    dim : int
        Features of a token.
    heads, head_dim : int
        Heads, and features of each.
    """

    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * heads * head_dim, bias=False)
        self.out = nn.Linear(heads * head_dim, dim, bias=False)

    def forward(self, tokens: Tensor, positions: DepthPositions | None = None) -> Tensor:
        """What each token (N, n, dim) gathers from the others."""
        split = self.qkv(tokens).unflatten(-1, (3, self.heads, -1))
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)  # each (N, heads, n, head_dim)
        bias = None
        if positions is not None:
            query = _turned(query, positions.cosine, positions.sine)
            key = _turned(key, positions.cosine, positions.sine)
            bias = positions.bias.to(query.dtype)[None]
        found = scaled_dot_product_attention(query, key, value, attn_mask=bias)
        out: Tensor = self.out(found.transpose(1, 2).flatten(2))
        return out


class DepthAttention(nn.Module):
    """Every place of the slices looks along the axis I (B, C, I, P, L)."""

    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, bias=False)
        self.attention = Attention(dim, heads, head_dim)

    def forward(self, x: Tensor, positions: DepthPositions) -> Tensor:
        """`x` and what was found."""
        tokens = self.norm(x.permute(0, 3, 4, 2, 1))
        found: Tensor = self.attention(tokens.flatten(0, 2), positions)
        return x + found.reshape(tokens.shape).permute(0, 4, 3, 1, 2)


class SliceAttention(nn.Module):
    """Every place looks at all others of its slice: for the coarsest level."""

    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, bias=False)
        self.attention = Attention(dim, heads, head_dim)

    def forward(self, x: Tensor) -> Tensor:
        """`x` and what was found."""
        tokens = self.norm(x.permute(0, 2, 3, 4, 1))
        found: Tensor = self.attention(tokens.flatten(2, 3).flatten(0, 1))
        return x + found.reshape(tokens.shape).permute(0, 4, 1, 2, 3)


class SpatialLinearAttention(nn.Module):
    """Attention within a slice at a cost that grows with its places, not with their square.

    Shen et al., WACV 2021 (arXiv 1812.01243): queries are normalised over features, keys over
    places, and keys and values meet first.
    """

    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.head_dim = head_dim
        self.norm = nn.LayerNorm(dim, bias=False)
        self.qkv = nn.Conv3d(dim, 3 * heads * head_dim, 1, bias=False)
        self.out = nn.Conv3d(heads * head_dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`x` and what was found."""
        rows, cols = x.shape[-2:]
        normed = self.norm(x.movedim(1, -1)).movedim(-1, 1)
        split = self.qkv(normed).flatten(3).unflatten(1, (3, self.heads, self.head_dim))
        query, key, value = split.movedim(4, 2).unbind(1)  # each (B, I, heads, head_dim, places)
        query = query.softmax(dim=-2) * self.head_dim**-0.5
        context = key.softmax(dim=-1) @ value.transpose(-1, -2)
        found = (context.transpose(-1, -2) @ query).flatten(2, 3)  # (B, I, features, places)
        out: Tensor = self.out(found.transpose(1, 2).unflatten(-1, (rows, cols)))
        return x + out
