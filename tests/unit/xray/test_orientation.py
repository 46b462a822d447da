"""Every frontal picture is what a radiologist reads; laterals face as their name says.

The organs are found in the CT without knowing left from right, then projected; so these
tests fail when a reader mirrors a patient, or a projector a picture.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from napari_cxr3d.imaging import Grid, Volume, XrayView, preset
from napari_cxr3d.io import read_ct
from napari_cxr3d.xray import projector

Mask = npt.NDArray[np.bool_]
Image = npt.NDArray[np.float32]

FULL_CHESTS = (
    "lidc-0001_2mm.nii.gz",
    "lidc-1028_2mm.mha",
    "cmbcrc-01068_2mm.nrrd",
    "cip-ct64.nrrd",
)
ALL_CHESTS = (*FULL_CHESTS, "cip-ct64_dicom", "lungdx-a0002_dicom")


@dataclass(frozen=True)
class Chest:
    """A CT, coarse, with the organs that tell its sides.

    Attributes
    ----------
    volume : Volume
        About 4 mm in plane.
    lungs : ndarray of bool
        Air inside the body.
    heart : ndarray of bool
        Soft tissue between the lungs in front, from the middle of the lungs down to where
        the diaphragm begins.
    spine : ndarray of bool
        Bone in the middle, before and behind the lungs: mostly spine, some sternum.
    """

    volume: Volume
    lungs: Mask
    heart: Mask
    spine: Mask

    def column(self, organ: Mask, view: XrayView) -> float:
        """Mean image column of an organ's shadow."""
        image = shadow(organ, self.volume.grid, view)
        return float(np.average(np.arange(image.shape[1]), weights=image.sum(axis=0)))


def shadow(organ: Mask, grid: Grid, view: XrayView) -> Image:
    return projector("cpu").project_attenuation(organ.astype(np.float32), grid, [view])[0]


@lru_cache(maxsize=len(ALL_CHESTS))
def chest(path: Path) -> Chest:
    whole = read_ct(path)
    step = max(1, round(4 / whole.spacing_mm[1]))
    volume = Volume(
        np.ascontiguousarray(whole.hu[:, ::step, ::step]),
        (whole.spacing_mm[0], *(step * s for s in whole.spacing_mm[1:])),
        whole.origin_lps,
    )
    lungs = _lungs(volume.hu)
    heart, bone = np.zeros_like(lungs), np.zeros_like(lungs)
    area = lungs.sum(axis=(1, 2))
    levels = np.flatnonzero(area > 0.2 * area.max())
    for level in levels:
        lung = lungs[level]
        rows, cols = np.flatnonzero(lung.any(axis=1)), np.flatnonzero(lung.any(axis=0))
        middle = slice(*np.rint(np.quantile([cols[0], cols[-1]], [0.35, 0.65])).astype(int))
        bone[level, :, middle] = volume.hu[level, :, middle] > 250
        front, back = np.rint(np.quantile([rows[0], rows[-1]], [0.15, 0.85])).astype(int)
        bone[level, front:back] = False  # where contrast medium is as bright as bone
        depth = (level - levels[0]) / (levels[-1] - levels[0])
        if 0.55 <= depth <= 0.75:
            to_the_right = np.maximum.accumulate(lung, axis=1)
            to_the_left = np.maximum.accumulate(lung[:, ::-1], axis=1)[:, ::-1]
            heart[level] = to_the_right & to_the_left & (volume.hu[level] > -200)
            heart[level, int(np.quantile([rows[0], rows[-1]], 0.55)) :] = False
    return Chest(volume, lungs, heart, bone)


def _lungs(hu: npt.NDArray[np.generic]) -> Mask:
    """Large air spaces that do not reach the sides of the scan."""
    spaces, _ = ndimage.label(hu < -500)
    sides = (spaces[:, [0, -1]], spaces[:, :, [0, -1]])
    sizes = np.bincount(spaces.ravel())
    sizes[np.unique(np.concatenate([side.ravel() for side in sides]))] = 0
    sizes[0] = 0
    return np.isin(spaces, np.flatnonzero(sizes > 0.2 * sizes.max()))


def small(name: str) -> XrayView:
    view = preset(name)
    return replace(view, detector_shape=(128, 128), pixel_mm=view.pixel_mm * 4)


@pytest.mark.parametrize("view_name", ["pa", "ap", "x-win", "x-ray2ctpa"])
@pytest.mark.parametrize("name", FULL_CHESTS)
def test_heart_is_on_the_image_right_in_a_frontal_view(
    name: str, view_name: str, data_folder: Path
) -> None:
    patient, view = chest(data_folder / "ct" / name), small(view_name)
    offset = patient.column(patient.heart, view) - patient.column(patient.spine, view)
    assert offset * view.pixel_mm / view.magnification > 4.0  # mm in the patient


@pytest.mark.parametrize("view_name", ["pa", "ap"])
@pytest.mark.parametrize("name", ALL_CHESTS)
def test_liver_is_on_the_image_left_in_a_frontal_view(
    name: str, view_name: str, data_folder: Path
) -> None:
    patient, view = chest(data_folder / "ct" / name), small(view_name)
    hu, grid = patient.volume.hu, patient.volume.grid
    levels = np.flatnonzero(patient.lungs.any(axis=(1, 2)))
    upper = int(np.quantile([levels[0], levels[-1]], 0.8))
    solid, body = (hu > 0) & (hu < 200), hu > -400
    solid[:upper] = body[:upper] = False
    offset = patient.column(solid, view) - patient.column(body, view)
    assert offset * view.pixel_mm / view.magnification < -4.0
    assert grid.shape[0] - upper > 2


@pytest.mark.parametrize("name", ALL_CHESTS)
def test_head_is_up(name: str, data_folder: Path) -> None:
    patient = chest(data_folder / "ct" / name)
    image = shadow(patient.lungs, patient.volume.grid, small("pa")) > 0
    rows = np.flatnonzero(image.any(axis=1))
    top, bottom = np.rint(np.quantile([rows[0], rows[-1]], [0.12, 0.88])).astype(int)
    apex, base = (np.ptp(np.flatnonzero(image[row])) for row in (top, bottom))
    assert apex < 0.85 * base  # a chest is narrow above


@pytest.mark.parametrize("name", ALL_CHESTS)
def test_ap_preset_shows_the_patient_the_same_way_round_as_pa(name: str, data_folder: Path) -> None:
    patient = chest(data_folder / "ct" / name)
    views = [replace(small(v), pixel_mm=3.2) for v in ("pa", "ap")]
    pa, ap = projector("cpu").project(patient.volume, views)
    same, mirrored = (np.corrcoef(pa.ravel(), other.ravel())[0, 1] for other in (ap, ap[:, ::-1]))
    assert same > mirrored
    assert same > 0.9


@pytest.mark.parametrize("name", ALL_CHESTS)
@pytest.mark.parametrize(("view_name", "side"), [("left-lateral", 1), ("right-lateral", -1)])
def test_spine_is_on_the_side_that_the_lateral_says(
    view_name: str, side: int, name: str, data_folder: Path
) -> None:
    patient, view = chest(data_folder / "ct" / name), small(view_name)
    offset = patient.column(patient.spine, view) - patient.column(patient.lungs, view)
    assert side * offset * view.pixel_mm / view.magnification > 20.0


def test_a_mirrored_patient_fails_the_heart_test(data_folder: Path) -> None:
    patient, view = chest(data_folder / "ct" / "lidc-1028_2mm.mha"), small("pa")
    mirrored = patient.heart[:, :, ::-1], patient.spine[:, :, ::-1]
    heart, bone = (patient.column(organ, view) for organ in mirrored)
    assert heart < bone
