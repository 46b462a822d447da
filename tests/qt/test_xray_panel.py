"""The X-ray panel: what can be used when, and what follows the source."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref

import numpy as np
import pytest
from qtpy.QtWidgets import QPushButton

from napari_cxr3d.imaging import Radiograph, Volume
from napari_cxr3d.viewer.layers import add_radiograph, add_volume
from napari_cxr3d.viewer.planes import Plane, show_plane
from napari_cxr3d.widgets.xray import XrayPanel, session

from .xray_fakes import FakeRenderer, yaw_in  # noqa: TID252  (tests is no package)


@pytest.fixture
def renderer(monkeypatch):
    renderer = FakeRenderer()
    monkeypatch.setattr(session, "DrrRenderer", lambda: renderer)
    return renderer


@pytest.fixture
def viewer(make_napari_viewer_proxy):
    return make_napari_viewer_proxy()


@pytest.fixture
def panel(viewer, renderer, qtbot):
    panel = XrayPanel(viewer)
    viewer.window.add_dock_widget(panel, name="X-ray from CT", area="right")
    yield panel
    panel.controller.close()


@pytest.fixture
def shown(panel, viewer, ct, qtbot):
    """The panel after its first full picture of a CT."""
    add_volume(viewer, ct)
    wait_for_full(panel, qtbot)
    return panel


def wait_for_full(panel, qtbot, yaw=None):
    def full():
        frame = panel.controller.session.full
        return frame is not None and (yaw is None or frame.view.yaw == yaw)

    qtbot.waitUntil(full)


def canvas_of(panel):
    return panel.controller.session.canvas


def button(panel, text):
    return next(one for one in panel.findChildren(QPushButton) if one.text() == text)


# What can be used when


def test_without_a_ct_the_panel_says_what_to_do(panel):
    assert "Open a CT" in panel.status.text
    assert not panel.geometry_form.isEnabled()
    assert "Open a CT" in panel.geometry_form.toolTip()
    for text in ("Make the sweep", "Save…", "Record…"):
        assert not button(panel, text).isEnabled()
        assert button(panel, text).toolTip().endswith(".")


def test_an_image_of_unknown_orientation_is_refused_with_the_reason(panel, viewer, qtbot):
    viewer.add_image(np.zeros((5, 6, 7)), name="mystery")
    qtbot.waitUntil(lambda: "mystery" in panel.status.text)
    assert "left" in panel.status.text
    assert not panel.geometry_form.isEnabled()


def test_a_ct_that_is_opened_is_projected_at_once(shown):
    assert shown.geometry_form.isEnabled()
    picture = canvas_of(shown).live_layer
    assert picture.data.shape == (512, 512)
    assert yaw_in(picture.data) == pytest.approx(0, abs=0.01)
    assert button(shown, "Save…").isEnabled()
    assert button(shown, "Make the sweep").isEnabled()


def test_the_second_ct_can_be_chosen(shown, viewer, ct, renderer, qtbot):
    other = Volume(np.asarray(ct.hu) + 1, ct.spacing_mm, ct.origin_lps, ct.source)
    name = add_volume(viewer, other).name
    qtbot.waitUntil(lambda: shown._cts.count() == 2)
    shown.ct_chosen.emit(name)
    wait_for_full(shown, qtbot)
    qtbot.waitUntil(lambda: renderer.scenes[-1].volume is other)


# The source


def test_dragging_the_slider_shows_a_preview_and_then_the_full_picture(shown, qtbot):
    frames = []
    shown.controller.session.frame_changed.connect(frames.append)
    shown.geometry_form._yaw.set_value(33.0)
    qtbot.waitUntil(lambda: len(frames) >= 2)
    assert [(f.stage, f.view.yaw) for f in frames[:2]] == [("preview", 33.0), ("full", 33.0)]
    assert canvas_of(shown).live_layer.data.shape == (512, 512)


def test_arrow_keys_on_the_picture_turn_the_source(shown):
    canvas_of(shown).stepped.emit(10.0, -1.0)
    assert (shown.geometry_form.view.yaw, shown.geometry_form.view.pitch) == (10.0, -1.0)


def test_distances_that_make_no_geometry_are_refused_in_a_sentence(shown):
    before = shown.geometry_form.view
    shown.geometry_form._sdd.setValue(900.0)
    assert "source-to-isocenter distance must be positive" in shown.status.text
    assert shown.geometry_form.view == before


def test_the_3d_views_direction_is_used_and_refused_with_a_reason_in_a_slice_view(shown, viewer):
    show_plane(viewer, Plane.AXIAL)
    camera = button(shown, "Use the 3D view's direction")
    assert not camera.isEnabled()
    assert "3D" in camera.toolTip()
    show_plane(viewer, Plane.VOLUME)  # from in front, head up
    camera.click()
    view = shown.geometry_form.view
    assert (view.yaw, view.pitch, view.flip_columns) == (180.0, 0.0, True)


# The picture


def test_the_tube_voltage_needs_no_new_projection(shown, renderer, qtbot):
    renderer.projected.clear()
    shown.picture_form._kilovolt.set_value(80.0)
    qtbot.waitUntil(lambda: shown.controller.session.live.look.kilovolt == 80.0)
    wait_for_full(shown, qtbot)
    assert 0.0 not in renderer.projected


def test_hiding_the_table_projects_anew(shown, renderer, qtbot):
    shown.picture_form._table.setChecked(True)
    qtbot.waitUntil(lambda: renderer.scenes[-1].settings.hide_table)


def test_while_the_source_moves_the_window_stays(shown, renderer, qtbot):
    assert shown.controller.session.live.look.window.high == 5.0
    renderer.developed.clear()
    shown.geometry_form._yaw.set_value(12.0)
    shown.geometry_form._yaw.set_value(13.0)
    wait_for_full(shown, qtbot, yaw=13.0)
    assert {look.window.high for _, look in renderer.developed} == {5.0}


def test_the_window_can_be_set_once_the_exposure_is_not_automatic(shown, qtbot):
    form = shown.picture_form
    assert not form._limits.isEnabled()
    assert "automatic" in form._limits.toolTip()
    form._auto.setChecked(False)
    assert form._limits.isEnabled()
    form._limits.setValue((1.0, 4.0))
    look = shown.controller.session.live.look
    assert (look.window.low, look.window.high, look.held) == (1.0, 4.0, True)


# Tube and beam in 3D


def test_the_geometry_follows_the_angles_and_goes_with_its_toggle(shown, viewer, ct, qtbot):
    show_plane(viewer, Plane.VOLUME)
    shown._geometry.setChecked(True)
    spot = viewer.layers["X-ray source · focal spot"]
    shown.geometry_form._yaw.set_value(37.0)
    x, y, z = shown.geometry_form.view.frame(ct.grid).source
    qtbot.waitUntil(lambda: np.allclose(spot.data, [[-z, y, x]]))
    shown._geometry.setChecked(False)
    assert [layer.name for layer in viewer.layers] == ["CT · test"]


# The end of things


def add_forgotten_ct(viewer):
    """Add a CT that only the viewer and what looks at it hold; a weak reference to its voxels."""
    voxels = np.zeros((6, 6, 6), np.int16)
    add_volume(viewer, Volume(voxels, (1, 1, 1)))
    return weakref.ref(voxels)


def test_deleting_the_ct_during_a_render_is_harmless_and_frees_its_memory(
    panel, viewer, renderer, qtbot
):
    memory = add_forgotten_ct(viewer)
    wait_for_full(panel, qtbot)
    renderer.may_work.clear()
    renderer.working.clear()
    panel.geometry_form._yaw.set_value(70.0)
    qtbot.waitUntil(renderer.working.is_set)
    viewer.layers[0].locked = False
    viewer.layers.clear()
    renderer.may_work.set()
    renderer.scenes.clear()
    qtbot.waitUntil(lambda: "Open a CT" in panel.status.text)
    qtbot.waitUntil(lambda: not panel.controller.session.runner.busy())
    qtbot.wait(20)
    gc.collect()
    assert memory() is None
    assert list(canvas_of(panel).model.layers) == []


def test_closing_the_panel_during_a_render_leaves_nothing(shown, viewer, renderer, qtbot):
    show_plane(viewer, Plane.VOLUME)
    shown._geometry.setChecked(True)
    shown.sweep_form.sweep_requested.emit(shown.sweep_form.range())
    renderer.may_work.clear()
    shown.geometry_form._yaw.set_value(70.0)
    runner = shown.controller.session.runner
    viewer.window.remove_dock_widget(shown)
    qtbot.waitUntil(lambda: not runner.busy())
    assert [layer.name for layer in viewer.layers] == ["CT · test"]
    assert "X-ray view" not in viewer.window.dock_widgets
    assert shown.controller.session.canvas is None


def test_the_x_ray_view_can_be_closed_and_opened_again(shown, viewer, qtbot):
    viewer.window.remove_dock_widget(canvas_of(shown))
    assert canvas_of(shown) is None
    again = button(shown, "Show the X-ray view")
    assert not again.isHidden()
    shown.geometry_form._yaw.set_value(21.0)
    wait_for_full(shown, qtbot, yaw=21.0)
    assert canvas_of(shown) is None  # it does not come back by itself
    again.click()
    assert yaw_in(canvas_of(shown).live_layer.data) == pytest.approx(21.0, abs=0.01)
    assert again.isHidden()


def test_an_error_while_projecting_is_a_sentence_on_the_status_line(shown, renderer, qtbot):
    renderer.error = MemoryError("no room")
    shown.geometry_form._yaw.set_value(66.0)
    qtbot.waitUntil(lambda: "no room" in shown.status.text)
    assert shown.status.report  # an unexpected error can be copied


def test_a_radiograph_is_not_offered_as_a_ct(shown, viewer, qtbot):
    add_radiograph(viewer, Radiograph(np.eye(8, dtype=np.float32), pitch_mm=(1, 1)))
    qtbot.waitUntil(lambda: shown.compare_form._layers.count() == 2)
    assert shown._cts.count() == 1


def test_the_panel_fits_a_small_screen(panel):
    assert panel.minimumSizeHint().height() <= 500
    assert panel.minimumSizeHint().width() <= 420


def test_importing_the_panel_loads_no_heavy_library():
    heavy = "torch monai diffdrr nanodrr SimpleITK numba pydicom"
    code = (
        "import sys, napari_cxr3d.widgets.xray; "
        f"print([m for m in {heavy.split()!r} if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip().splitlines()[-1] == "[]", result.stderr
