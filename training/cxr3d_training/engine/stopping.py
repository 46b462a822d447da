"""When a training stops before its last step: time, signals, the user."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Literal

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.progress import CancelToken

__all__ = ["REASONS", "Stop", "StopReason", "catch_signals"]

StopReason = Literal["done", "time", "terminated", "interrupted"]
REASONS: tuple[StopReason, ...] = ("done", "time", "terminated", "interrupted")


class Stop:
    """Why the loop should end after the step at hand, if it should.

    Parameters
    ----------
    max_minutes : float, optional
        Minutes from now after which it should.
    cancel : CancelToken, optional
        Cancelled by the user.
    """

    def __init__(self, max_minutes: float | None = None, cancel: CancelToken | None = None) -> None:
        if max_minutes is not None and not max_minutes > 0:
            raise InvalidInputError("The time limit must be positive", why=f"it is {max_minutes:g}")
        self._deadline = None if max_minutes is None else time.monotonic() + 60 * max_minutes
        self._cancel = cancel
        self._signal: StopReason | None = None

    @property
    def reason(self) -> StopReason | None:
        """The reason to stop; None to go on."""
        if self._signal is not None:
            return self._signal
        if self._cancel is not None and self._cancel.cancelled:
            return "interrupted"
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return "time"
        return None

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Note a signal; a second Ctrl-C does not wait for the step's end."""
        if number == signal.SIGINT and self._signal == "interrupted":
            raise KeyboardInterrupt
        self._signal = "interrupted" if number == signal.SIGINT else "terminated"


@contextmanager
def catch_signals(stop: Stop) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into a request to save and stop, while the loop runs.

    Only the main thread can; elsewhere the caller's cancel token does the same.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, stop.on_signal) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
