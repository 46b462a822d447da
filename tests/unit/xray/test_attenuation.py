"""Hounsfield units to attenuation, against published tables."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cxr3d.errors import EnergyOutOfRangeError, InvalidInputError
from napari_cxr3d.xray import attenuation as att

# NISTIR 5632, table 4: mass attenuation coefficients in cm2/g of liquid water and of
# cortical bone (ICRU 44).
NIST_WATER = {30: 0.3756, 40: 0.2683, 50: 0.2269, 60: 0.2059, 80: 0.1837, 100: 0.1707, 150: 0.1505}
NIST_BONE = {30: 1.331, 40: 0.6655, 50: 0.4242, 60: 0.3148, 80: 0.2229, 100: 0.1855, 150: 0.1480}


@pytest.mark.parametrize("energy", NIST_WATER)
def test_coefficients_are_nist_s(energy: int) -> None:
    assert att.water_attenuation(energy) == pytest.approx(NIST_WATER[energy] / 10, rel=1e-3)
    assert att.bone_attenuation(energy) == pytest.approx(NIST_BONE[energy] * 1.92 / 10, rel=1e-3)


def test_between_the_tabulated_energies_the_curve_is_smooth() -> None:
    energies = np.linspace(30, 150, 481)
    for coefficient in (att.water_attenuation, att.bone_attenuation):
        values = np.array([coefficient(energy) for energy in energies])
        assert (np.diff(values) < 0).all()
        assert np.abs(np.diff(np.log(values), 2)).max() < 2e-3


@pytest.mark.parametrize("energy", [29.9, 150.1, 0.0, -70.0, float("nan")])
def test_energy_outside_the_table_is_refused(energy: float) -> None:
    for call in (
        lambda: att.hu_to_attenuation(np.zeros(1), energy),
        lambda: att.attenuation_to_hu(np.zeros(1), energy),
        lambda: att.attenuation_lookup(energy),
    ):
        with pytest.raises(EnergyOutOfRangeError, match="30 and 150 keV"):
            call()
    assert issubclass(EnergyOutOfRangeError, InvalidInputError)


def test_at_the_ct_energy_attenuation_is_the_definition_of_the_hu() -> None:
    hu = np.arange(-1000, 3072, dtype=np.float32)
    expected = att.water_attenuation(70.0) * (1 + hu / 1000)
    np.testing.assert_allclose(att.hu_to_attenuation(hu, 70.0), expected, rtol=1e-6, atol=1e-9)


def test_pure_cortical_bone_lies_at_its_hu_at_every_energy() -> None:
    assert abs(att.BONE_HU - 1559) < 1
    for energy in (30.0, 60.0, 120.0):
        mu = att.hu_to_attenuation(np.array([att.BONE_HU]), energy)
        assert mu[0] == pytest.approx(att.bone_attenuation(energy), rel=1e-6)


def test_lung_is_kept_as_lung_and_air_as_nothing() -> None:
    lung, air, padding = att.hu_to_attenuation(np.array([-850, -1000, -3024]), 60.0)
    assert lung == pytest.approx(0.15 * att.water_attenuation(60.0), rel=1e-6)
    assert air == 0
    assert padding == 0


@given(
    hu=st.lists(st.floats(-1000, 3071, width=32), min_size=2, max_size=30),
    energy=st.floats(30, 150),
)
def test_hu_come_back_exactly_and_never_out_of_order(hu: list[float], energy: float) -> None:
    values = np.sort(np.array(hu, np.float32))
    mu = att.hu_to_attenuation(values, energy)
    assert (np.diff(mu) >= 0).all()
    # One unit of float32 in 1/mm is worth up to 0.002 HU, at the top of the scale.
    np.testing.assert_allclose(att.attenuation_to_hu(mu, energy), values, atol=2e-3)


def test_negative_attenuation_reads_as_air() -> None:
    assert att.attenuation_to_hu(np.array([-0.01]), 70.0) == -1000


@pytest.mark.parametrize("energy", [30.0, 70.0, 140.0])
def test_whole_hu_take_the_look_up_to_the_same_values(energy: float) -> None:
    every = np.arange(-32768, 32768).astype(np.int16).reshape(256, 256)
    volume = np.stack([every, every[::-1]])
    expected = att.hu_to_attenuation(volume.astype(np.float32), energy)
    np.testing.assert_array_equal(att.hu_to_attenuation(volume, energy), expected)
    table = att.attenuation_lookup(energy)
    assert table.shape == (4096,)
    assert table.dtype == np.float32
    np.testing.assert_array_equal(table, att.hu_to_attenuation(np.arange(-1024.0, 3072.0), energy))


@pytest.mark.parametrize("energy", [30.0, 55.5, 150.0])
def test_the_two_basis_fractions_hold_at_every_energy(energy: float) -> None:
    hu = np.linspace(-1100, 3071, 997, dtype=np.float32)
    water, bone = att.hu_to_basis(hu)
    mu = water * att.water_attenuation(energy) + bone * att.bone_attenuation(energy)
    np.testing.assert_allclose(mu, att.hu_to_attenuation(hu, energy), rtol=1e-5, atol=1e-8)
    assert (water >= 0).all()
    assert (bone >= 0).all()


def test_shape_and_order_survive_and_the_input_is_left_alone() -> None:
    hu = np.arange(-1000, -940, dtype=np.int16).reshape(3, 4, 5)
    view = hu.transpose(2, 0, 1)[::-1]
    before = hu.copy()
    mu = att.hu_to_attenuation(view, 70.0)
    assert mu.shape == view.shape
    assert mu.dtype == np.float32
    np.testing.assert_array_equal(mu, att.hu_to_attenuation(view.copy(), 70.0))
    np.testing.assert_array_equal(hu, before)
    assert att.hu_to_attenuation(0, 70.0).shape == ()


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_large_volumes_are_converted_in_small_pieces(dtype: type) -> None:
    hu = np.zeros((64, 256, 256), dtype)
    tracemalloc.start()
    mu = att.hu_to_attenuation(hu, 70.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak - mu.nbytes < 32e6
