"""The two pipes to a worker process, and the threads that write to one and read the other."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.spawn import get_executable
from queue import SimpleQueue
from threading import Thread
from typing import Any

from napari_cxr3d.errors import WorkerProcessError

__all__ = ["ENDED", "Answer", "ProcessLink", "cause_of_end", "processes_can_start"]

ENDED = "ended"
Answer = tuple[str, int, Any]
"""Kind, id of the job, payload."""

_END_S = 5.0  # for a process and its threads to disappear once they were told to
# The paths come first: what follows can then be found. Nothing of the parent's script is run.
_CHILD = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from napari_cxr3d.jobs.process_child import serve; serve()"
)


def processes_can_start() -> bool:
    """Whether this Python can start another: an application frozen into one file cannot."""
    return not getattr(sys, "frozen", False)


class ProcessLink:
    """A child process that serves, and what is needed to speak with it.

    Parameters
    ----------
    post : callable
        Told of each answer, with this link, on a thread of the link; the last is `ENDED` with
        the exit code.

    Raises
    ------
    WorkerProcessError
        If the system starts no process.
    """

    def __init__(self, post: Callable[[ProcessLink, Answer], None]) -> None:
        try:
            self._process = subprocess.Popen(
                [get_executable(), "-c", _CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        except OSError as error:
            raise WorkerProcessError(
                "The worker process could not be started",
                why=error.strerror or type(error).__name__,
                remedy="turn the worker process off in the plugin's preferences",
            ) from error
        self._post = post
        self._outgoing: SimpleQueue[bytes | None] = SimpleQueue()
        self._threads = [
            Thread(target=work, name=f"napari-cxr3d worker {name}", daemon=True)
            for name, work in (("ear", self._listen), ("mouth", self._speak))
        ]
        self.send(list(sys.path))
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def send(self, message: Any) -> None:
        """Queue a message: a big one must not hold up the GUI thread."""
        self._outgoing.put(pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL))

    def end(self) -> None:
        """Kill the process, and wait until it and the threads are gone."""
        self._outgoing.put(None)
        self._process.kill()
        self._process.wait(_END_S)
        for thread in self._threads:
            thread.join(_END_S)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()

    def _speak(self) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        while (message := self._outgoing.get()) is not None:
            with suppress(OSError):  # the process is gone: the ear notices
                pipe.write(message)
                pipe.flush()

    def _listen(self) -> None:
        pipe = self._process.stdout
        assert pipe is not None
        while True:
            try:
                kind, job_id, content = pickle.load(pipe)
            except (EOFError, OSError, pickle.UnpicklingError):
                break
            self._pass_on(kind, job_id, content)
            del content  # an idle thread must keep no result alive
        self._tell((ENDED, 0, self._process.wait()))

    def _pass_on(self, kind: str, job_id: int, content: bytes) -> None:
        try:
            payload = pickle.loads(content)
        except Exception as error:  # noqa: BLE001  handed to on_error on the GUI thread
            kind, payload = "error", error
        self._tell((kind, job_id, payload))

    def _tell(self, answer: Answer) -> None:
        with suppress(RuntimeError):  # Qt has deleted the receiver
            self._post(self, answer)


def cause_of_end(code: int) -> str:
    """What a process's exit code says about its end, as a clause."""
    if code == -getattr(signal, "SIGKILL", 9):
        return "it was killed, perhaps by the system for want of memory"
    if code < 0:
        return f"it was ended by signal {-code}"
    return f"its exit code was {code}"
