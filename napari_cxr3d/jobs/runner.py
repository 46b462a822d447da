"""Run pure functions in the background and bring their results to the GUI thread.

There are two lanes, one thread each: ``"accelerator"`` for everything that computes and
``"io"`` for everything that waits for a disk. A lane runs one job at a time, first in,
first out. A job may say that it replaces older ones of its kind (`newest_wins`), or that
it steps aside for anything else (`background`). Callbacks run on the GUI thread only,
and a job that was cancelled never delivers a result.
"""

from __future__ import annotations

import atexit
import time
from collections import deque
from collections.abc import Callable, Generator, Hashable
from dataclasses import dataclass, field
from itertools import count
from threading import Condition, Thread
from typing import Any, Generic, Literal, TypeVar

from qtpy.QtCore import QCoreApplication, QObject, Qt, Signal, Slot

from napari_cxr3d.errors import Cancelled
from napari_cxr3d.progress import CancelToken, Progress, ProgressCallback

__all__ = ["Job", "JobMessage", "JobRunner", "Lane", "Work", "answer", "job_runner", "run_job"]

T = TypeVar("T")
Lane = Literal["io", "accelerator"]
Work = Callable[[ProgressCallback, CancelToken], T]

LANES: tuple[Lane, ...] = ("io", "accelerator")
PROGRESS_INTERVAL_S = 0.05
ENDINGS = ("done", "error", "cancelled")  # the kinds of message after which a job is over
IDLE_THREAD_S = 2.0  # a lane's thread ends after this long without work

_job_ids = count(1)


@dataclass(eq=False)
class Job(Generic[T]):
    """A piece of work that was submitted.

    Attributes
    ----------
    id : int
        Unique within the process, growing with the time of submission.
    lane : {"io", "accelerator"}
        Where it runs.
    key : hashable
        What `newest_wins` compares; None for a job that nothing replaces.
    background : bool
        Whether it steps aside for other jobs of its lane.
    owner : object
        For `JobRunner.cancel_all`.
    """

    work: Work[T]
    lane: Lane
    key: Hashable
    background: bool
    owner: object
    on_done: Callable[[T], None] | None
    on_error: Callable[[Exception], None] | None
    on_progress: Callable[[Progress], None] | None
    on_cancelled: Callable[[], None] | None
    on_state: Callable[[Any], None] | None
    id: int = field(default_factory=lambda: next(_job_ids))
    token: CancelToken = field(default_factory=CancelToken)

    def cancel(self) -> None:
        """Ask the work to stop; from now on it delivers `on_cancelled` and nothing else."""
        self.token.cancel()

    def silence(self) -> None:
        """Cancel, and deliver nothing at all."""
        self.token.cancel()
        self.on_done = self.on_progress = self.on_cancelled = self.on_state = None
        self.on_error = _ignore


def _ignore(error: Exception) -> None:
    """The error handler of a job that nobody waits for any more."""


@dataclass(frozen=True)
class JobMessage:
    """What a lane, or a worker process, tells the GUI thread about a job."""

    job: Job[Any]
    kind: Literal["done", "error", "cancelled", "progress", "state"]
    payload: Any = None


class _LaneQueue:
    """The jobs of one lane and the thread that runs them."""

    def __init__(self, name: Lane, post: Callable[[JobMessage], None]) -> None:
        self._name = name
        self._post = post
        self._pending: deque[Job[Any]] = deque()
        self._running: Job[Any] | None = None
        self._changed = Condition()
        self._thread: Thread | None = None
        self._closed = False

    def submit(self, job: Job[Any]) -> None:
        with self._changed:
            running = [] if self._running is None else [self._running]
            for other in [*running, *self._pending]:
                if other.background and not job.background:
                    other.cancel()
            self._pending.append(job)
            if self._thread is None:
                self._thread = Thread(
                    target=self._run, name=f"napari-cxr3d {self._name}", daemon=True
                )
                self._thread.start()
            self._changed.notify()

    def close(self, timeout_s: float) -> bool:
        """End the thread after its running job; whether it ended in time."""
        with self._changed:
            self._closed = True
            self._pending.clear()
            thread = self._thread
            self._changed.notify()
        if thread is None:
            return True
        thread.join(timeout_s)
        return not thread.is_alive()

    def _take(self) -> Job[Any] | None:
        """The next job; None when the thread should end."""
        with self._changed:
            self._running = None
            if not self._pending and not self._closed:
                self._changed.wait(IDLE_THREAD_S)
            if self._closed or not self._pending:
                self._thread = None
                return None
            urgent = next((job for job in self._pending if not job.background), self._pending[0])
            self._pending.remove(urgent)
            self._running = urgent
            return urgent

    def _run(self) -> None:
        while (job := self._take()) is not None:
            message = run_job(job, self._post)
            if not self._closed:
                self._post(message)
            del job, message  # an idle lane must keep no result alive


def run_job(job: Job[Any], post: Callable[[JobMessage], None]) -> JobMessage:
    """Run one job to its end; the message that ends it."""
    if job.token.cancelled:
        return JobMessage(job, "cancelled")
    last_progress = -PROGRESS_INTERVAL_S

    def report(progress: Progress) -> None:
        nonlocal last_progress
        now = time.monotonic()
        complete = progress.total > 0 and progress.done >= progress.total
        if complete or now - last_progress >= PROGRESS_INTERVAL_S:
            last_progress = now
            post(JobMessage(job, "progress", progress))

    try:
        result = job.work(report, job.token)
        if isinstance(result, Generator):
            result = _drain(job, result, post)
    except Cancelled:
        return JobMessage(job, "cancelled")
    except Exception as error:  # noqa: BLE001  handed to on_error on the GUI thread
        return JobMessage(job, "error", error)
    return JobMessage(job, "done", result)


def _drain(
    job: Job[Any], states: Generator[Any, None, Any], post: Callable[[JobMessage], None]
) -> Any:
    """Post each state of a generator; its return value, or its last state without one."""
    last = None
    while True:
        if job.token.cancelled:
            states.close()
            raise Cancelled
        try:
            last = next(states)
        except StopIteration as stop:
            return last if stop.value is None else stop.value
        post(JobMessage(job, "state", last))


class JobRunner(QObject):
    """Two lanes of background work whose callbacks run on the GUI thread.

    Create it on the GUI thread, or use the shared instance of `job_runner`.
    """

    _posted = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._lanes = {name: _LaneQueue(name, self._posted.emit) for name in LANES}
        self._live: dict[int, Job[Any]] = {}  # submitted and not yet delivered
        self._closed = False
        # Qt's type hints know no connection type here, PyQt and PySide do.
        self._posted.connect(self._deliver, Qt.ConnectionType.QueuedConnection)  # type: ignore[call-arg]
        application = QCoreApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self.shutdown)

    @property
    def closed(self) -> bool:
        """Whether `shutdown` was called."""
        return self._closed

    def submit(
        self,
        work: Work[T],
        *,
        lane: Lane = "accelerator",
        newest_wins: bool = False,
        key: Hashable = None,
        background: bool = False,
        owner: object = None,
        on_done: Callable[[T], None] | None = None,
        on_error: Callable[[Exception], None] | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        on_cancelled: Callable[[], None] | None = None,
        on_state: Callable[[Any], None] | None = None,
    ) -> Job[T]:
        """Run `work(progress, cancel)` in the background.

        Parameters
        ----------
        work : callable
            A function without Qt; it may look at the token and raise `Cancelled`. It may
            also be a generator function: each state it yields goes to `on_state`, it
            stops at the next yield when cancelled, and its return value (its last state
            if it returns nothing) goes to `on_done`.
        lane : {"accelerator", "io"}
            Which thread runs it.
        newest_wins : bool
            Cancel older jobs of the same `key` in this lane, pending or running.
        key : hashable, optional
            The kind of job that `newest_wins` compares.
        background : bool
            Run when nothing else waits, and be cancelled as soon as something does.
        owner : object, optional
            Whose job it is, for `cancel_all`.
        on_done, on_error, on_progress, on_cancelled, on_state : callable, optional
            Called on the GUI thread. Exactly one of done, error and cancelled is called,
            once. An error that nobody handles is raised there.

        Raises
        ------
        RuntimeError
            If the runner was shut down.
        """
        if self._closed:
            raise RuntimeError("The job runner was shut down; ask job_runner() for a new one.")
        job: Job[T] = Job(
            work=work,
            lane=lane,
            key=key,
            background=background,
            owner=owner,
            on_done=on_done,
            on_error=on_error,
            on_progress=on_progress,
            on_cancelled=on_cancelled,
            on_state=on_state,
        )
        if newest_wins:
            for other in self._live.values():
                if other.lane == lane and other.key == key:
                    other.cancel()
        self._live[job.id] = job
        self._lanes[lane].submit(job)
        return job

    def cancel_all(self, owner: object) -> None:
        """Cancel every job of `owner`; none of its callbacks is called any more."""
        for job in self._live.values():
            if job.owner is owner:
                job.silence()

    def busy(self, lane: Lane | None = None) -> bool:
        """Whether a job runs, waits or is about to deliver, in one lane or in any."""
        return any(lane in (None, job.lane) for job in self._live.values())

    def shutdown(self, timeout_s: float = 10.0) -> bool:
        """Cancel everything and wait for the threads; whether all ended in time."""
        self._closed = True
        for job in self._live.values():
            job.silence()
        self._live.clear()
        ended = [lane.close(timeout_s) for lane in self._lanes.values()]
        return all(ended)

    @Slot(object)
    def _deliver(self, message: JobMessage) -> None:
        if self._closed:
            return
        if message.kind in ENDINGS:
            del self._live[message.job.id]
        answer(message.job, message)


def answer(job: Job[Any], message: JobMessage) -> None:
    """Call the callback that a message is for; of a cancelled job no other than that it was.

    An error is told even then, and raised where nobody hears it.
    """
    kind, payload = message.kind, message.payload
    if job.token.cancelled and kind != "error":
        if kind not in ENDINGS:
            return
        kind = "cancelled"
    if kind == "cancelled":
        if job.on_cancelled is not None:
            job.on_cancelled()
        return
    if kind == "error" and job.on_error is None:
        raise payload
    callback = {
        "done": job.on_done,
        "error": job.on_error,
        "progress": job.on_progress,
        "state": job.on_state,
    }[kind]
    if callback is not None:
        callback(payload)


_shared: JobRunner | None = None


@atexit.register
def _shutdown_shared() -> None:
    if _shared is not None:
        _shared.shutdown(timeout_s=1.0)


def job_runner() -> JobRunner:
    """The runner that all panels share, so that one accelerator serves one job at a time."""
    global _shared
    if _shared is None or _shared.closed:
        _shared = JobRunner()
    return _shared
