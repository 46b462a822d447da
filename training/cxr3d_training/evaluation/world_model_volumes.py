"""Volumes from predicted views, beside the same methods on true views: their ceiling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from cxr3d_training.evaluation.reconstruct_network import Look, Network
from cxr3d_training.evaluation.reconstruct_scenes import Stage
from cxr3d_training.evaluation.world_model_predictions import method_name, predicted_lines
from cxr3d_training.evaluation.world_model_scenes import CONTEXTS, OrbitScene
from napari_cxr3d.metrics import Metric, Row, mae_hu, psnr3d, ssim3d
from napari_cxr3d.models.orbit_model import OrbitModel
from napari_cxr3d.models.reconstruction import ReconstructionModel
from napari_cxr3d.progress import CancelToken
from napari_cxr3d.xray import projector
from napari_cxr3d.xray.attenuation import attenuation_to_hu
from napari_cxr3d.xray.conjugate_gradients import reconstruct_cg
from napari_cxr3d.xray.fdk import reconstruct_fdk

__all__ = ["Reconstructor", "volume_rows"]

Images = npt.NDArray[np.float32]

_WINDOW = (-1000.0, 1000.0)
_CG_VIEWS = 13
_CG_ITERATIONS = 12
_LOOKS: dict[str, Look] = {CONTEXTS[0]: "exact", CONTEXTS[1]: "pictures"}


@dataclass(eq=False)
class Reconstructor:
    """A model that makes a CT of one X-ray: what any projection can then be computed from.

    Attributes
    ----------
    model : ReconstructionModel
        On its device, in evaluation mode.
    name : str
        What it is called.
    """

    model: ReconstructionModel
    name: str
    _made: dict[tuple[str, str], Images] = field(default_factory=dict)

    def fits(self, scene: OrbitScene) -> bool:
        """Whether its grid and detector are those of the scene."""
        stage = scene.stage
        return self.model.volume_shape == stage.volume_shape and np.allclose(
            self.model.spacing_mm, stage.spacing_mm
        )

    def volume(self, scene: OrbitScene, context: str) -> Images:
        """HU on the scene's grid: the coarse volume of its one pass, kept."""
        key = (scene.case, context)
        if key not in self._made:
            base = scene.stage.base
            stage = Stage.of(self.model, base.pixel_mm * base.detector_shape[1])
            network = Network(self.model, 0, look=_LOOKS[context])
            (estimate,) = network([stage.scene(scene.source)], CancelToken())
            self._made[key] = estimate.hu
        return self._made[key]

    def draw(self, context: str) -> Callable[[OrbitScene, Sequence[int]], Images]:
        """Its volume of an X-ray, projected to views by their index."""

        def drawn(scene: OrbitScene, views: Sequence[int]) -> Images:
            volume = scene.volume.with_hu(self.volume(scene, context))
            wanted = [scene.stage.views[k] for k in views]
            return scene.stage.renderer.render(volume, wanted).integrals

        return drawn


@torch.no_grad()
def volume_rows(
    model: OrbitModel,
    scenes: Sequence[OrbitScene],
    label: str,
    *,
    reconstructors: Sequence[Reconstructor] = (),
    mean: npt.NDArray[np.float32] | None = None,
    cancel: CancelToken | None = None,
    step: Callable[[], None] = lambda: None,
) -> dict[str, list[Row]]:
    """Volumes from a model's predicted turn of each patient.

    Parameters
    ----------
    model : OrbitModel
        That renders, on its device, in evaluation mode.
    scenes : sequence of OrbitScene
        On the model's stage.
    label : str
        What it is called.
    reconstructors : sequence of Reconstructor
        Models that make a CT of the same X-ray.
    mean : ndarray of float32, shape (I, P, L), optional
        Mean volume of other patients, in HU.
    cancel : CancelToken, optional
        Looked at within the reconstructions.
    step : callable
        Called before every patient; may raise to stop.
    """
    stage = scenes[0].stage
    few = np.unique(np.linspace(0, len(stage.yaws) - 1, _CG_VIEWS).round().astype(int)).tolist()
    rows: dict[str, list[Row]] = {}
    for scene in scenes:
        step()
        turns: dict[str, Images] = {
            method_name(label, "predicted", context): predicted_lines(model, scene, context)
            for context in CONTEXTS
        }
        turns["true views (the ceiling)"] = scene.integrals
        volumes: dict[str, Images] = {}
        for name, lines in turns.items():
            volumes[f"FDK of {len(stage.views)} views, {name}"] = reconstruct_fdk(
                lines, stage.views, scene.volume.grid, cancel=cancel
            ).hu
        for name, lines in turns.items():
            engine = projector("cpu")
            mu = reconstruct_cg(
                lines[few], [stage.views[k] for k in few], scene.volume.grid, engine,
                iterations=_CG_ITERATIONS, cancel=cancel,
            )  # fmt: skip
            volumes[f"least squares of {len(few)} views, {name}"] = attenuation_to_hu(
                mu, engine.energy_kev
            )
        for other in reconstructors:
            for context in CONTEXTS:
                volumes[method_name(other.name, "coarse", context)] = other.volume(scene, context)
        if mean is not None:
            volumes["mean volume of the other patients"] = mean
        for name, hu in volumes.items():
            rows.setdefault(name, []).append(
                Row(scene.case, scene.patient, name, _figures(hu, scene))
            )
    return rows


def _figures(hu: Images, scene: OrbitScene) -> tuple[Metric, ...]:
    truth, body = scene.volume.hu, scene.body
    estimate = np.nan_to_num(np.asarray(hu, np.float32))
    return (
        psnr3d(estimate, truth, _WINDOW, mask=body),
        ssim3d(estimate, truth, _WINDOW, mask=body),
        mae_hu(estimate, truth, _WINDOW, mask=body),
    )
