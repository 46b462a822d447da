"""The solver finds least squares solutions, and volumes agree with the views they come from."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cxr3d.errors import Cancelled, InvalidInputError
from napari_cxr3d.imaging import Grid, XrayView
from napari_cxr3d.phantom.ellipsoids import thorax_ellipsoids
from napari_cxr3d.progress import CancelToken, Progress
from napari_cxr3d.xray import projector
from napari_cxr3d.xray.conjugate_gradients import (
    conjugate_gradients,
    reconstruct_backprojection,
    reconstruct_cg,
)

RANDOM = np.random.default_rng(1)
MATRIX = RANDOM.standard_normal((12, 8)).astype(np.float32)
B = RANDOM.standard_normal(12).astype(np.float32)
X0 = RANDOM.standard_normal(8).astype(np.float32)
WEIGHTS = RANDOM.random(12, dtype=np.float32) + 0.1
SCALE = RANDOM.random(8, dtype=np.float32) + 0.1

N, MM = 24, 16.0
GRID = Grid((N, N, N), (MM, MM, MM), (-(N - 1) / 2 * MM, -(N - 1) / 2 * MM, (N - 1) / 2 * MM))
FRONTAL = XrayView(detector_shape=(36, 36), pixel_mm=440 / 36, isocenter_lps=(0.0, 0.0, 0.0))
LATERAL = XrayView(
    yaw=90.0, detector_shape=(36, 36), pixel_mm=440 / 36, isocenter_lps=(0.0, 0.0, 0.0)
)
ENGINE = projector("cpu")


def _solve(**settings):  # type: ignore[no-untyped-def]
    given = {"x0": X0, "iterations": 40, **settings}
    return conjugate_gradients(lambda x: MATRIX @ x, lambda y: MATRIX.T @ y, B, **given)


@pytest.fixture(scope="module")
def chest() -> np.ndarray:
    return thorax_ellipsoids().attenuation(GRID, water_per_mm=0.0193)


def test_the_solution_is_that_of_the_normal_equations() -> None:
    w, s, damping = WEIGHTS.astype(float), SCALE.astype(float), 0.7
    left = MATRIX.T.astype(float) @ np.diag(w**2) @ MATRIX + damping * np.diag(1 / s**2)
    right = MATRIX.T @ (w**2 * B) + damping * X0 / s**2
    found = _solve(weights=WEIGHTS, scale=SCALE, damping=damping).x
    np.testing.assert_allclose(found, np.linalg.solve(left, right), atol=2e-4)


def test_residuals_are_those_of_the_solution_and_never_grow() -> None:
    solution = _solve(iterations=5)
    assert solution.iterations == 5
    assert all(b <= a for a, b in zip(solution.residuals, solution.residuals[1:], strict=False))
    assert solution.residuals[0] == pytest.approx(np.linalg.norm(MATRIX @ X0 - B), rel=1e-5)
    assert solution.residuals[-1] == pytest.approx(
        np.linalg.norm(MATRIX @ solution.x - B), rel=1e-3
    )


def test_elements_without_scale_never_move() -> None:
    scale = SCALE.copy()
    scale[[1, 5]] = 0
    found = _solve(scale=scale).x
    assert np.array_equal(found[[1, 5]], X0[[1, 5]])
    assert not np.allclose(found, X0)


def test_the_solver_stops_where_the_residual_meets_the_tolerance() -> None:
    first, second = _solve(iterations=2).residuals[1:]
    for aim in (first + 0.4 * (second - first), 1.5 * first):
        solution = _solve(tolerance=aim)
        assert solution.residuals[-1] == pytest.approx(aim, rel=1e-4)
        assert np.linalg.norm(MATRIX @ solution.x - B) == pytest.approx(aim, rel=1e-3)
    assert _solve(tolerance=1e9).iterations == 0


def test_progress_is_told_and_cancelling_stops() -> None:
    told: list[Progress] = []
    token = CancelToken()

    def tell(progress: Progress) -> None:
        told.append(progress)
        if progress.done == 2:
            token.cancel()

    with pytest.raises(Cancelled):
        _solve(progress=tell, cancel=token)
    assert [p.done for p in told] == [1, 2]


def test_negative_settings_are_refused() -> None:
    for wrong in ({"damping": -1.0}, {"iterations": -1}):
        with pytest.raises(InvalidInputError):
            _solve(**wrong)


def test_a_volume_by_least_squares_shows_its_views_and_has_no_negative_voxel(
    chest: np.ndarray,
) -> None:
    views = [FRONTAL, LATERAL]
    integrals = ENGINE.project_attenuation(chest, GRID, views)
    found = reconstruct_cg(integrals, views, GRID, ENGINE, iterations=16)
    assert found.min() >= 0
    again = ENGINE.project_attenuation(found, GRID, views)
    assert np.linalg.norm(again - integrals) < 0.01 * np.linalg.norm(integrals)
    blurred = reconstruct_backprojection(integrals, views, GRID, ENGINE)
    assert np.linalg.norm(found - chest) < np.linalg.norm(blurred - chest)


def test_rays_without_weight_do_not_matter(chest: np.ndarray) -> None:
    integrals = ENGINE.project_attenuation(chest, GRID, [FRONTAL])
    weights = np.ones_like(integrals)
    weights[:, :, :9] = 0
    spoilt = np.where(weights > 0, integrals, 50).astype(np.float32)
    settings = {"weights": weights, "iterations": 4}
    first, second = (
        reconstruct_cg(b, [FRONTAL], GRID, ENGINE, **settings) for b in (integrals, spoilt)
    )
    assert np.array_equal(first, second)


def test_a_backprojection_is_scaled_to_its_views(chest: np.ndarray) -> None:
    for views in ([FRONTAL], [FRONTAL, LATERAL]):
        integrals = ENGINE.project_attenuation(chest, GRID, views)
        integrals += 0.03  # rays that only graze a corner of the grid show something, too
        found = reconstruct_backprojection(integrals, views, GRID, ENGINE)
        again = ENGINE.project_attenuation(found, GRID, views)
        error = np.linalg.norm(again - integrals)
        for factor in (0.97, 1.03):
            assert error < np.linalg.norm(factor * again - integrals)
        assert error < 0.5 * np.linalg.norm(integrals)
