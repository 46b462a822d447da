"""What the World model panel does: it follows the layers, and owns the worker."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from napari_cxr3d.viewer.attach import attach
from napari_cxr3d.widgets.reconstruct.session import single_shot
from napari_cxr3d.widgets.world_model.engine import WorldModelEngine
from napari_cxr3d.widgets.world_model.landmarks import LandmarkController
from napari_cxr3d.widgets.world_model.mapping import MapController
from napari_cxr3d.widgets.world_model.pairing import PairController
from napari_cxr3d.widgets.world_model.session import WorldModelSession
from napari_cxr3d.widgets.world_model.tracking import TrackController
from napari_cxr3d.widgets.world_model.viewing import ViewController
from napari_cxr3d.widgets.world_model.volumes import VolumeController

if TYPE_CHECKING:
    from napari import Viewer

    from napari_cxr3d.widgets.world_model.widget import WorldModelPanel

__all__ = ["WorldModelController"]


class WorldModelController:
    """Connects the panel's parts with the viewer's layers and the worker.

    Parameters
    ----------
    viewer : Viewer
        Where pictures come from, and what is made of them goes.
    panel : WorldModelPanel
        The form.
    engine : WorldModelEngine, optional
        What does the work.
    own_process : bool, optional
        Whether the network runs in a process of its own; as the user prefers when None.
    """

    def __init__(
        self,
        viewer: Viewer,
        panel: WorldModelPanel,
        engine: WorldModelEngine | None = None,
        *,
        own_process: bool | None = None,
    ) -> None:
        self._viewer, self._panel = viewer, panel
        self.session = session = WorldModelSession(
            viewer, panel, engine or WorldModelEngine(), own_process=own_process
        )
        self.pair = PairController(session)
        self.landmarks = LandmarkController(session, self.pair)
        self.tracks = TrackController(session, self.pair, self.landmarks)
        self.views = ViewController(session, self.pair)
        self.volumes = VolumeController(session, self.pair)
        self.map = MapController(session)
        self._closed = False
        self._layers_timer = single_shot(session, 0, self.refresh)
        layers = viewer.layers.events
        self._layer_events = (layers.inserted, layers.removed, layers.reordered, layers.renamed)
        for event in self._layer_events:
            event.connect(self._on_layers)
        panel.findings.changed.connect(session.state_changed)
        panel.pair_requested.connect(self.pair.take_canvas)
        panel.window_closing.connect(self._on_window_closing)
        panel.detached.connect(self.close)
        panel.destroyed.connect(partial(_let_go, self))
        attach(viewer)
        session.start_worker()
        session.runner.submit(
            lambda progress, cancel: session.engine.models(),
            lane="io",
            owner=session,
            on_done=self._on_models,
            on_error=session.report,
        )
        self.refresh()

    def refresh(self) -> None:
        """Bring every choice of layers up to date with the viewer's."""
        if self._closed:
            return
        for part in (self.pair, self.tracks, self.views, self.volumes):
            part.refresh()
        self.session.state_changed.emit()

    def close(self) -> None:
        """Leave nothing behind: no process, no job, no timer, no unfinished layer."""
        if self._closed:
            return
        self._closed = True
        self._layers_timer.stop()
        for event in self._layer_events:
            event.disconnect(self._on_layers)
        for part in (self.pair, self.landmarks, self.tracks, self.views, self.volumes, self.map):
            part.close()
        self.session.close()

    def _on_models(self, choices: Any) -> None:
        self._panel.model_form.show_models(choices)
        self.session.state_changed.emit()

    def _on_layers(self, event: Any = None) -> None:
        self._layers_timer.start()

    def _on_window_closing(self, by_user: bool) -> None:
        """A window closed by a program is gone; the user may yet keep it open."""
        if not by_user:
            self.close()


def _let_go(controller: WorldModelController, *_: Any) -> None:
    controller.close()
