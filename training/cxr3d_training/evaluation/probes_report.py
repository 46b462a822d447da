"""Probe a world model's bundle beside peers, and write what was found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.io.destination import new_file, write_json

__all__ = ["TABLES", "ProbePlan", "ProbeReport", "ProbeTable"]

TABLES = ("labels", "few", "orbit")
"""The linear probe by label, always; learning from few; risk and findings of the orbit."""


@dataclass(frozen=True)
class ProbePlan:
    """What is probed.

    Attributes
    ----------
    tables : tuple of str
        Of `TABLES`.
    look : str
        Of the X-rays: ``realistic`` or ``drr``.
    least : int
        Positives and negatives that a label needs on the training and the test side.
    shots : tuple of int
        Cases with and without a label that learning from few sees, before all.
    draws : int
        Seeds of those draws.
    epochs : int
        Of the supervised network; 0 leaves it out.
    fine_tune : bool
        Whether networks are fine-tuned on few cases too, for the five findings.
    angles : int
        Of the orbit that is read.
    seed : int
        Of random weights, of the supervised network, of survival times.
    """

    tables: tuple[str, ...] = TABLES
    look: str = "realistic"
    least: int = 10
    shots: tuple[int, ...] = (4, 8, 16)
    draws: int = 5
    epochs: int = 10
    fine_tune: bool = False
    angles: int = 7
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "tables", tuple(dict.fromkeys(("labels", *self.tables))))
        unknown = set(self.tables) - set(TABLES)
        if unknown:
            raise InvalidInputError(
                f"There is no table called {', '.join(sorted(unknown))}",
                remedy=f"choose of {', '.join(TABLES)}",
            )
        if min(self.least, self.draws, self.angles, *self.shots) < 1 or self.epochs < 0:
            raise InvalidInputError(
                "Probes need a case, a draw and an angle or more", why=f"the plan is {self}"
            )


@dataclass(frozen=True)
class ProbeTable:
    """Lines of figures under heads.

    Attributes
    ----------
    title : str
        What they are.
    heads : tuple of str
        Of the columns, the first names the line.
    rows : tuple of tuple of str
        As they are printed.
    conventions : tuple of str
        How they were made.
    """

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    conventions: tuple[str, ...] = ()

    def to_markdown(self) -> str:
        """Heading, table, conventions."""
        lines = [self.heads, ("---",) * len(self.heads), *self.rows]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        told = "\n".join(f"- {line}" for line in self.conventions)
        return "\n\n".join(part for part in (f"## {self.title}", table, told) if part)


@dataclass(frozen=True)
class ProbeReport:
    """All tables of a probe.

    Attributes
    ----------
    tables : tuple of ProbeTable
        In order.
    figures : mapping
        The same numbers for programs: by table, method and label.
    context : mapping
        What a reader needs to repeat it.
    notes : tuple of str
        What falls short.
    """

    tables: tuple[ProbeTable, ...]
    figures: Mapping[str, Any]
    context: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-serialisable form."""
        return {
            "title": "Probes of a world model",
            "context": dict(self.context),
            "notes": list(self.notes),
            "figures": dict(self.figures),
            "tables": [asdict(table) for table in self.tables],
        }

    def to_markdown(self) -> str:
        """The page."""
        blocks = ["# Probes of a world model"]
        if self.notes:
            blocks.append("\n".join(f"- {note}" for note in self.notes))
        blocks += [table.to_markdown() for table in self.tables]
        told = "\n".join(f"- {key}: {value}" for key, value in self.context.items())
        return "\n\n".join([*blocks, "## Made with", told]) + "\n"

    def write(self, folder: str | Path, *, overwrite: bool = False) -> tuple[Path, Path]:
        """Write ``report.json`` and ``report.md`` into an existing folder.

        Raises
        ------
        ExportError
            If they must not or cannot be written.
        """
        as_json, as_markdown = Path(folder) / "report.json", Path(folder) / "report.md"
        with new_file(as_markdown, overwrite=overwrite) as temporary:
            temporary.write_text(self.to_markdown(), encoding="utf-8")
            write_json(as_json, self.to_dict(), overwrite=overwrite)
        return as_json, as_markdown


def shown(value: float, low: float | None = None, high: float | None = None) -> str:
    """A figure with its interval, as tables print it."""
    if low is None or high is None:
        return f"{value:.3f}"
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def told_p(p: float | None) -> str:
    """A p value, as tables print it."""
    if p is None:
        return "-"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def lines(rows: Iterable[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """Rows of a table."""
    return tuple(tuple(row) for row in rows)
