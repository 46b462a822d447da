"""A layer shows a volume where it lies in the patient, and gives the same volume back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Radiograph, SourceInfo, Volume, Window, XrayView, lps_to_world
from napari_cxr3d.viewer.layers import (
    METADATA_KEY,
    add_radiograph,
    add_volume,
    is_synthetic,
    kind_of_layer,
    radiograph_layer_data,
    radiograph_of_layer,
    radiograph_refusal,
    require_volume,
    set_window,
    volume_layer_data,
    volume_of_layer,
    volume_refusal,
)


@pytest.fixture
def volume() -> Volume:
    hu = np.random.default_rng(3).integers(-1000, 1000, (4, 5, 6)).astype(np.int16)
    source = SourceInfo(
        kind="DICOM",
        description="THORAX 1.0",
        content_sha256="f00d",
        path=Path("/archive/Jane_Doe/series"),
    )
    return Volume(hu, spacing_mm=(3.0, 2.0, 1.0), origin_lps=(10.0, 20.0, 30.0), source=source)


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


def test_the_layer_lies_where_the_volume_lies_in_the_patient(viewer, volume):
    layer = add_volume(viewer, volume)
    index = (2, 3, 4)
    expected = lps_to_world(volume.grid.index_to_lps(index))
    np.testing.assert_allclose(layer.data_to_world(index), expected)
    assert {str(unit) for unit in layer.units} == {"millimeter"}
    assert layer.axis_labels == ("I", "P", "L")


def test_napari_never_gets_an_affine(volume):
    _, settings, kind = volume_layer_data(volume)
    assert kind == "image"
    assert not {"affine", "rotate", "shear"} & set(settings)


def test_the_layer_gives_back_the_very_volume(viewer, volume):
    assert volume_of_layer(add_volume(viewer, volume)) is volume


def test_a_moved_layer_gives_the_volume_in_its_new_place(viewer, volume):
    layer = add_volume(viewer, volume)
    layer.translate = lps_to_world((0.0, 0.0, 0.0))
    moved = volume_of_layer(layer)
    assert moved.origin_lps == (0.0, 0.0, 0.0)
    np.testing.assert_array_equal(moved.hu, volume.hu)


def test_other_voxels_are_not_taken_for_the_file_s_content(viewer, volume):
    layer = add_volume(viewer, volume)
    layer.data = np.zeros_like(volume.hu)
    changed = volume_of_layer(layer)
    assert not changed.hu.any()
    assert changed.content_sha256() != volume.content_sha256()


def test_metadata_is_json_without_the_patient(viewer, volume):
    record = json.dumps(add_volume(viewer, volume).metadata[METADATA_KEY])
    assert "Jane" not in record
    assert "archive" not in record
    assert json.loads(record)["source"]["content_sha256"] == "f00d"
    assert json.loads(record)["schema_version"] == 1


def test_names_tell_what_is_shown(volume):
    view = XrayView(yaw=30.0)
    drr = Radiograph(np.zeros((3, 4)), view=view, synthetic=True)
    tilted = Radiograph(np.zeros((3, 4)), view=XrayView(yaw=-90, pitch=12.5), synthetic=True)
    cxr = Radiograph(np.zeros((3, 4)), view_position="PA")
    assert volume_layer_data(volume)[1]["name"] == "CT · THORAX 1.0"
    assert radiograph_layer_data(drr)[1]["name"] == "DRR · yaw 30°"
    assert radiograph_layer_data(tilted)[1]["name"] == "DRR · yaw -90° · pitch 12.5°"
    assert radiograph_layer_data(cxr)[1]["name"] == "CXR · PA"


def test_a_synthetic_volume_says_so_in_name_and_metadata(viewer, volume):
    made = Volume(volume.hu, volume.spacing_mm, synthetic=True)
    layer = add_volume(viewer, made)
    assert layer.name.startswith("SYNTHETIC CT")
    assert layer.metadata[METADATA_KEY]["synthetic"] is True
    assert is_synthetic(layer)
    assert not is_synthetic(add_volume(viewer, volume))


def test_a_ct_from_a_file_is_locked_and_its_slider_spans_the_hu_scale(viewer, volume):
    layer = add_volume(viewer, volume, Window(level=-600, width=1500))
    assert layer.locked
    assert tuple(layer.contrast_limits) == (-1350, 150)
    assert tuple(layer.contrast_limits_range) == (-1350, 3071)


def test_a_window_beyond_the_slider_is_shown_in_full(viewer, volume):
    layer = add_volume(viewer, volume)
    set_window(layer, Window(level=4000, width=2000))
    assert tuple(layer.contrast_limits) == (3000, 5000)


def test_a_foreign_volume_is_refused_until_its_axes_are_named(viewer):
    layer = viewer.add_image(np.zeros((3, 4, 5), np.float32), scale=(3, 2, 1))
    assert "patient's left" in volume_refusal(layer)
    assert volume_of_layer(layer) is None
    layer.axis_labels = ("I", "P", "L")
    assert volume_refusal(layer) == ""
    assert volume_of_layer(layer).spacing_mm == (3.0, 2.0, 1.0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rotate": 30.0}, "rotated"),
        ({"shear": (0.1, 0.0, 0.0)}, "sheared"),
        ({"scale": (3.0, -2.0, 1.0)}, "mirrors"),
    ],
)
def test_a_turned_or_mirrored_layer_is_refused(viewer, volume, change, reason):
    layer = add_volume(viewer, volume)
    for name, value in change.items():
        setattr(layer, name, value)
    assert reason in volume_refusal(layer)
    with pytest.raises(InvalidInputError, match=reason):
        require_volume(layer)


def test_what_is_no_grey_image_is_refused(viewer):
    labels = Labels(np.zeros((3, 4, 5), np.uint8))
    colours = Image(np.zeros((8, 8, 3), np.uint8), rgb=True)
    assert "grey" in volume_refusal(labels)
    assert "grey" in radiograph_refusal(colours)
    assert "three axes" in volume_refusal(Image(np.zeros((3, 4))))
    assert "rows and columns" in radiograph_refusal(Image(np.zeros((3, 4, 5))))
    assert volume_refusal(None)


def test_a_radiograph_without_pitch_is_shown_in_pixels(viewer):
    measured = Radiograph(np.zeros((3, 4)))
    layer = add_radiograph(viewer, measured)
    assert {str(unit) for unit in layer.units} == {"pixel"}
    assert radiograph_of_layer(layer) is measured
    assert kind_of_layer(layer) == "cxr"


def test_a_radiograph_is_shown_at_its_pitch(viewer):
    layer = add_radiograph(viewer, Radiograph(np.zeros((3, 4)), pitch_mm=(0.2, 0.1)))
    assert {str(unit) for unit in layer.units} == {"millimeter"}
    assert tuple(layer.scale) == (0.2, 0.1)


def test_a_picture_of_another_plugin_is_taken_with_its_scale(viewer):
    layer = viewer.add_image(np.ones((3, 4)), scale=(0.2, 0.1), units=("mm", "mm"))
    assert radiograph_of_layer(layer).pitch_mm == pytest.approx((0.2, 0.1))
    layer.units = ("pixel", "pixel")
    assert radiograph_of_layer(layer).pitch_mm is None


def test_the_window_a_radiograph_asks_for_is_used():
    pixels = np.linspace(0, 4095, 100).reshape(10, 10)
    asked = Radiograph(pixels, display_range=(100.0, 900.0))
    assert radiograph_layer_data(asked)[1]["contrast_limits"] == (100.0, 900.0)
    low, high = radiograph_layer_data(Radiograph(pixels))[1]["contrast_limits"]
    assert 0 < low < high < 4095


def test_a_blank_radiograph_can_be_shown(viewer):
    layer = add_radiograph(viewer, Radiograph(np.full((3, 4), 7.0)))
    low, high = layer.contrast_limits
    assert low < high
