"""Ways from X-rays to a volume, and those among them that need no network."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt

from cxr3d_training.evaluation.reconstruct_scenes import Scene, Stage
from napari_cxr3d.imaging import Grid, XrayView
from napari_cxr3d.progress import CancelToken
from napari_cxr3d.xray import Projector, projector
from napari_cxr3d.xray.attenuation import attenuation_to_hu
from napari_cxr3d.xray.conjugate_gradients import reconstruct_backprojection, reconstruct_cg

__all__ = [
    "BackProjection",
    "ConjugateGradients",
    "Estimate",
    "MeanVolume",
    "Method",
]

Array = npt.NDArray[np.float32]


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
