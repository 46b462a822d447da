"""The codec of slices: a KL autoencoder of pictures, the latent space of X-ray2CTPA.

X-ray2CTPA (Cahan et al., 2024) takes Stable Diffusion's, trained on photographs and frozen; this
recipe trains one on CT, or goes on from its weights. The losses are those of the recipe ``codec``
(Rombach et al., CVPR 2022, arXiv 2112.10752); the discriminator and the feature term look at the
slices one by one, and so know nothing of how they follow upon each other.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from cxr3d_training.recipes.codec import CodecRecipe
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.codecs.slice import SliceCodec

__all__ = ["SliceCodecRecipe"]


class SliceCodecRecipe(CodecRecipe):
    """See the module."""

    name = "slice-codec"
    spatial_dims: ClassVar[int] = 2

    def _codec(self) -> SliceCodec:
        codec: Any = super()._codec()
        if not isinstance(codec, SliceCodec):
            raise InvalidInputError("The setting 'codec' must describe a codec of slices")
        return codec

    def look_at(self, volumes: Tensor) -> Tensor:
        """The slices (B * I, 1, P, L)."""
        return volumes.transpose(1, 2).flatten(0, 1)
