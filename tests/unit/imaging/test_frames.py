"""The one truth about space: axes, worlds, grids and letters."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cxr3d.errors import GeometryError
from napari_cxr3d.imaging import (
    Grid,
    canonical_order,
    lps_to_world,
    orientation_letters,
    world_to_lps,
)

LETTERS = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "S": (0, 0, 1),
           "I": (0, 0, -1)}  # fmt: skip
AXIS_CODES = ["".join(code) for axes in permutations(("LR", "PA", "SI")) for code in product(*axes)]

MM = st.floats(-500, 500)
POINTS = st.tuples(MM, MM, MM)
SPACINGS = st.tuples(*3 * [st.floats(0.2, 10)])
SHAPES = st.tuples(*3 * [st.integers(1, 40)])


def affine_of(code: str, spacing=(2.0, 3.0, 4.0), origin=(5.0, -6.0, 7.0)) -> np.ndarray:
    """Matrix from the index of a source array with these axes to LPS."""
    affine = np.eye(4)
    affine[:3, :3] = np.array([LETTERS[c] for c in code]).T * np.array(spacing)
    affine[:3, 3] = origin
    return affine


def test_there_are_48_axis_codes():
    assert len(set(AXIS_CODES)) == 48


@pytest.mark.parametrize("code", AXIS_CODES)
def test_every_axis_code_comes_to_inferior_posterior_left_and_back(code):
    affine = affine_of(code)
    source = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    order = canonical_order(affine)
    canonical = order.apply(source)
    assert np.array_equal(order.invert(canonical), source)

    index = np.stack(np.indices(source.shape), axis=-1)
    points = index @ affine[:3, :3].T + affine[:3, 3]
    x, y, z = (order.apply(points[..., k]) for k in range(3))
    assert np.all(np.diff(z, axis=0) < 0)  # the first axis runs toward inferior
    assert np.all(np.diff(y, axis=1) > 0)  # the second toward posterior
    assert np.all(np.diff(x, axis=2) > 0)  # the third toward left
    for along, others in ((z, (1, 2)), (y, (0, 2)), (x, (0, 1))):
        assert all(not np.diff(along, axis=k).any() for k in others)


@given(
    code=st.sampled_from(AXIS_CODES),
    spacing=SPACINGS,
    origin=POINTS,
    angles=st.tuples(*3 * [st.floats(-5e-4, 5e-4)]),
)
def test_a_rounding_of_the_direction_cosines_changes_no_order(code, spacing, origin, angles):
    affine = affine_of(code, spacing, origin)
    a, b, c = angles
    turn = np.eye(3) + np.array([[0, -c, b], [c, 0, -a], [-b, a, 0]])
    turned = affine.copy()
    turned[:3, :3] = turn @ affine[:3, :3]
    assert canonical_order(turned) == canonical_order(affine)


@given(code=st.sampled_from(AXIS_CODES), degrees=st.floats(0.2, 44), axis=st.integers(0, 2))
def test_oblique_axes_have_no_lossless_order(code, degrees, axis):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.roll(np.roll(np.array([[1, 0, 0], [0, c, -s], [0, s, c]]), axis, 0), axis, 1)
    affine = affine_of(code)
    affine[:3, :3] = turn @ affine[:3, :3]
    assert canonical_order(affine) is None


def test_sheared_axes_have_no_lossless_order():
    affine = affine_of("SPL")
    affine[1, 0] += 1.0
    assert canonical_order(affine) is None


@pytest.mark.parametrize("damage", [0.0, np.nan, np.inf])
def test_axes_that_do_not_span_space_are_refused(damage):
    affine = affine_of("SPL")
    affine[:3, 1] = damage
    with pytest.raises(GeometryError, match="do not span space"):
        canonical_order(affine)


@given(POINTS)
def test_the_napari_world_and_back_is_where_it_was(point):
    world = lps_to_world(point)
    assert world.tolist() == [-point[2], point[1], point[0]]
    assert world_to_lps(world).tolist() == list(point)


@given(shape=SHAPES, spacing=SPACINGS, origin=POINTS, where=st.tuples(*3 * [st.floats(-3, 50)]))
def test_a_grid_finds_the_index_of_its_own_points(shape, spacing, origin, where):
    grid = Grid(shape, spacing, origin)
    point = grid.index_to_lps(where)
    np.testing.assert_allclose(grid.lps_to_index(point), where, atol=1e-6)
    np.testing.assert_allclose(grid.affine_lps @ [*where, 1], [*point, 1], atol=1e-6)


@given(shape=SHAPES, spacing=SPACINGS, origin=POINTS)
def test_a_grids_centre_lies_half_way_between_its_corner_voxels(shape, spacing, origin):
    grid = Grid(shape, spacing, origin)
    corners = grid.index_to_lps([(0, 0, 0), [n - 1 for n in shape]])
    np.testing.assert_allclose(grid.center_lps, corners.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(grid.size_mm, np.array(shape) * spacing)
    order = canonical_order(grid.affine_lps)
    assert order.axes == (0, 1, 2)
    assert order.flips == (False, False, False)


@pytest.mark.parametrize(
    "wrong",
    [
        {"shape": (0, 2, 2)},
        {"shape": (2, 2)},
        {"spacing_mm": (1.0, -1.0, 1.0)},
        {"spacing_mm": (1.0, float("nan"), 1.0)},
        {"origin_lps": (0.0, float("inf"), 0.0)},
    ],
)
def test_an_impossible_grid_is_refused(wrong):
    good = {"shape": (2, 2, 2), "spacing_mm": (1.0, 1.0, 1.0), "origin_lps": (0.0, 0.0, 0.0)}
    with pytest.raises(GeometryError):
        Grid(**{**good, **wrong})


@pytest.mark.parametrize(
    ("direction", "letters"),
    [
        ((1, 0, 0), "L"),
        ((-3, 0, 0), "R"),
        ((0, -1, 0), "A"),
        ((0, 0, -1), "I"),
        ((0.6, 0.8, 0), "PL"),
        ((0.1, 0.1, 0.98), "S"),
        ((0.5, -0.5, 0.70), "SL"),
        ((0, 0, 0), ""),
    ],
)
def test_directions_have_the_patients_letters(direction, letters):
    assert orientation_letters(direction) == letters


def test_a_grid_about_a_point_has_it_in_its_middle():
    grid = Grid.centered((3, 4, 5), (2.0, 3.0, 0.5), (10.0, -20.0, 30.0))
    assert grid.center_lps == pytest.approx((10.0, -20.0, 30.0))
    assert grid.origin_lps == pytest.approx((9.0, -24.5, 32.0))
