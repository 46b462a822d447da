"""Threads that run a compiled kernel on the blocks of its output."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

from napari_cxr3d.progress import CancelToken

__all__ = ["Workers", "available_threads"]


def available_threads() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Workers:
    """A crew of threads for the length of one call; none is left behind.

    The calling thread is one of the crew. Blocks are handed out one at a time, so that
    a thread that is held up by other programs holds up nobody else. What a block
    computes does not depend on who runs it or on how many threads there are.

    Parameters
    ----------
    threads : int
        Size of the crew.
    cancel : CancelToken, optional
        Looked at before every block.
    """

    def __init__(self, threads: int, cancel: CancelToken | None = None) -> None:
        self._threads = threads
        self._cancel = cancel
        self._pool = ThreadPoolExecutor(threads - 1, "kernel") if threads > 1 else None

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def run(self, work: Callable[[int], object], blocks: int) -> None:
        """Call ``work(block)`` for every block in ``range(blocks)``.

        Raises
        ------
        Cancelled
            If the token was cancelled before the last block began.
        """
        counter = itertools.count()

        def serve() -> None:
            while (block := next(counter)) < blocks:
                if self._cancel is not None:
                    self._cancel.raise_if_cancelled()
                work(block)

        helpers = []
        if self._pool is not None and blocks > 1:
            helpers = [self._pool.submit(serve) for _ in range(min(self._threads, blocks) - 1)]
        try:
            serve()
        finally:
            errors = [helper.exception() for helper in helpers]
        for error in errors:
            if error is not None:
                raise error
