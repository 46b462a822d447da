"""The quantised codec: a 3D VQ-GAN of CT volumes, the alternative that X-ray2CTPA compares with.

Esser et al., CVPR 2021 (arXiv 2012.09841), in three dimensions as Medical Diffusion (Khader et al.,
2023, github.com/FirasGit/medicaldiffusion) trains it: the losses of the recipe ``codec``, but a
commitment to the nearest code in the place of the KL term; the codebook follows the latents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from cxr3d_training.data import CohortCase
from cxr3d_training.engine.recipe import BundleParts, Networks, Work
from cxr3d_training.recipes.codec import CodecConfig, CodecRecipe
from cxr3d_training.recipes.crops import centered_crop
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.codecs.vq import VQCodec

__all__ = ["VQCodecConfig", "VQCodecRecipe"]


@dataclass(frozen=True, kw_only=True)
class VQCodecConfig(CodecConfig):
    """Settings of the quantised codec's training.

    Attributes
    ----------
    codebook_momentum : float
        Part of the codes' old place that each step keeps.
    rare : float
        A code that is used less than this part of a fair share begins anew.
    """

    codebook_momentum: float = 0.99
    rare: float = 0.03

    def __post_init__(self) -> None:
        if not (0 <= self.codebook_momentum < 1 and 0 <= self.rare < 1):
            raise InvalidInputError("codebook_momentum and rare lie between 0 and 1")


class VQCodecRecipe(CodecRecipe):
    """See the module."""

    name = "vq-codec"
    Config = VQCodecConfig
    prior: ClassVar[str] = "commitment"
    forward_methods: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "codec": (*CodecRecipe.forward_methods["codec"], "nearest", "tokens")
    }
    config: VQCodecConfig

    def _codec(self) -> VQCodec:
        codec: Any = super()._codec()
        if not isinstance(codec, VQCodec):
            raise InvalidInputError("The setting 'codec' must describe a codec with a codebook")
        return codec

    def coded(self, codec: Any, work: Work) -> tuple[Tensor, Callable[[], Tensor]]:
        """A step's crops there and back, and how far the latents lie from their codes.

        ``mean((z - sg(code))^2)``, van den Oord et al., NeurIPS 2017, equation 3; its weight is
        their beta.
        """
        latent, _ = codec.posterior(work.batches["crops"]["ct"])
        work.scratch["latent"] = latent.detach()
        codes = codec.nearest(latent.detach()).codes
        return codec.decode(latent), lambda: (latent.float() - codes.float()).square().mean()

    def after_step(self, nets: Networks, work: Work) -> None:
        """Let the codebook follow the latents of the step (of its last part, if it has parts)."""
        codec: Any = nets["codec"]
        codec.codebook.update(
            work.scratch["latent"],
            momentum=self.config.codebook_momentum,
            rare=self.config.rare,
        )

    def validate(
        self, nets: Networks, cases: Sequence[CohortCase], device: torch.device
    ) -> dict[str, float]:
        """L1 as of the recipe ``codec``, and how the codebook is used.

        ``perplexity`` is the exponential of the codes' entropy over all middle crops: as many codes
        would do, were they used alike. ``codes_used`` is how many of them are chosen at all.
        """
        figures = super().validate(nets, cases, device)
        codec: Any = nets["codec"]
        counts = torch.zeros(len(codec.codebook.codes), dtype=torch.float64)
        for case in cases:
            hu = torch.from_numpy(centered_crop(case, self.config.crop))[None, None].to(device)
            numbers = codec.tokens(self.window.encode(hu)).flatten().cpu()
            counts += torch.bincount(numbers, minlength=len(counts))
        share = counts / counts.sum().clamp_min(1)
        perplexity = torch.exp(-torch.special.xlogy(share, share).sum())
        used = {"perplexity": float(perplexity), "codes_used": float((counts > 0).sum())}
        return {**figures, **used}

    def bundle(self, nets: Networks) -> BundleParts:
        """As of the recipe ``codec``, with the codebook's size."""
        parts = super().bundle(nets)
        codec: Any = nets["codec"]
        latent = {
            **parts.card["latent"],
            "codes": len(codec.codebook.codes),
            "bits_per_voxel": codec.bits_per_voxel,
        }
        return BundleParts(parts.network, parts.state, {**parts.card, "latent": latent})
