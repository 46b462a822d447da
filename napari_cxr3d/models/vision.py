"""The vision model of Xray2Xray: a convolutional autoencoder, with a codebook where one is wanted.

Encoder and decoder are those of VQ-GAN (Esser et al., CVPR 2021, arXiv 2012.09841) in MONAI's
form, without attention. It reads any X-ray and always writes line integrals: a realistic picture
and a DRR of the same exposure have to come to the same latent, because what is drawn from both is
the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.codecs.vq import Codebook, Nearest
from napari_cxr3d.models.orbit_model import standardised

__all__ = ["VisionModel"]


class VisionModel(nn.Module):
    """From pictures to a grid of latent cells, and from cells to line integrals.

    A cell has mean 0 and standard deviation 1 over its numbers: without that, agreement between
    cells could be had by making all of them small.

    Parameters
    ----------
    channels : sequence of int
        Feature maps on each level; a cell is ``2 ** (len(channels) - 1)`` pixels wide.
    dim : int
        Numbers of a cell.
    num_res_blocks : int
        Residual blocks on each level.
    norm_num_groups : int
        Groups of the group normalisation; divides every number of channels.
    scale : float
        Line integrals that the network's 1 stands for.
    n_codes : int, optional
        Vectors of a codebook, to which cells are put before they are decoded; none if None.

    Attributes
    ----------
    factor : int
        Pixels of a cell's edge.
    codebook : Codebook or None
        The vectors.

    Raises
    ------
    InvalidInputError
        If these do not make a network.
    """

    def __init__(
        self,
        *,
        channels: Sequence[int],
        dim: int,
        num_res_blocks: int = 1,
        norm_num_groups: int = 8,
        scale: float = 4.0,
        n_codes: int | None = None,
    ) -> None:
        super().__init__()
        if not channels or any(n < 1 or n % norm_num_groups for n in channels):
            raise InvalidInputError(
                "The channels of the vision model must be whole groups",
                why=f"{list(channels)} in groups of {norm_num_groups}",
            )
        if dim < 2 or num_res_blocks < 1 or (n_codes is not None and n_codes < 2):
            raise InvalidInputError(
                "The vision model cannot be built",
                why=f"dim is {dim}, num_res_blocks {num_res_blocks}, n_codes {n_codes}",
            )
        from monai.networks.nets.autoencoderkl import Decoder, Encoder

        self.factor = 2 ** (len(channels) - 1)
        self.dim = dim
        self.scale = scale
        blocks = (num_res_blocks,) * len(channels)
        plain = (False,) * len(channels)
        self.encoder = Encoder(
            2, 1, channels, dim, blocks, norm_num_groups, 1e-6, plain, with_nonlocal_attn=False
        )
        self.decoder = Decoder(
            2, channels, dim, 1, blocks, norm_num_groups, 1e-6, plain, with_nonlocal_attn=False
        )
        self.codebook = None if n_codes is None else Codebook(n_codes, dim)

    def encode(self, pictures: Tensor) -> Tensor:
        """Cells of pictures before they are quantised, float32 (B, N, D), row by row.

        Parameters
        ----------
        pictures : Tensor, shape (B, rows, cols)
            Grey values or line integrals of any scale, bone bright; they are standardised.
        """
        maps = self.encoder(standardised(pictures)[:, None])
        cells = maps.flatten(2).transpose(1, 2).float()
        return functional.layer_norm(cells, (self.dim,), eps=1e-6)

    def decode(self, cells: Tensor, grid: tuple[int, int]) -> Tensor:
        """Line integrals, float32 (B, rows, cols), of cells (B, N, D) that lie on a grid.

        Gradients pass the quantisation as if it were not there.
        """
        if self.codebook is not None:
            cells = cells + (self.nearest(cells).codes - cells).detach()
        maps = cells.transpose(1, 2).reshape(len(cells), self.dim, *grid)
        # Softplus: rays through nothing are not below 0.
        drawn: Tensor = self.decoder(maps)[:, 0].float()
        return functional.softplus(drawn, beta=10.0) * self.scale

    def nearest(self, cells: Tensor) -> Nearest:
        """The codes of cells (B, N, D): vectors (B, N, D) and numbers (B, N).

        Raises
        ------
        InvalidInputError
            If the model has no codebook.
        """
        if self.codebook is None:
            raise InvalidInputError(
                "This vision model has no codebook", remedy="set n_codes to build one with it"
            )
        found = self.codebook.nearest(cells.transpose(1, 2))
        return Nearest(found.codes.transpose(1, 2), found.numbers)

    def code_logits(self, cells: Tensor) -> Tensor:
        """How likely each code is meant, (B, N, K): minus half the squared distance.

        With cells of unit deviation this is a Gaussian about each code.

        Raises
        ------
        InvalidInputError
            If the model has no codebook.
        """
        if self.codebook is None:
            raise InvalidInputError(
                "This vision model has no codebook", remedy="set n_codes to build one with it"
            )
        codes = self.codebook.codes.float()
        # The cells' own lengths are the same for every code, and left out.
        logits: Tensor = torch.matmul(cells.float(), codes.T) - 0.5 * codes.square().sum(1)
        return logits

    def forward(self, pictures: Tensor) -> Tensor:
        """As `encode`."""
        return self.encode(pictures)
