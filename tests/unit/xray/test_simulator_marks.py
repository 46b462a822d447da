"""Letters stand on the patient's right side, and wires where they were laid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import XrayView, preset
from napari_cxr3d.xray.simulator_leads import Wire, add_wires, draw_wires
from napari_cxr3d.xray.simulator_marks import BurntText, LeadMarker, side_letter, view_label


@pytest.mark.parametrize("name", ["pa", "ap", "ap-bedside", "x-win"])
def test_frontal_letters_follow_the_reading_convention(name: str) -> None:
    view = preset(name)
    assert side_letter(view, 0.9) == "L", "the patient's left is on the image's right"
    assert side_letter(view, 0.1) == "R"
    mirrored = replace(view, flip_columns=not view.flip_columns)
    assert side_letter(mirrored, 0.9) == "R"


def test_lateral_letters_name_the_side_against_the_detector() -> None:
    for column in (0.1, 0.9):
        assert side_letter(preset("left-lateral"), column) == "L"
        assert side_letter(preset("right-lateral"), column) == "R"


def test_the_label_tells_where_the_beam_comes_from() -> None:
    names = ("pa", "ap", "ap-bedside", "left-lateral", "right-lateral")
    assert [view_label(preset(name)) for name in names] == ["PA", "AP", "AP", "LL", "RL"]
    assert view_label(XrayView(yaw=-12.0, pitch=8.0)) == "PA"


def test_a_lead_marker_attenuates_and_lies_where_it_was_put() -> None:
    integrals = np.full((200, 200), 1.0, np.float32)
    marker = LeadMarker(row=0.2, column=0.85, height_mm=14.0, letter="L", integral=4.0)
    marker.add_to(integrals, XrayView(detector_shape=(200, 200)), 1.0)
    lead = integrals - 1
    assert lead.max() == pytest.approx(4.0, abs=0.1)
    rows, cols = np.nonzero(lead > 2)
    assert rows.mean() == pytest.approx(40, abs=4)
    assert cols.mean() == pytest.approx(170, abs=4)
    assert np.ptp(rows) == pytest.approx(14, abs=2), "as high as it is in mm"


def test_a_letter_reads_the_right_way_round() -> None:
    # The upright of an L is on its left, its foot at the bottom.
    picture = np.zeros((120, 120), np.float32)
    BurntText(row=0.5, column=0.5, height=0.5, text="L").draw_on(picture, preset("ap"))
    rows, cols = np.nonzero(picture > 0.5)
    middle = (cols.min() + cols.max()) / 2
    top = picture[rows.min() : rows.min() + 10]
    assert np.nonzero(top > 0.5)[1].max() < middle
    assert np.nonzero(picture[rows.max() - 3] > 0.5)[0].max() > middle


@pytest.mark.parametrize("style", ["boxed", "ring"])
def test_a_box_or_disc_darkens_what_is_behind_the_letter(style: str) -> None:
    picture = np.full((150, 150), 0.6, np.float32)
    text = BurntText(row=0.5, column=0.5, height=0.2, style=style)  # type: ignore[arg-type]
    text.draw_on(picture, preset("pa"))
    assert picture.max() > 0.95
    assert picture.min() < 0.1
    assert picture[0, 0] == np.float32(0.6)


def test_text_at_the_edge_stays_in_the_picture() -> None:
    picture = np.zeros((60, 60), np.float32)
    for row, column in ((0, 0), (1, 1), (0, 1)):
        BurntText(row=row, column=column, height=0.2, text="{view} {side}").draw_on(
            picture, preset("pa")
        )
    assert picture.max() == 1
    tiny = np.zeros((4, 4), np.float32)
    BurntText(text="CHEST PA").draw_on(tiny, preset("pa"))
    assert np.isfinite(tiny).all()


def test_text_and_markers_that_cannot_be_are_refused() -> None:
    for make in (
        lambda: BurntText(row=1.5),
        lambda: BurntText(height=0),
        lambda: BurntText(style="neon"),  # type: ignore[arg-type]
        lambda: LeadMarker(column=-0.1),
        lambda: Wire(((0, 0), (1, 1), (0, 1)), 1.0),  # type: ignore[arg-type]
        lambda: Wire(((0, 0), (1, 1), (0, 1), (1, 0)), 0.0),
    ):
        with pytest.raises(InvalidInputError):
            make()


def test_a_wire_is_as_wide_and_dense_as_stated() -> None:
    integrals = np.zeros((100, 100), np.float32)
    line = Wire(((0.5, -0.1), (0.5, 0.3), (0.5, 0.7), (0.5, 1.1)), width_mm=4.0, integral=0.7)
    add_wires(integrals, (line,), 1.0)
    profile = integrals[:, 50]
    assert profile.max() == pytest.approx(0.7, abs=0.01)
    assert profile.sum() == pytest.approx(4 * 0.7, rel=0.3)
    assert np.flatnonzero(profile).mean() == pytest.approx(50, abs=1)
    thin = np.zeros((100, 100), np.float32)
    add_wires(thin, (replace(line, width_mm=0.2),), 1.0)
    assert 0 < thin.max() < 0.35, "thinner than a pixel is paler, not wider"


def test_leads_differ_from_seed_to_seed_and_hold_for_one() -> None:
    first, again, other = (draw_wires(np.random.default_rng(s)) for s in (3, 3, 4))
    assert first == again
    assert first != other
    assert 2 <= len(first) <= 7
