"""Views on the fly: the right geometry, the same from every renderer, the same every time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cxr3d_training.data import Feed
from cxr3d_training.data.poses import (
    FixedPoses,
    LatticePoses,
    RandomPoses,
    camera_rows,
    frontal_and_lateral,
    orbit,
    pose_rows,
    views_of,
)
from cxr3d_training.data.views import ViewRenderer
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Volume, XrayView
from napari_cxr3d.xray import projector

SMALL = RandomPoses(count=3, detector_shape=(24, 20), pixel_mm=20.0)


@pytest.fixture(scope="module")
def chest(make_chest) -> Volume:
    return make_chest(2, shape=(24, 20, 24), spacing_mm=(14.0, 14.0, 14.0))


def test_poses_are_drawn_from_their_ranges(chest: Volume) -> None:
    ranges = RandomPoses(count=50, yaw=(-20, 40), pitch=(0, 5), jitter_mm=(1, 2, 3))
    rng = np.random.default_rng(0)
    views = [view for _ in range(20) for view in ranges.draw(rng, chest.grid)]
    yaw = [view.yaw for view in views]
    assert -20 <= min(yaw) < -15
    assert 35 < max(yaw) <= 40
    assert all(0 <= view.pitch <= 5 for view in views)
    shift = np.array([view.isocenter_lps for view in views]) - chest.center_lps
    np.testing.assert_array_equal(np.abs(shift).max(axis=0) <= [1, 2, 3], True)
    assert np.all(np.abs(shift).max(axis=0) > [0.9, 1.8, 2.7])
    assert len({view.source_to_detector_mm for view in views}) == 20  # one room a sample


def test_the_lattice_begins_with_the_frontal_view_and_repeats_none(chest: Volume) -> None:
    poses = LatticePoses(XrayView(), count=61, step=3.0)
    views = poses.draw(np.random.default_rng(0), chest.grid)
    yaws = [view.yaw for view in views]
    assert yaws[0] == 0
    assert sorted(yaws) == [3.0 * k for k in range(-30, 31)]
    with pytest.raises(InvalidInputError, match="not enough angles"):
        LatticePoses(XrayView(), count=10, step=45.0)


def test_fixed_views_are_named_as_radiographers_name_them() -> None:
    frontal, lateral = frontal_and_lateral("ap").views
    assert (frontal.yaw, lateral.yaw) == (180.0, 90.0)
    assert frontal.flip_columns and lateral.flip_columns
    assert [v.yaw for v in orbit(XrayView(), 4).views] == [-180.0, -90.0, 0.0, 90.0]
    assert [v.yaw for v in orbit(XrayView(), 3, span=(-90, 90)).views] == [-90.0, 0.0, 90.0]


def test_the_camera_rows_hit_the_pixels_that_the_view_projects_to(chest: Volume) -> None:
    views = SMALL.draw(np.random.default_rng(1), chest.grid)
    for view, row in zip(views, camera_rows(views, chest.grid), strict=True):
        source, first, down, right = row.reshape(4, 3) + np.array(
            [chest.center_lps, chest.center_lps, (0, 0, 0), (0, 0, 0)]
        )
        pixel = first + 7 * down + 11 * right
        between = source + 0.4 * (pixel - source)
        np.testing.assert_allclose(view.frame(chest.grid).project(between), [7, 11], atol=1e-2)


def test_poses_as_numbers_are_read_back(chest: Volume) -> None:
    views = SMALL.draw(np.random.default_rng(1), chest.grid)
    back = views_of(pose_rows(views, chest.grid), SMALL.detector_shape)
    for one, other in zip(views, back, strict=True):
        assert other.detector_shape == one.detector_shape
        np.testing.assert_allclose(
            [other.yaw, other.pitch, other.source_to_detector_mm, *other.isocenter_lps],
            [one.yaw, one.pitch, one.source_to_detector_mm, *one.isocenter_lps],
            rtol=1e-5,
            atol=1e-4,
        )


def test_the_integrals_are_those_of_the_projector(chest: Volume) -> None:
    renderer = ViewRenderer(SMALL)
    sample = renderer.sample(chest, np.random.default_rng(3))
    views = SMALL.draw(np.random.default_rng(3), chest.grid)
    np.testing.assert_array_equal(sample["integrals"], projector("cpu").project(chest, views))
    np.testing.assert_array_equal(sample["cameras"], camera_rows(views, chest.grid))
    assert "pictures" not in sample
    assert sample["integrals"].shape == (3, 24, 20)


@pytest.mark.parametrize("domain", ["drr", "realistic"])
def test_pictures_of_a_domain_are_grey_values_and_the_seed_makes_them(
    chest: Volume, domain: str
) -> None:
    renderer = ViewRenderer(SMALL, domain=domain)
    one = renderer.sample(chest, np.random.default_rng(3))
    again = renderer.sample(chest, np.random.default_rng(3))
    pictures = one["pictures"]
    assert pictures.shape == one["integrals"].shape
    assert 0 <= pictures.min() < 0.3 < 0.5 < pictures.max() <= 1
    np.testing.assert_array_equal(pictures, again["pictures"])
    other = renderer.render(chest, SMALL.draw(np.random.default_rng(3), chest.grid), 77)
    assert np.array_equal(pictures, other.pictures) == (domain == "drr")


@pytest.mark.parametrize("domain", [None, "drr", "realistic"])
def test_the_device_path_renders_what_the_worker_path_renders(
    chest: Volume, domain: str | None
) -> None:
    """nanodrr's own kernel stands in for the GPU's: hand-over, look-up tables, development."""
    other_chest = chest.with_hu(np.roll(chest.hu, 2, axis=0))

    def run(renderer: ViewRenderer) -> dict[str, np.ndarray]:
        def sample(rng: np.random.Generator) -> dict[str, np.ndarray]:
            return renderer.sample(chest if rng.random() < 0.5 else other_chest, rng)

        with Feed(sample, batch_size=3, seed=4, finish=renderer.finish) as feed:
            next(feed)
            return {name: tensor.numpy() for name, tensor in next(feed).items()}

    ours = run(ViewRenderer(SMALL, domain=domain, engine="cpu"))
    theirs = run(ViewRenderer(SMALL, domain=domain, engine="nanodrr"))
    assert ours.keys() == theirs.keys()
    np.testing.assert_array_equal(ours["poses"], theirs["poses"])
    scale = ours["integrals"].max()
    assert np.abs(ours["integrals"] - theirs["integrals"]).mean() < 0.03 * scale
    if domain is not None:
        assert np.abs(ours["pictures"] - theirs["pictures"]).mean() < 0.06
    if domain == "drr":  # on the device by two lines of torch: the same numbers
        from napari_cxr3d.xray.simulator import simulate

        integrals = theirs["integrals"][0]
        views = views_of(theirs["poses"][0], SMALL.detector_shape)
        np.testing.assert_allclose(
            theirs["pictures"][0], simulate(integrals, views, "drr"), atol=1e-5
        )


def test_a_float_volume_is_rendered_like_its_whole_numbers(chest: Volume) -> None:
    whole = Volume(chest.hu.astype(np.float32), chest.spacing_mm, chest.origin_lps)
    renderer = ViewRenderer(SMALL, engine="nanodrr")

    def integrals(volume: Volume) -> np.ndarray:
        import torch

        sample = renderer.sample(volume, np.random.default_rng(3))
        batch = {name: torch.from_numpy(np.stack([v])) for name, v in sample.items()}
        return renderer.finish(batch)["integrals"].numpy()

    np.testing.assert_allclose(integrals(chest), integrals(whole), rtol=1e-4, atol=1e-5)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="domain"):
        ViewRenderer(SMALL, domain="film")
    with pytest.raises(InvalidInputError, match="yaw must rise"):
        RandomPoses(yaw=(10, -10))
    with pytest.raises(InvalidInputError, match="pitch"):
        RandomPoses(pitch=(0, 120))
    with pytest.raises(InvalidInputError, match="one detector shape"):
        FixedPoses((XrayView(), replace(XrayView(), detector_shape=(8, 8))))
    with pytest.raises(InvalidInputError, match="one view"):
        RandomPoses(count=0)
