"""Projections that were written here come back with their views."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_cxr3d.errors import UnreadableFileError, UnsupportedFileError
from napari_cxr3d.imaging import XrayView
from napari_cxr3d.io import read_xrays, save

VIEW = XrayView(
    yaw=30.0, pitch=10.0, detector_shape=(40, 64), pixel_mm=2.5, isocenter_lps=(5.0, -7.0, 11.0)
)
SWEEP = [replace(VIEW, yaw=float(yaw), pitch=0.0) for yaw in (0, 90, 180)]


@pytest.fixture
def images() -> np.ndarray:
    return 5 * np.random.default_rng(1).random((3, 40, 64), np.float32)


@pytest.mark.parametrize("suffix", [".npy", ".nrrd", ".nii.gz", ".nii", ".mha"])
def test_line_integrals_come_back_with_their_view(
    tmp_path: Path, images: np.ndarray, suffix: str
) -> None:
    path = tmp_path / f"one{suffix}"
    save(images[0], path, views=[VIEW], quantity="line_integral")
    (radiograph,) = read_xrays(path)
    np.testing.assert_array_equal(radiograph.pixels, images[0])
    assert radiograph.view == VIEW
    assert radiograph.quantity == "line_integral" and radiograph.synthetic
    assert radiograph.pitch_mm == (2.5, 2.5)


@pytest.mark.parametrize("suffix", [".npy", ".nrrd"])
def test_a_sweep_comes_back_as_all_its_views(
    tmp_path: Path, images: np.ndarray, suffix: str
) -> None:
    path = tmp_path / f"sweep{suffix}"
    save(images, path, views=SWEEP, quantity="line_integral")
    radiographs = read_xrays(path)
    assert [r.view for r in radiographs] == SWEEP
    assert [r.view_position for r in radiographs] == ["PA", "LL", "AP"]
    np.testing.assert_array_equal(np.stack([r.pixels for r in radiographs]), images)


@pytest.mark.parametrize("suffix", [".png", ".dcm"])
def test_pictures_for_looking_at_know_their_view_too(
    tmp_path: Path, images: np.ndarray, suffix: str
) -> None:
    save(images[0] / 5, tmp_path / f"one{suffix}", views=[VIEW])
    (radiograph,) = read_xrays(tmp_path / f"one{suffix}")
    assert radiograph.view == VIEW and radiograph.quantity == "display"


def test_a_picture_from_elsewhere_has_no_view(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 255, (80, 90), np.uint8)
    Image.fromarray(grey).save(tmp_path / "cxr.png")
    (radiograph,) = read_xrays(tmp_path / "cxr.png")
    assert radiograph.view is None and not radiograph.synthetic


def test_float_images_without_their_description_are_refused(
    tmp_path: Path, images: np.ndarray
) -> None:
    np.save(tmp_path / "alone.npy", images)
    with pytest.raises(UnsupportedFileError, match=r"alone\.npy\.json"):
        read_xrays(tmp_path / "alone.npy")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", UnreadableFileError),
        ("[]", UnsupportedFileError),
        ('{"views": 3}', UnsupportedFileError),
        ('{"views": [{"yaw": 0}], "quantity": "line_integral"}', UnreadableFileError),
        ('{"views": [7], "quantity": "line_integral"}', UnreadableFileError),
    ],
)
def test_a_broken_description_is_one_sentence(
    tmp_path: Path, images: np.ndarray, text: str, error: type[Exception]
) -> None:
    save(images[0], tmp_path / "one.npy", views=[VIEW], quantity="line_integral")
    (tmp_path / "one.npy.json").write_text(text)
    with pytest.raises(error):
        read_xrays(tmp_path / "one.npy")


def test_images_of_another_shape_than_described_are_refused(
    tmp_path: Path, images: np.ndarray
) -> None:
    path = tmp_path / "one.npy"
    save(images[0], path, views=[VIEW], quantity="line_integral")
    np.save(path, images[:, :10])
    with pytest.raises(UnsupportedFileError, match="belong together"):
        read_xrays(path)
    np.save(path, np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(UnreadableFileError):  # pickles are never run
        read_xrays(path)


def test_an_unknown_quantity_is_refused(tmp_path: Path, images: np.ndarray) -> None:
    save(images[0], tmp_path / "one.npy", views=[VIEW], quantity="line_integral")
    sidecar = tmp_path / "one.npy.json"
    sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | {"quantity": "dose"}))
    with pytest.raises(UnreadableFileError):
        read_xrays(tmp_path / "one.npy")
