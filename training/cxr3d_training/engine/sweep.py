"""Every combination of some settings, trained one after the other, in a table that resumes."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cxr3d_training.engine.folder import RunFolder, replace_text
from cxr3d_training.engine.hardware import Hardware
from cxr3d_training.engine.settings import override, parse_override
from napari_cxr3d.errors import Cancelled, InvalidInputError
from napari_cxr3d.progress import CancelToken, ProgressCallback, part_of

__all__ = ["SweepTable", "grid", "one_at_a_time", "run_sweep"]

Cell = dict[str, Any]
_LONGEST_NAME = 100


@dataclass
class SweepTable:
    """A row a combination.

    Attributes
    ----------
    settings : tuple of str
        The keys that vary or are set.
    rows : list of dict
        ``run`` (its folder), the settings, ``state`` (done, stopped, failed or waiting),
        ``step``, ``seconds`` (of this call), the validation figures, ``error``.
    monitor : str
        The figure that ranks.
    higher_is_better : bool
        Which way.
    interrupted : bool
        Whether the user stopped it.
    """

    settings: tuple[str, ...]
    rows: list[dict[str, Any]]
    monitor: str = ""
    higher_is_better: bool = False
    interrupted: bool = False
    figures: list[str] = field(default_factory=list)

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the table, in order."""
        errors = ("error",) if any(row.get("error") for row in self.rows) else ()
        return ("run", *self.settings, "state", "step", *self.figures, "seconds", *errors)

    @property
    def failed(self) -> int:
        """How many combinations failed."""
        return sum(row["state"] == "failed" for row in self.rows)

    def ranked(self) -> list[dict[str, Any]]:
        """The rows, the best first; those without a figure last."""
        sign = -1.0 if self.higher_is_better else 1.0

        def key(row: Mapping[str, Any]) -> tuple[bool, float]:
            figure = row.get(self.monitor)
            return figure is None, 0.0 if figure is None else sign * figure

        return sorted(self.rows, key=key)

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable form."""
        return {
            "monitor": self.monitor,
            "higher_is_better": self.higher_is_better,
            "rows": self.rows,
        }

    def write(self, folder: Path) -> None:
        """``sweep.csv`` and ``sweep.json``, each whole at every moment."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(self.rows)
        replace_text(folder / "sweep.csv", text.getvalue())
        replace_text(folder / "sweep.json", json.dumps(self.to_dict(), indent=2) + "\n")


def grid(texts: Sequence[str]) -> list[Cell]:
    """All combinations of ``key=a,b,c`` texts, as settings by dotted key.

    A comma inside brackets belongs to a value: ``crop=[32,32,32],[64,64,64]`` are two. Keys that
    are joined by ``+`` get each value together: ``model.yaw_step+poses.yaw_step=3,6``.

    Raises
    ------
    InvalidInputError
        If a text is no setting, or a key stands twice.
    """
    choices = _choices(texts)
    return [
        _joined(zip(choices, values, strict=True))
        for values in itertools.product(*choices.values())
    ]


def one_at_a_time(texts: Sequence[str], base: Mapping[str, Any]) -> list[Cell]:
    """The settings as they are, then each value of each ``key=a,b,c`` text alone: an ablation.

    Parameters
    ----------
    texts : sequence of str
        As for `grid`.
    base : mapping
        The settings that are changed.

    Raises
    ------
    InvalidInputError
        As `grid`, or if a key does not stand in the settings.
    """
    choices = _choices(texts)
    start = {key: _value_of(base, key) for keys in choices for key in keys}
    cells = [start]
    for keys, values in choices.items():
        for value in values:
            cell = {**start, **dict.fromkeys(keys, value)}
            if cell not in cells:
                cells.append(cell)
    return cells


def _choices(texts: Sequence[str]) -> dict[tuple[str, ...], list[Any]]:
    choices: dict[tuple[str, ...], list[Any]] = {}
    seen: set[str] = set()
    for text in texts:
        key, equals, values = text.partition("=")
        keys = tuple(part.strip() for part in key.split("+"))
        for one in keys:
            if one in seen:
                raise InvalidInputError(f"{one} stands twice")
            seen.add(one)
        choices[keys] = [parse_override(f"{keys[0]}{equals}{value}")[1] for value in _apart(values)]
    return choices


def _joined(pairs: Iterable[tuple[tuple[str, ...], Any]]) -> Cell:
    return {key: value for keys, value in pairs for key in keys}


def _value_of(settings: Mapping[str, Any], key: str) -> Any:
    place: Any = settings
    for part in key.split("."):
        if not isinstance(place, Mapping) or part not in place:
            raise InvalidInputError(
                f"There is no setting {key!r} to change one at a time",
                remedy="name one that stands in the preset",
            )
        place = place[part]
    return place


def _apart(values: str) -> list[str]:
    parts, depth = [""], 0
    for letter in values:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def cell_name(cell: Mapping[str, Any], varying: Sequence[str]) -> str:
    """The folder of a combination: readable, the same whatever other combinations there are."""
    text = ",".join(f"{key.rsplit('.', 1)[-1]}={cell[key]}" for key in varying) or "single"
    name = re.sub(r"[^\w=,.+-]+", "_", text)
    digest = hashlib.sha256(json.dumps(dict(cell), sort_keys=True).encode()).hexdigest()[:8]
    return f"{name[:_LONGEST_NAME]}-{digest}"


def run_sweep(
    recipe: str,
    base: Mapping[str, Any],
    cells: Sequence[Cell],
    out: str | Path,
    *,
    preset: str = "",
    accelerator: str = "auto",
    max_minutes: float | None = None,
    command: str = "",
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
    notify: Callable[[str], None] | None = None,
) -> SweepTable:
    """Train every cell on one device, and keep the table up to date.

    Parameters
    ----------
    recipe : str
        Its name.
    base : mapping
        The settings that the cells change.
    cells : sequence of dict
        As `grid` makes them.
    out : path-like
        Folder of the table; each cell's run lies in a folder of its own there.
    preset, command : str
        For the record.
    accelerator : str
        Kind of device.
    max_minutes : float, optional
        For the whole sweep.
    progress, cancel, notify : optional
        As for `fit`.

    Returns
    -------
    SweepTable
        With a row for every cell, also where some failed: the row says why.

    Raises
    ------
    InvalidInputError
        If no cell's settings can be used.
    """
    from cxr3d_training.engine.fit import fit
    from cxr3d_training.recipes import find, make

    folder = Path(out)
    kind = find(recipe)
    keys = tuple(cells[0])
    varying = [k for k in keys if len({json.dumps(cell[k]) for cell in cells}) > 1] or list(keys)
    made = [make(recipe, override(base, cell), known=base) for cell in cells]
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {"run": cell_name(cell, varying), **cell, "state": "waiting", "step": 0} for cell in cells
    ]
    table = SweepTable(keys, rows, kind.monitor, kind.higher_is_better)
    began = time.monotonic()
    for index, (row, one) in enumerate(zip(rows, made, strict=True)):
        left = None if max_minutes is None else max_minutes - (time.monotonic() - began) / 60
        if left is not None and left <= 0:
            break
        path = folder / row["run"]
        if _finished(path, row, table):
            continue
        started = time.monotonic()
        try:
            result = fit(
                one,
                path,
                preset=preset,
                hardware=Hardware(accelerator=accelerator, devices=1),
                resume=True,
                max_minutes=left,
                command=command,
                progress=part_of(progress, index / len(rows), (index + 1) / len(rows)),
                cancel=cancel,
            )
        except Cancelled:
            table.interrupted = True
        except Exception as error:  # noqa: BLE001 - one failed cell must not cost the others
            row |= {"state": "failed", "error": " ".join(str(error).split())}
            if notify is not None:
                notify(f"{row['run']} failed: {error}")
        else:
            state = "done" if result.reason == "done" else "stopped"
            row |= {"state": state, "step": result.step, "error": None}
            _add_figures(row, result.figures, table)
            table.interrupted = result.reason in ("interrupted", "terminated")
        row["seconds"] = round(time.monotonic() - started, 2)
        table.write(folder)
        if table.interrupted or (cancel is not None and cancel.cancelled):
            table.interrupted = True
            break
    table.write(folder)
    return table


def _finished(path: Path, row: dict[str, Any], table: SweepTable) -> bool:
    """Whether a cell's run came to its end before; its row then takes the figures from it."""
    run = RunFolder(path)
    sessions = run.read_provenance().get("sessions", [])
    if not sessions or sessions[-1]["reason"] != "done":
        return False
    from cxr3d_training.engine.runlog import read_log

    prefix = "validation/"
    found: dict[str, float] = {}
    for line in read_log(run.log):
        if any(key.startswith(prefix) for key in line):
            found = {k.removeprefix(prefix): v for k, v in line.items() if k.startswith(prefix)}
    row |= {"state": "done", "step": sessions[-1]["to_step"], "error": None}
    row["seconds"] = round(sum(session["seconds"] for session in sessions), 2)
    _add_figures(row, found, table)
    return True


def _add_figures(row: dict[str, Any], figures: Mapping[str, float], table: SweepTable) -> None:
    row |= figures
    table.figures += [name for name in figures if name not in table.figures]
