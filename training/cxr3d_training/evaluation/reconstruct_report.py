"""The tables of a reconstruction's evaluation as one report, and its targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from napari_cxr3d.io.destination import new_file
from napari_cxr3d.metrics import Report

__all__ = ["ReconstructionReport", "Target"]

_CASES = "\n\n## Cases\n\n"


@dataclass(frozen=True)
class Target:
    """A claim and whether it held.

    Attributes
    ----------
    claim : str
        What is compared.
    wanted : str
        What was aimed at.
    measured : str
        The figure, with its interval where there is one; empty where nothing was measured.
    met : bool or None
        Whether the figure reaches what was aimed at; None where nothing was measured.
    """

    claim: str
    wanted: str
    measured: str = ""
    met: bool | None = None

    @property
    def verdict(self) -> str:
        """In a word."""
        return "not measured" if self.met is None else "met" if self.met else "missed"


@dataclass(frozen=True)
class ReconstructionReport(Report):
    """The main table, further tables on fewer cases, and the targets.

    Attributes
    ----------
    parts : mapping of str to Report
        Further tables by a short name: each of methods on the same cases by the same metrics.
    targets : tuple of Target
        What was aimed at.
    uncertainty : mapping
        ``scale`` by which the samples' standard deviation is to be multiplied and how it was
        fitted, for the bundle's card; empty where no samples were drawn.
    """

    parts: Mapping[str, Report] = field(default_factory=dict)
    targets: tuple[Target, ...] = ()
    uncertainty: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-serialisable form."""
        return {
            **super().to_dict(),
            "parts": {name: part.to_dict() for name, part in self.parts.items()},
            "targets": [{**asdict(t), "verdict": t.verdict} for t in self.targets],
            "uncertainty": dict(self.uncertainty),
        }

    def to_markdown(self) -> str:
        """Targets first, then every table with its conventions, then all cases."""
        _, cases, context = _split(super().to_markdown())
        blocks = [self.to_summary(), "## Cases", cases]
        for part in self.parts.values():
            blocks += [f"### {part.title}", _split(part.to_markdown())[1]]
        return "\n\n".join(block.strip() for block in (*blocks, context) if block) + "\n"

    def to_summary(self) -> str:
        """The same without the cases and how it was made: for a page of documentation."""
        title, _, tables = _split(super().to_markdown())[0].partition("\n\n")
        blocks = [title]
        if self.targets:
            blocks += ["## Targets", self._targets()]
        blocks += ["## All cases", tables]
        blocks += ["#" + _split(part.to_markdown())[0] for part in self.parts.values()]
        if self.uncertainty:
            told = "\n".join(f"- {key}: {value}" for key, value in self.uncertainty.items())
            blocks += ["## Calibration of the uncertainty", told]
        return "\n\n".join(block.strip() for block in blocks) + "\n"

    def write(self, folder: str | Path, *, overwrite: bool = False) -> tuple[Path, Path]:
        """Write ``report.json`` and ``report.md``, and ``tables.md`` without the cases.

        Parameters and errors as `Report.write`.
        """
        with new_file(Path(folder) / "tables.md", overwrite=overwrite) as temporary:
            temporary.write_text(self.to_summary(), encoding="utf-8")
            return super().write(folder, overwrite=overwrite)

    def _targets(self) -> str:
        lines = ["| target | wanted | measured | |", "|---|---|---|---|"]
        lines += [
            f"| {t.claim} | {t.wanted} | {t.measured or '-'} | {t.verdict} |" for t in self.targets
        ]
        return "\n".join(lines)


def _split(page: str) -> tuple[str, str, str]:
    """A report's page as its summary, the table of its cases, and how it was made."""
    summary, _, rest = page.partition(_CASES)
    cases, made, context = rest.partition("\n\n## Made with\n\n")
    return summary, cases, f"## Made with\n\n{context}" if made else ""
