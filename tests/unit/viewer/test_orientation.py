"""The letters at the canvas's edges name the sides of the patient that lie there."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_cxr3d.imaging import Radiograph, Volume, XrayView, preset
from napari_cxr3d.viewer.layers import METADATA_KEY, add_radiograph, add_volume
from napari_cxr3d.viewer.orientation import EdgeLetters, canvas_letters
from napari_cxr3d.viewer.planes import Plane, show_plane

HU = np.zeros((10, 20, 30), np.int16)


@pytest.fixture
def viewer() -> ViewerModel:
    viewer = ViewerModel()
    add_volume(viewer, Volume(HU, spacing_mm=(3.0, 2.0, 1.0)))
    return viewer


@pytest.mark.parametrize(
    ("plane", "letters"),
    [
        (Plane.AXIAL, EdgeLetters(top="A", bottom="P", left="R", right="L")),
        (Plane.CORONAL, EdgeLetters(top="S", bottom="I", left="R", right="L")),
        (Plane.SAGITTAL, EdgeLetters(top="S", bottom="I", left="A", right="P")),
        (Plane.VOLUME, EdgeLetters(top="S", bottom="I", left="R", right="L")),
    ],
)
def test_planes_are_shown_in_radiological_convention(viewer, plane, letters):
    show_plane(viewer, plane)
    assert canvas_letters(viewer) == letters


def test_letters_follow_a_mirrored_camera(viewer):
    show_plane(viewer, Plane.AXIAL)
    viewer.scene.camera.orientation2d = ("up", "left")
    assert canvas_letters(viewer) == EdgeLetters(top="P", bottom="A", left="L", right="R")


@pytest.mark.parametrize(
    ("toward", "left", "right"),
    [
        ((0.0, 0.0, 1.0), "P", "A"),  # seen from the patient's right
        ((0.0, 0.0, -1.0), "A", "P"),  # from the left
        ((0.0, -1.0, 0.0), "L", "R"),  # from behind
    ],
)
def test_letters_follow_the_turning_3d_view(viewer, toward, left, right):
    show_plane(viewer, Plane.VOLUME)
    viewer.scene.camera.set_view_direction(toward, (-1.0, 0.0, 0.0))
    assert canvas_letters(viewer) == EdgeLetters(top="S", bottom="I", left=left, right=right)


def test_a_mirrored_3d_camera_mirrors_the_letters(viewer):
    show_plane(viewer, Plane.VOLUME)
    camera = viewer.scene.camera
    camera.orientation = ("away", "down", "right")
    camera.set_view_direction((0.0, 1.0, 0.0), (-1.0, 0.0, 0.0))
    assert canvas_letters(viewer).left == "L"


def _letters_of(radiograph: Radiograph) -> EdgeLetters:
    viewer = ViewerModel()
    add_radiograph(viewer, radiograph)
    return canvas_letters(viewer)


@pytest.mark.parametrize(
    ("name", "left", "right"),
    [
        ("pa", "R", "L"),
        ("ap", "R", "L"),
        ("left-lateral", "A", "P"),
        ("right-lateral", "P", "A"),
    ],
)
def test_a_projection_has_the_letters_of_its_view(name, left, right):
    drr = Radiograph(np.zeros((8, 9)), view=preset(name), synthetic=True)
    assert _letters_of(drr) == EdgeLetters(top="S", bottom="I", left=left, right=right)


def test_a_measured_frontal_image_has_letters_only_where_its_file_names_the_view():
    known = _letters_of(Radiograph(np.zeros((8, 9)), view_position="PA"))
    assert known == EdgeLetters(top="S", bottom="I", left="R", right="L")
    assert _letters_of(Radiograph(np.zeros((8, 9)))) == EdgeLetters()
    assert _letters_of(Radiograph(np.zeros((8, 9)), view_position="LL")) == EdgeLetters()


def test_letters_of_a_sweep_follow_its_angle():
    viewer = ViewerModel()
    views = [XrayView(yaw=yaw).to_dict() for yaw in (0.0, 90.0)]
    record = {"kind": "drr", "geometry": {"views": views}, "synthetic": True}
    viewer.add_image(
        np.zeros((2, 8, 9)), scale=(90, 1, 1), translate=(0, 0, 0), metadata={METADATA_KEY: record}
    )
    viewer.dims.set_point(0, 0)
    assert canvas_letters(viewer).right == "L"
    viewer.dims.set_point(0, 90)
    assert canvas_letters(viewer).right == "P"


def test_a_radiograph_that_napari_transposes_is_lettered_as_it_is_shown():
    viewer = ViewerModel()
    layer = add_volume(viewer, Volume(HU, spacing_mm=(3.0, 2.0, 1.0)))
    add_radiograph(viewer, Radiograph(np.zeros((8, 9)), view=preset("pa"), synthetic=True))
    layer.visible = False
    viewer.dims.order = (2, 0, 1)
    assert canvas_letters(viewer) == EdgeLetters(top="R", bottom="L", left="S", right="I")


def test_what_is_hidden_or_foreign_has_no_letters(viewer):
    viewer.add_image(np.zeros((4, 5, 6)))
    assert canvas_letters(viewer).right == "L"
    viewer.layers[0].visible = False
    assert canvas_letters(viewer) == EdgeLetters()
