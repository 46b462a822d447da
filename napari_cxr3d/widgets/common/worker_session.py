"""What the controllers of a panel with a network share: the viewer, and who does the work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_cxr3d.errors import WorkerProcessError
from napari_cxr3d.jobs import JobRunner, WorkerProcess, job_runner, processes_can_start
from napari_cxr3d.viewer.preferences import works_in_own_process

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Image

__all__ = ["WorkerSession", "single_shot", "unwrapped_images"]


def unwrapped_images(viewer: Viewer) -> list[Image]:
    """The viewer's image layers themselves, the topmost first.

    Plugins are handed proxies; a weak reference must hold on to the layer behind one.
    """
    from napari.layers import Image

    layers = (getattr(layer, "__wrapped__", layer) for layer in reversed(viewer.layers))
    return [layer for layer in layers if isinstance(layer, Image)]


def single_shot(parent: QObject, milliseconds: int, then: Any) -> QTimer:
    """A timer that calls `then` once, so long after it was started last."""
    timer = QTimer(parent)
    timer.setSingleShot(True)
    timer.setInterval(milliseconds)
    timer.timeout.connect(then)
    return timer


class WorkerSession(QObject):
    """The viewer, the panel, its engine, and the worker.

    The network runs in a process of its own where the user and the system allow it; it
    starts when the panel opens and ends when the panel closes.

    Parameters
    ----------
    viewer : Viewer
        Whose layers are used.
    panel : QWidget
        With a `StatusCard` called ``status``.
    engine : object
        What does the work.
    modules : tuple of str
        What a process of its own imports first.
    own_process : bool, optional
        Whether there is one; as the user prefers when None.

    Signals
    -------
    state_changed
        Something that decides which buttons can be used is different.
    """

    state_changed = Signal()

    def __init__(
        self,
        viewer: Viewer,
        panel: Any,
        engine: Any,
        modules: tuple[str, ...],
        *,
        own_process: bool | None = None,
    ) -> None:
        super().__init__()
        self.viewer, self.panel, self.engine = viewer, panel, engine
        self.runner = job_runner()
        if own_process is None:
            own_process = works_in_own_process() and processes_can_start()
        self.worker: JobRunner | WorkerProcess = (
            WorkerProcess(modules) if own_process else self.runner
        )

    def start_worker(self) -> None:
        """Start the process, so that the first run does not wait for its libraries."""
        if isinstance(self.worker, WorkerProcess):
            try:
                self.worker.start()
            except WorkerProcessError as error:  # the panel works without it
                self.worker = self.runner
                self.report(error)

    def report(self, error: Exception) -> None:
        """Say on the status line what went wrong."""
        self.panel.status.show_error(error)

    def close(self) -> None:
        """Stop everything; the process and the memory that it held are gone."""
        self.runner.cancel_all(self)
        if isinstance(self.worker, WorkerProcess):
            self.worker.close()
