"""The nanodrr renderer: fused kernels on CUDA (Triton) and Apple GPUs (Metal), torch elsewhere.

nanodrr marches each ray through the trilinearly interpolated volume with samples at the
midpoints of equal steps; since 0.1.7 the samples are spread over the part of the ray that
lies inside the volume. It gets our attenuation volume: its own conversion from HU makes bone
1.5 to 2 times too dense (it takes 0.0573/mm, cortical bone at 60 keV by NIST XCOM, to be
reached at 1000 HU).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from subprocess import CalledProcessError
from typing import TYPE_CHECKING

import numpy as np

from napari_cxr3d.device import resolve_device
from napari_cxr3d.imaging import Grid, Volume, XrayView
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
    longest_chord,
    memory_errors,
    report,
    require,
    to_tensor,
    voxel_to_world,
)

if TYPE_CHECKING:
    import torch
    from nanodrr.data import Subject
    from nanodrr.drr import DRR

__all__ = ["NanodrrProjector", "rendering_kernel"]

_STEP_VOXELS = {"preview": 2.0, "full": 1.0, "exact": 0.5}  # of the smallest voxel edge
_FUSED_RAYS = 1 << 22  # rays a call on a GPU: 16 views of 512 x 512, 80 MB of ray geometry
_TORCH_SAMPLES = 1 << 23  # samples a call of the torch kernel, which holds about 30 B for each


@lru_cache(maxsize=8)
def rendering_kernel(device: str) -> tuple[str, str]:
    """The kernel that nanodrr uses on a device, tried out once.

    nanodrr falls back to its torch path without a word where Triton is absent (it does not
    come with torch on Windows) or cannot compile.

    Parameters
    ----------
    device : str
        A torch device: ``"cpu"``, ``"cuda:0"``, ``"mps"``.

    Returns
    -------
    kernel : str
        ``"triton"``, ``"metal"`` or ``"torch"``.
    note : str
        One sentence on why it is the slow torch path; empty for the other two.
    """
    import torch
    from nanodrr.drr.backends import DEVICE_BACKENDS

    fused = DEVICE_BACKENDS.get(torch.device(device).type)
    if fused is None:
        return "torch", "nanodrr has fused kernels for CUDA and Apple GPUs only"
    unit = Grid((4, 4, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    view = XrayView(detector_shape=(1, 1), source_to_isocenter_mm=10, source_to_detector_mm=20)
    try:
        subject = _subject(torch.ones(unit.shape, device=device), unit)
        camera = torch.tensor(camera_matrix(view, unit), dtype=torch.float32, device=device)
        image = _detector(view.detector_shape, 1.0, 20.0, device)(
            subject, camera[None], 8, backend=fused
        )
        image.cpu()
    except (ImportError, RuntimeError, OSError, CalledProcessError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        return "torch", (
            f"nanodrr's {fused} kernel does not run on {device} ({reason}), so it uses its "
            f"torch path, about ten times slower: {_REMEDIES[fused]}"
        )
    return str(fused), ""


_REMEDIES = {
    "triton": "type pip install triton (on Windows: pip install triton-windows); it needs a "
    "C compiler",
    "metal": "type pip install --upgrade torch (2.13 or newer)",
}


class NanodrrProjector:
    """Trilinear ray marching by nanodrr (see `Projector`).

    A ray takes one sample per smallest voxel edge along the volume's diagonal (``full``),
    two (``exact``) or half a sample (``preview``). There is no Siddon in nanodrr: ``exact``
    here is the finest quadrature of the trilinear volume.

    Parameters
    ----------
    quality : {"full", "exact", "preview"}
        Density of the samples.
    energy_kev : float
        Photon energy at which HU are turned into attenuation.
    device : str, optional
        torch device; the best one here by default.

    Attributes
    ----------
    kernel : str
        ``"triton"``, ``"metal"`` or ``"torch"``, whichever runs.
    kernel_note : str
        Why it is the slow torch path; empty for the fused kernels.

    Raises
    ------
    BackendUnavailableError
        If nanodrr or the device is not available.
    """

    name = "nanodrr"

    def __init__(
        self,
        quality: Quality = "full",
        *,
        energy_kev: float = DEFAULT_ENERGY_KEV,
        device: str | None = None,
    ) -> None:
        self.device = resolve_device(device)
        require("nanodrr.drr", "nanodrr")
        self.quality: Quality = quality
        self.energy_kev = energy_kev
        self.kernel, self.kernel_note = rendering_kernel(self.device)
        self._subject_of = PerVolume(self._attenuating_subject)

    def samples(self, grid: Grid) -> int:
        """Samples per ray for volumes on this grid."""
        step = _STEP_VOXELS[self.quality] * min(grid.spacing_mm)
        return max(2, math.ceil(longest_chord(grid) / step))

    def prepare(self, volume: Volume, views: Sequence[XrayView] = ()) -> None:
        """Move the volume's attenuation to the device, and compile the kernel for it."""
        self._subject_of(volume)
        if views and self.kernel != "torch":
            self.project(volume, views[:1])

    def project(
        self,
        volume: Volume,
        views: Sequence[XrayView],
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> FloatImages:
        """Line integrals of the attenuation at `energy_kev`, float32 [views, rows, cols].

        The volume stays on the device for the next call, until it or the projector dies.
        """
        check_views(views)
        return self._project(self._subject_of(volume), volume.grid, views, progress, cancel)

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
        with memory_errors(self.device):
            subject = _subject(to_tensor(mu, self.device), grid)
        return self._project(subject, grid, views, progress, cancel)

    def backproject(
        self,
        images: FloatImages,
        views: Sequence[XrayView],
        like: Volume | Grid,
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> FloatImages:
        """The adjoint of `project_attenuation` by nanodrr's own gradient: [I, P, L], in mm."""
        import torch

        check_images(images, views)
        grid = like if isinstance(like, Grid) else like.grid
        with torch.enable_grad(), memory_errors(self.device):
            mu = torch.zeros(grid.shape, device=self.device, requires_grad=True)
            total = torch.zeros(grid.shape, device=self.device)
            subject = _subject(mu, grid)
            done = 0
            for batch in self._batches(views):
                batch_images = to_tensor(images[done : done + len(batch)], self.device)
                projected = self._render(
                    subject, self._cameras(batch, grid), batch[0], grid, cancel
                )
                total += torch.autograd.grad(projected, mu, batch_images)[0]
                done += len(batch)
                report(progress, done, len(views), "backprojecting")
            return total.cpu().numpy()

    def project_tensor(
        self, mu: torch.Tensor, grid: Grid, views: Sequence[XrayView]
    ) -> torch.Tensor:
        """The linear operator on a tensor [I, P, L] of this device, differentiable in `mu`."""
        import torch

        check_views(views)
        check_attenuation(tuple(mu.shape), grid)
        subject = _subject(mu.contiguous(), grid)
        images = [
            self._render(subject, self._cameras(batch, grid), batch[0], grid)
            for batch in self._batches(views)
        ]
        return torch.cat(images)

    def project_pose(self, pose: torch.Tensor, volume: Volume, view: XrayView) -> torch.Tensor:
        """Line integrals at given poses, differentiable in them.

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

        grid = volume.grid
        cameras = camera_from_pose(pose.to("cpu", torch.float64), view, grid)
        cameras = cameras.to(torch.float32).to(self.device)
        subject = self._subject_of(volume)
        size = self._batch_size(view)
        images = [
            self._render(subject, cameras[start : start + size], view, grid)
            for start in range(0, len(cameras), size)
        ]
        return torch.cat(images)

    def _attenuating_subject(self, volume: Volume) -> Subject:
        mu = hu_to_attenuation(volume.hu, self.energy_kev)
        with memory_errors(self.device):
            return _subject(to_tensor(mu, self.device), volume.grid)

    def _project(
        self,
        subject: Subject,
        grid: Grid,
        views: Sequence[XrayView],
        progress: ProgressCallback | None,
        cancel: CancelToken | None,
    ) -> FloatImages:
        import torch

        images: list[FloatImages] = []
        done = 0
        with torch.no_grad(), memory_errors(self.device):
            for batch in self._batches(views):
                cameras = self._cameras(batch, grid)
                rendered = self._render(subject, cameras, batch[0], grid, cancel)
                images.append(rendered.cpu().numpy())
                done += len(batch)
                report(progress, done, len(views), "projecting")
        return images[0] if len(images) == 1 else np.concatenate(images)

    def _batch_size(self, view: XrayView) -> int:
        """Views a call: one for the torch kernel, which splits even that one."""
        rows, cols = view.detector_shape
        return 1 if self.kernel == "torch" else max(1, _FUSED_RAYS // (rows * cols))

    def _batches(self, views: Sequence[XrayView]) -> Iterator[list[XrayView]]:
        """Consecutive views with one detector, at most `_batch_size` at a time."""
        for _, run in groupby(views, key=lambda v: (v.pixel_mm, v.source_to_detector_mm)):
            same = list(run)
            size = self._batch_size(same[0])
            for start in range(0, len(same), size):
                yield same[start : start + size]

    def _cameras(self, views: Sequence[XrayView], grid: Grid) -> torch.Tensor:
        matrices = np.stack([camera_matrix(view, grid) for view in views])
        return to_tensor(matrices, self.device)

    def _render(
        self,
        subject: Subject,
        cameras: torch.Tensor,
        view: XrayView,
        grid: Grid,
        cancel: CancelToken | None = None,
    ) -> torch.Tensor:
        """Line integrals [B, rows, cols] of `cameras` [B, 4, 4] that share the view's detector."""
        import torch
        from nanodrr.drr import render
        from torch.utils.checkpoint import checkpoint

        if cancel is not None:
            cancel.raise_if_cancelled()
        samples = self.samples(grid)
        detector = _detector(
            view.detector_shape, view.pixel_mm, view.source_to_detector_mm, self.device
        )
        if self.kernel != "torch":
            images: torch.Tensor = detector(subject, cameras, samples)
            return images[:, 0]

        def march(camera: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            part: torch.Tensor = render(
                subject, detector.k_inv, camera, detector.sdd, 1, targets.shape[1], samples,
                src=detector.src, tgt=targets, backend="torch",
            )  # fmt: skip
            return part[:, 0, 0]

        parts = []
        size = max(1, _TORCH_SAMPLES // samples)
        for start in range(0, detector.tgt.shape[1], size):
            if cancel is not None:
                cancel.raise_if_cancelled()
            targets = detector.tgt[:, start : start + size]
            if torch.is_grad_enabled():  # keep one block's samples at a time, not all of them
                parts.append(checkpoint(march, cameras, targets, use_reentrant=False))
            else:
                parts.append(march(cameras, targets))
        return torch.cat(parts, dim=1).reshape(len(cameras), *view.detector_shape)


def _subject(mu: torch.Tensor, grid: Grid) -> Subject:
    """The volume of nanodrr: our attenuation, taken as it stands, in our world."""
    import torch
    from nanodrr.data import Subject

    index_to_world = voxel_to_world(grid)
    sizes = np.array(grid.shape[::-1], dtype=np.float64)
    to_unit_cube = np.diag([*(2.0 / sizes), 1.0])  # grid_sample's coordinates
    to_unit_cube[:3, 3] = 1.0 / sizes - 1.0
    matrices = [
        torch.tensor(matrix, dtype=torch.float32)
        for matrix in (index_to_world, np.linalg.inv(index_to_world), to_unit_cube)
    ]
    subject: Subject = Subject(
        mu[None, None],
        torch.zeros(1, 1, 1, 1, 1),  # no labels: one channel
        *matrices,
        isocenter=torch.zeros(3),
        max_label=0,
        convert_to_mu=False,
    ).to(mu.device)
    return subject


@lru_cache(maxsize=4)
def _detector(
    shape: tuple[int, int], pixel_mm: float, source_to_detector_mm: float, device: str
) -> DRR:
    """The camera of nanodrr, which holds the ray geometry on the device."""
    from nanodrr.drr import DRR

    rows, cols = shape
    return DRR.from_carm_intrinsics(
        source_to_detector_mm, pixel_mm, pixel_mm, 0.0, 0.0, rows, cols
    ).to(device)
