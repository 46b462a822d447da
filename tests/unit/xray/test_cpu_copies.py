"""The quantised copies: right, reused, bounded in memory, and gone with their volume."""

from __future__ import annotations

import gc

import numba
import numpy as np
import pytest

from napari_cxr3d.imaging import Grid, Volume
from napari_cxr3d.workers import Workers
from napari_cxr3d.xray.attenuation import hu_to_attenuation
from napari_cxr3d.xray.cpu import _jit, copies
from napari_cxr3d.xray.cpu.copies import Channel, copies_of, level_grid

MU = Channel(70.0)
BONE = Channel(None)


def ct(dtype: type = np.int16, shape: tuple[int, int, int] = (21, 34, 40)) -> Volume:
    hu = np.random.default_rng(3).integers(-1024, 3000, shape).astype(dtype)
    return Volume(hu, (2.0, 1.0, 1.0), (5.0, 6.0, 7.0))


@pytest.fixture
def crew() -> Workers:
    return Workers(1)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_a_copy_holds_the_attenuation_to_half_a_part(dtype: type, crew: Workers) -> None:
    volume = ct(dtype)
    copy = copies_of(volume).get(volume, MU, 1, False, crew)
    exact = hu_to_attenuation(volume.hu, 70.0)
    assert np.abs(copy.voxels * copy.scale - exact).max() <= 0.51 * copy.scale
    assert copy.scale < 1e-4 * exact.max()


def test_fractional_hu_are_interpolated(crew: Workers) -> None:
    volume = Volume(np.array([[[-1000.5, -500.25, 0.75, 1558.9, 2000.5]]], np.float32), (1, 1, 1))
    copy = copies_of(volume).get(volume, MU, 1, False, crew)
    exact = hu_to_attenuation(volume.hu, 70.0)
    np.testing.assert_allclose(copy.voxels * copy.scale, exact, atol=copy.scale)


def test_the_other_order_swaps_p_and_l(crew: Workers) -> None:
    volume = ct()
    plain = copies_of(volume).get(volume, MU, 1, False, crew)
    swapped = copies_of(volume).get(volume, MU, 1, True, crew)
    np.testing.assert_array_equal(swapped.voxels, plain.voxels.transpose(0, 2, 1))


@pytest.mark.parametrize("level", [2, 4])
def test_box_means_keep_the_total_and_the_place(level: int, crew: Workers) -> None:
    volume = ct(shape=(20, 32, 40))
    full = copies_of(volume).get(volume, MU, 1, False, crew)
    small = copies_of(volume).get(volume, MU, level, False, crew)
    assert small.grid == level_grid(volume.grid, level)
    np.testing.assert_allclose(small.grid.size_mm, volume.grid.size_mm)
    np.testing.assert_allclose(small.grid.center_lps, volume.grid.center_lps)
    boxes = full.voxels.size / small.voxels.size
    assert small.voxels.sum(dtype=float) * boxes == pytest.approx(
        full.voxels.sum(dtype=float), rel=1e-4
    )


def test_thick_slices_are_not_made_thicker() -> None:
    grid = level_grid(Grid((30, 512, 512), (8.0, 0.65, 0.65), (0.0, 0.0, 0.0)), 4)
    assert grid.shape == (30, 128, 128)


def test_a_second_projection_finds_the_copy(crew: Workers) -> None:
    volume = ct()
    first = copies_of(volume).get(volume, MU, 2, True, crew)
    assert copies_of(volume).get(volume, MU, 2, True, crew) is first


def test_copies_are_freed_with_their_volume(crew: Workers) -> None:
    volume = ct()
    copies_of(volume).get(volume, MU, 1, False, crew)
    before = len(copies._volumes)
    del volume
    gc.collect()
    assert len(copies._volumes) == before - 1


def test_only_a_few_volumes_keep_their_copies(crew: Workers) -> None:
    volumes = [ct() for _ in range(6)]
    for volume in volumes:
        copies_of(volume).get(volume, MU, 1, False, crew)
    assert len(copies._volumes) == copies._KEPT_VOLUMES
    assert copies_of(volumes[-1]).nbytes() > 0
    assert copies_of(volumes[0]).nbytes() == 0


def test_copies_stay_within_twice_the_float_volume(crew: Workers) -> None:
    volume = ct(shape=(16, 32, 32))
    limit = 2 * 4 * volume.hu.size
    held = copies_of(volume)
    for channel in (MU, BONE, Channel(60.0)):
        for level in (1, 2, 4):
            for swapped in (False, True):
                copy = held.get(volume, channel, level, swapped, crew)
                assert copy.voxels.size
                assert held.nbytes() <= limit
    one_energy = copies_of(ct(shape=(16, 32, 32)))
    assert one_energy.nbytes() == 0


def test_air_alone_gives_zeros(crew: Workers) -> None:
    volume = Volume(np.full((9, 9, 9), -1024, np.int16), (1, 1, 1))
    copy = copies_of(volume).get(volume, MU, 1, False, crew)
    assert not copy.voxels.any()
    assert np.isfinite(copy.scale)


def test_kernels_compile_where_no_folder_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    original = numba.njit

    def refuse(*args: object, **options: object) -> object:
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return original(*args, **options)

    monkeypatch.setattr(_jit.numba, "njit", refuse)
    assert _jit.kernel(lambda x: x + 1)(1) == 2
