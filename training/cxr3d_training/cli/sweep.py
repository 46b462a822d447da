"""``cxr3d-train sweep``: train a recipe with every combination of some settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cxr3d_training.cli.options import (
    Accelerator,
    MaxMinutes,
    RecipeName,
    SettingsOptions,
    command_line,
    require_recipe,
)
from napari_cxr3d.terminal import console
from napari_cxr3d.terminal.command import FAILURE, INTERRUPTED, usage_errors

__all__ = ["sweep"]


def sweep(
    recipe: RecipeName,
    begin: SettingsOptions,
    settings: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY=A,B,C...",
            show_default=False,
            help="Settings with the values to try; one with a single value is the same throughout.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER", show_default=False, help="Folder of the table and the runs."
        ),
    ],
    one_at_a_time: Annotated[
        bool,
        typer.Option(
            "--one-at-a-time",
            help="The settings as they are, then every value alone: an ablation.",
        ),
    ] = False,
    accelerator: Annotated[Accelerator, typer.Option(help="Kind of device.")] = "auto",
    max_minutes: MaxMinutes = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Train every combination of settings, one after the other, and compare their validation.

    sweep.csv and sweep.json hold a row a combination, and are written after each. The same
    command goes on where it was stopped: what is finished is not run again, what was begun is
    resumed, what failed is tried again. More values may be added later. Keys joined by + get each
    value together: model.yaw_step+poses.yaw_step=3,6.
    """
    require_recipe(recipe)
    preset, base = begin.read(recipe)

    from cxr3d_training.engine import sweep as engine

    with usage_errors("KEY=A,B,C"):
        cells = engine.one_at_a_time(settings, base) if one_at_a_time else engine.grid(settings)
    with console.interruptible() as cancel, console.progress_bar("Sweeping") as progress:
        table = engine.run_sweep(
            recipe,
            base,
            cells,
            out,
            preset=preset,
            accelerator=accelerator,
            max_minutes=max_minutes,
            command=command_line(),
            progress=progress,
            cancel=cancel,
            notify=console.note,
        )
    if as_json:
        console.result_json(table.to_dict())
    else:
        console.result(console.table(_rows(table), indent=""))
    if table.interrupted:
        raise typer.Exit(INTERRUPTED)
    if table.failed:
        console.error(f"{table.failed} of {len(table.rows)} combinations failed.")
        raise typer.Exit(FAILURE)


def _rows(table: Any) -> list[tuple[str, ...]]:
    rows = [table.columns]
    for row in table.ranked():
        rows.append(tuple(_shown(row.get(column)) for column in table.columns))
    return rows


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.5g}" if isinstance(value, float) else str(value)
