"""Tube spectra and polyenergetic readings, against standards and direct summation."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cxr3d.errors import EnergyOutOfRangeError, InvalidInputError
from napari_cxr3d.xray.attenuation import bone_attenuation, water_attenuation
from napari_cxr3d.xray.spectra import (
    Filtration,
    Spectrum,
    detected_spectrum,
    direct_integrals,
    half_value_layer,
    polyenergetic_integrals,
    tube_spectrum,
)


@pytest.mark.parametrize(
    ("kilovolt", "added_mm", "expected_mm"), [(70, 21, 6.8), (90, 30, 9.2), (120, 40, 11.6)]
)
def test_half_value_layers_are_those_of_the_standard_beams(
    kilovolt: float, added_mm: float, expected_mm: float
) -> None:
    # IEC 61267:2005, RQA 5, 7 and 9: aluminium added to a tube of about 2.9 mm.
    layer = half_value_layer(kilovolt, Filtration(2.9 + added_mm))
    assert layer == pytest.approx(expected_mm, rel=0.02)


@pytest.mark.parametrize(
    ("kilovolt", "minimum_mm"), [(80, 2.9), (90, 3.2), (100, 3.6), (120, 4.3), (140, 5.0)]
)
def test_the_default_beam_is_one_that_may_be_used_on_patients(
    kilovolt: float, minimum_mm: float
) -> None:
    # Minimum half-value layers of 21 CFR 1020.30(m)(1), systems made since 2006.
    assert minimum_mm <= half_value_layer(kilovolt) < 1.3 * minimum_mm


def test_no_photon_has_more_energy_than_the_tube_gives() -> None:
    for kilovolt in (60.0, 83.0, 140.0):
        spectrum = tube_spectrum(kilovolt)
        # Voltages between the tabulated ones borrow from the next.
        assert spectrum.weights[spectrum.energies_kev > kilovolt + 1].sum() == 0
        assert spectrum.weights[spectrum.energies_kev < kilovolt - 5].min() >= 0


def test_copper_and_kilovolts_harden_the_beam() -> None:
    plain = tube_spectrum(100.0)
    assert tube_spectrum(100.0, Filtration(3.0, 0.1)).mean_energy_kev > plain.mean_energy_kev + 3
    assert tube_spectrum(120.0).mean_energy_kev > plain.mean_energy_kev + 3


def test_voltages_between_the_tabulated_ones_lie_between_them() -> None:
    low, middle, high = (half_value_layer(kv) for kv in (80.0, 81.0, 82.0))
    assert low < middle < high
    assert middle == pytest.approx((low + high) / 2, rel=1e-3)


@pytest.mark.parametrize("kilovolt", [60.0, 77.0, 110.0, 140.0])
@pytest.mark.parametrize("filtration", [Filtration(), Filtration(2.5, 0.2)])
def test_the_table_reads_what_summation_gives(kilovolt: float, filtration: Filtration) -> None:
    rng = np.random.default_rng(0)
    water = np.concatenate([np.linspace(0, 30, 300), rng.uniform(0, 700, 700)])
    bone = np.concatenate([np.linspace(0, 9, 300), rng.uniform(0, 150, 700)])
    exact = direct_integrals(water, bone, detected_spectrum(kilovolt, filtration))
    read = polyenergetic_integrals(
        water.astype(np.float32), bone.astype(np.float32), kilovolt, filtration
    )
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, exact, atol=1e-3)


def test_a_single_energy_gives_the_line_integral() -> None:
    water, bone = np.array([0.0, 50.0, 300.0]), np.array([0.0, 20.0, 5.0])
    line = Spectrum(np.array([70.0]), np.array([3.0]))
    expected = water * water_attenuation(70.0) + bone * bone_attenuation(70.0)
    np.testing.assert_allclose(direct_integrals(water, bone, line), expected, rtol=1e-12)


def test_the_beam_hardens_on_its_way() -> None:
    path = np.array([1.0, 50.0, 100.0, 200.0, 400.0], np.float32)
    per_mm = polyenergetic_integrals(path, np.zeros_like(path), 100.0) / path
    assert (np.diff(per_mm) < 0).all()
    assert per_mm[-1] > water_attenuation(100.0)  # no photon is harder than that


def test_bone_fades_against_water_as_the_kilovolts_rise() -> None:
    water, bone = np.full(1, 200, np.float32), np.full(1, 10, np.float32)
    none = np.zeros(1, np.float32)
    contrast = [
        float(
            polyenergetic_integrals(water, bone, kv)[0]
            - polyenergetic_integrals(water, none, kv)[0]
        )
        for kv in (60.0, 80.0, 100.0, 120.0, 140.0)
    ]
    assert (np.diff(contrast) < 0).all()


def test_nothing_in_the_beam_reads_zero_and_shapes_survive() -> None:
    nothing = np.zeros((2, 3, 4), np.float32)
    read = polyenergetic_integrals(nothing, nothing, 120.0)
    assert read.shape == (2, 3, 4)
    np.testing.assert_allclose(read, 0, atol=1e-6)


def test_paths_beyond_the_table_go_on_in_a_straight_line() -> None:
    water = np.array([1020.0, 1024.0, 1500.0], np.float32)
    read = polyenergetic_integrals(water, np.zeros_like(water), 120.0)
    slope = (read[1] - read[0]) / 4
    assert read[2] == pytest.approx(read[1] + 476 * slope, rel=1e-3)


@pytest.mark.parametrize("kilovolt", [59.0, 141.0, float("nan")])
def test_voltage_outside_the_table_is_refused(kilovolt: float) -> None:
    with pytest.raises(EnergyOutOfRangeError, match="60 and 140 kV"):
        polyenergetic_integrals(np.zeros(1), np.zeros(1), kilovolt)


def test_paths_of_two_shapes_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="one shape"):
        polyenergetic_integrals(np.zeros(2), np.zeros(3), 100.0)


@pytest.mark.parametrize("thickness", [-0.1, 100.0, float("nan")])
def test_a_filter_that_cannot_be_is_refused(thickness: float) -> None:
    with pytest.raises(InvalidInputError, match="aluminium"):
        Filtration(thickness)
