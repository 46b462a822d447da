"""Folders that commands fill with a result of several files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_cxr3d.imaging import Volume

__all__ = ["make_folder", "require_folder", "write_hu"]


def require_folder(
    folder: Path, names: Iterable[str], *, overwrite: bool, sources: Sequence[Path] = ()
) -> None:
    """Refuse a folder, or files in it, that cannot be written, before the work begins.

    Parameters
    ----------
    folder : Path
        Where to write; it need not exist.
    names : iterable of str
        Files that will lie in it.
    overwrite : bool
        Whether those may be replaced.
    sources : sequence of Path
        Files that never are.

    Raises
    ------
    ExportError
        If something stands in the way.
    """
    from napari_cxr3d.errors import ExportError
    from napari_cxr3d.io.destination import require_free

    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ExportError("There is a file of this name", remedy="choose another", path=there)
    if not os.access(there, os.W_OK):
        raise ExportError("This account may not write here", remedy="choose another", path=there)
    for name in names if there == folder else ():
        require_free(folder / name, overwrite=overwrite, sources=sources)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it.

    Raises
    ------
    ExportError
        If that fails.
    """
    from napari_cxr3d.errors import ExportError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(
            "The folder could not be made",
            why=error.strerror or type(error).__name__,
            remedy="choose another name",
            path=folder,
        ) from error


def write_hu(
    volume: Volume, path: Path, provenance: dict[str, Any], *, overwrite: bool
) -> list[Path]:
    """Write a volume in whole HU, and its provenance beside."""
    import numpy as np

    from napari_cxr3d.io import write_volume
    from napari_cxr3d.io.destination import sidecar_path

    whole = volume.with_hu(np.rint(volume.hu).astype(np.int16))
    return [
        write_volume(whole, path, provenance=provenance, overwrite=overwrite),
        sidecar_path(path),
    ]
