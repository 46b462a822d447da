"""From a network's description in a file to the network, without running the file's code.

A description is MONAI's form, a mapping with ``_target_`` and the constructor's arguments, and
may hold further such mappings. Of MONAI's language only that is understood: no ``$`` that
evaluates, no ``@`` that refers, no ``%`` that includes. A target must be a network of this
package, or one of the MONAI networks listed here, all of which build themselves from plain
numbers and neither fetch nor unpickle anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from napari_cxr3d.errors import Cxr3dError, InvalidInputError

if TYPE_CHECKING:
    import torch

__all__ = ["ALLOWED_MONAI", "build_network", "check_description", "outline_network"]

TARGET = "_target_"
OWN = "napari_cxr3d.models."
MONAI = "monai.networks.nets."
# Each was read in MONAI 1.6; a test builds every one of them.
ALLOWED_MONAI = frozenset(
    {
        "AutoencoderKL",
        "BasicUNet",
        "ControlNet",
        "DenseNet",
        "DenseNet121",
        "DiffusionModelUNet",
        "DynUNet",
        "MultiScalePatchDiscriminator",
        "PatchDiscriminator",
        "ResNet",
        "SegResNet",
        "UNet",
        "VQVAE",
        "ViT",
    }
)
_DOTTED = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)+")
_EVALUATING = ("$", "@", "%")
_FETCHING = ("pretrained", "url", "checkpoint_path", "weights_path")
_MAX_DEPTH = 16


def check_description(description: object) -> None:
    """Refuse a description that names anything but an allowed network and plain data.

    Loads no library; the classes themselves are looked at when the network is built.

    Raises
    ------
    InvalidInputError
        If it does.
    """
    if not isinstance(description, Mapping) or TARGET not in description:
        raise _refused(f"it is no mapping with {TARGET}")
    _check(description, 0)


def _check(value: object, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise _refused("it is nested too deeply")
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise _refused(f"the key {key!r} is not a string")
            if key == TARGET:
                _check_target(item)
            elif key.startswith("_") or key.startswith(_EVALUATING):
                raise _refused(f"the key {key!r} is not an argument's name")
            elif key.startswith(_FETCHING) and item:
                raise _refused(f"{key!r} would fetch weights from elsewhere")
            else:
                _check(item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _check(item, depth + 1)
    elif isinstance(value, str):
        if value.lstrip().startswith(_EVALUATING):
            raise _refused(f"{value[:40]!r} asks for something to be evaluated")
    elif value is not None and not isinstance(value, bool | int | float):
        raise _refused(f"it holds a {type(value).__name__}")


def _check_target(target: object) -> None:
    if not isinstance(target, str) or not _DOTTED.fullmatch(target):
        raise _refused(f"{str(target)[:80]!r} is not a dotted name")
    if target.startswith(MONAI):
        if target.removeprefix(MONAI) not in ALLOWED_MONAI:
            raise _refused(
                f"{target} is none of the MONAI networks {', '.join(sorted(ALLOWED_MONAI))}"
            )
    elif not target.startswith(OWN):
        raise _refused(f"{target[:80]} is not a network of napari_cxr3d.models or MONAI")


def _refused(why: str) -> InvalidInputError:
    return InvalidInputError(
        "The network's description is refused",
        why=why,
        remedy="describe a network of napari_cxr3d.models with plain values",
    )


def build_network(description: Mapping[str, Any]) -> torch.nn.Module:
    """Build the network on the CPU with fresh weights; torch's random state stays as it is.

    Parameters
    ----------
    description : mapping
        ``{"_target_": "napari_cxr3d.models.codecs.KLCodec", ...}``.

    Raises
    ------
    InvalidInputError
        If the description is refused, or its values do not make a network.
    """
    import torch

    check_description(description)
    with torch.random.fork_rng(devices=[]):
        network = _build(description)
    if not isinstance(network, torch.nn.Module):
        raise _refused("it describes no network")
    return network


def outline_network(description: Mapping[str, Any]) -> torch.nn.Module:
    """The network without memory for its weights (torch's meta device): names and shapes.

    Raises
    ------
    InvalidInputError
        As `build_network`.
    """
    import torch

    with torch.device("meta"):
        return build_network(description)


def _build(value: Any) -> Any:
    if isinstance(value, Mapping):
        arguments = {key: _build(item) for key, item in value.items() if key != TARGET}
        if TARGET not in value:
            return arguments
        network = _network_class(value[TARGET])
        try:
            return network(**arguments)
        except Cxr3dError:
            raise
        except (TypeError, ValueError, ZeroDivisionError, KeyError, RuntimeError) as error:
            raise InvalidInputError(
                f"{value[TARGET]} cannot be built from its description",
                why=" ".join(str(error).split())[:300] or type(error).__name__,
                remedy="update napari-cxr3d, or get the bundle again",
            ) from error
    if isinstance(value, list | tuple):
        return [_build(item) for item in value]
    return value


def _network_class(target: str) -> type[torch.nn.Module]:
    """The class of a target that passed `check_description`."""
    import importlib

    import torch

    module_name, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise InvalidInputError(
            f"There is no network called {target}",
            why=str(error),
            remedy="update napari-cxr3d, or install the library it names",
        ) from error
    home = MONAI if target.startswith(MONAI) else OWN
    if not (
        isinstance(found, type)
        and issubclass(found, torch.nn.Module)
        and found.__module__.startswith(home)
    ):
        raise _refused(f"{target} is not a network's class")
    return found
