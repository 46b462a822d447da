"""What a projector is, and the choice among the backends."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from ctypes.util import find_library
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Protocol, cast, get_args, runtime_checkable

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import BackendUnavailableError, InvalidInputError
from napari_cxr3d.imaging import Grid, Volume, XrayView
from napari_cxr3d.progress import CancelToken, ProgressCallback, part_of
from napari_cxr3d.xray.attenuation import DEFAULT_ENERGY_KEV, hu_to_basis

__all__ = [
    "BasisProjector",
    "Projector",
    "Quality",
    "available_backends",
    "project_basis",
    "projector",
]

Quality = Literal["full", "exact", "preview"]
FloatImages = npt.NDArray[np.float32]


@runtime_checkable
class Projector(Protocol):
    """Cone-beam projection of a volume onto flat detectors, and its adjoint.

    All views of one call share one detector shape.

    Attributes
    ----------
    name : str
        The backend: ``"cpu"``, ``"nanodrr"`` or ``"diffdrr"``.
    quality : {"full", "exact", "preview"}
        ``full`` is the fastest way whose error stays within 1.3 times that of exact
        Siddon, ``exact`` is Siddon's method, ``preview`` is for a dragging hand.
    energy_kev : float
        Photon energy at which HU are turned into attenuation.
    """

    name: str
    quality: Quality
    energy_kev: float

    def project(
        self,
        volume: Volume,
        views: Sequence[XrayView],
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> FloatImages:
        """Line integrals of the attenuation at `energy_kev`, float32 [views, rows, cols].

        Dimensionless: the integral of the attenuation coefficient (1/mm) over mm, from
        the source to the pixel's centre.
        """
        ...

    def project_attenuation(
        self,
        mu: npt.NDArray[np.float32],
        grid: Grid,
        views: Sequence[XrayView],
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> FloatImages:
        """The linear operator itself: `mu` is float32 [I, P, L] in 1/mm on `grid`."""
        ...

    def backproject(
        self,
        images: FloatImages,
        views: Sequence[XrayView],
        like: Volume | Grid,
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> npt.NDArray[np.float32]:
        """The exact adjoint of `project_attenuation`: float32 [I, P, L], in mm."""
        ...

    def prepare(self, volume: Volume, views: Sequence[XrayView] = ()) -> None:
        """Do ahead of time what the first `project` would wait for."""
        ...


@runtime_checkable
class BasisProjector(Projector, Protocol):
    """A projector that reads both basis materials from one copy of the volume."""

    def project_basis(
        self,
        volume: Volume,
        views: Sequence[XrayView],
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> tuple[FloatImages, FloatImages]:
        """Path lengths through water and bone; see the function `project_basis`."""
        ...


def project_basis(
    engine: Projector,
    volume: Volume,
    views: Sequence[XrayView],
    *,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> tuple[FloatImages, FloatImages]:
    """Path lengths through water and bone, from which every tube voltage is read.

    Parameters
    ----------
    engine : Projector
        Any projector; one without basis projections of its own runs twice.
    volume : Volume
        The CT.
    views : sequence of XrayView
        Views that share one detector shape.
    progress, cancel : optional
        As for `Projector.project`.

    Returns
    -------
    water, bone : ndarray of float32, shape (views, rows, cols)
        Millimetres of water and of cortical bone at full density.
    """
    if isinstance(engine, BasisProjector):
        return engine.project_basis(volume, views, progress=progress, cancel=cancel)
    water, bone = (
        engine.project_attenuation(
            fraction,
            volume.grid,
            views,
            progress=part_of(progress, k / 2, (k + 1) / 2),
            cancel=cancel,
        )
        for k, fraction in enumerate(hu_to_basis(volume.hu))
    )
    return water, bone


def _requirements(name: str) -> tuple[str, ...]:
    """The modules that a backend imports."""
    return {"cpu": ("numba",), "nanodrr": ("nanodrr", "torch"), "diffdrr": ("diffdrr", "torch")}[
        name
    ]


BACKENDS = ("cpu", "nanodrr", "diffdrr")


def available_backends() -> dict[str, str]:
    """The backends by name, each with why it cannot be used here.

    Returns
    -------
    dict of str to str
        Empty string when the backend can be used; else one sentence that says what is
        missing and what to type. Nothing heavy is imported to find out.
    """
    report = {}
    for name in BACKENDS:
        missing = [module for module in _requirements(name) if find_spec(module) is None]
        report[name] = (
            f"{' and '.join(missing)} not installed: type pip install {' '.join(missing)}"
            if missing
            else ""
        )
    return report


def _has_accelerator() -> bool:
    """Whether nanodrr has fused kernels for a GPU in this machine.

    torch is imported only when a GPU driver is in sight, so that a laptop without one
    does not wait for it.
    """
    system = platform.system()
    if system == "Darwin":
        driver = platform.machine() == "arm64"
    elif system == "Windows":
        driver = find_library("nvcuda") is not None
    else:
        driver = any(Path(p).exists() for p in ("/dev/nvidiactl", "/dev/dxg"))
    if not driver:
        return False
    import torch

    return bool(torch.cuda.is_available() or torch.backends.mps.is_available())


def projector(
    name: str = "auto",
    quality: str = "full",
    *,
    energy_kev: float = DEFAULT_ENERGY_KEV,
    device: str | None = None,
) -> Projector:
    """A projector by name.

    Parameters
    ----------
    name : {"auto", "cpu", "nanodrr", "diffdrr"}
        ``auto`` is nanodrr where it has a GPU with fused kernels, else cpu.
    quality : {"full", "exact", "preview"}
        See `Projector`.
    energy_kev : float
        Photon energy of the attenuation.
    device : str, optional
        torch device for the torch backends, for example ``"cuda:0"``.

    Raises
    ------
    InvalidInputError
        If there is no such backend or quality.
    BackendUnavailableError
        If the backend's libraries are not installed.
    """
    if name not in (*BACKENDS, "auto"):
        raise InvalidInputError(
            f"There is no projector called {name!r}",
            remedy=f"choose one of auto, {', '.join(BACKENDS)}",
        )
    if quality not in get_args(Quality):
        raise InvalidInputError(
            f"There is no projection quality called {quality!r}",
            remedy=f"choose one of {', '.join(get_args(Quality))}",
        )
    reasons = available_backends()
    if name == "auto":
        name = "nanodrr" if not reasons["nanodrr"] and _has_accelerator() else "cpu"
    if reasons[name]:
        raise BackendUnavailableError(
            f"The {name} projector cannot be used here", why=reasons[name]
        )
    grade = cast(Quality, quality)
    if name == "cpu":
        from napari_cxr3d.xray.cpu import CpuProjector

        return CpuProjector(grade, energy_kev=energy_kev)
    if name == "nanodrr":
        from napari_cxr3d.xray.nanodrr_backend import NanodrrProjector

        return NanodrrProjector(grade, energy_kev=energy_kev, device=device)
    from napari_cxr3d.xray.diffdrr_backend import DiffdrrProjector

    return DiffdrrProjector(grade, energy_kev=energy_kev, device=device)
