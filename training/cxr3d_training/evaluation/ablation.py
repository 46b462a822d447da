"""What each setting of a sweep is worth: its runs beside the one with the settings as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_cxr3d.errors import InvalidInputError, UnreadableFileError

__all__ = ["TABLE", "ablation_table"]

TABLE = "sweep.json"
"""By which the folder of a sweep is known."""

_APART = ("run", "state", "step", "seconds", "error")


def ablation_table(folder: str | Path) -> str:
    """A Markdown table with a row a run: what differs in it, and its figures.

    The figures are those on the validation cases; where a run was evaluated by itself
    (``cxr3d-train evaluate RUN``), the means over its held-out patients stand beside them, with
    their intervals.

    Parameters
    ----------
    folder : path-like
        That `cxr3d-train sweep` wrote; its first run is what the others are compared with.

    Raises
    ------
    UnreadableFileError
        If there is no table of a sweep.
    InvalidInputError
        If none of its runs has figures.
    """
    folder = Path(folder)
    try:
        record = json.loads((folder / TABLE).read_text(encoding="utf-8"))
        rows: list[dict[str, Any]] = record["rows"]
        monitor, higher = str(record["monitor"]), bool(record["higher_is_better"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnreadableFileError(
            "The table of a sweep cannot be read",
            why=type(error).__name__,
            remedy="name the folder that cxr3d-train sweep wrote",
            path=folder,
        ) from error
    done = [row for row in rows if row.get(monitor) is not None]
    if not done:
        raise InvalidInputError(
            "No run of the sweep has figures yet", remedy="give its command again: it goes on"
        )
    figures = [name for name in dict.fromkeys(key for row in done for key in row)
               if name not in _APART and isinstance(_first(done, name), float)
               and name not in _settings(rows, monitor)]  # fmt: skip
    figures.sort(key=lambda name: name != monitor)
    measured = {row["run"]: _held_out(folder / row["run"]) for row in done}
    columns = list(dict.fromkeys(name for found in measured.values() for name in found))
    base = done[0]
    lines = [["run", "step", *figures, f"{monitor} against the first", *columns]]
    for row in done:
        change = float(row[monitor]) - float(base[monitor])
        better = "" if change == 0 else " (better)" if (change > 0) == higher else " (worse)"
        lines.append([
            _told(row, base, _settings(rows, monitor)), str(row["step"]),
            *(_digits(row.get(name)) for name in figures),
            "-" if row is base else f"{change:+.4g}{better}",
            *(measured[row["run"]].get(name, "") for name in columns),
        ])  # fmt: skip
    lines.insert(1, ["---"] * len(lines[0]))
    waiting = len(rows) - len(done)
    page = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    page += "\n\nFigures on the validation cases of the training; one seed a run."
    return page + (f" {waiting} of {len(rows)} runs have none yet." if waiting else "")


def _first(rows: list[dict[str, Any]], name: str) -> Any:
    return next((row[name] for row in rows if row.get(name) is not None), None)


def _settings(rows: list[dict[str, Any]], monitor: str) -> list[str]:
    """The keys before ``state``: what `cxr3d_training.engine.sweep` writes first."""
    keys = list(rows[0])
    return keys[1 : keys.index("state")] if "state" in keys else [k for k in keys if "." in k]


def _told(row: Mapping[str, Any], base: Mapping[str, Any], settings: list[str]) -> str:
    """What differs from the first run."""
    changed = [f"{key} = {_plain(row[key])}" for key in settings if row[key] != base[key]]
    return ", ".join(changed) or "as it is"


def _plain(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def _digits(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else ""


def _held_out(run: Path) -> dict[str, str]:
    """Means of the run's model on held-out patients, where it was evaluated."""
    try:
        record = json.loads((run / "evaluation" / "report.json").read_text(encoding="utf-8"))
        summary = record["summary"][record["context"]["model"]]
    except (OSError, ValueError, KeyError):
        return {}
    found = {}
    for name, entry in summary.items():
        ends = entry["interval"]
        told = _digits(entry["mean"])
        if ends is not None:
            told += f" [{_digits(ends[0])}, {_digits(ends[1])}]"
        found[f"{name}, held out"] = told
    return found
