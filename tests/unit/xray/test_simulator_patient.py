"""Breath, position and field: the patient is never torn, folded or left out of the picture."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Volume, XrayView, preset
from napari_cxr3d.imaging.masks import lung_mask
from napari_cxr3d.xray import projector
from napari_cxr3d.xray.simulator_patient import PatientSetup, chest_field, continue_ends, inspire

SPACING = (4.0, 5.0, 5.0)


@pytest.fixture(scope="module")
def thorax() -> Volume:
    """Soft tissue with two lungs on a flat diaphragm 160 mm below the top, ribs around."""
    hu = np.full((80, 48, 64), -1000, np.int16)
    p, ell = np.mgrid[0:48, 0:64]
    body = ((p - 23.5) / 22) ** 2 + ((ell - 31.5) / 30) ** 2 < 1
    hu[:, body] = 30
    ring = body & ~(((p - 23.5) / 20) ** 2 + ((ell - 31.5) / 28) ** 2 < 1)
    for start in range(4, 76, 8):
        hu[start : start + 3, ring] = 700
    for center in (18.5, 44.5):
        lung = ((p - 23.5) / 15) ** 2 + ((ell - center) / 10) ** 2 < 1
        hu[8:48, lung] = -850
    return Volume(hu, SPACING, (-157.5, -117.5, 0.0))


@pytest.fixture(scope="module")
def lungs(thorax: Volume) -> np.ndarray:
    return thorax.hu == -850


def level_of_diaphragm(volume: Volume) -> float:
    """Depth of the right dome in mm: where lung ends along the middle of the right lung."""
    return float(volume.spacing_mm[0] * np.flatnonzero(volume.hu[:, 23, 18] < -400)[-1])


def lung_mass(volume: Volume) -> float:
    """Grams of what is in the lungs, from HU."""
    hu = volume.hu[(volume.hu < -300) & (volume.hu > -990)].astype(float)
    return float((hu + 1000).sum() / 1000 * np.prod(volume.spacing_mm) / 1000)


@pytest.mark.parametrize("shift", [-24.0, -8.0, 8.0, 20.0])
def test_the_diaphragm_moves_by_what_was_asked(thorax, lungs, shift: float) -> None:
    moved = inspire(thorax, shift, lungs=lungs)
    assert level_of_diaphragm(moved) - level_of_diaphragm(thorax) == pytest.approx(shift, abs=4.1)
    assert moved.synthetic
    assert moved.hu.dtype == thorax.hu.dtype
    assert moved.grid == thorax.grid


@pytest.mark.parametrize("shift", [-24.0, 20.0])
def test_lung_keeps_its_mass_and_changes_its_density(thorax, lungs, shift: float) -> None:
    moved = inspire(thorax, shift, lungs=lungs)
    assert lung_mass(moved) == pytest.approx(lung_mass(thorax), rel=0.05)
    deep = moved.hu[36, 23, 18]
    assert (deep < -860) if shift > 0 else (deep > -840), "the stretched part is lighter"
    assert moved.hu[12, 23, 18] == -850, "nothing happens at the apex"


def test_ribs_spine_and_skin_stay(thorax, lungs) -> None:
    moved = inspire(thorax, 20.0, lungs=lungs)
    bone = thorax.hu == 700
    np.testing.assert_array_equal(moved.hu[bone], 700)
    np.testing.assert_array_equal(moved.hu == -1000, thorax.hu == -1000)
    np.testing.assert_array_equal(moved.hu[:5], thorax.hu[:5])


def test_a_real_chest_breathes(data_folder: Path) -> None:
    from napari_cxr3d.imaging.masks import remove_table
    from napari_cxr3d.io import read_ct

    volume = remove_table(read_ct(data_folder / "ct" / "cip-ct64.nrrd"))
    lungs = lung_mask(volume)
    litres = [lungs.sum()]
    mass = [float((volume.hu[lungs].astype(float) + 1000).sum())]
    for shift in (-20.0, 15.0):
        moved = inspire(volume, shift, lungs=lungs)
        found = lung_mask(moved)
        litres.append(found.sum())
        mass.append(float((moved.hu[found].astype(float) + 1000).sum()))
    assert litres[1] < 0.93 * litres[0] < litres[0] < 0.97 * litres[2]
    assert mass[1:] == pytest.approx([mass[0]] * 2, rel=0.08)


def test_a_shift_that_would_fold_the_anatomy_is_refused(thorax, lungs) -> None:
    for shift in (-90.0, 90.0):
        with pytest.raises(InvalidInputError, match="cannot be moved that far"):
            inspire(thorax, shift, lungs=lungs)


def test_without_lungs_nobody_breathes(thorax) -> None:
    water = thorax.with_hu(np.zeros_like(thorax.hu))
    with pytest.raises(InvalidInputError, match="no lung was found"):
        inspire(water, 10.0)
    with pytest.raises(InvalidInputError, match="the mask has the shape"):
        inspire(thorax, 10.0, lungs=np.ones((2, 2, 2), bool))


def test_one_seed_is_one_setup_within_its_ranges() -> None:
    drawn = [PatientSetup.sample(seed) for seed in range(200)]
    assert drawn[7] == PatientSetup.sample(7)
    assert len(set(drawn)) == 200
    yaw = np.array([s.yaw for s in drawn])
    assert yaw.std() == pytest.approx(3.0, rel=0.2)
    assert np.abs(yaw).max() <= 7.5
    breath = np.array([s.inspiration_mm for s in drawn])
    assert -25 <= breath.min() < -20 < 5 < breath.max() <= 10
    assert PatientSetup.sample(7, strength=0.0) == PatientSetup()
    again = PatientSetup.from_dict(json.loads(json.dumps(drawn[7].to_dict())))
    assert again == drawn[7]
    for bad in ({"seed": -1}, {"seed": 1, "strength": -1.0}):
        with pytest.raises(InvalidInputError):
            PatientSetup.sample(**bad)


def test_a_setup_moves_the_view(thorax) -> None:
    setup = PatientSetup(3.0, -2.0, 1.0, left_mm=10.0, up_mm=-5.0, distance_mm=50.0)
    base = preset("pa").resolved(thorax.grid)
    moved = setup.view(base)
    assert (moved.yaw, moved.pitch, moved.roll) == (3.0, -2.0, 1.0)
    assert moved.source_to_detector_mm == base.source_to_detector_mm + 50
    assert np.subtract(moved.isocenter_lps, base.isocenter_lps) == pytest.approx([10, 0, -5])
    with pytest.raises(InvalidInputError, match="isocenter"):
        setup.view(preset("pa"))
    assert PatientSetup().volume(thorax) is thorax


def test_the_ends_go_on_in_place_and_softer(thorax) -> None:
    longer = continue_ends(thorax, 30.0, 22.0)
    assert longer.shape == (80 + 8 + 6, 48, 64)
    assert longer.origin_lps[2] == thorax.origin_lps[2] + 32.0
    np.testing.assert_array_equal(longer.hu[8:88], thorax.hu)
    edge = np.abs(np.diff(longer.hu[0].astype(float), axis=1)).max()
    assert edge < np.abs(np.diff(thorax.hu[0].astype(float), axis=1)).max()
    assert continue_ends(thorax, 0.0, -5.0) is thorax


@pytest.mark.parametrize("name", ["pa", "ap-bedside", "left-lateral"])
def test_the_field_shows_both_lungs_and_no_empty_edge(thorax, lungs, name: str) -> None:
    base = replace(preset(name), detector_shape=(64, 64))
    field, view = chest_field(thorax, base, margin_mm=20.0, lungs=lungs)
    corners = np.argwhere(lungs)[:, ::-1] * np.array(SPACING[::-1]) * [1, 1, -1]
    seen = view.frame().project(corners + np.array(thorax.origin_lps))
    assert seen.min() > 0
    assert seen.max() < 63
    assert np.ptp(seen[:, 0]) > 30, "the lungs fill the picture"
    picture = projector("cpu").project(field, [view])[0]
    middle = slice(24, 40) if name != "left-lateral" else slice(28, 36)
    assert picture[0, middle].min() > 0.5
    assert picture[-1, middle].min() > 0.5


def test_a_tilted_field_has_no_empty_edge_either(thorax, lungs) -> None:
    view = XrayView(pitch=6.0, detector_shape=(64, 64))
    field, view = chest_field(thorax, view, margin_mm=40.0, lungs=lungs)
    picture = projector("cpu").project(field, [view])[0]
    assert picture[[0, -1], 28:36].min() > 0.5
