"""Cardiovascular risk as a stated function."""

from __future__ import annotations

import math

import pytest

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.phantom.risk import cardiovascular_risk


def odds(*values: float | str) -> float:
    risk = cardiovascular_risk(*values)  # type: ignore[arg-type]
    return risk / (1 - risk)


def test_the_reference_is_three_in_a_hundred() -> None:
    assert cardiovascular_risk(60, "female", 0.45, 0) == pytest.approx(0.03, abs=0.001)


def test_the_odds_double_with_ten_years() -> None:
    older, younger = odds(70, "male", 0.5, 100), odds(60, "male", 0.5, 100)
    assert older / younger == pytest.approx(2, rel=1e-3)


@pytest.mark.parametrize(
    ("low", "high"),
    [
        ((50, "male", 0.45, 0), (51, "male", 0.45, 0)),
        ((50, "female", 0.45, 0), (50, "male", 0.45, 0)),
        ((50, "male", 0.45, 0), (50, "male", 0.47, 0)),
        ((50, "male", 0.45, 10), (50, "male", 0.45, 20)),
    ],
)
def test_each_risk_factor_raises_it(low: tuple[float], high: tuple[float]) -> None:
    assert odds(*low) < odds(*high)


def test_calcium_counts_by_its_logarithm() -> None:
    ratio = odds(60, "male", 0.45, math.e - 1) / odds(60, "male", 0.45, 0)
    assert ratio == pytest.approx(math.exp(0.26), rel=1e-3)


def test_it_stays_a_probability_at_the_extremes() -> None:
    assert 0 < cardiovascular_risk(18, "female", 0.3, 0) < 0.01
    assert 0.7 < cardiovascular_risk(100, "male", 0.8, 5000) < 1


def test_an_unseen_heart_counts_as_a_healthy_one() -> None:
    assert odds(60, "male", 0.0, 0) == odds(60, "male", 0.45, 0)


@pytest.mark.parametrize(
    "values",
    [(60, "other", 0.45, 0), (60, "male", 0.45, -1), (float("nan"), "male", 0.45, 0),
     (60, "male", -0.1, 0)],
)  # fmt: skip
def test_what_is_no_person_is_refused(values: tuple[float]) -> None:
    with pytest.raises(InvalidInputError):
        cardiovascular_risk(*values)  # type: ignore[call-arg]
