"""The default reconstruction: true rays, any number of views, a flow of what is left."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cxr3d_training.data.grids import centered_grid
from cxr3d_training.data.poses import camera_rows
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import XrayView, preset
from napari_cxr3d.models.codecs import HaarCodec
from napari_cxr3d.models.lift import voxel_centers, voxels_on_detector
from napari_cxr3d.models.reconstruction import ViewBatch
from napari_cxr3d.models.reconstructor import FlowReconstructor, FlowStage
from napari_cxr3d.xray import projector

SHAPE, SPACING, DETECTOR = (16, 16, 16), (12.0, 12.0, 12.0), (24, 24)
EXTENT = [n * s for n, s in zip(SHAPE, SPACING, strict=True)]


def pose(yaw: float, **changes: object) -> XrayView:
    """A view of the small grid on a small detector."""
    view = replace(preset("pa"), yaw=yaw, detector_shape=DETECTOR, pixel_mm=10.0)
    return replace(view, **changes)  # type: ignore[arg-type]


def batch_of(*views: XrayView, seed: int = 0) -> ViewBatch:
    """Random pictures from given views of the small grid."""
    grid = centered_grid(np.zeros(SHAPE, np.int16), SPACING).grid
    generator = torch.Generator().manual_seed(seed)
    integrals = torch.rand((1, len(views), *DETECTOR), generator=generator) * 5
    there = torch.ones(1, len(views))
    cameras = torch.from_numpy(camera_rows([v.resolved(grid) for v in views], grid))[None]
    return ViewBatch(integrals, torch.ones_like(integrals), cameras, there, there.clone())


def small_model(levels: int = 1, drawn_levels: int | None = None) -> FlowReconstructor:
    """A small one, its last layers awake: as they are made they put out zeros."""
    torch.manual_seed(0)
    small = {"channels": [8, 8], "num_head_channels": 8, "norm_num_groups": 8}
    made = FlowReconstructor(
        codec=HaarCodec(levels=levels), drawn_levels=drawn_levels,
        volume_shape=SHAPE, spacing_mm=SPACING,
        detector_shape=DETECTOR, hu_window=(-1000, 1000),
        lift={"encoder_channels": [8, 8], "picture_features": 4, "features": 8},
        coarse=small, flow=small,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in made.parameters():
            if not parameter.abs().sum():
                parameter.normal_(0, 0.03)
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def model() -> FlowReconstructor:
    """One whose flow draws the whole latent."""
    return small_model()


@pytest.mark.parametrize(
    "view",
    [
        pose(0.0),
        pose(90.0, pitch=8.0),
        pose(180.0, flip_columns=True, roll=5.0),
        pose(-37.0, pitch=-6.0, isocenter_lps=(10.0, -6.0, 14.0)),
    ],
)
def test_a_voxel_takes_the_pixel_that_its_ray_meets(view: XrayView) -> None:
    index = (4, 11, 6)
    hu = np.full(SHAPE, -1000, np.int16)
    hu[index] = 3000
    volume = centered_grid(hu, SPACING)
    view = replace(view, detector_shape=(96, 96), pixel_mm=2.5)
    picture = projector("cpu", quality="exact").project(volume, [view])[0]
    rows, cols = np.indices(picture.shape)
    seen = [float((axis * picture).sum() / picture.sum()) for axis in (rows, cols)]

    points = voxel_centers(SHAPE, EXTENT)
    cameras = torch.from_numpy(camera_rows([view.resolved(volume.grid)], volume.grid))[None]
    pixels, magnification = voxels_on_detector(points, cameras)
    where = np.ravel_multi_index(index, SHAPE)
    assert pixels[0, 0, where].tolist() == pytest.approx(seen, abs=0.25)  # 0.6 mm
    assert 1.0 < float(magnification[0, 0, where]) < 1.5


def test_the_order_of_the_views_does_not_matter(model: FlowReconstructor) -> None:
    views = batch_of(pose(0.0), pose(90.0), pose(30.0))
    turned = ViewBatch(*(t[:, [2, 0, 1]] for t in views))
    one, other = model.condition(views), model.condition(turned)
    assert torch.allclose(one.coarse, other.coarse, atol=1e-5)


def test_a_place_kept_free_in_a_batch_changes_nothing(model: FlowReconstructor) -> None:
    alone = batch_of(pose(0.0))
    padded = batch_of(pose(0.0), pose(90.0))
    filled = padded._replace(
        integrals=torch.cat([alone.integrals, padded.integrals[:, 1:]], dim=1),
        known=torch.tensor([[1.0, 0.0]]),
    )
    assert torch.allclose(model.condition(alone).coarse, model.condition(filled).coarse, atol=1e-5)
    both = filled._replace(known=torch.ones(1, 2))
    assert not torch.allclose(model.condition(alone).coarse, model.condition(both).coarse)


def test_the_pose_reaches_the_volume(model: FlowReconstructor) -> None:
    frontal, oblique = batch_of(pose(0.0)), batch_of(pose(20.0))
    assert not torch.allclose(model.condition(frontal).coarse, model.condition(oblique).coarse)


def test_what_lies_outside_the_picture_is_not_read(model: FlowReconstructor) -> None:
    views = batch_of(pose(0.0))
    valid = views.valid.clone()
    valid[..., :12] = 0
    changed = views.integrals.clone()
    changed[..., :12] += 3
    one = model.condition(views._replace(valid=valid))
    other = model.condition(views._replace(valid=valid, integrals=changed))
    assert torch.equal(one.coarse, other.coarse)


def test_decoding_undoes_encoding(model: FlowReconstructor) -> None:
    condition = model.condition(batch_of(pose(0.0), pose(90.0)))
    volume = torch.rand(1, 1, *SHAPE, generator=torch.Generator().manual_seed(1)) - 0.5
    residual = model.encode(volume, condition)
    assert residual.shape == (1, *model.latent_shape)
    assert residual.abs().max() < 6  # nothing was clipped
    assert torch.allclose(model.decode(residual, condition), volume, atol=1e-5)
    assert torch.allclose(model.decode(residual, condition, tile=4), volume, atol=1e-5)


def test_no_residual_is_the_coarse_volume(model: FlowReconstructor) -> None:
    condition = model.condition(batch_of(pose(0.0)))
    nothing = torch.zeros(1, *model.latent_shape)
    assert condition.coarse is not None
    assert torch.allclose(model.decode(nothing, condition), condition.coarse)


def test_a_flow_of_averages_draws_them_smoothly_and_leaves_the_rest_to_the_coarse_stage() -> None:
    model = small_model(levels=2, drawn_levels=1)
    assert model.latent_shape == (8, 4, 4, 4)
    condition = model.condition(batch_of(pose(0.0)))
    assert condition.coarse is not None
    wave = torch.linspace(-1, 1, SHAPE[2]).expand(1, 1, *SHAPE) * 0.1
    truth = model.codec.decode(condition.coarse_latent) + wave
    residual = model.encode(truth, condition)
    assert residual.shape == (1, *model.latent_shape)
    added = model.decode(residual, condition) - condition.coarse
    unclipped = condition.coarse.abs() < 0.85
    inner = torch.zeros_like(unclipped)
    inner[..., 1:-1] = True  # beyond the outermost blocks' centres there is nothing to go by
    kept = unclipped & inner
    assert kept.float().mean() > 0.5
    assert torch.allclose(added[kept], wave[kept], atol=1e-3)  # a ramp comes back without steps


@pytest.mark.parametrize("drawn_levels", [0, 1])
def test_levels_that_the_codec_does_not_have_cannot_be_drawn(drawn_levels: int) -> None:
    with pytest.raises(InvalidInputError, match="draw"):
        small_model(levels=1, drawn_levels=drawn_levels)


def test_guidance_goes_from_the_unconditional_through_the_conditional(
    model: FlowReconstructor,
) -> None:
    condition = model.condition(batch_of(pose(0.0))).repeat(2)
    x = torch.randn(2, *model.latent_shape, generator=torch.Generator().manual_seed(2))
    time = torch.tensor([0.7, 0.2])
    none, full, more = (model.predict(x, time, condition, g) for g in (0.0, 1.0, 2.5))
    assert not torch.allclose(none, full)
    assert torch.allclose(more, none + 2.5 * (full - none), atol=1e-4)


def test_without_a_network_the_velocity_is_the_best_linear_one() -> None:
    class Silent(torch.nn.Module):
        def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
            return x.new_zeros(len(x), 2, *x.shape[2:])

    stage = FlowStage(Silent())
    generator = torch.Generator().manual_seed(3)
    data, noise = torch.randn(2, 1, 2, 24, 24, 24, generator=generator)
    shown = torch.ones(1)
    for t in (0.1, 0.5, 0.9):
        x, target = (1 - t) * data + t * noise, data - noise
        slope = float((x * target).mean() / x.square().mean())  # least squares
        velocity = stage(x, torch.tensor([t]), x[:, :1], x, shown)
        assert float((velocity / x).median()) == pytest.approx(slope, abs=0.03)


def test_a_description_without_a_codec_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="codec"):
        FlowReconstructor(
            codec=torch.nn.Identity(),  # type: ignore[arg-type]
            volume_shape=SHAPE, spacing_mm=SPACING, detector_shape=DETECTOR,
            hu_window=(-1000, 1000), lift={"features": 8}, coarse={}, flow={},
        )  # fmt: skip
