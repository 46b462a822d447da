"""Where results may be written: never over a source, never half, never by surprise."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from napari_cxr3d.errors import ExportError

__all__ = ["all_or_none", "full_suffix", "new_file", "require_free", "sidecar_path", "write_json"]

_DOUBLE_SUFFIXES = (".nii.gz",)


def full_suffix(path: Path) -> str:
    """Suffix in lower case, ``".nii.gz"`` as one; empty for a folder's name."""
    name = path.name.lower()
    for suffix in _DOUBLE_SUFFIXES:
        if name.endswith(suffix):
            return suffix
    return path.suffix.lower()


def sidecar_path(path: Path) -> Path:
    """Path of the JSON file that stands beside a result: ``drr.npy.json`` beside ``drr.npy``."""
    return path.with_name(path.name + ".json")


def require_free(path: Path, *, overwrite: bool, sources: Iterable[Path] = ()) -> None:
    """Refuse a destination that must not be written.

    Parameters
    ----------
    path : Path
        The file to be written.
    overwrite : bool
        Whether an existing file may be replaced.
    sources : iterable of Path
        Files and folders that images were read from: never replaced, whatever `overwrite`.

    Raises
    ------
    ExportError
        If the folder is missing, the file exists, or it is a source or belongs to one.
    """
    if not path.parent.is_dir():
        raise ExportError(
            "The folder to write into does not exist", remedy="make it first", path=path.parent
        )
    if path.is_dir():
        raise ExportError("There is a folder of this name", remedy="choose another", path=path)
    if not path.exists():
        return
    if any(_belongs_to(path, source) for source in sources):
        raise ExportError(
            "A source file is never written over",
            why="the image was read from it",
            remedy="choose another name",
            path=path,
        )
    if not overwrite:
        raise ExportError(
            "The file exists already", remedy="choose another name or allow overwriting", path=path
        )


def _belongs_to(path: Path, source: Path) -> bool:
    if not source.exists():
        return False
    return path.samefile(source) or path.resolve().is_relative_to(source.resolve())


@contextmanager
def new_file(
    path: Path, *, overwrite: bool = False, sources: Iterable[Path] = ()
) -> Iterator[Path]:
    """Temporary path to write to; it takes the destination's place when all went well.

    Parameters
    ----------
    path : Path
        The destination.
    overwrite : bool
        Whether an existing file may be replaced.
    sources : iterable of Path
        Files and folders that are never replaced.

    Yields
    ------
    Path
        A hidden file with the same suffix in the same folder.

    Raises
    ------
    ExportError
        If the destination must not be written, or writing fails; nothing is left behind.
    """
    require_free(path, overwrite=overwrite, sources=sources)
    temporary = path.with_name(f".{uuid4().hex[:12]}{full_suffix(path)}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise ExportError(
            "The file could not be written",
            why=error.strerror or type(error).__name__,
            remedy="check the disk's free space and your permissions",
            path=path,
        ) from error
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


@contextmanager
def all_or_none() -> Iterator[list[Path]]:
    """List for the files of one result: they are removed again if the last one fails.

    Yields
    ------
    list of Path
        To be filled with each file once it is written.
    """
    written: list[Path] = []
    try:
        yield written
    except BaseException:  # Ctrl-C too
        for path in written:
            path.unlink(missing_ok=True)
        raise


def write_json(path: Path, record: Mapping[str, Any], *, overwrite: bool = False) -> None:
    """Write a JSON file that people can read.

    Raises
    ------
    ExportError
        If the file exists and `overwrite` is False, or writing fails.
    """
    with new_file(path, overwrite=overwrite) as temporary:
        temporary.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
