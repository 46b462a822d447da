"""Volumes that a network makes from X-rays, in one pass or by its sampler."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import islice
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from cxr3d_training.evaluation.reconstruct_methods import Estimate, Method
from cxr3d_training.evaluation.reconstruct_scenes import Scene, Stage, joined
from cxr3d_training.evaluation.reconstruct_store import network_sha256
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import XrayView
from napari_cxr3d.inference.consistency import Consistency
from napari_cxr3d.inference.sampler import Project, SamplerState, sample
from napari_cxr3d.inference.xray_input import PreparedViews
from napari_cxr3d.models.reconstruction import Condition, ReconstructionModel, ViewBatch
from napari_cxr3d.progress import CancelToken

__all__ = ["ConsistencyMode", "Look", "Network", "Shared"]

ConsistencyMode = Literal["off", "soft", "hard"]
Look = Literal["exact", "pictures", "files"]
"""True line integrals; realistic pictures read back from greys in their true pose; the same as a
user's files, prepared by `inference.xray_input`."""


_DATA_STEPS = 2  # the last ones of the sampler, in which a draw is made to agree


class Shared:
    """What several methods would compute alike: conditions, and all steps before the data step's.

    Cleared when other scenes come; the seconds are those that the work took when it was done.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[object, ...], Any] = {}

    def once(self, key: tuple[object, ...], make: Callable[[], Any]) -> Any:
        """What `make` gave when this key was first asked for."""
        if key not in self._found:
            self._found[key] = make()
        return self._found[key]

    def clear(self) -> None:
        """Forget everything."""
        self._found.clear()


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
        Whether the last two steps and the result are brought into agreement with the X-rays.
    look : {"exact", "pictures", "files"}
        What X-rays it is shown.
    samples : int
        Draws, of which the mean is the result.
    seed : int
        With the case's own name it makes the noise.
    shared : Shared, optional
        With methods that begin alike.
    """

    model: ReconstructionModel
    steps: int
    views: int = 1
    sampler: str = "auto"
    consistency: ConsistencyMode = "off"
    look: Look = "exact"
    samples: int = 1
    seed: int = 0
    shared: Shared = field(default_factory=Shared)

    def given(self, stage: Stage) -> tuple[XrayView, ...]:
        """The first of the inputs, on the model's detector."""
        return self._own(stage).inputs[: self.views]

    def identity(self) -> dict[str, Any]:
        """Its settings, and the network's weights."""
        apart = ("model", "shared")
        settings = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in apart}
        return {**settings, "network": network_sha256(self.model)}

    def __call__(self, scenes: Sequence[Scene], cancel: CancelToken) -> list[Estimate]:
        """All scenes at once, but their data steps one after the other."""
        views = joined(scenes, self._look)  # rendered before the clock starts
        cases = tuple(scene.sha256 for scene in scenes)
        beginning = (id(self.model), self.views, self.look, self.samples, cases)
        with torch.no_grad():
            head: _Head = self.shared.once(
                beginning, lambda: self._condition(views.to(self._device))
            )
            if self.steps > _DATA_STEPS:
                key = (*beginning, self.steps, self.sampler, self.seed)
                head = self.shared.once(key, lambda: self._begin(head, scenes, cancel))
            if self.consistency == "off":
                return self._finish(scenes, views, head, cancel)
            n = self.samples
            return [
                self._finish(
                    [scene],
                    ViewBatch(*(t[k : k + 1] for t in views)),
                    head.part(k * n, (k + 1) * n),
                    cancel,
                )[0]
                for k, scene in enumerate(scenes)
            ]

    def _condition(self, views: ViewBatch) -> _Head:
        _wait_for(self._device)
        began = time.perf_counter()
        condition = self.model.condition(views).repeat(self.samples)
        _wait_for(self._device)
        return _Head(condition, None, (time.perf_counter() - began) / len(views.known))

    def _begin(self, head: _Head, scenes: Sequence[Scene], cancel: CancelToken) -> _Head:
        """All steps but those in which the data step has a say."""
        began = time.perf_counter()
        states = self._states(head, self._noise(scenes), None, cancel)
        state = next(islice(states, self.steps - _DATA_STEPS - 1, None))
        _wait_for(self._device)
        return replace(
            head, state=state, seconds=head.seconds + (time.perf_counter() - began) / len(scenes)
        )

    def _finish(
        self, scenes: Sequence[Scene], views: ViewBatch, head: _Head, cancel: CancelToken
    ) -> list[Estimate]:
        began = time.perf_counter()
        data = self._data_step(scenes, views)
        if not self.steps:
            volumes, evaluations = _coarse(head.condition), 0
        else:
            project = None if data is None else data.as_hook(
                self.model, head.condition, last=_DATA_STEPS, cancel=cancel
            )  # fmt: skip
            states = self._states(head, self._noise(scenes), project, cancel)
            last = deque(states, maxlen=1).pop()  # a thousand states are not kept
            volumes = self.model.decode(last.x, head.condition, cancel=cancel)
            evaluations = last.n_evaluations * self.samples
        hu = self.model.window.decode(volumes)[:, 0].float().cpu().numpy()
        if data is not None:
            hu = np.stack([data.project_hu(draw, cancel=cancel)[0] for draw in hu])
        seconds = head.seconds + (time.perf_counter() - began) / len(scenes)
        return [
            Estimate(own.mean(0), evaluations, seconds, own if self.samples > 1 else None)
            for own in hu.reshape(len(scenes), self.samples, *hu.shape[1:])
        ]

    def _states(
        self, head: _Head, noise: Tensor, project: Project | None, cancel: CancelToken
    ) -> Iterator[SamplerState]:
        def predict(x: Tensor, at: Tensor) -> Tensor:
            return self.model.predict(x, at, head.condition)

        return sample(
            predict,
            self.model.process,
            noise,
            steps=self.steps,
            method=self.sampler,
            generator=torch.Generator(self._device).manual_seed(self.seed),
            project=project,
            cancel=cancel,
            resume=head.state,
        )

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _data_step(self, scenes: Sequence[Scene], views: ViewBatch) -> Consistency | None:
        if self.consistency == "off":
            return None
        (scene,) = scenes  # `__call__` sees to it
        poses = self.given(scene.stage)
        if self.look == "files":
            poses = self._prepared(scene).views
        return Consistency(
            scene.truth.grid,
            poses,
            views.integrals[0].numpy(),
            views.valid[0].numpy() > 0,
            tuple(bool(exact) for exact in views.exact[0]),
            mode=self.consistency,
            limits=self.model.window.limits,
        )

    def _look(self, scene: Scene) -> ViewBatch:
        if self.look == "pictures":
            return scene.pictures(self.views)
        if self.look == "files":
            return self._prepared(scene).to_batch()
        return scene.shown(self.views, self._own(scene.stage))

    def _prepared(self, scene: Scene) -> PreparedViews:
        prepared: PreparedViews = self.shared.once(
            ("files", scene.sha256, self.views), lambda: scene.files(self.views)
        )
        return prepared

    def _own(self, stage: Stage) -> Stage:
        """The stage with the model's detector."""
        return replace(stage, detector_shape=self.model.detector_shape)

    def _noise(self, scenes: Sequence[Scene]) -> Tensor:
        """Standard normal: a scene's own, in whatever batch it is."""
        shape = (self.samples, *self.model.latent_shape)
        drawn = [
            np.random.default_rng([self.seed, scene.seed]).standard_normal(shape, np.float32)
            for scene in scenes
        ]
        return torch.from_numpy(np.concatenate(drawn)).to(self._device)


@dataclass(frozen=True, eq=False)
class _Head:
    """How far a batch has come: condition and state of all draws, and the seconds a volume took."""

    condition: Condition
    state: SamplerState | None
    seconds: float

    def part(self, start: int, stop: int) -> _Head:
        """Some of the draws."""

        def cut(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor[start:stop]

        state = self.state
        if state is not None:
            before = state.previous and (state.previous[0][start:stop], state.previous[1])
            state = replace(
                state, x=state.x[start:stop], x0=state.x0[start:stop], preview=None, previous=before
            )
        return _Head(Condition(*(cut(t) for t in self.condition)), state, self.seconds)  # type: ignore[arg-type]


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
