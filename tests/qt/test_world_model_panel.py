"""The World model panel: landmarks and maps, sweeps, predicted views, volumes, a map."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtWidgets import QPushButton

from napari_cxr3d.imaging import Radiograph
from napari_cxr3d.inference.xray_input import InputFinding
from napari_cxr3d.io import read_cxr
from napari_cxr3d.viewer.layers import (
    METADATA_KEY,
    add_radiograph,
    add_volume,
    is_synthetic,
    radiograph_refusal,
    volume_of_layer,
)
from napari_cxr3d.viewer.planes import Plane, current_plane, jump_to
from napari_cxr3d.viewer.world_model import MapLook
from napari_cxr3d.viewer.xray_canvas import Sweep
from napari_cxr3d.widgets.world_model import WorldModelPanel

from .world_model_fakes import VIEW, FakeWorldModel  # noqa: TID252  (tests is no package)

PATIENCE_MS = 60_000
SIDE = 64  # pixels of a picture; a patch is 8 of them
PLACE = (27.5, 19.5)  # the centre of a patch
MOVED = (35.5, 35.5)  # where B shows what A shows there
WRONG = InputFinding("not-a-chest", "wrong", "this is a hand", "choose a chest X-ray")


@pytest.fixture
def engine():
    return FakeWorldModel()


@pytest.fixture
def viewer(make_napari_viewer_proxy):
    return make_napari_viewer_proxy()


@pytest.fixture
def panel(viewer, engine, qtbot):
    panel = WorldModelPanel(viewer, engine=engine, own_process=False)
    viewer.window.add_dock_widget(panel, name="World model", area="right")
    until(qtbot, lambda: panel.controller.session.model == "xwin-demo")
    yield panel
    panel.controller.close()


@pytest.fixture
def pixels():
    return np.random.default_rng(0).random((SIDE, SIDE), np.float32)


@pytest.fixture
def ready(panel, viewer, pixels, qtbot):
    """The panel with two X-rays, the second the first moved by a patch down and two across."""
    choose(panel, viewer, "A", cxr(pixels), qtbot)
    choose(panel, viewer, "B", cxr(np.roll(pixels, (8, 16), (0, 1))), qtbot)
    return panel


def cxr(pixels):
    return Radiograph(pixels, pitch_mm=(5.0, 5.0), view_position="PA")


def drr(pixels, yaw=0.0):
    view = replace(VIEW, detector_shape=pixels.shape, pixel_mm=440.0 / SIDE, yaw=yaw)
    return Radiograph(pixels, view=view, quantity="line_integral", synthetic=True)


def choose(panel, viewer, side, radiograph, qtbot):
    layer = add_radiograph(viewer, radiograph, name=f"picture {side}")
    panel.controller.pair.choose(side, layer.name)
    until(qtbot, lambda: panel.controller.pair.features(side) is not None)
    return layer


def place(panel, qtbot, side="A", point=PLACE, name=""):
    landmarks = panel.controller.landmarks
    landmark = landmarks.add(side, point, name)
    until(qtbot, lambda: not landmarks.busy)
    return landmark


def until(qtbot, condition):
    qtbot.waitUntil(condition, timeout=PATIENCE_MS)


def button(panel, text):
    return next(one for one in panel.findChildren(QPushButton) if one.text() == text)


def names(viewer, *, visible=None):
    return [layer.name for layer in viewer.layers if visible in (None, layer.visible)]


def cells(tree, row):
    item = tree.topLevelItem(row)
    return [item.text(column) for column in range(tree.columnCount())]


# The pictures


def test_without_pictures_every_button_says_what_is_missing(panel):
    for text, reason in (
        ("Place on A", "Choose picture A"),
        ("Place on B", "Choose picture B"),
        ("Volume from this X-ray (SYNTHETIC)", "Choose an X-ray"),
        ("Track along the sweep", "X-ray panel"),
    ):
        assert not button(panel, text).isEnabled()
        assert reason in button(panel, text).toolTip()


def test_two_pictures_stand_side_by_side_with_their_own_letters(ready, viewer):
    a, b = viewer.layers["A · picture A"], viewer.layers["B · picture B"]
    right_of_a = a.translate[-1] + SIDE * a.scale[-1]
    assert b.translate[-1] > right_of_a
    captions = viewer.layers["Names · pictures"]
    assert list(captions.features["text"]).count("R") == 2
    assert not viewer.layers["picture A"].visible
    assert "copy" in radiograph_refusal(a)  # the panel does not offer its own copies


def test_a_picture_is_encoded_once_until_what_is_known_of_it_changes(ready, viewer, engine, qtbot):
    before = len(engine.encoded)
    ready.controller.pair.choose("A", "picture B")
    until(qtbot, lambda: ready.controller.pair.features("A") is not None)
    ready.controller.pair.choose("A", "picture A")
    until(qtbot, lambda: ready.controller.pair.features("A") is not None)
    assert len(engine.encoded) == before
    ready.picture_forms["A"]._mirrored.click()
    until(qtbot, lambda: len(engine.encoded) == before + 1)


def test_another_model_encodes_both_anew(ready, engine, qtbot):
    ready.model_form.choose("other")
    until(qtbot, lambda: [model for model, _ in engine.encoded].count("other") == 2)


def test_a_ct_gives_its_shown_slice(panel, viewer, ct, qtbot):
    layer = add_volume(viewer, ct)
    until(qtbot, lambda: panel.picture_forms["A"]._layers.count() > 0)
    jump_to(viewer, ct.center_lps)
    panel.controller.pair.choose("A", layer.name)
    until(qtbot, lambda: panel.controller.pair.features("A") is not None)
    plane = current_plane(viewer)
    tile = panel.controller.session.pair.tile("A")
    source = panel.controller.pair.source("A")
    assert source.volume.hu.shape.count(1) == 1
    assert tile.pixels.shape == tuple(n for n in source.volume.hu.shape if n > 1)
    assert plane is None or isinstance(plane, Plane)
    assert "slice" in button(panel, "Volume from this X-ray (SYNTHETIC)").toolTip()


# Landmarks


def test_a_landmark_is_found_on_the_other_picture(ready, viewer, qtbot):
    landmark = place(ready, qtbot, name="carina")
    assert landmark.match == pytest.approx(MOVED, abs=1.0)
    assert landmark.mutual
    name, side, *_, both = cells(ready.landmark_form.table, 0)
    assert (name, side, both) == ("carina", "A", "yes")
    (mark,) = viewer.layers["Best match · B"].data
    assert tuple(mark) == pytest.approx(MOVED, abs=1.0)


def test_the_map_lies_over_the_other_picture_and_peaks_at_the_match(ready, viewer, qtbot):
    place(ready, qtbot)
    shown, under = viewer.layers["Similarity · A → B (SYNTHETIC)"], viewer.layers["B · picture B"]
    row, column = np.unravel_index(np.argmax(shown.data), shown.data.shape)
    at = np.array([row, column]) * shown.scale[-2:] + shown.translate[-2:]
    expected = np.array(MOVED) * under.scale[-2:] + under.translate[-2:]
    assert np.abs(at - expected).max() <= 8 * under.scale[-1] / 2
    assert shown.metadata[METADATA_KEY]["synthetic"] is True
    assert shown.colorbar.visible
    json.dumps(shown.metadata[METADATA_KEY])


def test_the_map_follows_a_dragged_landmark(ready, viewer, qtbot):
    landmark = place(ready, qtbot)
    layer = viewer.layers["Landmarks · A"]
    layer.data = np.array(layer.data) + 8.0  # what a drag does, a patch down and across
    until(qtbot, lambda: not ready.controller.landmarks.busy)
    assert landmark.point == (PLACE[0] + 8, PLACE[1] + 8)
    assert landmark.match == pytest.approx((MOVED[0] + 8, MOVED[1] + 8), abs=1.0)
    assert ready.controller.landmarks.last_ms < 1000  # 100 ms and less where nothing else runs


def test_a_click_on_b_gives_the_reverse_map(ready, viewer, qtbot):
    landmark = place(ready, qtbot, "B", MOVED)
    assert landmark.match == pytest.approx(PLACE, abs=1.0)
    assert "Similarity · B → A (SYNTHETIC)" in names(viewer)


def test_a_match_that_does_not_lead_back_is_told(ready, viewer, pixels, qtbot):
    blank = np.full((SIDE, SIDE), 0.5, np.float32)
    blank[:8, :8] = pixels[:8, :8]
    choose(ready, viewer, "B", cxr(blank), qtbot)
    landmark = place(ready, qtbot, point=(51.5, 51.5), name="lost")
    assert landmark.mutual is False
    assert cells(ready.landmark_form.table, 0)[-1] == "no"
    assert list(viewer.layers["Best match · B"].features["label"]) == ["lost ?"]


def test_several_landmarks_share_one_map_when_asked(ready, qtbot):
    place(ready, qtbot)
    place(ready, qtbot, point=(51.5, 35.5))
    landmarks = ready.controller.landmarks
    alone = landmarks._values.copy()
    ready.landmark_form._all.click()
    both = landmarks._values
    assert (both >= alone - 1e-6).all()
    assert (both > alone + 0.1).any()


def test_landmarks_can_be_renamed_recoloured_and_deleted(ready, viewer, qtbot):
    place(ready, qtbot)
    place(ready, qtbot, point=(51.5, 35.5))
    table = ready.landmark_form.table
    table.topLevelItem(0).setText(0, "aortic knob")
    ready.landmark_form.recolored.emit(0, "#ff0000")
    assert viewer.layers["Landmarks · A"].features["label"][0] == "aortic knob"
    assert viewer.layers["Best match · B"].features["color"][0] == "#ff0000"
    ready.landmark_form.deleted.emit(0)
    assert [x.name for x in ready.controller.landmarks.landmarks] == ["landmark 2"]
    assert len(viewer.layers["Best match · B"].data) == 1
    ready.landmark_form.deleted.emit(0)
    viewer.layers["Landmarks · A"].add([PLACE])  # as a click does
    until(qtbot, lambda: not ready.controller.landmarks.busy)
    assert list(viewer.layers["Best match · B"].features["label"]) == ["landmark 3"]


def test_threshold_and_opacity_change_the_map_that_is_shown(ready, viewer, qtbot):
    place(ready, qtbot)
    layer = viewer.layers["Similarity · A → B (SYNTHETIC)"]
    ready.landmark_form._threshold.setValue(90)
    ready.landmark_form._opacity.setValue(30)
    values = ready.controller.landmarks._values
    assert layer.opacity == pytest.approx(0.3)
    expected = MapLook(threshold=0.9).limits(values)
    assert tuple(layer.contrast_limits) == pytest.approx(expected, abs=1e-5)


def test_landmarks_leave_with_their_picture(ready, viewer, pixels, qtbot):
    place(ready, qtbot)
    viewer.layers.remove("picture A")
    until(qtbot, lambda: ready.controller.landmarks.landmarks == [])
    assert not [name for name in names(viewer) if name.startswith("Similarity")]


@pytest.mark.parametrize("suffix", [".png", ".npy", ".csv"])
def test_what_was_found_can_be_saved(ready, qtbot, tmp_path, suffix):
    place(ready, qtbot, name="carina")
    path = tmp_path / f"found{suffix}"
    ready.controller.landmarks.export(path)
    if suffix == ".png":
        assert read_cxr(path).pixels.size
    elif suffix == ".npy":
        values = np.load(path, allow_pickle=False)
        assert values.shape == (SIDE, SIDE)
        at = np.unravel_index(np.nanargmax(values), values.shape)
        assert np.abs(np.subtract(at, MOVED)).max() <= 4
    else:
        (row,) = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
        assert (row["name"], row["found_back"], row["synthetic"]) == ("carina", "True", "True")
        assert float(row["match_row"]) == pytest.approx(MOVED[0], abs=1.0)


def test_a_file_that_cannot_be_written_is_told(ready, qtbot, tmp_path):
    place(ready, qtbot)
    ready.controller.landmarks.export(tmp_path / "missing" / "found.csv")
    assert "could not be written" in ready.status.text


# Sweeps


def add_sweep(viewer, pixels, yaws=(-3.0, 0.0, 3.0)):
    views = tuple(drr(pixels, yaw).view for yaw in yaws)
    sweep = Sweep(np.stack([pixels] * len(yaws)), views, "yaw", {})
    return viewer.add_image(sweep.pictures, **sweep.layer_settings())


def test_a_landmark_is_followed_through_a_sweep_with_its_error(panel, viewer, ct, pixels, qtbot):
    centred = replace(ct, origin_lps=(-19.0, -15.0, 27.5))
    layer = add_volume(viewer, centred, name="CT")
    choose(panel, viewer, "A", drr(pixels), qtbot)
    add_sweep(viewer, pixels)
    form = panel.track_form
    until(qtbot, lambda: form.sweeps.count() == 1 and form.ct.count() == 2)
    form.ct.setCurrentText(layer.name)
    jump_to(viewer, (0.0, 0.0, 0.0))
    button(panel, "Take its crosshair").click()
    assert form._truth.text().startswith("True place")
    (landmark,) = panel.controller.landmarks.landmarks
    assert landmark.point == pytest.approx((31.5, 31.5), abs=8)  # voxels, not points, are stepped
    until(qtbot, button(panel, "Track along the sweep").isEnabled)
    button(panel, "Track along the sweep").click()
    until(qtbot, lambda: form.table.topLevelItemCount() == 3)
    assert [cells(form.table, k)[0] for k in range(3)] == ["-3°", "0°", "3°"]
    assert all(cells(form.table, k)[3].endswith("mm") for k in range(3))
    assert "median" in form.figures
    track = viewer.layers["Track · point of the CT (SYNTHETIC)"]
    assert is_synthetic(track)
    assert list(track.data[:, 0]) == [0, 1, 2]
    assert "True · point of the CT" in names(viewer)
    (curve,) = form.plot.curves
    assert "mm" in form.plot.y_label
    assert np.isfinite(curve.y).all()


def test_choosing_a_line_of_the_table_steps_to_its_frame(panel, viewer, pixels, qtbot):
    choose(panel, viewer, "A", drr(pixels), qtbot)
    place(panel, qtbot)
    add_sweep(viewer, pixels)
    until(qtbot, button(panel, "Track along the sweep").isEnabled)
    button(panel, "Track along the sweep").click()
    table = panel.track_form.table
    until(qtbot, lambda: table.topLevelItemCount() == 3)
    assert "No true place" in panel.track_form.figures
    assert viewer.dims.point[0] == 0.0  # the canvas shows a frame, and all of it
    assert viewer.dims.displayed == (1, 2)
    table.setCurrentItem(table.topLevelItem(2))
    assert viewer.dims.point[0] == 3.0


# Views


def predict(panel, qtbot):
    panel.views_form.predict_requested.emit()
    until(qtbot, lambda: panel.controller.views.result is not None)


def test_the_view_at_the_slider_comes_first_and_the_others_are_kept(ready, viewer, engine, qtbot):
    engine.may_work.clear()
    ready.views_form.set_yaw(30.0)
    ready.views_form.predict_requested.emit()
    until(qtbot, lambda: "SYNTHETIC view · yaw 30°" in names(viewer, visible=True))
    engine.may_work.set()
    until(qtbot, lambda: ready.controller.views.result is not None)
    ready.views_form.set_yaw(-60.0)  # no work is left: it is there at once
    layer = viewer.layers["SYNTHETIC view · yaw -60°"]
    assert layer.data[0, 0] == 40.0
    assert is_synthetic(layer)
    assert len(engine.predicted) == 1


def test_true_views_stand_beside_with_their_difference_and_figures(
    ready, viewer, ct, engine, qtbot
):
    add_volume(viewer, ct, name="CT")
    until(qtbot, lambda: ready.views_form.ct.count() == 2)
    predict(ready, qtbot)
    ready.views_form.ct.setCurrentText("CT")
    ready.views_form.ct_changed.emit()
    until(qtbot, lambda: ready.controller.views.comparison is not None)
    ready.views_form.set_yaw(30.0)
    assert viewer.layers["True DRR · yaw 30°"].data[0, 0] == 129.0
    assert viewer.layers["SYNTHETIC less true · yaw 30°"].data[0, 0] == 1.0
    assert "PSNR 23.5 dB" in ready.views_form.figures
    assert "0.21" in ready.views_form.figures
    assert [curve.label for curve in ready.views_form.plot.curves] == ["predicted", "unturned"]


def test_another_picture_a_takes_the_views_away(ready, viewer, pixels, qtbot):
    predict(ready, qtbot)
    choose(ready, viewer, "A", cxr(pixels[::-1].copy()), qtbot)
    assert not [name for name in names(viewer) if name.startswith("SYNTHETIC view")]
    assert ready.controller.views.result is None


def test_cancelling_keeps_the_views_that_came(ready, viewer, engine, qtbot):
    engine.may_work.clear()
    ready.views_form.predict_requested.emit()
    until(qtbot, lambda: "SYNTHETIC view · yaw 0°" in names(viewer))
    button(ready, "Cancel").click()
    until(qtbot, lambda: "Cancelled" in ready.status.text)
    assert "SYNTHETIC view · yaw 0°" in names(viewer)
    assert not ready.controller.views.running


def test_what_is_wrong_with_picture_a_must_be_accepted(panel, viewer, pixels, engine, qtbot):
    engine.findings = (WRONG,)
    choose(panel, viewer, "A", cxr(pixels), qtbot)
    make = button(panel, "Volume from this X-ray (SYNTHETIC)")
    assert not make.isEnabled()
    assert "wrong" in make.toolTip()
    panel.controller.views.predict()
    assert engine.predicted == []


# Volumes


def test_a_volume_forms_and_stays_with_its_ceiling(ready, viewer, ct, engine, qtbot):
    add_volume(viewer, ct, name="CT")
    until(qtbot, lambda: ready.volume_form.ct.count() == 2)
    ready.volume_form.ct.setCurrentText("CT")
    ready.volume_form.set_method("consistency")
    engine.may_work.clear()
    button(ready, "Volume from this X-ray (SYNTHETIC)").click()
    until(qtbot, lambda: any("forming" in name for name in names(viewer)))
    engine.may_work.set()
    until(qtbot, lambda: not ready.controller.volumes.running)
    layer = viewer.layers["SYNTHETIC CT · consistency of predicted views"]
    assert volume_of_layer(layer).synthetic
    assert layer.visible
    assert not viewer.layers["SYNTHETIC CT · ceiling · consistency of true views"].visible
    assert not any("forming" in name for name in names(viewer))
    assert (engine.volumes[0].method, engine.volumes[0].ceiling_from is None) == (
        "consistency",
        False,
    )
    assert button(ready, "To X-ray panel").isEnabled()
    assert "the ceiling 25.0 dB, 90 HU" in ready.status.text


def test_a_cancelled_volume_leaves_nothing(ready, viewer, engine, qtbot):
    before = names(viewer)
    engine.may_work.clear()
    button(ready, "Volume from this X-ray (SYNTHETIC)").click()
    until(qtbot, lambda: any("forming" in name for name in names(viewer)))
    button(ready, "Cancel").click()
    until(qtbot, lambda: "nothing was kept" in ready.status.text)
    assert names(viewer) == before


# The map of pictures


def test_open_pictures_are_mapped_and_a_point_opens_its_own(ready, viewer, pixels, qtbot):
    add_radiograph(viewer, cxr(pixels**2), name="picture C")
    ready.controller.map.map_open_ones()
    until(qtbot, lambda: len(ready.map_form.plot.dots) == 3)
    labels = [dot.label for dot in ready.map_form.plot.dots]
    assert sorted(labels) == ["picture A", "picture B", "picture C"]
    ready.map_form.plot.chosen.emit(labels.index("picture C"))
    assert names(viewer, visible=True) == ["picture C"]


def test_a_folder_is_mapped_without_what_is_no_x_ray(panel, viewer, engine, tmp_path, qtbot):
    from PIL import Image

    for k in range(3):
        grey = np.random.default_rng(k).integers(0, 255, (SIDE, SIDE), np.uint8)
        Image.fromarray(grey).save(tmp_path / f"{k}.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    panel.controller.map.map_folder(tmp_path)
    until(qtbot, lambda: len(panel.map_form.plot.dots) == 3)
    panel.map_form.plot.chosen.emit(1)
    assert names(viewer, visible=True) == ["1.png"]


def test_too_few_pictures_are_told(ready, qtbot):
    ready.controller.map.map_open_ones()
    until(qtbot, lambda: "3 X-rays or more" in ready.status.text)


# The end


def test_without_a_model_the_panel_says_how_to_get_one(viewer, pixels, qtbot):
    engine = FakeWorldModel()
    engine.choices = ()
    panel = WorldModelPanel(viewer, engine=engine, own_process=False)
    qtbot.addWidget(panel)
    layer = add_radiograph(viewer, cxr(pixels), name="picture A")
    panel.controller.pair.choose("A", layer.name)
    until(qtbot, lambda: "cxr3d models install" in button(panel, "Place on A").toolTip())
    panel.controller.close()


def test_closing_in_the_middle_leaves_no_job_behind(ready, viewer, engine, qtbot):
    engine.may_work.clear()
    ready.views_form.predict_requested.emit()
    until(qtbot, lambda: ready.controller.views.running)
    ready.controller.close()  # what is left running is looked for by a fixture of every test


def test_the_panel_imports_no_network_library():
    code = (
        "import sys, napari_cxr3d.widgets.world_model.widget;"
        "sys.exit(any(m in sys.modules for m in ('torch', 'monai', 'numba', 'SimpleITK')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
