"""The ellipsoid phantom: exact integrals, faithful voxels, anatomy that has sides."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Grid, XrayView
from napari_cxr3d.phantom import Ellipsoid, EllipsoidPhantom, thorax_ellipsoids

CENTRAL = XrayView(
    source_to_isocenter_mm=600,
    source_to_detector_mm=900,
    detector_shape=(1, 1),
    pixel_mm=1.0,
    isocenter_lps=(0.0, 0.0, 0.0),
)


def ball(radius: float = 20.0, center: tuple[float, float, float] = (0, 0, 0)) -> EllipsoidPhantom:
    return EllipsoidPhantom((Ellipsoid("ball", center, (radius,) * 3, 1.0),))


def test_central_ray_through_a_ball_crosses_its_diameter() -> None:
    assert ball(20.0).line_integrals(CENTRAL, water_per_mm=0.02) == pytest.approx(0.8)


def test_ray_ends_at_source_and_detector() -> None:
    # The view is a PA: the source lies at y = 600, the detector at y = -300.
    on_the_detector = ball(20.0, (0, -300, 0)).line_integrals(CENTRAL, water_per_mm=0.02)
    around_the_source = ball(20.0, (0, 600, 0)).line_integrals(CENTRAL, water_per_mm=0.02)
    behind = ball(20.0, (0, -330, 0)).line_integrals(CENTRAL, water_per_mm=0.02)
    assert on_the_detector == pytest.approx(0.4)
    assert around_the_source == pytest.approx(0.4)
    assert behind == 0


def test_line_integrals_agree_with_sums_over_points_inside_a_turned_ellipsoid() -> None:
    ellipsoid = Ellipsoid("turned", (5, -3, 8), (40, 15, 25), 0.7, (20, -35, 50))
    view = XrayView(yaw=35, pitch=10, roll=5, detector_shape=(5, 6), pixel_mm=12.0)
    view = view.resolved(Grid((2, 2, 2), (1, 1, 1), (0, 0, 0)))
    exact = EllipsoidPhantom((ellipsoid,)).line_integrals(view, water_per_mm=0.02)
    frame = view.frame()
    along = (np.arange(200_000) + 0.5) / 200_000
    for row, col in [(0, 0), (1, 3), (2, 2), (3, 4)]:
        pixel = frame.origin + row * frame.row_step + col * frame.column_step
        points = frame.source + along[:, None] * (pixel - frame.source)
        inside = ((points - ellipsoid.center_lps) @ ellipsoid.axes_lps) / ellipsoid.semi_axes_mm
        share = np.mean(np.sum(inside**2, axis=1) <= 1)
        expected = share * np.linalg.norm(pixel - frame.source) * 0.7 * 0.02
        assert exact[row, col] == pytest.approx(expected, abs=2e-4)
    assert exact.max() > 0.2


@pytest.mark.parametrize("supersampling", [1, 2, 3])
def test_voxels_hold_the_whole_of_a_turned_ellipsoid(supersampling: int) -> None:
    semi_axes = (40.0, 15.0, 25.0)
    phantom = EllipsoidPhantom((Ellipsoid("turned", (5, -3, 8), semi_axes, 0.7, (20, -35, 50)),))
    grid = phantom.grid((60, 50, 70))
    voxels = phantom.relative_attenuation(grid, supersampling=supersampling)
    mass = float(voxels.sum(dtype=np.float64)) * float(np.prod(grid.spacing_mm))
    assert mass == pytest.approx(0.7 * 4 / 3 * np.pi * np.prod(semi_axes), rel=0.01)
    at = np.array([5, -3, 8])
    center_of_mass = np.array([(voxels * axis).sum() for axis in np.indices(grid.shape)])
    np.testing.assert_allclose(center_of_mass / voxels.sum(), grid.lps_to_index(at), atol=0.05)


def test_more_lines_per_voxel_come_closer_to_the_mean() -> None:
    phantom = ball(30.0)
    grid = phantom.grid((16, 16, 16))
    fine = phantom.relative_attenuation(grid, supersampling=24)
    errors = [
        np.abs(phantom.relative_attenuation(grid, supersampling=s) - fine).max() for s in (1, 2, 6)
    ]
    assert errors[0] > errors[1] > errors[2]


def test_voxels_outside_the_grid_are_cut_off_not_folded_in() -> None:
    phantom = thorax_ellipsoids()
    whole = phantom.grid((40, 30, 44))
    part = Grid((20, 12, 22), whole.spacing_mm, tuple(whole.index_to_lps((10, 9, 11))))
    np.testing.assert_allclose(
        phantom.relative_attenuation(part),
        phantom.relative_attenuation(whole)[10:30, 9:21, 11:33],
        atol=1e-6,
    )


def test_volume_reads_as_hounsfield_units_of_its_attenuation() -> None:
    phantom = thorax_ellipsoids()
    grid = phantom.grid((20, 20, 20))
    volume = phantom.volume(grid)
    np.testing.assert_allclose(
        (volume.hu / 1000 + 1) * 0.02, phantom.attenuation(grid, water_per_mm=0.02), atol=1e-6
    )
    assert volume.synthetic
    assert volume.grid == grid


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_thorax_is_unlike_its_mirror_image(axis: int) -> None:
    phantom = thorax_ellipsoids()
    voxels = phantom.relative_attenuation(phantom.grid((48, 48, 48)))
    assert np.abs(voxels - np.flip(voxels, axis)).max() > 0.4


@pytest.mark.parametrize(
    ("at", "low", "high"),
    [
        ((50, -26, -34), 0.95, 1.1),  # heart: left, in front
        ((-50, -26, -34), 0.1, 0.4),  # its mirror image: lung
        ((0, 66, 0), 1.3, 2.0),  # spine: behind
        ((0, -66, 0), 0.9, 1.2),  # its mirror image: soft tissue
        ((-76, -8, -86), 0.95, 1.2),  # liver: right, below
        ((76, -8, -86), 0.1, 0.4),  # its mirror image: lung
        ((0, -4, 108), -0.1, 0.2),  # trachea: above
        ((0, -4, -108), 0.9, 1.2),  # its mirror image: soft tissue
    ],
)
def test_organs_lie_where_they_belong(
    at: tuple[float, float, float], low: float, high: float
) -> None:
    phantom = thorax_ellipsoids()
    point = Grid((1, 1, 1), (2.0, 2.0, 2.0), at)
    assert low < phantom.relative_attenuation(point).item() < high


@pytest.mark.parametrize("seed", [None, 0, 1, 2, 3])
def test_thorax_holds_only_values_of_the_body(seed: int | None) -> None:
    phantom = thorax_ellipsoids(seed=seed)
    voxels = phantom.relative_attenuation(phantom.grid((64, 64, 64)))
    assert voxels.min() > -0.15
    assert voxels.max() < 2.6


def test_seed_repeats_and_another_differs() -> None:
    assert thorax_ellipsoids(seed=4) == thorax_ellipsoids(seed=4)
    assert thorax_ellipsoids(seed=4) != thorax_ellipsoids(seed=5)
    assert 20 <= len(thorax_ellipsoids().ellipsoids) <= 30


def test_grid_holds_the_whole_phantom() -> None:
    phantom = thorax_ellipsoids()
    voxels = phantom.relative_attenuation(phantom.grid((30, 40, 50)))
    solids = sum(
        e.relative_attenuation * 4 / 3 * np.pi * np.prod(e.semi_axes_mm) for e in phantom.ellipsoids
    )
    spacing = phantom.grid((30, 40, 50)).spacing_mm
    assert voxels.sum(dtype=np.float64) * np.prod(spacing) == pytest.approx(solids, rel=1e-3)


@pytest.mark.parametrize("lengths", [(0, 1, 1), (1, -2, 1), (1, 1, float("nan"))])
def test_ellipsoid_without_extent_is_refused(lengths: tuple[float, float, float]) -> None:
    with pytest.raises(InvalidInputError, match="three positive half lengths"):
        Ellipsoid("flat", (0, 0, 0), lengths, 1.0)


def test_no_lines_per_voxel_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="one line per voxel or more"):
        ball().relative_attenuation(ball().grid((4, 4, 4)), supersampling=0)
