"""A table of measured numbers: for people as Markdown, for programs as JSON, for a card."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.io.destination import new_file, write_json
from napari_cxr3d.metrics.image_quality import Metric
from napari_cxr3d.metrics.intervals import Interval, Method, bootstrap_interval, paired_interval

__all__ = ["Report", "Row"]


@dataclass(frozen=True)
class Row:
    """What one method achieved on one case.

    Attributes
    ----------
    case, patient : str
        Identifiers as the cohort gives them; never a name.
    method : str
        The model or baseline.
    metrics : tuple of Metric
        What was measured.
    """

    case: str
    patient: str
    method: str
    metrics: tuple[Metric, ...]


@dataclass(frozen=True)
class Report:
    """Methods compared on the same cases.

    Attributes
    ----------
    title : str
        What was evaluated.
    rows : tuple of Row
        Every method on every case.
    context : mapping
        What a reader needs to repeat it: command, seed, data and its hashes, bundle.
    confidence, bootstrap, resamples, seed
        Of the intervals; see `napari_cxr3d.metrics.bootstrap_interval`.

    Raises
    ------
    InvalidInputError
        If there are no rows, a case stands twice under one method, methods were not measured
        on the same cases by the same metrics, or one metric has two conventions.
    """

    title: str
    rows: tuple[Row, ...]
    context: Mapping[str, Any] = field(default_factory=dict)
    confidence: float = 0.95
    bootstrap: Method = "BCa"
    resamples: int = 9999
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", tuple(self.rows))
        if not self.rows:
            raise InvalidInputError("There is nothing to report")
        measured = {(row.method, row.case) for row in self.rows}
        if len(measured) < len(self.rows):
            raise InvalidInputError("A case stands twice under one method")
        cases = {case for _, case in measured}
        names = {metric.name for row in self.rows for metric in row.metrics}
        whole = len(measured) == len(cases) * len({method for method, _ in measured})
        if not whole or any({m.name for m in row.metrics} != names for row in self.rows):
            raise InvalidInputError(
                "Methods are compared on the same cases by the same metrics",
                why=f"there are {len(self.rows)} rows of {len(cases)} cases",
            )
        for row in self.rows:
            for metric in row.metrics:
                if metric.convention != self.conventions[metric.name]:
                    raise InvalidInputError(
                        f"{metric.name} was measured in two ways",
                        why=f"{metric.convention}; {self.conventions[metric.name]}",
                        remedy="measure all cases with one data range and one kind of mask",
                    )

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """The methods, in the order in which they first stand."""
        return tuple(dict.fromkeys(row.method for row in self.rows))

    @cached_property
    def conventions(self) -> dict[str, str]:
        """How each metric was measured, in the order of the first row."""
        return {metric.name: metric.convention for metric in self.rows[0].metrics}

    @cached_property
    def intervals(self) -> dict[str, dict[str, Interval]]:
        """Mean and interval over patients, by method and metric."""
        return {
            method: {
                name: bootstrap_interval(*self._values(method, name), **self._settings)
                for name in self.conventions
            }
            for method in self.methods
        }

    def difference(self, method: str, other: str, metric: str) -> Interval:
        """How much larger a metric is with one method than with another, patient by patient.

        Raises
        ------
        InvalidInputError
            If a method or the metric is unknown.
        """
        values, patients = self._values(method, metric)
        order = {row.case: k for k, row in enumerate(self._of(method))}
        others = sorted(self._of(other), key=lambda row: order[row.case])
        return paired_interval(
            values, [_value(row, metric) for row in others], patients, **self._settings
        )

    @property
    def _settings(self) -> dict[str, Any]:
        return {
            "confidence": self.confidence,
            "method": self.bootstrap,
            "resamples": self.resamples,
            "seed": self.seed,
        }

    def _of(self, method: str) -> list[Row]:
        rows = [row for row in self.rows if row.method == method]
        if not rows:
            raise InvalidInputError(
                f"The report knows no method {method!r}",
                remedy=f"choose one of {', '.join(self.methods)}",
            )
        return rows

    def _values(self, method: str, metric: str) -> tuple[list[float], list[str]]:
        if metric not in self.conventions:
            raise InvalidInputError(
                f"The report knows no metric {metric!r}",
                remedy=f"choose one of {', '.join(self.conventions)}",
            )
        rows = self._of(method)
        return [_value(row, metric) for row in rows], [row.patient for row in rows]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-serialisable form; an infinite number is the text ``"inf"``."""
        first = {metric.name: metric for metric in self.rows[0].metrics}
        return {
            "title": self.title,
            "context": dict(self.context),
            "metrics": {
                name: {
                    "convention": metric.convention,
                    "unit": metric.unit,
                    "higher_is_better": metric.higher_is_better,
                }
                for name, metric in first.items()
            },
            "summary": {
                method: {
                    name: {
                        "mean": _number(interval.mean),
                        "interval": None
                        if interval.low is None
                        else [_number(interval.low), _number(interval.high)],
                        "patients": interval.patients,
                        "interval_convention": interval.convention,
                    }
                    for name, interval in intervals.items()
                }
                for method, intervals in self.intervals.items()
            },
            "rows": [
                {
                    "case": row.case,
                    "patient": row.patient,
                    "method": row.method,
                    **{metric.name: _number(metric.value) for metric in row.metrics},
                }
                for row in self.rows
            ],
        }

    def to_card(self, method: str) -> dict[str, dict[str, Any]]:
        """One method's numbers as a bundle's card states them.

        Parameters
        ----------
        method : str
            The bundle's own model.
        """
        self._of(method)
        units = {metric.name: metric.unit for metric in self.rows[0].metrics}
        card: dict[str, dict[str, Any]] = {}
        for name, interval in self.intervals[method].items():
            entry: dict[str, Any] = {"value": interval.mean, "patients": interval.patients}
            if units[name]:
                entry["unit"] = units[name]
            if interval.low is not None:
                entry["interval"] = [interval.low, interval.high]
                entry["interval_convention"] = interval.convention
            card[name] = {**entry, "convention": self.conventions[name]}
        return card

    def to_markdown(self) -> str:
        """The summary, the conventions and every case, as a page of Markdown."""
        names = list(self.conventions)
        units = {metric.name: metric.unit for metric in self.rows[0].metrics}
        heads = [f"{name} ({units[name]})" if units[name] else name for name in names]
        summary = [
            [method, *(_shown(self.intervals[method][name]) for name in names)]
            for method in self.methods
        ]
        cases = [
            [row.case, row.patient, row.method, *(_digits(_value(row, n)) for n in names)]
            for row in self.rows
        ]
        patients = len({row.patient for row in self.rows})
        intervals = dict.fromkeys(
            interval.convention for by in self.intervals.values() for interval in by.values()
        )
        blocks = [
            f"# {self.title}",
            f"{len({row.case for row in self.rows})} cases of {patients} patients.",
            _table(["method", *heads], summary),
            "\n".join(f"- `{name}`: {told}." for name, told in self.conventions.items()),
            "\n".join(f"- In brackets: {told}." for told in intervals),
            "## Cases",
            _table(["case", "patient", "method", *heads], cases),
        ]
        if self.context:
            told = "\n".join(f"- {key}: {value}" for key, value in self.context.items())
            blocks += ["## Made with", told]
        return "\n\n".join(blocks) + "\n"

    def write(self, folder: str | Path, *, overwrite: bool = False) -> tuple[Path, Path]:
        """Write ``report.json`` and ``report.md``.

        Parameters
        ----------
        folder : path-like
            An existing folder.
        overwrite : bool
            Whether reports that stand there may be replaced.

        Returns
        -------
        tuple of 2 Path
            The files.

        Raises
        ------
        ExportError
            If they must not or cannot be written.
        """
        folder = Path(folder)
        as_json, as_markdown = folder / "report.json", folder / "report.md"
        with new_file(as_markdown, overwrite=overwrite) as temporary:
            temporary.write_text(self.to_markdown(), encoding="utf-8")
            write_json(as_json, self.to_dict(), overwrite=overwrite)
        return as_json, as_markdown


def _value(row: Row, name: str) -> float:
    return next(metric.value for metric in row.metrics if metric.name == name)


def _number(value: float | None) -> float | str | None:
    if value is None or math.isfinite(value):
        return value
    return str(value)  # JSON knows neither


def _digits(value: float) -> str:
    return f"{value:.4g}"


def _shown(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return _digits(interval.mean)
    return f"{_digits(interval.mean)} [{_digits(interval.low)}, {_digits(interval.high)}]"


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(heads), *(list(row) for row in rows)]
    texts = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    rule = ["---"] * len(texts[0])
    return "\n".join("| " + " | ".join(line) + " |" for line in (texts[0], rule, *texts[1:]))
