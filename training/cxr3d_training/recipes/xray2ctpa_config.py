"""The settings of X-ray2CTPA's training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from cxr3d_training.engine.recipe import RecipeConfig
from cxr3d_training.engine.schedules import Schedule
from cxr3d_training.recipes.xray2ctpa_data import FrontalPoses
from cxr3d_training.recipes.xray_batches import XrayAppearance
from napari_cxr3d.errors import InvalidInputError

__all__ = ["UNTRAINED", "LoraConfig", "PerceptualConfig", "Xray2CtpaConfig"]

UNTRAINED = "untrained"
"""What `codec_bundle` is where a codec of chance is wanted, as in a test."""


@dataclass(frozen=True, kw_only=True)
class PerceptualConfig:
    """What the perceptual terms look through.

    Attributes
    ----------
    channels, seed : tuple of int, int
        The frozen random encoder of the term ``self_feature``.
    slices : int
        Slices of every sample that are decoded, for ``lpips`` too.
    """

    channels: tuple[int, ...] = (16, 32, 64)
    seed: int = 0
    slices: int = 2


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Adapters: see `napari_cxr3d.models.xray2ctpa.lora`."""

    rank: int = 4
    scale: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Xray2CtpaConfig(RecipeConfig):
    """Settings; the presets say where each value comes from.

    Attributes
    ----------
    model : dict
        ``_target_`` mapping of an `Xray2Ctpa`.
    stage : {1, 2, 3, 4}
        1 and 3 are shown no X-ray, 2 is shown DRRs, 4 the X-rays of `xrays`.
    init : str or None
        Run folder or bundle to begin from: the stage before. Its codec, range of latents, encoder
        and U-Net are taken over.
    codec_bundle : str or None
        Bundle of the trained codec, or folder of sd-vae-ft-mse; it stays frozen, and what `init`
        has goes before. `UNTRAINED` takes one of chance.
    encoder_weights : str or None
        BiomedCLIP's file, for that encoder.
    train_encoder : bool
        Whether the encoder of X-rays is trained along; BiomedCLIP's never is.
    discriminator : dict
        ``_target_`` mapping; it sees latents.
    perceptual : PerceptualConfig
        What ``self_feature`` looks through, and at how much.
    radimagenet : str or None
        File of RadImageNet's ResNet-50, for the term ``lpips``.
    classifier_bundle : str or None
        Bundle of a `LatentClassifier` for the term ``classifier``.
    label : str
        The finding that it looks for; cases without that label are left out of the term.
    positive_weight : float
        Of the cases that have it.
    poses, appearance : FrontalPoses, XrayAppearance
        Of the DRRs.
    xrays, xray_column : str, str
        Folder of stage 4's X-rays, and the column of the data's table (``data_options.table``)
        that names the file of each CT.
    augmentation : {"none", "light", "full"}
        Of the volumes.
    cached_latents : bool
        Encode every volume once. It is then always the same: no augmentation.
    range_cases : int
        Training volumes over which the range of the latents is measured.
    range_share : float
        Part of the numbers that lie within the range; 1 as published.
    hide : float
        Part of the samples to which the X-ray is not shown, for guidance.
    lora : LoraConfig or None
        Train adapters alone.
    ema : Schedule
        Momentum of the weights' averages, which are evaluated and exported.
    """

    model: dict[str, Any]
    stage: Literal[1, 2, 3, 4] = 1
    init: str | None = None
    codec_bundle: str | None = None
    encoder_weights: str | None = None
    train_encoder: bool = True
    discriminator: dict[str, Any]
    perceptual: PerceptualConfig = field(default_factory=PerceptualConfig)
    radimagenet: str | None = None
    classifier_bundle: str | None = None
    label: str = "pulmonary_embolism"
    positive_weight: float = 1.0
    poses: FrontalPoses = field(default_factory=FrontalPoses)
    appearance: XrayAppearance = field(default_factory=XrayAppearance)
    xrays: str = "."
    xray_column: str = "xray"
    augmentation: str = "none"
    cached_latents: bool = True
    range_cases: int = 32
    range_share: float = 1.0
    hide: float = 0.0
    lora: LoraConfig | None = None
    ema: Schedule

    def check(self, detector_shape: tuple[int, int]) -> None:
        """Refuse settings that do not go together.

        Parameters
        ----------
        detector_shape : tuple of 2 int
            The model's.

        Raises
        ------
        InvalidInputError
            If they do not.
        """
        if self.poses.detector_shape != detector_shape:
            raise InvalidInputError(
                "The X-rays must be rendered on the model's detector",
                why=f"poses.detector_shape is {self.poses.detector_shape}, "
                f"the model's {detector_shape}",
            )
        if self.cached_latents and self.augmentation != "none":
            raise InvalidInputError(
                "Cached latents cannot be augmented",
                why="every volume is encoded once",
                remedy="set cached_latents=false or augmentation=none",
            )
        needs = {
            "lpips": ("radimagenet", self.radimagenet),
            "classifier": ("classifier_bundle", self.classifier_bundle),
        }
        for term, (setting, value) in needs.items():
            if not self.losses[term].never and value is None:
                raise InvalidInputError(
                    f"The term {term!r} has nothing to look through",
                    why=f"the setting {setting!r} names no file",
                    remedy=f"set it, or losses.{term}=0",
                )
