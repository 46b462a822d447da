"""Back from grey values to line integrals, with an honest idea of the error."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Radiograph, XrayView, preset
from napari_cxr3d.phantom import thorax_ellipsoids
from napari_cxr3d.xray import project_basis, projector
from napari_cxr3d.xray.attenuation import water_attenuation
from napari_cxr3d.xray.calibration import (
    Anchor,
    approximate_integrals,
    polarity_score,
    undo_processing,
)
from napari_cxr3d.xray.simulator import Simulator, simulate
from napari_cxr3d.xray.simulator_domains import domain
from napari_cxr3d.xray.simulator_exposure import Beam
from napari_cxr3d.xray.simulator_processing import ExposureIndex

SIZE = 128
MU = water_attenuation(70.0)


@pytest.fixture(scope="module")
def view() -> XrayView:
    return replace(preset("pa"), detector_shape=(SIZE, SIZE), pixel_mm=330.0 / SIZE)


@pytest.fixture(scope="module")
def basis(view: XrayView) -> tuple[np.ndarray, np.ndarray]:
    phantom = thorax_ellipsoids()
    water, bone = project_basis(
        projector("cpu"), phantom.volume(phantom.grid((72, 60, 72))), [view]
    )
    return water[0], bone[0]


@pytest.fixture(scope="module")
def truth(basis: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Line integrals at 70 keV."""
    return Beam(None, energy_kev=70.0).integrals(*basis)


def inner(array: np.ndarray) -> np.ndarray:
    """The central part, where no blade, border or letter is."""
    return array[20:-20, 20:-20]


def test_a_linear_picture_comes_back_exactly(truth: np.ndarray) -> None:
    greys = (truth - truth.min()) / np.ptp(truth)
    found, record = approximate_integrals(greys, reference=truth)
    np.testing.assert_allclose(inner(found), inner(truth), atol=1e-4)
    assert record.gain == pytest.approx(np.ptp(truth), rel=1e-4)
    assert record.offset == pytest.approx(truth.min(), abs=1e-3)
    assert record.correlation == pytest.approx(1, abs=1e-6)
    assert record.residual_sd == pytest.approx(0, abs=1e-4)
    assert (record.method, record.inverted, record.undone) == ("reference", False, ())


def test_realistic_pictures_come_back_within_measured_bounds(basis, truth, view) -> None:
    # At worst over 20 seeds: with the processing known a correlation of 0.96 and a root mean
    # square error of 0.51, without 0.955 and 0.51 (line integrals reach 6 here).
    for seed in range(0, 24, 3):
        system = domain("realistic").sample(seed)
        picture = simulate(basis, view, system, seed)
        for processing, least, largest in ((system, 0.93, 0.6), (None, 0.92, 0.6)):
            found, record = approximate_integrals(
                picture, reference=truth, processing=processing, view=view
            )
            error = inner(found - truth)
            assert np.corrcoef(inner(found).ravel(), inner(truth).ravel())[0, 1] > least, seed
            assert np.sqrt(np.mean(error**2)) < largest, seed
            assert 0 < record.gain_sd < 0.25 * record.gain
            assert 0 < record.residual_sd < largest


def test_undoing_the_processing_helps(basis, truth, view) -> None:
    gains = []
    for seed in range(0, 18, 3):
        system = domain("realistic").sample(seed)
        picture = simulate(basis, view, system, seed)
        errors = []
        for processing in (system, None):
            found, _ = approximate_integrals(
                picture, reference=truth, processing=processing, view=view
            )
            errors.append(float(np.sqrt(np.mean(inner(found - truth) ** 2))))
        gains.append(errors[1] / errors[0])
    assert np.median(gains) > 1.3


def test_the_stated_uncertainty_covers_the_error_of_the_scale(truth) -> None:
    # Blocky disturbances, as scatter and shading are: neighbours err together.
    rng = np.random.default_rng(0)
    hits, naive = 0, 0
    for _ in range(30):
        bumps = np.kron(rng.normal(0, 0.25, (16, 16)), np.ones((8, 8)))
        greys = np.clip((truth + 0.5) / (np.ptp(truth) + 1), 0, 1)
        _, record = approximate_integrals(greys, reference=truth + bumps)
        off = abs(record.gain - (np.ptp(truth) + 1))
        hits += off < 2 * record.gain_sd
        naive += off < 2 * 0.25 / np.sqrt(record.pixels) / greys.std()
    assert hits >= 25
    assert naive < hits, "independent pixels would promise too much"


def test_outliers_do_not_bend_the_line(truth) -> None:
    greys = (truth - truth.min()) / np.ptp(truth)
    tampered = greys.copy()
    tampered[:, :18] = 0.97  # a plate of metal
    tampered[90:, 100:] = 0.02
    _, record = approximate_integrals(tampered, reference=truth)
    assert record.gain == pytest.approx(np.ptp(truth), rel=0.01)
    plain = np.polyfit(tampered.ravel(), truth.ravel(), 1)[0]
    assert abs(plain / np.ptp(truth) - 1) > 0.05


def test_without_a_reference_two_anchors_give_the_scale(truth) -> None:
    greys = (0.2 + 0.6 * (truth - truth.min()) / np.ptp(truth)).astype(np.float32)
    part = truth[16:112, 16:112]
    anchors = [Anchor(q, float(np.percentile(part, q)) / MU, 10.0) for q in (10.0, 90.0)]
    found, record = approximate_integrals(greys, anchors=anchors)
    np.testing.assert_allclose(inner(found), inner(truth), atol=0.05)
    assert record.method == "anchors"
    assert record.residual_sd is None
    spread = np.subtract(*np.percentile(greys[16:112, 16:112], [90, 10]))
    assert record.gain_sd == pytest.approx(np.sqrt(2) * 10 * MU / spread, rel=0.02)


def test_more_anchors_make_the_scale_more_certain(truth) -> None:
    greys = (truth - truth.min()) / np.ptp(truth)
    part = truth[16:112, 16:112]
    some, many = (
        approximate_integrals(
            greys, anchors=[Anchor(q, float(np.percentile(part, q)) / MU, 10.0) for q in qs]
        )[1]
        for qs in ((20.0, 80.0), (10.0, 20.0, 50.0, 80.0, 90.0))
    )
    assert many.gain_sd < some.gain_sd


def test_an_inverted_picture_is_refused_or_turned(truth) -> None:
    greys = ((truth - truth.min()) / np.ptp(truth)).astype(np.float32)
    for reference in (None, truth):
        with pytest.raises(InvalidInputError, match="looks inverted"):
            approximate_integrals(1 - greys, reference=reference)
        right, record = approximate_integrals(greys, reference=reference)
        turned, told = approximate_integrals(1 - greys, reference=reference, polarity="fix")
        assert (record.inverted, told.inverted) == (False, True)
        assert told.polarity == pytest.approx(-record.polarity, abs=1e-3)
        np.testing.assert_allclose(turned, right, atol=1e-3)


def test_the_polarity_of_real_radiographs_is_seen(data_folder: Path) -> None:
    # Of the 64 all but one score above 0; none is refused, and 9 of 10 negatives are.
    from PIL import Image

    scores = []
    for path in sorted((data_folder / "train" / "cxr").glob("*.png")):
        with Image.open(path) as file:
            scores.append(polarity_score(np.asarray(file.convert("L").resize((128, 128))) / 255))
    assert np.mean(np.array(scores) > 0) > 0.95
    assert min(scores) > -0.5
    assert np.mean(np.array(scores) > 0.5) > 0.9


def test_another_patient_or_view_is_not_taken_for_the_reference(truth) -> None:
    greys = (truth - truth.min()) / np.ptp(truth)
    noise = np.random.default_rng(1).random(truth.shape)
    with pytest.raises(InvalidInputError, match="does not show"):
        approximate_integrals(greys, reference=noise, polarity="trust")


def test_borders_blades_and_letters_take_no_part(basis, view) -> None:
    for seed in range(40):
        system = domain("realistic").sample(seed)
        if system.border and system.texts:
            break
    picture = simulate(basis, view, system, seed)
    _, valid, undone = undo_processing(picture, system, view)
    assert not valid.all()
    assert valid[40:90, 40:90].all()
    assert set(undone) >= {"display", "curve", "contrast", "edges"}


def test_a_radiograph_is_read_by_its_display_range(truth) -> None:
    pixels = 1000 + 500 * truth
    shown = Radiograph(pixels, display_range=(500.0, 5000.0))
    found, record = approximate_integrals(shown, reference=truth)
    np.testing.assert_allclose(inner(found), inner(truth), atol=0.01)
    assert record.gain == pytest.approx(4500 / 500, rel=1e-3)
    with pytest.raises(InvalidInputError, match="line integrals already"):
        approximate_integrals(Radiograph(truth, quantity="line_integral"))


def test_the_record_is_json(truth) -> None:
    greys = (truth - truth.min()) / np.ptp(truth)
    for reference in (None, truth):
        _, record = approximate_integrals(greys, reference=reference)
        told = json.loads(json.dumps(record.to_dict()))
        assert told["gain"] == record.gain
        assert told["energy_kev"] == 70.0


def test_only_the_region_counts(truth) -> None:
    greys = ((truth - truth.min()) / np.ptp(truth)).astype(np.float32)
    spoiled = greys.copy()
    spoiled[:64] = np.random.default_rng(0).random((64, SIZE))
    region = np.zeros(truth.shape, bool)
    region[64:] = True
    _, record = approximate_integrals(spoiled, reference=truth, region=region, polarity="trust")
    assert record.gain == pytest.approx(np.ptp(truth), rel=1e-3)


def test_pictures_that_cannot_be_calibrated_are_refused(truth, view) -> None:
    greys = (truth - truth.min()) / np.ptp(truth)
    refused = [
        ({"reference": truth[:5]}, greys, "reference does not fit"),
        ({"region": np.ones((3, 3), bool)}, greys, "region does not fit"),
        ({"polarity": "maybe"}, greys, "check, fix, trust"),
        ({"anchors": [Anchor(10, 90, 10)]}, greys, "two anchors"),
        ({}, 300 * greys, "between 0 and 1"),
        ({}, greys[0], "rows and columns"),
        ({}, np.full_like(greys, np.nan), "finite"),
        ({}, np.full_like(greys, 0.4), "cannot be calibrated"),
        ({}, (greys > 0.5).astype(float), "cannot be calibrated"),
    ]
    for settings, picture, message in refused:
        with pytest.raises(InvalidInputError, match=message):
            approximate_integrals(picture, **settings)
    system = Simulator(exposure_index=ExposureIndex(), edges=domain("realistic").sample(0).edges)
    with pytest.raises(InvalidInputError, match="Give the view"):
        approximate_integrals(greys, processing=system, polarity="trust")
