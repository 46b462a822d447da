"""``cxr3d-train evaluate``: measure a trained model on held-out patients."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from cxr3d_training.cli.options import CheckpointName, DeviceName, RunPath, command_line
from napari_cxr3d.terminal import console

__all__ = ["evaluate"]

Side = Literal["test", "validation", "train", "all"]


def evaluate(
    run: RunPath,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            show_default="the run's own",
            help="Other data: a prepared dataset, a folder of CTs, phantom:N.",
        ),
    ] = None,
    split: Annotated[Side, typer.Option(help="Which side of the split of patients.")] = "test",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            show_default="RUN/evaluation",
            help="Where report.json and report.md go.",
        ),
    ] = None,
    checkpoint: CheckpointName = "best",
    device: DeviceName = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace reports that are already there.")
    ] = False,
) -> None:
    """Measure a run's model beside its baselines, patient by patient.

    The report is printed as Markdown, with the convention of every number and a bootstrap
    interval over patients, and written as report.json and report.md.
    """
    from cxr3d_training.evaluation.run import evaluate_run

    with console.interruptible() as cancel, console.progress_bar("Evaluating") as progress:
        report, files = evaluate_run(
            run,
            data=data,
            side=split,
            out=out,
            which=checkpoint,
            device=device,
            command=command_line(),
            overwrite=overwrite,
            progress=progress,
            cancel=cancel,
        )
    if as_json:
        console.result_json(report.to_dict())
    else:
        console.result(report.to_markdown().rstrip())
    console.note(f"Written: {', '.join(map(str, files))}")
