"""A second Python process for work that should be stoppable at once and give back its memory.

A network that runs in a process of its own can be ended between two instructions, takes
nothing else with it when its driver crashes, and leaves no memory on the accelerator once
it is gone. The libraries load while the user still fills in a form.
"""

from __future__ import annotations

import atexit
import pickle
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakSet

from qtpy.QtCore import QCoreApplication, QObject, Qt, QTimer, Signal, Slot

from napari_cxr3d.errors import WorkerProcessError
from napari_cxr3d.jobs.process_child import READY, Call, import_modules
from napari_cxr3d.jobs.process_link import ENDED, Answer, ProcessLink, cause_of_end
from napari_cxr3d.jobs.runner import ENDINGS, Job, JobMessage, Work, answer
from napari_cxr3d.progress import Progress

__all__ = ["ProcessJob", "WorkerProcess"]

T = TypeVar("T")

GRACE_S = 3.0  # from the wish to cancel to the end of the process


@dataclass(eq=False)
class ProcessJob(Job[T]):
    """A `Job` whose cancellation reaches the process that runs it."""

    told: Callable[[ProcessJob[Any]], None] | None = None

    def cancel(self) -> None:
        """Ask the work to stop; if it does not within a moment, its process is ended."""
        super().cancel()
        if self.told is not None:
            self.told(self)

    def silence(self) -> None:
        """Cancel, and deliver nothing at all."""
        super().silence()
        if self.told is not None:
            self.told(self)


class WorkerProcess(QObject):
    """Runs work like a lane of `JobRunner`, in a process of its own.

    The work is sent as a pickle, and so are its states and its result: what it is made of
    must lie at the top level of a module that the other process can import. Create it on
    the GUI thread; callbacks come there. A process that died is started again by the next
    `submit`.

    Parameters
    ----------
    modules : tuple of str
        What the process imports as soon as it is up.
    grace_s : float
        How long cancelled work may go on before its process is ended.

    Signals
    -------
    ready
        The process is up and has imported its modules.
    """

    ready = Signal()
    _posted = Signal(object, object)

    def __init__(
        self,
        modules: tuple[str, ...] = (),
        *,
        grace_s: float = GRACE_S,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._modules = modules
        self._live: dict[int, ProcessJob[Any]] = {}  # submitted and not yet delivered
        self._link: ProcessLink | None = None
        self._is_ready = self._closed = False
        self._grace = QTimer(self)
        self._grace.setSingleShot(True)
        self._grace.setInterval(round(1000 * grace_s))
        self._grace.timeout.connect(self._lose_patience)
        # Qt's type hints know no connection type here, PyQt and PySide do.
        self._posted.connect(self._deliver, Qt.ConnectionType.QueuedConnection)  # type: ignore[call-arg]
        application = QCoreApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self.close)
        _unclosed.add(self)

    @property
    def pid(self) -> int | None:
        """The process's id; None while there is none."""
        return None if self._link is None else self._link.pid

    @property
    def is_ready(self) -> bool:
        """Whether the process is up and has imported its modules."""
        return self._is_ready

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def start(self) -> None:
        """Start the process, if it does not run; `submit` does so too.

        Raises
        ------
        WorkerProcessError
            If the system starts no process.
        """
        if self._link is None and not self._closed:
            self._link = ProcessLink(self._posted.emit)
            if self._modules:  # what fails here fails again, and is told, in the first job
                imports = Call(import_modules, (self._modules,))
                self._send(self._job(imports, on_done=self._on_up, on_error=self._on_up))

    def submit(
        self,
        work: Work[T],
        *,
        newest_wins: bool = False,
        key: Hashable = None,
        owner: object = None,
        on_done: Callable[[T], None] | None = None,
        on_error: Callable[[Exception], None] | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        on_cancelled: Callable[[], None] | None = None,
        on_state: Callable[[Any], None] | None = None,
    ) -> ProcessJob[T]:
        """Run `work(progress, cancel)` in the process, after what was submitted before.

        Parameters as `JobRunner.submit`; a `Call` makes work of a function.

        Raises
        ------
        WorkerProcessError
            If the process was closed, none can be started, or the work cannot be sent.
        """
        if self._closed:
            raise WorkerProcessError("The worker process was closed")
        if newest_wins:
            for other in list(self._live.values()):
                if other.key == key:
                    other.cancel()
        job: ProcessJob[T] = self._job(
            work,
            key=key,
            owner=owner,
            on_done=on_done,
            on_error=on_error,
            on_progress=on_progress,
            on_cancelled=on_cancelled,
            on_state=on_state,
        )
        self.start()
        self._send(job)
        return job

    def busy(self) -> bool:
        """Whether a job runs, waits or is about to deliver."""
        return bool(self._live)

    def cancel_all(self, owner: object) -> None:
        """Cancel every job of `owner`; none of its callbacks is called any more."""
        for job in list(self._live.values()):
            if job.owner is owner:
                job.silence()

    @Slot()
    def close(self) -> None:
        """End the process at once; nothing is delivered any more. Safe to repeat."""
        self._closed = True
        self._live.clear()
        self._end()

    def _job(self, work: Work[T], **settings: Any) -> ProcessJob[T]:
        callbacks = ("on_done", "on_error", "on_progress", "on_cancelled", "on_state")
        given: dict[str, Any] = {name: settings.get(name) for name in ("key", "owner", *callbacks)}
        return ProcessJob(work, lane="accelerator", background=False, told=self._on_cancel, **given)

    def _send(self, job: ProcessJob[Any]) -> None:
        assert self._link is not None
        try:
            content = pickle.dumps(job.work, protocol=pickle.HIGHEST_PROTOCOL)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise WorkerProcessError(
                "This work cannot be sent to another process", why=str(error)
            ) from error
        self._live[job.id] = job
        self._link.send(("run", job.id, content))

    def _on_cancel(self, job: ProcessJob[Any]) -> None:
        if job.id in self._live and self._link is not None:
            self._link.send(("cancel", job.id, None))
            if not self._grace.isActive():
                self._grace.start()

    def _lose_patience(self) -> None:
        """End a process that did not heed a cancellation, and start over with the rest."""
        stuck = [job for job in self._live.values() if job.token.cancelled]
        if not stuck:
            return
        rest = [job for job in self._live.values() if not job.token.cancelled]
        self._live.clear()
        self._end()
        for job in stuck:
            answer(job, JobMessage(job, "cancelled"))
        if rest and not self._closed:
            self.start()
            for job in rest:
                self._send(job)

    def _end(self) -> None:
        link, self._link = self._link, None
        self._is_ready = False
        self._grace.stop()
        if link is not None:
            link.end()

    def _on_up(self, _: Any = None) -> None:
        self._is_ready = True
        self.ready.emit()

    @Slot(object, object)
    def _deliver(self, link: ProcessLink, told: Answer) -> None:
        if self._closed or link is not self._link:
            return
        kind, job_id, payload = told
        if kind == READY:
            if not self._modules:
                self._on_up()
        elif kind == ENDED:
            self._on_ended(payload)
        elif job_id in self._live:
            job = self._live[job_id]
            if kind in ENDINGS:
                del self._live[job_id]
                if not any(other.token.cancelled for other in self._live.values()):
                    self._grace.stop()
            answer(job, JobMessage(job, kind, payload))  # type: ignore[arg-type]

    def _on_ended(self, code: int) -> None:
        """The process ended by itself: tell those who wait."""
        jobs, self._live = list(self._live.values()), {}
        self._end()
        for job in jobs:
            error = WorkerProcessError(
                "The worker process ended in the middle of its work",
                why=cause_of_end(code),
                remedy="run again; if it happens again, choose fewer samples, a smaller model or "
                "another device",
            )
            answer(job, JobMessage(job, "error", error))


_unclosed: WeakSet[WorkerProcess] = WeakSet()


@atexit.register
def _close_all() -> None:
    for worker in list(_unclosed):
        worker.close()
