"""How the benchmark drives other people's projectors, each in its own conventions.

Every peer takes the same attenuation (1/mm, float32 [I, P, L]), the same grid and the same
view, and returns dimensionless line integrals in our image orientation. What happens
before the timed call is what the library lets one do once: reading, moving, reordering.
"""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.imaging import Grid, XrayView

__all__ = ["PEERS", "Peer", "processor_seconds"]

Image = npt.NDArray[np.float32]

_DIFFDRR_SAMPLES = 1 << 23  # per patch: its Siddon holds some 60 bytes for each


def processor_seconds() -> float:
    """Processor time of this process, its threads and its finished children."""
    mine = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return mine.ru_utime + children.ru_utime


class Peer(ABC):
    """A projector to compare with.

    Attributes
    ----------
    name, package, module : str
        What the table calls it; its distribution; what must be importable.
    repeats : int
        How often to time it at most.
    """

    name: str
    package: str
    module: str
    repeats: int = 15

    @property
    def missing(self) -> str:
        """Why it cannot run here; empty if it can."""
        return "" if find_spec(self.module) else f"{self.package} is not installed"

    @property
    def version(self) -> str:
        """The installed distribution and its version."""
        try:
            return f"{self.package} {version(self.package)}"
        except PackageNotFoundError:
            return self.package

    def load(self, mu: Image, grid: Grid, threads: int) -> None:
        """Take over a volume."""
        self.mu, self.grid, self.threads = mu, grid, threads

    @abstractmethod
    def project(self, view: XrayView) -> Image:
        """Line integrals of one view, float32 [rows, cols]."""

    def timed(self, view: XrayView) -> tuple[float, float, Image]:
        """Seconds on the clock and of processor time for one view, and the image."""
        start, used = time.perf_counter(), processor_seconds()
        image = self.project(view)
        return time.perf_counter() - start, processor_seconds() - used, image


class DiffDrr(Peer):
    """DiffDRR called directly, in row patches that fit the memory."""

    package, module = "diffdrr", "diffdrr"

    def __init__(self, renderer: str) -> None:
        self.renderer = renderer
        self.name = f"DiffDRR {renderer}"

    def load(self, mu: Image, grid: Grid, threads: int) -> None:
        import torch

        super().load(mu, grid, threads)
        torch.set_num_threads(threads)
        self.density = torch.from_numpy(mu).permute(2, 1, 0).contiguous()

    def project(self, view: XrayView) -> Image:
        import torch
        from diffdrr.drr import DRR
        from diffdrr.pose import RigidTransform
        from torchio import ScalarImage, Subject

        from napari_cxr3d.xray.torch_camera import camera_matrix, voxel_to_world

        affine = voxel_to_world(self.grid)
        empty = ScalarImage(tensor=torch.zeros(1, 1, 1, 1), affine=affine)
        subject = Subject(volume=empty, density=empty, mask=None, reorient=torch.eye(4))
        rows, cols = view.detector_shape
        drr = DRR(
            subject,
            sdd=view.source_to_detector_mm,
            height=rows,
            delx=view.pixel_mm,
            width=cols,
            reverse_x_axis=False,
            renderer=self.renderer,
        )
        drr.density = self.density
        # Its camera's rows grow upward, ours downward.
        pose = camera_matrix(view, self.grid) @ np.diag([1.0, -1.0, 1.0, 1.0])
        source, targets = drr.detector(RigidTransform(torch.tensor(pose[None]).float()), None)
        samples = sum(self.grid.shape) + 3 if self.renderer == "siddon" else 500
        patch = max(1, _DIFFDRR_SAMPLES // samples)
        settings = {} if self.renderer == "siddon" else {"n_points": 500}
        with torch.no_grad():
            parts = [
                drr.render(drr.density, source, targets[:, n : n + patch], **settings)
                for n in range(0, targets.shape[1], patch)
            ]
        return torch.cat(parts, dim=-1).reshape(rows, cols).numpy()


class NanoDrr(Peer):
    """nanodrr's torch path, the one it has on a CPU, with one sample a voxel edge."""

    name, package, module = "nanodrr (CPU)", "nanodrr", "nanodrr"

    def load(self, mu: Image, grid: Grid, threads: int) -> None:
        import torch

        from napari_cxr3d.xray.nanodrr_backend import NanodrrProjector

        super().load(mu, grid, threads)
        torch.set_num_threads(threads)
        self.projector = NanodrrProjector("full", device="cpu")

    def project(self, view: XrayView) -> Image:
        return self.projector.project_attenuation(self.mu, self.grid, [view])[0]


class Plastimatch(Peer):
    """plastimatch drr, a program: the volume's reading is taken out of its time.

    Seconds per view are those of five views, 7 degrees apart, less those of one, over four:
    the fastest of three runs each, so the difference itself is not to be repeated and picked.
    """

    repeats = 1
    name, package, module = "plastimatch exact", "plastimatch", "plastimatch"

    @property
    def missing(self) -> str:
        return "" if which("plastimatch") else "plastimatch is not installed"

    def load(self, mu: Image, grid: Grid, threads: int) -> None:
        import SimpleITK as sitk

        super().load(mu, grid, threads)
        self.folder = tempfile.TemporaryDirectory()
        image = sitk.GetImageFromArray(np.ascontiguousarray(mu[::-1]))
        i, p, ell = grid.spacing_mm
        x, y, z = grid.origin_lps
        image.SetSpacing((ell, p, i))
        image.SetOrigin((x, y, z - (grid.shape[0] - 1) * i))
        sitk.WriteImage(image, str(Path(self.folder.name) / "volume.mha"))

    def _run(self, view: XrayView, angles: list[str]) -> tuple[float, float]:
        rows, cols = view.detector_shape
        command = ["plastimatch", "drr", "-P", "none", "-i", "exact", "-t", "pfm", *angles]
        command += ["--sad", str(view.source_to_isocenter_mm)]
        command += ["--sid", str(view.source_to_detector_mm), "-r", f"{rows} {cols}"]
        command += ["-z", f"{rows * view.pixel_mm} {cols * view.pixel_mm}"]
        command += ["-o", " ".join(map(str, view.isocenter_lps or self.grid.center_lps))]
        command += ["-O", str(Path(self.folder.name) / "drr_")]
        command += [str(Path(self.folder.name) / "volume.mha")]
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads)}
        start, used = time.perf_counter(), processor_seconds()
        subprocess.run(command, check=True, capture_output=True, env=environment)
        return time.perf_counter() - start, processor_seconds() - used

    def project(self, view: XrayView) -> Image:
        down, _ = view.image_axes
        normal = " ".join(map(str, view.toward_source))
        self._run(view, ["-n", normal, "--vup", " ".join(map(str, -down))])
        content = (Path(self.folder.name) / "drr_0000.pfm").read_bytes()
        _, _, _, pixels = content.split(b"\n", 3)
        # Its integrals are in cm, its columns run the other way.
        image = np.frombuffer(pixels, "<f4").reshape(view.detector_shape)[:, ::-1] * 10
        return np.ascontiguousarray(image)

    def timed(self, view: XrayView) -> tuple[float, float, Image]:
        image = self.project(view)
        fastest = {}
        for views in ("1", "5"):
            runs = [self._run(view, ["-y", "20", "-N", "7", "-a", views]) for _ in range(3)]
            fastest[views] = [min(seconds) for seconds in zip(*runs, strict=True)]
        seconds, processor = np.subtract(fastest["5"], fastest["1"]) / 4
        return float(seconds), float(processor), image


class ItkRayCast(Peer):
    """ITK's ray cast interpolator under a resampling filter."""

    name, package, module = "ITK ray cast", "itk", "itk"

    def load(self, mu: Image, grid: Grid, threads: int) -> None:
        import itk

        super().load(mu, grid, threads)
        itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(threads)
        i, p, ell = grid.spacing_mm
        x, y, z = grid.origin_lps
        self.volume = itk.image_from_array(np.ascontiguousarray(mu[::-1]))
        self.volume.SetSpacing([ell, p, i])
        self.volume.SetOrigin([x, y, z - (grid.shape[0] - 1) * i])

    def project(self, view: XrayView) -> Image:
        import itk

        frame = view.frame(self.grid)
        rows, cols = view.image_axes
        kind = itk.Image[itk.F, 3]
        identity = itk.TranslationTransform[itk.D, 3].New()
        identity.SetIdentity()
        caster = itk.RayCastInterpolateImageFunction[kind, itk.D].New()
        caster.SetFocalPoint(frame.source.tolist())
        caster.SetThreshold(0.0)
        caster.SetTransform(identity)
        resample = itk.ResampleImageFilter[kind, kind].New()
        resample.SetInput(self.volume)
        resample.SetInterpolator(caster)
        resample.SetTransform(identity)
        resample.SetSize([*view.detector_shape[::-1], 1])
        resample.SetOutputSpacing([view.pixel_mm, view.pixel_mm, 1.0])
        resample.SetOutputOrigin(frame.origin.tolist())
        axes = np.stack([cols, rows, np.cross(cols, rows)], axis=1)
        resample.SetOutputDirection(itk.matrix_from_array(axes))
        resample.Update()
        return np.array(itk.array_from_image(resample.GetOutput())[0])


class RtkJoseph(Peer):
    """RTK's Joseph forward projector. RTK's axes are x = L, y = I, z = P."""

    name, package, module = "RTK Joseph", "itk-rtk", "itk"

    @property
    def missing(self) -> str:
        try:
            version(self.package)
        except PackageNotFoundError:
            return f"{self.package} is not installed"
        return ""

    def load(self, mu: Image, grid: Grid, threads: int) -> None:
        import itk

        super().load(mu, grid, threads)
        itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(threads)
        i, p, ell = grid.spacing_mm
        size = [ell * (grid.shape[2] - 1), i * (grid.shape[0] - 1), p * (grid.shape[1] - 1)]
        self.volume = itk.image_from_array(np.ascontiguousarray(mu.transpose(1, 0, 2)))
        self.volume.SetSpacing([ell, i, p])
        self.volume.SetOrigin([-s / 2 for s in size])

    def project(self, view: XrayView) -> Image:
        import itk
        from itk import RTK

        rows, cols = view.detector_shape
        geometry: Any = RTK.ThreeDCircularProjectionGeometry.New()
        geometry.AddProjection(
            view.source_to_isocenter_mm, view.source_to_detector_mm, -view.yaw, 0, 0, view.pitch
        )
        stack = itk.image_from_array(np.zeros((1, rows, cols), dtype=np.float32))
        stack.SetSpacing([view.pixel_mm, view.pixel_mm, 1.0])
        stack.SetOrigin([-(cols - 1) / 2 * view.pixel_mm, -(rows - 1) / 2 * view.pixel_mm, 0.0])
        kind = itk.Image[itk.F, 3]
        joseph = RTK.JosephForwardProjectionImageFilter[kind, kind].New()
        joseph.SetInput(0, stack)
        joseph.SetInput(1, self.volume)
        joseph.SetGeometry(geometry)
        joseph.Update()
        return np.array(itk.array_from_image(joseph.GetOutput())[0])


PEERS: tuple[Peer, ...] = (
    DiffDrr("siddon"),
    DiffDrr("trilinear"),
    NanoDrr(),
    Plastimatch(),
    ItkRayCast(),
    RtkJoseph(),
)
"""In the order of the table; the first is what speed ratios are taken against."""
