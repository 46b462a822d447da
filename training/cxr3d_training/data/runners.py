"""Where the tasks run: here, in processes of this machine, or on a Dask cluster.

Every runner gives the outcomes in the order in which they come, and may be stopped at any time:
a case is on disk whole or not at all.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any
from uuid import uuid4

from cxr3d_training.data.tasks import Outcome, Task, run_task
from napari_cxr3d import __version__
from napari_cxr3d.errors import BackendUnavailableError
from napari_cxr3d.progress import CancelToken

__all__ = ["Runner", "here", "in_processes", "on_cluster"]

Runner = Callable[[Sequence[Task], Path, CancelToken], Iterator[Outcome]]

_LOOK_S = 0.2  # between two looks at the cancel token
_AHEAD = 2  # tasks handed to a process beforehand
_RETRIES = 2  # of a task that failed on a cluster for reasons of the cluster
_DIED = "The process that read it was killed, by a fault in a decoder or for want of memory"


def here(tasks: Sequence[Task], dataset: Path, cancel: CancelToken) -> Iterator[Outcome]:
    """One task after the other, in this process."""
    for task in tasks:
        cancel.raise_if_cancelled()
        yield run_task(task, dataset)


def in_processes(count: int) -> Runner:
    """A runner with processes of its own.

    A process that dies (a decoder's fault, no memory) takes down the tasks at work; each of them
    is tried once more alone, and the one that kills its process again is told as unreadable.

    Parameters
    ----------
    count : int
        Processes.
    """

    def run(tasks: Sequence[Task], dataset: Path, cancel: CancelToken) -> Iterator[Outcome]:
        waiting = deque(tasks)
        while waiting:
            at_work: list[Task] = []
            yield from _pooled(waiting, dataset, cancel, count, _AHEAD * count, at_work)
            suspects = deque(at_work)
            while suspects:
                culprit: list[Task] = []
                yield from _pooled(suspects, dataset, cancel, 1, 1, culprit)
                for task in culprit:
                    yield Outcome(task.place, reason=_DIED)

    return run


def _pooled(
    waiting: deque[Task],
    dataset: Path,
    cancel: CancelToken,
    count: int,
    ahead: int,
    at_work: list[Task],
) -> Iterator[Outcome]:
    """Outcomes from one pool; when it breaks, what it had been handed goes to `at_work`."""
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        min(count, len(waiting)), multiprocessing.get_context("spawn"), initializer=_serve
    )
    working: dict[Future[Outcome], Task] = {}
    finished = False
    try:
        while waiting or working:
            cancel.raise_if_cancelled()
            while waiting and len(working) < ahead:
                working[pool.submit(run_task, waiting[0], dataset)] = waiting[0]
                waiting.popleft()
            done, _ = wait(working, timeout=_LOOK_S, return_when=FIRST_COMPLETED)
            for future in done:
                outcome = future.result()
                del working[future]
                yield outcome
        finished = True
    except BrokenProcessPool:
        at_work.extend(working.values())
    finally:
        pool.shutdown(wait=finished, cancel_futures=True)
        if not finished:  # stopped or broken: what is at work is not waited for
            for child in set(multiprocessing.active_children()) - before:
                child.terminate()
                child.join()


def _serve() -> None:
    """Set up a worker: Ctrl-C is the parent's to handle, and without it there is no work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def leave_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=leave_with_parent, name="parent-watch", daemon=True).start()


def on_cluster(address: str, *, connect_s: float = 15.0) -> Runner:
    """A runner on the workers of a dask.distributed scheduler.

    The cluster runs the cases of a killed worker again elsewhere. All workers must see the
    dataset's folder, and the sources, under the same paths.

    Parameters
    ----------
    address : str
        The scheduler's, such as ``tcp://10.0.0.1:8786``.
    connect_s : float
        Seconds to wait for its answer.
    """

    def run(tasks: Sequence[Task], dataset: Path, cancel: CancelToken) -> Iterator[Outcome]:
        client = _client(address, connect_s)
        try:
            _check_workers(client, dataset)
            with client.as_current():
                yield from _submitted(client, tasks, dataset, cancel)
        finally:
            client.close()

    return run


def _client(address: str, connect_s: float) -> Any:
    try:
        from distributed import Client
    except ImportError as error:
        raise BackendUnavailableError(
            "Dask's distributed is not installed",
            remedy='type pip install "napari-cxr3d[train]"',
        ) from error
    try:
        return Client(address, timeout=connect_s, set_as_default=False)
    except (OSError, ValueError) as error:
        raise BackendUnavailableError(
            f"The scheduler at {address} does not answer",
            why=" ".join(str(error).split()) or type(error).__name__,
            remedy="start it with dask scheduler, and give the address that it prints",
        ) from error


def _check_workers(client: Any, dataset: Path) -> None:
    """See that there are workers, that they have this code, and that they see the dataset."""
    try:
        client.wait_for_workers(1, timeout=60)
    except TimeoutError as error:
        raise BackendUnavailableError(
            "The scheduler has no worker", remedy="start some with dask worker ADDRESS"
        ) from error
    probe = dataset / ".work" / f"probe-{uuid4().hex}"
    probe.parent.mkdir(parents=True, exist_ok=True)
    probe.touch()
    try:
        seen: dict[str, tuple[bool, str]] = client.run(_seen, probe)
    finally:
        probe.unlink(missing_ok=True)
    blind = sum(not sees for sees, _ in seen.values())
    if blind:
        raise BackendUnavailableError(
            "Workers do not see the dataset's folder",
            why=f"{blind} of {len(seen)} cannot find it under this path",
            remedy="put it where all machines have it, on a shared file system",
            path=dataset,
        )
    other = sorted({version for _, version in seen.values()} - {__version__})
    if other:
        raise BackendUnavailableError(
            "Workers run another release of napari-cxr3d",
            why=f"here it is {__version__}, there {', '.join(other)}",
            remedy="install the same release on all machines",
        )


def _seen(probe: Path) -> tuple[bool, str]:
    return probe.exists(), __version__


def _submitted(
    client: Any, tasks: Sequence[Task], dataset: Path, cancel: CancelToken
) -> Iterator[Outcome]:
    from distributed import KilledWorker, as_completed

    run_id = uuid4().hex[:8]
    places = {}
    for task in tasks:
        key = f"prepare-{run_id}-{task.place}"
        future = client.submit(run_task, task, dataset, key=key, retries=_RETRIES)
        places[future] = task.place
    try:
        for future in as_completed(list(places)):
            cancel.raise_if_cancelled()
            try:
                outcome: Outcome = future.result()
            except KilledWorker:
                outcome = Outcome(places[future], reason=_DIED)
            del places[future]
            yield outcome
    finally:
        if places:
            client.cancel(list(places))
