"""A run that was stopped goes on as if nothing had happened, bit for bit."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from cxr3d_training.engine.checkpoints import CheckpointFolder
from cxr3d_training.engine.errors import TrainingError
from cxr3d_training.engine.stopping import Stop
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.progress import CancelToken, Progress

from .toys import fit_toy, toy_cohort  # noqa: TID252  (tests is no package)


def last_state(out: Path) -> dict[str, Any]:
    return CheckpointFolder(out / "checkpoints").listing()[0].read()


def assert_same(a: Any, b: Any, where: str = "") -> None:
    """Equal in every bit."""
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype, where
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for k, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}/{k}")
    else:
        assert a == b, where


def assert_same_run(whole: Path, other: Path) -> None:
    assert (other / "log.jsonl").read_text() == (whole / "log.jsonl").read_text()
    assert_same(last_state(whole), last_state(other))


def cancel_at(step: int) -> dict[str, Any]:
    token = CancelToken()

    def watch(progress: Progress) -> None:
        if progress.done == step:
            token.cancel()

    return {"cancel": token, "progress": watch}


@pytest.mark.parametrize("step", [1, 7, 8, 15, 23])
def test_an_interrupted_run_equals_an_uninterrupted_one(
    whole_run: Path, tmp_path: Path, step: int
) -> None:
    # 1: in the warm-up; 7: between two lines of the log, the critic just began; 8: on a
    # validation; 15: between checkpoints; 23: before the last step.
    stopped = fit_toy(tmp_path / "run", **cancel_at(step))
    assert (stopped.reason, stopped.step) == ("interrupted", step)
    assert not torch.equal(torch.rand(3), torch.zeros(3))  # the generators move on meanwhile
    told: list[str] = []
    done = fit_toy(tmp_path / "run", resume=True, notify=told.append)
    assert done.reason == "done"
    assert told == [f"Going on from step {step} of 24."]
    assert_same_run(whole_run, tmp_path / "run")


def test_a_run_interrupted_again_and_again_equals_the_same(whole_run: Path, tmp_path: Path) -> None:
    for step in (3, 5, 11, 14):
        fit_toy(tmp_path / "run", resume=True, **cancel_at(step))
    fit_toy(tmp_path / "run", resume=True)
    assert_same_run(whole_run, tmp_path / "run")
    provenance = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert [(s["from_step"], s["to_step"]) for s in provenance["sessions"]] == [
        (0, 3),
        (3, 5),
        (5, 11),
        (11, 14),
        (14, 24),
    ]


def test_a_killed_run_goes_on_from_its_last_checkpoint(whole_run: Path, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(progress: Progress) -> None:
        if progress.done == 15:
            raise Killed

    with pytest.raises(Killed):
        fit_toy(tmp_path / "run", progress=kill)
    log = tmp_path / "run" / "log.jsonl"
    assert '"step": 14' in log.read_text()  # beyond the checkpoint at 12
    with log.open("a") as file:
        file.write('{"step": 15, "mapper/dist')
    fit_toy(tmp_path / "run", resume=True)
    assert_same_run(whole_run, tmp_path / "run")


def test_a_damaged_checkpoint_costs_no_more_than_its_steps(whole_run: Path, tmp_path: Path) -> None:
    fit_toy(tmp_path / "run", **cancel_at(10))
    newest = tmp_path / "run" / "checkpoints" / "step-00000010.pt"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 255
    newest.write_bytes(content)
    told: list[str] = []
    fit_toy(tmp_path / "run", resume=True, notify=told.append)
    assert "damaged" in told[0]
    assert "from step 8" in told[1]
    assert_same_run(whole_run, tmp_path / "run")


def test_the_time_limit_saves_and_stops(whole_run: Path, tmp_path: Path) -> None:
    stopped = fit_toy(tmp_path / "run", max_minutes=1e-6)
    assert (stopped.reason, stopped.step) == ("time", 1)
    fit_toy(tmp_path / "run", resume=True)
    assert_same_run(whole_run, tmp_path / "run")


@pytest.mark.parametrize(
    ("number", "reason"), [(signal.SIGTERM, "terminated"), (signal.SIGINT, "interrupted")]
)
def test_a_signal_saves_and_stops(tmp_path: Path, number: signal.Signals, reason: str) -> None:
    def send(progress: Progress) -> None:
        if progress.done == 3:
            signal.raise_signal(number)

    before = signal.getsignal(number)
    stopped = fit_toy(tmp_path, progress=send)
    assert (stopped.reason, stopped.step) == (reason, 3)
    assert CheckpointFolder(tmp_path / "checkpoints").listing()[0].step == 3
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_does_not_wait() -> None:
    stop = Stop()
    stop.on_signal(signal.SIGINT, None)
    assert stop.reason == "interrupted"
    with pytest.raises(KeyboardInterrupt):
        stop.on_signal(signal.SIGINT, None)


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    fit_toy(tmp_path, **cancel_at(2))
    with pytest.raises(TrainingError) as caught:
        fit_toy(tmp_path, "optimizers.mapper.lr=0.1", "run.seed=4", resume=True)
    assert "optimizers.mapper.lr was 0.05 and is 0.1" in str(caught.value)
    assert "run.seed was 0 and is 4" in str(caught.value)


def test_settings_that_change_no_number_may_differ(whole_run: Path, tmp_path: Path) -> None:
    fit_toy(tmp_path / "run", **cancel_at(6))
    fit_toy(tmp_path / "run", "run.workers=2", "run.checkpoint_every=3", resume=True)
    assert (tmp_path / "run" / "log.jsonl").read_text() == (whole_run / "log.jsonl").read_text()


def test_other_data_is_refused(tmp_path: Path) -> None:
    fit_toy(tmp_path, **cancel_at(2))
    with pytest.raises(TrainingError, match="other data"):
        fit_toy(tmp_path, resume=True, cohort=toy_cohort(6))


def test_resume_begins_where_nothing_was_begun(whole_run: Path, tmp_path: Path) -> None:
    # So that one command line serves a queue that starts it again and again.
    told: list[str] = []
    fit_toy(tmp_path / "run", resume=True, notify=told.append)
    assert "begins" in told[0]
    assert_same_run(whole_run, tmp_path / "run")


def test_a_finished_run_is_left_as_it_is(tmp_path: Path) -> None:
    fit_toy(tmp_path, "run.steps=4")
    before = (tmp_path / "log.jsonl").read_text()
    state = last_state(tmp_path)
    again = fit_toy(tmp_path, "run.steps=4", resume=True)
    assert (again.reason, again.step) == ("done", 4)
    assert (tmp_path / "log.jsonl").read_text() == before
    assert_same(state, last_state(tmp_path))


def test_tensorboard_shows_no_step_twice(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fit_toy(tmp_path, "run.steps=8", **cancel_at(5))
    fit_toy(tmp_path, "run.steps=8", resume=True)
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert [e.step for e in board.Scalars("mapper/distance")] == [2, 4, 6, 8]


def test_a_run_in_a_thread_is_stopped_by_its_token(tmp_path: Path) -> None:
    results = []
    thread = threading.Thread(target=lambda: results.append(fit_toy(tmp_path, **cancel_at(2))))
    thread.start()
    thread.join()
    assert results[0].step == 2


def test_a_time_limit_is_positive() -> None:
    with pytest.raises(InvalidInputError):
        Stop(0.0)
