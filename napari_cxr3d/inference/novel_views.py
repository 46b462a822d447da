"""What one X-ray would look like from elsewhere, as a world model expects it.

The X-ray is brought to the model's detector and encoded once; the tokens of every view are
predicted from those, and rendered into line integrals. A view is a guess from one projection:
its confidence tells how steady the guess is, and `compare_views` sets it beside the true
projection where there is a CT.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Radiograph
from napari_cxr3d.inference import reconstruct_stages as stages
from napari_cxr3d.inference.novel_views_comparison import ViewComparison, compare_views
from napari_cxr3d.inference.novel_views_confidence import (
    EXPOSURES,
    another_exposure,
    steadiness,
)
from napari_cxr3d.inference.novel_views_types import (
    NovelViewsRequest,
    NovelViewsResult,
    NovelViewsState,
    Stage,
    nearest_yaw,
    turned_view,
)
from napari_cxr3d.inference.orbit_picture import OrbitPicture, prepare_picture
from napari_cxr3d.inference.reconstruct_types import ReconstructionRequest
from napari_cxr3d.inference.world_models import load_world_model
from napari_cxr3d.progress import CancelToken
from napari_cxr3d.provenance import Provenance

if TYPE_CHECKING:
    from torch import Tensor

    from napari_cxr3d.inference.world_models import LoadedWorldModel
    from napari_cxr3d.inference.xray_input_types import InputFinding

__all__ = [
    "NovelViewsRequest",
    "NovelViewsResult",
    "NovelViewsState",
    "ViewComparison",
    "compare_views",
    "nearest_yaw",
    "novel_views",
]

FloatImages = npt.NDArray[np.float32]

_AT_ONCE = 8  # views: what a slider waits for, and what fits into memory
_FRONTAL_DEG = 25.0  # from PA or AP: models are trained on frontal pictures
_ANGLE_TOLERANCE = 1e-3


def novel_views(
    request: NovelViewsRequest,
    *,
    device: str | None = "auto",
    cancel: CancelToken | None = None,
) -> Iterator[NovelViewsState]:
    """Predict views of the patient of an X-ray.

    Parameters
    ----------
    request : NovelViewsRequest
        What to do.
    device : str, optional
        As `napari_cxr3d.device.resolve_device` takes it.
    cancel : CancelToken, optional
        Stops the work at its next views.

    Yields
    ------
    NovelViewsState
        At the start, with every view, and with the result.

    Raises
    ------
    InputRefusedError
        If the X-ray is probably none, and the user did not accept it.
    InvalidInputError, UnreadableFileError, BundleError, BackendUnavailableError
        If the request cannot be carried out with this model or device.
    Cancelled
        If the token was cancelled.
    """
    yield from stages.stepwise(_Run(request, cancel or CancelToken()).states(device))


class _Run:
    """One prediction, and what its stages hand on to each other."""

    loaded: LoadedWorldModel
    picture: OrbitPicture
    yaws: tuple[float, ...]

    def __init__(self, request: NovelViewsRequest, cancel: CancelToken) -> None:
        self.request = request
        self.cancel = cancel
        self.began = self._lap = perf_counter()
        self.timings: dict[str, float] = {}

    def states(self, device: str | None) -> Iterator[NovelViewsState]:
        """Everything, in order."""
        yield self._tell("model", message="examining the X-ray")
        findings = stages.gate(
            ReconstructionRequest((self.request.input,), accepted=self.request.accepted)
        )
        self._timed("examine")
        self.cancel.raise_if_cancelled()
        yield self._tell("model", message=f"loading the model {self.request.model}")
        self.loaded = load_world_model(self.request.model, device=device)
        self.yaws = self._angles()
        self.cancel.raise_if_cancelled()
        self.picture = prepare_picture(self.request.input, self.loaded.model)
        self.views = tuple(turned_view(self.picture.view, yaw) for yaw in self.yaws)
        self._timed("load")
        latents, integrals = [], []
        for start, tokens, images in self._predicted(self.picture.pixels):
            latents.append(tokens.float().cpu().numpy())
            integrals.append(images)
            for k, image in enumerate(images, start):
                told = f"view {k + 1} of {len(self.yaws)}: {self.yaws[k]:+g} degrees"
                yield self._tell("predicting", k, image, told)
        drawn = np.concatenate(integrals)
        self._timed("predict")
        confidence = np.full(len(drawn), np.nan, np.float32)
        if self.request.confidence:
            confidence = yield from self._confidence(drawn)
            self._timed("confidence")
        self.timings["total"] = perf_counter() - self.began
        result = NovelViewsResult(
            self.yaws, self.views, drawn, self.picture, np.concatenate(latents), confidence,
            findings, (*self.picture.notes, *self._warnings()), self._provenance(findings),
            dict(self.loaded.card), dict(self.timings),
        )  # fmt: skip
        yield self._tell("done", len(drawn) - 1, drawn[-1], "done", result)

    def _angles(self) -> tuple[float, ...]:
        """The angles, if the model knows them."""
        model = self.loaded.model
        if not model.renders:
            raise InvalidInputError(
                f"The model {self.loaded.name} cannot draw the views that it predicts",
                why="it was trained without a renderer",
                remedy="choose another world model; see cxr3d models list",
            )
        yaws = model.yaws if self.request.yaws is None else self.request.yaws
        first, last = model.yaw_range
        beyond = [y for y in yaws if not first - _ANGLE_TOLERANCE <= y <= last + _ANGLE_TOLERANCE]
        if beyond:
            raise InvalidInputError(
                f"The model {self.loaded.name} does not know an angle of {beyond[0]:g} degrees",
                why=f"it was trained from {first:g} to {last:g} degrees",
                remedy="choose angles within that range",
            )
        return yaws

    def _predicted(self, pixels: FloatImages) -> Iterator[tuple[int, Tensor, FloatImages]]:
        """Tokens and views, some at a time, each with the index of its first."""
        import torch

        model, device = self.loaded.model, self.loaded.device
        given = torch.from_numpy(np.array(pixels, np.float32))[None].to(device)
        tokens = model.encode(given)
        turns = model.turns(self.yaws).to(device)
        for start in range(0, len(self.yaws), _AT_ONCE):
            self.cancel.raise_if_cancelled()
            predicted = model.predict(tokens, turns[:, start : start + _AT_ONCE])[0]
            yield start, predicted, model.render(predicted).float().cpu().numpy()

    def _confidence(self, drawn: FloatImages) -> Any:  # a generator of states that returns it
        """How steady the views are over other exposures; the mean over those."""
        found = []
        count = len(EXPOSURES) * len(drawn)
        for seed, exposure in enumerate(EXPOSURES):
            others = []
            changed = another_exposure(self.picture.pixels, exposure, seed)
            for start, _, images in self._predicted(changed):
                others.append(images)
                done = seed * len(drawn) + start + len(images) - 1
                told = f"another exposure, {seed + 1} of {len(EXPOSURES)}"
                yield NovelViewsState(
                    "confidence", done, count, message=told, elapsed_s=perf_counter() - self.began
                )
            found.append(steadiness(drawn, np.concatenate(others), exposure))
        return np.mean(found, axis=0, dtype=np.float64).astype(np.float32)

    def _warnings(self) -> Iterator[str]:
        view, base = self.picture.view, self.loaded.model.base_view
        off = abs((view.yaw + 90.0) % 180.0 - 90.0)
        if off > _FRONTAL_DEG or abs(view.pitch) > _FRONTAL_DEG:
            yield (
                "The X-ray is not frontal, and the model was trained on frontal ones: what it "
                "predicts has no meaning."
            )
        for name in ("source_to_isocenter_mm", "source_to_detector_mm"):
            own, usual = getattr(view, name), getattr(base, name)
            if not 0.75 < own / usual < 1.33:
                yield (
                    f"The distance {name.removesuffix('_mm').replace('_', ' ')} of {own:.0f} mm is "
                    f"far from the {usual:.0f} mm that the model was trained on."
                )

    def _provenance(self, findings: tuple[InputFinding, ...]) -> Provenance:
        parameters = {
            "input": self.request.input.to_dict(),
            "accepted": list(self.request.accepted),
            "model_version": self.loaded.version,
            "yaws": list(self.yaws),
            "views": [view.to_dict() for view in self.views],
            "exact": self.picture.exact,
            "notes": list(self.picture.notes),
            "confidence": self.request.confidence,
            "findings": [finding.to_dict() for finding in findings],
        }
        return Provenance(
            operation="novel-views",
            parameters=parameters,
            inputs=(content_sha256(self.request.input.radiograph),),
            backend="torch",
            device=self.loaded.device,
            model=self.loaded.name,
            weights_sha256=self.loaded.sha256,
        )

    def _tell(
        self,
        stage: Stage,
        index: int = 0,
        integrals: FloatImages | None = None,
        message: str = "",
        result: NovelViewsResult | None = None,
    ) -> NovelViewsState:
        count = len(self.yaws) if integrals is not None else 0
        view = self.views[index] if integrals is not None else None
        elapsed = perf_counter() - self.began
        return NovelViewsState(stage, index, count, view, integrals, message, elapsed, result)

    def _timed(self, stage: str) -> None:
        now = perf_counter()
        self.timings[stage] = now - self._lap
        self._lap = now


def content_sha256(radiograph: Radiograph) -> str:
    """Identity of an X-ray's pixels."""
    if radiograph.source is not None and radiograph.source.content_sha256:
        return radiograph.source.content_sha256
    return sha256(np.ascontiguousarray(radiograph.pixels).data).hexdigest()
