"""What the controllers of the Reconstruct panel share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_cxr3d.jobs import WorkerProcess
from napari_cxr3d.viewer.reconstruction import ReconstructionLayers
from napari_cxr3d.widgets.common.worker_session import WorkerSession
from napari_cxr3d.widgets.reconstruct.engine import (
    WORKER_MODULES,
    Preparation,
    ReconstructionEngine,
)

if TYPE_CHECKING:
    from napari import Viewer

    from napari_cxr3d.widgets.reconstruct.widget import ReconstructPanel

__all__ = ["ReconstructSession"]


class ReconstructSession(WorkerSession):
    """The X-rays as they were prepared, and who does the work.

    Reading and preparing X-rays takes too little for a process of its own.
    """

    panel: ReconstructPanel
    engine: ReconstructionEngine

    def __init__(
        self,
        viewer: Viewer,
        panel: ReconstructPanel,
        engine: ReconstructionEngine,
        *,
        own_process: bool | None = None,
    ) -> None:
        super().__init__(viewer, panel, engine, WORKER_MODULES, own_process=own_process)
        self.layers = ReconstructionLayers(viewer)
        self.preparation: Preparation | None = None
        self.preparing = False
        self.running = False

    @property
    def worker_ready(self) -> bool:
        """Whether work would begin at once."""
        return not isinstance(self.worker, WorkerProcess) or self.worker.is_ready

    def close(self) -> None:
        """Stop everything, and let go of the X-rays."""
        super().close()
        self.preparation = None
