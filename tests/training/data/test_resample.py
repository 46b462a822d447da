"""Another spacing: geometry exact, no aliasing, nothing shifted."""

from __future__ import annotations

import numpy as np
import pytest

from cxr3d_training.data.resample import resample, resampled_grid
from napari_cxr3d.errors import GeometryError
from napari_cxr3d.imaging import Grid

SLOPES = np.array([3.0, 5.0, 7.0])


def ramp(grid: Grid) -> np.ndarray:
    """A value that is linear in LPS: interpolation keeps it where the geometry is right."""
    return grid.index_to_lps(np.stack(np.indices(grid.shape), axis=-1)) @ SLOPES


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (1.3, 4.1, 0.5), (7.0, 3.0, 3.0)])
def test_every_value_lies_where_the_new_grid_says(spacing: tuple[float, float, float]) -> None:
    grid = Grid((40, 90, 80), (3.0, 0.7, 0.9), (-31.0, 12.5, 260.0))
    target = resampled_grid(grid, spacing)
    values = resample(ramp(grid), grid, target)
    inner = tuple(slice(n // 5 + 1, -(n // 5) - 1) for n in target.shape)  # away from the edges
    assert values[inner].size > 0
    np.testing.assert_allclose(values[inner], ramp(target)[inner], atol=0.01)


def test_the_grid_keeps_its_centre_and_nearly_its_size() -> None:
    grid = Grid((60, 256, 256), (5.0, 0.7, 0.7), (-90.0, -88.0, 50.0))
    target = resampled_grid(grid, (2.0, 2.0, 2.0))
    np.testing.assert_allclose(target.center_lps, grid.center_lps)
    assert np.all(np.abs(np.array(target.size_mm) - grid.size_mm) <= 1.0)


def test_the_spacing_that_it_has_already_changes_nothing() -> None:
    grid = Grid((5, 6, 7), (2.0, 2.0, 2.0), (1.0, 2.0, 3.0))
    target = resampled_grid(grid, (2.0, 2.0, 2.0))
    assert target == grid
    values = np.random.default_rng(0).integers(-1000, 1000, grid.shape).astype(np.int16)
    np.testing.assert_array_equal(resample(values, grid, target), values)


def test_what_the_new_spacing_cannot_hold_is_smoothed_away_not_folded_down() -> None:
    grid = Grid((8, 8, 256), (2.0, 2.0, 0.5), (0.0, 0.0, 0.0))
    stripes = np.zeros(grid.shape)
    stripes[..., ::2] = 1000.0  # a period of 1 mm on samples 2 mm apart
    coarse = resample(stripes, grid, resampled_grid(grid, (2.0, 2.0, 2.2)))
    assert np.ptp(coarse[..., 5:-5]) < 20
    np.testing.assert_allclose(coarse[..., 5:-5].mean(), 500, atol=5)


def test_the_mean_of_a_volume_survives() -> None:
    rng = np.random.default_rng(1)
    grid = Grid((30, 60, 60), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    values = rng.normal(100, 50, grid.shape)
    coarse = resample(values, grid, resampled_grid(grid, (3.0, 3.0, 3.0)))
    assert abs(coarse.mean() - values.mean()) < 1.5


def test_a_spacing_that_is_no_spacing_is_refused() -> None:
    grid = Grid((5, 6, 7), (2.0, 2.0, 2.0), (1.0, 2.0, 3.0))
    with pytest.raises(GeometryError, match="positive"):
        resampled_grid(grid, (2.0, 0.0, 2.0))
