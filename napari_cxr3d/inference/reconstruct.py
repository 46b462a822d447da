"""From X-rays to SYNTHETIC volumes, step by step: the one way of the panel and the command line.

Examine the X-rays, bring them to the model's detector, look at them once (the first picture),
draw samples from noise, and make each agree with what the X-rays measured. Every step gives a
state that can be shown, and the work can be stopped at every step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Grid, Radiograph, Volume
from napari_cxr3d.inference import reconstruct_memory as memory
from napari_cxr3d.inference import reconstruct_stages as stages
from napari_cxr3d.inference.reconstruct_types import (
    ReconstructionRequest,
    ReconstructionResult,
    ReconstructionState,
    RunEstimate,
    Stage,
)
from napari_cxr3d.progress import CancelToken
from napari_cxr3d.provenance import Provenance

if TYPE_CHECKING:
    from torch import Tensor

    from napari_cxr3d.inference.consistency import Consistency, ConsistencyRecord
    from napari_cxr3d.inference.xray_input_types import InputFinding, PreparedViews
    from napari_cxr3d.models.bundle import Bundle
    from napari_cxr3d.models.reconstruction import Condition, ReconstructionModel

__all__ = [
    "ReconstructionRequest",
    "ReconstructionResult",
    "ReconstructionState",
    "RunEstimate",
    "estimate",
    "reconstruct",
]

_CONSISTENT_STEPS = 2  # the last steps of the sampler whose estimate is made consistent


def reconstruct(
    request: ReconstructionRequest,
    *,
    device: str | None = "auto",
    cancel: CancelToken | None = None,
) -> Iterator[ReconstructionState]:
    """Make volumes from X-rays.

    Parameters
    ----------
    request : ReconstructionRequest
        What to do.
    device : str, optional
        As `napari_cxr3d.device.resolve_device` takes it.
    cancel : CancelToken, optional
        Stops the work at its next step.

    Yields
    ------
    ReconstructionState
        At the start, with the first picture, after every step, and with the result.

    Raises
    ------
    InputRefusedError
        If an X-ray is probably none, and the user did not accept it.
    InvalidInputError, UnreadableFileError, BundleError, BackendUnavailableError
        If the request cannot be carried out with this model or device.
    OutOfMemoryError
        If memory runs out whatever is tried.
    Cancelled
        If the token was cancelled.
    """
    yield from _Run(request, cancel or CancelToken()).states(device)


def estimate(request: ReconstructionRequest, *, device: str | None = "auto") -> RunEstimate:
    """What a request will take; the X-rays are not examined, and no weights are read.

    Parameters
    ----------
    request : ReconstructionRequest
        What is asked.
    device : str, optional
        As `napari_cxr3d.device.resolve_device` takes it.

    Raises
    ------
    InvalidInputError, UnreadableFileError, BundleError, BackendUnavailableError
        As `reconstruct`.
    """
    from napari_cxr3d.device import resolve_device

    bundle = stages.open_model(request.model)
    return memory.estimate_run(request, bundle, resolve_device(device))


class _Run:
    """One reconstruction, and what its stages hand on to each other."""

    model: ReconstructionModel
    bundle: Bundle
    condition: Condition
    prepared: PreparedViews
    consistency: Consistency
    mode: Literal["off", "soft", "hard"]
    steps: int
    method: str
    device: str
    dtype: str

    def __init__(self, request: ReconstructionRequest, cancel: CancelToken) -> None:
        self.request = request
        self.cancel = cancel
        self.began = self._lap = perf_counter()
        self.timings: dict[str, float] = {}
        self.evaluations = 0

    def states(self, device: str | None) -> Iterator[ReconstructionState]:
        """Everything, in order."""
        yield self._tell("model", message="examining the X-rays")
        findings = stages.gate(self.request)
        self._timed("examine")
        yield self._tell("model", message=f"loading the model {self.request.model}")
        plan = self._load(device)
        self._timed("load")
        self.cancel.raise_if_cancelled()
        coarse = self._look()
        self._timed("first_picture")
        seen = "first picture" if coarse is not None else "the X-rays were looked at"
        yield self._tell("coarse", coarse, message=seen)
        samples, records = yield from self._all_samples(plan)
        result = self._result(samples, coarse, records, findings)
        yield self._tell(
            "done", result.volume, message="done", sample=len(samples) - 1, result=result
        )

    def _load(self, device: str | None) -> memory.Plan:
        """Bring the model to the device, if the run is expected to fit there."""
        from napari_cxr3d.device import resolve_device

        self.bundle = stages.open_model(self.request.model)
        self.device = resolve_device(device)
        outline = stages.outline(self.bundle)
        self.steps, self.method = stages.sampler_settings(self.request, self.bundle, outline)
        plan, cost = memory.fitting_plan(
            self.request, self.method, self.bundle, outline, self.device
        )
        if cost.peak > memory.free_bytes(
            self.device
        ):  # a computer may end the program instead of refusing memory
            raise memory.refused(plan, self.request, self.device)
        self.cancel.raise_if_cancelled()
        self.model = stages.load_model(self.bundle, self.device)
        self.autocast, self.dtype = stages.precision(self.device, self.request.dtype)
        return plan

    def _look(self) -> Volume | None:
        """Prepare the X-rays, show them to the model; its first picture."""
        import torch

        from napari_cxr3d.inference.consistency import Consistency
        from napari_cxr3d.inference.xray_input import prepare_inputs

        self.prepared = prepare_inputs(
            self.request.inputs,
            detector_shape=self.model.detector_shape,
            field_mm=stages.field_mm(self.bundle),
        )
        self.grid = Grid.centered(self.model.volume_shape, self.model.spacing_mm)
        self.mode = stages.consistency_mode(
            self.request.consistency, self.prepared.exact, self.model.window
        )
        self.consistency = Consistency(
            self.grid, self.prepared.views, self.prepared.integrals, self.prepared.valid,
            self.prepared.exact, mode="soft" if self.mode == "off" else self.mode,
            limits=self.model.window.limits,
        )  # fmt: skip
        self.cancel.raise_if_cancelled()
        try:
            with torch.inference_mode(), self.autocast():
                self.condition = self.model.condition(self.prepared.to_batch().to(self.device))
        except Exception as error:
            if not memory.is_out_of_memory(error):
                raise
            raise memory.refused(memory.Plan(), self.request, self.device) from error
        if self.condition.coarse is not None:
            return self._volume(self._hu(self.condition.coarse)[0], "first picture")
        if self.request.start == "coarse":
            raise InvalidInputError(
                f"The model {self.bundle.name} has no first picture to start from",
                remedy="start at noise",
            )
        return None

    def _all_samples(
        self, plan: memory.Plan
    ) -> Any:  # a generator of states that returns volumes and records
        """Draw every sample, with less at once whenever memory runs out."""
        volumes: list[Volume] = []
        records: list[ConsistencyRecord] = []
        while len(volumes) < self.request.samples:
            first = len(volumes)
            seeds = self.request.seeds[first : first + plan.batch]
            failed = False
            try:
                hu = yield from self._draw(first, seeds, plan)
            except Exception as error:
                if not memory.is_out_of_memory(error):
                    raise
                failed = True
            if failed:  # out here nothing holds on to what the attempt had made
                memory.release(self.device)
                less = memory.smaller(plan, self.request.tile, self.model.latent_shape[1:])
                if less is None:
                    raise memory.refused(plan, self.request, self.device)
                plan = less
                how = f"in tiles of {plan.tile}" if plan.tile else f"{plan.batch} at once"
                yield self._tell("sampling", message=f"memory ran out: again, {how}", sample=first)
                continue
            self._timed("sampling")
            for k, seed in enumerate(seeds):
                self.cancel.raise_if_cancelled()
                voxels = hu[k]
                if self.mode != "off":
                    voxels, record = self.consistency.project_hu(voxels, cancel=self.cancel)
                    records.append(record)
                volumes.append(self._volume(voxels, f"seed {seed}"))
                self._timed("consistency")
                yield self._tell(
                    "consistency", volumes[-1], message=f"sample {first + k + 1} is drawn",
                    sample=first + k, step=self.steps,
                )  # fmt: skip
        self.plan = plan
        return tuple(volumes), tuple(records)

    def _draw(self, first: int, seeds: Sequence[int], plan: memory.Plan) -> Any:
        """Sample from noise; HU, shape (B, I, P, L)."""
        import torch

        from napari_cxr3d.inference.sampler import sample

        condition = self.condition.repeat(len(seeds))
        noise = stages.noise_of(self.model.latent_shape, seeds, self.device)
        network = torch.compile(self.model.predict) if self.request.compile else self.model.predict

        def predict(x: Tensor, time: Tensor) -> Tensor:
            with self.autocast():
                return network(x, time, condition, self.request.guidance).float()

        def decode(x: Tensor) -> Tensor:
            return self.model.decode(x.float(), condition, tile=plan.tile, cancel=self.cancel)

        start: dict[str, Any] = {}
        if self.request.start == "coarse":
            assert condition.coarse is not None  # `_look` made sure
            with torch.inference_mode():
                start["start_from"] = self.model.encode(condition.coarse, condition)
            start["start_time"] = stages.COARSE_START
        hook = None
        if self.mode != "off" and plan.tile is None:  # the hook decodes whole volumes
            hook = self.consistency.as_hook(
                self.model, condition, last=_CONSISTENT_STEPS, cancel=self.cancel
            )
        states = sample(
            predict, self.model.process, noise, steps=self.steps, method=self.method,
            generator=stages.generator_of(seeds[0]), decode=decode,
            preview_every=self.request.preview_every, project=hook, cancel=self.cancel, **start,
        )  # fmt: skip
        which = f"sample {first + 1}" if len(seeds) == 1 else f"{len(seeds)} samples"
        last = None
        for state in stages.stepwise(states):
            shown = None
            if state.preview is not None:
                shown = self._volume(self._hu(state.preview[:1])[0], f"step {state.step}")
            yield self._tell(
                "sampling", shown, message=f"{which}, step {state.step} of {state.steps}",
                sample=first, batch=len(seeds), step=state.step,
            )  # fmt: skip
            last = state
        assert last is not None and last.preview is not None  # the sampler decodes its last step
        self.evaluations += last.n_evaluations * len(seeds)
        return self._hu(last.preview)

    def _hu(self, volume: Tensor) -> npt.NDArray[np.float32]:
        """HU, shape (B, I, P, L), of volumes in the network's range."""
        hu: npt.NDArray[np.float32] = self.model.window.decode(volume.float())[:, 0].cpu().numpy()
        return hu

    def _volume(self, hu: npt.NDArray[Any], name: str) -> Volume:
        return stages.synthetic_volume(hu, self.grid, name)

    def _result(
        self,
        samples: tuple[Volume, ...],
        coarse: Volume | None,
        records: tuple[ConsistencyRecord, ...],
        findings: tuple[InputFinding, ...],
    ) -> ReconstructionResult:
        mean = std = None
        scale = _deviation_scale(self.bundle)
        if len(samples) > 1:
            all_hu = np.stack([volume.hu for volume in samples])
            mean = self._volume(all_hu.mean(axis=0), f"mean of {len(samples)}")
            deviation = scale * all_hu.std(axis=0, ddof=1)
            std = self._volume(deviation, f"standard deviation of {len(samples)}")
        reprojections = tuple(self.consistency.reprojection(v.hu) for v in samples)
        of_mean, of_coarse = (
            None if v is None else self.consistency.reprojection(v.hu) for v in (mean, coarse)
        )
        self._timed("reprojection")
        self.timings["total"] = perf_counter() - self.began
        return ReconstructionResult(
            samples, mean, std, coarse, self.prepared, reprojections, of_mean, of_coarse, records,
            findings, self._provenance(findings, scale), dict(self.bundle.card), dict(self.timings),
        )  # fmt: skip

    def _provenance(self, findings: Sequence[InputFinding], scale: float) -> Provenance:
        parameters = {
            **self.request.to_dict(),
            "model_version": self.bundle.version,
            "steps": self.steps,
            "sampler": self.method,
            "start_time": stages.COARSE_START if self.request.start == "coarse" else 1.0,
            "evaluations": self.evaluations,
            "consistency": self.mode,
            "tile": self.plan.tile,
            "batch": self.plan.batch,
            "field_mm": stages.field_mm(self.bundle),
            "preprocessing": self.prepared.to_dict(),
            "findings": [finding.to_dict() for finding in findings],
            "deviation_scale": scale,
        }
        return Provenance(
            operation="reconstruct",
            parameters=parameters,
            inputs=tuple(_content_sha256(x.radiograph) for x in self.request.inputs),
            backend="torch",
            device=self.device,
            dtype=self.dtype,
            seed=self.request.seed,
            model=self.bundle.name,
            weights_sha256=self.bundle.sha256,
        )

    def _tell(
        self, stage: Stage, preview: Volume | None = None, **more: Any
    ) -> ReconstructionState:
        return ReconstructionState(
            stage, samples=self.request.samples, steps=getattr(self, "steps", 0),
            preview=preview, elapsed_s=perf_counter() - self.began, **more,
        )  # fmt: skip

    def _timed(self, stage: str) -> None:
        """Add the time since the last stage to this one's."""
        now = perf_counter()
        self.timings[stage] = self.timings.get(stage, 0.0) + now - self._lap
        self._lap = now


def _deviation_scale(bundle: Bundle) -> float:
    """What standard deviations are multiplied by to be as large as errors are."""
    card = bundle.card.get("uncertainty")
    return float(card.get("scale", 1.0)) if isinstance(card, dict) else 1.0


def _content_sha256(radiograph: Radiograph) -> str:
    if radiograph.source is not None and radiograph.source.content_sha256:
        return radiograph.source.content_sha256
    return sha256(np.ascontiguousarray(radiograph.pixels).data).hexdigest()
