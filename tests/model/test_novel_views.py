"""A world model's views are where they say they are, can be compared, and become volumes."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from napari_cxr3d.errors import Cancelled, GeometryError, InputRefusedError, InvalidInputError
from napari_cxr3d.imaging import Grid, Radiograph, Volume, XrayView
from napari_cxr3d.inference import DrrRequest, render_drr
from napari_cxr3d.inference import orbit_volume_solver as solver
from napari_cxr3d.inference.novel_views import (
    NovelViewsRequest,
    NovelViewsResult,
    compare_views,
    novel_views,
)
from napari_cxr3d.inference.novel_views_confidence import (
    EXPOSURES,
    Exposure,
    another_exposure,
    steadiness,
)
from napari_cxr3d.inference.novel_views_report import contact_sheet, novel_views_report
from napari_cxr3d.inference.novel_views_types import turned_view
from napari_cxr3d.inference.orbit_volume import OrbitVolumeRequest, volume_from_orbit
from napari_cxr3d.inference.world_models import load_world_model
from napari_cxr3d.inference.xray_input_types import XrayInput
from napari_cxr3d.phantom import make_thorax
from napari_cxr3d.progress import CancelToken
from napari_cxr3d.xray import projector

YAWS = (-90.0, -30.0, 0.0, 45.0)
ON_CPU = {"device": "cpu"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, write_world_model) -> str:
    path = tmp_path_factory.mktemp("world") / "bundle.zip"
    return str(
        write_world_model(
            path, network={"yaw_range": [-90, 90], "yaw_step": 15.0}, name="world-test"
        )
    )


@pytest.fixture(scope="module")
def chest() -> Volume:
    """A phantom away from the origin of LPS."""
    made = make_thorax(3, (384, 384, 384), 12.0).volume
    return replace(made, origin_lps=tuple(x + 50.0 for x in made.origin_lps))


def taken(chest: Volume, **changes: Any) -> XrayInput:
    view = XrayView(detector_shape=(64, 64), pixel_mm=440 / 64, **changes)
    result = render_drr(DrrRequest(chest, (view,), appearance="integral"))
    return XrayInput(result.radiograph(0), "as-given", volume_center_lps=chest.grid.center_lps)


@pytest.fixture(scope="module")
def xray(chest) -> XrayInput:
    return taken(chest)


@pytest.fixture(scope="module")
def predicted(bundle, xray) -> NovelViewsResult:
    return list(novel_views(NovelViewsRequest(xray, bundle, YAWS), **ON_CPU))[-1].result


def test_every_view_is_told_when_it_is_there_and_the_result_holds_all(bundle, xray):
    states = list(novel_views(NovelViewsRequest(xray, bundle, YAWS), **ON_CPU))
    seen = [s for s in states if s.stage == "predicting"]
    assert [s.view.yaw for s in seen] == list(YAWS)
    assert [s.index for s in seen] == [0, 1, 2, 3] and seen[0].count == 4
    result = states[-1].result
    assert states[-1].stage == "done" and all(s.result is None for s in states[:-1])
    assert np.array_equal(np.stack([s.integrals for s in seen]), result.integrals)
    fractions = [s.fraction for s in states]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    assert pickle.loads(pickle.dumps(result)).yaws == YAWS


def test_the_views_are_those_of_the_model_for_the_picture(bundle, predicted):
    import torch

    model = load_world_model(bundle).model
    with torch.no_grad():
        tokens = model.encode(torch.from_numpy(predicted.picture.pixels.copy())[None])
        latents = model.predict(tokens, model.turns(YAWS))[0]
        np.testing.assert_allclose(predicted.latents, latents.numpy(), atol=1e-5)
        np.testing.assert_allclose(predicted.integrals, model.render(latents).numpy(), atol=1e-4)


def test_views_are_turned_from_where_the_x_ray_was_taken(bundle, chest):
    given = taken(chest, yaw=170.0, source_to_isocenter_mm=1500.0)
    request = NovelViewsRequest(given, bundle, YAWS, confidence=False)
    result = list(novel_views(request, **ON_CPU))[-1].result
    assert [v.yaw for v in result.views] == pytest.approx([80.0, 140.0, 170.0, -145.0])
    assert {v.source_to_isocenter_mm for v in result.views} == {1500.0}
    assert np.isnan(result.confidence).all()
    assert turned_view(XrayView(yaw=180.0), 0.0).yaw == 180.0


def test_everything_says_that_it_is_synthetic(predicted):
    assert predicted.provenance.synthetic and predicted.provenance.operation == "novel-views"
    assert predicted.provenance.model == "world-test"
    radiograph = predicted.radiograph(0)
    assert radiograph.synthetic and radiograph.source.description.startswith("SYNTHETIC view")
    assert radiograph.quantity == "line_integral"


def test_all_angles_of_the_model_by_default_and_none_beyond(bundle, xray):
    from napari_cxr3d.inference.novel_views import _Run

    with pytest.raises(InvalidInputError, match="-90 to 90"):
        list(novel_views(NovelViewsRequest(xray, bundle, (0.0, 95.0)), **ON_CPU))
    run = _Run(NovelViewsRequest(xray, bundle), CancelToken())
    run.loaded = load_world_model(bundle)
    assert run._angles() == tuple(np.arange(-90.0, 91.0, 15.0))
    for yaws in ((), (0.0, 0.0), (float("nan"),)):
        with pytest.raises(InvalidInputError):
            NovelViewsRequest(xray, bundle, yaws)


def test_a_model_without_a_renderer_is_refused(tmp_path, xray, write_world_model):
    path = str(
        write_world_model(tmp_path / "bundle.zip", network={"yaw_step": 15.0, "renderer": None})
    )
    with pytest.raises(InvalidInputError, match="without a renderer"):
        list(novel_views(NovelViewsRequest(xray, path), **ON_CPU))


def test_what_is_no_x_ray_is_refused_unless_accepted(bundle):
    noise = np.random.default_rng(0).random((128, 128), dtype=np.float32)
    given = XrayInput(Radiograph(noise), "pa")
    with pytest.raises(InputRefusedError) as refused:
        list(novel_views(NovelViewsRequest(given, bundle, (0.0,)), **ON_CPU))
    accepted = NovelViewsRequest(given, bundle, (0.0,), refused.value.codes, confidence=False)
    assert list(novel_views(accepted, **ON_CPU))[-1].result is not None


def test_a_lateral_x_ray_is_told(bundle, chest):
    request = NovelViewsRequest(taken(chest, yaw=90.0), bundle, (0.0,), confidence=False)
    result = list(novel_views(request, **ON_CPU))[-1].result
    assert any("not frontal" in note for note in result.notes)


def test_cancelling_stops_at_the_next_views(bundle, xray):
    token = CancelToken()
    states = novel_views(NovelViewsRequest(xray, bundle), cancel=token, **ON_CPU)
    with pytest.raises(Cancelled):
        for state in states:
            if state.stage == "predicting":
                token.cancel()


def test_confidence_is_what_other_exposures_leave():
    views = np.random.default_rng(0).random((2, 40, 40), dtype=np.float32)
    same = Exposure(1.0, 0.0, 0.0)
    assert steadiness(views, views, same).tolist() == [1.0, 1.0]
    half = views + 0.5**0.5 * views.std((1, 2), keepdims=True)
    assert steadiness(views, half, same) == pytest.approx([0.5, 0.5], abs=1e-3)
    lower = Exposure(1.0, 0.1, 0.0)
    assert steadiness(views, np.roll(views, 4, axis=1), lower).tolist() == [1.0, 1.0]
    moved = another_exposure(views[0], lower)
    np.testing.assert_allclose(
        np.diff(moved[4:]), np.diff(views[0][:-4]) / np.ptp(views[0]), atol=1e-5
    )
    assert all(another_exposure(views[0], e).shape == (40, 40) for e in EXPOSURES)


def test_the_comparison_is_with_the_true_projections_of_the_ct(bundle, chest, predicted):
    found = compare_views(predicted, chest, loaded=load_world_model(bundle))
    center = chest.grid.center_lps
    expected = projector("cpu").project(
        chest, [replace(v, isocenter_lps=center) for v in predicted.views]
    )
    np.testing.assert_allclose(found.truth, expected, atol=1e-4)
    np.testing.assert_allclose(found.difference, predicted.integrals - expected, atol=1e-4)
    np.testing.assert_allclose(found.truth[2], predicted.picture.integrals, atol=0.35)
    square = np.square(found.difference).mean((1, 2))
    assert found.psnr == pytest.approx(10 * np.log10(64 / square), abs=1e-3)
    assert np.all(found.ssim < 1) and np.isfinite(found.latent_error).all()
    assert found.copy_error[2] < 0.05  # the X-ray itself
    assert found.notes == ()
    assert found.to_dict()["yaws"] == list(YAWS)


def test_perfect_views_have_no_error(chest, predicted):
    truth = compare_views(predicted, chest).truth
    found = compare_views(replace(predicted, integrals=truth), chest)
    assert np.all(found.psnr > 100) and found.ssim == pytest.approx(1.0)
    assert np.isnan(found.latent_error).all()


def test_another_model_is_not_compared_with(tmp_path, chest, predicted, write_world_model):
    other = load_world_model(
        str(write_world_model(tmp_path / "bundle.zip", network={"yaw_step": 30.0}))
    )
    with pytest.raises(InvalidInputError, match="other weights"):
        compare_views(predicted, chest, loaded=other)


def test_the_sheet_shows_views_truth_and_difference(chest, predicted):
    comparison = compare_views(predicted, chest)
    alone, beside = contact_sheet(predicted), contact_sheet(predicted, comparison)
    assert alone.shape == (64, 4 * 64 + 3 * 4)
    assert beside.shape == (3 * 64 + 2 * 4, 4 * 64 + 3 * 4)
    assert beside.min() >= 0 and beside.max() <= 1
    report = novel_views_report(predicted, comparison)
    assert report["synthetic"] and len(report["views"]) == 4
    assert len(report["comparison"]["psnr"]) == 4


@pytest.fixture(scope="module")
def small() -> dict[str, Any]:
    return {"shape": (20, 20, 20), "spacing_mm": (19.0, 19.0, 19.0)}


def test_fdk_makes_a_volume_and_its_ceiling(bundle, chest, xray, small):
    request = OrbitVolumeRequest(xray, bundle, ceiling_from=chest, **small)
    states = list(volume_from_orbit(request, **ON_CPU))
    result = states[-1].result
    assert {s.stage for s in states} == {"model", "predicting", "volume", "ceiling", "done"}
    fractions = [s.fraction for s in states]
    assert fractions == sorted(fractions)
    assert result.volume.synthetic and "fdk of 13 predicted" in result.volume.source.description
    assert np.allclose(result.volume.grid.center_lps, 0)
    assert result.arc.limited and any("limited-angle" in note for note in result.notes)
    assert result.figures["ceiling_psnr3d"] > result.figures["volume_psnr3d"]
    truth = solver.on_grid(chest, result.ceiling.grid, chest.grid.center_lps)
    assert np.corrcoef(result.ceiling.hu.ravel(), truth.ravel())[0, 1] > 0.8
    assert result.provenance.operation == "orbit-volume"
    assert result.provenance.parameters["limited_angle"]


def test_consistency_makes_a_volume_that_shows_the_given_x_ray(bundle, chest, xray, small):
    request = OrbitVolumeRequest(
        xray, bundle, method="consistency", iterations=8, ceiling_from=chest, **small
    )
    states = list(volume_from_orbit(request, **ON_CPU))
    result = states[-1].result
    assert sum(s.stage == "volume" and s.preview is not None for s in states) == 4
    by_fdk = list(volume_from_orbit(OrbitVolumeRequest(xray, bundle, **small), **ON_CPU))[-1]
    assert result.reprojection.relative_error < 0.7 * by_fdk.result.reprojection.relative_error
    assert result.figures["ceiling_psnr3d"] > result.figures["volume_psnr3d"]
    low, high = solver.LIMITS_HU
    assert result.volume.hu.min() >= low - 1 and result.volume.hu.max() <= high + 1
    assert any("counts 4 times" in note for note in result.notes)


def test_true_views_with_their_weights_give_the_chest_back(chest):
    grid = Grid.centered((20, 20, 20), (19.0, 19.0, 19.0))
    truth = solver.on_grid(chest, grid, chest.grid.center_lps)
    engine = projector("cpu")
    view = XrayView(detector_shape=(32, 32), pixel_mm=440 / 32, isocenter_lps=(0.0, 0.0, 0.0))
    views = tuple(replace(view, yaw=float(y)) for y in range(-90, 91, 15))
    own = Volume(truth, grid.spacing_mm, grid.origin_lps)
    integrals = engine.project(own, views)
    confidence = np.linspace(0.2, 1.0, len(views), dtype=np.float32)
    rays = solver.rays_of_orbit(views, integrals, grid, confidence)
    assert rays.weights[0].max() == pytest.approx(0.2**0.5)
    errors = [
        np.sqrt(np.mean((hu - truth) ** 2))
        for hu in solver.solve(rays, grid, engine, iterations=24)
    ]
    assert errors[-1] < errors[0] and errors[-1] < 90
    near = Volume(np.clip(truth + 100, -1000, 1500), grid.spacing_mm, grid.origin_lps)
    *_, warm = solver.solve(rays, grid, engine, start=near, iterations=4)
    assert np.sqrt(np.mean((warm - truth) ** 2)) < 60


def test_a_picture_is_brought_to_the_scale_of_the_models_view():
    grid = Grid.centered((20, 20, 20), (19.0, 19.0, 19.0))
    view = XrayView(detector_shape=(32, 32), pixel_mm=440 / 32, isocenter_lps=(0.0, 0.0, 0.0))
    rendered = np.random.default_rng(0).random((32, 32), dtype=np.float32) + 1
    valid = np.ones((32, 32), bool)
    given = {"exact": False, "rendered": rendered}
    rays, _ = solver.given_rays(view, rendered / 1.5 - 0.2, valid, grid, **given)
    np.testing.assert_allclose(rays.integrals[0], rendered, atol=1e-3)
    other = np.random.default_rng(1).random((32, 32), dtype=np.float32)
    rays, why = solver.given_rays(view, other, valid, grid, **given)
    assert rays is None and "left out" in why
    assert solver.gain_of(rendered, 1.2 * rendered, valid) == pytest.approx(1.2)
    assert solver.gain_of(rendered, 9 * rendered, valid) == pytest.approx(1.4)


def test_fdk_of_a_tilted_x_ray_is_refused_with_a_way_out(bundle, chest, small):
    request = OrbitVolumeRequest(taken(chest, pitch=8.0), bundle, **small)
    with pytest.raises(GeometryError, match="pitch"):
        list(volume_from_orbit(request, **ON_CPU))
    solved = replace(request, method="consistency", iterations=1)
    assert list(volume_from_orbit(solved, **ON_CPU))[-1].result.arc.limited


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "art"},
        {"window": "shepp"},
        {"start": "noise"},
        {"iterations": 0},
        {"yaws": (0.0,)},
        {"shape": (4000, 20, 20)},
    ],
)
def test_requests_that_cannot_be_used_are_refused(xray, wrong):
    with pytest.raises(InvalidInputError):
        OrbitVolumeRequest(xray, **wrong)
