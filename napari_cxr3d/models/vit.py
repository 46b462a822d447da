"""Vision transformers without a class token, as X-WIN and I-JEPA use them.

Dosovitskiy et al., ICLR 2021 (arXiv 2010.11929); Assran et al., I-JEPA, CVPR 2023 (arXiv
2301.08243).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_cxr3d.errors import InvalidInputError

__all__ = ["TransformerBlock", "VisionTransformer", "initialise", "position_embedding"]


def position_embedding(rows: int, cols: int, dim: int) -> Tensor:
    """Sines and cosines of the patches' places, float32 (rows * cols, dim).

    Half of the numbers tell the row, half the column, each as in Vaswani et al., 2017.

    Raises
    ------
    InvalidInputError
        If `dim` is no multiple of 4.
    """
    if dim % 4:
        raise InvalidInputError(
            "The width of a transformer must be a multiple of 4", why=f"it is {dim}"
        )
    frequencies = 10000.0 ** -(torch.arange(dim // 4, dtype=torch.float32) / (dim // 4))
    row, col = torch.meshgrid(torch.arange(rows), torch.arange(cols), indexing="ij")
    parts = []
    for place in (row.reshape(-1, 1), col.reshape(-1, 1)):
        angles = place * frequencies
        parts += [angles.sin(), angles.cos()]
    return torch.cat(parts, dim=1)


def initialise(module: nn.Module) -> None:
    """Normal weights of 0.02, cut at two deviations, and biases of 0 (I-JEPA)."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02, a=-0.04, b=0.04)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class TransformerBlock(nn.Module):
    """Attention and a two-layer network, each with a norm before and a path around.

    Parameters
    ----------
    dim, heads : int
        Width and attention heads.
    ratio : float
        Hidden width of the network, in widths.
    """

    def __init__(self, dim: int, heads: int, ratio: float = 4.0) -> None:
        super().__init__()
        if dim % heads:
            raise InvalidInputError(
                "The width of a transformer must be whole heads", why=f"{dim} in {heads}"
            )
        hidden = round(dim * ratio)
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.join = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.widen = nn.Linear(dim, hidden)
        self.narrow = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, N, dim) to tokens."""
        b, n, dim = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(b, n, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        seen = functional.scaled_dot_product_attention(q, k, v)
        x = x + self.join(seen.transpose(1, 2).reshape(b, n, dim))
        out: Tensor = x + self.narrow(functional.gelu(self.widen(self.norm2(x))))
        return out


class VisionTransformer(nn.Module):
    """Patch tokens of grey pictures.

    Parameters
    ----------
    image_size : tuple of 2 int
        Rows and columns of the pictures.
    patch_size : int
        Edge of a patch in pixels.
    dim, depth, heads : int
        Width, blocks and attention heads; ViT-B is 768, 12, 12, ViT-L 1024, 24, 16.
    learned_position : bool
        Whether what is added to the sines of the patches' places is trained; see
        `napari_cxr3d.models.vit_hub`.
    """

    def __init__(
        self,
        *,
        image_size: tuple[int, int],
        patch_size: int,
        dim: int,
        depth: int,
        heads: int,
        learned_position: bool = False,
    ) -> None:
        super().__init__()
        rows, cols = (int(n) for n in image_size)
        if rows % patch_size or cols % patch_size:
            raise InvalidInputError(
                "The pictures of a transformer must be whole patches",
                why=f"{rows} x {cols} pixels are no multiple of {patch_size}",
            )
        self.image_size = (rows, cols)
        self.patch_size = patch_size
        self.grid = (rows // patch_size, cols // patch_size)
        self.dim = dim
        self.patches = nn.Linear(patch_size * patch_size, dim)
        self.blocks = nn.ModuleList(TransformerBlock(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.position: Tensor
        self.register_buffer("position", position_embedding(*self.grid, dim), persistent=False)
        self.position_change: nn.Parameter | None = None
        if learned_position:
            self.position_change = nn.Parameter(torch.zeros(self.grid[0] * self.grid[1], dim))
        initialise(self)
        for index, block in enumerate(self.blocks, start=1):  # I-JEPA, BEiT: deeper is smaller
            assert isinstance(block, TransformerBlock)
            for layer in (block.join, block.narrow):
                layer.weight.data.div_(math.sqrt(2.0 * index))

    def forward(self, pictures: Tensor, shown: Tensor | None = None) -> Tensor:
        """Tokens of pictures.

        Parameters
        ----------
        pictures : Tensor, shape (B, rows, cols)
            Standardised.
        shown : Tensor of int64, shape (B, M), optional
            Which patches the transformer sees; all, row by row, when None.

        Returns
        -------
        Tensor, shape (B, N or M, dim)
        """
        b, (rows, cols), p = len(pictures), self.grid, self.patch_size
        patches = pictures.reshape(b, rows, p, cols, p).transpose(2, 3).reshape(b, -1, p * p)
        x = self.patches(patches) + self.position
        if self.position_change is not None:
            x = x + self.position_change
        if shown is not None:
            x = x.gather(1, shown[..., None].expand(-1, -1, x.shape[-1]))
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.norm(x)
        return out
