"""A DRR and a chest X-ray on one grid lie over each other in millimetres."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Radiograph
from napari_cxr3d.viewer.compare import (
    Alignment,
    blend,
    checkerboard,
    difference,
    display_picture,
    fitting_pitch,
    to_detector,
)


def disc(shape, pitch_mm, center_mm, radius_mm):
    """A bright disc at a place (down, right) in mm from the picture's centre."""
    rows, cols = ((np.arange(n) - (n - 1) / 2) * pitch_mm for n in shape)
    distance = np.hypot(rows[:, None] - center_mm[0], cols[None] - center_mm[1])
    return (distance < radius_mm).astype(np.float32)


@pytest.mark.parametrize("pitch", [0.25, 0.8, 1.7])
def test_the_same_object_has_the_same_size_and_place_whatever_the_pitch(pitch):
    shape = tuple(round(400 / pitch) for _ in range(2))
    cxr = disc(shape, pitch, (40.0, -60.0), 50.0)
    drr = disc((256, 256), 1.5, (40.0, -60.0), 50.0)
    laid = to_detector(cxr, Alignment((pitch, pitch)), (256, 256), 1.5)
    assert np.mean(np.abs(np.nan_to_num(laid) - drr)) < 0.01


def test_a_shift_moves_the_radiograph_down_and_right():
    cxr = disc((200, 200), 1.0, (0.0, 0.0), 20.0)
    laid = to_detector(cxr, Alignment((1.0, 1.0), (30.0, -10.0)), (200, 200), 1.0)
    row, column = (np.nonzero(laid == 1)[axis].mean() - 99.5 for axis in (0, 1))
    assert (row, column) == pytest.approx((30.0, -10.0), abs=0.5)


def test_beyond_the_radiograph_there_is_no_value():
    laid = to_detector(np.ones((50, 50), np.float32), Alignment((1.0, 1.0)), (100, 100), 1.0)
    assert np.isnan(laid[:24]).all()
    assert (laid[26:74, 26:74] == 1).all()


def test_fine_stripes_are_averaged_not_aliased():
    stripes = np.tile(np.array([0, 1], np.float32), (400, 200))
    laid = to_detector(stripes, Alignment((0.1, 0.1)), (30, 30), 1.0)
    np.testing.assert_allclose(laid, 0.5, atol=0.06)


def test_a_picture_of_unknown_pitch_fills_the_fields_height():
    assert fitting_pitch((2000, 1600), (400.0, 300.0)) == 0.2


def test_blend_checkerboard_and_difference():
    drr, cxr = np.full((4, 4), 0.2, np.float32), np.full((4, 4), 0.8, np.float32)
    cxr[0, 0] = np.nan
    mixed = blend(drr, cxr, 0.25)
    assert mixed[0, 0] == pytest.approx(0.2)
    assert mixed[1, 1] == pytest.approx(0.35)
    board = checkerboard(drr, cxr, 2)
    assert board[1, 1] == pytest.approx(0.2)
    assert board[1, 2] == pytest.approx(0.8)
    assert board[2, 2] == pytest.approx(0.2)
    subtracted = difference(drr, cxr)
    assert subtracted[0, 0] == 0.5
    assert subtracted[1, 1] == pytest.approx(0.2)


def test_the_files_own_window_is_used_and_a_flat_picture_survives():
    pixels = np.array([[0, 100], [200, 400]], np.float32)
    shown = display_picture(Radiograph(pixels, display_range=(100.0, 300.0)))
    np.testing.assert_allclose(shown, [[0, 0], [0.5, 1]])
    assert np.isfinite(display_picture(Radiograph(np.ones((3, 3), np.float32)))).all()


def test_a_pitch_that_is_no_length_is_refused():
    with pytest.raises(InvalidInputError, match="pitch"):
        to_detector(np.ones((4, 4), np.float32), Alignment((0.0, 1.0)), (4, 4), 1.0)
