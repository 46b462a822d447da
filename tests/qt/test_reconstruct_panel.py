"""The Reconstruct panel: what can be run when, what forms in the viewer, and what stays."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import weakref

import numpy as np
import pytest
from qtpy.QtWidgets import QCheckBox, QPushButton

from napari_cxr3d.errors import OutOfMemoryError
from napari_cxr3d.imaging import WINDOWS, Radiograph, XrayView
from napari_cxr3d.inference.xray_input import InputFinding
from napari_cxr3d.viewer.layers import (
    METADATA_KEY,
    add_radiograph,
    add_volume,
    kind_of_layer,
    volume_of_layer,
    volume_refusal,
)
from napari_cxr3d.viewer.orientation import reference_layer
from napari_cxr3d.viewer.planes import Plane, current_plane
from napari_cxr3d.widgets.common.model_form import CardDialog
from napari_cxr3d.widgets.reconstruct import ReconstructPanel

from .reconstruct_fakes import FakeEngine  # noqa: TID252  (tests is no package)

PATIENCE_MS = 60_000  # adding layers takes seconds on a machine that is busy
WRONG = InputFinding("not-a-chest", "wrong", "this is a hand", "choose a chest X-ray")
UNUSUAL = InputFinding("mirrored", "unusual", "the heart is on the right", "")


@pytest.fixture
def engine():
    return FakeEngine()


@pytest.fixture
def viewer(make_napari_viewer_proxy):
    return make_napari_viewer_proxy()


@pytest.fixture
def panel(viewer, engine, qtbot):
    panel = ReconstructPanel(viewer, engine=engine, own_process=False)
    viewer.window.add_dock_widget(panel, name="CT from X-ray", area="right")
    yield panel
    panel.controller.close()


@pytest.fixture
def cxr():
    rng = np.random.default_rng(0)
    return Radiograph(rng.random((40, 36), np.float32), pitch_mm=(1.0, 1.0), view_position="PA")


@pytest.fixture
def ready(panel, viewer, cxr, qtbot):
    """The panel with an X-ray that was prepared."""
    add_radiograph(viewer, cxr)
    wait_until_ready(panel, qtbot)
    return panel


def wait_until_ready(panel, qtbot):
    qtbot.waitUntil(run_button(panel).isEnabled, timeout=PATIENCE_MS)


def run_button(panel):
    return button(panel, "Reconstruct a SYNTHETIC CT")


def button(panel, text):
    return next(one for one in panel.findChildren(QPushButton) if one.text() == text)


def box(panel, text):
    return next(one for one in panel.findChildren(QCheckBox) if one.text().startswith(text))


def run(panel, qtbot, **settings):
    form = panel.settings_form
    form.set_settings(type(form.settings())(**settings))
    before = len(panel.history.records)
    wait_until_ready(panel, qtbot)
    run_button(panel).click()
    qtbot.waitUntil(lambda: len(panel.history.records) > before, timeout=PATIENCE_MS)


def names(viewer, *, visible=None):
    return [layer.name for layer in viewer.layers if visible in (None, layer.visible)]


# What can be run when


def test_without_an_x_ray_the_panel_says_what_to_do(panel, qtbot):
    assert not run_button(panel).isEnabled()
    assert not panel.frontal_form._layers.isEnabled()
    assert "open an X-ray" in panel.frontal_form._layers.toolTip()
    qtbot.waitUntil(
        lambda: "Choose a chest X-ray" in run_button(panel).toolTip(), timeout=PATIENCE_MS
    )


def test_an_x_ray_that_is_open_is_looked_at_and_prepared_at_once(ready, engine, qtbot):
    assert "It looks like pa." in ready.frontal_form._reasons.text()
    assert ready.frontal_form._pitch.value() == 1.0
    assert ready.prepared.captions == ["seen by the model"]
    assert "into the middle" in ready._notes.text()
    (prepared,), detector = engine.prepared[-1]
    assert (prepared.projection, detector) == ("pa", (12, 12))


def test_a_ct_is_no_x_ray(panel, viewer, ct, qtbot):
    add_volume(viewer, ct)
    qtbot.wait(50)
    assert panel.frontal_form.layer_name() == ""


def test_what_the_user_says_of_the_x_ray_reaches_the_model(ready, engine, qtbot):
    form = ready.frontal_form
    form._projection.setCurrentIndex(1)
    form._pitch.setValue(0.7)
    form._inverted.click()
    form._mirrored.click()
    form._rotation.setCurrentIndex(1)
    assert not run_button(ready).isEnabled()  # what was prepared holds no more
    run(ready, qtbot)
    (given,) = engine.ran[0][0].inputs
    assert (given.projection, given.pitch_mm) == ("ap", (0.7, 0.7))
    assert (given.inverted, given.mirrored, given.rotation) == (True, True, 90)


def test_a_pitch_that_nobody_touched_keeps_its_digits_and_its_ratio(panel, viewer, qtbot):
    pixels = np.random.default_rng(0).random((30, 30), np.float32)
    add_radiograph(viewer, Radiograph(pixels, pitch_mm=(0.1234567, 0.2)))
    wait_until_ready(panel, qtbot)
    assert panel.frontal_form.input().pitch_mm == (0.1234567, 0.2)
    panel.frontal_form._pitch.setValue(0.5)
    row, column = panel.frontal_form.input().pitch_mm
    assert column / row == pytest.approx(0.2 / 0.1234567)


def test_the_geometry_of_a_drr_is_trusted_and_cannot_be_edited(panel, viewer, qtbot):
    integrals = np.ones((20, 20), np.float32)
    integrals[5:15, 5:15] = 3
    add_radiograph(
        viewer,
        Radiograph(integrals, view=XrayView(yaw=20.0), quantity="line_integral", synthetic=True),
    )
    wait_until_ready(panel, qtbot)
    form = panel.frontal_form
    assert form.input().projection == "as-given"
    for field in (form._pitch, form._rotation, form._mirrored, form._inverted):
        assert not field.isEnabled()
        assert field.toolTip().endswith(".")


def test_a_lateral_joins_and_can_leave(ready, viewer, engine, cxr, qtbot):
    lateral = Radiograph(cxr.pixels + 1, pitch_mm=(1.0, 1.0), view_position="LL")
    name = add_radiograph(viewer, lateral).name
    qtbot.waitUntil(lambda: ready.lateral_form._layers.count() == 3, timeout=PATIENCE_MS)
    ready.lateral_form.layer_chosen.emit(name)
    qtbot.waitUntil(lambda: ready.prepared.captions == ["frontal", "lateral"], timeout=PATIENCE_MS)
    run(ready, qtbot)
    assert [each.projection for each in engine.ran[0][0].inputs] == ["pa", "lateral-left"]
    assert "+" in ready.history.records[0].xray
    ready.lateral_form.layer_chosen.emit("")
    qtbot.waitUntil(lambda: ready.prepared.captions == ["seen by the model"], timeout=PATIENCE_MS)


def test_what_is_wrong_must_be_accepted_and_is_recorded(ready, engine, qtbot):
    engine.findings = (WRONG, UNUSUAL)
    ready.controller.inputs.prepare_soon()
    qtbot.waitUntil(lambda: bool(ready.findings.open_ones), timeout=PATIENCE_MS)
    assert not run_button(ready).isEnabled()
    assert "wrong" in run_button(ready).toolTip()
    boxes = [one for one in ready.findings.findChildren(QCheckBox) if not one.isHidden()]
    assert len(boxes) == 1  # what is unusual is told, not asked
    boxes[0].click()
    run(ready, qtbot)
    assert engine.ran[0][0].accepted == ("not-a-chest",)


def test_another_x_ray_is_not_accepted_with_the_last(ready, viewer, engine, cxr, qtbot):
    engine.findings = (WRONG,)
    ready.controller.inputs.prepare_soon()
    qtbot.waitUntil(lambda: bool(ready.findings.open_ones), timeout=PATIENCE_MS)
    box(ready.findings, "I know").click()
    wait_until_ready(ready, qtbot)
    name = add_radiograph(viewer, Radiograph(cxr.pixels[::-1].copy())).name
    ready.frontal_form.layer_chosen.emit(name)
    qtbot.waitUntil(lambda: bool(ready.findings.open_ones), timeout=PATIENCE_MS)
    assert ready.findings.accepted == ()


def test_deleting_the_x_ray_takes_it_out_of_the_form(ready, viewer, qtbot):
    viewer.layers.clear()
    qtbot.waitUntil(
        lambda: "Choose a chest X-ray" in run_button(ready).toolTip(), timeout=PATIENCE_MS
    )
    assert ready.frontal_form.input() is None
    assert ready.prepared.captions == []


def test_without_a_model_the_panel_says_how_to_get_one(viewer, cxr, qtbot):
    engine = FakeEngine()
    engine.choices = ()
    panel = ReconstructPanel(viewer, engine=engine, own_process=False)
    qtbot.addWidget(panel)
    add_radiograph(viewer, cxr)
    qtbot.waitUntil(
        lambda: "No reconstruction model" in run_button(panel).toolTip(), timeout=PATIENCE_MS
    )
    assert "cxr3d models install" in panel.model_form._limits.text()
    panel.controller.close()


def test_the_model_s_limits_are_shown_and_its_card_is_at_hand(ready, qtbot):
    assert "Not for patients." in ready.model_form._limits.text()
    dialog = CardDialog(ready.model_form.choice())
    qtbot.addWidget(dialog)
    assert dialog.text.toPlainText() == "the card"
    ready.model_form.choose("reconstruct-other")
    assert "None known." in ready.model_form._limits.text()


def test_time_and_memory_are_told_before_the_run(ready, engine, qtbot):
    engine.advice = ("Draw fewer samples.",)
    ready.settings_form._samples.setValue(4)
    qtbot.waitUntil(lambda: "Draw fewer" in ready.estimate, timeout=PATIENCE_MS)
    assert "About 6 s and 300 MiB of 4.0 GiB" in ready.estimate
    assert engine.estimated[-1][0].samples == 4


def test_the_worker_s_devices_are_offered(ready, engine, qtbot):
    form = ready.settings_form
    qtbot.waitUntil(lambda: form._device.count() == 3, timeout=PATIENCE_MS)
    form._device.setCurrentIndex(2)
    run(ready, qtbot, device="cuda:0")
    assert engine.ran[0][1] == "cuda:0"


# A run


def test_the_coarse_volume_comes_first_and_the_sample_forms_in_its_place(
    ready, viewer, engine, qtbot
):
    engine.may_work.clear()
    run_button(ready).click()
    qtbot.waitUntil(
        lambda: "SYNTHETIC CT · coarse" in names(viewer, visible=True), timeout=PATIENCE_MS
    )
    assert names(viewer, visible=True) == ["SYNTHETIC CT · coarse"]  # the X-ray shares no space
    assert current_plane(viewer) is Plane.CORONAL
    assert "SYNTHETIC" in viewer.canvas.overlays["napari_cxr3d_synthetic"].text
    assert not ready.frontal_form.isEnabled()
    shown = []
    viewer.layers.events.inserted.connect(lambda event: shown.append(event.value.name))
    engine.may_work.set()
    qtbot.waitUntil(lambda: len(ready.history.records) == 1, timeout=PATIENCE_MS)
    assert shown.count("SYNTHETIC CT · forming") == 1  # one layer for all previews
    assert names(viewer, visible=True) == ["SYNTHETIC CT · seed 0"]
    assert "SYNTHETIC CT · forming" not in names(viewer)
    assert ready.frontal_form.isEnabled()


def test_the_volume_of_a_drr_lies_where_its_ct_does(panel, viewer, engine, cxr, qtbot):
    engine.center_lps = (10.0, 20.0, 30.0)
    add_radiograph(viewer, cxr)
    run(panel, qtbot)
    layer = viewer.layers["SYNTHETIC CT · seed 0"]
    assert volume_of_layer(layer).center_lps == (10.0, 20.0, 30.0)
    assert tuple(layer.translate) == (-140.0 - 30.0, -140.0 + 20.0, -140.0 + 10.0)


def test_an_x_ray_of_unknown_size_is_laid_out_by_its_confirmed_pitch(panel, viewer, qtbot):
    pixels = np.random.default_rng(0).random((41, 31), np.float32)
    layer = add_radiograph(viewer, Radiograph(pixels))
    wait_until_ready(panel, qtbot)
    panel.frontal_form._pitch.setValue(5.0)
    run(panel, qtbot)
    assert tuple(layer.scale) == (5.0, 5.0)
    assert tuple(layer.translate) == (-100.0, -75.0)  # its centre lies where the volume's does
    assert [step for _, _, step in viewer.dims.range] == [40.0, 40.0, 40.0]  # voxels, not pixels
    assert np.abs(viewer.dims.point).max() <= 20.0  # and the middle is shown


def test_a_result_is_marked_synthetic_and_knows_how_it_was_made(ready, viewer, qtbot):
    run(ready, qtbot, seed=3)
    layer = viewer.layers["SYNTHETIC CT · seed 3"]
    record = layer.metadata[METADATA_KEY]
    json.dumps(record)
    assert record["synthetic"] is True
    assert (record["derivation"]["seed"], record["derivation"]["model"]) == (3, "reconstruct-demo")
    assert volume_of_layer(layer).synthetic
    assert not layer.locked
    assert "not for diagnosis" in ready.status.text


def test_several_samples_come_with_mean_and_uncertainty(ready, viewer, qtbot):
    run(ready, qtbot, samples=3, seed=7)
    for name in ("seed 7", "seed 8", "seed 9", "mean of 3"):
        assert f"SYNTHETIC CT · {name}" in names(viewer)
    assert names(viewer, visible=True) == ["SYNTHETIC CT · seed 7"]
    assert viewer.layers["SYNTHETIC CT · seed 9"].metadata[METADATA_KEY]["derivation"]["seed"] == 9
    uncertainty = viewer.layers["Uncertainty · SD of 3 (SYNTHETIC)"]
    assert "none" in volume_refusal(uncertainty)
    box(ready, "Uncertainty over").click()
    assert uncertainty.visible
    assert reference_layer(viewer).name == "SYNTHETIC CT · seed 7"  # window and cursor stay its
    assert "differ by 25 HU" in ready.result_form.figures


def test_one_sample_offers_no_uncertainty(ready, viewer, qtbot):
    run(ready, qtbot)
    assert not box(ready, "Uncertainty over").isEnabled()
    assert "at least two" in box(ready, "Uncertainty over").toolTip()
    assert not any("Uncertainty" in name for name in names(viewer))


def test_the_re_projection_stands_beside_the_x_ray_with_its_figures(ready, viewer, qtbot):
    run(ready, qtbot)
    captions = ready.result_form.pictures.captions
    assert captions[:2] == ["X-ray", "projected back"]
    assert captions[2].startswith("difference")
    assert "1.2 %" in ready.result_form.figures
    assert "98.7 %" in ready.result_form.figures
    assert "many volumes" in ready.result_form.figures
    button(ready, "Add re-projection").click()
    layer = viewer.layers["Re-projection (SYNTHETIC)"]
    assert (kind_of_layer(layer), layer.visible) == ("drr", True)


def test_windows_act_on_the_synthetic_volumes(ready, viewer, qtbot):
    run(ready, qtbot)
    button(ready, "Lung").click()
    layer = viewer.layers["SYNTHETIC CT · seed 0"]
    assert tuple(layer.contrast_limits) == WINDOWS["Lung"].limits


def test_cancelling_leaves_the_viewer_as_it_was(ready, viewer, engine, qtbot):
    before = names(viewer, visible=True)
    engine.may_work.clear()
    run_button(ready).click()
    qtbot.waitUntil(lambda: "SYNTHETIC CT · coarse" in names(viewer), timeout=PATIENCE_MS)
    button(ready, "Cancel").click()
    qtbot.waitUntil(lambda: "Cancelled" in ready.status.text, timeout=PATIENCE_MS)
    assert names(viewer, visible=True) == before
    assert len(viewer.layers) == 1
    assert ready.history.records == ()
    assert run_button(ready).isEnabled()


def test_running_out_of_memory_becomes_a_choice(ready, viewer, engine, qtbot):
    engine.error = OutOfMemoryError("The reconstruction needs more memory", remedy="take less")
    ready.settings_form._samples.setValue(5)
    wait_until_ready(ready, qtbot)
    run_button(ready).click()
    qtbot.waitUntil(lambda: "more memory" in ready.status.text, timeout=PATIENCE_MS)
    assert len(viewer.layers) == 1
    engine.error = None
    button(ready, "One sample").click()
    qtbot.waitUntil(lambda: len(ready.history.records) == 1, timeout=PATIENCE_MS)
    assert engine.ran[-1][0].samples == 1
    assert not ready._smaller.isVisible()


# The history


def test_a_former_run_is_shown_again_with_its_settings(ready, viewer, qtbot):
    run(ready, qtbot, seed=1, guidance=2.0)
    run(ready, qtbot, seed=2)
    assert [record.settings.seed for record in ready.history.records] == [2, 1]
    assert names(viewer, visible=True) == ["SYNTHETIC CT · seed 2"]
    ready.history.itemActivated.emit(ready.history.topLevelItem(1), 0)
    assert names(viewer, visible=True) == ["SYNTHETIC CT · seed 1"]
    assert (ready.settings_form.settings().seed, ready.settings_form.settings().guidance) == (1, 2)


def test_the_history_keeps_no_volume_alive(ready, viewer, qtbot):
    run(ready, qtbot, seed=1)
    run(ready, qtbot, seed=2)
    layer = viewer.layers["SYNTHETIC CT · seed 1"]
    held = weakref.ref(volume_of_layer(layer))
    viewer.layers.remove(layer.name)
    del layer
    qtbot.wait(50)
    gc.collect()
    assert held() is None
    first = ready.history.records[1]
    for other in [one for one in viewer.layers if one.name.startswith("SYNTHETIC CT · coarse")]:
        viewer.layers.remove(other.name)
    ready.controller.runs.show_again(first)
    assert "were deleted" in ready.status.text
    assert ready.settings_form.settings().seed == 1


# The X-ray panel and the end


def test_the_synthetic_volume_goes_to_the_x_ray_panel(ready, viewer, qtbot, monkeypatch):
    opened = []

    class Panel:
        controller = type(
            "Controller", (), {"refresh": lambda _: None, "choose": lambda _, n: opened.append(n)}
        )()

    monkeypatch.setattr(
        type(viewer.window), "add_plugin_dock_widget", lambda *_: (None, Panel), raising=False
    )
    run(ready, qtbot, seed=4)
    button(ready, "To X-ray panel").click()
    assert opened == ["SYNTHETIC CT · seed 4"]


def test_closing_the_panel_ends_its_process(viewer, engine, qtbot):
    panel = ReconstructPanel(viewer, engine=engine, own_process=True)
    viewer.window.add_dock_widget(panel, name="CT from X-ray", area="right")
    worker = panel.controller.session.worker
    pid = worker.pid
    assert pid is not None  # it starts with the panel, not with the first run
    viewer.window.remove_dock_widget(panel)
    qtbot.waitUntil(lambda: worker.closed, timeout=PATIENCE_MS)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_closing_the_viewer_in_the_middle_of_a_run_stops_it(
    make_napari_viewer_proxy, engine, cxr, qtbot
):
    viewer = make_napari_viewer_proxy()
    panel = ReconstructPanel(viewer, engine=engine, own_process=False)
    viewer.window.add_dock_widget(panel, name="CT from X-ray", area="right")
    add_radiograph(viewer, cxr)
    wait_until_ready(panel, qtbot)
    engine.may_work.clear()
    run_button(panel).click()
    qtbot.waitUntil(lambda: "SYNTHETIC CT · coarse" in names(viewer), timeout=PATIENCE_MS)
    session = panel.controller.session
    panel.controller.close()
    qtbot.waitUntil(lambda: not session.runner.busy(), timeout=PATIENCE_MS)
    assert names(viewer) == ["CXR · PA"]


def test_importing_the_panel_loads_no_heavy_library():
    script = (
        "import sys, napari_cxr3d.widgets.reconstruct; "
        "print(sorted({'torch', 'monai', 'numba', 'SimpleITK', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
