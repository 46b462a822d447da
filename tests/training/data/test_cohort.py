"""Cohorts: who is on which side, what a case tells, and mixing at a stated ratio."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from cxr3d_training.data import Cohort, cohort_of, mix, open_cohort
from cxr3d_training.data.memory import Memory
from napari_cxr3d.errors import InvalidInputError


def test_every_case_is_on_one_side(ten_patients: Cohort) -> None:
    sides = [{c.id for c in ten_patients.split(s)} for s in ("train", "validation", "test")]
    assert [len(side) for side in sides] == [8, 1, 1]
    assert set.union(*sides) == {f"c{k}" for k in range(10)}
    assert len(ten_patients) == 10


def test_a_case_tells_what_a_recipe_needs(ten_patients: Cohort, make_chest) -> None:
    case = next(c for c in ten_patients.cases if c.id == "c3")
    source = make_chest(3)
    np.testing.assert_array_equal(case.hu, source.hu)
    assert case.hu.dtype == np.int16
    assert (case.shape, case.spacing_mm, case.origin_lps) == (
        source.shape, source.spacing_mm, source.origin_lps,
    )  # fmt: skip
    assert case.body.dtype == bool
    assert case.lungs.dtype == bool
    assert case.lungs.sum() > 0
    assert not (case.lungs & ~case.body).any()
    assert case.labels == {"odd": True}
    assert case.volume() is case.volume()
    with pytest.raises(InvalidInputError, match="no array 'anatomy'"):
        _ = case.anatomy


def test_a_part_of_an_array_is_that_part(ten_patients: Cohort) -> None:
    case = ten_patients.cases[0]
    region = (slice(3, 9), slice(0, 5), slice(10, 12))
    np.testing.assert_array_equal(case.read("hu", region), case.hu[region])


def test_nobody_can_write_into_a_case(ten_patients: Cohort) -> None:
    with pytest.raises(ValueError, match="read-only"):
        ten_patients.cases[0].hu[0, 0, 0] = 0


def test_two_scans_of_one_patient_share_a_side(make_chest) -> None:
    volumes = {f"c{k}": make_chest(k) for k in range(12)}
    cohort = cohort_of(volumes, patients={f"c{k}": f"p{k // 2}" for k in range(12)})
    for side in ("train", "validation", "test"):
        patients = [case.patient for case in cohort.split(side)]
        assert len(patients) == 2 * len(set(patients))


def test_a_cohort_with_a_patient_on_two_sides_cannot_be_made(make_chest) -> None:
    one, other = cohort_of({"a": make_chest(0)}).cases + cohort_of({"b": make_chest(1)}).cases
    other = type(other)("b", one.patient, other.content)
    with pytest.raises(InvalidInputError, match="two sides"):
        Cohort([(one, "train"), (other, "test")])


def test_the_mixing_ratio_is_that_of_the_draws(ten_patients: Cohort, make_chest) -> None:
    few = cohort_of({f"real{k}": make_chest(20 + k) for k in range(4)})
    mixed = mix(ten_patients, few, ratio=0.25).split("train")
    assert len(mixed) == 8 + 2
    rng = np.random.default_rng(0)
    drawn = [mixed.draw(rng).id for _ in range(4000)]
    real = np.mean([name.startswith("real") for name in drawn])
    assert abs(real - 0.25) < 0.03
    assert len(set(drawn)) == 10
    again = mix(mix(ten_patients, few, ratio=0.5), cohort_of({"x": make_chest(30)}), ratio=0.2)
    np.testing.assert_allclose(again.split("train").shares, [0.4, 0.4, 0.2])


def test_where_one_cohort_has_no_case_the_other_gives_all(ten_patients: Cohort, make_chest) -> None:
    one = cohort_of({"x": make_chest(30)})  # a single patient, on the training side
    mixed = mix(ten_patients, one, ratio=1.0)
    rng = np.random.default_rng(0)
    assert {mixed.split("train").draw(rng).id for _ in range(50)} == {"x"}
    assert mixed.split("test").draw(rng).id.startswith("c")


def test_mixing_refuses_a_patient_on_two_sides(ten_patients: Cohort, make_chest) -> None:
    patient = ten_patients.split("train")[0].patient
    other = cohort_of({"x": make_chest(30)}, patients={"x": patient}, sides={patient: "test"})
    with pytest.raises(InvalidInputError, match="two sides of the split, train and test"):
        mix(ten_patients, other, ratio=0.5)


def test_patients_under_different_secrets_cannot_be_compared(make_chest) -> None:
    one, other = cohort_of({"a": make_chest(0)}), cohort_of({"b": make_chest(1)})
    one.identities, other.identities = "1111", "2222"
    with pytest.raises(InvalidInputError, match="cannot be compared"):
        mix(one, other, ratio=0.5)
    assert len(mix(one, other, ratio=0.5, assume_different_patients=True)) == 2


@pytest.mark.parametrize("ratio", [-0.1, 1.5, float("nan")])
def test_a_ratio_that_is_none_is_refused(ten_patients: Cohort, ratio: float) -> None:
    with pytest.raises(InvalidInputError, match="ratio"):
        mix(ten_patients, ten_patients, ratio=ratio)


def test_an_empty_side_says_so_when_a_case_is_drawn(make_chest) -> None:
    one = cohort_of({"x": make_chest(30)})
    with pytest.raises(InvalidInputError, match="no case"):
        one.split("test").draw(np.random.default_rng(0))


def test_the_memory_makes_a_value_once_for_many_threads_and_keeps_its_budget() -> None:
    made: list[str] = []
    memory: Memory[bytes] = Memory(30, len)

    def make(name: str) -> bytes:
        made.append(name)
        return name.encode() * 10

    gate = threading.Barrier(4)

    def ask() -> None:
        gate.wait()
        memory.get("a", lambda: make("a"))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == ["a"]
    for name in "bcd":
        memory.get(name, lambda name=name: make(name))
    memory.get("a", lambda: make("a"))
    assert made == list("abcda")  # "a" had left when "d" came


def test_real_ct_files_become_a_cohort_by_patient(data_folder: Path) -> None:
    cohort = open_cohort(data_folder / "train" / "ct")
    assert len(cohort) == 9
    assert len({case.patient for case in cohort.cases}) == 8
    case = min(cohort.cases, key=lambda c: c.id)
    assert case.spacing_mm == (2.0, 2.0, 2.0)
    assert 1500 < case.facts["lung_ml"] < 9000
