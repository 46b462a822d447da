"""A bundle's files: in a folder or a zip, read with suspicion and written at once or not at all.

Only plain files with plain names directly inside are known. A link, a folder within, a name
with a path in it, an encrypted or absurdly compressed member is refused before anything is
read; nothing is ever unpacked.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import IO, Protocol
from uuid import uuid4

from napari_cxr3d.errors import BundleError, ExportError
from napari_cxr3d.io.destination import new_file
from napari_cxr3d.io.guard import existing_path

__all__ = [
    "DESCRIPTION",
    "Store",
    "digest",
    "is_plain_name",
    "open_store",
    "read_file",
    "write_folder",
    "write_zip",
]

DESCRIPTION = "bundle.yaml"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MAX_FILES = 1024
_MAX_FILE_BYTES = 4 << 30
_MAX_RATIO = 50  # weights hardly compress; text does by 10
_SMALL = 1 << 20  # below it a large ratio does no harm
_CHUNK = 1 << 20
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that zip knows: same files, same bytes
_AGAIN = "get the bundle again from where it came"


def is_plain_name(name: str) -> bool:
    """Whether a file may be called so inside a bundle."""
    return bool(_NAME.fullmatch(name)) and not name.endswith(".")


class Store(Protocol):
    """The files of one bundle.

    Attributes
    ----------
    path : Path
        The folder or the zip.
    sizes : dict of str to int
        Bytes of each file, by name.
    """

    path: Path
    sizes: dict[str, int]

    def open(self, name: str) -> IO[bytes]:
        """The file's content as a stream."""
        ...


def open_store(path: str | Path) -> Store:
    """The files of a bundle.

    Parameters
    ----------
    path : path-like
        The folder, its ``bundle.yaml``, or the zip.

    Raises
    ------
    UnreadableFileError
        If there is nothing.
    BundleError
        If it is no bundle, or holds what a bundle must not hold.
    """
    path = existing_path(path)
    if path.name == DESCRIPTION:
        path = path.parent
    store: Store = _Folder(path) if path.is_dir() else _Zip(path)
    if DESCRIPTION not in store.sizes:
        raise BundleError(
            "This is not a model bundle",
            why=f"it holds no {DESCRIPTION}",
            remedy="choose the folder or the zip that holds it",
            path=path,
        )
    return store


def read_file(store: Store, name: str, *, limit: int) -> bytes:
    """The whole content of a small file.

    Raises
    ------
    BundleError
        If it has more than `limit` bytes, or cannot be read.
    """
    if store.sizes[name] > limit:
        raise BundleError(
            f"{name} is too large",
            why=f"it has {store.sizes[name]} bytes; {limit} were expected at most",
            remedy=_AGAIN,
            path=store.path,
        )
    with _readable(store, name), store.open(name) as stream:
        return stream.read(limit + 1)


def digest(store: Store, name: str) -> str:
    """sha256 of a file's content, in hexadecimal.

    Raises
    ------
    BundleError
        If it cannot be read.
    """
    state = sha256()
    with _readable(store, name), store.open(name) as stream:
        while chunk := stream.read(_CHUNK):
            state.update(chunk)
    return state.hexdigest()


@contextmanager
def _readable(store: Store, name: str) -> Iterator[None]:
    try:
        yield
    except (
        OSError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
        RuntimeError,
        ValueError,
    ) as error:
        raise BundleError(
            f"{name} cannot be read",
            why=f"the file is damaged or out of reach ({type(error).__name__})",
            remedy=_AGAIN,
            path=store.path,
        ) from error


def _require_allowed(name: str, n_bytes: int, count: int, path: Path) -> None:
    if not is_plain_name(name):
        raise BundleError(
            f"{name[:80]!r} must not be in a bundle",
            why="it is hidden, lies in a folder or leads out of the bundle",
            remedy="remove it, or get the bundle from a source you trust",
            path=path,
        )
    if n_bytes > _MAX_FILE_BYTES or count > _MAX_FILES:
        raise BundleError(
            "The bundle is too large",
            why=f"it has {count} files or more, {name} of {n_bytes} bytes",
            remedy=_AGAIN,
            path=path,
        )


class _Folder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.sizes: dict[str, int] = {}
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    if not stat.S_ISREG(status.st_mode):
                        raise BundleError(
                            f"{entry.name[:80]!r} must not be in a bundle",
                            why="it is a link, a folder or a device, not a file",
                            remedy="put the file itself in its place, or remove it",
                            path=path,
                        )
                    _require_allowed(entry.name, status.st_size, len(self.sizes) + 1, path)
                    self.sizes[entry.name] = status.st_size
        except OSError as error:
            raise BundleError(
                "The folder cannot be read",
                why=error.strerror or type(error).__name__,
                remedy="check its permissions",
                path=path,
            ) from error

    def open(self, name: str) -> IO[bytes]:
        # A link put there since the folder was listed is not followed.
        no_links = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        return os.fdopen(os.open(self.path / name, os.O_RDONLY | no_links), "rb")


class _Zip:
    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise BundleError(
                "The file is not a whole zip",
                why=f"it is of another kind, damaged or cut off ({type(error).__name__})",
                remedy=_AGAIN,
                path=path,
            ) from error
        self._folder = _common_folder(members)
        self.sizes: dict[str, int] = {}
        for member in members:
            if member.filename == self._folder:
                continue  # the folder's own entry
            name = member.filename.removeprefix(self._folder)
            self._require_harmless(member, name)
            _require_allowed(name, member.file_size, len(self.sizes) + 1, path)
            if name in self.sizes:
                raise BundleError(f"{name} is in the zip twice", remedy=_AGAIN, path=path)
            self.sizes[name] = member.file_size

    def _require_harmless(self, member: zipfile.ZipInfo, name: str) -> None:
        mode = member.external_attr >> 16
        why = ""
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            why = "it is a link, a folder or a device, not a file"
        elif member.flag_bits & 0x1:
            why = "it is encrypted"
        elif member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            why = "it is compressed in an unusual way"
        elif member.file_size > max(_SMALL, _MAX_RATIO * member.compress_size):
            why = f"{member.compress_size} bytes would grow to {member.file_size}"
        if why:
            raise BundleError(
                f"{name[:80]!r} must not be in a bundle", why=why, remedy=_AGAIN, path=self.path
            )

    def open(self, name: str) -> IO[bytes]:
        archive = zipfile.ZipFile(self.path)
        with archive:  # an opened member keeps the file open for itself
            return archive.open(self._folder + name)


def _common_folder(members: list[zipfile.ZipInfo]) -> str:
    """``"name/"`` where somebody zipped the folder as a whole; else empty."""
    heads = {member.filename.partition("/")[0] for member in members}
    if len(heads) != 1 or any("/" not in member.filename for member in members):
        return ""
    head = heads.pop()
    return f"{head}/" if is_plain_name(head) else ""


def write_zip(path: Path, files: Mapping[str, bytes], *, overwrite: bool) -> None:
    """Write the files into one zip, uncompressed; the same files give the same bytes.

    Raises
    ------
    ExportError
        If it must not or cannot be written; nothing is left behind.
    """
    with (
        new_file(path, overwrite=overwrite) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive,
    ):
        for name in sorted(files):
            member = zipfile.ZipInfo(name, _ZIP_DATE)
            member.create_system = 3  # Unix, whatever this is
            member.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(member, files[name])


def write_folder(path: Path, files: Mapping[str, bytes], *, overwrite: bool) -> None:
    """Write the files into a new folder, which appears when it is whole.

    Parameters
    ----------
    path : Path
        The folder; its parent must exist.
    files : mapping of str to bytes
        Content by name.
    overwrite : bool
        Whether a bundle that stands there may be replaced; any other folder never is.

    Raises
    ------
    ExportError
        If it must not or cannot be written; nothing is left behind.
    """
    _require_replaceable(path, overwrite)
    temporary = path.with_name(f".{uuid4().hex[:12]}")
    aside = path.with_name(f".{uuid4().hex[:12]}")
    try:
        temporary.mkdir()
        for name, content in files.items():
            (temporary / name).write_bytes(content)
        if path.exists():
            os.replace(path, aside)
        try:
            os.replace(temporary, path)
        except OSError:
            if aside.exists():
                os.replace(aside, path)
            raise
    except OSError as error:
        raise ExportError(
            "The bundle could not be written",
            why=error.strerror or type(error).__name__,
            remedy="check the disk's free space and your permissions",
            path=path,
        ) from error
    finally:
        for leftover in (temporary, aside):
            with suppress(FileNotFoundError):
                shutil.rmtree(leftover)


def _require_replaceable(path: Path, overwrite: bool) -> None:
    if not path.parent.is_dir():
        raise ExportError(
            "The folder to write into does not exist", remedy="make it first", path=path.parent
        )
    if not (path.exists() or path.is_symlink()):
        return
    if not overwrite:
        raise ExportError(
            "It exists already", remedy="choose another name or allow overwriting", path=path
        )
    if path.is_symlink() or not (path / DESCRIPTION).is_file():
        raise ExportError(
            "Only a bundle is replaced by a bundle",
            why=f"what stands there holds no {DESCRIPTION}",
            remedy="choose another name",
            path=path,
        )
