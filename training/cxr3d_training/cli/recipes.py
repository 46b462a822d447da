"""``cxr3d-train recipes``: what can be trained, and with which settings."""

from __future__ import annotations

from typing import Annotated

import typer

from cxr3d_training.cli.options import DEFAULT_PRESET, require_recipe
from cxr3d_training.engine.settings import preset_names, preset_text
from cxr3d_training.recipes import RECIPES
from napari_cxr3d.terminal import console
from napari_cxr3d.terminal.command import usage_errors

__all__ = ["recipes"]


def recipes(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="[RECIPE]", show_default=False, help="Print the settings of this one."
        ),
    ] = None,
    preset: Annotated[
        str, typer.Option(metavar="NAME", help="Which preset's settings.")
    ] = DEFAULT_PRESET,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the recipes with their presets, or print a preset with its sources.

    What is printed of a preset is a file for --config.
    """
    if recipe is not None:
        require_recipe(recipe)
        with usage_errors("--preset"):
            console.result(preset_text(recipe, preset).rstrip())
        return
    if as_json:
        console.result_json(
            {
                name: {"summary": entry.summary, "presets": list(preset_names(name))}
                for name, entry in RECIPES.items()
            }
        )
        return
    rows = [(name, ", ".join(preset_names(name)), e.summary) for name, e in RECIPES.items()]
    console.result(console.table([("recipe", "presets", "what it makes"), *rows], indent=""))
