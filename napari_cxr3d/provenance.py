"""Where a result came from: enough to make it again, and nothing about the patient."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from napari_cxr3d import __version__

__all__ = ["Provenance", "library_versions"]

_LIBRARIES = ("numpy", "numba", "torch", "nanodrr", "diffdrr", "monai", "SimpleITK", "pydicom")


def library_versions() -> dict[str, str]:
    """Versions of Python, this package and the libraries that shape its results.

    Read from the installed distributions' metadata; nothing is imported.
    """
    versions = {"python": platform.python_version(), "napari-cxr3d": __version__}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Provenance:
    """How a result was made.

    Attributes
    ----------
    operation : str
        What was done, for example ``"drr"``, ``"sweep"`` or ``"reconstruct"``.
    parameters : mapping
        Every setting that shaped the result, JSON-serialisable.
    inputs : tuple of str
        sha256 of each input's content, never a path or a patient's name.
    synthetic : bool
        True for everything that no scanner measured.
    backend, device, dtype : str
        Which code ran where, in which precision.
    seed : int or None
        Seed of the random generator, if one was used.
    model, weights_sha256 : str or None
        The network and its weights, if one was used.
    """

    operation: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    synthetic: bool = True
    backend: str = ""
    device: str = "cpu"
    dtype: str = "float32"
    seed: int | None = None
    model: str | None = None
    weights_sha256: str | None = None
    created: str = field(default_factory=_now)
    platform: str = sys.platform
    versions: Mapping[str, str] = field(default_factory=library_versions)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-serialisable form, for layer metadata and report files."""
        record = asdict(self)
        record["inputs"] = list(self.inputs)
        return record
