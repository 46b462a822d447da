"""Background work: order, cancellation, and who hears of it."""

from __future__ import annotations

import threading
import time

import pytest
from qtpy.QtCore import QThread

from napari_cxr3d.errors import Cancelled, InvalidInputError
from napari_cxr3d.jobs import JobRunner, job_runner
from napari_cxr3d.progress import Progress


@pytest.fixture
def runner(qtbot):
    runner = JobRunner()
    yield runner
    assert runner.shutdown(timeout_s=5)


class Gate:
    """Work that says when it has begun and waits until it may end."""

    def __init__(self, result=None, heed_cancel=True):
        self.begun, self.open = threading.Event(), threading.Event()
        self.result, self.heed_cancel = result, heed_cancel

    def __call__(self, progress, cancel):
        self.begun.set()
        while not self.open.wait(0.005):
            if self.heed_cancel:
                cancel.raise_if_cancelled()
        return self.result


def test_result_comes_back_on_the_gui_thread(runner, qtbot):
    heard = []
    runner.submit(
        lambda progress, cancel: threading.current_thread(),
        on_done=lambda worker: heard.append((worker, QThread.currentThread())),
    )
    qtbot.waitUntil(lambda: bool(heard))
    worker, listener = heard[0]
    assert worker is not threading.main_thread()
    assert listener is runner.thread()


def test_jobs_of_a_lane_run_in_order_one_at_a_time(runner, qtbot):
    active, overlaps, order = [], [], []

    def work(n):
        def run(progress, cancel):
            overlaps.extend(active)
            active.append(n)
            time.sleep(0.005)
            active.remove(n)
            return n

        return run

    for n in range(6):
        runner.submit(work(n), on_done=order.append)
    qtbot.waitUntil(lambda: len(order) == 6)
    assert order == list(range(6))
    assert overlaps == []


def test_a_slow_file_does_not_hold_up_the_accelerator(runner, qtbot):
    gate, heard = Gate(), []
    runner.submit(gate, lane="io")
    runner.submit(lambda progress, cancel: "rendered", on_done=heard.append)
    qtbot.waitUntil(lambda: heard == ["rendered"])
    gate.open.set()


def test_newest_wins_cancels_the_running_job_and_drops_the_waiting_ones(runner, qtbot):
    first, done, cancelled = Gate("first"), [], []
    runner.submit(
        first,
        newest_wins=True,
        key="drag",
        on_done=done.append,
        on_cancelled=lambda: cancelled.append("first"),
    )
    assert first.begun.wait(2)
    for name in ("second", "third"):
        runner.submit(
            lambda progress, cancel, name=name: name,
            newest_wins=True,
            key="drag",
            on_done=done.append,
            on_cancelled=lambda name=name: cancelled.append(name),
        )
    qtbot.waitUntil(lambda: not runner.busy())
    assert done == ["third"]
    assert cancelled == ["first", "second"]


def test_newest_wins_spares_jobs_of_another_key(runner, qtbot):
    gate, done = Gate("sweep"), []
    runner.submit(gate, newest_wins=True, key="sweep", on_done=done.append)
    runner.submit(lambda p, c: "drag", newest_wins=True, key="drag", on_done=done.append)
    gate.open.set()
    qtbot.waitUntil(lambda: not runner.busy())
    assert done == ["sweep", "drag"]


def test_a_finished_but_undelivered_older_result_is_dropped(runner, qtbot):
    done, cancelled = [], []
    finished = threading.Event()
    runner.submit(
        lambda p, c: finished.set() or "old",
        newest_wins=True,
        key="drag",
        on_done=done.append,
        on_cancelled=lambda: cancelled.append("old"),
    )
    assert finished.wait(2)
    time.sleep(0.05)  # its result now waits for the event loop
    runner.submit(lambda p, c: "new", newest_wins=True, key="drag", on_done=done.append)
    qtbot.waitUntil(lambda: not runner.busy())
    assert done == ["new"]
    assert cancelled == ["old"]


def test_a_job_that_ignores_its_token_still_delivers_nothing_after_cancel(runner, qtbot):
    gate, done, cancelled = Gate("late", heed_cancel=False), [], []
    job = runner.submit(gate, on_done=done.append, on_cancelled=lambda: cancelled.append(True))
    assert gate.begun.wait(2)
    job.cancel()
    gate.open.set()
    qtbot.waitUntil(lambda: bool(cancelled))
    assert done == []


def test_background_work_steps_aside_for_a_user_request(runner, qtbot):
    orbit, order = Gate("orbit"), []
    runner.submit(orbit, background=True, on_cancelled=lambda: order.append("orbit cancelled"))
    assert orbit.begun.wait(2)
    runner.submit(lambda p, c: "drag", on_done=order.append)
    qtbot.waitUntil(lambda: not runner.busy())
    assert order == ["orbit cancelled", "drag"]


def test_background_work_waits_until_nothing_else_does(runner, qtbot):
    gate, order = Gate("first"), []
    runner.submit(gate, on_done=order.append)
    runner.submit(lambda p, c: "second", on_done=order.append)
    runner.submit(lambda p, c: "background", background=True, on_done=order.append)
    gate.open.set()
    qtbot.waitUntil(lambda: not runner.busy())
    assert order == ["first", "second", "background"]


def test_an_error_arrives_as_the_exception_itself(runner, qtbot):
    errors, done = [], []

    def fail(progress, cancel):
        raise InvalidInputError("The detector is too small")

    runner.submit(fail, on_done=done.append, on_error=errors.append)
    runner.submit(lambda p, c: "next", on_done=done.append)
    qtbot.waitUntil(lambda: not runner.busy())
    assert [str(error) for error in errors] == ["The detector is too small."]
    assert done == ["next"]


def test_an_error_that_nobody_handles_is_raised_on_the_gui_thread(runner, qtbot):
    def fail(progress, cancel):
        raise InvalidInputError("Nobody listens")

    with qtbot.captureExceptions() as raised:
        runner.submit(fail)
        qtbot.waitUntil(lambda: bool(raised))
    assert raised[0][0] is InvalidInputError


def test_raising_cancelled_is_no_error(runner, qtbot):
    heard = []

    def stop(progress, cancel):
        raise Cancelled

    runner.submit(stop, on_error=heard.append, on_cancelled=lambda: heard.append("cancelled"))
    qtbot.waitUntil(lambda: bool(heard))
    assert heard == ["cancelled"]


def test_progress_is_thinned_but_its_end_always_arrives(runner, qtbot):
    reports = []

    def work(progress, cancel):
        for n in range(5000):
            progress(Progress(n + 1, 5000))

    runner.submit(work, on_progress=reports.append)
    qtbot.waitUntil(lambda: not runner.busy())
    assert reports[-1].done == 5000
    assert len(reports) < 100


def test_a_generator_delivers_its_states_and_its_result(runner, qtbot):
    states, done = [], []

    def sampler(progress, cancel):
        yield "noise"
        yield "volume"

    runner.submit(sampler, on_state=states.append, on_done=done.append)
    qtbot.waitUntil(lambda: bool(done))
    assert states == ["noise", "volume"]
    assert done == ["volume"]


def test_a_cancelled_generator_stops_at_its_next_state_and_cleans_up(runner, qtbot):
    heard, cleaned = [], threading.Event()

    def endless(progress, cancel):
        try:
            while True:
                time.sleep(0.002)
                yield "state"
        finally:
            cleaned.set()

    job = runner.submit(
        endless, on_state=heard.append, on_cancelled=lambda: heard.append("cancelled")
    )
    qtbot.waitUntil(lambda: bool(heard))
    job.cancel()
    qtbot.waitUntil(lambda: not runner.busy())
    assert heard[-1] == "cancelled"
    assert cleaned.is_set()


def test_cancel_all_silences_one_owner_only(runner, qtbot):
    mine, yours, heard = object(), object(), []
    gate = Gate("mine")
    runner.submit(
        gate, owner=mine, on_done=heard.append, on_cancelled=lambda: heard.append("cancelled")
    )
    runner.submit(lambda p, c: "mine too", owner=mine, on_done=heard.append)
    runner.submit(lambda p, c: "yours", owner=yours, on_done=heard.append)
    runner.cancel_all(mine)
    qtbot.waitUntil(lambda: not runner.busy())
    assert heard == ["yours"]


def test_shutdown_ends_the_threads_and_delivers_nothing(qtbot):
    runner, gate, heard = JobRunner(), Gate("never"), []
    runner.submit(gate, on_done=heard.append, on_cancelled=lambda: heard.append("cancelled"))
    runner.submit(lambda p, c: "never", on_done=heard.append)
    assert gate.begun.wait(2)
    assert runner.shutdown(timeout_s=5)
    qtbot.wait(20)
    assert heard == []
    assert not [t for t in threading.enumerate() if t.name.startswith("napari-cxr3d")]
    with pytest.raises(RuntimeError, match="shut down"):
        runner.submit(lambda p, c: None)


def test_an_idle_lane_keeps_no_result_alive(runner, qtbot):
    class Big:
        pass

    import gc
    import weakref

    references = []

    def work(progress, cancel):
        big = Big()
        references.append(weakref.ref(big))
        return big

    runner.submit(work)
    qtbot.waitUntil(lambda: not runner.busy())
    qtbot.wait(20)
    gc.collect()
    assert references[0]() is None


def test_a_new_shared_runner_replaces_one_that_was_shut_down(qtbot):
    first = job_runner()
    assert job_runner() is first
    first.shutdown()
    second = job_runner()
    assert second is not first
    second.shutdown()
