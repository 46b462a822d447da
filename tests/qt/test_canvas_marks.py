"""What the canvas says is true, and stays true."""

from __future__ import annotations

import gc
from types import SimpleNamespace

import numpy as np
import pytest

from napari_cxr3d.imaging import Radiograph, Volume, Window, XrayView
from napari_cxr3d.viewer.attach import attach
from napari_cxr3d.viewer.layers import add_radiograph, add_volume, set_window
from napari_cxr3d.viewer.planes import Plane, show_plane
from napari_cxr3d.viewer.reconstruction import add_uncertainty


@pytest.fixture
def viewer(make_napari_viewer_proxy):
    viewer = make_napari_viewer_proxy()
    attach(viewer)
    return viewer


def mark(viewer, name: str) -> str:
    overlay = viewer.canvas.overlays[f"napari_cxr3d_{name}"]
    return overlay.text if overlay.visible else ""


def test_marks_live_as_long_as_the_viewer(viewer, ct):
    gc.collect()
    layer = add_volume(viewer, ct)
    assert mark(viewer, "right") == "L"
    show_plane(viewer, Plane.SAGITTAL)
    assert mark(viewer, "right") == "P"
    layer.visible = False
    assert mark(viewer, "right") == ""


def test_the_window_is_written_as_it_changes(viewer, ct):
    layer = add_volume(viewer, ct, Window(level=50, width=350))
    assert mark(viewer, "window") == "W 350 L 50"
    set_window(layer, Window(level=-600, width=1500))
    assert mark(viewer, "window") == "W 1500 L -600"


def test_a_developed_projection_shows_a_window_only_once_it_was_changed(viewer):
    picture = Radiograph(
        np.eye(32, dtype=np.float32), view=XrayView(), display_range=(0.0, 1.0), synthetic=True
    )
    layer = add_radiograph(viewer, picture)
    assert mark(viewer, "window") == ""
    layer.contrast_limits = (0.25, 0.75)
    assert mark(viewer, "window") == "W 0.5 L 0.5"


def test_value_and_patient_position_under_the_cursor(viewer, ct):
    add_volume(viewer, ct)
    index = (2, 3, 15)
    x, y, z = ct.grid.index_to_lps(index)
    position = (-z, y, x)
    for callback in viewer.mouse_move_callbacks:
        callback(viewer, SimpleNamespace(position=position))
    assert mark(viewer, "readout") == f"HU 1000 · LPS ({x:.1f}, {y:.1f}, {z:.1f}) mm"
    for callback in viewer.mouse_move_callbacks:
        callback(viewer, SimpleNamespace(position=(1e4, 0, 0)))
    assert mark(viewer, "readout") == ""


def test_a_synthetic_layer_marks_the_canvas_while_it_is_visible(viewer, ct):
    add_volume(viewer, ct)
    assert mark(viewer, "synthetic") == ""
    made = add_volume(viewer, Volume(ct.hu, ct.spacing_mm, ct.origin_lps, synthetic=True))
    assert "SYNTHETIC" in mark(viewer, "synthetic")
    made.visible = False
    assert mark(viewer, "synthetic") == ""


def test_attaching_again_changes_nothing(viewer, ct):
    before = list(viewer.mouse_drag_callbacks), list(viewer.canvas.overlays)
    attach(viewer)
    assert (list(viewer.mouse_drag_callbacks), list(viewer.canvas.overlays)) == before


def test_a_layer_that_comes_from_a_file_is_configured(viewer, ct):
    from napari_cxr3d.viewer.layers import volume_layer_data

    hu, settings, _ = volume_layer_data(ct)
    layer = viewer.add_image(hu, **settings)
    assert tuple(layer.contrast_limits_range) == (-1024, 3071)
    assert layer.locked


def test_the_scale_bar_is_in_mm(viewer, ct):
    add_volume(viewer, ct)
    assert viewer.canvas.overlays.scale_bar.visible
    assert {str(unit) for unit in viewer.layers[0].units} == {"millimeter"}


def test_a_removed_layer_takes_its_marks_along(viewer, ct):
    add_volume(viewer, ct).locked = False
    viewer.layers.clear()
    assert mark(viewer, "right") == ""
    assert mark(viewer, "window") == ""
    viewer.add_image(np.zeros((4, 5)))
    assert mark(viewer, "window") == ""


def test_an_uncertainty_is_marked_synthetic_and_read_as_a_deviation(viewer, ct):
    deviation = ct.with_hu(np.full(ct.shape, 25.0, np.float32))
    add_uncertainty(viewer, deviation, 4, visible=True)
    x, y, z = ct.grid.index_to_lps((2, 3, 15))
    for callback in viewer.mouse_move_callbacks:
        callback(viewer, SimpleNamespace(position=(-z, y, x)))
    assert mark(viewer, "readout").startswith("SD 25 HU · LPS (")
    assert mark(viewer, "right") == "L"
    assert "SYNTHETIC" in mark(viewer, "synthetic")
