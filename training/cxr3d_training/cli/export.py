"""``cxr3d-train export``: a trained model as a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from cxr3d_training.cli.options import CheckpointName, RunPath
from napari_cxr3d.terminal import console

__all__ = ["export"]

Dtype = Literal["bfloat16", "float32"]


def export(
    run: RunPath,
    out: Annotated[
        Path,
        typer.Option(
            metavar="BUNDLE", show_default=False, help="The bundle: a folder, or a file.zip."
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", show_default="RECIPE-PRESET", help="The bundle's name."),
    ] = None,
    version: Annotated[
        str, typer.Option("--model-version", metavar="N.N.N", help="The bundle's version.")
    ] = "1.0.0",
    licence: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            show_default="BSD-3-Clause where no patient's data was used",
            help="Licence of the weights; must be given where patients' data was used.",
        ),
    ] = None,
    checkpoint: CheckpointName = "best",
    dtype: Annotated[Dtype, typer.Option(help="Number format of the weights.")] = "bfloat16",
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="report.json",
            show_default="the run's own",
            help="Figures of this checkpoint that were measured elsewhere, on its bundle say.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a bundle that is already there.")
    ] = False,
) -> None:
    """Write a run's averaged weights with a card of how they were made and what they achieve.

    The card holds the settings, the seed, the hash of the data and, where cxr3d-train evaluate
    has measured this checkpoint, its numbers; the training's curve is attached. The bundle's path
    is printed.
    """
    from cxr3d_training.export import export_run

    path = export_run(
        run,
        out,
        name=name,
        version=version,
        licence=licence,
        which=checkpoint,
        dtype=dtype,
        report=report,
        overwrite=overwrite,
        notify=console.note,
    )
    console.result(str(path))
