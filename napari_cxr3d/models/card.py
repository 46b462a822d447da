"""What a bundle says of itself: the fields that must be there, and their text for people."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from numbers import Real
from textwrap import wrap
from typing import Any

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.hu_window import HuWindow

__all__ = ["REQUIRED", "check_card", "describe_card", "version_key"]

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
_VERSION = re.compile(r"\d{1,9}(\.\d{1,9}){0,3}")
_WIDTH = 88  # of the text for people
_HASH_SHOWN = 12  # digits


def version_key(version: str) -> tuple[int, ...]:
    """What versions are ordered by: ``"1.10"`` comes after ``"1.9.3"``."""
    return tuple(int(part) for part in version.split("."))


def _slug(value: Any) -> str:
    if isinstance(value, str) and _SLUG.fullmatch(value):
        return ""
    return "small letters, digits and hyphens, such as codec-demo"


def _version(value: Any) -> str:
    return "" if isinstance(value, str) and _VERSION.fullmatch(value) else 'a text such as "1.0.0"'


def _text(value: Any) -> str:
    return "" if isinstance(value, str) and value.strip() else "a text"


def _flag(value: Any) -> str:
    return "" if isinstance(value, bool) else "true or false"


def _preprocessing(value: Any) -> str:
    if not isinstance(value, Mapping):
        return "a mapping, such as {hu_window: [-1000, 1000], spacing_mm: [2, 2, 2]}"
    if "hu_window" in value or "network_range" in value:
        try:
            HuWindow.from_dict(value)
        except InvalidInputError as error:
            return f"rising limits in hu_window and network_range ({error.why or error.what})"
    spacing = value.get("spacing_mm", [1.0, 1.0, 1.0])
    numbers = spacing if isinstance(spacing, list | tuple) else [spacing]
    if not all(_is_number(n) and n > 0 for n in numbers):
        return "positive millimetres in spacing_mm"
    return ""


def _training(value: Any) -> str:
    if not isinstance(value, Mapping) or not {"command", "seed", "data"} <= set(value):
        return "a mapping with command, seed and data (null where it is not known)"
    if not (value["seed"] is None or (type(value["seed"]) is int)):
        return "a whole number or null in seed"
    return ""


def _metrics(value: Any) -> str:
    if not isinstance(value, Mapping):
        return "a mapping, empty where nothing was measured"
    for name, entry in value.items():
        if not (
            isinstance(entry, Mapping)
            and _is_number(entry.get("value"))
            and isinstance(entry.get("convention"), str)
            and entry["convention"].strip()
        ):
            return f"a number in value and a text in convention of {name}"
    return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


# Each check gives what the field should hold, empty where it does.
REQUIRED: Mapping[str, Callable[[Any], str]] = {
    "name": _slug,
    "version": _version,
    "kind": _slug,
    "licence": _text,
    "intended_use": _text,
    "limits": _text,
    "synthetic_training": _flag,
    "preprocessing": _preprocessing,
    "training": _training,
    "metrics": _metrics,
}
RESERVED = ("format", "format_version", "network", "weights", "files")


def check_card(card: Mapping[str, Any]) -> None:
    """Refuse a card on which a required field is missing or unusable.

    Parameters
    ----------
    card : mapping
        ``name``, ``version``, ``kind`` (what it is for: ``"codec"``), ``licence``,
        ``intended_use``, ``limits``, ``synthetic_training`` (whether it learned from data that
        no scanner measured), ``preprocessing`` (with ``hu_window``, ``network_range`` and
        ``spacing_mm`` where they apply), ``training`` (``command``, ``seed``, ``data`` with
        its hashes), ``metrics`` (each a ``value`` with its ``convention``). Further fields
        are kept as they are.

    Raises
    ------
    InvalidInputError
        If it does; all troubles in one message.
    """
    missing = [name for name in REQUIRED if name not in card]
    wrong = [
        f"{name} should be {wanted}"
        for name, check in REQUIRED.items()
        if name in card and (wanted := check(card[name]))
    ]
    reserved = [f"{name} is written by the bundle itself" for name in RESERVED if name in card]
    troubles = ([f"{', '.join(missing)} missing"] if missing else []) + wrong + reserved
    if troubles:
        raise InvalidInputError(
            "The model's card is not complete",
            why="; ".join(troubles),
            remedy="fill in the card",
        )


def describe_card(card: Mapping[str, Any]) -> str:
    """The card as lines of text, nested fields indented under their names."""
    head = ["name", "version", "kind", "licence", "synthetic_training"]
    head += ["intended_use", "limits"]
    order = [*head, *(name for name in card if name not in head)]
    return "\n".join(line for name in order if name in card for line in _lines(name, card[name]))


def _lines(name: str, value: Any, indent: str = "") -> list[str]:
    label = f"{indent}{name.replace('_', ' ')}"
    if isinstance(value, Mapping) and value:
        if "convention" in value:  # a metric
            return _wrapped(label, _metric(value), indent)
        inner = [line for key, item in value.items() for line in _lines(key, item, indent + "  ")]
        return [label, *inner]
    return _wrapped(label, _shown(value), indent)


def _metric(entry: Mapping[str, Any]) -> str:
    interval = entry.get("interval")
    within = ""
    if isinstance(interval, list | tuple) and len(interval) == 2:
        within = f" [{interval[0]:.4g}, {interval[1]:.4g}]"
    unit = f" {entry['unit']}" if entry.get("unit") else ""
    patients = f", {entry['patients']} patients" if entry.get("patients") else ""
    return f"{entry['value']:.4g}{unit}{within}{patients} ({entry['convention']})"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "not known"
    if isinstance(value, list | tuple):
        return ", ".join(_shown(item) for item in value) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {_shown(v)}" for k, v in value.items()) or "none"
    if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value):
        return f"{value[:_HASH_SHOWN]}..."
    return f"{value:g}" if isinstance(value, float) else str(value)


def _wrapped(label: str, text: str, indent: str) -> list[str]:
    hanging = f"{indent}    "
    lines = wrap(f"{label}: {text}", _WIDTH, subsequent_indent=hanging, break_on_hyphens=False)
    return lines or [label]
