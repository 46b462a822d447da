"""Settings of a run: from YAML and ``key=value`` to frozen dataclasses and back.

A key that no dataclass has is refused, with the nearest that there is; a value of the wrong
kind is refused with the key's name. Nothing in a file is evaluated.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import types
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from cxr3d_training.engine.schedules import Schedule
from napari_cxr3d.errors import Cxr3dError, InvalidInputError, UnreadableFileError

__all__ = [
    "build",
    "differences",
    "digest",
    "leaves",
    "override",
    "parse_override",
    "preset_names",
    "preset_text",
    "read_preset",
    "read_yaml",
    "to_plain",
]

T = TypeVar("T")
Plain = dict[str, Any]

# YAML 1.1 takes 1e-4 for text; people mean the number.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")


def preset_names(recipe: str) -> tuple[str, ...]:
    """The presets that ship for a recipe, the smallest first."""
    folder = _presets() / recipe
    names = [f.name[:-5] for f in folder.iterdir() if f.name.endswith(".yaml")]
    order = {"tiny": 0, "demo": 1, "paper": 2}
    return tuple(sorted(names, key=lambda name: (order.get(name, len(order)), name)))


def preset_text(recipe: str, preset: str) -> str:
    """A preset's file, with its comments.

    Raises
    ------
    InvalidInputError
        If the recipe has no such preset.
    """
    names = preset_names(recipe)
    if preset not in names:
        raise InvalidInputError(
            f"The recipe {recipe} has no preset {preset!r}", remedy=f"choose {', '.join(names)}"
        )
    return (_presets() / recipe / f"{preset}.yaml").read_text(encoding="utf-8")


def read_preset(recipe: str, preset: str) -> Plain:
    """The settings of a preset that ships with the package; errors as `preset_text`."""
    return _parse(preset_text(recipe, preset))


def _presets() -> Traversable:
    """Inside the package in a wheel; beside it in a checkout."""
    package = files("cxr3d_training")
    inside = package / "configs"
    return inside if inside.is_dir() else Path(str(package)).parent / "configs"


def read_yaml(path: Path) -> Plain:
    """The settings of a file.

    Raises
    ------
    UnreadableFileError
        If the file cannot be read or is no YAML mapping.
    """
    try:
        return _parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, InvalidInputError) as error:
        raise UnreadableFileError(
            "The settings cannot be read", why=" ".join(str(error).split()), path=path
        ) from error


def _parse(text: str) -> Plain:
    record = yaml.safe_load(text)
    if not isinstance(record, dict):
        raise InvalidInputError("Settings are a YAML mapping of keys and values")
    return {str(key): _numbers(value) for key, value in record.items()}


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _numbers(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_numbers(v) for v in value]
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value


def parse_override(text: str) -> tuple[str, Any]:
    """Key and value of ``"optimizers.codec.lr=1e-4"``; the value is read as YAML.

    Raises
    ------
    InvalidInputError
        If there is no ``=`` or the value is no YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InvalidInputError(
            f"{text!r} is no setting", remedy="write key=value, for example run.steps=500"
        )
    try:
        return key.strip(), _numbers(yaml.safe_load(value))
    except yaml.YAMLError as error:
        raise InvalidInputError(f"The value of {key.strip()} cannot be read: {value!r}") from error


def override(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> Plain:
    """Copy of the settings with dotted keys replaced.

    Raises
    ------
    InvalidInputError
        If a key leads through something that has no keys.
    """
    result = json.loads(json.dumps(settings))
    for key, value in changes.items():
        *path, last = key.split(".")
        place = result
        for depth, part in enumerate(path):
            inner = place.get(part)
            if inner is None:
                inner = place[part] = {}
            if not isinstance(inner, dict):
                raise InvalidInputError(
                    f"There is no setting {key!r}",
                    why=f"{'.'.join(path[: depth + 1])} is a single value, {inner!r}",
                )
            place = inner
        place[last] = value
    return dict(result)


def build(
    kind: type[T], settings: Mapping[str, Any], *, known: Mapping[str, Any] | None = None
) -> T:
    """An instance of a settings dataclass.

    Parameters
    ----------
    kind : dataclass
        Its fields are numbers, text, booleans, `Schedule`, lists and mappings of those, or
        further dataclasses.
    settings : mapping
        Nested keys and values. What is not given takes the dataclass's default.
    known : mapping, optional
        The preset before it was changed: inside a free mapping (a network's definition) the keys
        that it has are the only ones that may be given.

    Raises
    ------
    InvalidInputError
        If a key is unknown or missing, or a value is of the wrong kind.
    """
    _require_known(kind, settings, settings if known is None else known)
    made = _convert(kind, dict(settings), "")
    assert isinstance(made, kind)
    return made


def _require_known(kind: Any, settings: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Refuse keys that neither the dataclass nor the preset has."""
    for key in leaves(settings):
        if _permitted(kind, key.split("."), known):
            continue
        have = sorted(set(_fields_of(kind)) | set(leaves(known)))
        last = key.rsplit(".", 1)[-1]
        near = [k for k in have if k.rsplit(".", 1)[-1] == last]
        near += [k for k in get_close_matches(key, have, n=3, cutoff=0.6) if k not in near]
        raise InvalidInputError(
            f"There is no setting {key!r}",
            remedy=f"the nearest are {', '.join(near[:3])}" if near else "",
        )


def _permitted(kind: Any, path: Sequence[str], known: Any) -> bool:
    """Whether a dotted key leads somewhere; free mappings have the keys of the preset."""
    kind = _without_none(kind)
    if not path:
        return True
    inner = known.get(path[0]) if isinstance(known, Mapping) else None
    if kind is Schedule:
        return len(path) == 1 and path[0] in {f.name for f in dataclasses.fields(Schedule)}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        return path[0] in hints and _permitted(hints[path[0]], path[1:], inner)
    if kind is Any or get_origin(kind) is dict:
        value = Any if kind is Any else get_args(kind)[1]
        present = isinstance(known, Mapping) and path[0] in known
        return present and _permitted(value, path[1:], inner)
    return False


def _fields_of(kind: Any, prefix: str = "") -> list[str]:
    found: list[str] = []
    for name, hint in get_type_hints(kind).items():
        inner = _without_none(hint)
        if dataclasses.is_dataclass(inner) and inner is not Schedule:
            found += _fields_of(inner, f"{prefix}{name}.")
        else:
            found.append(f"{prefix}{name}")
    return found


def leaves(settings: Mapping[str, Any], prefix: str = "") -> Plain:
    """The settings as dotted keys: ``{"run.steps": 100, ...}``."""
    flat: Plain = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= leaves(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _convert(kind: Any, value: Any, key: str) -> Any:
    if kind is Any:
        return value
    if _optional(kind):
        return None if value is None else _convert(_without_none(kind), value, key)
    if kind is Schedule:
        return _at(key, lambda: Schedule.parse(value))
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _convert_fields(kind, value, key)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is dict:
        _require(isinstance(value, Mapping), key, "a mapping", value)
        return {str(k): _convert(arguments[1], v, f"{key}.{k}") for k, v in value.items()}
    if origin is tuple:
        _require(isinstance(value, list | tuple), key, "a list", value)
        length = None if arguments[-1] is Ellipsis else len(arguments)
        _require(length in (None, len(value)), key, f"a list of {length}", value)
        kinds = [arguments[0]] * len(value) if length is None else list(arguments)
        return tuple(_convert(k, v, key) for k, v in zip(kinds, value, strict=True))
    if origin is Literal:
        _require(value in arguments, key, " or ".join(map(str, arguments)), value)
        return value
    return _scalar(kind, value, key)


def _convert_fields(kind: type[Any], value: Any, key: str) -> Any:
    _require(isinstance(value, Mapping), key, "a mapping", value)
    hints = get_type_hints(kind)
    missing = [
        f.name
        for f in dataclasses.fields(kind)
        if f.name not in value
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise InvalidInputError(f"The setting {_join(key, missing[0])!r} is missing")
    given = {name: _convert(hints[name], v, _join(key, name)) for name, v in value.items()}
    return _at(key, lambda: kind(**given))


def _scalar(kind: Any, value: Any, key: str) -> Any:
    if kind is bool or kind is str:
        _require(isinstance(value, kind), key, {bool: "true or false", str: "text"}[kind], value)
        return value
    if kind is int:
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        _require(whole and not isinstance(value, bool), key, "a whole number", value)
        return int(value)
    if kind is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        _require(number, key, "a number", value)
        return float(value)
    raise TypeError(f"settings cannot hold {kind} ({key})")


def _require(fits: bool, key: str, kind: str, value: Any) -> None:
    if not fits:
        raise InvalidInputError(f"The setting {key!r} must be {kind}", why=f"it is {value!r}")


def _at(key: str, make: Any) -> Any:
    try:
        return make()
    except Cxr3dError as error:
        if not key:
            raise
        raise InvalidInputError(f"The setting {key!r} cannot be used", why=str(error)) from error


def _join(prefix: str, name: Any) -> str:
    return f"{prefix}.{name}" if prefix else str(name)


def _optional(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType) and type(None) in get_args(kind)


def _without_none(kind: Any) -> Any:
    return next(k for k in get_args(kind) if k is not type(None)) if _optional(kind) else kind


def to_plain(settings: Any) -> Any:
    """Dataclasses as nested mappings of plain values, as YAML and JSON hold them."""
    if isinstance(settings, Schedule):
        return settings.to_plain()
    if dataclasses.is_dataclass(settings):
        return {f.name: to_plain(getattr(settings, f.name)) for f in dataclasses.fields(settings)}
    if isinstance(settings, Mapping):
        return {str(k): to_plain(v) for k, v in settings.items()}
    if isinstance(settings, tuple | list):
        return [to_plain(v) for v in settings]
    return settings


def digest(settings: Mapping[str, Any]) -> str:
    """sha256 of the settings, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The dotted keys whose values differ, with the old and the new value."""
    a, b = leaves(old), leaves(new)
    return {k: (a.get(k), b.get(k)) for k in sorted({*a, *b}) if a.get(k) != b.get(k)}
