"""A landmark followed as the source turns: held to its height, and checked against the truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import XrayView
from napari_cxr3d.inference.orbit_picture import OrbitPicture
from napari_cxr3d.inference.similarity import PatchFeatures, raw_patches
from napari_cxr3d.inference.tracking import track

SIDE = 64
CENTER = (10.0, -20.0, 300.0)  # of the CT
LANDMARK = np.array([45.0, 25.0, 340.0])
TWIN = np.array([-30.0, -60.0, 240.0])  # looks the same, lies lower
YAWS = np.arange(-60.0, 61.0, 10.0)


def view_at(yaw: float) -> XrayView:
    return XrayView(
        yaw=yaw, detector_shape=(SIDE, SIDE), pixel_mm=440 / SIDE, isocenter_lps=(0.0, 0.0, 0.0)
    )


def frame(yaw: float, *, exact: bool = True, landmark: float = 1.0) -> PatchFeatures:
    """Two soft balls before a slowly changing body, as the view shows them."""
    view = view_at(yaw)
    rows, cols = np.indices((SIDE, SIDE), dtype=np.float32)
    pixels = 0.3 * np.cos((cols - 32) / 25) * np.cos((rows - 32) / 30)
    for place, bright in ((LANDMARK, landmark), (TWIN, 1.0)):
        row, col = view.frame().project(place - CENTER)
        pixels += bright * np.exp(-((rows - row) ** 2 + (cols - col) ** 2) / (2 * 1.5**2))
    pixels = pixels.astype(np.float32)
    return raw_patches(
        OrbitPicture(
            pixels=pixels, valid=np.ones((SIDE, SIDE), bool), view=view, exact=exact,
            integrals=pixels, affine=np.array([[2.0, 0, 1], [0, 2, 0]]),
            source_shape=(SIDE // 2 - 1, SIDE // 2), center_lps=CENTER if exact else None,
        )
    )  # fmt: skip


def click(features: PatchFeatures, place: np.ndarray) -> np.ndarray:
    seen = features.picture.view.frame().project(place - CENTER)
    return features.picture.to_source(seen)


@pytest.fixture(scope="module")
def sweep() -> list[PatchFeatures]:
    return [frame(yaw) for yaw in YAWS]


@pytest.mark.parametrize("start", [0, 6, 12])
def test_a_ball_is_followed_through_the_sweep_and_placed_in_space(sweep, start):
    query = sweep[start]
    found = track(query, click(query, LANDMARK), sweep, truth_lps=LANDMARK)
    assert found.epipolar
    assert [p.yaw for p in found.points] == list(YAWS)
    assert max(p.error_mm for p in found.points) < 7
    assert found.median_error_mm < 3
    assert found.landmark_error_mm < 4
    assert np.linalg.norm(np.subtract(found.landmark_lps, LANDMARK)) == found.landmark_error_mm
    for point, features in zip(found.points, sweep, strict=True):
        true = features.picture.in_ct().frame().project(LANDMARK)
        apart = np.linalg.norm(features.picture.to_detector(point.point) - true)
        assert apart * (440 / SIDE) / 1.125 == pytest.approx(point.error_mm, abs=1e-6)


def test_the_bands_keep_it_from_a_twin_at_another_height(sweep):
    """Where the landmark fades, the twin is the better match."""
    fading = [*sweep[:7], *(frame(yaw, landmark=0.35) for yaw in YAWS[7:])]
    query = sweep[6]
    held, free = (
        track(query, click(query, LANDMARK), fading, epipolar=e, truth_lps=LANDMARK, memory=1.0)
        for e in (True, False)
    )
    assert max(p.error_mm for p in held.points) < 10
    assert max(p.error_mm for p in free.points[7:]) > 50
    assert not free.epipolar


def test_a_click_on_another_picture_is_held_to_the_height_of_its_match(sweep):
    query = frame(0.0, exact=False)
    middle = np.rint(query.picture.to_detector(click(query, LANDMARK)))  # there it is itself
    found = track(query, query.picture.to_source(middle), sweep, truth_lps=LANDMARK)
    assert found.epipolar
    assert any("held to the height" in note for note in found.notes)
    assert found.median_error_mm < 4


def test_one_angle_tells_no_depth(sweep):
    found = track(sweep[6], click(sweep[6], LANDMARK), sweep[6:7])
    assert found.landmark_lps is None
    assert found.landmark_error_mm is None
    assert found.points[0].error_mm is None
    assert found.median_error_mm is None
    assert "tell the depth" in found.notes[-1]


def test_the_record_is_plain_json(sweep):
    import json

    found = track(sweep[6], click(sweep[6], LANDMARK), sweep[5:9], truth_lps=LANDMARK)
    record = json.loads(json.dumps(found.to_dict()))
    assert record["points"][1]["yaw"] == 0
    assert record["points"][1]["point"] == list(found.points[1].point)


def test_a_sweep_needs_projections(sweep):
    query = sweep[6]
    with pytest.raises(InvalidInputError, match="no sweep"):
        track(query, (10, 10), [])
    with pytest.raises(InvalidInputError, match="projections of a CT"):
        track(query, (10, 10), [frame(0.0, exact=False)])
    with pytest.raises(InvalidInputError, match="memory"):
        track(query, (10, 10), sweep, memory=2)


def test_it_is_followed_where_the_picture_lies_elsewhere_in_the_ct(sweep):
    """A sweep about another isocenter shows the landmark elsewhere; the bands follow."""
    view = replace(view_at(0.0), isocenter_lps=(0.0, 0.0, 30.0))
    query = frame(0.0)
    rows, cols = np.indices((SIDE, SIDE), dtype=np.float32)
    row, col = view.frame().project(LANDMARK - CENTER)
    pixels = np.exp(-((rows - row) ** 2 + (cols - col) ** 2) / (2 * 1.5**2)).astype(np.float32)
    moved = raw_patches(replace(query.picture, view=view, pixels=pixels))
    found = track(moved, moved.picture.to_source((row, col)), sweep, truth_lps=LANDMARK)
    assert found.median_error_mm < 4
