"""The DiffDRR renderer: our reference, and the published pipelines' own DRRs.

`DiffdrrProjector` gives DiffDRR (Gopalakrishnan and Golland, "Fast auto-differentiable
digitally reconstructed radiographs for solving inverse problems in intraoperative imaging",
CLIP 2022) our attenuation and our geometry. `published_drr` makes the picture that X-WIN and
X-ray2CTPA trained on: DiffDRR with its own conversion from HU, which sets everything below
-800 HU to air and scales each scan by its own maximum.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_cxr3d.device import resolve_device
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Grid, Volume, XrayView, preset
from napari_cxr3d.progress import CancelToken, ProgressCallback
from napari_cxr3d.xray.attenuation import DEFAULT_ENERGY_KEV, hu_to_attenuation
from napari_cxr3d.xray.projector import FloatImages, Quality
from napari_cxr3d.xray.torch_camera import (
    PerVolume,
    camera_from_pose,
    camera_matrix,
    check_attenuation,
    check_images,
    check_views,
    memory_errors,
    report,
    require,
    to_tensor,
    voxel_to_world,
)

if TYPE_CHECKING:
    import torch
    from diffdrr.drr import DRR
    from torchio import ScalarImage

__all__ = [
    "PUBLISHED_PIPELINES",
    "DiffdrrProjector",
    "published_density",
    "published_drr",
    "published_view",
]

Renderer = Literal["siddon", "trilinear"]

_STEP_VOXELS = {"preview": 2.0, "full": 1.0, "exact": 0.5}  # of the smallest voxel edge
_SAMPLES = 1 << 22  # samples a call; DiffDRR holds about 60 B for each


class DiffdrrProjector:
    """Siddon's method or trilinear ray marching by DiffDRR (see `Projector`).

    Parameters
    ----------
    quality : {"full", "exact", "preview"}
        ``exact`` is DiffDRR's Siddon; ``full`` and ``preview`` are its trilinear renderer
        with one sample a voxel edge and one every two.
    energy_kev : float
        Photon energy at which HU are turned into attenuation.
    device : str, optional
        torch device; the best one here by default.
    renderer : {"siddon", "trilinear"}, optional
        Overrides the renderer that `quality` stands for.

    Raises
    ------
    BackendUnavailableError
        If DiffDRR or the device is not available.
    """

    name = "diffdrr"

    def __init__(
        self,
        quality: Quality = "full",
        *,
        energy_kev: float = DEFAULT_ENERGY_KEV,
        device: str | None = None,
        renderer: Renderer | None = None,
    ) -> None:
        self.device = resolve_device(device)
        require("diffdrr.drr", "diffdrr")
        self.quality: Quality = quality
        self.energy_kev = energy_kev
        self.renderer: Renderer = renderer or ("siddon" if quality == "exact" else "trilinear")
        self._attenuation_of = PerVolume(self._attenuation)

    def prepare(self, volume: Volume, views: Sequence[XrayView] = ()) -> None:
        """Move the volume's attenuation to the device."""
        self._attenuation_of(volume)

    def project(
        self,
        volume: Volume,
        views: Sequence[XrayView],
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> FloatImages:
        """Line integrals of the attenuation at `energy_kev`, float32 [views, rows, cols]."""
        check_views(views)
        return self._project(self._attenuation_of(volume), volume.grid, views, progress, cancel)

    def project_attenuation(
        self,
        mu: FloatImages,
        grid: Grid,
        views: Sequence[XrayView],
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> FloatImages:
        """The linear operator itself: `mu` is float32 [I, P, L] in 1/mm on `grid`."""
        check_views(views)
        check_attenuation(mu.shape, grid)
        return self._project(to_tensor(mu, self.device), grid, views, progress, cancel)

    def backproject(
        self,
        images: FloatImages,
        views: Sequence[XrayView],
        like: Volume | Grid,
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> FloatImages:
        """The adjoint of `project_attenuation` by DiffDRR's own gradient: [I, P, L], in mm."""
        import torch

        check_images(images, views)
        grid = like if isinstance(like, Grid) else like.grid
        with torch.enable_grad(), memory_errors(self.device):
            mu = torch.zeros(grid.shape, device=self.device, requires_grad=True)
            total = torch.zeros(grid.shape, device=self.device)
            for done, (view, image) in enumerate(zip(views, images, strict=True), start=1):
                pixels = to_tensor(image.ravel(), self.device)
                start = 0
                for part in self._blocks(mu, grid, view, self._pose(view, grid), cancel):
                    stop = start + part.numel()
                    total += torch.autograd.grad(part, mu, pixels[None, start:stop])[0]
                    start = stop
                report(progress, done, len(views), "backprojecting")
            return total.cpu().numpy()

    def project_pose(self, pose: torch.Tensor, volume: Volume, view: XrayView) -> torch.Tensor:
        """Line integrals at given poses, differentiable in them.

        Siddon's gradient comes through the lengths of the path in each voxel, the trilinear
        renderer's through its samples.

        Parameters
        ----------
        pose : Tensor, shape (V, 6)
            Yaw, pitch, roll in degrees and the isocenter in LPS mm.
        volume : Volume
            The CT.
        view : XrayView
            Gives everything but the pose.

        Returns
        -------
        Tensor of float32, shape (V, rows, cols)
            On this projector's device.
        """
        import torch

        mu, grid = self._attenuation_of(volume), volume.grid
        cameras = camera_from_pose(pose.to("cpu", torch.float64), view, grid)
        mirror = torch.tensor(_to_diffdrr(view), dtype=cameras.dtype)
        poses = (cameras @ mirror).to(torch.float32).to(self.device)
        images = [
            torch.cat(list(self._blocks(mu, grid, view, matrix[None], None)), dim=1)
            for matrix in poses
        ]
        return torch.cat(images).reshape(len(pose), *view.detector_shape)

    def _attenuation(self, volume: Volume) -> torch.Tensor:
        with memory_errors(self.device):
            return to_tensor(hu_to_attenuation(volume.hu, self.energy_kev), self.device)

    def _project(
        self,
        mu: torch.Tensor,
        grid: Grid,
        views: Sequence[XrayView],
        progress: ProgressCallback | None,
        cancel: CancelToken | None,
    ) -> FloatImages:
        import torch

        shape = views[0].detector_shape
        images = np.empty((len(views), *shape), dtype=np.float32)
        with torch.no_grad(), memory_errors(self.device):
            for index, view in enumerate(views):
                blocks = self._blocks(mu, grid, view, self._pose(view, grid), cancel)
                images[index] = torch.cat(list(blocks), dim=1).reshape(shape).cpu().numpy()
                report(progress, index + 1, len(views), "projecting")
        return images

    def _pose(self, view: XrayView, grid: Grid) -> torch.Tensor:
        return to_tensor((camera_matrix(view, grid) @ _to_diffdrr(view))[None], self.device)

    def _blocks(
        self,
        mu: torch.Tensor,
        grid: Grid,
        view: XrayView,
        pose: torch.Tensor,
        cancel: CancelToken | None,
    ) -> Iterator[torch.Tensor]:
        """Line integrals [1, rays] of one view, block after block in row order."""
        from diffdrr.pose import RigidTransform
        from torch.utils.checkpoint import checkpoint

        drr = self._drr(mu, grid, view)
        source, targets = drr.detector(RigidTransform(pose), None)
        if self.renderer == "siddon":
            settings, samples = {}, sum(grid.shape) + 3
        else:
            settings = self._quadrature(grid, view, pose)
            samples = settings["n_points"]
        size = max(1, _SAMPLES // samples)
        for start in range(0, targets.shape[1], size):
            if cancel is not None:
                cancel.raise_if_cancelled()
            block = targets[:, start : start + size]
            if pose.requires_grad:  # keep one block's samples at a time, not all of them
                settings["use_reentrant"] = False
                yield checkpoint(drr.render, drr.density, source, block, **settings)[:, 0]
            else:
                yield drr.render(drr.density, source, block, **settings)[:, 0]

    def _quadrature(self, grid: Grid, view: XrayView, pose: torch.Tensor) -> dict[str, Any]:
        """Where DiffDRR's trilinear renderer takes its samples along each ray of a view.

        They span the depths that the interpolated box reaches, as parts of the way from the
        source to the detector, in the quality's step on the most oblique ray. DiffDRR's own
        span is that of the rays it is given at once, which would let the picture depend on
        how it is cut into blocks.
        """
        import torch

        half = (np.array(grid.size_mm) + grid.spacing_mm)[::-1] / 2
        corners = np.stack(np.meshgrid(*zip(-half, half, strict=True)), axis=-1).reshape(-1, 3)
        camera = pose[0].detach().cpu().double().numpy()
        depths = (corners - camera[:3, 3]) @ camera[:3, 2] / view.source_to_detector_mm
        first, last = np.clip([depths.min(), depths.max()], 0.0, 1.0)
        half_diagonal = math.hypot(*view.detector_shape) * view.pixel_mm / 2
        longest = math.hypot(half_diagonal, view.source_to_detector_mm)
        step = _STEP_VOXELS[self.quality] * min(grid.spacing_mm)
        points = max(2, math.ceil((last - first) * longest / step))
        inset = (last - first) / points / 2  # DiffDRR's rule then takes midpoints of equal parts
        return {
            "n_points": points,
            "alphamin": torch.tensor(first + inset, dtype=torch.float32, device=self.device),
            "alphamax": torch.tensor(last - inset, dtype=torch.float32, device=self.device),
        }

    def _drr(self, mu: torch.Tensor, grid: Grid, view: XrayView) -> DRR:
        """DiffDRR's module around our attenuation, in our world."""
        import torch
        from diffdrr.drr import DRR
        from torchio import ScalarImage, Subject

        from napari_cxr3d.xray.diffdrr_siddon import SegmentSiddon

        rows, cols = view.detector_shape
        placeholder = ScalarImage(tensor=torch.zeros(1, 1, 1, 1), affine=voxel_to_world(grid))
        subject = Subject(volume=placeholder, density=placeholder, mask=None, reorient=torch.eye(4))
        drr = DRR(
            subject,
            sdd=view.source_to_detector_mm,
            height=rows,
            delx=view.pixel_mm,
            width=cols,
            reverse_x_axis=view.flip_columns,
            renderer=self.renderer,
        ).to(self.device)
        drr.density = mu.permute(2, 1, 0)
        if self.renderer == "siddon":
            drr.renderer = SegmentSiddon()
        return drr


def _to_diffdrr(view: XrayView) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """From DiffDRR's camera to ours: it looks along z too, but its rows grow against y.

    Its columns grow along x, or against it where the x axis is reversed. That is how a view
    that flips its columns is given, so that the pose is a rotation in either case.
    """
    return np.diag([-1.0 if view.flip_columns else 1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class _Pipeline:
    """A published pipeline's DiffDRR settings."""

    sdd: float
    translation: tuple[float, float, float]
    normalise: bool


_FIELD_MM = 512.0  # both: 512 pixels of 1 mm

# X-WIN: arXiv 2511.14918, its released generation script. X-ray2CTPA: npj Digit. Med. 8:439
# (2025), its released generation script.
_PIPELINES: Mapping[str, _Pipeline] = MappingProxyType(
    {
        "x-win": _Pipeline(1020.0, (0.0, 700.0, 0.0), normalise=True),
        "x-ray2ctpa": _Pipeline(1200.0, (0.0, 850.0, 0.0), normalise=False),
    }
)

PUBLISHED_PIPELINES = tuple(_PIPELINES)


def _pipeline(name: str) -> _Pipeline:
    try:
        return _PIPELINES[name]
    except KeyError:
        raise InvalidInputError(
            f"There is no published pipeline called {name!r}",
            remedy=f"choose one of {', '.join(_PIPELINES)}",
        ) from None


def published_view(
    pipeline: str, *, yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0, size: int = 512
) -> XrayView:
    """The geometry of `published_drr` as a view: any projector can take it.

    DiffDRR's Euler angles are applied as ``Rz(yaw) Rx(pitch) Ry(roll)`` in RAS to a source in
    front of the patient, so its yaw counts from the AP view.

    Parameters
    ----------
    pipeline : {"x-win", "x-ray2ctpa"}
        The pipeline.
    yaw, pitch, roll : float
        The pipeline's own angles, here in degrees; 0 is the frontal AP.
    size : int
        Pixels a side; the field stays 512 mm.
    """
    _pipeline(pipeline)
    return replace(
        preset(pipeline),
        yaw=180.0 + yaw,
        pitch=pitch,
        roll=roll,
        detector_shape=(size, size),
        pixel_mm=_FIELD_MM / size,
    )


def published_density(volume: Volume) -> FloatImages:
    """DiffDRR's own density of a volume: dimensionless 0..1, float32 [I, P, L].

    All voxels up to -800 HU become air, and the scan is scaled by its own maximum: no
    attenuation coefficient, and not comparable between scans. Reading clips HU to
    [-1024, 3071], so metal above that does not dim the rest as it does in the originals.
    """
    import torch
    from diffdrr.data import transform_hu_to_density

    hu = torch.tensor(volume.hu, dtype=torch.float32)
    density: FloatImages = transform_hu_to_density(hu, 1.0).numpy()
    return density


def published_drr(
    pipeline: str,
    volume: Volume,
    *,
    yaw: float = 0.0,
    pitch: float = 0.0,
    roll: float = 0.0,
    size: int = 512,
) -> FloatImages:
    """A published pipeline's DRR, made by DiffDRR alone.

    Parameters
    ----------
    pipeline : {"x-win", "x-ray2ctpa"}
        X-WIN: source to detector 1020 mm, translation (0, 700, 0) mm, min-max per image.
        X-ray2CTPA: 1200 mm, (0, 850, 0) mm, not normalised. Both AP, Siddon, Euler angles in
        the convention ZXY, 512 x 512 pixels of 1 mm.
    volume : Volume
        The CT; its centre is the isocenter.
    yaw, pitch, roll : float
        The pipeline's angles, here in degrees.
    size : int
        Pixels a side; the field stays 512 mm.

    Returns
    -------
    ndarray of float32, shape (size, size)
        X-WIN: 0..1. X-ray2CTPA: mm of DiffDRR's relative density.

    Raises
    ------
    InvalidInputError
        If there is no such pipeline.
    BackendUnavailableError
        If DiffDRR is not installed.
    """
    settings = _pipeline(pipeline)
    require("diffdrr.drr", "diffdrr")
    import torch
    from diffdrr.data import read
    from diffdrr.drr import DRR

    subject = read(_ras_image(volume), orientation="AP")
    patch = math.isqrt(max(1, _SAMPLES // (sum(volume.shape) + 3)))
    drr = DRR(
        subject,
        sdd=settings.sdd,
        height=size,
        delx=_FIELD_MM / size,
        patch_size=patch if patch < size else None,
    )
    rotations = torch.deg2rad(torch.tensor([[yaw, pitch, roll]]))
    translations = torch.tensor([settings.translation])
    with torch.no_grad():
        drawn = drr(rotations, translations, parameterization="euler_angles", convention="ZXY")
    image: FloatImages = drawn[0, 0].numpy()
    if settings.normalise:
        image = (image - image.min()) / (image.max() - image.min())
    return image


def _ras_image(volume: Volume) -> ScalarImage:
    """The volume as torchio takes it: axes (l, p, i), affine to RAS."""
    import torch
    from torchio import ScalarImage

    to_lps = volume.grid.affine_lps[:, [2, 1, 0, 3]]
    hu = torch.tensor(volume.hu, dtype=torch.float32).permute(2, 1, 0)
    return ScalarImage(tensor=hu[None], affine=np.diag([-1.0, -1.0, 1.0, 1.0]) @ to_lps)
