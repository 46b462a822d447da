"""``cxr3d doctor``: what works on this computer, and how to mend what does not."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from napari_cxr3d.cli.checks import SECTIONS, Finding, State
from napari_cxr3d.progress import Progress
from napari_cxr3d.terminal import console
from napari_cxr3d.terminal.command import FAILURE

__all__ = ["doctor"]

_MARKS: dict[State, str] = {"ok": "ok", "limited": "--", "missing": "!!"}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check what works on this computer.

    Every trouble comes with what to type to mend it. The exit status is 0 when a CT can be
    read and projected, 1 when something needed for that is missing. The report names no
    patient, no host and no user.
    """
    report: dict[str, list[Finding]] = {}
    with console.progress_bar("Looking around") as show:
        for done, (title, check) in enumerate(SECTIONS.items()):
            if show is not None:
                show(Progress(done, len(SECTIONS), f"Looking at: {title}"))
            report[title] = list(check())
    usable = all(f.state != "missing" for findings in report.values() for f in findings)

    if as_json:
        console.result_json(
            {"ok": usable, "sections": {t: [asdict(f) for f in fs] for t, fs in report.items()}}
        )
    else:
        for title, findings in report.items():
            console.result(f"{title}\n{_lines(findings)}\n")
        console.result(_verdict(report, usable))
    if not usable:
        raise typer.Exit(FAILURE)


def _lines(findings: list[Finding]) -> str:
    rows = []
    for finding in findings:
        rows.append((_MARKS[finding.state], finding.name, finding.detail))
        if finding.remedy:
            rows.append(("", "", f"-> {finding.remedy}"))
    return console.table(rows)


def _verdict(report: dict[str, list[Finding]], usable: bool) -> str:
    limited = sum(f.state == "limited" for findings in report.values() for f in findings)
    if not usable:
        return "Something that every command needs is missing: see the lines marked !!."
    if limited:
        return "Reading and projecting a CT works here; the lines marked -- limit other parts."
    return "Everything works here."
