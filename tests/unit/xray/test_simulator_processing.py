"""From the reading to grey values, and back where a step can be undone."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.xray.appearance import CharacteristicCurve, MultiscaleContrast
from napari_cxr3d.xray.simulator_processing import (
    Border,
    DisplayRange,
    EdgeEnhancement,
    ExposureIndex,
    Vignette,
    fade_air,
)


def ramp(low: float, high: float) -> np.ndarray:
    return np.linspace(low, high, 100 * 100, dtype=np.float32).reshape(100, 100)


def test_the_window_is_found_behind_the_patient_in_the_open_field() -> None:
    reading = ramp(1.0, 5.0)
    reading[:40] = 0.0  # air
    field = np.ones((100, 100), bool)
    field[90:] = False
    window = ExposureIndex(0.0, 100.0).window(reading, reading, field)
    assert window.low == pytest.approx(reading[40, 0], abs=0.01)
    assert window.high == pytest.approx(reading[89, -1], abs=0.01)
    everything = ExposureIndex(0.0, 100.0, air=True).window(reading, reading, field)
    assert (everything.low, everything.high) == (0.0, 5.0)


def test_a_fixed_latitude_keeps_its_width_about_the_middle() -> None:
    thin, thick = ramp(1.0, 3.0), ramp(2.0, 6.0)
    for reading, middle in ((thin, 2.0), (thick, 4.0)):
        window = ExposureIndex(0.0, 100.0, latitude=3.0).window(reading, reading)
        assert window.high - window.low == pytest.approx(3.0)
        assert (window.high + window.low) / 2 == pytest.approx(middle, abs=0.01)


def test_a_picture_of_air_or_of_one_value_has_a_window_all_the_same() -> None:
    air = np.zeros((30, 30), np.float32)
    window = ExposureIndex().window(air, air)
    assert window.low < window.high
    flat = np.full((30, 30), 2.0, np.float32)
    assert ExposureIndex().window(flat, flat).low == 2.0


def test_edges_rise_and_dense_parts_get_less() -> None:
    step = np.zeros((40, 80), np.float32)
    step[:, 20:] = 0.1
    dense = step + 0.85
    edges = EdgeEnhancement(gain=2.0, radius_mm=3.0, falloff=0.8)
    overshoot = np.ptp(edges.apply(step, 1.0)) - 0.1
    assert overshoot > 0.1
    assert np.ptp(edges.apply(dense, 1.0)) - 0.1 < 0.5 * overshoot
    np.testing.assert_allclose(edges.apply(step, 1.0)[:, -20:], 0.1, atol=1e-5)


def test_air_fades_to_its_level_and_the_patient_stays() -> None:
    picture = np.full((1, 3), 0.5, np.float32)
    integrals = np.array([[0.0, 0.125, 1.0]], np.float32)
    np.testing.assert_allclose(fade_air(picture, integrals), [[0, 0.25, 0.5]], atol=1e-6)
    np.testing.assert_allclose(fade_air(picture, integrals, level=0.2)[0, 0], 0.2)


def test_the_vignette_darkens_the_corners_by_what_it_says() -> None:
    picture = np.ones((201, 301), np.float32)
    dark = Vignette(corner=0.3).apply(picture)
    assert dark[100, 150] == pytest.approx(1, abs=1e-4)
    assert dark[0, 0] == pytest.approx(0.7, abs=0.01)


def test_borders_and_their_line_lie_at_the_edge() -> None:
    picture = Border(top=0.1, left=0.2, level=0.0, line=1.0).apply(
        np.full((50, 50), 0.5, np.float32)
    )
    assert picture[:5].max() == 0
    assert picture[:, :10].max() == 0
    assert picture[5, 20] == picture[20, 10] == picture[-1, 20] == 1
    assert picture[20, 20] == 0.5


def detailed() -> np.ndarray:
    """A chest-like picture in units of the window, with fine and coarse structures."""
    y, x = np.mgrid[0:160, 0:160] / 160
    picture = 0.5 + 0.35 * np.cos(2 * np.pi * x) * np.sin(3 * y) + 0.05 * np.sin(60 * x + 9 * y)
    return picture.astype(np.float32)


@pytest.mark.parametrize(
    ("step", "scale", "tolerance"),
    [
        (CharacteristicCurve(0.55, 0.9, 1.2), False, 1e-4),
        (DisplayRange(0.15, 0.7, 0.8), False, 1e-5),
        (Vignette(0.4, 0.3, 0.6), False, 1e-5),
        (MultiscaleContrast(detail=3.0, latitude=0.6, power=0.8), False, 2e-3),
        (EdgeEnhancement(gain=4.0, radius_mm=2.0), True, 2e-3),
    ],
)
def test_what_can_be_undone_comes_back(step, scale: bool, tolerance: float) -> None:
    picture = detailed()
    extra = (1.7,) if scale else ()
    shown = step.apply(picture, *extra)
    assert np.abs(shown - picture).mean() > 0.005
    np.testing.assert_allclose(step.invert(shown, *extra), picture, atol=tolerance)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ExposureIndex(50, 50),
        lambda: ExposureIndex(latitude=0),
        lambda: EdgeEnhancement(gain=-1),
        lambda: EdgeEnhancement(radius_mm=0),
        lambda: EdgeEnhancement(falloff=2),
        lambda: DisplayRange(0.5, 0.5),
        lambda: DisplayRange(gamma=0),
        lambda: Vignette(1.5),
        lambda: Border(left=0.6),
        lambda: Border(level=2),
    ],
)
def test_settings_that_cannot_be_used_are_refused(make) -> None:
    with pytest.raises(InvalidInputError):
        make()
