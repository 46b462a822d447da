"""The latent codec: a KL autoencoder of CT volumes, trained on crops.

Rombach et al., CVPR 2022 (arXiv 2112.10752), in three dimensions as in MONAI's 3d_ldm tutorial and
MAISI (Guo et al., WACV 2025, arXiv 2409.11169): L1 and a little KL first, then a patch
discriminator and a feature distance against blur.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from cxr3d_training.data import CaseList, CohortCase
from cxr3d_training.engine.recipe import (
    Average,
    Batches,
    BundleParts,
    Networks,
    Player,
    Recipe,
    RecipeConfig,
    Sampler,
    Work,
)
from cxr3d_training.engine.schedules import Schedule
from cxr3d_training.evaluation.codecs import (
    as_a_cube,
    compare_codecs,
    haar_bands,
    resampling,
    whole_volume,
)
from cxr3d_training.losses.adversarial import AdversarialKind, discriminator_loss, generator_loss
from cxr3d_training.losses.features import RandomFeatures, feature_distance
from cxr3d_training.losses.gaussian import kl_to_standard_normal
from cxr3d_training.recipes.crops import Crops, centered_crop
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.metrics import Report
from napari_cxr3d.models.codecs.base import Codec
from napari_cxr3d.models.hu_window import HuWindow
from napari_cxr3d.models.network import build_network, outline_network
from napari_cxr3d.progress import CancelToken, ProgressCallback

__all__ = ["CodecConfig", "CodecRecipe"]


@dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    """The frozen random encoder of the feature term: filters of each level, seed."""

    channels: tuple[int, ...] = (16, 32, 64)
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class CodecConfig(RecipeConfig):
    """Settings of the codec's training; the presets say where each value comes from.

    Attributes
    ----------
    codec, discriminator : dict
        ``_target_`` mappings of the networks.
    features : FeatureConfig
        The network of the feature term.
    adversarial_kind : {"hinge", "least_squares"}
        Form of the adversarial terms.
    hu_window : tuple of 2 float
        HU that become -1 and 1.
    crop : tuple of 3 int
        Voxels of a training crop along (I, P, L).
    lung_share : float
        Part of the crops that are centred in the lungs.
    ema : Schedule
        Momentum of the weights' average, which is what is evaluated and exported.
    scale_batches : int
        Batches over which the latent's scale is measured before every checkpoint.
    evaluation_tile : int
        Latent voxels of a tile's edge when whole volumes are coded.
    """

    codec: dict[str, Any]
    discriminator: dict[str, Any]
    features: FeatureConfig = field(default_factory=FeatureConfig)
    adversarial_kind: AdversarialKind = "hinge"
    hu_window: tuple[float, float] = (-1000.0, 1000.0)
    crop: tuple[int, int, int]
    lung_share: float = 0.5
    ema: Schedule
    scale_batches: int = 16
    evaluation_tile: int = 24


class CodecRecipe(Recipe):
    """See the module.

    A recipe of another codec changes `prior`, what `coded` makes of it, and what the discriminator
    and the feature term `look_at`.

    Attributes
    ----------
    prior : str
        The term that keeps the latent in order.
    spatial_dims : int
        Of what the discriminator and the feature term look at.
    """

    name = "codec"
    Config = CodecConfig
    monitor = "l1"
    prior: ClassVar[str] = "kl"
    spatial_dims: ClassVar[int] = 3
    forward_methods: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "codec": ("posterior", "encode", "decode", "tiled_encode", "tiled_decode")
    }
    config: CodecConfig

    def __init__(self, config: CodecConfig) -> None:
        super().__init__(config)
        self.window = HuWindow(*config.hu_window)

    # --- networks -------------------------------------------------------------------------------

    @property
    def players(self) -> tuple[Player, ...]:
        """The codec, and after it the discriminator."""
        return (
            Player("codec", ("codec",), ("l1", self.prior, "adversarial", "random_feature")),
            Player("discriminator", ("discriminator",), ("discriminator",)),
        )

    def networks(self) -> dict[str, nn.Module]:
        """Codec, patch discriminator, and the frozen encoder of the feature term."""
        features = self.config.features
        return {
            "codec": self._codec(),
            "discriminator": build_network(self.config.discriminator),
            "features": RandomFeatures(
                features.channels, seed=features.seed, spatial_dims=self.spatial_dims
            ),
        }

    @property
    def averages(self) -> dict[str, Average]:
        """The codec's weights, averaged: what is kept in the end."""
        return {"codec_average": Average("codec", self.config.ema)}

    def _codec(self) -> Codec:
        codec = build_network(self.config.codec)
        if not isinstance(codec, Codec):
            raise InvalidInputError("The setting 'codec' must describe a codec")
        if not any(p.requires_grad for p in codec.parameters()):
            raise InvalidInputError(
                "This codec cannot be trained",
                why="its weights are frozen, or it has none",
                remedy="set codec.frozen=false, or describe a codec that learns",
            )
        return codec

    # --- data -----------------------------------------------------------------------------------

    def samplers(self, cases: Sequence[CohortCase]) -> dict[str, Sampler]:
        """Crops, and the noise that a latent is drawn with: a sample's own, wherever it runs."""
        assert isinstance(cases, CaseList)
        crops = Crops(cases, self.config.crop, lung_share=self.config.lung_share)
        outline = outline_network(self.config.codec)
        assert isinstance(outline, Codec)
        latent = outline.latent_shape(self.config.crop)

        def sample(rng: np.random.Generator) -> dict[str, Any]:
            hu = crops.draw(rng)["hu"]
            return {"hu": hu, "noise": rng.standard_normal(latent, np.float32)}

        def finish(batch: dict[str, Tensor], rngs: Any) -> dict[str, Tensor]:
            return {"ct": self.window.encode(batch["hu"]), "noise": batch["noise"]}

        return {"crops": Sampler(sample, finish)}

    # --- losses ---------------------------------------------------------------------------------

    def losses(self, player: str, nets: Networks, work: Work) -> dict[str, Tensor]:
        """The terms of the player whose turn it is."""
        ct = work.batches["crops"]["ct"]
        discriminator, kind = nets["discriminator"], self.config.adversarial_kind
        if player == "discriminator":
            real = discriminator(self.look_at(ct))[-1]
            fake = discriminator(work.scratch["decoded"])[-1]
            return {"discriminator": discriminator_loss(real, fake, kind)}

        decoded, prior = self.coded(nets["codec"], work)
        seen = self.look_at(decoded)
        work.scratch["decoded"] = seen.detach()
        terms: dict[str, Callable[[], Tensor]] = {
            "l1": lambda: (decoded.float() - ct).abs().mean(),
            self.prior: prior,
            "adversarial": lambda: generator_loss(discriminator(seen)[-1], kind),
            "random_feature": lambda: feature_distance(
                nets["features"](seen), nets["features"](self.look_at(ct))
            ),
        }
        return {name: term() for name, term in terms.items() if work.now.on(name)}

    def coded(self, codec: Any, work: Work) -> tuple[Tensor, Callable[[], Tensor]]:
        """A step's crops there and back, and the term of the latent."""
        crops = work.batches["crops"]
        mean, sigma = codec.posterior(crops["ct"])
        decoded = codec.decode(mean + sigma * crops["noise"])
        return decoded, lambda: kl_to_standard_normal(mean, sigma)

    def look_at(self, volumes: Tensor) -> Tensor:
        """What the discriminator and the feature term see of volumes (B, 1, I, P, L)."""
        return volumes

    # --- what a run shows, and its end ------------------------------------------------------------

    def images(self, nets: Networks, batches: Batches) -> dict[str, Tensor]:
        """Middle slices of a crop: as it is, decoded, and the difference."""
        ct = batches["crops"]["ct"][:1]
        decoded = self._codec_of(nets).reconstruct(ct).float().clamp(-1, 1)
        middle = [n // 2 for n in ct.shape[-3:]]
        pictures = {}
        for name, axis in (("axial", 2), ("coronal", 3), ("sagittal", 4)):
            rows = [v.select(axis, middle[axis - 2])[0, 0] for v in (ct, decoded, decoded - ct)]
            pictures[f"crop/{name}"] = torch.cat(rows, dim=1) / 2 + 0.5
        return pictures

    def validate(
        self, nets: Networks, cases: Sequence[CohortCase], device: torch.device
    ) -> dict[str, float]:
        """Mean over the cases of the middle crop's L1, in the network's range of width 2."""
        codec, errors = self._codec_of(nets), []
        for case in cases:
            hu = torch.from_numpy(centered_crop(case, self.config.crop))[None, None].to(device)
            ct = self.window.encode(hu)
            errors.append(float((codec.reconstruct(ct).float() - ct).abs().mean()))
        return {"l1": float(np.mean(errors))}

    def conclude(
        self, nets: Networks, batches: Iterator[Batches], mean: Callable[[Tensor], Tensor]
    ) -> None:
        """Measure the latent's standard deviation and set the scale to one over it.

        Rombach et al., appendix G; over `scale_batches` batches of all processes.
        """
        codec = self._codec_of(nets)
        moments = torch.zeros(2, dtype=torch.float64)
        for _ in range(self.config.scale_batches):
            latent = codec.posterior(next(batches)["crops"]["ct"])[0].double().cpu()
            moments += torch.stack([latent.mean(), latent.square().mean()])
        first, second = mean(moments / self.config.scale_batches).tolist()
        codec.set_scale((second - first**2) ** -0.5)

    # --- evaluation and export --------------------------------------------------------------------

    def evaluate(
        self,
        nets: Networks,
        cases: Sequence[CohortCase],
        device: torch.device,
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> Report:
        """Whole volumes, coded and decoded, beside two baselines that keep as many numbers."""
        codec = self._codec_of(nets)
        return compare_codecs(
            "The codec on held-out patients",
            {
                "codec": whole_volume(codec, tile=self.config.evaluation_tile),
                "Haar wavelet, lowest bands": haar_bands(*as_a_cube(codec)),
                "area down, trilinear up": resampling(*as_a_cube(codec)),
            },
            cases,
            self.window,
            device,
            progress=progress,
            cancel=cancel,
        )

    def bundle(self, nets: Networks) -> BundleParts:
        """The averaged codec with its window and its scale."""
        codec = self._codec_of(nets)
        card = {
            "kind": "codec",
            "preprocessing": self.window.to_dict(),
            "latent": {
                "factors": list(codec.factors),
                "channels": codec.latent_channels,
                "scale": float(codec.scale),
                "scale_convention": "one over the standard deviation of the latents' means",
            },
            "intended_use": "research: the latent space in which chest CT is generated",
            "limits": "not a medical device; what it decodes is synthetic, and details smaller "
            f"than about {max(codec.factors)} voxels may be lost or made up",
        }
        return BundleParts(self.config.codec, codec.state_dict(), card)

    @staticmethod
    def _codec_of(nets: Networks) -> Codec:
        codec = nets["codec"]
        assert isinstance(codec, Codec)
        return codec
