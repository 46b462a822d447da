"""Batches: the same whatever makes them, and nothing left behind."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from cxr3d_training.data.feed import THREAD_NAME, Feed, FeedError
from napari_cxr3d.errors import Cancelled, InvalidInputError


def draws(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {"x": rng.normal(size=(2, 3)).astype(np.float32), "n": rng.integers(1 << 40, size=1)}


def feed_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith(THREAD_NAME)]


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    yield
    gc.collect()
    deadline = time.monotonic() + 5
    while feed_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert feed_threads() == []


def batches(count: int, **options: int) -> list[dict[str, np.ndarray]]:
    settings = {"batch_size": 4, "seed": 3, "workers": 2, **options}
    with Feed(draws, **settings) as feed:
        return [{k: v.numpy() for k, v in next(feed).items()} for _ in range(count)]


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def test_a_batch_does_not_depend_on_the_number_of_threads() -> None:
    for one, other in zip(batches(5, workers=0), batches(5, workers=3), strict=True):
        assert_same(one, other)


def test_a_run_goes_on_from_its_step_alone() -> None:
    whole, rest = batches(6), batches(3, start_step=3)
    for one, other in zip(whole[3:], rest, strict=True):
        assert_same(one, other)
    assert not np.array_equal(whole[0]["x"], whole[1]["x"])


def test_two_processes_see_what_one_with_the_double_batch_sees() -> None:
    double = batches(3, batch_size=8)
    ranks = [batches(3, batch_size=4, rank=r, world_size=2) for r in range(2)]
    for step in range(3):
        joined = {k: np.concatenate([ranks[r][step][k] for r in range(2)]) for k in ("x", "n")}
        assert_same(joined, double[step])


def test_another_seed_is_another_run() -> None:
    assert not np.array_equal(batches(1, seed=1)[0]["x"], batches(1, seed=2)[0]["x"])


def test_one_sample_can_be_made_again() -> None:
    with Feed(draws, batch_size=4, seed=3, rank=1, world_size=2) as feed:
        next(feed)
        second = next(feed)
        np.testing.assert_array_equal(feed.make(1, 2)["x"], second["x"][2])


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_sample_reaches_the_consumer_with_its_cause(workers: int) -> None:
    def fails(rng: np.random.Generator) -> dict[str, np.ndarray]:
        if rng.random() < 0.3:
            raise ZeroDivisionError("the volume is flat")
        return draws(rng)

    with (
        Feed(fails, batch_size=4, seed=0, workers=workers) as feed,
        pytest.raises(FeedError, match=r"Sample \d+ of step \d+.*the volume is flat") as caught,
    ):
        for _ in range(50):
            next(feed)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert list(feed) == []  # a feed that failed has ended


def test_cancellation_in_a_sample_stays_what_it_is() -> None:
    def cancelled(rng: np.random.Generator) -> dict[str, np.ndarray]:
        raise Cancelled

    with Feed(cancelled, batch_size=1, seed=0) as feed, pytest.raises(Cancelled):
        next(feed)


def test_samples_that_do_not_fit_together_are_named() -> None:
    def ragged(rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"x": np.zeros(1 + int(rng.integers(5)), np.float32)}

    with Feed(ragged, batch_size=8, seed=0) as feed, pytest.raises(FeedError, match="'x' is"):
        next(feed)


def test_text_is_refused_by_name() -> None:
    def words(rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"report": np.array("clear lungs")}

    with Feed(words, batch_size=1, seed=0) as feed, pytest.raises(FeedError, match="'report'"):
        next(feed)


def test_the_next_batches_are_made_while_the_consumer_works() -> None:
    made: list[float] = []

    def slow(rng: np.random.Generator) -> dict[str, np.ndarray]:
        time.sleep(0.02)
        made.append(time.monotonic())
        return draws(rng)

    with Feed(slow, batch_size=2, seed=0, workers=2) as feed:
        next(feed)
        waited = feed.waited_s
        assert waited >= 0.015
        for _ in range(5):
            time.sleep(0.06)  # the training step: longer than a batch takes to make
            next(feed)
        assert feed.waited_s - waited < 0.05
        assert feed.delivered == 6
        assert feed.step == 6
    assert len(made) <= 2 * (6 + 2)  # no more than two batches ahead


def test_waiting_is_counted_where_data_is_the_bottleneck() -> None:
    def slow(rng: np.random.Generator) -> dict[str, np.ndarray]:
        time.sleep(0.02)
        return draws(rng)

    with Feed(slow, batch_size=2, seed=0, workers=1) as feed:
        for _ in range(4):
            next(feed)
        assert feed.waited_s > 0.12


def test_finish_gets_the_batch_and_the_generators_as_the_samples_left_them() -> None:
    def finish(batch, rngs):  # type: ignore[no-untyped-def]
        return {**batch, "more": batch["x"].new_tensor([rng.random() for rng in rngs])}

    def run(workers: int) -> list[np.ndarray]:
        with Feed(draws, batch_size=3, seed=5, workers=workers, finish=finish) as feed:
            got = [next(feed)["more"].numpy() for _ in range(3)]
            assert 0 < feed.finish_s <= feed.waited_s
            return got

    np.testing.assert_array_equal(run(0), run(2))
    rng = np.random.default_rng([5, 0, 1])
    draws(rng)
    assert run(2)[0][1] == np.float32(rng.random())


def test_closing_in_the_middle_leaves_no_thread() -> None:
    feed = Feed(draws, batch_size=2, seed=0, workers=3)
    next(feed)
    assert feed_threads()
    feed.close()
    assert feed_threads() == []
    assert next(feed, None) is None
    feed.close()


def test_a_feed_that_nobody_closes_takes_its_threads_along() -> None:
    feed = Feed(draws, batch_size=2, seed=0, workers=3)
    next(feed)
    del feed  # the fixture sees to the rest


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch size"),
        ({"seed": -1}, "seed"),
        ({"rank": 2, "world_size": 2}, "rank"),
        ({"start_step": -1}, "start step"),
        ({"workers": -1}, "workers"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Feed(draws, **{"batch_size": 1, "seed": 0, **options})
