"""Whole tables that were measured already: an evaluation that was stopped goes on after them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from napari_cxr3d.io.destination import write_json
from napari_cxr3d.metrics import Metric, Row

__all__ = ["Rows", "TableStore"]

Rows = dict[str, list[Row]]
"""Of a table, by method."""

_FORMAT = 1  # another number, and what was kept is measured again


class TableStore:
    """Tables by name, each with what they depend on.

    Parameters
    ----------
    folder : Path or None
        Where to keep them, one file for tables that are measured together; None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def get(self, name: str, depends: Mapping[str, Any]) -> dict[str, Rows] | None:
        """Tables that were measured together, if they depend on the very same.

        Parameters
        ----------
        name : str
            What they are measured by.
        depends : mapping
            All that changes the figures: JSON-serialisable.
        """
        if self._folder is None or not self._path(name).is_file():
            return None
        try:
            record = json.loads(self._path(name).read_text(encoding="utf-8"))
            if record["depends"] != _key(depends):
                return None
            return {
                table: {method: [_row(row) for row in rows] for method, rows in methods}
                for table, methods in record["tables"]
            }
        except (ValueError, KeyError, TypeError, AttributeError):
            return None  # cut off, or somebody else's: measured again

    def put(self, name: str, depends: Mapping[str, Any], tables: Mapping[str, Rows]) -> None:
        """Keep tables; arguments as `get`."""
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        plain = [  # pairs: the order of tables and methods is theirs
            (table, [(name, [asdict(row) for row in rows]) for name, rows in methods.items()])
            for table, methods in tables.items()
        ]
        record = {"depends": _key(depends), "tables": plain}
        write_json(self._path(name), record, overwrite=True)

    def _path(self, name: str) -> Path:
        assert self._folder is not None  # nobody asks without a folder
        return self._folder / f"{name}.json"


def _row(kept: dict[str, Any]) -> Row:
    metrics = tuple(Metric(**metric) for metric in kept.pop("metrics"))
    return Row(**kept, metrics=metrics)


def _key(depends: Mapping[str, Any]) -> str:
    return sha256(json.dumps([_FORMAT, depends], sort_keys=True).encode()).hexdigest()
