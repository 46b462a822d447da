"""YAML that holds plain data and nothing else, and is written the same way every time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from napari_cxr3d.errors import BundleError, InvalidInputError

__all__ = ["MAX_BYTES", "dump", "load", "plain"]

MAX_BYTES = 1 << 20
_MAX_DEPTH = 32
_MAX_NODES = 50_000


class _Loader(yaml.SafeLoader):
    """`yaml.SafeLoader` that refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value!r} is not a name, or is given twice",
                    problem_mark=key.start_mark,
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """`yaml.SafeDumper` that writes a value out wherever it stands."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def load(content: bytes, path: Path) -> dict[str, Any]:
    """Read a mapping of plain data.

    Strings, numbers, booleans, nothing, lists and mappings with string keys; no tags, no
    anchors and aliases (with which a small file grows to gigabytes), no dates, no key given
    twice, a bounded depth and number of values.

    Parameters
    ----------
    content : bytes
        The file's content, UTF-8.
    path : Path
        Its name, for the message.

    Raises
    ------
    BundleError
        If the file holds anything else.
    """
    if len(content) > MAX_BYTES:
        raise _error(path, f"it has {len(content)} bytes and may have {MAX_BYTES}")
    try:
        text = content.decode("utf-8")
        _require_bounded(text, path)
        document = yaml.load(text, Loader=_Loader)  # a SafeLoader
    except UnicodeDecodeError as error:
        raise _error(path, "it is not UTF-8 text") from error
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        raise _error(path, f"it is not valid YAML ({_where(error)})") from error
    try:
        document = plain(document)
    except InvalidInputError as error:
        raise _error(path, error.why) from error
    if not isinstance(document, dict):
        raise _error(path, "it does not hold a mapping")
    return document


def _require_bounded(text: str, path: Path) -> None:
    """Walk through the file once, without building anything of it."""
    depth = nodes = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _error(path, "it uses anchors and aliases")
        tag = getattr(event, "tag", None)
        if tag is not None and tag != "!":  # "!" is an unquoted scalar's non-specific tag
            raise _error(path, f"it uses the tag {tag!r}")
        nodes += isinstance(event, yaml.NodeEvent)
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH or nodes > _MAX_NODES:
            raise _error(path, "it is nested too deeply or holds too many values")


def _where(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or type(error).__name__
    return f"line {mark.line + 1}: {problem}" if mark is not None else str(problem)


def _error(path: Path, why: str) -> BundleError:
    return BundleError(
        "The description cannot be used",
        why=why,
        remedy="get the bundle again from where it came",
        path=path,
    )


def plain(value: Any) -> Any:
    """The same value of dicts, lists, strings, numbers, booleans and None only.

    Tuples become lists, paths strings, and NumPy's scalars Python's.

    Raises
    ------
    InvalidInputError
        If there is anything else in it.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise _not_plain(f"the key {key!r} is not a string")
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | str):
        return [plain(item) for item in value]
    if type(value).__module__ == "numpy" and hasattr(value, "item") and not value.shape:
        return plain(value.item())
    if isinstance(value, str):
        return str(value)
    raise _not_plain(f"it holds a {type(value).__name__}")


def _not_plain(why: str) -> InvalidInputError:
    return InvalidInputError(
        "Only plain data can be written into a bundle",
        why=why,
        remedy="give strings, numbers, true or false, lists and mappings",
    )


def dump(record: Mapping[str, Any]) -> bytes:
    """Write a mapping of plain data: the same record, the same bytes.

    Parameters
    ----------
    record : mapping
        Of plain data; the keys keep their order.
    """
    text: str = yaml.dump(
        plain(record),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=100,
    )
    return text.encode("utf-8")
