"""What the Reconstruct panel does: it follows the layers, and owns the worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_cxr3d.widgets.common.panel_controller import PanelController
from napari_cxr3d.widgets.reconstruct.engine import ReconstructionEngine
from napari_cxr3d.widgets.reconstruct.preparing import InputController
from napari_cxr3d.widgets.reconstruct.running import RunController
from napari_cxr3d.widgets.reconstruct.session import ReconstructSession

if TYPE_CHECKING:
    from napari import Viewer

    from napari_cxr3d.widgets.reconstruct.widget import ReconstructPanel

__all__ = ["ReconstructController"]


class ReconstructController(PanelController):
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
        self._panel = panel
        self.session: ReconstructSession
        self.session = session = ReconstructSession(
            viewer, panel, engine or ReconstructionEngine(), own_process=own_process
        )
        self.inputs = InputController(session)
        self.runs = RunController(session, self.inputs)
        self.follow(viewer, panel)
        self._list_models()
        self._list_devices()
        self.refresh()

    def refresh_parts(self) -> None:
        """Bring the choice of X-rays up to date."""
        self.inputs.refresh()

    def close_parts(self) -> None:
        """End the preparation and the run."""
        self.inputs.close()
        self.runs.close()

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
