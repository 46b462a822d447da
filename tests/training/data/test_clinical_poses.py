"""Poses of a clinic, and volumes on the grid of a network."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from cxr3d_training.data import cohort_of
from cxr3d_training.data.clinical_poses import ClinicalPoses
from cxr3d_training.data.grids import centered_grid, on_grid
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.phantom import make_thorax

GRID = centered_grid(np.zeros((8, 8, 8), np.int16), (40.0, 40.0, 40.0)).grid


def named(yaw: float, tilt: float) -> str:
    """Which of the nominal poses a yaw belongs to."""
    for name, nominal in (("pa", 0.0), ("lateral", 90.0), ("ap", 180.0)):
        if abs(abs(yaw) - nominal) <= tilt:
            return name
    return "other"


def test_the_first_view_is_mostly_frontal_and_the_second_mostly_lateral() -> None:
    poses, rng = ClinicalPoses(), np.random.default_rng(0)
    drawn = [poses.draw(rng, GRID) for _ in range(400)]
    first = Counter(named(views[0].yaw, poses.tilt) for views in drawn)
    second = Counter(named(views[1].yaw, poses.tilt) for views in drawn)
    assert first["pa"] > 0.55 * len(drawn)
    assert 0.14 < first["ap"] / len(drawn) < 0.3
    assert second["lateral"] > 0.7 * len(drawn)
    assert first["other"]
    assert second["other"]


def test_pictures_from_the_front_are_mirrored_as_they_are_shown() -> None:
    poses, rng = ClinicalPoses(), np.random.default_rng(1)
    views = [view for _ in range(200) for view in poses.draw(rng, GRID)]
    frontal = [v for v in views if named(v.yaw, poses.tilt) in ("pa", "ap")]
    assert all(v.flip_columns == (abs(v.yaw) > 90) for v in frontal)


def test_shares_that_exceed_the_whole_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="shares"):
        ClinicalPoses(ap=0.7, lateral_first=0.4)


def test_the_patient_lies_in_the_middle_of_the_grid() -> None:
    thorax = make_thorax(1, spacing_mm=10.0).volume
    air = ((0, 0), (0, 2), (8, 0))
    beside = centered_grid(np.pad(thorax.hu, air, constant_values=-1000), thorax.spacing_mm)
    sides = {"a": "train", "b": "train"}
    cases = cohort_of({"a": thorax, "b": beside}, sides=sides).split("train")  # type: ignore[arg-type]
    volumes = {}
    for case in cases:
        volume, maps = on_grid(case, (36, 40, 40), (10.0, 10.0, 10.0))
        assert volume.grid.center_lps == pytest.approx((0, 0, 0))
        columns = np.flatnonzero(maps["body"].any(axis=(0, 1)))
        assert abs(columns[0] + columns[-1] - 39) <= 1
        volumes[case.id] = np.asarray(volume.hu)
    one, other = volumes.values()
    assert (one == other).mean() > 0.97


def test_a_short_scan_is_filled_up_with_air() -> None:
    thorax = make_thorax(1, spacing_mm=10.0).volume
    short = np.asarray(thorax.hu)[10:20]
    case = cohort_of({"a": centered_grid(short, (10.0, 10.0, 10.0))}, sides={"a": "train"}).split(
        "train"
    )[0]
    volume, maps = on_grid(case, (20, 40, 40), (10.0, 10.0, 10.0))
    hu = np.asarray(volume.hu)
    assert (hu[:5] == -1000).all()
    assert (hu[15:] == -1000).all()
    assert maps["body"][5:15].any()


def test_another_spacing_is_refused() -> None:
    cases = cohort_of({"a": make_thorax(1, spacing_mm=12.0).volume}, sides={"a": "train"})
    with pytest.raises(InvalidInputError, match="spacing"):
        on_grid(cases.split("train")[0], (32, 32, 32), (6.0, 6.0, 6.0))
