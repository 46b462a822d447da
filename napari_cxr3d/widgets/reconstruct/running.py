"""Estimating, running and cancelling a reconstruction, and showing what came of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cxr3d.errors import Cxr3dError, OutOfMemoryError
from napari_cxr3d.imaging import WINDOWS, Radiograph, Volume
from napari_cxr3d.jobs import Job
from napari_cxr3d.viewer.layers import kind_of_layer, set_window
from napari_cxr3d.viewer.reconstruction import ShownRun, add_reprojection
from napari_cxr3d.widgets.common.worker_session import single_shot
from napari_cxr3d.widgets.reconstruct.agreement import agreement_pictures, agreement_text
from napari_cxr3d.widgets.reconstruct.costs import estimate_text, smaller_settings
from napari_cxr3d.widgets.reconstruct.history import RunRecord
from napari_cxr3d.widgets.reconstruct.preparing import InputController
from napari_cxr3d.widgets.reconstruct.session import ReconstructSession
from napari_cxr3d.widgets.reconstruct.settings_form import Settings

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_cxr3d.inference.reconstruct import (
        ReconstructionRequest,
        ReconstructionResult,
        ReconstructionState,
        RunEstimate,
    )

__all__ = ["RunController"]

XRAY_PANEL = "X-ray from CT"

_ESTIMATE_MS = 400
_NO_XRAY = "Choose a chest X-ray first."
_NO_MODEL = "No reconstruction model is installed."
_PREPARING = "The X-ray is being prepared."
_RUNNING = "A reconstruction is running: wait, or cancel it."
_OPEN_FINDING = "Something is wrong with the X-ray: mend it above, or say that you know."


class RunController:
    """Connects the settings with the worker, and the worker's states with the viewer."""

    def __init__(self, session: ReconstructSession, inputs: InputController) -> None:
        self._session, self._inputs = session, inputs
        self._job: Job[Any] | None = None
        self._estimating = self._estimate_again = False
        self._result: ReconstructionResult | None = None
        self._shown: ShownRun | None = None
        self._center: tuple[float, float, float] | None = None
        self._timer = single_shot(session, _ESTIMATE_MS, self.estimate)
        panel = session.panel
        panel.run_requested.connect(self.run)
        panel.cancel_requested.connect(self.cancel)
        panel.smaller_requested.connect(self.run_with)
        panel.settings_form.changed.connect(self.estimate_soon)
        panel.history.chosen.connect(self.show_again)
        result = panel.result_form
        result.window_requested.connect(self.use_window)
        result.uncertainty_toggled.connect(self.show_uncertainty)
        result.reprojection_requested.connect(self.add_reprojection)
        result.xray_panel_requested.connect(self.send_to_xray_panel)
        session.state_changed.connect(self._on_state)

    # What can be done now

    def reason(self) -> str:
        """Why nothing can be run now, as a sentence; ``""`` when it can."""
        session = self._session
        if session.running:
            return _RUNNING
        if session.panel.model_form.choice() is None:
            return _NO_MODEL
        if session.preparing:
            return _PREPARING
        if session.preparation is None:
            return _NO_XRAY
        return _OPEN_FINDING if session.panel.findings.open_ones else ""

    def _on_state(self) -> None:
        self._session.panel.set_run_reason(self.reason())
        self._session.panel.set_inputs_enabled(not self._session.running)
        self.estimate_soon()

    def request(self) -> ReconstructionRequest:
        """All that a run would depend on, as the fields say now.

        Raises
        ------
        InvalidInputError
            If a field holds what cannot be.
        """
        session, panel = self._session, self._session.panel
        choice = panel.model_form.choice()
        assert choice is not None
        return session.engine.request(
            self._inputs.inputs(),
            model=choice.name,
            accepted=panel.findings.accepted,
            **panel.settings_form.settings().for_request(),
        )

    # Before a run

    def estimate_soon(self) -> None:
        """Estimate once the user's hand rests."""
        self._timer.start()

    def estimate(self) -> None:
        """Ask the worker what a run would take; one question at a time."""
        session = self._session
        if session.running or self.reason():
            session.panel.show_estimate("", over=False)
            return
        if self._estimating:
            self._estimate_again = True
            return
        if not session.worker_ready:
            session.panel.show_estimate("The worker process is starting…", over=False)
        device = session.panel.settings_form.settings().device
        self._estimating = True
        try:
            session.worker.submit(
                session.engine.estimate(self.request(), device),
                owner=session,
                on_done=self._on_estimated,
                on_error=self._on_not_estimated,
                on_cancelled=self._on_not_estimated,
            )
        except Cxr3dError as error:
            self._on_not_estimated(error)

    def _on_estimated(self, estimate: RunEstimate) -> None:
        self._estimating = False
        if not self._session.running:
            over = estimate.bytes > estimate.free_bytes
            self._session.panel.show_estimate(estimate_text(estimate), over=over)
        self._ask_again()

    def _on_not_estimated(self, error: Exception | None = None) -> None:
        self._estimating = False
        text = "" if error is None else f"What it will take is not known: {error}"
        self._session.panel.show_estimate(text, over=False)
        self._ask_again()

    def _ask_again(self) -> None:
        if self._estimate_again:
            self._estimate_again = False
            self.estimate_soon()

    # A run

    def run(self) -> None:
        """Reconstruct with what the fields say."""
        session, panel = self._session, self._session.panel
        if self.reason():
            return
        settings = panel.settings_form.settings()
        names = self._inputs.names
        choice = panel.model_form.choice()
        assert choice is not None
        try:
            request = self.request()
            prepared = None if session.preparation is None else session.preparation.prepared
            self._center = None if prepared is None else prepared.center_lps
            session.layers.begin(self._inputs.pitches)
            job = session.worker.submit(
                session.engine.run(request, settings.device),
                owner=session,
                on_state=self._on_progress,
                on_done=lambda last: self._on_done(last, settings, names, choice.version),
                on_error=self._on_error,
                on_cancelled=self._on_cancelled,
            )
        except Cxr3dError as error:
            session.report(error)
            return
        self._job, session.running = job, True
        panel.status.clear()
        panel.offer_smaller(())
        panel.show_estimate("", over=False)
        panel.progress.start(
            "loading the model" if session.worker_ready else "starting the worker process"
        )
        session.state_changed.emit()

    def run_with(self, changes: dict[str, Any]) -> None:
        """Run again with some settings changed: what was offered after memory ran out."""
        form = self._session.panel.settings_form
        form.set_settings(replace(form.settings(), **changes))
        self.run()

    def cancel(self) -> None:
        """Stop within a step; a process that does not is ended."""
        if self._job is not None:
            self._job.cancel()

    def _on_progress(self, state: ReconstructionState) -> None:
        layers, panel = self._session.layers, self._session.panel
        if state.stage == "done":
            return
        text = state.message or state.stage
        panel.progress.show_part(state.fraction, text)
        if state.preview is None:
            return
        if state.stage == "coarse":
            layers.show_coarse(self._placed(state.preview))
        elif state.stage in ("sampling", "consistency"):
            layers.show_forming(self._placed(state.preview), text)

    def _on_done(
        self,
        last: ReconstructionState,
        settings: Settings,
        names: tuple[str, ...],
        version: str,
    ) -> None:
        self._finish()
        result = last.result
        session, panel = self._session, self._session.panel
        if result is None:
            session.layers.give_up()
            return
        self._result = result
        self._shown = session.layers.finish(
            [self._placed(volume) for volume in result.samples],
            result.seeds,
            mean=None if result.mean is None else self._placed(result.mean),
            std=None if result.std is None else self._placed(result.std),
            coarse=None if result.coarse is None else self._placed(result.coarse),
            derivation=result.provenance.to_dict(),
        )
        first = result.reprojection
        panel.result_form.show_agreement(agreement_pictures(result), agreement_text(result))
        panel.result_form.set_reasons("", has_uncertainty=result.std is not None)
        panel.show_result_section()
        seconds = float(result.timings.get("total", last.elapsed_s))
        model = result.provenance.model or ""
        panel.history.add(
            RunRecord(
                time=datetime.now().strftime("%H:%M"),
                xray=" + ".join(names),
                model=f"{model} {version}" if version not in model else model,
                model_name=model.split()[0] if model else "",
                settings=settings,
                steps=last.steps,
                relative_error=float(first.relative_error),
                seconds=seconds,
                shown=self._shown,
            )
        )
        made = "A SYNTHETIC CT was" if settings.samples == 1 else (
            f"{settings.samples} SYNTHETIC CTs were"
        )  # fmt: skip
        panel.status.show_notes(
            f"{made} made in {seconds:.1f} s. It is a model's guess and not for diagnosis.",
            [finding.message for finding in result.findings],
        )

    def _on_error(self, error: Exception) -> None:
        self._finish()
        self._session.layers.give_up()
        self._session.report(error)
        if isinstance(error, OutOfMemoryError):
            settings = self._session.panel.settings_form.settings()
            self._session.panel.offer_smaller(smaller_settings(settings))
        self._session.start_worker()

    def _on_cancelled(self) -> None:
        self._finish()
        self._session.layers.give_up()
        self._session.panel.status.show_info("Cancelled; nothing was kept.")
        self._session.start_worker()

    def _finish(self) -> None:
        self._job, self._session.running = None, False
        self._session.panel.progress.finish()
        self._session.state_changed.emit()

    def _placed(self, volume: Volume) -> Volume:
        """A volume where its CT lies, if the X-ray is a projection of one: to look at both."""
        if self._center is None:
            return volume
        x, y, z = (o + c for o, c in zip(volume.origin_lps, self._center, strict=True))
        return replace(volume, origin_lps=(x, y, z))

    # After a run

    def show_again(self, record: RunRecord) -> None:
        """Show a former run's layers, and put its settings back."""
        session, panel = self._session, self._session.panel
        if session.running:
            return
        panel.settings_form.set_settings(record.settings)
        panel.model_form.choose(record.model_name)
        if session.layers.show(record.shown):
            panel.status.show_info(f"The run of {record.time} is shown; its settings are back.")
        else:
            panel.status.show_info(
                f"The layers of the run of {record.time} were deleted. Its settings are back: the "
                "same X-ray and seed give the same volume."
            )

    def use_window(self, name: str) -> None:
        """Show the newest run's volumes through a window."""
        for layer in self._layers():
            if kind_of_layer(layer) == "ct":
                set_window(layer, WINDOWS[name])

    def show_uncertainty(self, shown: bool) -> None:
        """Lay the uncertainty over the volume, or take it away."""
        for layer in self._layers():
            if kind_of_layer(layer) == "uncertainty":
                layer.visible = shown

    def add_reprojection(self) -> None:
        """Add the X-ray of the synthetic volume as a layer, as it lies on the model's detector."""
        result = self._result
        if result is None:
            return
        for picture, view in zip(result.reprojection.integrals, result.prepared.views, strict=True):
            radiograph = Radiograph(
                np.asarray(picture, np.float32),
                pitch_mm=(view.pixel_mm, view.pixel_mm),
                view=view,
                quantity="line_integral",
                synthetic=True,
            )
            add_reprojection(
                self._session.viewer, radiograph, derivation=result.provenance.to_dict()
            )

    def send_to_xray_panel(self) -> None:
        """Open the X-ray panel with the synthetic volume chosen."""
        layers = [layer for layer in self._layers() if kind_of_layer(layer) == "ct"]
        if not layers:
            self._session.panel.status.show_info("The synthetic volume was deleted: run again.")
            return
        layers[0].visible = True
        _, panel = self._session.viewer.window.add_plugin_dock_widget("napari-cxr3d", XRAY_PANEL)
        panel.controller.refresh()
        panel.controller.choose(layers[0].name)
        panel.controller.refresh()

    def close(self) -> None:
        """Hear nothing more; the session ends the worker."""
        self._timer.stop()
        self._job = self._result = self._shown = None
        self._session.layers.give_up()

    def _layers(self) -> list[Image]:
        """What is left of the newest run's layers."""
        return [] if self._shown is None else self._shown.alive(self._session.viewer)
