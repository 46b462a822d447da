"""The tables of a world model's evaluation, and what was aimed at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cxr3d_training.evaluation.reconstruct_report import ReconstructionReport, Target
from napari_cxr3d.metrics import Report

__all__ = ["WorldModelReport", "targets"]

_HALF = 0.5
_TIMES_CHANCE = 10.0


@dataclass(frozen=True)
class WorldModelReport(ReconstructionReport):
    """The main table, further ones, the targets, and what a reader must know.

    Attributes
    ----------
    notes : tuple of str
        Sentences: what was left out, and why.
    """

    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-serialisable form."""
        return {**super().to_dict(), "notes": list(self.notes)}

    def to_summary(self) -> str:
        """The tables without their cases, the notes before them."""
        page = super().to_summary()
        if not self.notes:
            return page
        told = "\n".join(f"- {note}" for note in self.notes)
        before, heading, after = page.partition("\n## All cases\n")
        return f"{before}\n## Notes\n\n{told}\n{heading}{after}"


def targets(
    latents: Report,
    parts: Mapping[str, Report],
    *,
    label: str,
    peers: tuple[str, ...] = (),
) -> tuple[Target, ...]:
    """Every target with its figure.

    Ratios are ratios of the means over patients; differences are means over patients of paired
    differences, with their bootstrap interval. A target is met where the figure itself reaches
    it, whatever its interval.

    Parameters
    ----------
    latents : Report
        Of the latent errors.
    parts : mapping of str to Report
        The other tables.
    label : str
        What the model is called in them.
    peers : tuple of str
        What other models are called.
    """
    found: list[Target] = []
    for context in ("DRR", "realistic X-ray"):
        ours, copy = (f"{label}, {what}, of a {context}" for what in ("predicted", "copied"))
        found.append(
            _ratio(f"latent error over that of copying, from a {context}", latents, ours, copy)
        )
    retrieval = parts.get("retrieval")
    for context in ("DRR", "realistic X-ray"):
        for metric, told in (("angle_r1", "right angle"), ("patient_r1", "right patient")):
            found.append(
                _above_chance(
                    f"{told} first, over chance, from a {context}", retrieval,
                    f"{label}, predicted, of a {context}", metric,
                )
            )  # fmt: skip
    found.append(_self_match(parts.get("self_match"), label))
    landmarks = parts.get("landmarks")
    for pair in ("X-ray to DRR", "DRR to X-ray"):
        for other in (*peers, "raw patches", "same place"):
            found.append(
                _nearer(
                    f"landmark error below that of {other}, {pair} of another patient",
                    landmarks, f"{label}, {pair}", f"{other}, {pair}",
                )
            )  # fmt: skip
    return tuple(found)


def _has(report: Report | None, metric: str, *methods: str) -> bool:
    return (
        report is not None
        and metric in report.conventions
        and all(method in report.methods for method in methods)
    )


def _ratio(claim: str, report: Report, ours: str, copy: str) -> Target:
    wanted = f"<= {_HALF:g}"
    if not _has(report, "latent_error", ours, copy):
        return Target(claim, wanted)
    top, bottom = (report.intervals[method]["latent_error"].mean for method in (ours, copy))
    value = top / bottom if bottom > 0 else float("inf")
    return Target(claim, wanted, f"{value:.3g} ({top:.3g} / {bottom:.3g})", value <= _HALF)


def _above_chance(claim: str, report: Report | None, method: str, metric: str) -> Target:
    wanted = f">= {_TIMES_CHANCE:g} times"
    if not _has(report, metric, method, "chance"):
        return Target(claim, wanted)
    assert report is not None
    value, chance = (report.intervals[name][metric].mean for name in (method, "chance"))
    times = value / chance
    # With fewer than ten to choose among nothing can be ten times chance.
    met = times >= _TIMES_CHANCE if chance * _TIMES_CHANCE <= 1 else None
    return Target(claim, wanted, f"{times:.3g} times ({value:.3g} / {chance:.3g})", met)


def _self_match(report: Report | None, label: str) -> Target:
    claim, wanted = "a clicked patch finds itself", "100 %"
    if not _has(report, "self_match", label):
        return Target(claim, wanted)
    assert report is not None
    value = report.intervals[label]["self_match"].mean
    return Target(claim, wanted, f"{100 * value:.4g} %", value == 1.0)


def _nearer(claim: str, report: Report | None, ours: str, other: str) -> Target:
    wanted = "< 0 mm"
    if not _has(report, "error_all", ours, other):
        return Target(claim, wanted)
    assert report is not None
    gap = report.difference(ours, other, "error_all")
    told = f"{gap.mean:.3g}"
    if gap.low is not None and gap.high is not None:
        told += f" [{gap.low:.3g}, {gap.high:.3g}]"
    return Target(claim, wanted, f"{told} mm", gap.mean < 0)
