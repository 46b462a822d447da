"""Filtered backprojection finds the attenuation that exact line integrals come from."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from napari_cxr3d.errors import Cancelled, GeometryError, InvalidInputError
from napari_cxr3d.imaging import Grid, XrayView
from napari_cxr3d.phantom.ellipsoids import Ellipsoid, EllipsoidPhantom, thorax_ellipsoids
from napari_cxr3d.progress import CancelToken, Progress
from napari_cxr3d.xray.attenuation import DEFAULT_ENERGY_KEV, water_attenuation
from napari_cxr3d.xray.fdk import WINDOWS, arc_of, fdk, ray_weights, reconstruct_fdk

WATER = water_attenuation(DEFAULT_ENERGY_KEV)
CENTER = (12.0, -30.0, 45.0)
DETECTOR = XrayView(detector_shape=(64, 72), pixel_mm=440 / 72, isocenter_lps=CENTER)
GRID = Grid.centered((32, 40, 36), (6.0, 5.0, 5.5), CENTER)
BALL = EllipsoidPhantom((Ellipsoid("ball", (20.0, -38.0, 48.0), (72.0, 72.0, 72.0), 1.0),))

CIRCLE = tuple(np.arange(0.0, 360.0, 4.0))
SHORT = tuple(np.linspace(-97.0, 97.0, 66))
LONG = tuple(np.linspace(-135.0, 135.0, 91))
HALF = tuple(np.arange(-90.0, 91.0, 3.0))
UNEVEN = tuple(np.sort(np.random.default_rng(3).uniform(0.0, 360.0, 200)))


def turn(yaws, view: XrayView = DETECTOR) -> tuple[XrayView, ...]:  # type: ignore[no-untyped-def]
    return tuple(replace(view, yaw=float(yaw)) for yaw in yaws)


def measured(views, phantom: EllipsoidPhantom = BALL) -> np.ndarray:  # type: ignore[no-untyped-def]
    made = [phantom.line_integrals(view, water_per_mm=WATER) for view in views]
    return np.stack(made).astype(np.float32)


def distances(grid: Grid = GRID) -> np.ndarray:
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), axis=-1)
    return np.linalg.norm(grid.index_to_lps(index) - BALL.ellipsoids[0].center_lps, axis=-1)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(
    "yaws", [CIRCLE, SHORT, LONG, UNEVEN], ids=["circle", "short", "long", "uneven"]
)
def test_a_ball_of_water_has_the_attenuation_of_water(yaws, window) -> None:  # type: ignore[no-untyped-def]
    views = turn(yaws)
    hu = 1000 * (fdk(measured(views), views, GRID, window=window) / WATER - 1)
    inside = distances() < 54
    assert abs(hu[inside].mean()) < 2
    assert hu[inside].std() < 6
    assert abs(hu[distances() > 90].mean() + 1000) < 15


def test_half_a_turn_is_blurred_and_says_so() -> None:
    views = turn(HALF)
    hu = 1000 * (fdk(measured(views), views, GRID) / WATER - 1)
    inside = distances() < 54
    assert abs(hu[inside].mean()) < 40
    assert 8 < hu[inside].std() < 60
    assert arc_of(views).limited
    assert "limited-angle" in arc_of(views).sentence
    assert not arc_of(turn(SHORT)).limited
    assert arc_of(turn(CIRCLE)).full


def test_the_ends_of_half_a_turn_draw_no_line_through_the_middle() -> None:
    view = replace(DETECTOR, isocenter_lps=(0.0, 0.0, 0.0))
    views = turn(np.arange(-90.0, 91.0, 6.0), view)
    grid = Grid.centered((3, 32, 48), (6.0, 6.0, 6.0))
    phantom = thorax_ellipsoids()
    error = fdk(measured(views, phantom), views, grid) / WATER - phantom.relative_attenuation(grid)
    rows = error[1].mean(axis=1)  # along the last rays, from front to back
    assert np.abs(np.diff(rows[12:20])).max() < 0.06


def test_without_weights_an_arc_counts_its_middle_twice() -> None:
    views = turn(SHORT)
    inside = distances() < 54
    weighted = fdk(measured(views), views, GRID)[inside].mean()
    plain = fdk(measured(views), views, GRID, short_scan=False)[inside].mean()
    assert plain < 0.6 * weighted


@pytest.mark.parametrize(
    "yaws", [CIRCLE, SHORT, LONG, HALF], ids=["circle", "short", "long", "half"]
)
def test_the_rays_of_every_line_sum_to_one(yaws) -> None:  # type: ignore[no-untyped-def]
    fine = (
        turn(np.linspace(min(yaws), max(yaws), 4001)) if len(yaws) != len(CIRCLE) else turn(CIRCLE)
    )
    weights = ray_weights(fine)
    assert weights.min() >= 0 and weights.max() <= 1
    if arc_of(fine).full:
        assert np.all(weights == 0.5)
        return
    yaw = np.array([view.yaw for view in fine])
    cols = DETECTOR.detector_shape[1]
    lateral = (np.arange(cols) - (cols - 1) / 2) * DETECTOR.pixel_mm
    fan = np.degrees(np.arctan2(lateral, DETECTOR.source_to_detector_mm))
    for column in (0, 20, 35, 71):
        again = yaw + 180.0 + 2 * fan[column]
        again = (again - yaw[0]) % 360.0 + yaw[0]
        other = np.interp(again, yaw, weights[:, cols - 1 - column], right=0.0)
        measured_once = again > yaw[-1]
        total = weights[:, column] + np.where(measured_once, 0.0, other)
        inner = np.abs(again - yaw[-1]) > 0.2  # the interpolation there meets the end of the arc
        np.testing.assert_allclose(total[inner][1:-1], 1.0, atol=2e-2)


def test_order_and_whole_turns_of_the_views_do_not_matter() -> None:
    views = turn(SHORT)
    images = measured(views)
    order = np.random.default_rng(0).permutation(len(views))
    shuffled = [replace(views[k], yaw=views[k].yaw + 360.0 * (k % 3 - 1)) for k in order]
    np.testing.assert_allclose(
        fdk(images[order], shuffled, GRID), fdk(images, views, GRID), atol=1e-6
    )


def test_a_mirrored_detector_gives_the_same_volume() -> None:
    views = turn(SHORT)
    mirrored = tuple(replace(view, flip_columns=True) for view in views)
    np.testing.assert_allclose(
        fdk(measured(mirrored), mirrored, GRID), fdk(measured(views), views, GRID), atol=1e-6
    )


def test_the_result_does_not_depend_on_the_number_of_threads() -> None:
    views = turn(HALF)
    images = measured(views)
    assert np.array_equal(fdk(images, views, GRID, threads=1), fdk(images, views, GRID, threads=3))


def test_a_body_wider_than_the_detector_has_no_bright_rim() -> None:
    narrow = replace(DETECTOR, detector_shape=(64, 36))
    wide = EllipsoidPhantom((Ellipsoid("body", CENTER, (150.0, 150.0, 150.0), 1.0),))
    views = turn(CIRCLE, narrow)
    images = measured(views, wide)
    grid = Grid.centered((3, 31, 31), (5.0, 5.0, 5.0), CENTER)
    softly, sharply = (fdk(images, views, grid, extend=e)[1] / WATER for e in (True, False))
    assert abs(softly[15, 15] - 1) < 0.25
    assert abs(softly - softly[15, 15]).max() < 0.5 * abs(sharply - sharply[15, 15]).max()


def test_a_chest_on_a_full_circle_is_that_of_its_voxels() -> None:
    phantom = thorax_ellipsoids()
    view = replace(DETECTOR, isocenter_lps=(0.0, 0.0, 0.0))
    grid = Grid.centered((8, 48, 64), (6.0, 6.0, 6.0))
    truth = phantom.relative_attenuation(grid)
    views = turn(CIRCLE, view)
    found = fdk(measured(views, phantom), views, grid, window="none") / WATER
    assert np.corrcoef(found.ravel(), truth.ravel())[0, 1] > 0.98
    assert np.sqrt(np.mean((found - truth) ** 2)) < 0.09


def test_the_volume_says_that_it_is_synthetic_and_what_its_arc_lacks() -> None:
    views = turn(HALF)
    volume = reconstruct_fdk(measured(views), views, GRID)
    assert volume.synthetic
    assert volume.source is not None
    assert volume.source.description == "SYNTHETIC CT · FDK of 61 views"
    assert "limited-angle" in volume.source.notes[0]
    assert volume.grid == GRID
    assert abs(float(volume.hu[distances() < 54].mean())) < 40
    assert float(volume.hu.min()) >= -1024


def test_views_that_are_no_turn_are_refused() -> None:
    images = np.zeros((2, 64, 72), np.float32)
    first = DETECTOR
    for other, word in (
        (replace(DETECTOR, yaw=20, pitch=5), "pitch"),
        (replace(DETECTOR, yaw=20, roll=5), "roll"),
        (replace(DETECTOR, yaw=20, source_to_isocenter_mm=1500.0), "distances"),
        (replace(DETECTOR, yaw=20, isocenter_lps=(0.0, 0.0, 0.0)), "isocenters"),
    ):
        with pytest.raises(GeometryError, match=word):
            fdk(images, [first, other], GRID)
    for views, shape in (([first], (1, 64, 72)), ([first, first], (2, 64, 72))):
        with pytest.raises(InvalidInputError, match="two"):
            fdk(np.zeros(shape, np.float32), views, GRID)
    with pytest.raises(InvalidInputError, match="do not match"):
        fdk(images[:, :9], turn((0, 90)), GRID)
    with pytest.raises(InvalidInputError, match="hann"):
        fdk(images, turn((0, 90)), GRID, window="shepp")  # type: ignore[arg-type]


def test_progress_is_told_and_cancelling_stops() -> None:
    views, told = turn(HALF), list[Progress]()
    images = measured(views)
    fdk(images, views, GRID, progress=told.append)
    assert max(p.fraction for p in told) == 1.0
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        fdk(images, views, GRID, cancel=token)


def test_rtk_finds_the_same_volume(tmp_path: Path) -> None:
    python = os.environ.get("CXR3D_RTK_PYTHON") or (
        sys.executable if find_spec("itk") and find_spec("rtk") else None
    )
    if python is None:
        pytest.skip("itk-rtk is not installed; CXR3D_RTK_PYTHON can name a Python that has it")
    view = replace(DETECTOR, isocenter_lps=(0.0, 0.0, 0.0))
    views = turn(np.linspace(-104.0, 104.0, 70), view)
    grid = Grid.centered((16, 40, 48), (6.0, 6.0, 6.0))
    images = measured(views, thorax_ellipsoids())
    problem, result = tmp_path / "problem.npz", tmp_path / "result.npz"
    np.savez(
        problem, integrals=images, yaws=[v.yaw for v in views], pitch=view.pixel_mm,
        near=view.source_to_isocenter_mm, far=view.source_to_detector_mm, shape=grid.shape,
        spacing=grid.spacing_mm, threads=1, repeats=1, short_scan=True, hann=False,
    )  # fmt: skip
    script = Path(__file__).parents[3] / "benchmarks" / "fdk_rtk.py"
    subprocess.run([python, str(script), str(problem), str(result)], check=True)
    theirs = np.load(result)["volume"] / WATER
    mine = fdk(images, views, grid, window="none") / WATER
    assert np.sqrt(np.mean((theirs - mine) ** 2)) < 0.01
