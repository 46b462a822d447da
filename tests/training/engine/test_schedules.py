"""Numbers that change in the course of a training."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from cxr3d_training.engine.schedules import Schedule, learning_rate_factor
from napari_cxr3d.errors import InvalidInputError


def test_a_plain_number_is_constant() -> None:
    schedule = Schedule.parse(0.3)
    assert [schedule.at(step, 10) for step in (0, 5, 9)] == [0.3, 0.3, 0.3]
    assert schedule.to_plain() == 0.3


def test_a_term_that_starts_late_is_off_before() -> None:
    schedule = Schedule.parse({"value": 0.1, "start": 0.6})
    assert schedule.at(59, 100) == 0
    assert schedule.at(60, 100) == 0.1
    assert schedule.first_step(100) == 60
    assert not schedule.never


def test_a_ramp_grows_from_its_first_step_to_the_value() -> None:
    schedule = Schedule.parse({"value": 1.0, "start": 0.5, "ramp": 0.2})
    values = [schedule.at(step, 100) for step in range(48, 72)]
    assert values[1] == 0
    assert values[2] == pytest.approx(1 / 21)
    assert values[-1] == 1
    assert all(a <= b for a, b in pairwise(values))


def test_momentum_moves_from_end_to_end() -> None:
    # X-WIN's momentum, linear from 0.996 to 1 over all steps.
    schedule = Schedule.parse({"value": 0.996, "to": 1.0, "shape": "linear"})
    assert schedule.at(0, 101) == 0.996
    assert schedule.at(50, 101) == pytest.approx(0.998)
    assert schedule.at(100, 101) == 1.0
    cosine = Schedule.parse({"value": 0.996, "to": 1.0})
    assert cosine.at(25, 101) == pytest.approx(0.996 + 0.004 * 0.5 * (1 - math.cos(math.pi / 4)))


def test_a_schedule_survives_yaml() -> None:
    for given in (2.0, {"value": 1.0, "to": 0.5, "start": 0.25}, {"value": 0.1, "ramp": 0.5}):
        schedule = Schedule.parse(given)
        assert Schedule.parse(schedule.to_plain()) == schedule
        assert schedule.to_plain() == given


@pytest.mark.parametrize(
    "given",
    [
        {"value": 1.0, "start": 1.5},
        {"value": float("nan")},
        {"value": 1.0, "form": "linear"},
        {"value": 1.0, "to": 2.0, "shape": "square"},
    ],
)
def test_schedules_that_mean_nothing_are_refused(given: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError):
        Schedule.parse(given)


def test_the_learning_rate_warms_up_and_falls_along_a_cosine() -> None:
    factors = [learning_rate_factor(s, 110, warmup=10, final=0.1) for s in range(110)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == factors[10] == 1
    assert factors[-1] == pytest.approx(0.1)
    assert factors[10 + 49] == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 49 / 99)))


def test_an_optimizer_that_starts_late_warms_up_when_it_starts() -> None:
    assert learning_rate_factor(60, 100, warmup=4, final=0, first=60) == 0.25
    assert learning_rate_factor(99, 100, warmup=4, final=0, first=60) == pytest.approx(0)
