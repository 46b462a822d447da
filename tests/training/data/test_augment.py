"""A changed volume is still that chest: not mirrored, maps with it, air still air."""

from __future__ import annotations

import numpy as np
import pytest

from cxr3d_training.data.augment import (
    AUGMENTATIONS,
    Affine,
    Calibration,
    LungDensity,
    augment,
    augmentation,
)
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Volume
from napari_cxr3d.imaging.masks import body_mask, lung_mask


@pytest.fixture(scope="module")
def chest(make_chest) -> Volume:
    return make_chest(1, noise=0.0)


@pytest.mark.parametrize("name", [name for name in AUGMENTATIONS if name != "none"])
def test_the_seed_makes_the_volume(chest: Volume, name: str) -> None:
    def once(seed: int) -> np.ndarray:
        maps = {"lungs": lung_mask(chest)}
        done = augment(chest, augmentation(name), np.random.default_rng(seed), maps)
        assert done.volume.grid == chest.grid
        assert done.volume.hu.dtype == chest.hu.dtype
        return done.volume.hu

    np.testing.assert_array_equal(once(3), once(3))
    assert np.abs(once(3).astype(int) - chest.hu).mean() > 1
    assert not np.array_equal(once(3), once(4))


def test_no_draw_ever_mirrors_the_patient() -> None:
    """The determinant of what moves the patient stays positive, and left stays left."""
    step = Affine()
    for seed in range(300):
        matrix, _ = step.matrix(np.random.default_rng(seed))
        assert np.linalg.det(matrix) > 0
        assert np.all(np.diag(matrix) > 0.8)


def test_the_right_lung_stays_on_the_right(chest: Volume) -> None:
    lungs, middle = lung_mask(chest), chest.shape[2] // 2
    sides = np.where(lungs, np.where(np.arange(chest.shape[2]) < middle, 1, 2), 0).astype(np.uint8)
    for seed in range(5):
        done = augment(chest, AUGMENTATIONS["full"], np.random.default_rng(seed), {"sides": sides})
        right, left = (np.argwhere(done.maps["sides"] == k)[:, 2] for k in (1, 2))
        assert len(left) < len(right)
        assert right.mean() + 5 < left.mean()


def test_maps_move_with_the_volume(chest: Volume) -> None:
    lungs = lung_mask(chest)
    maps = {"lungs": lungs, "labels": np.where(lungs, 7, 0).astype(np.uint8)}
    done = augment(chest, (Affine(),), np.random.default_rng(2), maps)
    inside = done.volume.hu[done.maps["lungs"]]
    assert done.maps["lungs"].dtype == bool
    assert done.maps["lungs"].sum() == pytest.approx(lungs.sum(), rel=0.25)
    assert np.median(inside) < -800
    np.testing.assert_array_equal(done.maps["labels"] == 7, done.maps["lungs"])
    assert not np.array_equal(done.maps["lungs"], lungs)


def test_a_known_shift_lands_where_it_should(chest: Volume) -> None:
    class Fixed(Affine):
        def matrix(self, rng):  # type: ignore[no-untyped-def]
            return np.eye(3), np.array([20.0, -10.0, 30.0])

    moved = augment(chest, (Fixed(),), np.random.default_rng(0)).volume.hu
    np.testing.assert_array_equal(moved[2:, :-1, 3:], chest.hu[:-2, 1:, :-3])
    assert np.all(moved[:2] == -1000)


def test_the_scale_changes_and_air_does_not(chest: Volume) -> None:
    done = augment(chest, (Calibration(0.05, 20.0),), np.random.default_rng(1)).volume
    air = chest.hu == -1000
    np.testing.assert_array_equal(done.hu[air], -1000)
    tissue = chest.hu == 40
    change = np.unique(done.hu[tissue] - 40)
    assert len(change) == 1
    assert 0 < abs(change[0]) <= 0.05 * 1040 + 20


def test_lungs_fill_and_empty_while_vessels_stay(chest: Volume) -> None:
    lungs = lung_mask(chest)
    hu = chest.hu.copy()
    inside = np.argwhere(lungs & (hu == -850))[::7]
    hu[tuple(inside.T)] = 30  # vessels
    with_vessels = chest.with_hu(hu)
    done = augment(with_vessels, (LungDensity(0.3),), np.random.default_rng(0), {"lungs": lungs})
    np.testing.assert_array_equal(done.volume.hu[tuple(inside.T)], 30)
    outside = ~lungs
    np.testing.assert_array_equal(done.volume.hu[outside], hu[outside])
    parenchyma = lungs & (hu == -850)
    assert 1 < np.abs(done.volume.hu[parenchyma] + 850).mean() <= 45
    unchanged = augment(with_vessels, (LungDensity(0.3),), np.random.default_rng(0))
    np.testing.assert_array_equal(unchanged.volume.hu, hu)


def test_switching_a_step_off_leaves_the_others_as_they_were(chest: Volume) -> None:
    both = augment(chest, (LungDensity(), Calibration()), np.random.default_rng(5))
    one = augment(chest, (Calibration(),), np.random.default_rng(5))
    np.testing.assert_array_equal(both.volume.hu, one.volume.hu)  # no map of lungs: no change
    assert body_mask(one.volume).any()


def test_what_makes_no_sense_is_refused(chest: Volume) -> None:
    with pytest.raises(InvalidInputError, match="none, light, full"):
        augmentation("flip")
    with pytest.raises(InvalidInputError, match="does not lie"):
        augment(chest, (), np.random.default_rng(0), {"lungs": np.zeros((2, 2, 2), bool)})
    with pytest.raises(InvalidInputError, match="45 degrees"):
        Affine(rotation=(180.0, 0.0, 0.0))
