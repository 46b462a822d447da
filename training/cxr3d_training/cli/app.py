"""The ``cxr3d-train`` command and its subcommands."""

from __future__ import annotations

from typing import Annotated

import typer

from cxr3d_training.cli.evaluate import evaluate
from cxr3d_training.cli.export import export
from cxr3d_training.cli.fit import fit
from cxr3d_training.cli.prepare import prepare, verify
from cxr3d_training.cli.recipes import recipes
from cxr3d_training.cli.sweep import sweep
from napari_cxr3d import __version__
from napari_cxr3d.terminal.command import as_command

__all__ = ["app", "main"]

app = typer.Typer(
    name="cxr3d-train",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for _command in (recipes, prepare, verify, fit, evaluate, export, sweep):
    app.command()(as_command(_command))


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cxr3d-train {__version__}")
        raise typer.Exit


@app.callback()
def _cxr3d_train(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Train the models of napari-cxr3d: data, training, evaluation, bundles of weights."""


def main() -> None:
    """Run the command line; the process ends with its exit status."""
    app(prog_name="cxr3d-train")
