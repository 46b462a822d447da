"""``cxr3d-train probe``: what a world model's frozen weights know of findings and risk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from cxr3d_training.cli.options import DeviceName, command_line
from napari_cxr3d.terminal import console
from napari_cxr3d.terminal.command import usage_errors

__all__ = ["probe"]


def probe(
    bundle: Annotated[
        str,
        typer.Argument(
            metavar="BUNDLE",
            show_default=False,
            help="A world model: a bundle, or the name of an installed model.",
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            metavar="SOURCE",
            show_default=False,
            help="Labelled cases that the model was not trained on: a prepared dataset, "
            "phantom:N:S:random.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER", show_default=False, help="Where report.json and report.md go."
        ),
    ],
    peer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=BUNDLE",
            show_default=False,
            help="Another world model to probe beside it; can be given several times.",
        ),
    ] = None,
    tables: Annotated[
        str,
        typer.Option(metavar="NAME,...", help="Tables beside that of the labels."),
    ] = "few,orbit",
    look: Annotated[
        Literal["realistic", "drr"], typer.Option(help="What the X-rays look like.")
    ] = "realistic",
    least: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, help="Cases with and without a label that training and test need."
        ),
    ] = 10,
    draws: Annotated[
        int, typer.Option(metavar="N", min=1, help="Draws of few cases to learn from.")
    ] = 5,
    epochs: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, help="Of the network trained on the labels; 0 leaves it out."
        ),
    ] = 10,
    fine_tune: Annotated[
        bool,
        typer.Option(
            "--fine-tune",
            help="Fine-tune networks on few cases too, which takes long without a GPU.",
        ),
    ] = False,
    angles: Annotated[
        int, typer.Option(metavar="N", min=1, help="Angles of the orbit that heads read.")
    ] = 7,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="Of random weights and drawn events.")
    ] = 0,
    device: DeviceName = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace reports that are already there.")
    ] = False,
) -> None:
    """Read findings and risk off a world model's frozen weights, beside peers.

    Peers that are always there: the same network with random weights, the principal components
    of the pixels, and the same network trained on the labels. Learning is on the training side
    of the data, choices on the validation side, figures on the test side, with intervals.
    """
    pairs = [text.partition("=") for text in peer or ()]
    if not all(name and where for name, _, where in pairs):
        raise typer.BadParameter("give NAME=BUNDLE.", param_hint="--peer")

    from cxr3d_training.evaluation.probes_report import ProbePlan
    from cxr3d_training.evaluation.probes_run import probe_bundle

    with usage_errors("--tables"):
        plan = ProbePlan(
            tables=() if tables == "none" else tuple(tables.split(",")),
            look=look,
            least=least,
            draws=draws,
            epochs=epochs,
            fine_tune=fine_tune,
            angles=angles,
            seed=seed,
        )
    with console.interruptible() as cancel, console.progress_bar("Probing") as progress:
        report, files = probe_bundle(
            bundle,
            data=data,
            out=out,
            peers={name: where for name, _, where in pairs},
            plan=plan,
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
