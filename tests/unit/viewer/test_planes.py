"""Plane buttons show the planes a radiologist expects."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Volume
from napari_cxr3d.viewer.layers import add_volume
from napari_cxr3d.viewer.planes import Plane, current_plane, jump_to, point_in_view, show_plane


@pytest.fixture
def viewer() -> ViewerModel:
    viewer = ViewerModel()
    hu = np.zeros((10, 20, 30), np.int16)
    add_volume(viewer, Volume(hu, spacing_mm=(3.0, 2.0, 1.0), origin_lps=(-15.0, -20.0, 100.0)))
    return viewer


@pytest.mark.parametrize(
    ("plane", "displayed"),
    [(Plane.AXIAL, (1, 2)), (Plane.CORONAL, (0, 2)), (Plane.SAGITTAL, (0, 1))],
)
def test_a_plane_shows_its_two_axes_vertical_first(viewer, plane, displayed):
    show_plane(viewer, plane)
    assert tuple(viewer.dims.displayed) == displayed
    assert viewer.dims.ndisplay == 2
    assert current_plane(viewer) is plane


def test_3d_looks_from_the_front_head_up(viewer):
    show_plane(viewer, Plane.CORONAL)
    show_plane(viewer, Plane.VOLUME)
    assert current_plane(viewer) is Plane.VOLUME
    np.testing.assert_allclose(viewer.scene.camera.view_direction, (0, 1, 0), atol=1e-9)
    np.testing.assert_allclose(viewer.scene.camera.up_direction, (-1, 0, 0), atol=1e-9)


def test_the_axes_stay_right_beside_a_time_axis(viewer):
    viewer.add_image(np.zeros((2, 10, 20, 30)))
    show_plane(viewer, Plane.CORONAL)
    assert tuple(viewer.dims.order) == (0, 2, 1, 3)
    assert current_plane(viewer) is Plane.CORONAL


def test_napari_s_own_roll_is_not_taken_for_the_coronal_plane(viewer):
    viewer.dims.order = (1, 2, 0)
    assert current_plane(viewer) is None


@pytest.mark.parametrize("plane", [Plane.AXIAL, Plane.CORONAL, Plane.SAGITTAL, Plane.VOLUME])
def test_jumping_moves_all_planes_to_the_point(viewer, plane):
    show_plane(viewer, plane)
    point = (-5.0, -10.0, 85.0)
    jump_to(viewer, point)
    np.testing.assert_allclose(point_in_view(viewer), point, atol=1.5)  # half a voxel
    world = np.array([-85.0, -10.0, -5.0])
    shown = list(viewer.dims.displayed)
    np.testing.assert_allclose(viewer.scene.camera.center[-len(shown) :], world[shown])


def test_without_a_volume_the_planes_are_refused():
    with pytest.raises(InvalidInputError, match="no volume"):
        show_plane(ViewerModel(), Plane.AXIAL)
