"""What the World model panel does: it follows the layers, and owns the worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_cxr3d.widgets.common.panel_controller import PanelController
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


class WorldModelController(PanelController):
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
        self._panel = panel
        self.session: WorldModelSession
        self.session = session = WorldModelSession(
            viewer, panel, engine or WorldModelEngine(), own_process=own_process
        )
        self.pair = PairController(session)
        self.landmarks = LandmarkController(session, self.pair)
        self.tracks = TrackController(session, self.pair, self.landmarks)
        self.views = ViewController(session, self.pair)
        self.volumes = VolumeController(session, self.pair)
        self.map = MapController(session)
        panel.findings.changed.connect(session.state_changed)
        panel.pair_requested.connect(self.pair.take_canvas)
        self.follow(viewer, panel)
        session.runner.submit(
            lambda progress, cancel: session.engine.models(),
            lane="io",
            owner=session,
            on_done=self._on_models,
            on_error=session.report,
        )
        self.refresh()

    def refresh_parts(self) -> None:
        """Bring every choice of pictures, sweeps and CTs up to date."""
        for part in (self.pair, self.tracks, self.views, self.volumes):
            part.refresh()

    def close_parts(self) -> None:
        """End every part's work and take its unfinished layers away."""
        for part in (self.pair, self.landmarks, self.tracks, self.views, self.volumes, self.map):
            part.close()

    def _on_models(self, choices: Any) -> None:
        self._panel.model_form.show_models(choices)
        self.session.state_changed.emit()
