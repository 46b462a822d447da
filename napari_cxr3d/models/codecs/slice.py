"""The codec of pictures: a volume slice by slice, as X-ray2CTPA does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.codecs.base import Codec
from napari_cxr3d.models.codecs.tiling import run_in_tiles

__all__ = ["SliceCodec"]

_LEAST_LOG_VARIANCE, _MOST_LOG_VARIANCE = -30.0, 20.0  # as Stable Diffusion's code clips them


class SliceCodec(Codec):
    """A two-dimensional autoencoder that sees the axial slices of a volume one by one.

    The network is Stable Diffusion's (Rombach et al., CVPR 2022, arXiv 2112.10752): residual
    blocks, one more of them on each level of the decoder, attention at the coarsest level. With
    the ``paper`` preset the weights of sd-vae-ft-mse fit, and the codec is that of X-ray2CTPA
    (see `sd_slice_codec`). The latent keeps the axis I whole: (B, Z, I, P / f, L / f).

    A grey slice is shown in every channel that the network wants; of the decoded channels the mean
    is taken. (X-ray2CTPA's code turns them into grey values of 8 bit, 3.9 HU apart in a window of
    1000 HU; here they stay numbers.)

    Parameters
    ----------
    channels : sequence of int
        Feature maps on each level; slices become ``2 ** (len(channels) - 1)`` times smaller.
    latent_channels : int
        Channels of the latent.
    num_res_blocks : int
        Residual blocks on each level of the encoder.
    norm_num_groups : int
        Groups of the group normalisation; divides every number of channels.
    picture_channels : int
        Channels that the network sees: 1, or 3 for one that was made for photographs.
    attention : bool
        Whether places of the coarsest level look at each other.
    norm_eps : float
        Added to the variance.
    slices_at_once : int
        Slices that go through the network together: what bounds its memory.
    use_checkpoint : bool
        Compute activations again on the way back, to save memory in training.
    frozen : bool
        Whether the weights stay as they are; gradients still pass through to what is coded.

    Raises
    ------
    InvalidInputError
        If these do not make a network.
    """

    def __init__(
        self,
        channels: Sequence[int] = (128, 256, 512, 512),
        latent_channels: int = 4,
        num_res_blocks: int = 2,
        norm_num_groups: int = 32,
        picture_channels: int = 3,
        attention: bool = True,
        norm_eps: float = 1e-6,
        slices_at_once: int = 16,
        use_checkpoint: bool = False,
        frozen: bool = False,
    ) -> None:
        numbers = [*channels, latent_channels, num_res_blocks, norm_num_groups, picture_channels]
        why = ""
        if not channels or not all(type(n) is int and n > 0 for n in (*numbers, slices_at_once)):
            why = "every number must be a whole one above 0"
        elif any(n % norm_num_groups for n in channels):
            why = f"norm_num_groups {norm_num_groups} does not divide each of {list(channels)}"
        if why:
            raise InvalidInputError("The codec cannot be built", why=why)
        f = 2 ** (len(channels) - 1)
        super().__init__(factors=(1, f, f), in_channels=1, latent_channels=latent_channels)
        self.picture_channels = picture_channels
        self.slices_at_once = slices_at_once
        self.use_checkpoint = use_checkpoint

        from monai.networks.nets.autoencoderkl import Decoder, Encoder

        common: dict[str, Any] = {
            "spatial_dims": 2,
            "channels": tuple(channels),
            "norm_num_groups": norm_num_groups,
            "norm_eps": norm_eps,
            "attention_levels": (False,) * len(channels),
            "with_nonlocal_attn": attention,
            "use_flash_attention": True,
        }
        self.encoder = _activated(
            Encoder(
                in_channels=picture_channels,
                out_channels=2 * latent_channels,
                num_res_blocks=(num_res_blocks,) * len(channels),
                **common,
            )
        )
        self.quant = nn.Conv2d(2 * latent_channels, 2 * latent_channels, 1)
        self.post_quant = nn.Conv2d(latent_channels, latent_channels, 1)
        self.decoder = _activated(
            Decoder(
                in_channels=latent_channels,
                out_channels=picture_channels,
                num_res_blocks=(num_res_blocks + 1,) * len(channels),
                **common,
            )
        )
        if frozen:
            self.requires_grad_(False)

    # --- volumes --------------------------------------------------------------------------------

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latent, without the scale."""
        both = _stacked(self._in_parts(self._moments, _slices(x)), len(x))
        mean, sigma = both.chunk(2, dim=1)
        return mean, sigma

    def _decode(self, z: Tensor) -> Tensor:
        return _stacked(self._in_parts(self._picture, _slices(z)), len(z))

    # --- slices ---------------------------------------------------------------------------------

    def encode_slices(self, pictures: Tensor) -> Tensor:
        """The scaled mean latents (N, Z, p, l) of slices (N, 1, P, L) in the network's range.

        Raises
        ------
        InvalidInputError
            If they are no slices, or an axis is no multiple of its factor.
        """
        if pictures.ndim != 4:
            raise _no_slices((1, "P", "L"), pictures)
        return self.encode(pictures[:, :, None])[:, :, 0]

    def decode_slices(self, latents: Tensor) -> Tensor:
        """The slices (N, 1, P, L) of scaled latents (N, Z, p, l), with their gradient.

        Raises
        ------
        InvalidInputError
            If they are no latents of slices.
        """
        if latents.ndim != 4:
            raise _no_slices((self.latent_channels, "p", "l"), latents)
        return self.decode(latents[:, :, None])[:, :, 0]

    def _moments(self, pictures: Tensor) -> Tensor:
        shown = pictures.expand(-1, self.picture_channels, -1, -1)
        mean, log_variance = self.quant(self.encoder(shown)).chunk(2, dim=1)
        log_variance = log_variance.clamp(_LEAST_LOG_VARIANCE, _MOST_LOG_VARIANCE)
        return torch.cat([mean, torch.exp(log_variance / 2)], dim=1)

    def _picture(self, latents: Tensor) -> Tensor:
        decoded: Tensor = self.decoder(self.post_quant(latents))
        return decoded.mean(dim=1, keepdim=True)

    def _in_parts(self, function: Callable[[Tensor], Tensor], slices: Tensor) -> Tensor:
        """A function on all slices, some at a time."""
        again = self.use_checkpoint and torch.is_grad_enabled()
        parts = [
            checkpoint(function, part, use_reentrant=False) if again else function(part)
            for part in torch.split(slices, self.slices_at_once)
        ]
        return torch.cat(parts)

    def _in_tiles(
        self, decoding: bool, x: Tensor, grid: Sequence[int], tile: int, overlap: int, **given: Any
    ) -> Tensor:
        """Slices know nothing of each other: `tile` of them at a time, and the result is exact."""
        function = self.decode if decoding else self.encode
        tiles = (max(1, min(tile, grid[0])), *grid[1:])
        return run_in_tiles(function, x, grid, tile=tiles, overlap=0, **given)


def _activated(network: Any) -> nn.Sequential:
    """MONAI's blocks with the activation before the last convolution that Rombach's code has."""
    blocks = list(network.blocks)
    return nn.Sequential(*blocks[:-1], nn.SiLU(), blocks[-1])


def _slices(x: Tensor) -> Tensor:
    """(B, C, I, P, L) as (B * I, C, P, L)."""
    return x.transpose(1, 2).flatten(0, 1)


def _stacked(slices: Tensor, batch: int) -> Tensor:
    """The inverse of `_slices`."""
    return slices.reshape(batch, -1, *slices.shape[1:]).transpose(1, 2)


def _no_slices(wanted: Sequence[object], found: Tensor) -> InvalidInputError:
    return InvalidInputError(
        f"Slices are floating tensors (N, {', '.join(map(str, wanted))})",
        why=f"it got {found.dtype} with shape {tuple(found.shape)}",
    )
