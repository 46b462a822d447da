"""A real CT becomes X-rays in the panel, from the file to the picture on the canvas."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cxr3d.inference import DrrRequest, render_drr
from napari_cxr3d.io import read_ct
from napari_cxr3d.jobs import job_runner
from napari_cxr3d.viewer.layers import add_volume
from napari_cxr3d.widgets.xray import XrayPanel
from napari_cxr3d.widgets.xray.sweep_form import SweepRange

PATIENCE_MS = 120_000  # a fresh machine compiles the kernels first


@pytest.fixture
def panel(make_napari_viewer_proxy, data_folder, qtbot):
    viewer = make_napari_viewer_proxy()
    add_volume(viewer, read_ct(data_folder / "ct" / "cip-ct64.nrrd"))
    panel = XrayPanel(viewer)
    panel.geometry_form._rows.setValue(128)
    panel.geometry_form._cols.setValue(128)
    panel.geometry_form._pitch_mm.setValue(3.2)
    viewer.window.add_dock_widget(panel, name="X-ray from CT", area="right")
    yield panel
    panel.controller.close()
    assert job_runner().shutdown(10)


def wait_for_full(panel, qtbot, yaw):
    def full():
        frame = panel.controller.session.full
        return frame is not None and frame.view.yaw == yaw

    qtbot.waitUntil(full, timeout=PATIENCE_MS)


def test_a_real_ct_is_projected_turned_and_swept(panel, qtbot):
    session = panel.controller.session
    wait_for_full(panel, qtbot, 0.0)
    frontal = session.full
    heart = frontal.result.integrals[0][70:90]
    assert heart[:, 66:86].mean() > heart[:, 42:62].mean()  # on the image's right
    picture = session.canvas.live_layer.data
    assert picture.min() >= 0
    assert picture.max() <= 1
    assert picture.std() > 0.1

    request = DrrRequest(session.live.scene.volume, (panel.geometry_form.view,), kilovolt=120.0)
    np.testing.assert_allclose(frontal.result.integrals, render_drr(request).integrals, atol=1e-5)

    panel.geometry_form._yaw.set_value(90.0)
    wait_for_full(panel, qtbot, 90.0)
    assert np.abs(session.full.picture - frontal.picture).mean() > 0.05

    panel.sweep_form.sweep_requested.emit(SweepRange("yaw", 0.0, 90.0, 45.0))
    qtbot.waitUntil(lambda: session.canvas.shows_sweep, timeout=PATIENCE_MS)
    sweep = session.canvas.sweep
    assert sweep.pictures.shape == (3, 128, 128)
    assert "SYNTHETIC" in session.canvas.model.layers[-1].name
