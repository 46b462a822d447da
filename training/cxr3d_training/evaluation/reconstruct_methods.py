"""Ways from X-rays to a volume, ours and those that it is compared with."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cxr3d_training.evaluation.reconstruct_scenes import Scene, Stage, joined
from cxr3d_training.evaluation.reconstruct_store import network_sha256
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Grid, XrayView
from napari_cxr3d.inference.consistency import Consistency
from napari_cxr3d.inference.sampler import sample
from napari_cxr3d.models.reconstruction import Condition, ReconstructionModel, ViewBatch
from napari_cxr3d.progress import CancelToken
from napari_cxr3d.xray import Projector, projector
from napari_cxr3d.xray.attenuation import attenuation_to_hu
from napari_cxr3d.xray.conjugate_gradients import reconstruct_backprojection, reconstruct_cg

__all__ = [
    "BackProjection",
    "ConjugateGradients",
    "ConsistencyMode",
    "Estimate",
    "Look",
    "MeanVolume",
    "Method",
    "Network",
]

Array = npt.NDArray[np.float32]
ConsistencyMode = Literal["off", "soft", "hard"]
Look = Literal["exact", "pictures", "published"]
"""True line integrals; realistic pictures read back from greys; X-ray2CTPA's own exposure."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """What a method made of one scene.

    Attributes
    ----------
    hu : ndarray of float32, shape (I, P, L)
        The volume, in HU.
    evaluations : int
        Of the denoising network.
    seconds : float
        From the X-rays to the volume; a batch's time divided by its volumes.
    samples : ndarray of float32, shape (N, I, P, L), or None
        The draws of which `hu` is the mean.
    """

    hu: Array
    evaluations: int
    seconds: float
    samples: Array | None = None


class Method(ABC):
    """A way from X-rays to a volume."""

    @abstractmethod
    def given(self, stage: Stage) -> tuple[XrayView, ...]:
        """The poses of the X-rays that it is shown; where nothing is shown, the frontal one."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """All that its result depends on but the scene, JSON-serialisable."""

    @abstractmethod
    def __call__(self, scenes: Sequence[Scene], cancel: CancelToken) -> list[Estimate]:
        """One volume of each scene.

        Raises
        ------
        Cancelled
            If the token was cancelled.
        """


@dataclass(frozen=True)
class _Inverse(Method):
    """A volume from the line integrals alone; `views` of them are given, one or two."""

    views: int

    def given(self, stage: Stage) -> tuple[XrayView, ...]:
        """The frontal view, and the lateral where there are two."""
        return stage.inputs[: self.views]

    def identity(self) -> dict[str, Any]:
        """Its settings."""
        return {"method": type(self).__name__, **asdict(self)}

    def __call__(self, scenes: Sequence[Scene], cancel: CancelToken) -> list[Estimate]:
        """Scene by scene, on the projector's own threads."""
        return [self._estimate(scene, cancel) for scene in scenes]

    def _estimate(self, scene: Scene, cancel: CancelToken) -> Estimate:
        integrals = scene.rendered.integrals[: self.views]  # rendered before the clock starts
        began = time.perf_counter()
        engine = projector("cpu")
        mu = self._attenuation(integrals, self.given(scene.stage), scene.truth.grid, engine, cancel)
        hu = attenuation_to_hu(mu, engine.energy_kev)
        return Estimate(hu, 0, time.perf_counter() - began)

    @abstractmethod
    def _attenuation(
        self,
        integrals: Array,
        views: Sequence[XrayView],
        grid: Grid,
        engine: Projector,
        cancel: CancelToken,
    ) -> Array: ...


@dataclass(frozen=True)
class BackProjection(_Inverse):
    """Every voxel the mean of its rays, on the scale that fits the X-rays best."""

    def _attenuation(
        self,
        integrals: Array,
        views: Sequence[XrayView],
        grid: Grid,
        engine: Projector,
        cancel: CancelToken,
    ) -> Array:
        cancel.raise_if_cancelled()
        return reconstruct_backprojection(integrals, views, grid, engine)


@dataclass(frozen=True)
class ConjugateGradients(_Inverse):
    """The smallest volume without negative attenuation that shows the X-rays."""

    iterations: int = 20

    def _attenuation(
        self,
        integrals: Array,
        views: Sequence[XrayView],
        grid: Grid,
        engine: Projector,
        cancel: CancelToken,
    ) -> Array:
        return reconstruct_cg(
            integrals, views, grid, engine, iterations=self.iterations, cancel=cancel
        )


@dataclass(frozen=True, eq=False)
class MeanVolume(Method):
    """The mean of the training volumes, whatever the X-ray shows."""

    mean: Array

    def given(self, stage: Stage) -> tuple[XrayView, ...]:
        """The frontal view, at which it is compared."""
        return stage.inputs[:1]

    def identity(self) -> dict[str, Any]:
        """The volume itself."""
        return {"mean": sha256(np.ascontiguousarray(self.mean).data).hexdigest()}

    def __call__(self, scenes: Sequence[Scene], cancel: CancelToken) -> list[Estimate]:
        """The same volume for all."""
        return [Estimate(self.mean, 0, 0.0) for _ in scenes]


@dataclass(frozen=True, eq=False)
class Network(Method):
    """What a network makes: its one pass, or a draw of its sampler, or the mean of several.

    Attributes
    ----------
    model : ReconstructionModel
        On its device, in evaluation mode.
    steps : int
        Of the sampler; 0 is the coarse volume of the one pass.
    views : int
        X-rays that it is shown.
    sampler : str
        See `napari_cxr3d.inference.sampler`.
    consistency : {"off", "soft", "hard"}
        Whether the last steps and the result are brought into agreement with the X-rays.
    look : {"exact", "pictures", "published"}
        What X-rays it is shown.
    samples : int
        Draws, of which the mean is the result.
    seed : int
        With the case's own name it makes the noise.
    """

    model: ReconstructionModel
    steps: int
    views: int = 1
    sampler: str = "auto"
    consistency: ConsistencyMode = "off"
    look: Look = "exact"
    samples: int = 1
    seed: int = 0

    def given(self, stage: Stage) -> tuple[XrayView, ...]:
        """The poses of `look`."""
        return (stage.published(),) if self.look == "published" else stage.inputs[: self.views]

    def identity(self) -> dict[str, Any]:
        """Its settings, and the network's weights."""
        settings = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "model"}
        return {**settings, "network": network_sha256(self.model)}

    def __call__(self, scenes: Sequence[Scene], cancel: CancelToken) -> list[Estimate]:
        """All scenes at once; one after the other where each has its own data step."""
        if self.consistency == "off":
            return self._together(scenes, cancel)
        return [self._together([scene], cancel)[0] for scene in scenes]

    def _together(self, scenes: Sequence[Scene], cancel: CancelToken) -> list[Estimate]:
        device = next(self.model.parameters()).device
        views = joined(scenes, self._look)  # rendered before the clock starts
        noise = torch.cat([self._noise(scene) for scene in scenes])
        _wait_for(device)
        began = time.perf_counter()
        with torch.no_grad():
            condition = self.model.condition(views.to(device)).repeat(self.samples)
            volumes, evaluations = _coarse(condition), 0
            data = self._data_step(scenes, views)
            if self.steps:
                volumes, evaluations = self._draw(condition, noise.to(device), data, cancel)
            hu = self.model.window.decode(volumes)[:, 0].float().cpu().numpy()
        if data is not None:
            hu = np.stack([data.project_hu(draw)[0] for draw in hu])
        seconds = (time.perf_counter() - began) / len(scenes)
        draws = hu.reshape(len(scenes), self.samples, *hu.shape[1:])
        return [
            Estimate(own.mean(0), evaluations, seconds, own if self.samples > 1 else None)
            for own in draws
        ]

    def _draw(
        self,
        condition: Condition,
        noise: Tensor,
        data: Consistency | None,
        cancel: CancelToken,
    ) -> tuple[Tensor, int]:
        """Volumes in the network's range, and how often the network was asked for each."""

        def predict(x: Tensor, time: Tensor) -> Tensor:
            return self.model.predict(x, time, condition)

        states = sample(
            predict,
            self.model.process,
            noise,
            steps=self.steps,
            method=self.sampler,
            generator=torch.Generator(noise.device).manual_seed(self.seed),
            project=None if data is None else data.as_hook(self.model, condition),
            cancel=cancel,
        )
        last = deque(states, maxlen=1).pop()  # a thousand states are not kept
        volumes = self.model.decode(last.x, condition, cancel=cancel)
        return volumes, last.n_evaluations * self.samples

    def _data_step(self, scenes: Sequence[Scene], views: ViewBatch) -> Consistency | None:
        if self.consistency == "off":
            return None
        (scene,) = scenes  # `__call__` sees to it
        return Consistency(
            scene.truth.grid,
            self.given(scene.stage),
            views.integrals[0].numpy(),
            views.valid[0].numpy() > 0,
            tuple(bool(exact) for exact in views.exact[0]),
            mode=self.consistency,
        )

    def _look(self, scene: Scene) -> ViewBatch:
        if self.look == "published":
            return scene.published(Stage.of(self.model, scene.stage.field_mm))
        return scene.pictures(self.views) if self.look == "pictures" else scene.shown(self.views)

    def _noise(self, scene: Scene) -> Tensor:
        """Standard normal, (samples, *latent_shape): a scene's own, in whatever batch it is."""
        rng = np.random.default_rng([self.seed, scene.seed])
        shape = (self.samples, *self.model.latent_shape)
        return torch.from_numpy(rng.standard_normal(shape, np.float32))


def _coarse(condition: Condition) -> Tensor:
    if condition.coarse is None:
        raise InvalidInputError(
            "The model has no coarse volume", remedy="leave that row out of the evaluation"
        )
    return condition.coarse


def _wait_for(device: torch.device) -> None:
    """Let the device finish what was asked of it before, so that only the method is timed."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
