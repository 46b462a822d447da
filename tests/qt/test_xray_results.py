"""What comes out of the X-ray panel: sweeps, films, files, and comparisons with a CXR."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtWidgets import QPushButton

from napari_cxr3d.imaging import Radiograph, SourceInfo
from napari_cxr3d.viewer.layers import METADATA_KEY, add_radiograph, add_volume
from napari_cxr3d.widgets.xray import XrayPanel, session
from napari_cxr3d.widgets.xray.sweep_form import SweepRange

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
def panel(viewer, renderer, ct, qtbot):
    """The panel after its first full picture of a CT, on a small detector."""
    panel = XrayPanel(viewer)
    panel.geometry_form._rows.setValue(64)
    panel.geometry_form._cols.setValue(48)
    viewer.window.add_dock_widget(panel, name="X-ray from CT", area="right")
    add_volume(viewer, ct)
    qtbot.waitUntil(lambda: panel.controller.session.full is not None, timeout=20_000)
    yield panel
    panel.controller.close()


def canvas_of(panel):
    return panel.controller.session.canvas


def button(panel, text):
    return next(one for one in panel.findChildren(QPushButton) if one.text() == text)


def make_sweep(panel, qtbot):
    panel.sweep_form.set_range(SweepRange("yaw", -20.0, 20.0, 10.0))
    button(panel, "Make the sweep").click()
    qtbot.waitUntil(lambda: canvas_of(panel).shows_sweep, timeout=20_000)
    return canvas_of(panel).model


def test_a_sweep_is_one_layer_with_an_angle_axis_to_scrub(panel, qtbot):
    model = make_sweep(panel, qtbot)
    layer = model.layers[-1]
    assert layer.data.shape == (5, 64, 48)
    assert layer.axis_labels == ("yaw", "row", "column")
    assert [str(unit) for unit in layer.units] == ["degree", "millimeter", "millimeter"]
    assert (layer.scale[0], layer.translate[0]) == (10.0, -20.0)
    assert layer.metadata[METADATA_KEY]["synthetic"]
    assert "SYNTHETIC" in layer.name
    assert model.dims.axis_labels[0] == "yaw"
    caption = model.canvas.overlays["napari_cxr3d_caption"]
    for step, yaw in enumerate((-20, -10, 0, 10, 20)):
        model.dims.set_current_step(0, step)
        assert f"yaw {yaw}°" in caption.text
        assert yaw_in(layer.data[step]) == pytest.approx(yaw, abs=0.01)


def test_moving_the_source_brings_the_live_picture_back(panel, qtbot):
    make_sweep(panel, qtbot)
    back = button(panel, "Back to live")
    assert back.isEnabled()
    back.click()
    assert not canvas_of(panel).shows_sweep
    assert canvas_of(panel).live_layer.visible
    assert not back.isEnabled()
    make_sweep(panel, qtbot)
    panel.geometry_form._yaw.set_value(3.0)
    qtbot.waitUntil(lambda: not canvas_of(panel).shows_sweep)


def test_a_cancelled_sweep_leaves_the_viewer_as_it_was(panel, renderer, qtbot):
    qtbot.waitUntil(lambda: not panel.controller.session.runner.busy(), timeout=60_000)
    renderer.may_work.clear()
    renderer.working.clear()
    button(panel, "Make the sweep").click()
    qtbot.waitUntil(renderer.working.is_set)
    assert "wait, or cancel" in button(panel, "Make the sweep").toolTip()
    assert not panel.sweep_form._progress.isHidden()
    button(panel, "Cancel").click()
    qtbot.waitUntil(lambda: "cancelled" in panel.status.text)
    assert not canvas_of(panel).shows_sweep
    assert button(panel, "Make the sweep").isEnabled()
    assert not button(panel, "Record…").isEnabled()


@pytest.mark.parametrize("name", ["sweep.gif", "pictures"])
def test_a_sweep_is_recorded(panel, qtbot, tmp_path, name):
    make_sweep(panel, qtbot)
    path = tmp_path / name
    panel.controller.sweeping.record(path)
    qtbot.waitUntil(lambda: "Recorded" in panel.status.text, timeout=20_000)
    if name == "pictures":
        assert len(list(path.glob("*.png"))) == 5
    else:
        assert path.read_bytes()[:3] == b"GIF"


def test_the_radiograph_is_saved_as_the_suffix_says(panel, qtbot, tmp_path):
    for name in ("drr.npy", "drr.png"):
        panel.controller.output.save(tmp_path / name)
        qtbot.waitUntil(lambda name=name: f"Saved {name}" in panel.status.text, timeout=20_000)
    integrals = np.load(tmp_path / "drr.npy")
    np.testing.assert_array_equal(integrals, panel.controller.session.full.result.integrals[0])


def test_a_file_that_cannot_be_written_is_a_sentence(panel, qtbot, tmp_path):
    panel.controller.output.save(tmp_path / "absent" / "drr.npy")
    qtbot.waitUntil(lambda: panel.status.text.endswith("."), timeout=20_000)
    assert "absent" in panel.status.text


def test_the_radiograph_goes_to_the_main_viewer_marked_synthetic(panel, viewer):
    button(panel, "Add to main viewer").click()
    layer = viewer.layers[-1]
    assert layer.metadata[METADATA_KEY]["synthetic"]
    assert layer.metadata[METADATA_KEY]["derivation"]["operation"] == "drr"
    assert tuple(layer.scale) == (0.8, 0.8)


def open_cxr(panel, viewer, qtbot, pitch):
    cxr = Radiograph(
        np.ones((64, 48), np.float32),
        pitch_mm=pitch,
        display_range=(0.0, 1.0),
        source=SourceInfo(kind="PNG", description="test"),
    )
    name = add_radiograph(viewer, cxr).name
    qtbot.waitUntil(lambda: panel.compare_form._layers.count() == 2)
    panel.compare_form.layer_chosen.emit(name)


def shown_picture(panel):
    return canvas_of(panel).live_layer.data


def test_a_cxr_of_known_pitch_is_laid_over_in_every_way(panel, viewer, qtbot):
    plain = float(shown_picture(panel)[0, 0])
    open_cxr(panel, viewer, qtbot, (0.8, 0.8))
    assert panel.compare_form.comparison().pitch_mm == 0.8
    assert "its file gives" in panel.compare_form._note.text()
    assert [layer.name for layer in canvas_of(panel).model.layers][-1] == "CXR"
    panel.compare_form.set_mode("blend")
    assert [layer.name for layer in canvas_of(panel).model.layers][-1] != "CXR"
    assert shown_picture(panel)[0, 0] == pytest.approx((plain + 1) / 2)
    panel.compare_form.set_mode("checkerboard")
    assert {round(float(v), 4) for v in np.unique(shown_picture(panel))} == {
        round(plain, 4),
        1.0,
    }
    panel.compare_form.set_mode("difference")
    assert shown_picture(panel)[0, 0] == pytest.approx(0.5 + 0.5 * (plain - 1))
    panel.geometry_form._yaw.set_value(60.0)  # the comparison follows the source
    expected = 0.5 + 0.5 * ((60 + 360) / 720 - 1)
    qtbot.waitUntil(lambda: abs(float(shown_picture(panel)[0, 0]) - expected) < 1e-4)
    panel.compare_form.layer_chosen.emit("")
    assert shown_picture(panel)[0, 0] == pytest.approx((60 + 360) / 720)


def test_a_cxr_of_unknown_pitch_is_scaled_to_the_field_and_says_so(panel, viewer, qtbot):
    open_cxr(panel, viewer, qtbot, None)
    assert "no pixel pitch" in panel.compare_form._note.text()
    assert panel.compare_form.comparison().pitch_mm == pytest.approx(0.8)  # 64 rows of 0.8 mm
    assert panel.compare_form._pitch.isEnabled()


def test_a_cxr_from_a_file_is_compared_without_covering_the_ct(
    panel, viewer, renderer, qtbot, data_folder
):
    layers = [layer.name for layer in viewer.layers]
    panel.controller.comparing.open(str(data_folder / "cxr" / "frontal" / "bb0e626a.jpg"))
    qtbot.waitUntil(lambda: panel.compare_form.layer_name().startswith("File"), timeout=20_000)
    panel.compare_form.set_mode("blend")
    assert float(shown_picture(panel).std()) > 0.02
    assert [layer.name for layer in viewer.layers] == layers


def test_deleting_the_cxr_ends_the_comparison(panel, viewer, qtbot):
    open_cxr(panel, viewer, qtbot, (0.8, 0.8))
    viewer.layers.remove("CXR · test")
    qtbot.waitUntil(lambda: panel.compare_form._layers.count() == 1)
    assert not panel.compare_form._mode.isEnabled()
    assert "Choose a chest X-ray" in panel.compare_form._note.text()
