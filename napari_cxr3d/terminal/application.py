"""A command with its subcommands, as both of the project's commands are made."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated

import typer

from napari_cxr3d import __version__
from napari_cxr3d.terminal.command import as_command

__all__ = ["application"]


def application(name: str, summary: str, commands: Iterable[Callable[..., None]]) -> typer.Typer:
    """A typer application with ``--version`` and the given subcommands.

    Help and errors are plain: rich would cut long option names short and break error
    sentences over the lines of a box.

    Parameters
    ----------
    name : str
        As it is typed.
    summary : str
        What its help begins with.
    commands : iterable of callable
        Functions for `as_command`.
    """
    app = typer.Typer(
        name=name,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for command in commands:
        app.command()(as_command(command))

    def print_version(wanted: bool) -> None:
        if wanted:
            typer.echo(f"{name} {__version__}")
            raise typer.Exit

    def root(version: bool = False) -> None:
        """Take the options of the application itself."""

    # The annotation holds the callback, so it cannot be a string.
    root.__annotations__["version"] = Annotated[
        bool,
        typer.Option("--version", callback=print_version, is_eager=True, help="Show the version."),
    ]
    app.callback(help=summary)(root)
    return app
