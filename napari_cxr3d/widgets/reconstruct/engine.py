"""The pure functions that the panel stands on, gathered so that tests can put others there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_cxr3d.jobs import Call
from napari_cxr3d.widgets.common.model_choices import ModelChoice, models_of_kind

if TYPE_CHECKING:
    from napari_cxr3d.imaging import Radiograph
    from napari_cxr3d.inference.reconstruct import ReconstructionRequest
    from napari_cxr3d.inference.xray_input import (
        InputFinding,
        InputGuess,
        PreparedViews,
        XrayInput,
    )

__all__ = ["KIND", "WORKER_MODULES", "Preparation", "ReconstructionEngine"]

KIND = "reconstructor"
WORKER_MODULES = (
    "torch",
    "napari_cxr3d.models.reconstructor",
    "napari_cxr3d.inference.reconstruct",
    "napari_cxr3d.inference.consistency",
)
_DEFAULT = "reconstruct-demo"


@dataclass(frozen=True, eq=False)
class Preparation:
    """X-rays as a model will see them, and what is to be said about them."""

    prepared: PreparedViews
    findings: tuple[InputFinding, ...]


class ReconstructionEngine:
    """What the panel asks for; nothing here knows of windows."""

    def models(self) -> tuple[ModelChoice, ...]:
        """The reconstruction models that are here, ours first."""
        return models_of_kind(KIND, _DEFAULT)

    def guess(self, radiograph: Radiograph, *, lateral: bool = False) -> InputGuess:
        """What an X-ray seems to be; one that was chosen as the lateral is a lateral."""
        from napari_cxr3d.inference.xray_input import guess_input

        guess = guess_input(radiograph)
        if lateral and guess.input.projection in ("pa", "ap"):
            return guess_input(radiograph, projection="lateral-left")
        return guess

    def prepare(self, inputs: Sequence[XrayInput], detector_shape: tuple[int, int]) -> Preparation:
        """What the model will be shown, and what is unusual about it."""
        from napari_cxr3d.inference.xray_input import examine, prepare_inputs

        findings = examine(inputs)
        return Preparation(prepare_inputs(inputs, detector_shape=detector_shape), findings)

    def devices(self) -> Call:
        """Work that lists the devices; it imports torch."""
        from napari_cxr3d.device import devices

        return Call(devices)

    def estimate(self, request: ReconstructionRequest, device: str) -> Call:
        """Work that says how much memory and time a run takes."""
        from napari_cxr3d.inference.reconstruct import estimate

        return Call(estimate, (request,), {"device": device})

    def run(self, request: ReconstructionRequest, device: str) -> Call:
        """Work that reconstructs; its states are `ReconstructionState`."""
        from napari_cxr3d.inference.reconstruct import reconstruct

        return Call(reconstruct, (request,), {"device": device})

    def request(self, inputs: Sequence[XrayInput], **settings: Any) -> ReconstructionRequest:
        """All that a run depends on, frozen."""
        from napari_cxr3d.inference.reconstruct import ReconstructionRequest

        return ReconstructionRequest(inputs=tuple(inputs), **settings)
