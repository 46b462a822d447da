"""The learned codec: a convolutional autoencoder with a Gaussian latent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor, nn

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.codecs.base import Codec
from napari_cxr3d.models.codecs.layerwise import Step, steps_of_blocks

__all__ = ["Enlarging", "KLCodec"]

Enlarging = Literal["nearest", "trilinear", "transposed"]


class KLCodec(Codec):
    """MONAI's `AutoencoderKL` for volumes (Rombach et al., CVPR 2022, arXiv 2112.10752).

    It has no attention, whose memory grows with the square of the voxels: it runs on any
    size of volume, and in tiles.

    Parameters
    ----------
    channels : sequence of int
        Feature maps on each level; the latent is ``2 ** (len(channels) - 1)`` times smaller.
    latent_channels : int
        Channels of the latent.
    num_res_blocks : int or sequence of int
        Residual blocks on each level.
    norm_num_groups : int
        Groups of the group normalisation; divides every number of channels.
    in_channels : int
        Channels of a volume.
    norm_eps : float
        Added to the variance.
    use_checkpoint : bool
        Compute activations again on the way back, to save memory in training.
    enlarging : {"nearest", "trilinear", "transposed"}
        How the decoder enlarges: by nearest neighbours (Rombach) or trilinear interpolation
        (MAISI) and a convolution, or by a transposed convolution.

    Raises
    ------
    InvalidInputError
        If these do not make a network.
    """

    def __init__(
        self,
        channels: Sequence[int] = (32, 64, 128),
        latent_channels: int = 4,
        num_res_blocks: int | Sequence[int] = 1,
        norm_num_groups: int = 8,
        in_channels: int = 1,
        norm_eps: float = 1e-6,
        use_checkpoint: bool = False,
        enlarging: Enlarging = "nearest",
    ) -> None:
        _require_usable(channels, latent_channels, num_res_blocks, norm_num_groups, enlarging)
        super().__init__(
            factors=2 ** (len(channels) - 1),
            in_channels=in_channels,
            latent_channels=latent_channels,
        )
        from monai.networks.nets.autoencoderkl import AutoencoderKL

        blocks = num_res_blocks if isinstance(num_res_blocks, int) else tuple(num_res_blocks)
        self.autoencoder = AutoencoderKL(
            spatial_dims=3,
            in_channels=in_channels,
            out_channels=in_channels,
            channels=tuple(channels),
            latent_channels=latent_channels,
            num_res_blocks=blocks,
            norm_num_groups=norm_num_groups,
            norm_eps=norm_eps,
            attention_levels=(False,) * len(channels),
            with_encoder_nonlocal_attn=False,
            with_decoder_nonlocal_attn=False,
            use_checkpoint=use_checkpoint,
            use_convtranspose=enlarging == "transposed",
        )
        if enlarging == "trilinear":  # MONAI's class has nearest neighbours built in
            for module in self.autoencoder.decoder.modules():
                if isinstance(module, nn.Upsample):
                    module.mode, module.align_corners = "trilinear", False

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latent, without the scale."""
        mean, sigma = self.autoencoder.encode(x)
        return mean, sigma

    def _decode(self, z: Tensor) -> Tensor:
        decoded: Tensor = self.autoencoder.decode(z)
        return decoded

    def _steps(self, decoding: bool) -> list[Step]:
        network = self.autoencoder
        if decoding:
            return steps_of_blocks([network.post_quant_conv, *network.decoder.blocks])
        return steps_of_blocks([*network.encoder.blocks, network.quant_conv_mu])


def _require_usable(
    channels: Sequence[int],
    latent_channels: int,
    num_res_blocks: int | Sequence[int],
    norm_num_groups: int,
    enlarging: str,
) -> None:
    numbers = [*channels, latent_channels, norm_num_groups]
    numbers += [num_res_blocks] if isinstance(num_res_blocks, int) else [*num_res_blocks]
    why = ""
    if not channels or not all(type(n) is int and n > 0 for n in numbers):
        why = "every number must be a whole one above 0"
    elif any(n % norm_num_groups for n in channels):
        why = f"norm_num_groups {norm_num_groups} does not divide each of {list(channels)}"
    elif not isinstance(num_res_blocks, int) and len(num_res_blocks) != len(channels):
        why = f"{len(channels)} levels need as many num_res_blocks, not {len(num_res_blocks)}"
    elif enlarging not in get_args(Enlarging):
        why = f"enlarging is one of {', '.join(get_args(Enlarging))}, not {enlarging!r}"
    if why:
        raise InvalidInputError("The codec cannot be built", why=why)
