"""An engine whose volumes carry their seed, for tests of the panel around it."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np

from napari_cxr3d.device import Device
from napari_cxr3d.imaging import Volume, XrayView
from napari_cxr3d.inference.reconstruct import (
    ReconstructionRequest,
    ReconstructionResult,
    ReconstructionState,
    RunEstimate,
)
from napari_cxr3d.inference.xray_input import InputGuess, PreparedViews, XrayInput
from napari_cxr3d.jobs import Call
from napari_cxr3d.provenance import Provenance
from napari_cxr3d.widgets.common.model_choices import ModelChoice
from napari_cxr3d.widgets.reconstruct.engine import Preparation

SHAPE, SPACING_MM = (8, 8, 8), (40.0, 40.0, 40.0)
DETECTOR = (12, 12)


def volume(value):
    hu = np.full(SHAPE, value, np.float32)
    return Volume(hu, SPACING_MM, (-140.0, -140.0, 140.0), synthetic=True)


class FakeEngine:
    """Stands in for `ReconstructionEngine`; it can be held up, and tells what it was asked."""

    def __init__(self):
        self.may_work = threading.Event()
        self.may_work.set()
        self.ran, self.prepared, self.estimated = [], [], []
        self.findings = ()
        self.error = None
        self.advice = ()
        self.center_lps = None
        self.choices = (
            ModelChoice("reconstruct-demo", "1.0.0", "Not for patients.", "the card", DETECTOR),
            ModelChoice("reconstruct-other", "2.0.0", "None known.", "another card", (6, 6)),
        )

    def models(self):
        return self.choices

    def devices(self):
        return Call(_devices)

    def guess(self, radiograph, *, lateral=False):
        if radiograph.view is not None:
            return InputGuess(XrayInput(radiograph, "as-given"), ("It is a DRR.",))
        projection = "lateral-left" if lateral else "pa"
        known = XrayInput(radiograph, projection, radiograph.pitch_mm or (0.5, 0.5))
        return InputGuess(known, (f"It looks like {projection}.", "The pitch was assumed."))

    def prepare(self, inputs, detector_shape):
        self.prepared.append((inputs, detector_shape))
        n = len(inputs)
        pictures = np.full((n, *detector_shape), 0.5, np.float32)
        prepared = PreparedViews(
            views=(XrayView(detector_shape=detector_shape, isocenter_lps=(0, 0, 0)),) * n,
            integrals=4 * pictures,
            valid=np.ones((n, *detector_shape), bool),
            exact=tuple(each.exact for each in inputs),
            pictures=pictures,
            calibrations=(None,) * n,
            notes=("The thorax was put into the middle.",),
            center_lps=self.center_lps,
        )
        return Preparation(prepared, self.findings)

    def request(self, inputs, **settings):
        return ReconstructionRequest(inputs=tuple(inputs), **settings)

    def estimate(self, request, device):
        self.estimated.append((request, device))
        return Call(lambda: RunEstimate(300 * 2**20, 4 * 2**30, 6.4, self.advice))

    def run(self, request, device):
        return Call(self._states, (request, device))

    def _states(self, request, device, cancel):
        self.ran.append((request, device))
        steps = request.steps or 3
        told = {"samples": request.samples, "steps": steps}
        yield ReconstructionState("model", **told, message="loading the model")
        yield ReconstructionState("coarse", **told, preview=volume(-500), message="first picture")
        for step in range(1, steps + 1):
            self._wait(cancel)
            if self.error is not None:
                raise self.error
            yield ReconstructionState(
                "sampling",
                step=step,
                **told,
                preview=volume(-400 + step),
                message=f"step {step} of {steps}",
            )
        result = self._result(request)
        yield ReconstructionState("done", step=steps, **told, elapsed_s=1.5, result=result)

    def _result(self, request):
        prepared = self.prepare(request.inputs, DETECTOR).prepared
        agreement = SimpleNamespace(
            integrals=prepared.integrals + 0.02,
            residual=np.full_like(prepared.integrals, 0.02),
            counted=prepared.valid,
            relative_error=0.0123,
            explained=0.987,
        )
        many = request.samples > 1
        samples = tuple(volume(seed) for seed in request.seeds)
        return ReconstructionResult(
            samples=samples,
            mean=volume(50) if many else None,
            std=volume(25) if many else None,
            coarse=volume(-500),
            prepared=prepared,
            reprojections=(agreement,) * request.samples,
            mean_reprojection=None,
            coarse_reprojection=SimpleNamespace(relative_error=0.2),
            consistency=(),
            findings=(),
            provenance=Provenance(
                "reconstruct",
                {"seeds": list(request.seeds)},
                model="reconstruct-demo",
                seed=request.seed,
            ),
            timings={"total": 1.5},
        )

    def _wait(self, cancel):
        while not self.may_work.wait(0.005):
            cancel.raise_if_cancelled()
        cancel.raise_if_cancelled()


def _devices():
    return (Device("cpu", "2 cores"), Device("cuda:0", "a GPU", 2**33, 2**34))
