"""Looks at native libraries, each made in a process of its own.

A broken driver may crash or hang the process that touches it. `run_probe` therefore
starts ``python -m napari_cxr3d.cli.probes NAME``, waits for its line of JSON, and turns
a crash, a traceback or a time-out into a clause.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["PROBES", "ProbeResult", "run_probe"]


@dataclass(frozen=True)
class ProbeResult:
    """What a probe found, or why it found nothing.

    Attributes
    ----------
    values : mapping
        The probe's findings; empty after a failure.
    failure : str
        One clause without a full stop; empty after success.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    failure: str = ""


def _torch() -> dict[str, Any]:
    import torch

    from napari_cxr3d.device import devices

    return {
        "version": torch.__version__,
        "cuda_build": torch.version.cuda or "",
        "rocm_build": torch.version.hip or "",
        "devices": [str(device) for device in devices()],
        "accelerated": len(devices()) > 1,
    }


def _numba() -> dict[str, Any]:
    import numba

    def increment(n: int) -> int:
        return n + 1

    try:
        cached = numba.njit(cache=True)(increment)
    except RuntimeError:  # neither the package's folder nor the user's can be written
        return {"version": numba.__version__, "cache": ""}
    return {"version": numba.__version__, "cache": cached.stats.cache_path}


def _codecs() -> dict[str, Any]:
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import (
        HTJ2K,
        JPEG2000,
        DeflatedExplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        HTJ2KLossless,
        JPEG2000Lossless,
        JPEGBaseline8Bit,
        JPEGExtended12Bit,
        JPEGLossless,
        JPEGLosslessSV1,
        JPEGLSLossless,
        JPEGLSNearLossless,
        RLELossless,
    )

    syntaxes = (
        ExplicitVRLittleEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEGBaseline8Bit,
        JPEGExtended12Bit,
        JPEGLossless,
        JPEGLosslessSV1,
        JPEGLSLossless,
        JPEGLSNearLossless,
        JPEG2000Lossless,
        JPEG2000,
        HTJ2KLossless,
        HTJ2K,
    )
    return {uid.keyword: _decoders(get_decoder(uid)) for uid in syntaxes}


def _decoders(decoder: Any) -> list[str]:
    if not decoder.UID.is_encapsulated:
        return ["pydicom"]
    return list(decoder.available_plugins)


PROBES: Mapping[str, Callable[[], dict[str, Any]]] = {
    "torch": _torch,
    "numba": _numba,
    "codecs": _codecs,
}


def run_probe(module: str, *arguments: str, timeout_s: float = 120.0) -> ProbeResult:
    """Run ``python -m module arguments`` and read the JSON object that it prints last.

    Parameters
    ----------
    module : str
        A module that prints one JSON object when run.
    timeout_s : float
        After so many seconds the process is ended.
    """
    try:
        process = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
    except subprocess.TimeoutExpired:
        return ProbeResult(failure=f"no answer within {timeout_s:g} s")
    except OSError as error:
        return ProbeResult(failure=f"it could not be started ({error.strerror})")
    if process.returncode != 0:
        return ProbeResult(failure=_ending(process.returncode, process.stderr))
    try:
        return ProbeResult(values=json.loads(process.stdout.splitlines()[-1]))
    except (IndexError, json.JSONDecodeError):
        return ProbeResult(failure="the process gave no answer")


def _ending(code: int, stderr: str) -> str:
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"the process crashed ({name})"
    lines = stderr.strip().splitlines()
    return lines[-1].rstrip(".") if lines else f"the process ended with status {code}"


if __name__ == "__main__":
    print(json.dumps(PROBES[sys.argv[1]]()))
