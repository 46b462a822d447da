"""What the controllers of the World model panel share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_cxr3d.errors import WorkerProcessError
from napari_cxr3d.jobs import JobRunner, WorkerProcess, job_runner, processes_can_start
from napari_cxr3d.viewer.preferences import works_in_own_process
from napari_cxr3d.viewer.world_model_board import PictureBoard
from napari_cxr3d.widgets.world_model.engine import WORKER_MODULES, WorldModelEngine

if TYPE_CHECKING:
    from napari import Viewer

    from napari_cxr3d.widgets.world_model.widget import WorldModelPanel

__all__ = ["NO_MODEL", "WorldModelSession"]

NO_MODEL = (
    "No world model is here: install a bundle with “cxr3d models install FILE”, then open this "
    "panel again."
)


class WorldModelSession(QObject):
    """The viewer, the boards that take its canvas in turn, and who does the work.

    The network runs in a process of its own where the user and the system allow it. What is
    done with its features while the mouse moves is done here.

    Signals
    -------
    state_changed
        Something that decides which buttons can be used is different.
    """

    state_changed = Signal()

    def __init__(
        self,
        viewer: Viewer,
        panel: WorldModelPanel,
        engine: WorldModelEngine,
        *,
        own_process: bool | None = None,
    ) -> None:
        super().__init__()
        self.viewer, self.panel, self.engine = viewer, panel, engine
        self.pair = PictureBoard(viewer, "Names · pictures")
        self.turned = PictureBoard(viewer, "Names · views")
        self.runner = job_runner()
        if own_process is None:
            own_process = works_in_own_process() and processes_can_start()
        self.worker: JobRunner | WorkerProcess = (
            WorkerProcess(WORKER_MODULES) if own_process else self.runner
        )

    def start_worker(self) -> None:
        """Start the process, so that the first picture does not wait for its libraries."""
        if isinstance(self.worker, WorkerProcess):
            try:
                self.worker.start()
            except WorkerProcessError as error:  # the panel works without it
                self.worker = self.runner
                self.report(error)

    @property
    def model(self) -> str:
        """Name of the chosen model; ``""`` where there is none."""
        choice = self.panel.model_form.choice()
        return "" if choice is None else choice.name

    def report(self, error: Exception) -> None:
        """Say on the status line what went wrong."""
        self.panel.status.show_error(error)

    def derivation(self, **parameters: Any) -> dict[str, Any]:
        """What a layer says of the work that made it."""
        from napari_cxr3d.provenance import Provenance

        return Provenance("world model", parameters, model=self.model).to_dict()

    def close(self) -> None:
        """Stop everything; the process and the memory that it held are gone."""
        self.runner.cancel_all(self)
        if isinstance(self.worker, WorkerProcess):
            self.worker.close()
