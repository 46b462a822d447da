"""Intervals of a mean over patients."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.metrics import bootstrap_interval, paired_interval


def test_the_interval_is_that_of_scipy() -> None:
    values = np.random.default_rng(0).gamma(2.0, 5.0, 30)
    found = bootstrap_interval(values.tolist(), resamples=2000, seed=4)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=2000, method="BCa", rng=np.random.default_rng(4), batch=1000
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx(values.mean())
    assert found.low < found.mean < found.high
    assert "95% BCa bootstrap over 30 patients, 2000 resamples, seed 4" in found.convention


def test_one_seed_makes_one_interval() -> None:
    values = [1.0, 5.0, 2.0, 8.0, 3.0]
    first = bootstrap_interval(values, seed=1, resamples=500)
    assert bootstrap_interval(values, seed=1, resamples=500) == first
    assert bootstrap_interval(values, seed=2, resamples=500) != first


@pytest.mark.parametrize("method", ["BCa", "percentile"])
def test_the_interval_covers_the_truth_as_often_as_it_says(method) -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(150):
        found = bootstrap_interval(
            rng.normal(10, 3, 25).tolist(),
            confidence=0.8,
            method=method,
            resamples=300,
            seed=trial,
        )
        hits += found.low <= 10 <= found.high
    assert 0.70 < hits / 150 < 0.88  # 0.8, and the scatter of 150 trials


def test_cases_of_one_patient_count_once() -> None:
    values, patients = [1.0, 2.0, 3.0, 10.0, 20.0, 4.0], ["a", "a", "a", "b", "b", "c"]
    found = bootstrap_interval(values, patients, resamples=300)
    assert found.patients == 3
    assert found.mean == pytest.approx((2 + 15 + 4) / 3)
    assert found == bootstrap_interval([2.0, 15.0, 4.0], resamples=300)


def test_no_interval_is_made_up() -> None:
    few = bootstrap_interval([1.0, 2.0])
    assert (few.mean, few.low, few.high) == (1.5, None, None)
    assert "too few patients" in few.convention
    perfect = bootstrap_interval([30.0, math.inf, 31.0])
    assert (perfect.mean, perfect.low) == (math.inf, None)
    assert "infinite" in perfect.convention
    same = bootstrap_interval([2.0] * 5)
    assert (same.low, same.mean, same.high) == (2, 2, 2)


def test_a_paired_difference_is_narrower_than_two_means() -> None:
    rng = np.random.default_rng(0)
    patients = rng.normal(30, 5, 40)
    better = patients + 1 + rng.normal(0, 0.2, 40)
    difference = paired_interval(better.tolist(), patients.tolist(), resamples=500)
    alone = bootstrap_interval(patients.tolist(), resamples=500)
    assert 0.8 < difference.low < difference.high < 1.2
    assert difference.high - difference.low < 0.2 * (alone.high - alone.low)
    both = paired_interval([math.inf, 1.0, 2.0], [math.inf, 0.0, 2.0])
    assert both.mean == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: bootstrap_interval([]),
        lambda: bootstrap_interval([1.0, math.nan]),
        lambda: bootstrap_interval([1.0, 2.0], ["a"]),
        lambda: bootstrap_interval([1.0, 2.0, 3.0], confidence=1.0),
        lambda: bootstrap_interval([1.0, 2.0, 3.0], method="normal"),
        lambda: paired_interval([1.0], [1.0, 2.0]),
    ],
)
def test_settings_that_cannot_be_used_are_refused(make) -> None:
    with pytest.raises(InvalidInputError):
        make()
