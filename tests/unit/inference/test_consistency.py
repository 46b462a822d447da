"""A volume is moved to where its X-ray agrees with the one taken, as far as that can be trusted."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_cxr3d.errors import Cancelled, InvalidInputError
from napari_cxr3d.imaging import Grid, XrayView
from napari_cxr3d.inference.consistency import Consistency
from napari_cxr3d.inference.consistency_comparison import band_pass
from napari_cxr3d.inference.consistency_rays import rays_through
from napari_cxr3d.inference.sampler import sample
from napari_cxr3d.metrics.image_quality import psnr3d
from napari_cxr3d.metrics.projection import explained_projection, reprojection_error
from napari_cxr3d.models.diffusion import RectifiedFlow
from napari_cxr3d.models.reconstruction import Condition, ReconstructionModel, ViewBatch
from napari_cxr3d.phantom.ellipsoids import thorax_ellipsoids
from napari_cxr3d.progress import CancelToken
from napari_cxr3d.xray import projector
from napari_cxr3d.xray.attenuation import hu_to_attenuation

N, MM = 32, 12.0
EDGE = (N - 1) / 2 * MM
GRID = Grid((N, N, N), (MM, MM, MM), (-EDGE, -EDGE, EDGE))
WINDOW = (-1000.0, 1000.0)
FRONTAL = XrayView(detector_shape=(48, 48), pixel_mm=440 / 48, isocenter_lps=(0.0, 0.0, 0.0))
VIEWS = (FRONTAL, replace(FRONTAL, yaw=90.0))
HELD_OUT = (replace(FRONTAL, yaw=40.0), replace(FRONTAL, yaw=-30.0))
EXACT = (True, True)
ENGINE = projector("cpu")
VALID = np.ones((2, 48, 48), bool)


def _xrays(hu: np.ndarray, views: tuple[XrayView, ...] = VIEWS) -> np.ndarray:
    return ENGINE.project_attenuation(hu_to_attenuation(hu, 70.0), GRID, views)


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    hu: np.ndarray = thorax_ellipsoids().volume(GRID).hu.astype(np.float32).clip(*WINDOW)
    return hu


@pytest.fixture(scope="module")
def crude(truth: np.ndarray) -> np.ndarray:
    """What a network might make of it: smooth, and a voxel off."""
    return np.roll(ndimage.gaussian_filter(truth, 1.0, mode="nearest"), 1, axis=1)


@pytest.fixture(scope="module")
def integrals(truth: np.ndarray) -> np.ndarray:
    return _xrays(truth)


@pytest.fixture(scope="module")
def moved(crude: np.ndarray, integrals: np.ndarray) -> np.ndarray:
    return Consistency(GRID, VIEWS, integrals, VALID, EXACT, mode="hard").project_hu(crude)[0]


def test_exact_xrays_are_met_twenty_times_closer(
    crude: np.ndarray, moved: np.ndarray, integrals: np.ndarray
) -> None:
    before, after = (float(reprojection_error(_xrays(v), integrals)) for v in (crude, moved))
    assert after < before / 20
    assert after < 0.003


def test_the_volume_gets_nearer_to_the_truth_also_where_no_xray_looked(
    truth: np.ndarray, crude: np.ndarray, moved: np.ndarray
) -> None:
    assert float(psnr3d(moved, truth, WINDOW)) > float(psnr3d(crude, truth, WINDOW)) + 0.3
    there = _xrays(truth, HELD_OUT)
    before, after = (float(reprojection_error(_xrays(v, HELD_OUT), there)) for v in (crude, moved))
    assert after < 0.9 * before


def test_air_outside_the_body_is_not_filled_with_haze(crude: np.ndarray, moved: np.ndarray) -> None:
    far = ndimage.binary_erosion(crude < -995, iterations=3, border_value=1)
    assert far.sum() > 2000
    assert float(np.mean(moved[far])) < -990
    assert np.percentile(moved[far], 99) < -950
    assert moved.min() >= WINDOW[0]
    assert moved.max() <= WINDOW[1]


@pytest.mark.parametrize("mode", ["hard", "soft"])
def test_a_volume_that_agrees_is_left_as_it_is(
    mode: Any, truth: np.ndarray, integrals: np.ndarray
) -> None:
    moved, record = Consistency(GRID, VIEWS, integrals, VALID, EXACT, mode=mode).project_hu(truth)
    assert record.iterations == 0
    np.testing.assert_allclose(moved, truth, atol=0.01)


def test_soft_meets_exact_xrays_no_closer_than_voxels_allow(
    crude: np.ndarray, integrals: np.ndarray
) -> None:
    soft = Consistency(GRID, VIEWS, integrals, VALID, EXACT, mode="soft")
    _, record = soft.project_hu(crude)
    assert record.before > 0.05
    assert record.after == pytest.approx(0.02, abs=0.006)


def test_the_record_says_what_was_done(crude: np.ndarray, integrals: np.ndarray) -> None:
    consistency = Consistency(GRID, VIEWS, integrals, VALID, EXACT, mode="hard")
    moved, record = consistency.project_hu(crude)
    assert record.before == pytest.approx(float(reprojection_error(_xrays(crude), integrals)))
    assert record.after == pytest.approx(
        float(reprojection_error(_xrays(moved), integrals)), rel=0.02
    )
    assert record.change_hu == pytest.approx(np.sqrt(np.mean((moved - crude) ** 2)), rel=1e-3)
    assert [c.used for c in record.calibrations] == [True, True]
    assert json.loads(json.dumps(record.to_dict()))["iterations"] == record.iterations > 0


def test_reprojection_tells_each_view_and_all(crude: np.ndarray, integrals: np.ndarray) -> None:
    told = Consistency(GRID, VIEWS, integrals, VALID, EXACT).reprojection(crude)
    shown = _xrays(crude)
    np.testing.assert_allclose(told.integrals, shown, atol=1e-5)
    np.testing.assert_allclose(told.residual, shown - integrals, atol=1e-5)
    assert told.relative_error == pytest.approx(float(reprojection_error(shown, integrals)))
    assert told.explained == pytest.approx(float(explained_projection(shown, integrals)))
    for k, view in enumerate(told.per_view):
        one = slice(k, k + 1)
        expected = float(reprojection_error(shown[one], integrals[one]))
        assert view.relative_error == pytest.approx(expected)
        assert (view.gain, view.offset, view.rays) == (1.0, 0.0, 48 * 48)
    assert json.loads(json.dumps(told.to_dict()))["per_view"][1]["exact"] is True


def test_held_out_poses_are_compared_too(
    truth: np.ndarray, crude: np.ndarray, integrals: np.ndarray
) -> None:
    consistency = Consistency(GRID, VIEWS, integrals, VALID, EXACT)
    there = _xrays(truth, HELD_OUT)
    told = consistency.at(crude, HELD_OUT, there)
    assert told.relative_error == pytest.approx(
        float(reprojection_error(_xrays(crude, HELD_OUT), there))
    )
    assert consistency.at(truth, HELD_OUT, there).explained == pytest.approx(1, abs=1e-6)


def _picture(integrals: np.ndarray, seed: int = 0) -> np.ndarray:
    """Archive integrals: another scale, scatter that is slow across the picture, and grain."""
    random = np.random.default_rng(seed)
    scatter = np.stack([ndimage.gaussian_filter(b, 8) for b in integrals])
    grain = 0.03 * random.standard_normal(integrals.shape)
    return (1.2 * integrals - 0.5 * scatter + 0.4 + grain).astype(np.float32)


def _soft(pictures: np.ndarray, valid: np.ndarray = VALID) -> Consistency:
    return Consistency(GRID, VIEWS, pictures, valid, (False, False), mode="soft")


@pytest.fixture(scope="module")
def other(truth: np.ndarray) -> np.ndarray:
    """A volume with the heart on the wrong side: a mirrored patient."""
    mirrored: np.ndarray = truth[:, :, ::-1].copy()
    return mirrored


def test_pictures_leave_alone_what_agrees_as_well_as_they_can_tell(
    truth: np.ndarray, integrals: np.ndarray
) -> None:
    moved, record = _soft(_picture(integrals)).project_hu(truth)
    assert record.iterations == 0
    np.testing.assert_allclose(moved, truth, atol=0.01)


def test_pictures_move_what_clearly_differs_and_toward_the_truth(
    truth: np.ndarray, integrals: np.ndarray
) -> None:
    wrong = np.full_like(truth, -1000)
    wrong[4:-4] = ndimage.gaussian_filter(truth[::-1], 1.5)[4:-4]
    moved, record = _soft(_picture(integrals)).project_hu(wrong)
    assert record.iterations > 0
    assert float(psnr3d(moved, truth, WINDOW)) > float(psnr3d(wrong, truth, WINDOW))


def test_the_scale_of_a_picture_does_not_matter(other: np.ndarray, integrals: np.ndarray) -> None:
    pictures = _picture(integrals)
    first, second = (_soft(p).project_hu(other) for p in (pictures, 0.8 * pictures + 0.7))
    np.testing.assert_allclose(first[0], second[0], atol=3)
    gains = [c.gain for c in first[1].calibrations], [c.gain for c in second[1].calibrations]
    np.testing.assert_allclose(gains[1], np.array(gains[0]) / 0.8, rtol=0.01)


def test_a_known_scale_is_found(truth: np.ndarray, integrals: np.ndarray) -> None:
    told = _soft((integrals - 0.3) / 1.25).reprojection(truth)
    for view in told.per_view:
        assert (view.gain, view.offset) == (pytest.approx(1.25, 1e-3), pytest.approx(0.3, abs=0.01))
    assert told.relative_error < 1e-3
    assert told.explained > 0.999


def test_a_letter_in_the_picture_moves_little(crude: np.ndarray, integrals: np.ndarray) -> None:
    pictures = _picture(integrals)
    marked = pictures.copy()
    marked[:, 20:24, 22:26] = pictures.max() - 0.1  # within the grey scale, in the body
    plain, lettered, hard = (
        c.project_hu(crude)[0]
        for c in (
            _soft(pictures), _soft(marked),
            Consistency(GRID, VIEWS, marked, VALID, (False, False), mode="hard"),
        )
    )  # fmt: skip
    assert np.abs(lettered - plain).max() < 0.4 * np.abs(hard - plain).max()


def test_what_the_picture_does_not_reach_does_not_count(
    crude: np.ndarray, integrals: np.ndarray
) -> None:
    valid = VALID.copy()
    valid[:, :, :16] = False
    spoilt = np.where(valid, integrals, np.nan).astype(np.float32)
    clean = Consistency(GRID, VIEWS, integrals, valid, EXACT, mode="hard")
    dirty = Consistency(GRID, VIEWS, spoilt, valid, EXACT, mode="hard")
    assert np.array_equal(clean.project_hu(crude)[0], dirty.project_hu(crude)[0])
    told = dirty.reprojection(crude)
    assert not told.residual[~valid].any()
    assert [view.rays for view in told.per_view] == [48 * 32] * 2


def test_a_picture_of_something_else_is_not_used(crude: np.ndarray, integrals: np.ndarray) -> None:
    pictures = _picture(integrals)
    pictures[1] = pictures[1].max() - pictures[1] + 0.5
    moved, record = _soft(pictures).project_hu(crude)
    assert [c.used for c in record.calibrations] == [True, False]
    assert "correlation" in record.calibrations[1].note
    alone = Consistency(GRID, VIEWS[:1], pictures[:1], VALID[:1], (False,), mode="soft")
    np.testing.assert_allclose(moved, alone.project_hu(crude)[0], atol=0.01)


def test_rays_that_leave_the_grid_through_its_top_need_air_above_it() -> None:
    air, body = (rays_through(FRONTAL, GRID, beyond=b) for b in ("air", "body"))
    assert air.all()  # the detector just covers the grid
    assert body[4:-4].all()
    assert not body[[0, -1], 12:-12].any()
    beside = replace(FRONTAL, isocenter_lps=(2000.0, 0.0, 0.0))
    assert not rays_through(beside, GRID, beyond="air").any()


def test_a_spread_says_where_the_volume_may_change(
    crude: np.ndarray, integrals: np.ndarray
) -> None:
    spread = np.zeros_like(crude)
    spread[:, :, N // 2 :] = 100
    consistency = Consistency(GRID, VIEWS[:1], integrals[:1], VALID[:1], (True,), mode="hard")
    moved, _ = consistency.project_hu(crude, spread=spread, rounds=1)
    change = np.abs(moved - crude)
    assert change[:, :, N // 2 :].mean() > 3 * change[:, :, : N // 2].mean()


def test_the_band_has_an_exact_adjoint() -> None:
    random = np.random.default_rng(2)
    weights, a, b = random.random((3, 40, 30), dtype=np.float32)
    weights[:5] = 0
    apply, adjoint = band_pass(weights, 6.0)
    left = np.vdot(apply(a).astype(float), b.astype(float))
    assert left == pytest.approx(np.vdot(a.astype(float), adjoint(b).astype(float)), rel=1e-4)
    slow = np.full((40, 30), 3.0, np.float32)
    assert np.abs(apply(slow)).max() < 1e-4


def test_cancelling_stops_the_data_step(crude: np.ndarray, integrals: np.ndarray) -> None:
    token = CancelToken()
    token.cancel()
    consistency = Consistency(GRID, VIEWS, integrals, VALID, EXACT, mode="hard")
    with pytest.raises(Cancelled):
        consistency.project_hu(crude, cancel=token)


class _Voxels(ReconstructionModel):
    """A model whose latent is the volume itself."""

    def __init__(self) -> None:
        super().__init__(
            volume_shape=GRID.shape, spacing_mm=GRID.spacing_mm,
            detector_shape=(48, 48), hu_window=WINDOW,
        )  # fmt: skip
        self.process = RectifiedFlow()

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        return (1, *self.volume_shape)

    def condition(self, views: ViewBatch) -> Condition:
        raise NotImplementedError

    def predict(
        self, x: torch.Tensor, time: torch.Tensor, condition: Condition, guidance: float = 1.0
    ) -> torch.Tensor:
        raise NotImplementedError

    def decode(self, x: torch.Tensor, condition: Condition, **_: Any) -> torch.Tensor:
        return x

    def encode(self, volume: torch.Tensor, condition: Condition) -> torch.Tensor:
        return volume


def test_the_hook_moves_the_last_steps_of_a_batch(crude: np.ndarray, integrals: np.ndarray) -> None:
    model, condition = _Voxels(), Condition(torch.zeros(2, 1))
    consistency = Consistency(GRID, VIEWS, integrals, VALID, EXACT, mode="hard")
    hook = consistency.as_hook(model, condition, last=2)
    flat = torch.from_numpy(crude)[None, None].repeat(2, 1, 1, 1, 1)
    aim = model.window.encode(flat)
    noise = torch.randn(aim.shape, generator=torch.Generator().manual_seed(0))
    states = list(sample(lambda x, t: aim - noise, model.process, noise, steps=4, project=hook))
    errors = [
        float(reprojection_error(_xrays(model.window.decode(s.x0)[1, 0].numpy()), integrals))
        for s in states
    ]
    assert errors[1] > 0.05
    assert torch.allclose(states[1].x0, aim, atol=1e-5)
    expected = consistency.project_hu(crude, rounds=1)[0]
    found = model.window.decode(states[3].x)[:, 0].numpy()
    assert float(reprojection_error(_xrays(found[0]), integrals)) < errors[1] / 5
    assert np.sqrt(np.mean((found[0] - expected) ** 2)) < 20
    np.testing.assert_allclose(found[0], found[1], atol=1)


def test_what_does_not_fit_is_refused(crude: np.ndarray, integrals: np.ndarray) -> None:
    good = (GRID, VIEWS, integrals, VALID, EXACT)
    consistency = Consistency(*good)
    small = _Voxels()
    small.volume_shape = (16, 16, 16)
    for wrong in (
        lambda: Consistency(GRID, VIEWS[:1], integrals, VALID, EXACT),
        lambda: Consistency(GRID, VIEWS, integrals, VALID[:, :9], EXACT),
        lambda: Consistency(GRID, VIEWS, integrals, VALID, (True,)),
        lambda: Consistency(*good, mode="firm"),  # type: ignore[arg-type]
        lambda: consistency.project_hu(crude[1:]),
        lambda: consistency.project_hu(crude, spread=crude[1:]),
        lambda: consistency.as_hook(small, Condition(torch.zeros(1))),
    ):
        with pytest.raises(InvalidInputError):
            wrong()
