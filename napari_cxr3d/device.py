"""The devices that torch can compute on here, and the choice among them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from types import ModuleType

from napari_cxr3d.errors import BackendUnavailableError, InvalidInputError

__all__ = ["Device", "devices", "resolve_device"]


@dataclass(frozen=True)
class Device:
    """One device.

    Attributes
    ----------
    name : str
        As torch spells it: ``"cpu"``, ``"cuda:0"``, ``"mps"``.
    description : str
        The hardware, for people.
    free_bytes, total_bytes : int or None
        Memory of its own; None where it shares the computer's.
    """

    name: str
    description: str
    free_bytes: int | None = None
    total_bytes: int | None = None

    def __str__(self) -> str:
        if self.free_bytes is None or self.total_bytes is None:
            return f"{self.name} ({self.description})"
        free, total = (n / 2**30 for n in (self.free_bytes, self.total_bytes))
        return f"{self.name} ({self.description}, {free:.1f} of {total:.1f} GiB free)"


def devices() -> tuple[Device, ...]:
    """All devices that torch can use here; the CPU comes first.

    Imports torch, and opens each CUDA device to ask for its free memory: seconds on the
    first call.

    Raises
    ------
    BackendUnavailableError
        If torch is not installed.
    """
    torch = _torch()
    found = [Device("cpu", f"{os.cpu_count()} cores")]
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(index)
            name = torch.cuda.get_device_name(index)
            found.append(Device(f"cuda:{index}", name, free, total))
    if torch.backends.mps.is_available():
        found.append(Device("mps", "Apple GPU"))
    return tuple(found)


def resolve_device(name: str | None = "auto") -> str:
    """The torch name of a device that exists here.

    Parameters
    ----------
    name : str, optional
        ``"auto"`` (or None) takes the CUDA device with the most free memory, else the
        Apple GPU, else the CPU. ``"cuda"`` is ``"cuda:0"``.

    Raises
    ------
    InvalidInputError
        If the name is none that torch spells.
    BackendUnavailableError
        If torch is not installed, or this computer has no such device.
    """
    if name is None or name == "auto":
        found = devices()
        return max(found[1:], key=lambda d: d.free_bytes or 0, default=found[0]).name
    wanted = "cuda:0" if name == "cuda" else name
    kind, _, index = wanted.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not (kind == "cuda" and index.isdigit())):
        raise InvalidInputError(
            f"There is no device called {name!r}",
            remedy="choose one of auto, cpu, cuda, cuda:0 (cuda:1...) or mps",
        )
    present = [device.name for device in devices()]
    if wanted not in present:
        raise BackendUnavailableError(
            f"The device {name!r} is not available",
            why=_why_absent(kind),
            remedy=f"choose one of {', '.join(present)}",
        )
    return wanted


def _why_absent(kind: str) -> str:
    torch = _torch()
    if kind == "mps":
        return "torch sees no Apple GPU"
    if torch.version.cuda is None:
        return f"torch {torch.__version__} was built without CUDA"
    if not torch.cuda.is_available():
        return "torch sees no NVIDIA driver or GPU"
    return f"torch sees {torch.cuda.device_count()} CUDA device(s)"


def _torch() -> ModuleType:
    try:
        import torch
    except ImportError as error:
        raise BackendUnavailableError(
            "torch cannot be imported", why=str(error), remedy="type pip install torch"
        ) from error
    module: ModuleType = torch
    return module
