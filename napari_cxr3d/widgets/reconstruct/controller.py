"""What the Reconstruct panel does: it follows the layers, and owns the worker."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from napari_cxr3d.viewer.attach import attach
from napari_cxr3d.widgets.reconstruct.engine import ReconstructionEngine
from napari_cxr3d.widgets.reconstruct.preparing import InputController
from napari_cxr3d.widgets.reconstruct.running import RunController
from napari_cxr3d.widgets.reconstruct.session import ReconstructSession, single_shot

if TYPE_CHECKING:
    from napari import Viewer

    from napari_cxr3d.widgets.reconstruct.widget import ReconstructPanel

__all__ = ["ReconstructController"]


class ReconstructController:
    """Connects the panel's parts with the viewer's layers and the worker.

    Parameters
    ----------
    viewer : Viewer
        Where X-rays come from and volumes go.
    panel : ReconstructPanel
        The form.
    engine : ReconstructionEngine, optional
        What does the work.
    own_process : bool, optional
        Whether the network runs in a process of its own; as the user prefers when None.
    """

    def __init__(
        self,
        viewer: Viewer,
        panel: ReconstructPanel,
        engine: ReconstructionEngine | None = None,
        *,
        own_process: bool | None = None,
    ) -> None:
        self._viewer, self._panel = viewer, panel
        self.session = session = ReconstructSession(
            viewer, panel, engine or ReconstructionEngine(), own_process=own_process
        )
        self.inputs = InputController(session)
        self.runs = RunController(session, self.inputs)
        self._closed = False
        self._layers_timer = single_shot(session, 0, self.refresh)
        layers = viewer.layers.events
        self._layer_events = (layers.inserted, layers.removed, layers.reordered, layers.renamed)
        for event in self._layer_events:
            event.connect(self._on_layers)
        panel.window_closing.connect(self._on_window_closing)
        panel.detached.connect(self.close)
        panel.destroyed.connect(partial(_let_go, self))
        attach(viewer)
        session.start_worker()
        self._list_models()
        self._list_devices()
        self.refresh()

    def refresh(self) -> None:
        """Bring the choice of X-rays up to date with the viewer's layers."""
        if not self._closed:
            self.inputs.refresh()
            self.session.state_changed.emit()

    def close(self) -> None:
        """Leave nothing behind: no process, no job, no timer, no unfinished layer."""
        if self._closed:
            return
        self._closed = True
        self._layers_timer.stop()
        for event in self._layer_events:
            event.disconnect(self._on_layers)
        self.inputs.close()
        self.runs.close()
        self.session.close()

    def _list_models(self) -> None:
        engine = self.session.engine
        self.session.runner.submit(
            lambda progress, cancel: engine.models(),
            lane="io",
            owner=self.session,
            on_done=self._panel.model_form.show_models,
            on_error=self.session.report,
        )

    def _list_devices(self) -> None:
        self.session.worker.submit(
            self.session.engine.devices(),
            owner=self.session,
            on_done=self._panel.settings_form.show_devices,
            on_error=self.session.report,
        )

    def _on_layers(self, event: Any = None) -> None:
        self._layers_timer.start()

    def _on_window_closing(self, by_user: bool) -> None:
        """A window closed by a program is gone; the user may yet keep it open."""
        if not by_user:
            self.close()


def _let_go(controller: ReconstructController, *_: Any) -> None:
    controller.close()
