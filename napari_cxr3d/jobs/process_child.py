"""What runs inside a worker process; it knows nothing of windows.

Parent and child speak in pickles over the child's standard input and output. The parent
sends ``("run", id, work)``, with the work itself a pickle of its own, and ``("cancel", id)``;
the child answers ``(kind, id, payload)`` with the kinds of `runner`'s messages. The child
ends when its input does: it outlives no parent, however that one ended.
"""

from __future__ import annotations

import importlib
import inspect
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread
from typing import IO, Any

from napari_cxr3d.jobs.runner import Job, JobMessage, run_job
from napari_cxr3d.progress import CancelToken, ProgressCallback

__all__ = ["Call", "import_modules", "serve"]

READY = "ready"
_NOBODY = 0  # the id of what belongs to no job


@dataclass(frozen=True)
class Call:
    """A function with its arguments, as work for a runner or a worker process.

    Where the function has parameters called ``progress`` or ``cancel``, it is given the job's.

    Attributes
    ----------
    function : callable
        Of a module's top level, so that it can be sent to another process.
    args : tuple
        Its positional arguments.
    kwargs : mapping
        Its keyword arguments.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, progress: ProgressCallback, cancel: CancelToken) -> Any:
        """Call the function."""
        wanted = inspect.signature(self.function).parameters
        given = {"progress": progress, "cancel": cancel}
        told = {name: value for name, value in given.items() if name in wanted}
        return self.function(*self.args, **self.kwargs, **told)


def import_modules(names: tuple[str, ...]) -> None:
    """Import modules for what they bring along, so that later work does not wait for them."""
    for name in names:
        importlib.import_module(name)


def serve() -> None:
    """Take work from standard input until it ends. Never returns.

    Standard output belongs to the answers; what a library prints goes to standard error.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    sys.stdout = sys.stderr
    worker = _Worker(sys.stdin.buffer, answers)
    Thread(target=worker.listen, name="worker's ear", daemon=True).start()
    worker.work()


class _Worker:
    """One thread that listens, and the main thread that works."""

    def __init__(self, requests: IO[bytes], answers: IO[bytes]) -> None:
        self._requests, self._answers = requests, answers
        self._speaking = Lock()
        self._waiting: SimpleQueue[tuple[int, bytes]] = SimpleQueue()
        self._tokens: dict[int, CancelToken] = {}

    def listen(self) -> None:
        """Queue what is to be run, and pass cancellations on at once."""
        while True:
            try:
                kind, job_id, payload = pickle.load(self._requests)
            except (EOFError, OSError):
                os._exit(0)  # the parent is gone: nobody wants the rest
            if kind == "run":
                self._tokens[job_id] = CancelToken()
                self._waiting.put((job_id, payload))
            elif job_id in self._tokens:
                self._tokens[job_id].cancel()

    def work(self) -> None:
        """Say that the process is up, then run what is queued, one job after the other."""
        self._say(READY, _NOBODY, None)
        while True:
            job_id, payload = self._waiting.get()
            self._run(job_id, payload)
            del self._tokens[job_id], payload

    def _run(self, job_id: int, payload: bytes) -> None:
        def post(message: JobMessage) -> None:
            self._say(message.kind, job_id, message.payload)

        try:
            work = pickle.loads(payload)
        except Exception as error:  # noqa: BLE001  told to the parent
            self._say("error", job_id, error)
            return
        job: Job[Any] = Job(work, "accelerator", None, False, None, None, None, None, None, None)
        job.token = self._tokens[job_id]
        message = run_job(job, post)
        try:
            post(message)
        except Exception as error:  # noqa: BLE001  a result that cannot be sent
            self._say("error", job_id, error)

    def _say(self, kind: str, job_id: int, payload: Any) -> None:
        if kind == "error":
            payload = sendable(payload)
        content = pickle.dumps(payload, protocol=pickle.HIGHEST_PROTOCOL)
        with self._speaking:
            pickle.dump((kind, job_id, content), self._answers, pickle.HIGHEST_PROTOCOL)
            self._answers.flush()


def sendable(error: Exception) -> Exception:
    """The error itself, with a note where it arose, or one that says the same.

    A traceback cannot be sent; its lines travel as a note, without anybody's folders.
    """
    frames = traceback.extract_tb(error.__traceback__)
    where = [f"  {frame.name} ({Path(frame.filename).name}:{frame.lineno})" for frame in frames]
    try:
        copy = pickle.loads(pickle.dumps(error))
        whole = type(copy) is type(error) and str(copy) == str(error)
    except Exception:  # noqa: BLE001  whatever an error's own pickling raises
        whole = False
    told = error if whole else RuntimeError(f"{type(error).__name__}: {error}")
    told.add_note("\n".join(["in the worker process:", *where]))
    return told
