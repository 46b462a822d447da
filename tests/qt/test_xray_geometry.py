"""Tube, beam and detector in the 3D view, and the 3D camera as a tube."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import XrayView, preset
from napari_cxr3d.viewer.layers import add_volume
from napari_cxr3d.viewer.planes import Plane, show_plane
from napari_cxr3d.viewer.xray_geometry import XrayGeometryLayers, angles_of_camera
from napari_cxr3d.widgets.xray.controller import camera_view, turned_view


@pytest.fixture
def viewer(ct):
    viewer = ViewerModel()
    add_volume(viewer, ct)
    return viewer


@pytest.fixture
def geometry(viewer):
    return XrayGeometryLayers(viewer)


# Worked out by hand: napari world is (-z, y, x) of LPS.
@pytest.mark.parametrize(
    ("looking", "yaw", "pitch", "mirrored"),
    [
        ((0, 1, 0), 180, 0, True),  # from in front, toward posterior: AP
        ((0, -1, 0), 0, 0, False),  # from behind: PA
        ((0, 0, -1), -90, 0, False),  # from the patient's left: the right side at the detector
        ((0, 0, 1), 90, 0, False),  # from the right: left lateral
        ((0.5, 0.75**0.5, 0), 180, 30, True),  # from in front and 30 degrees above
        ((0, -(0.5**0.5), 0.5**0.5), 45, 0, False),  # from behind and the right
    ],
)
def test_the_tube_stands_where_the_3d_camera_stands(viewer, looking, yaw, pitch, mirrored):
    show_plane(viewer, Plane.VOLUME)
    viewer.scene.camera.set_view_direction(looking, (-1, 0, 0))
    view = camera_view(XrayView(), *angles_of_camera(viewer))
    assert (view.yaw, view.pitch, view.flip_columns) == (yaw, pitch, mirrored)


def test_a_slice_view_has_no_direction(viewer):
    with pytest.raises(InvalidInputError, match="3D"):
        angles_of_camera(viewer)


def test_a_frontal_picture_from_the_camera_has_the_patients_left_on_the_right():
    for yaw in (0.0, 170.0, -150.0, 20.0):
        _, columns = camera_view(XrayView(), yaw, 0.0).image_axes
        assert columns[0] > 0.5


@pytest.mark.parametrize("view", [preset("pa"), preset("ap"), XrayView(yaw=30.0, pitch=10.0)])
def test_what_is_near_to_the_reader_follows_the_hand(view):
    toward_reader = view.toward_source if view.flip_columns else -view.toward_source
    near = 50.0 * toward_reader[None]
    view = replace(view, isocenter_lps=(0.0, 0.0, 0.0))
    row, column = view.frame().project(near)[0]
    right = turned_view(view, right=20.0, down=0.0).frame().project(near)[0]
    down = turned_view(view, right=0.0, down=20.0).frame().project(near)[0]
    assert right[1] > column + 2
    assert down[0] > row + 2


def test_source_and_detector_stand_where_the_view_says(viewer, geometry, ct):
    show_plane(viewer, Plane.VOLUME)
    view = XrayView(yaw=37.0, pitch=-12.0, roll=5.0)
    frame = view.frame(ct.grid)
    geometry.show(frame, view.detector_shape)
    x, y, z = frame.source
    np.testing.assert_allclose(viewer.layers["X-ray source · focal spot"].data, [[-z, y, x]])
    beam = viewer.layers["X-ray source · beam"].data
    ends = beam[:, 0] + beam[:, 1]
    np.testing.assert_allclose(beam[:5, 0], [[-z, y, x]] * 5)
    corners = np.array([(-z, y, x) for x, y, z in frame.corners(view.detector_shape)])
    x, y, z = frame.center
    np.testing.assert_allclose(ends[0], (-z, y, x))
    np.testing.assert_allclose(ends[1:5], corners)
    np.testing.assert_allclose(beam[5:, 0], corners)
    np.testing.assert_allclose(ends[5:], np.roll(corners, -1, axis=0), atol=1e-9)


def test_the_geometry_neither_moves_the_camera_nor_the_slices(viewer, geometry, ct):
    view = XrayView()
    viewer.layers.selection.active = viewer.layers[0]
    ranges = viewer.dims.range
    geometry.show(view.frame(ct.grid), view.detector_shape)
    assert geometry.shown
    assert viewer.dims.range == ranges  # a slice view stays as it is
    show_plane(viewer, Plane.VOLUME)
    camera = viewer.scene.camera
    before = (camera.center, camera.zoom, camera.angles)
    geometry.hide()
    geometry.show(view.frame(ct.grid), view.detector_shape)
    assert (camera.center, camera.zoom, camera.angles) == before
    assert len(geometry.layers) == 2
    show_plane(viewer, Plane.CORONAL)
    assert geometry.layers == ()
    assert viewer.dims.range == ranges
    assert viewer.layers.selection.active is viewer.layers[0]


def test_a_geometry_layer_that_the_user_deletes_comes_back_with_the_next_view(viewer, geometry, ct):
    show_plane(viewer, Plane.VOLUME)
    for yaw in (0.0, 5.0):
        view = XrayView(yaw=yaw)
        geometry.show(view.frame(ct.grid), view.detector_shape)
        viewer.layers.remove("X-ray source · beam")
    geometry.show(view.frame(ct.grid), view.detector_shape)
    names = sorted(layer.name for layer in viewer.layers)
    assert names == ["CT · test", "X-ray source · beam", "X-ray source · focal spot"]


def test_closing_takes_the_layers_away_for_good(viewer, geometry, ct):
    show_plane(viewer, Plane.VOLUME)
    geometry.show(XrayView().frame(ct.grid), (512, 512))
    geometry.close()
    assert [layer.name for layer in viewer.layers] == ["CT · test"]
    show_plane(viewer, Plane.AXIAL)
    show_plane(viewer, Plane.VOLUME)
    assert len(viewer.layers) == 1
