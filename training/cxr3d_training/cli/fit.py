"""``cxr3d-train fit``: train a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cxr3d_training.cli.options import (
    HardwareOptions,
    MaxMinutes,
    Precision,
    RecipeName,
    SettingsOptions,
    changed,
    command_line,
    require_recipe,
)
from napari_cxr3d.terminal import console
from napari_cxr3d.terminal.command import INTERRUPTED, usage_errors

__all__ = ["TERMINATED", "fit"]

TERMINATED = 143  # what a shell reports for a program ended by SIGTERM


def fit(
    recipe: RecipeName,
    begin: SettingsOptions,
    hardware: HardwareOptions,
    out: Annotated[
        Path,
        typer.Option(metavar="RUN", show_default=False, help="The folder of the run, to be made."),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE...",
            show_default=False,
            help="Settings to change, by dotted key: data=phantom:200 run.steps=500.",
        ),
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(show_default="the preset's", help="Short for run.precision=..."),
    ] = None,
    max_minutes: MaxMinutes = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on from the run's last checkpoint, with its settings; begin if there is none.",
        ),
    ] = False,
) -> None:
    """Train a recipe; its log, checkpoints and provenance are left in a folder.

    Ctrl-C, SIGTERM and the time limit save a checkpoint and stop; --resume then goes on as if
    nothing had happened. The run's folder is printed.
    """
    from cxr3d_training.engine.folder import RunFolder

    require_recipe(recipe)
    changes = [*(settings or ()), *([f"run.precision={precision}"] if precision else [])]
    folder = RunFolder(out)
    if resume and folder.config.is_file() and not begin.given:
        saved = folder.read()
        preset, base = saved.preset, saved.settings
    else:
        preset, base = begin.read(recipe)
    wanted = changed(base, changes)

    from cxr3d_training.engine.fit import fit as run
    from cxr3d_training.recipes import make

    with usage_errors("KEY=VALUE"):
        made = make(recipe, wanted, known=base)
    with console.interruptible() as cancel, console.progress_bar("Training") as progress:
        result = run(
            made,
            out,
            preset=preset,
            hardware=hardware.hardware(),
            resume=resume,
            max_minutes=max_minutes,
            command=command_line(),
            progress=progress,
            cancel=cancel,
            notify=console.note,
        )
    if not result.first:
        return
    if result.reason != "done":
        console.note(
            f"Stopped after step {result.step} of {result.steps} ({result.reason}); "
            "the same command with --resume goes on."
        )
    console.result(str(result.folder))
    if result.reason == "interrupted":
        raise typer.Exit(INTERRUPTED)
    if result.reason == "terminated":
        raise typer.Exit(TERMINATED)
