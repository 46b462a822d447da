"""Making a sweep, scrubbing and playing it, and recording it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_cxr3d.errors import Cxr3dError
from napari_cxr3d.imaging import XrayView
from napari_cxr3d.jobs import Job
from napari_cxr3d.progress import CancelToken, ProgressCallback
from napari_cxr3d.viewer.xray_canvas import Sweep
from napari_cxr3d.widgets.xray.output import source_paths
from napari_cxr3d.widgets.xray.rendering import Look
from napari_cxr3d.widgets.xray.session import XraySession
from napari_cxr3d.widgets.xray.sweep_form import SweepForm, SweepRange

__all__ = ["SweepController", "views_of_range"]

_RUNNING = "A sweep is being made: wait, or cancel it."
_NO_CT = "Choose a CT first."
_NO_SWEEP = "Make a sweep first."
_LIVE = "The live radiograph is shown."
_FOLDER = "sweep"
_FILMS = {"GIF": (".gif", "GIF (*.gif)"), "MP4": (".mp4", "MPEG-4 (*.mp4)")}


def views_of_range(base: XrayView, sweep: SweepRange) -> tuple[XrayView, ...]:
    """The views of a sweep, from the smallest angle to the largest.

    Raises
    ------
    InvalidInputError
        If an angle cannot be used, such as a pitch beyond 90 degrees.
    """
    settings: list[dict[str, Any]] = [
        {sweep.axis: sweep.start + k * sweep.step} for k in range(sweep.count)
    ]
    return tuple(replace(base, **turned) for turned in settings)


class SweepController:
    """Connects the sweep section with the projector, the canvas and the exporters."""

    def __init__(self, session: XraySession, form: SweepForm) -> None:
        self._session, self._form = session, form
        self._job: Job[Any] | None = None
        self._result: Any = None
        form.sweep_requested.connect(self.make)
        form.cancel_requested.connect(self.cancel)
        form.live_requested.connect(self.back_to_live)
        form.record_requested.connect(self.ask_and_record)
        form.rejected.connect(session.report)
        session.state_changed.connect(self.show_reasons)

    def show_reasons(self) -> None:
        """Say why each button cannot be used, if so."""
        canvas, running = self._session.canvas, self._job is not None
        shown = canvas is not None and canvas.shows_sweep
        self._form.set_reasons(
            make=_RUNNING if running else ("" if self._session.live.scene else _NO_CT),
            live="" if shown else _LIVE,
            record=_RUNNING if running else ("" if self._result is not None else _NO_SWEEP),
        )

    def make(self, sweep: SweepRange) -> None:
        """Project every angle of the range at full resolution."""
        session = self._session
        scene, look = session.live.scene, session.live.look
        if scene is None or self._job is not None:
            return
        assert isinstance(look, Look)
        try:
            views = views_of_range(session.panel.geometry_form.view, sweep)
        except Cxr3dError as error:
            session.report(error)
            return
        renderer = session.renderer

        def work(progress: ProgressCallback, cancel: CancelToken) -> Any:
            return renderer.render_sweep(scene, views, look, progress, cancel)

        self._start(
            session.runner.submit(
                work,
                owner=session,
                on_done=lambda outcome: self._on_made(views, sweep.axis, outcome),
                on_error=self._on_error,
                on_cancelled=lambda: self._on_cancelled("The sweep was cancelled."),
                on_progress=self._form.show_progress,
            ),
            "projecting the sweep",
        )

    def cancel(self) -> None:
        """Stop what runs; what was there before stays."""
        if self._job is not None:
            self._job.cancel()

    def back_to_live(self) -> None:
        """Show the radiograph that follows the sliders again."""
        if self._session.frame is not None:
            self._session.frame_changed.emit(self._session.frame)
            self._session.state_changed.emit()

    def ask_and_record(self, kind: str) -> None:
        """Ask for a path and write the sweep there."""
        panel = self._session.panel
        if kind in _FILMS:
            suffix, pattern = _FILMS[kind]
            path = panel.ask_save_path(f"Record the sweep: {kind}", suffix, pattern)
        else:
            folder = panel.ask_folder("Record the sweep: where to make a folder of pictures")
            path = str(Path(folder) / _FOLDER) if folder else ""
        if path:
            self.record(Path(path))

    def record(self, path: Path) -> None:
        """Write the sweep as a film, or as pictures into a folder."""
        result, sources = self._result, source_paths(self._session)
        if result is None or self._job is not None:
            return

        def work(progress: ProgressCallback, cancel: CancelToken) -> Any:
            from napari_cxr3d.io.export import save

            return save(
                result.pictures,
                path,
                views=result.views,
                quantity=result.quantity,
                provenance=result.provenance.to_dict(),
                bits=8,
                overwrite=True,  # the file dialog asked
                sources=sources,
                progress=progress,
                cancel=cancel,
            )

        self._start(
            self._session.runner.submit(
                work,
                lane="io",
                owner=self._session,
                on_done=lambda _: self._on_recorded(path),
                on_error=self._on_error,
                on_cancelled=lambda: self._on_cancelled("The recording was cancelled."),
                on_progress=self._form.show_progress,
            ),
            "recording",
        )

    def forget(self) -> None:
        """Drop the sweep: its CT is gone."""
        self.cancel()
        self._result = None

    def close(self) -> None:
        """Stop, and hear nothing more; the session cancels the job itself."""
        self._job = self._result = None

    def _start(self, job: Job[Any], message: str) -> None:
        self._job = job
        self._form.start_progress(message)
        self._session.state_changed.emit()

    def _finish(self) -> None:
        self._job = None
        self._form.finish_progress()
        self._session.state_changed.emit()

    def _on_made(self, views: tuple[XrayView, ...], axis: str, outcome: tuple[Any, Any]) -> None:
        pictures, result = outcome
        self._result = result
        sweep = Sweep(pictures, views, axis, result.provenance.to_dict())
        self._session.open_canvas().show_sweep(sweep)
        self._session.panel.status.show_info(
            f"The sweep has {len(views)} views: scrub or play it below the X-ray view."
        )
        self._finish()

    def _on_recorded(self, path: Path) -> None:
        self._session.panel.status.show_info(f"Recorded the sweep as {path.name}.")
        self._finish()

    def _on_error(self, error: Exception) -> None:
        self._session.report(error)
        self._finish()

    def _on_cancelled(self, message: str) -> None:
        self._session.panel.status.show_info(message)
        self._finish()
