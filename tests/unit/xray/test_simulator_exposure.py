"""The beam's way to the detector, step by step, against what the formulas say."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cxr3d.errors import EnergyOutOfRangeError, InvalidInputError
from napari_cxr3d.xray.attenuation import bone_attenuation, water_attenuation
from napari_cxr3d.xray.simulator_exposure import (
    AntiscatterGrid,
    Beam,
    Collimation,
    DetectorBlur,
    FlatField,
    Heel,
    ScatterKernel,
    detector_axes,
    inverse_square,
)
from napari_cxr3d.xray.spectra import Filtration, polyenergetic_integrals

SHAPE = (64, 48)


def chest(size: int = 192) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Schematic line integrals of a chest, and where lung and mediastinum are."""
    y, x = np.mgrid[0:size, 0:size] / size
    integrals = np.where(np.abs(x - 0.5) < 0.46, 3.5, 0.0)
    for center in (0.28, 0.72):
        integrals[((x - center) / 0.16) ** 2 + ((y - 0.45) / 0.36) ** 2 < 1] = 1.8
    integrals[np.abs(x - 0.5) < 0.08] = 5.0
    places = {"lung": integrals == 1.8, "mediastinum": integrals == 5.0}
    return integrals.astype(np.float32), places


def test_one_energy_weighs_water_and_bone_with_their_attenuation() -> None:
    water, bone = np.array([[200.0, 150.0]], np.float32), np.array([[0.0, 20.0]], np.float32)
    expected = water * water_attenuation(60.0) + bone * bone_attenuation(60.0)
    np.testing.assert_allclose(
        Beam(None, energy_kev=60.0).integrals(water, bone), expected, rtol=1e-6
    )


def test_a_tube_voltage_hardens_the_beam() -> None:
    thin, thick = np.array([[20.0]], np.float32), np.array([[300.0]], np.float32)
    none = np.zeros((1, 1), np.float32)
    beam = Beam(90.0, Filtration(3.0, 0.1))
    np.testing.assert_array_equal(
        beam.integrals(thick, none), polyenergetic_integrals(thick, none, 90.0, beam.filtration)
    )
    assert beam.integrals(thick, none) < 0.95 * 15 * beam.integrals(thin, none)


def test_a_beam_has_one_kind_of_energy() -> None:
    for settings in ({"kilovolt": None}, {"kilovolt": 100.0, "energy_kev": 60.0}):
        with pytest.raises(InvalidInputError, match="either a tube voltage or one photon energy"):
            Beam(**settings)
    with pytest.raises(EnergyOutOfRangeError):
        Beam(500.0).integrals(np.ones((1, 1), np.float32), np.ones((1, 1), np.float32))


def test_the_heel_shades_the_anodes_side_as_the_formula_says() -> None:
    heel = Heel(target_degrees=12.0, depth=0.05, anode="up")
    fluence = heel.fluence(SHAPE, 6.0, 1800.0)
    assert fluence.shape == (64, 1)
    row = 10
    ray = np.degrees(np.arctan((row - 31.5) * 6.0 / 1800.0))
    excess = 1 / np.tan(np.radians(12 + ray)) - 1 / np.tan(np.radians(12.0))
    assert fluence[row, 0] == pytest.approx(np.exp(-0.05 * excess), rel=1e-4)
    assert fluence[0, 0] < 0.85 < 1 < fluence[-1, 0] < 1.15
    assert fluence[31:33].mean() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("anode", ["up", "down", "left", "right"])
def test_the_anode_can_lie_on_any_side(anode: str) -> None:
    fluence = np.broadcast_to(Heel(anode=anode).fluence(SHAPE, 6.0, 1800.0), SHAPE)
    sides = {"up": fluence[0], "down": fluence[-1], "left": fluence[:, 0], "right": fluence[:, -1]}
    assert min(sides, key=lambda side: sides[side].mean()) == anode


def test_the_beam_falls_with_the_cube_of_the_cosine() -> None:
    fluence = inverse_square((3, 401), 2.0, 1000.0)
    assert fluence[1, 200] == pytest.approx(1, abs=1e-5)
    assert fluence[1, -1] == pytest.approx(np.cos(np.arctan(0.4)) ** 3, rel=1e-5)


def test_blades_leave_an_open_field_with_a_penumbra() -> None:
    blades = Collimation(top=10, bottom=20, left=30, right=-5, penumbra_mm=8, leak=0.01)
    field = blades.field((100, 100), 1.0)
    assert field[50, 60] == 1
    assert field[2, 60] == field[97, 60] == field[50, 5] == np.float32(0.01)
    assert field[50, 99] == 1, "a blade that stays outside shuts nothing off"
    assert field[50, 29:31].mean() == pytest.approx(0.5, abs=0.01), "half at the edge"
    assert (np.diff(field[50, 20:40]) >= 0).all()


def test_turned_blades_cut_slantwise() -> None:
    field = Collimation(top=15, bottom=-40, left=-40, right=-40, degrees=5).field((100, 100), 1.0)
    edge = (field < 0.5).sum(axis=0)
    slope = np.polyfit(np.arange(10, 90), edge[10:90], 1)[0]
    assert abs(slope) == pytest.approx(np.tan(np.radians(5)), rel=0.1)


def test_scatter_behind_a_wide_slab_grows_with_its_thickness() -> None:
    kernel = ScatterKernel(strength=0.9, near_mm=10, far_mm=25)
    for thickness in (1.0, 4.0):
        slab = np.full((200, 200), thickness, np.float32)
        ratio = kernel.signal(slab, np.exp(-slab), 2.0) / np.exp(-slab)
        assert ratio[100, 100] == pytest.approx(0.9 * thickness, rel=0.02)
        assert ratio[0, 0] < 0.4 * ratio[100, 100], "at a corner three quarters are missing"


def test_scatter_fractions_are_those_measured_in_chests() -> None:
    # Niklason et al., Med. Phys. 8, 677-681 (1981): about 90 % in the mediastinum without a
    # grid; with a 12:1 grid less than half of the primary contrast is shown there.
    integrals, places = chest()
    primary = np.exp(-integrals)
    scatter = ScatterKernel().signal(integrals, primary, 430 / 192)
    grid = AntiscatterGrid(primary=0.68, scatter=0.09, ratio=12.0)

    def fraction(place: str, left: float = 1.0) -> float:
        s, p = (a[places[place]].mean() for a in (scatter * left, primary))
        return float(s / (s + p))

    assert 0.86 < fraction("mediastinum") < 0.95
    assert 0.4 < fraction("lung") < 0.7
    assert 0.5 < fraction("mediastinum", grid.scatter_left) < 0.8
    assert fraction("lung", grid.scatter_left) < 0.25


def test_air_does_not_scatter() -> None:
    air = np.zeros((32, 32), np.float32)
    assert ScatterKernel().signal(air, np.exp(-air), 5.0).max() == 0


def test_a_grid_out_of_focus_cuts_off_more_the_further_out() -> None:
    grid = AntiscatterGrid(ratio=10.0, focus_mm=1000.0)
    _, x = detector_axes((4, 101), 4.0)
    near = grid.cutoff((4, 101), 4.0, 900.0)
    error = np.abs(x / 900 - x / 1000)
    np.testing.assert_allclose(near, 1 - 10 * error, atol=1e-6)
    assert near[0, 50] == 1
    assert near[0, 0] == pytest.approx(0.78, abs=0.01)
    beside = AntiscatterGrid(ratio=10.0, focus_mm=1000.0, offset_mm=20.0)
    np.testing.assert_allclose(beside.cutoff((4, 101), 4.0, 1000.0), 0.8, atol=1e-6)


def test_grid_lines_are_seen_only_by_pixels_that_resolve_them() -> None:
    grid = AntiscatterGrid(focus_mm=1800.0, lines_per_mm=4.0, line_contrast=0.1)
    fine = grid.cutoff((4, 2000), 0.02, 1800.0)
    coarse = grid.cutoff((4, 200), 1.77, 1800.0)
    assert np.ptp(fine) == pytest.approx(0.2, rel=0.05)
    assert np.ptp(coarse) < 0.02


def test_the_blur_is_the_stated_transfer_of_every_frequency() -> None:
    blur, pitch, magnification = DetectorBlur(scintillator_mm2=0.6, focal_spot_mm=1.2), 0.2, 1.25
    x = (np.arange(400) * pitch)[None]
    for frequency in (0.25, 0.75, 1.5):
        wave = np.broadcast_to(np.cos(2 * np.pi * frequency * x), (64, 400)).astype(np.float32)
        seen = blur.apply(wave, None, pitch, magnification)[20:44, 100:300]
        penumbra = 1.2 / 2.355 * 0.25
        expected = (
            np.sinc(pitch * frequency)
            * np.exp(-2 * (np.pi * penumbra * frequency) ** 2)
            / (1 + 0.6 * frequency**2)
        )
        assert np.sqrt(2) * seen.std() == pytest.approx(expected, rel=0.02)


def test_quantum_noise_passes_the_scintillator_alone() -> None:
    noise = np.random.default_rng(0).standard_normal((128, 128)).astype(np.float32)
    still = np.zeros_like(noise)
    sharp = DetectorBlur(scintillator_mm2=0.0, focal_spot_mm=3.0).apply(still, noise, 0.3, 2.0)
    np.testing.assert_allclose(sharp, noise, atol=1e-5)
    soft = DetectorBlur(scintillator_mm2=0.8).apply(still, noise, 0.3, 2.0)
    assert soft.std() < 0.75 * noise.std()


def test_the_blur_keeps_flat_pictures_up_to_their_edge() -> None:
    flat = np.full((37, 53), 0.3, np.float32)
    np.testing.assert_allclose(DetectorBlur().apply(flat, None, 1.7, 1.1), flat, rtol=1e-5)


def test_gain_calibration_takes_the_shading_out_but_for_its_residual() -> None:
    shading = np.linspace(0.7, 1.1, 50, dtype=np.float32)[None]
    signal = 0.2 * shading
    np.testing.assert_allclose(FlatField(0.0).apply(signal, shading), 0.2, rtol=1e-5)
    np.testing.assert_allclose(
        FlatField(0.25).apply(signal, shading), 0.2 * shading**0.25, rtol=1e-5
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: Heel(target_degrees=0),
        lambda: Heel(anode="north"),
        lambda: Collimation(penumbra_mm=0),
        lambda: Collimation(leak=1.0),
        lambda: ScatterKernel(strength=-1),
        lambda: ScatterKernel(near_mm=80, far_mm=70),
        lambda: AntiscatterGrid(primary=0),
        lambda: AntiscatterGrid(line_contrast=1),
        lambda: DetectorBlur(scintillator_mm2=-1),
        lambda: FlatField(1.5),
    ],
)
def test_steps_that_cannot_be_are_refused(make) -> None:
    with pytest.raises(InvalidInputError):
        make()
