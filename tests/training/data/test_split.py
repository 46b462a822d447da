"""Sides: by patient, in the wanted shares, and stable."""

from __future__ import annotations

from collections import Counter

import pytest

from cxr3d_training.data.split import assign_sides, check_disjoint, check_side
from napari_cxr3d.errors import InvalidInputError


def names(count: int) -> list[str]:
    return [f"p-{k:03d}" for k in range(count)]


@pytest.mark.parametrize("count", [10, 50, 200])
def test_the_shares_are_met(count: int) -> None:
    sides = Counter(assign_sides(names(count)).values())
    assert sides == {"train": 0.8 * count, "validation": 0.1 * count, "test": 0.1 * count}


def test_eight_patients_reach_every_side() -> None:
    assert Counter(assign_sides(names(8)).values()) == {"train": 6, "validation": 1, "test": 1}


def test_the_order_in_which_patients_come_does_not_matter() -> None:
    assert assign_sides(names(40)) == assign_sides(reversed(names(40)))
    assert assign_sides(names(40)) != assign_sides(names(40), seed=1)


def test_a_longer_list_in_order_begins_like_the_shorter_one() -> None:
    long = assign_sides(names(300), in_order=True)
    for count in (1, 2, 3, 7, 31, 200):
        short = assign_sides(names(count), in_order=True)
        assert short == {name: long[name] for name in short}


def test_who_has_a_side_keeps_it_when_others_come() -> None:
    before = assign_sides(names(30))
    after = assign_sides(names(90), kept=before)
    assert all(after[name] == side for name, side in before.items())
    assert Counter(after.values()) == {"train": 72, "validation": 9, "test": 9}


def test_every_stratum_is_spread_alike() -> None:
    strata = {name: int(name[2:]) % 4 == 0 for name in names(200)}
    sides = assign_sides(names(200), strata=strata)
    positive = Counter(sides[name] for name in names(200) if strata[name])
    assert positive["validation"] in (4, 5, 6)
    assert positive["test"] in (4, 5, 6)


@pytest.mark.parametrize(
    "fractions",
    [{"train": 0.5, "validation": 0.4, "test": 0.2}, {"train": 1.2, "validation": -0.2}],
)
def test_fractions_that_are_no_shares_are_refused(fractions: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError, match="fractions"):
        assign_sides(names(3), fractions=fractions)  # type: ignore[arg-type]


def test_a_side_without_a_share_stays_empty() -> None:
    sides = assign_sides(names(20), fractions={"train": 0.5, "validation": 0.5, "test": 0.0})
    assert Counter(sides.values()) == {"train": 10, "validation": 10}


def test_a_patient_on_two_sides_is_refused() -> None:
    check_disjoint([("a", "train"), ("a", "train"), ("b", "test")])
    with pytest.raises(InvalidInputError, match="patient a would be on two sides"):
        check_disjoint([("a", "train"), ("a", "test")])


def test_an_unknown_side_lists_those_that_exist() -> None:
    with pytest.raises(InvalidInputError, match="train, validation, test"):
        check_side("val")
