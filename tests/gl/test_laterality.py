"""The patient's left is on the image's right: the plugin's first safety property.

A phantom with one bright block at the patient's left, front or head is drawn with
napari's default camera, and the drawn pixels are looked at.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from napari_cxr3d.imaging import Grid, Radiograph, Volume, preset
from napari_cxr3d.viewer.attach import attach
from napari_cxr3d.viewer.layers import add_radiograph, add_volume
from napari_cxr3d.viewer.planes import Plane, show_plane

pytestmark = pytest.mark.gl

GRID = Grid((40, 50, 60), spacing_mm=(4.0, 3.0, 3.0), origin_lps=(-88.5, -73.5, 78.0))
TOWARD = {"L": (1, 0, 0), "A": (0, -1, 0), "S": (0, 0, 1)}  # LPS
REACH_MM = 55.0  # of the marker's centre from the phantom's
HALF_MM = 12.0
RIGHT, LEFT, UP, DOWN, MIDDLE = (1, 0), (-1, 0), (0, -1), (0, 1), (0, 0)
SEEN = {
    Plane.AXIAL: {"L": RIGHT, "A": UP},
    Plane.CORONAL: {"L": RIGHT, "S": UP},
    Plane.SAGITTAL: {"A": LEFT, "S": UP},
    Plane.VOLUME: {"L": RIGHT, "A": MIDDLE, "S": UP},
}
LETTERS = {  # top, bottom, left, right
    Plane.AXIAL: "APRL",
    Plane.CORONAL: "SIRL",
    Plane.SAGITTAL: "SIAP",
    Plane.VOLUME: "SIRL",
}
EDGES = ("top", "bottom", "left", "right")


def phantom(marker: str) -> Volume:
    """A dim body with one bright block on the side that the marker names."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in GRID.shape), indexing="ij"), axis=-1)
    offset = GRID.index_to_lps(index) - np.array(GRID.center_lps)
    hu = np.full(GRID.shape, -1000, np.int16)
    hu[(np.abs(offset) < 70).all(axis=-1)] = 100
    place = REACH_MM * np.array(TOWARD[marker])
    hu[(np.abs(offset - place) < HALF_MM).all(axis=-1)] = 1000
    return Volume(hu, GRID.spacing_mm, GRID.origin_lps)


@pytest.fixture
def viewer(make_napari_viewer_proxy):
    viewer = make_napari_viewer_proxy(show=True)
    viewer.window.resize(900, 700)
    attach(viewer)
    return viewer


def picture(viewer) -> npt.NDArray[np.uint8]:
    return viewer.screenshot(canvas_only=True, flash=False)


def side_of_marker(canvas: npt.NDArray[np.uint8]) -> tuple[int, int]:
    """Where the red block lies on the canvas: -1, 0 or 1 to the right, and downward."""
    red = (canvas[..., 0] > 150) & (canvas[..., 1] < 60)
    assert red.sum() > 100, "the marker is not drawn"
    rows, columns = np.nonzero(red)
    height, width = red.shape
    shift = np.array([columns.mean() - width / 2, rows.mean() - height / 2])
    right, down = np.where(np.abs(shift) < 0.04 * height, 0, np.sign(shift)).astype(int)
    return int(right), int(down)


@pytest.mark.parametrize("marker", list(TOWARD))
def test_markers_are_drawn_on_their_radiological_side(viewer, marker):
    layer = add_volume(viewer, phantom(marker))
    layer.colormap = "red"
    layer.contrast_limits = (-1000, 1000)
    layer.rendering = "mip"
    for plane, seen in SEEN.items():
        if marker in seen:
            show_plane(viewer, plane)
            assert side_of_marker(picture(viewer)) == seen[marker], plane


def test_letters_stand_at_the_edges_of_the_picture(viewer):
    air = np.full(GRID.shape, -1000, np.int16)
    add_volume(viewer, Volume(air, GRID.spacing_mm, GRID.origin_lps))
    for plane, letters in LETTERS.items():
        show_plane(viewer, plane)
        texts = [viewer.canvas.overlays[f"napari_cxr3d_{edge}"].text for edge in EDGES]
        assert "".join(texts) == letters
        canvas = picture(viewer)[..., :3].max(axis=-1)
        height, width = canvas.shape
        near, half = 50, 40
        middle_row = slice(height // 2 - half, height // 2 + half)
        middle_column = slice(width // 2 - half, width // 2 + half)
        drawn = (
            canvas[:near, middle_column],
            canvas[-near:, middle_column],
            canvas[middle_row, :near],
            canvas[middle_row, -near:],
        )
        assert all(edge.max() > 150 for edge in drawn), plane


def test_letters_and_markers_agree_when_the_3d_view_is_turned(viewer):
    layer = add_volume(viewer, phantom("A"))
    layer.colormap = "red"
    layer.contrast_limits = (-1000, 1000)
    layer.rendering = "mip"
    show_plane(viewer, Plane.VOLUME)
    viewer.scene.camera.set_view_direction((0.0, 0.0, -1.0), (-1.0, 0.0, 0.0))
    letters = {edge: viewer.canvas.overlays[f"napari_cxr3d_{edge}"].text for edge in EDGES}
    assert letters == {"top": "S", "bottom": "I", "left": "A", "right": "P"}
    assert side_of_marker(picture(viewer)) == LEFT


def test_a_radiograph_beside_a_ct_is_lettered_as_it_is_drawn(viewer):
    add_volume(viewer, phantom("L")).visible = False
    pixels = np.zeros((60, 60), np.float32)
    pixels[25:35, 50:58] = 1  # at the patient's left in a PA view
    drr = Radiograph(pixels, pitch_mm=(3.0, 3.0), view=preset("pa"), synthetic=True)
    layer = add_radiograph(viewer, drr, contrast_limits=(0.0, 1.0))
    layer.colormap = "red"
    layer.translate = (-88.5, -88.5)
    for order in ((0, 1, 2), (2, 0, 1)):  # napari transposes it in the second
        viewer.dims.order = order
        viewer.reset_view()
        edge = {RIGHT: "right", LEFT: "left", UP: "top", DOWN: "bottom"}[
            side_of_marker(picture(viewer))
        ]
        assert viewer.canvas.overlays[f"napari_cxr3d_{edge}"].text == "L"
