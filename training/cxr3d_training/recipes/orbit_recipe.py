"""What the recipes of world models have in common: their data, and how they are measured."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from cxr3d_training.data import CaseList, CohortCase
from cxr3d_training.data.orbits import LandmarkSet, OrbitEpisodes, OrbitPoses
from cxr3d_training.data.prepared_radiographs import PreparedRadiographs
from cxr3d_training.engine.recipe import BundleParts, Networks, Recipe, RecipeConfig
from cxr3d_training.recipes.orbit_validation import OrbitValidation
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.orbit_model import OrbitModel
from napari_cxr3d.progress import CancelToken, ProgressCallback

__all__ = ["OrbitConfig", "OrbitRecipe"]


@dataclass(frozen=True, kw_only=True)
class OrbitConfig(RecipeConfig):
    """Settings that every world model's training has.

    Attributes
    ----------
    model : dict
        ``_target_`` mapping of the model.
    begin_from : str or None
        Bundle of such a model whose weights are taken over, so that trainings can follow each
        other.
    volume_shape, spacing_mm : tuple of 3
        The grid on which cases are rendered.
    poses : OrbitPoses
        Where X-rays are taken from, and the turns that are predicted.
    domain : str
        Look of the realistic X-rays of phantoms and CTs.
    realistic : float
        Part of the samples whose X-ray has that look rather than that of a DRR.
    variants : int
        Changed copies of every patient.
    augmentation : {"none", "light", "full"}
        How they are changed.
    collimated : float
        Part of the X-rays with black sides.
    radiographs : str or None
        Folder of real radiographs.
    """

    model: dict[str, Any]
    begin_from: str | None = None
    volume_shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    poses: OrbitPoses = field(default_factory=OrbitPoses)
    domain: str = "realistic"
    realistic: float = 0.5
    variants: int = 4
    augmentation: str = "full"
    collimated: float = 0.3
    radiographs: str | None = None


class OrbitRecipe(Recipe):
    """A recipe whose model is an `OrbitModel`."""

    config: OrbitConfig
    outline: OrbitModel
    validation: type[OrbitValidation] = OrbitValidation

    @abstractmethod
    def model_of(self, nets: Networks) -> OrbitModel:
        """The whole model around networks of this recipe."""

    @property
    def landmarks_held_out(self) -> tuple[str, ...]:
        """Landmarks that only the evaluation sees."""
        return ()

    def require_poses_of(self, outline: OrbitModel, **more: tuple[Any, Any]) -> None:
        """Refuse poses that are not the model's.

        Parameters
        ----------
        outline : OrbitModel
            The model.
        **more : tuple of 2
            Further settings of ``poses`` by name: as posed, and as the model has them.
        """
        config, poses = self.config, self.config.poses
        pairs = {
            "detector_shape": (poses.detector_shape, outline.detector_shape),
            "yaw_range": (tuple(poses.yaw_range), outline.yaw_range),
            "yaw_step": (poses.yaw_step, outline.yaw_step),
            **more,
        }
        for name, (posed, modelled) in pairs.items():
            if posed != modelled:
                raise InvalidInputError(
                    f"poses.{name} must be that of the model", why=f"{posed} is not {modelled}"
                )
        if (poses.pitch or poses.roll) and not outline.euler:
            raise InvalidInputError(
                "The model is told the yaw alone",
                remedy="set poses.pitch and poses.roll to 0, or model.euler of an XWin",
            )
        self._validation = self.validation(config.volume_shape, config.spacing_mm, config.domain)

    def episodes(
        self, cases: Sequence[CohortCase], landmarks: LandmarkSet | None = None
    ) -> OrbitEpisodes:
        """Samples of the training cases."""
        assert isinstance(cases, CaseList)
        config = self.config
        return OrbitEpisodes(
            cases,
            config.poses,
            volume_shape=config.volume_shape,
            spacing_mm=config.spacing_mm,
            domain=config.domain,
            realistic=config.realistic,
            variants=config.variants,
            augmentation=config.augmentation,
            collimated=config.collimated,
            landmarks=landmarks,
        )

    def real_radiographs(self) -> PreparedRadiographs | None:
        """Those of the folder that the settings name, on the model's detector."""
        if self.config.radiographs is None:
            return None
        view = self.outline.base_view
        field_mm = view.pixel_mm * view.detector_shape[1]
        return PreparedRadiographs(self.config.radiographs, view.detector_shape, field_mm)

    def validate(
        self, nets: Networks, cases: Sequence[CohortCase], device: torch.device
    ) -> dict[str, float]:
        """See the validation's `figures`."""
        return self._validation.figures(self.model_of(nets).to(device), cases, device)

    def evaluate(
        self,
        nets: Networks,
        cases: Sequence[CohortCase],
        device: torch.device,
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> Any:
        """The tables of `cxr3d_training.evaluation.world_model` on held-out patients."""
        from cxr3d_training.evaluation.world_model import WorldModelPlan, evaluate_world_model

        plan = WorldModelPlan(
            held_out=self.landmarks_held_out,
            volume_shape=self.config.volume_shape,
            spacing_mm=self.config.spacing_mm,
            domain=self.config.domain,
        )
        model = self.model_of(nets).to(device)
        return evaluate_world_model(
            model, cases, device=device, plan=plan, progress=progress, cancel=cancel
        )

    def parts(self, nets: Networks, **card: Any) -> BundleParts:
        """The whole model with what its card says of it."""
        model = self.model_of(nets)
        told = {"kind": "world-model", "preprocessing": model.describe(), **card}
        if self.config.begin_from is not None:
            told["begun_from"] = _origin(self.config.begin_from)
        return BundleParts(self.config.model, model.state_dict(), told)


def _origin(path: str) -> Mapping[str, Any]:
    """What a card says of the bundle whose weights were taken over."""
    from napari_cxr3d.models.bundle import open_bundle

    card = open_bundle(path).card
    told = {name: card["training"].get(name) for name in ("command", "seed", "steps", "seconds")}
    return {
        "name": card["name"],
        "synthetic_training": card["synthetic_training"],
        "checkpoint_sha256": card["training"].get("checkpoint_sha256"),
        **told,
    }
