"""The options that commands share, each spelled once.

Nothing here imports torch: ``cxr3d-train --help`` must answer at once.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cxr3d_training.engine.settings import (
    override,
    parse_override,
    read_preset,
    read_yaml,
)
from cxr3d_training.recipes import RECIPES
from napari_cxr3d.terminal.command import usage_errors

if TYPE_CHECKING:
    from cxr3d_training.engine.hardware import Hardware

__all__ = [
    "CheckpointName",
    "DeviceName",
    "HardwareOptions",
    "MaxMinutes",
    "RecipeName",
    "RunPath",
    "SettingsOptions",
    "command_line",
    "require_recipe",
]

DEFAULT_PRESET = "demo"
_NAMES = ", ".join(RECIPES)

Precision = Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true", "64-true"]
Accelerator = Literal["auto", "cpu", "cuda", "mps"]
Strategy = Literal["auto", "ddp", "fsdp"]
Which = Literal["best", "last"]

RecipeName = Annotated[
    str,
    typer.Argument(metavar="RECIPE", show_default=False, help=f"What to train: {_NAMES}."),
]
RunPath = Annotated[
    Path,
    typer.Argument(metavar="RUN", show_default=False, help="The folder of a training run."),
]
CheckpointName = Annotated[
    Which,
    typer.Option(
        "--checkpoint", help="The checkpoint with the best validation figure, or the last one."
    ),
]
DeviceName = Annotated[
    str, typer.Option("--device", metavar="NAME", help="Where to compute: auto, cpu, cuda:0, mps.")
]
MaxMinutes = Annotated[
    float | None,
    typer.Option(
        metavar="M", show_default=False, help="Save and stop after M minutes; --resume goes on."
    ),
]


@dataclass(frozen=True)
class SettingsOptions:
    """Where the settings begin."""

    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            show_default=DEFAULT_PRESET,
            help="Settings to begin with: tiny (seconds on a CPU), demo (the weights that ship), "
            "paper (as published).",
        ),
    ] = None
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", show_default=False, help="Settings of your own, in place of a preset."
        ),
    ] = None

    def read(self, recipe: str) -> tuple[str, dict[str, Any]]:
        """The preset's name and its settings.

        Raises
        ------
        typer.BadParameter
            If both are given, or there is no such preset.
        """
        if self.preset is not None and self.config is not None:
            raise typer.BadParameter("give one of them.", param_hint="--preset / --config")
        if self.config is not None:
            return "own", read_yaml(self.config)
        name = self.preset or DEFAULT_PRESET
        with usage_errors("--preset"):
            return name, read_preset(recipe, name)

    @property
    def given(self) -> bool:
        """Whether the user named any."""
        return self.preset is not None or self.config is not None


@dataclass(frozen=True)
class HardwareOptions:
    """Where the training runs."""

    accelerator: Annotated[Accelerator, typer.Option(help="Kind of device.")] = "auto"
    devices: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            show_default="what torchrun or Slurm gives, else 1",
            help="Devices on this computer.",
        ),
    ] = None
    nodes: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, show_default="what torchrun or Slurm gives, else 1",
            help="Computers.",
        ),
    ] = None  # fmt: skip
    strategy: Annotated[
        Strategy,
        typer.Option(
            help="How devices share the work: ddp, each has all weights; fsdp, each has a part."
        ),
    ] = "auto"

    def hardware(self) -> Hardware:
        """The engine's form."""
        from cxr3d_training.engine.hardware import Hardware

        return Hardware(self.accelerator, self.devices, self.nodes, self.strategy)


def require_recipe(name: str) -> str:
    """The name of a recipe that there is.

    Raises
    ------
    typer.BadParameter
        If there is none.
    """
    if name not in RECIPES:
        raise typer.BadParameter(
            f"there is no recipe {name!r}; choose {_NAMES}.", param_hint="RECIPE"
        )
    return name


def changed(settings: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """Settings with ``key=value`` texts laid over them.

    Raises
    ------
    typer.BadParameter
        If a text is no setting.
    """
    with usage_errors("KEY=VALUE"):
        return override(settings, dict(parse_override(text) for text in changes))


def command_line() -> str:
    """What the user typed, for the record."""
    return shlex.join(["cxr3d-train", *sys.argv[1:]])
