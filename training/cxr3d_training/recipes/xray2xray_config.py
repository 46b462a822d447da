"""Settings of the recipe ``xray2xray``, and the walks about the patient that it learns from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from cxr3d_training.data.orbits import OrbitPoses
from cxr3d_training.engine.schedules import Schedule
from cxr3d_training.losses.adversarial import AdversarialKind
from cxr3d_training.recipes.orbit_recipe import OrbitConfig
from napari_cxr3d.errors import InvalidInputError

__all__ = ["FeatureConfig", "WalkPoses", "Xray2XrayConfig"]


@dataclass(frozen=True)
class WalkPoses(OrbitPoses):
    """Walks about the patient: where one begins, and `count` - 1 steps from there.

    Attributes
    ----------
    stride : float
        Degrees of a whole step, as of the model.
    straight : float
        Part of the walks that begin at the given X-ray and take whole strides only, to one side.
        The others begin anywhere, and each of their steps is any of the lattice up to `stride`.
    """

    stride: float = 15.0
    straight: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        whole = round(self.stride / self.yaw_step)
        if whole < 1 or abs(whole * self.yaw_step - self.stride) > 1e-6:
            raise InvalidInputError(
                "The stride must be a multiple of yaw_step",
                why=f"{self.stride:g} is none of {self.yaw_step:g}",
            )
        first, last = self.yaw_range
        if self.count < 2 or last - first < 2 * self.stride or not 0 <= self.straight <= 1:
            raise InvalidInputError(
                "A walk needs a count of 2 or more, room for two strides, and a part of 0 to 1",
                why=f"count is {self.count}, yaw_range {self.yaw_range}, straight {self.straight}",
            )

    def turns(self, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """Turns along a walk, float32 (count, 3); pitch and roll stay as they are.

        A step that would leave the range is taken the other way, and so are those after it.
        """
        way = float(rng.choice([-1.0, 1.0]))
        steps = np.full(self.count - 1, self.stride)
        yaw = 0.0
        if rng.random() >= self.straight:
            yaw = float(rng.choice(self.yaws))
            most = round(self.stride / self.yaw_step)
            steps = self.yaw_step * rng.integers(1, most + 1, self.count - 1)
        turns = np.zeros((self.count, 3), np.float32)
        turns[0, 0] = yaw
        first, last = self.yaw_range
        for index, step in enumerate(steps, start=1):
            if not first - 1e-6 <= yaw + way * step <= last + 1e-6:
                way = -way
            yaw += way * float(step)
            turns[index, 0] = yaw
        return turns


@dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    """The frozen random encoder of the feature term: filters of each level, seed."""

    channels: tuple[int, ...] = (16, 32, 64)
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Xray2XrayConfig(OrbitConfig):
    """Settings of Xray2Xray's training; the presets say where each value comes from.

    The model is an `Xray2Xray`. Of a bundle that a training begins from, the transition model is
    taken over where it is of the same shape. The term ``real`` needs radiographs.

    Attributes
    ----------
    discriminator : dict
        ``_target_`` mapping of the judge of decoded line integrals.
    features : FeatureConfig
        The network of the feature term.
    adversarial_kind : {"hinge", "least_squares"}
        Form of the adversarial terms.
    poses : WalkPoses
        Where X-rays are taken from, and the walks from there.
    real_batch : int
        Real radiographs of a step.
    vision_views : int
        Views of a walk that the vision model sees in a step.
    teacher_views : int
        Steps of a walk that are taken from the true latent.
    decoded_views : int
        Views of a roll-out that are decoded.
    rollout_steps : Schedule
        Steps of a free roll-out, rounded; at most those of the walk.
    codebook_momentum, rare : float
        Of the codebook, where there is one; see `Codebook.update`.
    ema : Schedule
        Momentum of the weights' averages, which are evaluated and exported.
    """

    discriminator: dict[str, Any]
    features: FeatureConfig = field(default_factory=FeatureConfig)
    adversarial_kind: AdversarialKind = "hinge"
    poses: WalkPoses = field(default_factory=WalkPoses)
    real_batch: int = 2
    vision_views: int = 2
    teacher_views: int = 2
    decoded_views: int = 1
    rollout_steps: Schedule
    codebook_momentum: float = 0.99
    rare: float = 0.03
    ema: Schedule

    def __post_init__(self) -> None:
        if not (0 <= self.codebook_momentum < 1 and 0 <= self.rare < 1):
            raise InvalidInputError("codebook_momentum and rare lie between 0 and 1")
        most = self.poses.count - 1
        for name in ("vision_views", "teacher_views", "decoded_views"):
            if not 1 <= getattr(self, name) <= most:
                raise InvalidInputError(
                    f"{name} must be 1 to {most}, the steps of a walk",
                    why=f"it is {getattr(self, name)}",
                )
