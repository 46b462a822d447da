"""AUROC, its interval and its test are those of R's pROC, and of a sheet of paper."""

from __future__ import annotations

import math

import numpy as np
import pytest

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.metrics.intervals import Interval
from napari_cxr3d.metrics.statistics import (
    at_cutoff,
    auroc,
    concordance,
    delong_auroc,
    delong_test,
    macro_auroc,
    macro_difference,
    youden,
)

# Twenty cases with ties; the numbers below are those that pROC 1.18.0 gives in R 4.2 for
# roc(y, a, direction = "<", levels = c(0, 1)), ci.auc, roc.test and coords.
TRUTH = [0] * 12 + [1] * 8
A = [10, 20, 30, 30, 40, 10, 50, 60, 20, 35, 70, 25, 40, 80, 60, 90, 55, 30, 75, 65]
B = [20, 10, 40, 50, 30, 20, 60, 40, 30, 45, 50, 15, 30, 70, 50, 60, 65, 40, 55, 45]


def _width(interval: Interval) -> float:
    assert interval.low is not None
    assert interval.high is not None
    return interval.high - interval.low


def test_area_and_interval_are_those_of_proc() -> None:
    first, second = delong_auroc(TRUTH, A), delong_auroc(TRUTH, B)
    assert (first.value, second.value) == pytest.approx((0.854166667, 0.802083333), abs=1e-9)
    assert (first.low, first.high) == pytest.approx((0.687425052, 1.0), abs=1e-9)
    assert (second.low, second.high) == pytest.approx((0.606063736, 0.998102931), abs=1e-9)
    ninety = delong_auroc(TRUTH, A, confidence=0.9)
    assert (ninety.low, ninety.high) == pytest.approx((0.714232692, 0.994100641), abs=1e-9)
    assert (first.positives, first.negatives) == (8, 12)
    assert first.metric().convention == "95% DeLong, 8 positives and 12 negatives"


def test_the_paired_test_is_that_of_proc() -> None:
    test = delong_test(TRUTH, A, B)
    assert test.z == pytest.approx(0.658599987259, abs=1e-10)
    assert test.p == pytest.approx(0.510152671081, abs=1e-10)
    assert (test.low, test.high) == pytest.approx((-0.102914327619, 0.207080994285), abs=1e-10)
    assert test.z is not None
    back = delong_test(TRUTH, B, A)
    assert (back.z, back.p) == pytest.approx((-test.z, test.p))


def test_delong_by_hand() -> None:
    """Positives 2 and 4, negatives 1 and 3: components 1/2 and 1 of each class, AUROC 3/4."""
    found = delong_auroc([1, 1, 0, 0], [2, 4, 1, 3], confidence=0.5)
    half = 0.6744897501960817 * math.sqrt(0.125 / 2 + 0.125 / 2)
    assert found.value == 0.75
    assert (found.low, found.high) == pytest.approx((0.75 - half, min(1.0, 0.75 + half)))


def test_equal_scores_count_half() -> None:
    assert auroc([1, 1, 0, 0, 0], [5, 5, 5, 5, 5]) == 0.5
    assert auroc([1, 0], [1.0, 1.0]) == 0.5
    assert auroc([True, False], [2, 1]) == 1.0
    assert auroc([1, 0, 0], [2, 2, 1]) == 0.75


def test_the_same_scores_do_not_differ_and_perfect_ones_are_not_tested() -> None:
    same = delong_test(TRUTH, A, A)
    assert (same.difference, same.z, same.p) == (0.0, 0.0, 1.0)
    truth = [0, 0, 0, 1, 1, 1]
    apart = delong_test(truth, [0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0])
    assert (apart.difference, apart.z, apart.p) == (1.0, None, None)


def test_one_positive_has_an_area_and_no_interval() -> None:
    one = delong_auroc([1, 0, 0], [3, 1, 2])
    assert (one.value, one.low, one.high) == (1.0, None, None)
    assert "no interval" in one.convention
    assert delong_test([1, 0, 0], [3, 1, 2], [1, 2, 3]).p is None


def test_the_cutoff_is_that_of_proc_and_is_measured_elsewhere() -> None:
    found = youden(TRUTH, A)
    assert found.threshold == pytest.approx(52.5)
    assert (found.sensitivity, found.specificity) == pytest.approx((0.75, 0.833333333))
    assert found.youden == pytest.approx(0.583333333)
    again = at_cutoff(TRUTH, A, found.threshold)
    assert (again.sensitivity, again.specificity) == (found.sensitivity, found.specificity)
    other = at_cutoff([0, 0, 1, 1], [60, 10, 52.5, 20], found.threshold)
    assert (other.sensitivity, other.specificity) == (0.5, 0.5)
    # 1.5 and 3.5 are equally good: the lower one finds more of the sick.
    assert youden([0, 1, 0, 1], [1, 2, 3, 4]).threshold == 1.5


def test_the_macro_mean_is_over_labels_and_its_interval_over_patients() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((60, 3)) < 0.4
    scores = truth + rng.normal(0, (0.5, 1.0, 3.0), (60, 3))
    found = macro_auroc(truth, scores, resamples=500)
    assert found.mean == pytest.approx(
        np.mean([auroc(truth[:, k], scores[:, k]) for k in range(3)])
    )
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.mean < found.high
    assert found.patients == 60
    assert macro_auroc(truth, scores, resamples=500) == found
    # Every case five times is no more patients.
    patients = [f"p{k}" for k in range(60)]
    many = macro_auroc(
        np.repeat(truth, 5, axis=0), np.repeat(scores, 5, axis=0), np.repeat(patients, 5).tolist(),
        resamples=500,
    )  # fmt: skip
    assert many.patients == 60
    assert many.mean == pytest.approx(found.mean)
    assert _width(many) == pytest.approx(_width(found), rel=0.15)


def test_one_labels_bootstrap_is_near_its_delong_interval() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random(300) < 0.3
    scores = truth + rng.normal(0, 1.2, 300)
    exact = delong_auroc(truth, scores)
    drawn = macro_auroc(truth[:, None], scores[:, None])
    assert drawn.mean == pytest.approx(exact.value)
    assert (drawn.low, drawn.high) == pytest.approx((exact.low, exact.high), abs=0.01)


def test_a_macro_difference_is_paired() -> None:
    rng = np.random.default_rng(2)
    truth = rng.random((80, 2)) < 0.5
    scores = truth + rng.normal(0, 1, (80, 2))
    nearly = scores + rng.normal(0, 0.05, (80, 2))
    gain = macro_difference(truth, scores, nearly)
    alone = macro_auroc(truth, scores)
    assert gain.mean == pytest.approx(alone.mean - macro_auroc(truth, nearly).mean)
    assert _width(gain) < 0.3 * _width(alone)
    assert macro_difference(truth, scores, scores).high == 0.0


def test_a_rare_label_is_left_out_of_resamples_without_it() -> None:
    truth = np.zeros((30, 2), bool)
    truth[:15, 0] = True
    truth[0, 1] = True
    scores = np.arange(60, dtype=float).reshape(30, 2)
    found = macro_auroc(truth, -scores)
    assert found.mean == 1.0
    assert (found.low, found.high) == (1.0, 1.0)


def test_concordance_is_that_of_r_and_of_paper() -> None:
    # survival::concordance(Surv(time, event) ~ x, reverse = TRUE) in R gives 0.777777777778.
    times = [5, 3, 8, 2, 9, 4, 4, 7, 6, 1]
    events = [1, 1, 0, 1, 1, 0, 1, 1, 0, 1]
    x = [1.2, -0.3, 0.1, 2.0, -1.1, 0.4, 0.9, -0.5, 0.0, 1.5]
    assert concordance(times, events, x) == pytest.approx(0.777777777778)
    assert concordance([1, 2], [True, False], [1, 0]) == 1.0
    assert concordance([1, 1], [True, False], [1, 1]) == 0.5
    with pytest.raises(InvalidInputError, match="compared"):
        concordance([1, 2], [False, False], [1, 0])


@pytest.mark.parametrize(
    ("truth", "scores", "told"),
    [
        ([1, 1], [0.1, 0.2], "Positives and negatives"),
        ([0, 0], [0.1, 0.2], "Positives and negatives"),
        ([0, 1], [0.1], "one label and one score"),
        ([0, 2], [0.1, 0.2], "0 or 1"),
        ([0, 1], [0.1, math.nan], "finite"),
    ],
)
def test_what_has_no_area_is_refused(truth: list[int], scores: list[float], told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        delong_auroc(truth, scores)


def test_settings_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="confidence"):
        delong_auroc([0, 1], [0, 1], confidence=95)
    with pytest.raises(InvalidInputError, match="one patient"):
        macro_auroc([[0], [1]], [[0], [1]], ["a"])
    with pytest.raises(InvalidInputError, match="column"):
        macro_auroc([0, 1], [0, 1])
    with pytest.raises(InvalidInputError, match="all the same"):
        youden([0, 1], [1, 1])
