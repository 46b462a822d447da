"""One seed, one picture; every step in its place, and each can be switched off."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_cxr3d.errors import Cancelled, InvalidInputError
from napari_cxr3d.imaging import XrayView, preset
from napari_cxr3d.phantom import thorax_ellipsoids
from napari_cxr3d.progress import CancelToken, Progress
from napari_cxr3d.xray import project_basis, projector
from napari_cxr3d.xray.appearance import (
    CharacteristicCurve,
    MultiscaleContrast,
    Noise,
    minmax,
)
from napari_cxr3d.xray.simulator import Simulator, common_window, expose, process, simulate
from napari_cxr3d.xray.simulator_domains import DOMAINS, domain
from napari_cxr3d.xray.simulator_exposure import (
    AntiscatterGrid,
    Beam,
    Collimation,
    DetectorBlur,
    FlatField,
    Heel,
    ScatterKernel,
)
from napari_cxr3d.xray.simulator_leads import Wire
from napari_cxr3d.xray.simulator_marks import BurntText, LeadMarker
from napari_cxr3d.xray.simulator_processing import (
    Border,
    DisplayRange,
    EdgeEnhancement,
    ExposureIndex,
    Vignette,
)

SIZE = 96
PLAIN = Simulator(exposure_index=ExposureIndex(0.0, 100.0, air=True))
STEPS = (
    "heel", "inverse_square", "collimation", "marker", "wires", "scatter", "grid", "noise", "blur",
    "flat_field", "edges", "contrast", "curve", "black_air", "vignette", "display", "texts",
    "border", "bits",
)  # fmt: skip


@pytest.fixture(scope="module")
def views() -> tuple[XrayView, ...]:
    pixel_mm = 430.0 / SIZE
    names = ("pa", "ap-bedside", "left-lateral")
    return tuple(
        replace(preset(name), detector_shape=(SIZE, SIZE), pixel_mm=pixel_mm) for name in names
    )


@pytest.fixture(scope="module")
def basis(views: tuple[XrayView, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Path lengths of water and bone through the ellipsoid thorax, [3, rows, cols]."""
    phantom = thorax_ellipsoids()
    return project_basis(projector("cpu"), phantom.volume(phantom.grid((72, 60, 72))), views)


def everything() -> Simulator:
    """A system with all its steps on."""
    lead = Wire(((0.9, -0.1), (0.4, 0.4), (0.5, 0.6), (0.3, 0.8)), 3.0, 0.8, electrode=True)
    return Simulator(
        beam=Beam(115.0),
        heel=Heel(),
        inverse_square=True,
        collimation=Collimation(20, 15, 12, 18, 1.0),
        marker=LeadMarker(0.2, 0.1, 25.0),
        wires=(lead,),
        scatter=ScatterKernel(),
        grid=AntiscatterGrid(offset_mm=10.0),
        noise=Noise(2e5),
        blur=DetectorBlur(),
        flat_field=FlatField(),
        exposure_index=ExposureIndex(latitude=3.0),
        edges=EdgeEnhancement(),
        contrast=MultiscaleContrast(),
        curve=CharacteristicCurve(),
        black_air=True,
        vignette=Vignette(),
        display=DisplayRange(0.1, 0.9),
        shutter=0.0,
        texts=(BurntText(),),
        border=Border(left=0.2, level=0.4, line=1.0),
        bits=8,
    )


def test_the_drr_domain_is_the_published_min_max_of_the_integrals(basis, views) -> None:
    integrals = Beam(None, energy_kev=70.0).integrals(*basis)
    pictures = simulate(basis, views, "drr")
    np.testing.assert_allclose(pictures, minmax(integrals), atol=1e-5)
    np.testing.assert_allclose(simulate(integrals, views), pictures, atol=1e-6)
    np.testing.assert_array_equal(simulate(basis, views, "drr", seed=9), pictures)


@pytest.mark.parametrize("name", list(DOMAINS))
def test_pictures_are_float32_from_0_to_1_whatever_the_seed(name: str, basis, views) -> None:
    for seed in range(12):
        pictures = simulate(basis, views, name, seed)
        assert pictures.dtype == np.float32
        assert pictures.shape == basis[0].shape
        assert np.isfinite(pictures).all()
        assert 0 <= pictures.min() < 0.5 < pictures.max() <= 1


def test_one_seed_makes_one_picture_and_another_seed_another(basis, views) -> None:
    first = simulate(basis, views, "realistic", 5)
    np.testing.assert_array_equal(first, simulate(basis, views, "realistic", 5))
    assert np.abs(first - simulate(basis, views, "realistic", 6)).mean() > 0.01


def test_a_picture_with_its_own_seed_does_not_depend_on_its_batch(basis, views) -> None:
    together = simulate(basis, views, "realistic", [11, 12, 13])
    for k, view in enumerate(views):
        alone = simulate((basis[0][k], basis[1][k]), view, "realistic", [11 + k])
        np.testing.assert_array_equal(alone, together[k])


def test_views_of_one_seed_share_a_system_and_not_their_noise() -> None:
    flat = np.full((2, 64, 64), 2.0, np.float32)
    views = (XrayView(detector_shape=(64, 64), pixel_mm=1.0),) * 2
    noisy = replace(PLAIN, noise=Noise(1e4, 5.0), exposure_index=ExposureIndex(latitude=2.0))
    first, second = simulate(flat, views, noisy, 3)
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] < 0.1


def test_threads_make_the_same_pictures(basis, views) -> None:
    def one(seed: int) -> np.ndarray:
        return simulate((basis[0][0], basis[1][0]), views[0], "realistic", seed)

    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(one, range(8)))
    for seed, picture in enumerate(threaded):
        np.testing.assert_array_equal(picture, one(seed))


@pytest.mark.parametrize("step", STEPS)
def test_every_step_changes_the_picture_and_can_be_switched_off(step: str, basis, views) -> None:
    system = everything()
    part = (basis[0][0], basis[1][0])
    full = simulate(part, views[0], system, 1)
    less = simulate(part, views[0], system.without(step), 1)
    assert not np.array_equal(full, less), step
    assert getattr(system.without(step), step) in (None, False, ())


def test_what_is_no_step_or_cannot_be_missed_is_not_switched_off() -> None:
    for name in ("beam", "exposure_index", "gamma"):
        with pytest.raises(InvalidInputError, match=name):
            PLAIN.without(name)


def test_a_system_survives_json_and_makes_the_same_picture(basis, views) -> None:
    for system in (everything(), PLAIN, *(domain("realistic").sample(k) for k in range(20))):
        read = Simulator.from_dict(json.loads(json.dumps(system.to_dict(), allow_nan=False)))
        assert read == system
        np.testing.assert_array_equal(
            simulate(basis, views, read, 4), simulate(basis, views, system, 4)
        )


def test_a_record_of_something_else_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="none of a simulator"):
        Simulator.from_dict({**PLAIN.to_dict(), "magic": 1})


def test_the_domains_are_listed_where_one_is_unknown(basis, views) -> None:
    with pytest.raises(InvalidInputError, match="drr, realistic"):
        simulate(basis, views, "film")
    with pytest.raises(InvalidInputError, match="0 or more"):
        domain("realistic").sample(-1)


def test_the_realistic_domain_draws_around_clinical_values() -> None:
    systems = [domain("realistic").sample(seed) for seed in range(200)]
    kilovolts = np.array([s.beam.kilovolt for s in systems])
    assert 80 <= kilovolts.min() < 100 < 120 < kilovolts.max() <= 130
    without_grid = np.mean([s.grid is None for s in systems])
    assert 0.1 < without_grid < 0.3
    for steps in ("wires", "texts", "marker", "border", "vignette"):
        share = np.mean([bool(getattr(s, steps)) for s in systems])
        assert 0.05 < share < 0.8, steps
    assert len({json.dumps(s.to_dict()) for s in systems}) == 200


def test_without_disturbance_the_reading_is_the_line_integral(basis, views) -> None:
    integrals = Beam(120.0).integrals(basis[0][0], basis[1][0])
    reading, shade = expose(integrals, views[0], PLAIN)
    np.testing.assert_array_equal(reading, integrals)
    np.testing.assert_array_equal(shade, integrals)


def test_full_gain_calibration_gives_the_reading_back_without_shading(basis, views) -> None:
    integrals = Beam(120.0).integrals(basis[0][0], basis[1][0])
    shaded = replace(PLAIN, heel=Heel(), inverse_square=True)
    off, _ = expose(integrals, views[0], shaded)
    assert np.abs(off - integrals).max() > 0.05
    flat, _ = expose(integrals, views[0], replace(shaded, flat_field=FlatField(0.0)))
    np.testing.assert_allclose(flat, integrals, atol=1e-4)


def test_a_grid_holds_scatter_back(basis, views) -> None:
    integrals = Beam(120.0).integrals(basis[0][0], basis[1][0])
    veiled = replace(PLAIN, scatter=ScatterKernel())
    lost = []
    for system in (veiled, replace(veiled, grid=AntiscatterGrid(ratio=0.001))):
        reading, _ = expose(integrals, views[0], system)
        dense = integrals > np.percentile(integrals, 90)
        lost.append(float((integrals - reading)[dense].mean()))
    assert lost[0] > 2 * lost[1] > 0.4


def test_quantum_noise_is_as_large_as_photons_are_few() -> None:
    integrals = np.full((200, 200), 2.0, np.float32)
    view = XrayView(detector_shape=(200, 200), pixel_mm=0.5)
    system = replace(PLAIN, noise=Noise(1e5, 0.0), grid=AntiscatterGrid(primary=0.7, ratio=1e-4))
    reading, _ = expose(integrals, view, system, (1,))
    photons = 0.7 * 1e5 * 0.25 * np.exp(-2.0)
    assert reading.mean() == pytest.approx(2.0, abs=0.005)
    assert reading.std() == pytest.approx(1 / np.sqrt(photons), rel=0.03)
    electronic = replace(PLAIN, noise=Noise(1e9, 2e5))
    reading, _ = expose(0 * integrals, view, electronic, (1,))
    assert reading.std() == pytest.approx(2e5 / (1e9 * 0.25), rel=0.1)


def test_the_noise_of_a_simulator_has_a_seed_of_its_own_too() -> None:
    flat = np.full((32, 32), 2.0, np.float32)
    view = XrayView(detector_shape=(32, 32), pixel_mm=1.0)
    pictures = [simulate(flat, view, replace(PLAIN, noise=Noise(1e4, seed=s)), 0) for s in (0, 1)]
    assert not np.array_equal(*pictures)


def test_outside_the_blades_it_is_white_or_shut_to_black() -> None:
    integrals = np.full((100, 100), 1.5, np.float32)
    integrals[:, 40:60] = 3.0
    view = XrayView(detector_shape=(100, 100), pixel_mm=2.0)
    open_ended = replace(
        PLAIN, collimation=Collimation(30, 30, 30, 30), exposure_index=ExposureIndex()
    )
    white = simulate(integrals, view, open_ended)
    assert white[:8].min() == 1
    assert white[50, 30] < 0.1, "the window is that of the open field"
    black = simulate(integrals, view, replace(open_ended, shutter=0.0))
    assert black[:8].max() == 0
    np.testing.assert_array_equal(black[30:70, 30:70], white[30:70, 30:70])


def test_lead_shines_and_letters_are_burnt_in(basis, views) -> None:
    bare = simulate(basis, views, PLAIN)[0]
    marked = replace(PLAIN, marker=LeadMarker(0.15, 0.1, 30.0), texts=(BurntText(0.9, 0.9, 0.1),))
    picture = simulate(basis, views, marked)[0]
    lead = np.s_[4:26, 2:20]
    assert picture[lead].max() > bare[lead].max() + 0.2
    assert picture[76:96, 76:96].max() == 1
    assert np.corrcoef(picture[30:70, 30:70].ravel(), bare[30:70, 30:70].ravel())[0, 1] > 0.99


def test_eight_bits_are_256_greys(basis, views) -> None:
    picture = simulate(basis, views, replace(PLAIN, bits=8, curve=CharacteristicCurve()))
    np.testing.assert_allclose(np.rint(picture * 255), picture * 255, atol=1e-4)
    assert 50 < len(np.unique(picture)) <= 256


def test_a_sweep_in_one_window_does_not_flicker(basis, views) -> None:
    system = replace(PLAIN, exposure_index=ExposureIndex())
    window = common_window(basis, views, system)
    together = simulate(basis, views, system, one_window=True)
    for k, view in enumerate(views):
        integrals = system.beam.integrals(basis[0][k], basis[1][k])
        reading, shade = expose(integrals, view, system)
        np.testing.assert_array_equal(process(reading, shade, view, system, window), together[k])
    apart = simulate(basis, views, system)
    assert max(np.abs(apart[k] - together[k]).mean() for k in range(3)) > 0.01


def test_one_frame_may_come_without_the_axis_of_views(basis, views) -> None:
    alone = simulate((basis[0][0], basis[1][0]), views[0], "realistic", [4])
    assert alone.shape == (SIZE, SIZE)
    stacked = simulate((basis[0][:1], basis[1][:1]), views[:1], "realistic", [4])
    np.testing.assert_array_equal(stacked[0], alone)


def test_the_input_is_left_alone(basis, views) -> None:
    before = [part.copy() for part in basis]
    integrals = Beam(120.0).integrals(*basis)
    held = integrals.copy()
    simulate(basis, views, everything(), 1)
    simulate(integrals, views, everything(), 1)
    np.testing.assert_array_equal(integrals, held)
    for part, copy in zip(basis, before, strict=True):
        np.testing.assert_array_equal(part, copy)


def test_what_does_not_fit_together_is_refused(basis, views) -> None:
    with pytest.raises(InvalidInputError, match="views do not fit"):
        simulate(basis, views[:2])
    with pytest.raises(InvalidInputError, match="views do not fit"):
        simulate(basis[0][:1], XrayView(detector_shape=(8, 8)))
    with pytest.raises(InvalidInputError, match="one seed"):
        simulate(basis, views, "realistic", [1, 2])
    with pytest.raises(InvalidInputError, match="0 or more"):
        simulate(basis, views, "realistic", -3)
    with pytest.raises(InvalidInputError, match="not numbers"):
        simulate(np.full((SIZE, SIZE), np.nan), views[0])
    with pytest.raises(InvalidInputError, match="water and bone"):
        simulate((basis[0], basis[1][:1]), views)
    with pytest.raises(InvalidInputError, match="axes"):
        simulate(np.zeros(5), views[0])
    for make in (lambda: Simulator(bits=1), lambda: Simulator(shutter=2.0)):
        with pytest.raises(InvalidInputError):
            make()


def test_progress_is_told_and_cancel_is_heard(basis, views) -> None:
    seen: list[Progress] = []
    simulate(basis, views, progress=seen.append)
    assert [(step.done, step.total) for step in seen] == [(1, 3), (2, 3), (3, 3)]
    token = CancelToken()
    token.cancel()
    for one_window in (False, True):
        with pytest.raises(Cancelled):
            simulate(basis, views, one_window=one_window, cancel=token)


def test_realistic_greys_are_nearer_to_real_ones_than_those_of_drrs(data_folder: Path) -> None:
    from PIL import Image

    from napari_cxr3d.io import read_ct
    from napari_cxr3d.xray.simulator_patient import chest_field

    def histogram(pictures: list[np.ndarray]) -> np.ndarray:
        shares = [np.histogram(p, 64, (0, 1))[0] / p.size for p in pictures]
        return np.cumsum(np.mean(shares, axis=0))

    real = []
    for path in sorted((data_folder / "train" / "cxr").glob("*.png"))[::2]:
        with Image.open(path) as file:
            real.append(np.asarray(file.convert("L").resize((96, 96))) / 255)
    volume = read_ct(data_folder / "ct" / "cip-ct64.nrrd")
    base = replace(preset("pa"), detector_shape=(96, 96))
    field, view = chest_field(volume, base, margin_mm=10.0)
    water, bone = project_basis(projector("cpu"), field, [view])
    part = (water[0], bone[0])
    distance = {
        name: np.abs(
            histogram([simulate(part, view, name, s) for s in range(32)]) - histogram(real)
        ).mean()
        for name in DOMAINS
    }
    assert distance["realistic"] < 0.6 * distance["drr"]
