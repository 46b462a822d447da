"""CTs as X-ray2CTPA sees them, and back on their own grid."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from cxr3d_training.data.ctpa import CTPA_WINDOW, CtpaInput, ctpa_input, interleaved
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Volume
from napari_cxr3d.imaging.masks import lung_mask
from napari_cxr3d.models.hu_window import HuWindow
from napari_cxr3d.phantom import make_thorax

WIDE = HuWindow(-1000, 1000)


@pytest.fixture(scope="module")
def chest() -> Volume:
    """A phantom without noise, which interpolation would take off."""
    volume = make_thorax(3, spacing_mm=6.0).volume
    return volume.with_hu(gaussian_filter(volume.hu.astype(np.float32), 1.5))


@pytest.fixture(scope="module")
def seen(chest: Volume) -> CtpaInput:
    return ctpa_input(chest, shape=(48, 64, 64), window=WIDE)


def test_the_box_is_that_of_the_lungs(chest: Volume, seen: CtpaInput) -> None:
    lungs = lung_mask(chest)
    found = [np.flatnonzero(lungs.any(axis=other)) for other in ((1, 2), (0, 2), (0, 1))]
    assert seen.box.shape == tuple(f[-1] - f[0] + 1 for f in found)
    first = chest.grid.lps_to_index(seen.box.origin_lps)
    np.testing.assert_allclose(first, [f[0] for f in found], atol=1e-6)
    np.testing.assert_allclose(seen.grid.size_mm, seen.box.size_mm)
    np.testing.assert_allclose(seen.grid.center_lps, seen.box.center_lps)


def test_the_published_window_and_size_are_the_defaults(chest: Volume) -> None:
    seen = ctpa_input(chest)
    assert seen.values.shape == (128, 256, 256)
    assert seen.values.dtype == np.float32
    assert seen.values.min() == -1  # the lungs, all of them below -100 HU
    assert seen.values.max() <= 1
    assert (CTPA_WINDOW.low, CTPA_WINDOW.high) == (-100, 900)
    even, odd = seen.halves()
    assert even.shape == odd.shape == (64, 256, 256)


def test_the_way_back_leads_to_where_the_voxels_were(chest: Volume, seen: CtpaInput) -> None:
    back = seen.restored(outside_hu=-1000.0, synthetic=False)
    assert back.shape == chest.shape
    assert back.spacing_mm == chest.spacing_mm
    assert back.origin_lps == chest.origin_lps
    assert not back.synthetic
    lungs = lung_mask(chest)
    error = np.abs(np.clip(chest.hu, -1000, 1000).astype(float) - back.hu)
    assert error[lungs].mean() < 25
    # Shifted by one voxel along any axis it would be far worse.
    for axis in range(3):
        shifted = np.abs(np.roll(chest.hu.astype(float), 1, axis) - back.hu)
        assert error[lungs].mean() < 0.4 * shifted[lungs].mean()
    outside = np.ones(chest.shape, bool)
    i, p, ell = (np.flatnonzero(lungs.any(axis=o)) for o in ((1, 2), (0, 2), (0, 1)))
    outside[i[0] : i[-1] + 1, p[0] : p[-1] + 1, ell[0] : ell[-1] + 1] = False
    assert (back.hu[outside] == -1000).all()


def test_halves_are_alternate_slices_and_make_the_whole_again(seen: CtpaInput) -> None:
    even, odd = seen.halves()
    np.testing.assert_array_equal(interleaved(even, odd), seen.values)
    np.testing.assert_array_equal(seen.restored((even, odd)).hu, seen.restored().hu)
    assert seen.restored((even, odd)).synthetic
    for half, slices in enumerate((even, odd)):
        grid = seen.half_grid(half)
        assert grid.shape == slices.shape
        for k in (0, 5):
            np.testing.assert_allclose(
                grid.index_to_lps((k, 0, 0)), seen.grid.index_to_lps((2 * k + half, 0, 0))
            )


def test_a_margin_is_kept_as_far_as_the_ct_reaches(chest: Volume, seen: CtpaInput) -> None:
    wide = ctpa_input(chest, shape=(48, 64, 64), window=WIDE, margin_mm=12.0)
    assert all(a < b <= a + 4 for a, b in zip(seen.box.shape[1:], wide.box.shape[1:], strict=True))
    everything = ctpa_input(chest, shape=(48, 64, 64), window=WIDE, margin_mm=1000.0)
    assert everything.box.shape == chest.shape


def test_what_is_no_chest_is_said(chest: Volume, seen: CtpaInput) -> None:
    with pytest.raises(InvalidInputError, match="No lungs"):
        ctpa_input(chest.with_hu(np.full(chest.shape, 40, np.int16)))
    with pytest.raises(InvalidInputError, match="size cannot be used"):
        ctpa_input(chest, shape=(33, 64, 64))
    with pytest.raises(InvalidInputError, match="not of this CT's size"):
        seen.restored(np.zeros((4, 4, 4)))
    with pytest.raises(InvalidInputError, match="one shape"):
        interleaved(np.zeros((2, 4, 4)), np.zeros((3, 4, 4)))
    with pytest.raises(InvalidInputError, match="two halves"):
        seen.half_grid(2)
