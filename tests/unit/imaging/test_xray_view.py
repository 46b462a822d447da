"""The geometry of an exposure, against positions worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import PRESETS, Grid, XrayView, preset

ISOCENTER = (10.0, 20.0, 30.0)

# Source, detector centre, and the directions of columns and rows in LPS, with the isocenter
# at the origin: x grows to the left, y to posterior, z to superior.
BY_HAND = {
    "pa": ((0, 1600, 0), (0, -200, 0), (1, 0, 0), (0, 0, -1)),
    "ap": ((0, -1600, 0), (0, 200, 0), (1, 0, 0), (0, 0, -1)),
    "ap-bedside": ((0, -850, 0), (0, 150, 0), (1, 0, 0), (0, 0, -1)),
    "left-lateral": ((-1600, 0, 0), (200, 0, 0), (0, 1, 0), (0, 0, -1)),
    "right-lateral": ((1600, 0, 0), (-200, 0, 0), (0, -1, 0), (0, 0, -1)),
    "x-win": ((0, -700, 0), (0, 320, 0), (1, 0, 0), (0, 0, -1)),
    "x-ray2ctpa": ((0, -850, 0), (0, 350, 0), (1, 0, 0), (0, 0, -1)),
}


def at(name: str, **changes) -> XrayView:
    return replace(preset(name), isocenter_lps=ISOCENTER, **changes)


def test_every_preset_has_positions_worked_out_by_hand() -> None:
    assert set(BY_HAND) == set(PRESETS)


def near_isocenter(x: float, y: float, z: float) -> np.ndarray:
    return np.add(ISOCENTER, (x, y, z))


@pytest.mark.parametrize("name", BY_HAND)
def test_source_and_detector_stand_where_the_preset_says(name: str) -> None:
    source, center, columns, rows = (np.array(v, float) for v in BY_HAND[name])
    view = at(name)
    frame = view.frame()
    np.testing.assert_allclose(frame.source, source + ISOCENTER, atol=1e-9)
    np.testing.assert_allclose(frame.center, center + ISOCENTER, atol=1e-9)
    np.testing.assert_allclose(frame.column_step, view.pixel_mm * columns, atol=1e-12)
    np.testing.assert_allclose(frame.row_step, view.pixel_mm * rows, atol=1e-12)


@pytest.mark.parametrize("name", BY_HAND)
def test_pixels_lie_evenly_about_the_detector_s_centre(name: str) -> None:
    frame = at(name, detector_shape=(4, 6)).frame()
    middle = frame.origin + 1.5 * frame.row_step + 2.5 * frame.column_step
    np.testing.assert_allclose(middle, frame.center, atol=1e-9)
    np.testing.assert_allclose(frame.corners((4, 6)).mean(axis=0), frame.center, atol=1e-9)


@pytest.mark.parametrize("name", ["pa", "ap", "ap-bedside", "x-win", "x-ray2ctpa"])
def test_every_frontal_view_shows_the_left_side_on_the_right_and_the_head_up(name: str) -> None:
    view = at(name)
    frame = view.frame()
    row, column = frame.project(near_isocenter(0, 0, 0))
    rows, cols = view.detector_shape
    assert (row, column) == pytest.approx(((rows - 1) / 2, (cols - 1) / 2))
    left = frame.project(near_isocenter(50, 0, 0))
    head = frame.project(near_isocenter(0, 0, 50))
    assert left[1] > column + 10
    assert left[0] == pytest.approx(row)
    assert head[0] < row - 10
    assert head[1] == pytest.approx(column)


@pytest.mark.parametrize(("name", "sign"), [("left-lateral", 1), ("right-lateral", -1)])
def test_the_lateral_views_show_the_spine_on_their_own_side(name: str, sign: int) -> None:
    view = at(name)
    spine = view.frame().project(near_isocenter(0, 60, 0))
    assert sign * (spine[1] - (view.detector_shape[1] - 1) / 2) > 10


def test_a_point_is_magnified_by_its_distance_from_the_source() -> None:
    view = XrayView(
        source_to_isocenter_mm=1000,
        source_to_detector_mm=1500,
        detector_shape=(101, 101),
        pixel_mm=0.5,
        isocenter_lps=(0, 0, 0),
    )
    frame = view.frame()
    assert view.magnification == 1.5
    # In the isocenter's plane 10 mm become 15 mm, 30 pixels.
    np.testing.assert_allclose(frame.project(np.array([10.0, 0, -4.0])), [50 + 12, 50 + 30])
    # 250 mm nearer to the source they become 20 mm.
    np.testing.assert_allclose(frame.project(np.array([10.0, 250, 0])), [50, 50 + 40])
    # On the detector itself nothing is magnified.
    np.testing.assert_allclose(frame.project(np.array([10.0, -500, 0])), [50, 50 + 20])
    assert view.field_of_view_mm == pytest.approx((101 * 0.5 / 1.5,) * 2)


def test_points_beside_the_source_have_no_image() -> None:
    frame = XrayView(isocenter_lps=(0, 0, 0)).frame()
    points = np.array([[[100.0, 1600.0, 0.0], [0.0, 0.0, 0.0]]])
    projected = frame.project(points)
    assert projected.shape == (1, 2, 2)
    assert np.isnan(projected[0, 0]).all()
    assert np.isfinite(projected[0, 1]).all()


@given(
    yaw=st.floats(-360, 360),
    pitch=st.floats(-90, 90),
    roll=st.floats(-180, 180),
    flip=st.booleans(),
    row=st.floats(-50, 150),
    column=st.floats(-50, 150),
)
def test_a_pixel_projects_onto_itself(
    yaw: float, pitch: float, roll: float, flip: bool, row: float, column: float
) -> None:
    view = XrayView(yaw, pitch, roll, isocenter_lps=ISOCENTER, flip_columns=flip)
    frame = view.frame()
    pixel = frame.origin + row * frame.row_step + column * frame.column_step
    np.testing.assert_allclose(frame.project(pixel), [row, column], atol=1e-6)
    between = frame.source + 0.3 * (pixel - frame.source)
    np.testing.assert_allclose(frame.project(between), [row, column], atol=1e-6)


@given(yaw=st.floats(-360, 360), pitch=st.floats(-90, 90), roll=st.floats(-180, 180))
def test_rows_and_columns_stand_upright_on_the_central_ray(
    yaw: float, pitch: float, roll: float
) -> None:
    view = XrayView(yaw, pitch, roll)
    rows, columns = view.image_axes
    frame = np.stack([rows, columns, view.toward_source])
    np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-9)


def test_yaw_turns_the_source_to_the_right_of_the_patient() -> None:
    # From behind, by 30 degrees toward the patient's right: a left anterior oblique.
    source = at("pa", yaw=30.0).frame().source - ISOCENTER
    np.testing.assert_allclose(source, 1600 * np.array([-0.5, np.sqrt(3) / 2, 0]), atol=1e-9)


def test_pitch_lifts_the_source_toward_the_head() -> None:
    source = at("pa", pitch=30.0).frame().source - ISOCENTER
    np.testing.assert_allclose(source, 1600 * np.array([0, np.sqrt(3) / 2, 0.5]), atol=1e-9)
    # Looked at from above and behind, what lies in front is farther and shown higher.
    view = at("pa", pitch=30.0)
    row, _ = view.frame().project(near_isocenter(0, -50, 0))
    assert row < (view.detector_shape[0] - 1) / 2 - 10


def test_roll_turns_the_picture_counter_clockwise() -> None:
    # The detector turns clockwise by 90 degrees: the head, up before, points left.
    view = at("pa", roll=90.0)
    frame = view.frame()
    row, column = frame.project(near_isocenter(0, 0, 50))
    rows, cols = view.detector_shape
    assert row == pytest.approx((rows - 1) / 2)
    assert column < (cols - 1) / 2 - 10


def test_flipping_the_columns_mirrors_the_picture() -> None:
    points = np.random.default_rng(0).normal(0, 60, (20, 3)) + ISOCENTER
    for roll in (0.0, 25.0):
        plain = at("pa", yaw=20.0, roll=roll)
        flipped = replace(plain, flip_columns=True)
        row, column = plain.frame().project(points).T
        mirrored = plain.detector_shape[1] - 1 - column
        np.testing.assert_allclose(
            flipped.frame().project(points), np.stack([row, mirrored], axis=-1), atol=1e-6
        )


def test_the_isocenter_is_the_volume_s_centre_unless_named() -> None:
    grid = Grid((11, 21, 31), (2.0, 1.0, 3.0), (-45.0, -10.0, 100.0))
    view = XrayView()
    np.testing.assert_allclose(view.frame(grid).source, [0, 1600, 90])
    assert view.resolved(grid).isocenter_lps == (0.0, 0.0, 90.0)
    named = XrayView(isocenter_lps=ISOCENTER)
    assert named.resolved(grid) is named
    np.testing.assert_allclose(named.frame(grid).source, near_isocenter(0, 1600, 0))
    with pytest.raises(InvalidInputError, match="isocenter"):
        view.frame()


@pytest.mark.parametrize("name", PRESETS)
def test_a_view_comes_back_from_json(name: str) -> None:
    for view in (preset(name), at(name, yaw=12.5, pitch=-3.0, roll=1.0)):
        assert XrayView.from_dict(json.loads(json.dumps(view.to_dict()))) == view


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"yaw": float("nan")}, "yaw"),
        ({"pitch": 91.0}, "pitch"),
        ({"source_to_isocenter_mm": 0.0}, "positive"),
        ({"source_to_isocenter_mm": 1801.0}, "not larger"),
        ({"source_to_detector_mm": float("inf")}, "1600 mm and inf"),
        ({"detector_shape": (0, 512)}, "rows and columns"),
        ({"detector_shape": (512, 16385)}, "16384"),
        ({"detector_shape": (512,)}, "rows and columns"),
        ({"pixel_mm": 0.0}, "pixel pitch"),
        ({"isocenter_lps": (0.0, float("nan"), 0.0)}, "isocenter"),
    ],
)
def test_a_geometry_that_cannot_be_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        XrayView(**changes)


def test_an_unknown_preset_names_those_that_exist() -> None:
    with pytest.raises(InvalidInputError, match="left-lateral"):
        preset("lateral")
