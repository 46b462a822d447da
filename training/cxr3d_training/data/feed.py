"""Batches for a training loop, made in background threads, the same on every run.

A sample depends on (seed, step, index) and on nothing else: not on the number of threads, not on
how the batch is spread over processes, not on what was drawn before. To resume, a loop needs the
number of its step; to add processes, it needs their rank.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import Cancelled, Cxr3dError, InvalidInputError

if TYPE_CHECKING:
    import torch

__all__ = ["Batch", "Feed", "FeedError", "Finish", "Sample", "sample_rng"]

THREAD_NAME = "cxr3d-feed"

Array = npt.NDArray[Any]
Sample = Callable[[np.random.Generator], Mapping[str, Array]]
Batch = dict[str, "torch.Tensor"]
Finish = Callable[[Batch, Sequence[np.random.Generator]], Batch]


class FeedError(Cxr3dError):
    """A sample could not be made; the cause is the error that its function raised."""


def sample_rng(seed: int, step: int, index: int) -> np.random.Generator:
    """The generator of one sample: that of NumPy, seeded with [seed, step, index]."""
    return np.random.default_rng([seed, step, index])


class Feed:
    """An endless iterator of batches, prepared ahead in threads.

    The threads pay where a sample spends its time in code that releases Python's lock: reading,
    decompressing, NumPy, the projector's kernels.

    Parameters
    ----------
    sample : callable
        ``sample(rng)`` returns one sample as a dict of arrays, of the same names, shapes and
        dtypes every time. It must draw all that is random from `rng`, and it runs in several
        threads at once.
    batch_size : int
        Samples in a batch of this process.
    seed : int
        Seed of the run, 0 or more.
    rank, world_size : int
        Which of how many processes this is. Its sample j has the index
        ``rank * batch_size + j``: two processes with batches of B see, in the same step, what
        one process sees with a batch of 2 B.
    start_step : int
        The step of the first batch: that of the checkpoint when a run goes on.
    workers : int
        Threads; 0 makes every sample in the consumer's thread.
    device : str
        Where the batches go. For CUDA they lie in pinned memory first and are copied without
        waiting.
    finish : callable, optional
        ``finish(batch, rngs)`` runs in the consumer's thread after the copy to the device (to
        render views there, say) and returns the batch. `rngs` are the samples' generators as
        `sample` left them.
    prefetch : int
        Batches that are begun ahead of the one being delivered.

    Attributes
    ----------
    step : int
        The step of the batch that comes next.
    delivered : int
        Batches delivered so far.
    waited_s : float
        Seconds that the consumer has stood still for data: all the time within ``next(feed)``.
    finish_s : float
        The part of `waited_s` spent in `finish`.

    Raises
    ------
    InvalidInputError
        If a number cannot be used.

    Examples
    --------
    >>> def sample(rng):
    ...     return {"x": rng.normal(size=(1, 8, 8)).astype("float32")}
    >>> with Feed(sample, batch_size=4, seed=0) as feed:
    ...     batch = next(feed)
    >>> tuple(batch["x"].shape)
    (4, 1, 8, 8)
    """

    def __init__(
        self,
        sample: Sample,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        start_step: int = 0,
        workers: int = 2,
        device: str = "cpu",
        finish: Finish | None = None,
        prefetch: int = 2,
    ) -> None:
        for name, value, least in (
            ("batch size", batch_size, 1),
            ("seed", seed, 0),
            ("rank", rank, 0),
            ("start step", start_step, 0),
            ("number of workers", workers, 0),
            ("number of batches ahead", prefetch, 1),
        ):
            if value < least:
                raise InvalidInputError(
                    f"The feed's {name} must be {least} or more", why=f"it is {value}"
                )
        if rank >= world_size:
            raise InvalidInputError(
                "The rank must be smaller than the number of processes",
                why=f"it is {rank} of {world_size}",
            )
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.device = str(device)
        self.step = start_step
        self.delivered = 0
        self.waited_s = 0.0
        self.finish_s = 0.0
        self._sample = sample
        self._finish = finish
        self._ahead = prefetch
        self._pending: deque[_Making] = deque()
        self._stop = threading.Event()
        self._pool: ThreadPoolExecutor | None = None
        if workers:
            self._pool = ThreadPoolExecutor(workers, THREAD_NAME)
            # A feed that nobody closes takes its threads along: they hold no reference to it.
            self._finalizer = weakref.finalize(self, _abandon, self._pool, self._stop)

    def __iter__(self) -> Feed:
        return self

    def __next__(self) -> Batch:
        if self._stop.is_set():
            raise StopIteration
        began = time.perf_counter()
        try:
            return self._next()
        finally:
            self.waited_s += time.perf_counter() - began

    def __enter__(self) -> Feed:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop; no thread is left when this returns. The feed then has no further batch."""
        self._stop.set()
        self._pending.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def index(self, j: int) -> int:
        """The global index of this process's sample `j`."""
        return self.rank * self.batch_size + j

    def make(self, step: int, j: int) -> dict[str, Array]:
        """Make one sample here and now, as it was or will be delivered, to look into it.

        Parameters
        ----------
        step : int
            The step.
        j : int
            Its place in this process's batch.
        """
        return dict(self._sample(sample_rng(self.seed, step, self.index(j))))

    def _next(self) -> Batch:
        while len(self._pending) <= self._ahead:
            self._begin(self.step + len(self._pending))
        making = self._pending.popleft()
        if self._pool is None:
            making.run()
        try:
            batch = making.result.result()
        except BaseException:
            self.close()  # what comes after a lost batch would not be the run that was asked for
            raise
        self.step += 1
        batch = _on(batch, self.device)
        if self._finish is not None:
            began = time.perf_counter()
            batch = self._finish(batch, making.rngs)
            self.finish_s += time.perf_counter() - began
        self.delivered += 1
        return batch

    def _begin(self, step: int) -> None:
        rngs = [sample_rng(self.seed, step, self.index(j)) for j in range(self.batch_size)]
        pinned = self.device.startswith("cuda")
        making = _Making(self._sample, step, self.index(0), rngs, pinned, self._stop)
        self._pending.append(making)
        if self._pool is not None:
            for j in range(self.batch_size):
                self._pool.submit(making.make, j)


class _Making:
    """One batch in the making; whoever makes its last sample puts it together."""

    def __init__(
        self,
        sample: Sample,
        step: int,
        first_index: int,
        rngs: list[np.random.Generator],
        pinned: bool,
        stop: threading.Event,
    ) -> None:
        self.result: Future[Batch] = Future()
        self.rngs = rngs
        self._sample = sample
        self._step = step
        self._first = first_index
        self._pinned = pinned
        self._stop = stop
        self._lock = threading.Lock()
        self._made: dict[int, dict[str, Array]] = {}
        self._failed = False

    def run(self) -> None:
        """Make the whole batch in this thread."""
        for j in range(len(self.rngs)):
            self.make(j)

    def make(self, j: int) -> None:
        """Make sample j, and the batch if it was the last one."""
        if self._failed or self._stop.is_set():
            return
        try:
            made = {name: np.asarray(v) for name, v in self._sample(self.rngs[j]).items()}
            with self._lock:
                self._made[j] = made
                complete = len(self._made) == len(self.rngs)
            if complete:
                samples = [self._made[j] for j in range(len(self.rngs))]
                self.result.set_result(_collate(samples, pinned=self._pinned))
        except BaseException as error:  # noqa: BLE001 - it is raised again in the consumer
            self._fail(error, j)

    def _fail(self, error: BaseException, j: int) -> None:
        with self._lock:
            if self._failed:
                return
            self._failed = True
        if isinstance(error, Exception) and not isinstance(error, FeedError | Cancelled):
            reason = str(error) if isinstance(error, Cxr3dError) else _described(error)
            failure = FeedError(
                f"Sample {self._first + j} of step {self._step} could not be made",
                why=reason,
                remedy="look at the cause; Feed.make(step, j) makes the same sample again",
            )
            failure.__cause__ = error
            self.result.set_exception(failure)
        else:
            self.result.set_exception(error)


def _described(error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _collate(samples: Sequence[Mapping[str, Array]], *, pinned: bool) -> Batch:
    """The samples' arrays stacked along a new first axis, as tensors in the computer's memory."""
    import torch

    batch: Batch = {}
    for name in dict.fromkeys(name for sample in samples for name in sample):
        arrays = [sample.get(name) for sample in samples]
        kinds = {None if a is None else (a.dtype.str, a.shape) for a in arrays}
        if len(kinds) > 1:
            raise FeedError(
                "The samples of a batch do not fit together",
                why=f"{name!r} is {' and '.join(sorted(map(_kind, kinds)))}",
                remedy="return arrays of one shape and dtype from every sample",
            )
        stacked = np.stack([a for a in arrays if a is not None])
        try:
            tensor = torch.from_numpy(stacked)
        except TypeError as error:
            raise FeedError(
                f"The sample's {name!r} cannot become a tensor",
                why=f"its dtype is {stacked.dtype}",
                remedy="return numbers or booleans",
            ) from error
        batch[name] = tensor.pin_memory() if pinned else tensor
    return batch


def _kind(kind: tuple[str, tuple[int, ...]] | None) -> str:
    return "missing" if kind is None else f"{np.dtype(kind[0])} of shape {kind[1]}"


def _on(batch: Batch, device: str) -> Batch:
    if device == "cpu":
        return batch
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def _abandon(pool: ThreadPoolExecutor, stop: threading.Event) -> None:
    stop.set()
    pool.shutdown(wait=False, cancel_futures=True)
