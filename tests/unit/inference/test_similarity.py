"""A point of one picture on another: where it lights up, and where it cannot lie."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import XrayView
from napari_cxr3d.inference.orbit_picture import OrbitPicture
from napari_cxr3d.inference.similarity import (
    PatchFeatures,
    band_between,
    epipolar_band,
    features_from_tokens,
    map_of_template,
    mutual_match,
    patch_features,
    patch_features_of,
    raw_patches,
    similarity_map,
    similarity_maps,
)
from napari_cxr3d.inference.world_models import LoadedWorldModel

SIDE = 32
VIEW = XrayView(detector_shape=(SIDE, SIDE), pixel_mm=13.75, isocenter_lps=(0.0, 0.0, 0.0))


@pytest.fixture(scope="module")
def loaded() -> LoadedWorldModel:
    import torch

    from napari_cxr3d.models.world_model import XWin

    torch.manual_seed(0)
    model = XWin(
        image_size=(SIDE, SIDE), field_mm=440, source_to_isocenter_mm=1600,
        source_to_detector_mm=1800, encoder={"patch_size": 8, "dim": 32, "depth": 1, "heads": 2},
        predictor={"dim": 32, "depth": 1, "heads": 2},
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.target_encoder.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return LoadedWorldModel(model.eval(), "tiny", "1.0.0", "0" * 64, {})


def a_picture(seed: int = 0, **changes) -> OrbitPicture:
    rng = np.random.default_rng(seed)
    pixels = rng.random((SIDE, SIDE), np.float32)
    settings = {
        "pixels": pixels, "valid": np.ones((SIDE, SIDE), bool), "view": VIEW, "exact": True,
        "integrals": pixels, "affine": np.array([[1.0, 0, 0], [0, 1, 0]]),
        "source_shape": (SIDE, SIDE), "center_lps": (0.0, 0.0, 0.0),
    }  # fmt: skip
    return OrbitPicture(**(settings | changes))


def with_tokens(tokens: np.ndarray, **changes) -> PatchFeatures:
    return features_from_tokens(np.asarray(tokens, np.float32), a_picture(**changes), "hand-made")


def test_a_click_on_a_patch_of_the_picture_itself_peaks_in_that_patch(loaded):
    features = patch_features(a_picture(1), loaded)
    rng = np.random.default_rng(2)
    middles = (np.indices((4, 4)).reshape(2, -1).T + 0.5) * 8 - 0.5
    clicks = middles + rng.uniform(-1.9, 1.9, middles.shape)  # about the middle
    for click in (*middles, *clicks):
        found = similarity_map(features, click, features)
        assert np.array_equal(np.add(found.peak, 0.5) // 8, (click + 0.5) // 8)
        assert found.value > 0.8
    exact = similarity_map(features, middles[5], features)
    assert exact.value == pytest.approx(1, abs=1e-5)
    assert exact.contrast > 0


def test_both_branches_and_the_mean_that_is_taken_off_are_told_apart(loaded):
    picture = a_picture(1)
    kinds = [
        patch_features(picture, loaded, centre=centre, branch=branch)
        for centre in (False, True)
        for branch in ("encoder", "target")
    ]
    assert len({features.model for features in kinds}) == 4
    assert not np.allclose(kinds[0].tokens, kinds[1].tokens, atol=1e-3)
    for features in kinds:
        assert np.linalg.norm(features.tokens, axis=-1) == pytest.approx(1, abs=1e-5)
    with pytest.raises(InvalidInputError, match="two kinds"):
        similarity_map(kinds[0], (4, 4), kinds[1])
    with pytest.raises(InvalidInputError, match="no branch called"):
        patch_features(picture, loaded, branch="decoder")


def test_centred_tokens_do_not_share_a_direction():
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(4, 4, 8)) + 20.0
    plain = features_from_tokens(tokens.astype(np.float32), a_picture(), "x")
    centred = features_from_tokens(tokens.astype(np.float32), a_picture(), "x", centre=True)
    assert similarity_map(plain, (4, 4), plain).grid.min() > 0.9
    assert similarity_map(centred, (4, 4), centred).grid.min() < 0


def test_a_batch_gives_what_single_pictures_give(loaded):
    pictures = [a_picture(seed) for seed in range(18)]
    told = []
    many = patch_features_of(pictures, loaded, progress=told.append)
    assert told[-1].fraction == 1
    assert np.allclose(many[17].tokens, patch_features(pictures[17], loaded).tokens, atol=1e-5)


def test_the_peak_is_the_place_whose_token_is_that_of_the_click():
    tokens = np.eye(16).reshape(4, 4, 16)
    moved = np.roll(tokens, (1, 2), axis=(0, 1))
    query, target = with_tokens(tokens), with_tokens(moved)
    found = similarity_map(query, (11.5, 3.5), target)  # the middle of patch (1, 0)
    assert found.peak == pytest.approx((19.5, 19.5), abs=0.5)
    assert found.grid[2, 2] == pytest.approx(1)
    assert found.contrast == pytest.approx(1)
    assert (found.detector.max(), found.detector.shape) == (pytest.approx(1, abs=0.02), (32, 32))


def test_the_peak_lies_between_patches_where_they_are_alike():
    """A token that turns with the column: the match of a click is where it turned as far."""
    angles = np.linspace(0, 1.5, 4)
    tokens = np.broadcast_to(np.stack([np.cos(angles), np.sin(angles)], -1), (4, 4, 2))
    query = with_tokens(tokens)
    for column in (3.5, 10.0, 12.0, 18.0, 27.5):
        assert similarity_map(query, (12, column), query).peak[1] == pytest.approx(column, abs=1)


def test_several_points_give_what_each_gives_alone(loaded):
    query, target = (patch_features(a_picture(seed), loaded) for seed in (1, 2))
    points = [(3, 4), (20.5, 7), (30, 30)]
    for together, point in zip(similarity_maps(query, points, target), points, strict=True):
        alone = similarity_map(query, point, target)
        assert np.array_equal(together.detector, alone.detector)
        assert together.peak == alone.peak


def test_a_match_that_is_not_found_back_is_not_trusted():
    unit = np.eye(8)
    there = unit[[0, 1, 2, 3]].reshape(2, 2, 8)
    # The query's patch 0 is most like the target's patch 3, which is more like the query's 3.
    here = np.array([unit[0] + 0.2 * unit[3], *unit[1:4]])
    query = features_from_tokens(here.reshape(2, 2, 8), a_picture(), "x")
    target = features_from_tokens(unit[[5, 1, 2, 3]].reshape(2, 2, 8), a_picture(), "x")
    lost = mutual_match(query, (7, 7), target)
    assert not lost.trusted
    assert lost.distance_mm > 100
    found = mutual_match(features_from_tokens(there, a_picture(), "x"), (24, 24), target)
    assert found.trusted
    assert found.back.peak == pytest.approx((23.5, 23.5), abs=1)


def test_places_off_the_picture_are_no_match_and_no_query():
    tokens = np.eye(16).reshape(4, 4, 16)
    valid = np.ones((SIDE, SIDE), bool)
    valid[:, 24:] = False
    target = features_from_tokens(np.roll(tokens, 3, axis=1), a_picture(valid=valid), "hand-made")
    found = similarity_map(with_tokens(tokens), (3.5, 3.5), target)
    assert found.grid[0, 3] == pytest.approx(1)
    assert found.peak[1] < 24
    assert np.isnan(found.on_source()[:, 24:]).all()
    with pytest.raises(InvalidInputError, match="not on the part"):
        similarity_map(target, (3.5, 28), target)
    with pytest.raises(InvalidInputError, match="not on the part"):
        similarity_map(target, (-40, 2), target)


@pytest.mark.parametrize("lying", [False, True])
def test_the_map_lies_on_the_picture_as_it_is_stored(lying):
    affine = np.array([[0.0, 0.5, 2], [-0.25, 0, 30]] if lying else [[0.5, 0, 2], [0, -0.25, 30]])
    shape = (110, 50) if lying else (50, 110)
    target = with_tokens(np.eye(16).reshape(4, 4, 16), affine=affine, source_shape=shape)
    found = map_of_template(target.at((12.0, 19.0)), target)
    values = found.on_source()
    assert values.shape == shape
    for point in [(10, 20), (3, 44), (44, 20), (31, 31)]:
        row, col = target.picture.to_detector(point)
        low = (int(row), int(col))
        part = row - low[0], col - low[1]
        box = found.detector[low[0] : low[0] + 2, low[1] : low[1] + 2]
        expected = np.array([1 - part[0], part[0]]) @ box @ np.array([1 - part[1], part[1]])
        assert values[point] == pytest.approx(expected, abs=1e-4)
    assert found.peak_source == pytest.approx(tuple(target.picture.to_source(found.peak)))
    off = target.picture.to_source([-3.0, 4.0])
    if (off >= 0).all() and (off < shape).all():
        assert np.isnan(values[tuple(np.rint(off).astype(int))])


def test_raw_patches_are_the_normalised_cross_correlation():
    from skimage.feature import match_template

    picture = a_picture(3, pixels=np.random.default_rng(3).random((SIDE, SIDE), np.float32))
    raw = raw_patches(picture, side_mm=5 * 13.75)
    found = map_of_template(raw.tokens[12, 17], raw)
    reference = match_template(picture.pixels, picture.pixels[10:15, 15:20])
    assert np.allclose(found.grid[2:-2, 2:-2], reference, atol=1e-4)
    assert found.peak == pytest.approx((12, 17), abs=0.5)
    assert np.array_equal(found.grid, found.detector)


@pytest.mark.parametrize("yaw", [-90.0, -33.0, 0.0, 3.0, 60.0, 180.0])
def test_a_point_lies_in_its_epipolar_band(yaw):
    rng = np.random.default_rng(7)
    seen = replace(VIEW, yaw=12.0, pitch=4.0)
    other = replace(seen, yaw=yaw, pitch=-3.0, roll=5.0)
    for point in rng.uniform(-130, 130, (40, 3)):
        band = epipolar_band(seen, seen.frame().project(point), other, half_width_mm=0.5)
        assert band.contains(other.frame().project(point))


def test_the_band_excludes_other_heights():
    """Of two points at other heights, the band of one does not hold the other."""
    seen, other = VIEW, replace(VIEW, yaw=60.0)
    here, there = np.array([40.0, 10.0, 50.0]), np.array([40.0, 10.0, -20.0])
    band = epipolar_band(seen, seen.frame().project(here), other)
    assert band.contains(other.frame().project(here))
    assert not band.contains(other.frame().project(there))


def test_the_band_of_the_same_view_is_the_point():
    band = epipolar_band(VIEW, (10.0, 20.0), VIEW, half_width_mm=20)
    assert band.distance([10.0, 20.0]) == pytest.approx(0, abs=1e-6)
    assert not band.contains([10.0, 24.0])


def test_a_band_keeps_the_match_where_it_can_be():
    tokens = np.eye(16).reshape(4, 4, 16)
    target = with_tokens(np.roll(tokens, 2, axis=0), view=replace(VIEW, yaw=50.0))
    query = with_tokens(tokens)
    band = band_between(query.picture, (3.5, 11.5), target.picture)
    free = similarity_map(query, (3.5, 11.5), target)
    held = similarity_map(query, (3.5, 11.5), target, band=band)
    assert free.peak[0] > 15
    assert held.peak[0] < 8
    assert np.array_equal(free.grid, held.grid)


def test_a_picture_on_another_detector_is_refused(loaded):
    view = replace(VIEW, detector_shape=(16, 16))
    with pytest.raises(InvalidInputError, match="another detector"):
        patch_features(a_picture(view=view), loaded)
