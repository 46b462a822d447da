"""A picture on a world model's detector: every pixel is found there and back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Radiograph, Volume, XrayView, preset
from napari_cxr3d.inference.orbit_picture import PLANES, prepare_picture, slice_picture
from napari_cxr3d.inference.xray_input import XrayInput
from napari_cxr3d.inference.xray_input_resampling import turned
from napari_cxr3d.xray import projector

TURNS = (0, 90, 180, 270)
CENTER = (20.0, -150.0, 400.0)
# On voxel centres, so that a ball of some voxels lies where it is said to.
BEADS = {
    "left": (96.0, 20.0, 40.0),
    "right low": (-80.0, -36.0, -112.0),
    "front": (16.0, -60.0, 72.0),
}


@pytest.fixture(scope="module")
def model():
    from napari_cxr3d.models.world_model import XWin

    return XWin(
        image_size=(128, 128), field_mm=440, source_to_isocenter_mm=1600,
        source_to_detector_mm=1800, encoder={"patch_size": 8, "dim": 8, "depth": 1, "heads": 1},
        predictor={"dim": 8, "depth": 1, "heads": 1},
    )  # fmt: skip


def bead_volume(offset: tuple[float, float, float], spacing: float = 4.0) -> Volume:
    """Air with one dense ball of 6 mm at `CENTER` + `offset`."""
    n = 81
    first = CENTER[0] - 40 * spacing, CENTER[1] - 40 * spacing, CENTER[2] + 40 * spacing
    empty = Volume(np.full((n, n, n), -1000, np.float32), (spacing,) * 3, first)
    index = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), -1)
    apart = empty.grid.index_to_lps(index) - (np.array(CENTER) + offset)
    near = np.linalg.norm(apart, axis=-1)
    return empty.with_hu(np.where(near < 6.5, 3000, -1000).astype(np.float32))


def peak(picture: np.ndarray) -> np.ndarray:
    """Centre of mass of what is bright, (row, column)."""
    weight = np.where(picture > 0.3 * picture.max(), picture, 0)
    rows, cols = np.indices(picture.shape)
    return np.array([(rows * weight).sum(), (cols * weight).sum()]) / weight.sum()


def chest_like(shape: tuple[int, int]) -> np.ndarray:
    """Soft greys that reach the edges."""
    rows, cols = np.indices(shape, dtype=np.float32)
    return 40 + 40 * np.sin(rows / 30) * np.cos(cols / 41) + 0.1 * rows


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", TURNS)
def test_every_pixel_is_found_on_the_detector_and_back(model, rotation, mirrored):
    radiograph = Radiograph(chest_like((150, 190)), (2.1, 1.7))
    given = XrayInput(radiograph, "pa", rotation=rotation, mirrored=mirrored)
    picture = prepare_picture(given, model)
    points = np.array([[0, 0], [149, 189], [31.25, 120.5], [75, 3]])
    again = picture.to_source(picture.to_detector(points))
    assert np.abs(again - points).max() < 1e-9
    assert picture.source_shape == (150, 190)


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", TURNS)
def test_a_dot_lies_where_the_map_says(model, rotation, mirrored, inverted):
    """The map is that of the pixels themselves, not of a formula like it."""
    upright = np.zeros((160, 130), np.float32)
    dot = (41, 88)
    upright[dot[0] - 1 : dot[0] + 2, dot[1] - 1 : dot[1] + 2] = 200
    upright += 0.2 * chest_like(upright.shape)
    # As a file holds it: what the corrections undo.
    stored = upright[:, ::-1] if mirrored else upright
    stored = np.rot90(stored, rotation // 90)
    assert np.array_equal(turned(stored, rotation, mirrored=mirrored), upright)
    where = np.unravel_index(np.argmax(stored), stored.shape)
    middle = [round(float(v)) for v in peak(stored)]
    if inverted:
        stored = stored.max() + stored.min() - stored
    given = XrayInput(
        Radiograph(stored, (2.6, 2.6)), "pa", rotation=rotation, mirrored=mirrored,
        inverted=inverted,
    )  # fmt: skip
    picture = prepare_picture(given, model)
    found = peak(picture.pixels**4)
    assert np.abs(picture.to_detector(middle) - found).max() < 0.6
    assert np.abs(np.array(where) - middle).max() <= 1
    assert picture.shows(middle)
    assert not picture.shows([-30.0, 400.0])


@pytest.mark.parametrize("bead", BEADS)
@pytest.mark.parametrize("name", ["pa", "left-lateral", "ap-bedside"])
def test_a_projected_bead_lies_where_the_view_says(model, name, bead):
    volume = bead_volume(BEADS[bead])
    view = replace(preset(name), detector_shape=(220, 220), pixel_mm=2.0, isocenter_lps=CENTER)
    integrals = projector("cpu").project(volume, [view])[0]
    radiograph = Radiograph(integrals, (2.0, 2.0), view=view, quantity="line_integral")
    picture = prepare_picture(
        XrayInput(radiograph, "as-given", volume_center_lps=volume.center_lps), model
    )
    place = np.add(CENTER, BEADS[bead])
    true = picture.view.frame().project(np.array(BEADS[bead]))
    assert picture.exact
    assert np.abs(picture.to_detector(view.frame().project(place)) - true).max() < 0.01
    assert np.abs(peak(picture.pixels) - true).max() < 0.3
    assert np.abs(picture.in_ct().frame().project(place) - true).max() < 1e-6
    assert np.array_equal(picture.pixels, picture.integrals)


@pytest.mark.parametrize("plane", PLANES)
def test_a_slice_lies_as_its_plane_is_projected(model, plane):
    bead = BEADS["left"]
    volume = bead_volume(bead)
    index = volume.grid.lps_to_index(np.add(CENTER, bead))
    axis = PLANES.index(plane)
    picture = slice_picture(volume, plane, round(float(index[axis])), model)
    true = picture.in_ct().frame().project(np.add(CENTER, bead))
    assert np.abs(peak(picture.pixels) - true).max() < 0.3
    assert np.abs(picture.to_detector(np.delete(index, axis)) - true).max() < 0.2
    assert picture.pixels.max() <= 1
    assert picture.pixels[~picture.valid].max(initial=0) == 0
    assert not picture.exact


def test_integrals_of_a_slice_are_those_through_its_thickness(model):
    water = Volume(np.zeros((64, 64, 64), np.float32), (5.0, 5.0, 5.0))
    picture = slice_picture(water, "coronal", 10, model)
    from napari_cxr3d.xray.attenuation import water_attenuation

    inside = picture.integrals[60:68, 60:68]
    assert inside == pytest.approx(5.0 * water_attenuation(70.0), rel=1e-4)


def test_a_picture_without_a_ct_has_no_place_in_one(model):
    picture = prepare_picture(XrayInput(Radiograph(chest_like((150, 190)), (2, 2))), model)
    assert picture.center_lps is None
    with pytest.raises(InvalidInputError, match="no place in a CT"):
        picture.in_ct()


@pytest.mark.parametrize(("plane", "index"), [("oblique", 0), ("axial", 81), ("axial", -1)])
def test_slices_that_do_not_exist_are_refused(model, plane, index):
    with pytest.raises(InvalidInputError):
        slice_picture(bead_volume(BEADS["left"]), plane, index, model)


def test_the_view_of_a_bedside_picture_is_that_of_the_bedside(model):
    given = XrayInput(Radiograph(chest_like((150, 190)), (2, 2)), "ap")
    view: XrayView = prepare_picture(given, model).view
    assert (view.source_to_detector_mm, view.flip_columns) == (1000.0, True)
    assert view.detector_shape == model.detector_shape
