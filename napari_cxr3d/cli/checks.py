"""What ``cxr3d doctor`` looks at. Each check returns findings and prints nothing."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from napari_cxr3d.cli.probes import run_probe

__all__ = ["SECTIONS", "Finding", "State"]

State = Literal["ok", "limited", "missing"]

# Distributions without which the command line does not work, and what each is for.
_BASE = {
    "numpy": "arrays",
    "scipy": "image filters",
    "numba": "the cpu projector",
    "SimpleITK": "NIfTI, NRRD and MHA files",
    "pydicom": "DICOM files",
    "pillow": "PNG, JPEG, TIFF and GIF files",
    "psutil": "memory limits",
    "platformdirs": "the settings and cache folders",
}
# Distributions that one part of the program needs.
_PARTS = {
    "napari": "the viewer",
    "magicgui": "the panels",
    "superqt": "the panels",
    "qtpy": "the panels",
    "torch": "GPU projectors and models",
    "monai": "models",
    "nanodrr": "the nanodrr projector",
    "diffdrr": "the diffdrr projector",
    "imageio": "MP4 recordings",
    "imageio-ffmpeg": "MP4 recordings",
}
_TORCH_BUILDS = {"CUDA": "cuda_build", "ROCm": "rocm_build"}
_LOW_MEMORY_GIB = 4.0  # a 512 x 512 x 400 CT and its working copies take about 2


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    name : str
        What was looked at.
    state : {"ok", "limited", "missing"}
        ``missing`` means that reading a CT and projecting it will not work; ``limited``
        that some part of the program will not, or will be slow.
    detail : str
        What was found.
    remedy : str
        What to type or do; empty when nothing needs mending.
    """

    name: str
    state: State
    detail: str
    remedy: str = ""


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def versions() -> Iterator[Finding]:
    """Python, this package and the libraries that it is built on."""
    from napari_cxr3d import __version__

    yield Finding("system", "ok", f"{platform.system()} {platform.release()}, {platform.machine()}")
    yield Finding("python", "ok", platform.python_version())
    yield Finding("napari-cxr3d", "ok", __version__)
    groups: tuple[tuple[dict[str, str], State], ...] = ((_BASE, "missing"), (_PARTS, "limited"))
    for purposes, absent in groups:
        for name, purpose in purposes.items():
            found = _installed(name)
            if found is None:
                detail = f"not installed; needed for {purpose}"
                yield Finding(name, absent, detail, f"python -m pip install {name}")
            else:
                yield Finding(name, "ok", found)


def torch_and_gpu() -> Iterator[Finding]:
    """The torch build and the devices it can use."""
    if _installed("torch") is None:
        yield Finding(
            "torch", "limited", "not installed: no GPU is used", "python -m pip install torch"
        )
        return
    probe = run_probe("napari_cxr3d.cli.probes", "torch")
    if probe.failure:
        yield Finding(
            "torch",
            "limited",
            f"it cannot be imported: {probe.failure}",
            "python -m pip install --force-reinstall torch",
        )
        return
    found = probe.values
    builds = [f"{name} {found[key]}" for name, key in _TORCH_BUILDS.items() if found[key]]
    build = " and ".join(builds) or "no GPU support"
    yield Finding("torch", "ok", f"{found['version']}, built with {build}")
    for device in found["devices"]:
        yield Finding("device", "ok", device)
    if not found["accelerated"]:
        yield Finding("GPU", "limited", "none that torch can use", _gpu_remedy(found["cuda_build"]))


def _gpu_remedy(cuda_build: str) -> str:
    if cuda_build:
        return "nothing to do without an NVIDIA GPU; with one, install its driver (nvidia-smi)"
    return "with an NVIDIA GPU, install a CUDA build of torch: https://pytorch.org/get-started"


def display() -> Iterator[Finding]:
    """The desktop, Qt and OpenGL: what the viewer needs and the command line does not."""
    no_screen = sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
    if no_screen and "QT_QPA_PLATFORM" not in os.environ:
        yield Finding(
            "display",
            "limited",
            "none: napari cannot open a window, the command line works",
            "log in to a desktop session, or type xvfb-run -a napari",
        )
        return
    probe = run_probe("napari_cxr3d.viewer.opengl_probe", timeout_s=60.0)
    if probe.failure:
        yield Finding("Qt", "limited", probe.failure, 'python -m pip install "napari-cxr3d[all]"')
        return
    found = probe.values
    yield Finding("Qt", "ok", f"{found['qt']} on {found['platform']}")
    if "renderer" not in found:
        yield Finding(
            "OpenGL",
            "limited",
            f"no context can be made on {found['platform']}",
            "install the graphics driver, or Mesa (apt-get install libgl1-mesa-dri)",
        )
        return
    detail = f"{found['renderer']}, {found['version']}, 3D up to {found['max_3d_texture']} voxels"
    if found["software"]:
        yield Finding(
            "OpenGL",
            "limited",
            f"{detail}; it draws on the CPU",
            "install the graphics driver of this computer",
        )
    else:
        yield Finding("OpenGL", "ok", detail)


def dicom_codecs() -> Iterator[Finding]:
    """The DICOM transfer syntaxes that can be decoded, and by which library."""
    probe = run_probe("napari_cxr3d.cli.probes", "codecs")
    if probe.failure:
        yield Finding("pydicom", "missing", probe.failure, "python -m pip install pydicom")
        return
    for name, decoders in probe.values.items():
        if decoders:
            yield Finding(name, "ok", ", ".join(decoders))
        else:
            yield Finding(
                name,
                "limited",
                "no decoder",
                "python -m pip install pylibjpeg pylibjpeg-openjpeg pylibjpeg-rle python-gdcm",
            )


def projectors() -> Iterator[Finding]:
    """The projector backends."""
    from napari_cxr3d.xray import available_backends

    for name, reason in available_backends().items():
        if not reason:
            yield Finding(name, "ok", "usable")
        else:
            yield Finding(name, "missing" if name == "cpu" else "limited", reason)


def computing() -> Iterator[Finding]:
    """Processors, memory, and whether compiled kernels are kept."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("threads", "ok", f"{cores or 1}")
    yield _memory()
    probe = run_probe("napari_cxr3d.cli.probes", "numba")
    if probe.failure:
        yield Finding(
            "numba", "missing", probe.failure, "python -m pip install --force-reinstall numba"
        )
    elif probe.values["cache"]:
        yield Finding("kernel cache", "ok", _from_home(probe.values["cache"]))
    else:
        yield Finding(
            "kernel cache",
            "limited",
            "no folder can be written: the kernels compile anew in every process",
            "set NUMBA_CACHE_DIR to a folder of yours",
        )


def _memory() -> Finding:
    if _installed("psutil") is None:
        return Finding("memory", "limited", "unknown", "python -m pip install psutil")

    import psutil

    memory = psutil.virtual_memory()
    free, total = memory.available / 2**30, memory.total / 2**30
    detail = f"{free:.1f} of {total:.1f} GiB free"
    if free >= _LOW_MEMORY_GIB:
        return Finding("memory", "ok", detail)
    return Finding("memory", "limited", detail, "close other programs before opening a large CT")


def folders() -> Iterator[Finding]:
    """Where the program keeps what it may delete and what it must not."""
    if _installed("platformdirs") is None:
        return

    from platformdirs import user_cache_path, user_config_path

    for name, folder in (
        ("cache", user_cache_path("napari-cxr3d")),
        ("settings", user_config_path("napari-cxr3d")),
    ):
        nearest = next(p for p in (folder, *folder.parents) if p.exists())
        shown = _from_home(folder)
        if os.access(nearest, os.W_OK):
            yield Finding(name, "ok", shown)
        else:
            yield Finding(name, "limited", f"{shown} cannot be written", "mend its permissions")


def models() -> Iterator[Finding]:
    """The weights that are here: the program's own and the user's."""
    from napari_cxr3d.models.zoo import listing, models_folder

    entries = listing()
    if not entries:
        yield Finding("models", "ok", f"none; yours would lie in {_from_home(models_folder())}")
    for entry in entries:
        if entry.used:
            yield Finding(entry.name, "ok", f"{entry.kind} {entry.version}, {entry.place}")
        elif not entry.sha256:
            yield Finding(entry.name, "limited", "its bundle cannot be used", "cxr3d models list")


def _from_home(path: str | Path) -> str:
    """The path as it can be shown to others: without the user's name."""
    path = Path(path)
    try:
        return str(Path("~") / path.relative_to(Path.home()))
    except ValueError:
        return str(path)


SECTIONS = {
    "Versions": versions,
    "torch and GPU": torch_and_gpu,
    "Display and OpenGL": display,
    "DICOM decoding": dicom_codecs,
    "Projectors": projectors,
    "Computing": computing,
    "Folders": folders,
    "Models": models,
}
