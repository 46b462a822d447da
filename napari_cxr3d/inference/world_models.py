"""World models of the chest X-ray, loaded from their bundles and kept in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from napari_cxr3d.errors import BundleError, InvalidInputError

if TYPE_CHECKING:
    from napari_cxr3d.models.bundle import Bundle
    from napari_cxr3d.models.orbit_model import OrbitModel

__all__ = ["DEFAULT_MODEL", "KIND", "LoadedWorldModel", "load_world_model", "world_model_names"]

DEFAULT_MODEL = "xwin-demo"
"""The world model that is used where nobody names one."""

KIND = "world-model"
"""What the card of a world model says of its kind."""

_KEPT = 2  # models; the panel compares two at most


@dataclass(frozen=True, eq=False)
class LoadedWorldModel:
    """A world model in memory, in evaluation mode.

    Attributes
    ----------
    model : OrbitModel
        The network with its weights.
    name, version : str
        As its card says.
    sha256 : str
        Identity of its bundle.
    card : mapping
        What it says of itself.
    device : str
        Where it is.
    """

    model: OrbitModel
    name: str
    version: str
    sha256: str
    card: Mapping[str, Any]
    device: str = "cpu"


_kept: OrderedDict[tuple[str, str], LoadedWorldModel] = OrderedDict()
_lock = Lock()


def load_world_model(
    name_or_path: str | Path = DEFAULT_MODEL, *, device: str | None = "cpu"
) -> LoadedWorldModel:
    """A world model, from memory where it was loaded before.

    Parameters
    ----------
    name_or_path : str or Path
        A name of ``cxr3d models list``, or a bundle's folder or zip.
    device : str, optional
        As `napari_cxr3d.device.resolve_device` takes it.

    Raises
    ------
    InvalidInputError
        If there is no such model, or it is no world model; the message names those that are
        here.
    UnreadableFileError, BundleError
        If there is nothing at the path, or no whole bundle of a world model.
    BackendUnavailableError
        If the device does not exist here.
    """
    from napari_cxr3d.device import resolve_device

    where = resolve_device(device)
    bundle = _open(str(name_or_path))
    key = (bundle.sha256, where)
    with _lock:
        if key not in _kept:
            model = _require_orbit_model(bundle, where)
            _kept[key] = LoadedWorldModel(
                model, bundle.name, bundle.version, bundle.sha256, dict(bundle.card), where
            )
            while len(_kept) > _KEPT:
                _kept.popitem(last=False)
        _kept.move_to_end(key)
        return _kept[key]


def world_model_names() -> tuple[str, ...]:
    """The world models that came with the program or were installed; reads descriptions alone."""
    from napari_cxr3d.models.zoo import listing

    return tuple(entry.name for entry in listing() if entry.used and entry.kind == KIND)


def _open(name: str) -> Bundle:
    from napari_cxr3d.models.bundle import open_bundle
    from napari_cxr3d.models.zoo import find, listing

    path = Path(name).expanduser()
    if path.name != name or path.suffix or (path / "bundle.yaml").is_file():
        bundle = open_bundle(path)
    elif any(entry.name == name for entry in listing()):
        bundle = find(name)
    else:
        raise InvalidInputError(
            f"There is no world model called {name}",
            why=_which_are_here(),
            remedy="type cxr3d models install FILE, or give the path of a bundle",
        )
    if bundle.kind != KIND:
        raise InvalidInputError(
            f"The model {bundle.name} is no world model of the chest X-ray",
            why=f"it is a {bundle.kind}; {_which_are_here()}",
            remedy="choose a world model; see cxr3d models list",
        )
    return bundle


def _which_are_here() -> str:
    names = world_model_names()
    if not names:
        return "no world model is installed"
    return f"the world models that are installed are {', '.join(names)}"


def _require_orbit_model(bundle: Bundle, device: str) -> OrbitModel:
    from napari_cxr3d.models.orbit_model import OrbitModel

    network = bundle.network(device)
    if not isinstance(network, OrbitModel):
        raise BundleError(
            f"The model {bundle.name} cannot be run",
            why=f"its card says {KIND}, and its network is a {type(network).__name__}",
            remedy="get the bundle again from where it came",
            path=bundle.path,
        )
    return network
