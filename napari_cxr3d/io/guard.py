"""Turning what third-party parsers throw into this package's errors, and memory limits."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_cxr3d.errors import Cancelled, Cxr3dError, OutOfMemoryError, UnreadableFileError

__all__ = ["existing_path", "foreign_errors", "require_memory"]

_RUST_PANIC = "PanicException"  # what decoders in Rust raise through PyO3, on BaseException
_MEMORY_FRACTION = 0.8  # of the free memory that one image may take


@contextmanager
def foreign_errors(path: Path, what: str, *, remedy: str = "") -> Iterator[None]:
    """Re-raise whatever a parser throws at broken bytes as `UnreadableFileError`.

    Parsers of image formats document few of the exceptions that corrupt files draw from
    them. Their warnings are silenced too, since they can quote header values.

    Parameters
    ----------
    path : Path
        The file being read, for the message.
    what : str
        What failed, as a clause: ``"The DICOM header cannot be read"``.
    remedy : str, optional
        What the user can do; a general advice when empty.

    Raises
    ------
    UnreadableFileError
        In place of the foreign exception, which stays as its cause.
    """
    remedy = remedy or "check that the file was copied completely, or export it again"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (Cxr3dError, Cancelled):
        raise
    except MemoryError as error:
        raise OutOfMemoryError(
            "There is not enough memory to read the file",
            path=path,
            remedy="close other programs or choose a smaller series",
        ) from error
    except BaseException as error:
        if not (isinstance(error, Exception) or type(error).__name__ == _RUST_PANIC):
            raise
        raise UnreadableFileError(what, why=_reason(error), remedy=remedy, path=path) from error


def _reason(error: BaseException) -> str:
    """The kind of a foreign error: its text may quote header values, so it stays out."""
    if isinstance(error, PermissionError):
        return "this account may not read it"
    if isinstance(error, EOFError):
        return "it ends too early"
    return f"its content is damaged or of an unknown variant ({type(error).__name__})"


def existing_path(path: str | Path) -> Path:
    """Make sure that a file or folder is there and can be read.

    Raises
    ------
    UnreadableFileError
        If there is nothing, nothing readable, or an empty file.
    """
    path = Path(path).expanduser()
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except (OSError, ValueError):  # a name that is too long, or holds a null byte
        is_file = is_folder = False
    if not (is_file or is_folder):
        raise UnreadableFileError(
            "There is no such file or folder", remedy="check the spelling", path=path
        )
    if not os.access(path, os.R_OK):
        raise UnreadableFileError(
            "This account may not read it", remedy="change its permissions", path=path
        )
    if is_file and path.stat().st_size == 0:
        raise UnreadableFileError("The file is empty", remedy="copy it again", path=path)
    return path


def require_memory(n_bytes: int, path: Path) -> None:
    """Refuse an image that would not fit, before anything is allocated.

    Parameters
    ----------
    n_bytes : int
        Peak memory the reading will take.
    path : Path
        The file or folder, for the message.

    Raises
    ------
    OutOfMemoryError
        If it is more than most of the free memory.
    """
    import psutil

    free = int(psutil.virtual_memory().available)
    if n_bytes > _MEMORY_FRACTION * free:
        raise OutOfMemoryError(
            "The image does not fit into memory",
            why=f"its header asks for {n_bytes / 1e9:.1f} GB and {free / 1e9:.1f} GB are free",
            remedy="close other programs, choose a smaller series, or check the file",
            path=path,
        )
