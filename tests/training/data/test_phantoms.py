"""Phantoms as a cohort: made once, kept, the same whichever way they are asked for."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from cxr3d_training.data import Cohort, open_cohort
from cxr3d_training.data.conditioning import Conditioning
from cxr3d_training.data.phantoms import STREAM, parse_phantoms, phantom_findings
from cxr3d_training.data.prepare import prepare
from napari_cxr3d.errors import InvalidInputError

OPTIONS = {"spacing_mm": 12.0, "size_mm": (340.0, 260.0, 340.0)}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def three(cache: Path) -> Cohort:
    return open_cohort("phantom:3", cache=cache, in_background=False, **OPTIONS)


def test_a_phantom_comes_with_its_truth(three: Cohort) -> None:
    case = three.cases[0]
    assert case.synthetic
    assert case.volume().synthetic
    assert case.hu.shape == case.anatomy.shape == case.finding_bits.shape
    assert case.anatomy.max() > 3
    assert case.finding_bits.dtype == np.uint32
    assert "FINDINGS" in case.report
    assert set(map(type, case.labels.values())) == {bool}
    assert 0 <= case.measures["cardiovascular_risk"] <= 1
    inside = case.grid.lps_to_index(case.landmarks["carina"])
    assert np.all((inside >= 0) & (inside < case.shape))


def test_it_is_made_once_and_then_lies_in_the_cache(three: Cohort, cache: Path) -> None:
    hu = three.cases[0].hu
    groups = list(cache.glob("phantoms-*/cases/phantom-0"))
    assert len(groups) == 1
    made = groups[0].stat().st_mtime_ns
    again = open_cohort("phantom:3", cache=cache, in_background=False, **OPTIONS)
    np.testing.assert_array_equal(again.cases[0].hu, hu)
    assert groups[0].stat().st_mtime_ns == made


def test_memory_disk_and_dataset_hold_the_same_phantom(three: Cohort, tmp_path: Path) -> None:
    prepare("phantom:1", tmp_path / "set", settings=Conditioning(spacing_mm=(12.0,) * 3))
    cohorts = (open_cohort("phantom:1", cache=False, **OPTIONS), open_cohort(tmp_path / "set"))
    for cohort in cohorts:
        case = cohort.cases[0]
        assert case.id == three.cases[0].id
        assert case.facts == three.cases[0].facts
        for name in ("hu", "body", "lungs", "anatomy", "findings"):
            np.testing.assert_array_equal(case.read(name), three.cases[0].read(name))


def test_a_larger_cohort_never_tests_on_what_a_smaller_one_trained_on() -> None:
    def sides(count: int) -> dict[str, str]:
        cohort = open_cohort(f"phantom:{count}", cache=False)
        return {c.id: s for s in ("train", "validation", "test") for c in cohort.split(s)}

    small, large = sides(37), sides(400)
    assert small == {name: large[name] for name in small}
    assert sorted(set(small.values())) == ["test", "train", "validation"]


def test_phantoms_with_findings_are_the_same_patients_as_those_who_are_well(
    three: Cohort, cache: Path, tmp_path: Path
) -> None:
    ill = open_cohort("phantom:3:0:random", cache=cache, in_background=False, **OPTIONS)
    assert [case.patient for case in ill.cases] == [case.patient for case in three.cases]
    assert {case.id for case in ill.cases}.isdisjoint(case.id for case in three.cases)
    assert not any(any(case.labels.values()) for case in three.cases)
    assert any(any(case.labels.values()) for case in ill.cases)
    assert any(not np.array_equal(a.hu, b.hu) for a, b in zip(ill.cases, three.cases, strict=True))
    prepare("phantom:3:0:random", tmp_path / "set", settings=Conditioning(spacing_mm=(12.0,) * 3))
    stored = open_cohort(tmp_path / "set")
    for made, kept in zip(ill.cases, stored.cases, strict=True):
        assert (made.id, made.patient, made.facts) == (kept.id, kept.patient, kept.facts)
    assert phantom_findings("phantom:3:0:random") == "random"
    assert phantom_findings("phantom:3:0") is None
    assert parse_phantoms("phantom:3:random") is None
    assert parse_phantoms("phantom:3:1:random") == parse_phantoms("phantom:3:1")


def test_streams_have_no_phantom_in_common() -> None:
    assert parse_phantoms("phantom:3:2") == [2 * STREAM, 2 * STREAM + 1, 2 * STREAM + 2]
    assert parse_phantoms("phantoms/") is None
    for wrong in ("phantom:0", f"phantom:{STREAM + 1}"):
        with pytest.raises(InvalidInputError, match="between 1 and"):
            parse_phantoms(wrong)


def test_a_process_in_the_background_makes_what_is_missing_and_ends_with_the_cohort(
    tmp_path: Path,
) -> None:
    import gc

    import psutil

    def makers() -> list[psutil.Process]:
        return [
            child
            for child in psutil.Process().children()
            if "cxr3d_training.data.background" in " ".join(child.cmdline())
        ]

    cohort = open_cohort("phantom:40", cache=tmp_path, **OPTIONS)
    assert len(makers()) == 1
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("*/cases/phantom-*"))) < 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    del cohort
    gc.collect()
    assert makers() == []
