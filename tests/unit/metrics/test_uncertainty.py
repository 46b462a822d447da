"""An uncertainty is held against the truth: its rank, its width, its score."""

from __future__ import annotations

import math

import numpy as np
import pytest

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.metrics.uncertainty import (
    GAUSSIAN_COVERAGE,
    coverage,
    crps,
    fit_scale,
    rank_correlation,
)

RNG = np.random.default_rng(0)
SHAPE = (20, 30, 40)
SPREAD = RNG.uniform(5.0, 100.0, SHAPE)
MEAN = RNG.normal(0.0, 300.0, SHAPE)


def truth(times: float = 1.0, seed: int = 1) -> np.ndarray:
    """A truth that lies `times` as far from the mean as the spread claims."""
    return MEAN + times * SPREAD * np.random.default_rng(seed).normal(size=SHAPE)


def test_a_spread_that_grows_with_the_error_ranks_it() -> None:
    error = np.linspace(-1.0, 1.0, 1000)
    assert rank_correlation(np.abs(error) ** 3, error).value == pytest.approx(1.0)
    assert rank_correlation(-np.abs(error), error).value == pytest.approx(-1.0)
    assert abs(rank_correlation(RNG.random(1000), error).value) < 0.1
    assert rank_correlation(np.ones(1000), error).value == 0.0  # it ranks nothing, and says so


def test_only_the_voxels_of_the_mask_count() -> None:
    error = np.linspace(0.0, 1.0, 100)
    spread = error.copy()
    spread[:50] = 1 - spread[:50]
    mask = np.arange(100) >= 50
    assert rank_correlation(spread, error, mask=mask).value == pytest.approx(1.0)
    assert rank_correlation(spread, error).value < 0.9
    inside = coverage(np.zeros(100), np.ones(100), 10.0 * ~mask, mask=mask)
    assert inside.value == 1.0
    assert "voxels of the mask" in inside.convention


def test_coverage_is_that_of_a_normal_distribution_where_the_spread_is_right() -> None:
    assert coverage(MEAN, SPREAD, truth()).value == pytest.approx(GAUSSIAN_COVERAGE, abs=0.005)
    one = math.erf(1 / math.sqrt(2))
    assert coverage(MEAN, SPREAD, truth(), sigmas=1).value == pytest.approx(one, abs=0.01)
    assert coverage(MEAN, SPREAD / 2, truth()).value == pytest.approx(one, abs=0.01)
    repaired = coverage(MEAN, SPREAD / 2, truth(), scale=2.0)
    assert repaired.value == coverage(MEAN, SPREAD, truth()).value
    assert "calibration on other patients" in repaired.convention


def test_the_scale_that_is_fitted_covers_other_draws() -> None:
    cases = [(MEAN, SPREAD / 3, truth(seed=s), None) for s in range(3)]
    scale = fit_scale(cases)
    assert scale == pytest.approx(3.0, rel=0.02)
    held_out = coverage(MEAN, SPREAD / 3, truth(seed=9), scale=scale)
    assert held_out.value == pytest.approx(GAUSSIAN_COVERAGE, abs=0.005)


def test_a_large_patient_weighs_as_much_as_a_small_one() -> None:
    rng = np.random.default_rng(2)
    small = (np.zeros(2000), np.ones(2000), rng.normal(0, 1, 2000), None)
    large = (np.zeros(200_000), np.ones(200_000), rng.normal(0, 4, 200_000), None)
    together = fit_scale([small, large])
    as_often = fit_scale([(*(np.tile(a, 100) for a in small[:3]), None), large])
    assert together == pytest.approx(as_often, rel=1e-3)
    assert together < fit_scale([large])


def test_the_score_of_samples_is_that_of_the_definition() -> None:
    samples, happened = RNG.normal(size=(5, 200)), RNG.normal(size=200)
    pairs = [abs(samples[a] - samples[b]) for a in range(5) for b in range(5) if a != b]
    by_hand = np.abs(samples - happened).mean() - np.mean(pairs) / 2
    assert crps(samples, happened).value == pytest.approx(by_hand)
    assert crps(samples[:1], happened).value == pytest.approx(np.abs(samples[0] - happened).mean())


@pytest.mark.parametrize("count", [2, 30])
def test_few_samples_get_the_score_of_many(count: int) -> None:
    """Of N(0, 1) against N(0, 1) the expected score is 1 / sqrt(pi)."""
    rng = np.random.default_rng(3)
    score = crps(rng.normal(size=(count, 100_000)), rng.normal(size=100_000)).value
    assert score == pytest.approx(1 / math.sqrt(math.pi), rel=0.01)


def test_what_cannot_be_measured_is_said() -> None:
    volume = np.ones(SHAPE)
    with pytest.raises(InvalidInputError, match="one shape"):
        rank_correlation(volume, volume[1:])
    with pytest.raises(InvalidInputError, match="one shape"):
        coverage(volume, volume, volume[1:])
    with pytest.raises(InvalidInputError, match="one shape"):
        crps(volume[None], volume[1:])
    with pytest.raises(InvalidInputError, match="No voxel"):
        coverage(volume, volume, volume, mask=np.zeros(SHAPE, bool))
    with pytest.raises(InvalidInputError, match="positive scale"):
        coverage(volume, volume, volume, scale=0.0)
    with pytest.raises(InvalidInputError, match="no case"):
        fit_scale([])
    with pytest.raises(InvalidInputError, match="cannot be calibrated"):
        fit_scale([(volume, 0 * volume, 3 * volume, None)])
    with pytest.raises(InvalidInputError, match="cannot be calibrated"):
        fit_scale([(volume, volume, volume, None)])
