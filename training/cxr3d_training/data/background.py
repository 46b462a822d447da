"""Phantoms made by a process in the background, into the cache that a training run reads.

It works through the cohort from its beginning, at low priority, and ends with the process that
started it. What the run needs sooner it makes itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["start", "stop"]


def start(
    count: int,
    stream: int,
    folder: Path,
    settings: Mapping[str, Any],
    size_mm: tuple[float, float, float],
    findings: str | None = None,
) -> subprocess.Popen[bytes]:
    """Begin to make ``phantom:COUNT:STREAM[:FINDINGS]`` into a folder.

    Parameters
    ----------
    count, stream : int
        Which phantoms.
    folder : Path
        The cache.
    settings : mapping
        Those of `Conditioning`, in JSON's terms.
    size_mm : tuple of 3 float
        Extent of the phantoms.
    findings : str or None
        See `phantoms.make_phantom`.
    """
    order = {
        "source": f"phantom:{count}:{stream}" + (f":{findings}" if findings else ""),
        "folder": str(folder),
        "settings": dict(settings),
        "size_mm": list(size_mm),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "cxr3d_training.data.background", json.dumps(order)],
        stdin=subprocess.PIPE,  # closes when this process ends, in whatever way
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
    )


def stop(process: subprocess.Popen[bytes]) -> None:
    """End it; what it has made stays."""
    if process.stdin is not None:
        process.stdin.close()
    process.terminate()
    process.wait()


def _leave_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def _main(order: Mapping[str, Any]) -> None:
    from cxr3d_training.data.conditioning import Conditioning
    from cxr3d_training.data.prepare import prepare
    from napari_cxr3d.errors import ExportError

    threading.Thread(target=_leave_with_parent, daemon=True).start()
    if hasattr(os, "nice"):
        os.nice(10)
    i, p, ell = order["size_mm"]
    settings = order["settings"]
    spacing, hu_range = settings.pop("spacing_mm"), settings.pop("hu_range")
    conditioning = Conditioning(
        spacing_mm=None if spacing is None else tuple(spacing),
        hu_range=tuple(hu_range),
        **settings,
    )
    try:
        prepare(order["source"], order["folder"], settings=conditioning, size_mm=(i, p, ell))
    except ExportError:  # another run is making the same phantoms
        return


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
