"""Work in a process of its own: it streams, it stops, and it leaves nothing behind."""

from __future__ import annotations

import os
import sys
import textwrap
import time

import numpy as np
import pytest
from qtpy.QtCore import QThread

from napari_cxr3d.errors import WorkerProcessError
from napari_cxr3d.jobs import Call, WorkerProcess
from napari_cxr3d.progress import Progress

WORK = """
import os, signal, time
import numpy as np
from napari_cxr3d.errors import GeometryError
from napari_cxr3d.progress import Progress

def grow(n, cancel, pause=0.0):
    for k in range(n):
        time.sleep(pause)
        yield np.full((4, 5, 6), k, np.float32)

def add(a, b, progress):
    progress(Progress(1, 1, "adding"))
    print("libraries print things")
    return a + b, os.getpid()

def refuse():
    raise GeometryError("It cannot be", why="of the angle", remedy="turn it")

class Odd(Exception):
    def __init__(self, *, needs):
        super().__init__(f"odd {needs}")

def fail_oddly():
    raise Odd(needs="keyword")

def unsendable():
    return lambda: None

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def be_stubborn(path):
    open(path, "w").close()
    while True:
        time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A module that the worker process can import as well."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "worker_process_work.py").write_text(textwrap.dedent(WORK))
    sys.path.insert(0, str(folder))
    import worker_process_work

    yield worker_process_work
    sys.path.remove(str(folder))
    del sys.modules["worker_process_work"]


@pytest.fixture
def worker(qtbot):
    worker = WorkerProcess(grace_s=0.3)
    yield worker
    worker.close()


class Heard:
    """Every callback of a job, in order."""

    def __init__(self):
        self.all = []

    def __getitem__(self, kind):
        return [payload for one, payload in self.all if one == kind]

    def callbacks(self):
        def hear(kind):
            return lambda *payload: self.all.append((kind, payload[0] if payload else None))

        kinds = ("done", "error", "progress", "cancelled", "state")
        return {f"on_{kind}": hear(kind) for kind in kinds}

    @property
    def ended(self):
        return any(kind in ("done", "error", "cancelled") for kind, _ in self.all)


def run(worker, qtbot, call):
    heard = Heard()
    worker.submit(call, **heard.callbacks())
    qtbot.waitUntil(lambda: heard.ended, timeout=20_000)
    return heard


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_results_and_progress_come_back_to_the_gui_thread_from_another_process(worker, work, qtbot):
    threads = []
    heard = Heard()
    callbacks = heard.callbacks()
    worker.submit(
        Call(work.add, (1, 2)),
        **{**callbacks, "on_done": lambda r: (threads.append(QThread.currentThread()), r)
           and callbacks["on_done"](r)},
    )  # fmt: skip
    qtbot.waitUntil(lambda: heard.ended, timeout=20_000)
    [(total, pid)] = heard["done"]
    assert total == 3
    assert pid == worker.pid != os.getpid()
    assert heard["progress"] == [Progress(1, 1, "adding")]
    assert threads == [worker.thread()]


def test_states_stream_back_in_order_and_the_last_is_the_result(worker, work, qtbot):
    heard = run(worker, qtbot, Call(work.grow, (4,)))
    assert [float(state.mean()) for state in heard["state"]] == [0, 1, 2, 3]
    np.testing.assert_array_equal(heard["done"][0], np.full((4, 5, 6), 3, np.float32))


def test_a_cancelled_generator_stops_at_its_next_state_and_the_process_lives_on(
    worker, work, qtbot
):
    heard = Heard()
    job = worker.submit(Call(work.grow, (1000,), {"pause": 0.02}), **heard.callbacks())
    qtbot.waitUntil(lambda: len(heard["state"]) >= 2, timeout=20_000)
    pid, states = worker.pid, len(heard["state"])
    begun = time.monotonic()
    job.cancel()
    qtbot.waitUntil(lambda: heard.ended)
    assert time.monotonic() - begun < 0.25
    assert heard.all[-1] == ("cancelled", None)
    assert len(heard["state"]) == states
    assert run(worker, qtbot, Call(work.add, (1, 1)))["done"] == [(2, pid)]


def test_work_that_does_not_heed_a_cancellation_is_ended_and_the_rest_still_runs(
    worker, work, qtbot, tmp_path
):
    stuck, waiting = Heard(), Heard()
    flag = tmp_path / "begun"
    job = worker.submit(Call(work.be_stubborn, (str(flag),)), **stuck.callbacks())
    worker.submit(Call(work.add, (2, 2)), **waiting.callbacks())
    qtbot.waitUntil(flag.exists, timeout=20_000)
    first = worker.pid
    job.cancel()
    qtbot.waitUntil(lambda: waiting.ended, timeout=20_000)
    assert stuck.all == [("cancelled", None)]
    assert not is_running(first)
    assert waiting["done"] == [(4, worker.pid)]


def test_a_process_that_dies_is_told_in_words_and_the_next_work_starts_another(worker, work, qtbot):
    heard = run(worker, qtbot, Call(work.die))
    [error] = heard["error"]
    assert isinstance(error, WorkerProcessError)
    assert "killed" in str(error)
    assert "fewer samples" in str(error)
    assert run(worker, qtbot, Call(work.add, (1, 2)))["done"] == [(3, worker.pid)]


def test_our_errors_come_back_as_they_were_raised(worker, work, qtbot):
    [error] = run(worker, qtbot, Call(work.refuse))["error"]
    assert type(error).__name__ == "GeometryError"
    assert (error.what, error.why, error.remedy) == ("It cannot be", "of the angle", "turn it")
    assert "refuse (worker_process_work.py:" in error.__notes__[0]
    assert "/" not in error.__notes__[0]


@pytest.mark.parametrize(
    ("function", "said"), [("fail_oddly", "Odd: odd keyword"), ("unsendable", "pickle")]
)
def test_what_cannot_be_sent_back_is_still_told(worker, work, qtbot, function, said):
    [error] = run(worker, qtbot, Call(getattr(work, function)))["error"]
    assert said in str(error)


def test_work_that_cannot_be_sent_is_refused_at_once(worker):
    with pytest.raises(WorkerProcessError, match="cannot be sent"):
        worker.submit(lambda progress, cancel: None)
    assert not worker.busy()


def test_closing_ends_the_process_in_the_middle_of_work(worker, work, qtbot, tmp_path):
    flag, heard = tmp_path / "begun", Heard()
    worker.submit(Call(work.be_stubborn, (str(flag),)), **heard.callbacks())
    qtbot.waitUntil(flag.exists, timeout=20_000)
    pid = worker.pid
    worker.close()
    assert not is_running(pid)
    assert heard.all == []
    with pytest.raises(WorkerProcessError, match="closed"):
        worker.submit(Call(work.add, (1, 2)))


def test_the_process_imports_its_modules_ahead_and_says_when_it_is_ready(work, qtbot):
    worker = WorkerProcess(("json", "worker_process_work"))
    try:
        with qtbot.waitSignal(worker.ready, timeout=20_000):
            worker.start()
        assert worker.is_ready
    finally:
        worker.close()


def test_of_a_kind_only_the_newest_work_is_done(worker, work, qtbot):
    first, second = Heard(), Heard()
    for heard, n in ((first, 50), (second, 2)):
        worker.submit(
            Call(work.grow, (n,), {"pause": 0.02}),
            newest_wins=True,
            key="same",
            **heard.callbacks(),
        )
    qtbot.waitUntil(lambda: second.ended, timeout=20_000)
    assert first.all[-1] == ("cancelled", None)
    assert len(second["done"]) == 1


def test_an_owner_s_jobs_fall_silent(worker, work, qtbot):
    heard, owner = Heard(), object()
    worker.submit(Call(work.grow, (1000,), {"pause": 0.02}), owner=owner, **heard.callbacks())
    qtbot.waitUntil(lambda: bool(heard["state"]), timeout=20_000)
    worker.cancel_all(owner)
    before = list(heard.all)
    assert run(worker, qtbot, Call(work.add, (1, 1)))["done"]
    assert heard.all == before
