"""The ``cxr3d`` command and its subcommands."""

from __future__ import annotations

from typing import Annotated

import typer

from napari_cxr3d import __version__
from napari_cxr3d.cli.doctor import doctor
from napari_cxr3d.cli.drr import drr
from napari_cxr3d.cli.info import info
from napari_cxr3d.cli.models import models
from napari_cxr3d.cli.phantom import phantom
from napari_cxr3d.cli.sweep import sweep
from napari_cxr3d.terminal.command import as_command

__all__ = ["app", "main"]

# Plain help and errors: rich would cut long option names short and break error
# sentences over the lines of a box.
app = typer.Typer(
    name="cxr3d",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for _command in (info, drr, sweep, phantom, doctor):
    app.command()(as_command(_command))
app.add_typer(models)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cxr3d {__version__}")
        raise typer.Exit


@app.callback()
def _cxr3d(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Chest CT and chest X-ray as one: turn a CT into radiographs at any source angle."""


def main() -> None:
    """Run the command line; the process ends with its exit status."""
    app(prog_name="cxr3d")
