"""The quantised codec: every latent vector is one of a codebook."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.codecs.base import Codec
from napari_cxr3d.models.codecs.kl import Enlarging, KLCodec
from napari_cxr3d.models.codecs.layerwise import Step, steps_of_blocks

__all__ = ["Codebook", "Nearest", "VQCodec"]

_AT_ONCE = 1 << 24  # distances that are compared at a time: 64 MiB


class Nearest(NamedTuple):
    """The codes that lie nearest to latent vectors.

    Attributes
    ----------
    codes : Tensor, shape (B, Z, ...)
        The vectors of the codebook.
    numbers : Tensor of int64, shape (B, ...)
        Their places in it.
    """

    codes: Tensor
    numbers: Tensor


class Codebook(nn.Module):
    """Vectors that follow the latents assigned to them.

    By running means, van den Oord et al., NeurIPS 2017 (arXiv 1711.00937), appendix A.1. Not a
    parameter: no gradient reaches it. Codes that are hardly used begin anew at a latent of
    the batch, as in Jukebox (Dhariwal et al., 2020, arXiv 2005.00341), and so do all at the first
    update. (MONAI's ``EMAQuantizer`` has no such restart, and its first update throws codes that
    no latent chose far away, from where they never come back.)

    Parameters
    ----------
    n_codes : int
        Vectors.
    channels : int
        Numbers of each.

    Attributes
    ----------
    codes : Tensor, shape (K, Z)
        The vectors.
    uses : Tensor, shape (K,)
        Running mean of how many latents of a batch chose each.
    sums : Tensor, shape (K, Z)
        Running mean of those latents' sum.
    updates : Tensor of int64, shape ()
        How often `update` was called; also the seed of what is random in it.
    """

    codes: Tensor
    uses: Tensor
    sums: Tensor
    updates: Tensor

    def __init__(self, n_codes: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("codes", torch.randn(n_codes, channels))
        self.register_buffer("uses", torch.zeros(n_codes))
        self.register_buffer("sums", torch.zeros(n_codes, channels))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def nearest(self, z: Tensor) -> Nearest:
        """The nearest codes, in Euclidean distance, of latents (B, Z, ...)."""
        vectors = _vectors(z)
        lengths = self.codes.float().square().sum(1)
        numbers = torch.cat(
            [
                torch.addmm(lengths, part, self.codes.float().t(), alpha=-2).argmin(1)
                for part in torch.split(vectors, max(1, _AT_ONCE // len(self.codes)))
            ]
        ).reshape(len(z), *z.shape[2:])
        return Nearest(self.vectors_of(numbers).to(z.dtype), numbers)

    def vectors_of(self, numbers: Tensor) -> Tensor:
        """The codes (B, Z, ...) of numbers (B, ...)."""
        return self.codes[numbers].movedim(-1, 1)

    @torch.no_grad()
    def update(self, z: Tensor, *, momentum: float, rare: float) -> None:
        """Follow the latents of a batch; with several processes, of all of theirs.

        Parameters
        ----------
        z : Tensor, shape (B, Z, ...)
            Latents before they are quantised.
        momentum : float
            Part of the old means that is kept, 0 to 1.
        rare : float
            A code that is used less than this part of a fair share begins anew.
        """
        vectors = _vectors(z)
        numbers = self.nearest(z).numbers.flatten()
        uses = torch.bincount(numbers, minlength=len(self.uses)).to(self.uses)
        sums = torch.zeros_like(self.sums).index_add_(0, numbers, vectors)
        generator = torch.Generator().manual_seed(int(self.updates))
        picked = torch.randint(len(vectors), (len(self.uses),), generator=generator)
        fresh = vectors[picked.to(vectors.device)]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(uses)
            torch.distributed.all_reduce(sums)
            torch.distributed.broadcast(fresh, 0)
        self.uses.lerp_(uses, 1 - momentum)
        self.sums.lerp_(sums, 1 - momentum)
        share = uses.sum() / len(uses)  # each code's, were all used alike
        anew = (self.uses < rare * share) | (self.updates == 0)
        self.uses[anew] = share
        self.sums[anew] = share * fresh[anew]
        self.codes.copy_(self.sums / self.uses[:, None])
        self.updates += 1


class VQCodec(Codec):
    """A codec with a codebook, the 3D VQ-GAN beside which X-ray2CTPA stands.

    Encoder and decoder are those of `KLCodec` (Esser et al., CVPR 2021, arXiv 2012.09841, have the
    same). As in Rombach et al. (CVPR 2022, section 3.1 and appendix G) quantisation belongs to the
    decoder: `encode` gives the latents before it, which a generative model learns as they are, and
    `decode` first puts every vector to its nearest code. So the posterior has no spread, and small
    errors of a generated latent vanish. Gradients pass a quantisation as if it were not there.

    Parameters
    ----------
    n_codes : int
        Vectors of the codebook.
    channels, latent_channels, num_res_blocks, norm_num_groups, in_channels, norm_eps
        As of `KLCodec`.
    use_checkpoint, enlarging
        As of `KLCodec`.

    Raises
    ------
    InvalidInputError
        If these do not make a network.
    """

    def __init__(
        self,
        n_codes: int = 512,
        channels: Sequence[int] = (32, 64, 128),
        latent_channels: int = 4,
        num_res_blocks: int | Sequence[int] = 1,
        norm_num_groups: int = 8,
        in_channels: int = 1,
        norm_eps: float = 1e-6,
        use_checkpoint: bool = False,
        enlarging: Enlarging = "nearest",
    ) -> None:
        if type(n_codes) is not int or n_codes < 2:
            raise InvalidInputError(
                "The codec cannot be built", why=f"a codebook of {n_codes} codes tells nothing"
            )
        plain: Any = KLCodec(
            channels=channels, latent_channels=latent_channels, num_res_blocks=num_res_blocks,
            norm_num_groups=norm_num_groups, in_channels=in_channels, norm_eps=norm_eps,
            use_checkpoint=use_checkpoint, enlarging=enlarging,
        )  # fmt: skip
        super().__init__(
            factors=plain.factors, in_channels=in_channels, latent_channels=latent_channels
        )
        self.autoencoder = plain.autoencoder
        del self.autoencoder.quant_conv_log_sigma  # nothing is uncertain
        self.codebook = Codebook(n_codes, latent_channels)
        self.use_checkpoint = use_checkpoint

    @property
    def bits_per_voxel(self) -> float:
        """Bits of the codes' numbers for every voxel of the volume."""
        return math.log2(len(self.codebook.codes)) / math.prod(self.factors)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The latent before it is quantised, without the scale; and zeros."""
        network: Any = self.autoencoder
        z: Tensor = network.quant_conv_mu(self._run(network.encoder, x))
        return z, torch.zeros_like(z)

    def _decode(self, z: Tensor) -> Tensor:
        network: Any = self.autoencoder
        return self._run(network.decoder, network.post_quant_conv(self._quantised(z)))

    def _quantised(self, z: Tensor) -> Tensor:
        return z + (self.codebook.nearest(z).codes - z).detach()

    def nearest(self, z: Tensor) -> Nearest:
        """The codes of latents without the scale, for a commitment loss."""
        return self.codebook.nearest(z)

    def tokens(self, x: Tensor) -> Tensor:
        """A volume as numbers of codes, int64 (B, i, p, l): all that `decode` needs.

        Raises
        ------
        InvalidInputError
            As `encode`.
        """
        self._require_volume(x)
        return self.codebook.nearest(self.posterior(x)[0]).numbers

    def decode_tokens(self, numbers: Tensor) -> Tensor:
        """The volume of what `tokens` gave."""
        return self.decode(self.codebook.vectors_of(numbers) * self.scale)

    def _run(self, network: nn.Module, x: Tensor) -> Tensor:
        if self.use_checkpoint and torch.is_grad_enabled():
            from torch.utils.checkpoint import checkpoint

            out: Tensor = checkpoint(network, x, use_reentrant=False)
            return out
        result: Tensor = network(x)
        return result

    def _steps(self, decoding: bool) -> list[Step]:
        network: Any = self.autoencoder
        if not decoding:
            return steps_of_blocks([*network.encoder.blocks, network.quant_conv_mu])
        blocks = steps_of_blocks([network.post_quant_conv, *network.decoder.blocks])
        return [Step(self._quantised), *blocks]


def _vectors(z: Tensor) -> Tensor:
    """Latents (B, Z, ...) as rows (N, Z), float32."""
    return z.detach().float().movedim(1, -1).flatten(0, -2)
