"""The codec that needs no training: an orthonormal Haar wavelet."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.codecs.base import Codec

__all__ = ["HaarCodec"]

_MAX_LEVELS = 5


class HaarCodec(Codec):
    """Three-dimensional Haar wavelet transform (Mallat, IEEE PAMI 11, 674-693, 1989).

    Each level splits the coarsest band into one of half the size and seven of detail. The
    finer levels' details are folded (space to depth) to the coarsest grid, so the latent is
    one tensor of ``8 ** levels`` channels, the coarsest band first. The transform is linear
    and orthonormal: it keeps the norm, loses nothing, and its adjoint is its inverse.

    It is the latent of wavelet diffusion (Friedrich et al., 2024, arXiv 2402.19043), the
    lossless baseline of a learned codec, and a space in which projections stay exactly linear.

    Parameters
    ----------
    levels : int
        Halvings, 1 to 5; the latent's axes are ``2 ** levels`` times shorter.
    in_channels : int
        Channels of a volume.

    Raises
    ------
    InvalidInputError
        If there are too few or too many levels.
    """

    _haar: Tensor

    def __init__(self, levels: int = 2, in_channels: int = 1) -> None:
        if type(levels) is not int or not 1 <= levels <= _MAX_LEVELS or in_channels < 1:
            raise InvalidInputError(
                "The wavelet cannot be built",
                why=f"it has {levels} levels and {in_channels} channels",
                remedy=f"choose 1 to {_MAX_LEVELS} levels and a channel or more",
            )
        super().__init__(
            factors=2**levels, in_channels=in_channels, latent_channels=in_channels * 8**levels
        )
        self.levels = levels
        # Band k, voxel j: the signs of a product of three (1, 1) or (1, -1).
        signs = [[(-1.0) ** (k & j).bit_count() for j in range(8)] for k in range(8)]
        matrix = torch.tensor(signs) / 8**0.5
        self.register_buffer("_haar", matrix, persistent=False)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The coefficients, and zeros: nothing is uncertain."""
        bands = self._analyse(x, self.levels)
        return bands, torch.zeros_like(bands)

    def averages(self, z: Tensor, levels: int) -> Tensor:
        """Means of blocks of voxels, from the coarsest levels of a latent.

        Parameters
        ----------
        z : Tensor, shape (B, C * 8**levels or more, i, p, l)
            A scaled latent, or its first channels.
        levels : int
            How many of its levels; the blocks have ``2 ** (self.levels - levels)`` voxels' edge.
        """
        blocks = 2.0 ** (self.levels - levels)
        averages: Tensor = self._synthesise(z / self.scale, levels) / blocks**1.5
        return averages

    def _decode(self, z: Tensor) -> Tensor:
        return self._synthesise(z, self.levels)

    def _analyse(self, x: Tensor, levels: int) -> Tensor:
        if levels == 0:
            return x
        channels = x.shape[1]
        bands = self._mix(_fold(x, 2))
        coarse = self._analyse(bands[:, :channels], levels - 1)
        detail = _fold(bands[:, channels:], 2 ** (levels - 1))
        return torch.cat([coarse, detail], dim=1)

    def _synthesise(self, z: Tensor, levels: int) -> Tensor:
        if levels == 0:
            return z
        coarse_channels = self.in_channels * 8 ** (levels - 1)
        coarse = self._synthesise(z[:, :coarse_channels], levels - 1)
        detail = _unfold(z[:, coarse_channels:], 2 ** (levels - 1))
        return _unfold(self._mix(torch.cat([coarse, detail], dim=1)), 2)

    def _mix(self, x: Tensor) -> Tensor:
        """Blocks of eight voxels to eight bands, or back: the matrix is its own inverse."""
        eight = x.reshape(x.shape[0], 8, self.in_channels, *x.shape[2:])
        return torch.einsum("kj,bjcxyz->bkcxyz", self._haar.to(x.dtype), eight).flatten(1, 2)


def _fold(x: Tensor, n: int) -> Tensor:
    """Space to depth: (B, C, I, P, L) to (B, n**3 * C, I/n, P/n, L/n), positions slowest."""
    from einops import rearrange

    return rearrange(x, "b c (i u) (p v) (l w) -> b (u v w c) i p l", u=n, v=n, w=n)


def _unfold(x: Tensor, n: int) -> Tensor:
    """Depth to space, the inverse of `_fold`."""
    from einops import rearrange

    return rearrange(x, "b (u v w c) i p l -> b c (i u) (p v) (l w)", u=n, v=n, w=n)
