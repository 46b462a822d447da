"""What the controllers of the World model panel share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_cxr3d.viewer.world_model_board import PictureBoard
from napari_cxr3d.widgets.common.worker_session import WorkerSession
from napari_cxr3d.widgets.world_model.engine import WORKER_MODULES, WorldModelEngine

if TYPE_CHECKING:
    from napari import Viewer

    from napari_cxr3d.widgets.world_model.widget import WorldModelPanel

__all__ = ["NO_MODEL", "WorldModelSession"]

NO_MODEL = (
    "No world model is here: install a bundle with “cxr3d models install FILE”, then open this "
    "panel again."
)


class WorldModelSession(WorkerSession):
    """The boards that take the viewer's canvas in turn, and who does the work.

    What is done with the network's features while the mouse moves is done in this process.
    """

    panel: WorldModelPanel
    engine: WorldModelEngine

    def __init__(
        self,
        viewer: Viewer,
        panel: WorldModelPanel,
        engine: WorldModelEngine,
        *,
        own_process: bool | None = None,
    ) -> None:
        super().__init__(viewer, panel, engine, WORKER_MODULES, own_process=own_process)
        self.pair = PictureBoard(viewer, "Names · pictures")
        self.turned = PictureBoard(viewer, "Names · views")

    @property
    def model(self) -> str:
        """Name of the chosen model; ``""`` where there is none."""
        choice = self.panel.model_form.choice()
        return "" if choice is None else choice.name

    def derivation(self, **parameters: Any) -> dict[str, Any]:
        """What a layer says of the work that made it."""
        from napari_cxr3d.provenance import Provenance

        return Provenance("world model", parameters, model=self.model).to_dict()
