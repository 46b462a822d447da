"""The bundles that are here: those that came with the program, and the user's own.

Everything works offline. The user's folder is the platform's data folder, or what the
environment variable ``CXR3D_MODELS`` names.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from napari_cxr3d.errors import BundleError, Cxr3dError, ExportError, InvalidInputError
from napari_cxr3d.models.bundle import Bundle, open_bundle
from napari_cxr3d.models.card import version_key
from napari_cxr3d.models.storage import DESCRIPTION, open_store, read_file, write_folder

__all__ = [
    "ENVIRONMENT",
    "Entry",
    "bundled_folder",
    "find",
    "install",
    "listing",
    "models_folder",
    "remove",
]

ENVIRONMENT = "CXR3D_MODELS"
Place = Literal["bundled", "installed"]


@dataclass(frozen=True)
class Entry:
    """A bundle that was found, whole or not.

    Attributes
    ----------
    name, version, kind : str
        As its card says; the file's name and empty texts where the card cannot be read.
    place : {"bundled", "installed"}
        Whether it came with the program or lies in the user's folder.
    path : Path
        Where it lies.
    sha256 : str
        Its identity.
    n_bytes : int
        Its size.
    licence : str
        As its card says.
    synthetic_training : bool or None
        Whether it learned from data that no scanner measured.
    used : bool
        Whether `find` returns it for its name.
    note : str
        Why it is not used, or what is wrong with it.
    """

    name: str
    version: str
    kind: str
    place: Place
    path: Path
    sha256: str = ""
    n_bytes: int = 0
    licence: str = ""
    synthetic_training: bool | None = None
    used: bool = False
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-serialisable form."""
        return {**asdict(self), "path": str(self.path)}


def bundled_folder() -> Path:
    """The folder of the bundles that came with the program."""
    return Path(__file__).with_name("weights")


def models_folder() -> Path:
    """The user's folder; it may not exist yet."""
    named = os.environ.get(ENVIRONMENT, "")
    if named:
        return Path(named).expanduser()

    from platformdirs import user_data_path

    return user_data_path("napari-cxr3d", appauthor=False) / "models"


def listing() -> tuple[Entry, ...]:
    """All bundles, by name and version, the newest first.

    Only descriptions are read. A bundle that cannot be used is listed with the reason. Of
    several with one name the newest version is used, and of one version the one that came
    with the program.
    """
    places: tuple[tuple[Path, Place], ...] = (
        (bundled_folder(), "bundled"),
        (models_folder(), "installed"),
    )
    found = [_entry(path, place) for folder, place in places for path in _candidates(folder)]
    whole = sorted(
        (entry for entry in found if entry.sha256),
        key=lambda e: (e.name, [-n for n in version_key(e.version)], e.place, e.path.name),
    )
    used: dict[str, Entry] = {}
    entries = []
    for entry in whole:
        first = used.setdefault(entry.name, entry)
        entries.append(_marked(entry, first))
    return (*entries, *(entry for entry in found if not entry.sha256))


def _marked(entry: Entry, used: Entry) -> Entry:
    if entry is used:
        return replace(entry, used=True)
    same = version_key(entry.version) == version_key(used.version)
    alike = ", and is the same" if entry.sha256 == used.sha256 else ""
    why = f"version {used.version} is newer" if not same else f"the {used.place} one comes first"
    return replace(entry, note=f"not used: {why}{alike if same else ''}")


def _candidates(folder: Path) -> list[Path]:
    """Zips, and folders with a description; whatever else lies there is left alone."""
    try:
        paths = sorted(folder.iterdir())
    except OSError:
        return []
    return [
        path
        for path in paths
        if not path.name.startswith(".")
        and (path.suffix.lower() == ".zip" or (path / DESCRIPTION).is_file())
    ]


def _entry(path: Path, place: Place) -> Entry:
    try:
        bundle = open_bundle(path, check_content=False)
    except Cxr3dError as error:
        return Entry(path.stem, "", "", place, path, note=str(error))
    return Entry(
        bundle.name,
        bundle.version,
        bundle.kind,
        place,
        path,
        bundle.sha256,
        bundle.n_bytes,
        str(bundle.card["licence"]),
        bool(bundle.card["synthetic_training"]),
    )


def find(name: str, version: str | None = None) -> Bundle:
    """Open the bundle of a name, its content checked.

    Parameters
    ----------
    name : str
        Such as ``"codec-demo"``.
    version : str, optional
        The newest if None.

    Raises
    ------
    InvalidInputError
        If there is none.
    BundleError
        If it is damaged.
    """
    return open_bundle(_found(name, version, listing()).path)


def _found(name: str, version: str | None, entries: tuple[Entry, ...]) -> Entry:
    named = [entry for entry in entries if entry.name == name]
    matching = [
        entry for entry in named if entry.sha256 and (version is None or entry.version == version)
    ]
    if matching:
        return matching[0]
    if named and not any(entry.sha256 for entry in named):
        raise BundleError(
            f"The model {name} cannot be used", why=named[0].note, remedy="install it again"
        )
    known = sorted({e.name if version is None else f"{e.name} {e.version}" for e in entries})
    wanted = name if version is None else f"{name} {version}"
    raise InvalidInputError(
        f"There is no model called {wanted}",
        why=f"these are here: {', '.join(known)}" if known else "no model is here",
        remedy="type cxr3d models install FILE, or see cxr3d models list",
    )


def install(file: str | Path, *, sha256: str | None = None, overwrite: bool = False) -> Bundle:
    """Copy a bundle into the user's folder, after building its network once.

    Parameters
    ----------
    file : path-like
        A bundle's zip or folder.
    sha256 : str, optional
        Its published hash; see `open_bundle`.
    overwrite : bool
        Whether the same name and version may be replaced.

    Returns
    -------
    Bundle
        The installed one.

    Raises
    ------
    UnreadableFileError, BundleError
        If the file is missing or is not a whole, harmless bundle.
    ExportError
        If it is installed already, or cannot be written.
    """
    bundle = open_bundle(file, sha256=sha256)
    bundle.network()
    folder = models_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(
            "The folder of the models cannot be made",
            why=error.strerror or type(error).__name__,
            remedy=f"mend its permissions, or set {ENVIRONMENT} to another",
            path=folder,
        ) from error
    target = folder / f"{bundle.name}-{bundle.version}"
    twin = next(
        (
            entry
            for entry in listing()
            if entry.place == "installed"
            and (entry.name, entry.version) == (bundle.name, bundle.version)
        ),
        None,
    )
    if twin is not None and not overwrite:
        raise ExportError(
            f"{bundle.name} {bundle.version} is installed already",
            why="it is the same" if twin.sha256 == bundle.sha256 else "it is another one",
            remedy="allow overwriting to replace it, or remove it",
            path=twin.path,
        )
    write_folder(target, _content(bundle), overwrite=overwrite)
    if twin is not None and twin.path != target:
        _delete(twin.path)
    return open_bundle(target)


def _content(bundle: Bundle) -> dict[str, bytes]:
    """Every file of a bundle, each the very bytes whose hash was compared."""
    store = open_store(bundle.path)
    content = {DESCRIPTION: read_file(store, DESCRIPTION, limit=store.sizes[DESCRIPTION])}
    expected = {DESCRIPTION: bundle.sha256, **{f.name: f.sha256 for f in bundle.files}}
    for file in bundle.files:
        content[file.name] = read_file(store, file.name, limit=file.n_bytes)
    for name, digits in expected.items():
        if sha256(content[name]).hexdigest() != digits:
            raise BundleError(
                f"{name} changed while it was copied", remedy="try again", path=bundle.path
            )
    return content


def remove(name: str, version: str | None = None) -> Path:
    """Delete an installed bundle.

    Parameters
    ----------
    name : str
        Its name.
    version : str, optional
        Needed where several versions are installed.

    Returns
    -------
    Path
        Where it lay.

    Raises
    ------
    InvalidInputError
        If it is not installed, came with the program, or several versions match.
    ExportError
        If it cannot be deleted.
    """
    named = [e for e in listing() if e.name == name and version in (None, e.version)]
    own = [entry for entry in named if entry.place == "installed"]
    if len(own) != 1:
        wanted = name if version is None else f"{name} {version}"
        why = "it is not in your folder"
        if own:
            why = f"there are the versions {', '.join(entry.version for entry in own)}"
        elif named:
            why = "it came with the program"
        raise InvalidInputError(
            f"{wanted} cannot be removed",
            why=why,
            remedy="give the version" if own else "see cxr3d models list",
        )
    _delete(own[0].path)
    return own[0].path


def _delete(path: Path) -> None:
    """Delete a bundle's folder or zip; a link is deleted, not what it leads to."""
    aside = path.with_name(f".{uuid4().hex[:12]}")
    try:
        os.replace(path, aside)
        if aside.is_dir() and not aside.is_symlink():
            shutil.rmtree(aside)
        else:
            aside.unlink()
    except OSError as error:
        raise ExportError(
            "The model cannot be deleted",
            why=error.strerror or type(error).__name__,
            remedy="mend its permissions",
            path=path,
        ) from error
