"""What the commands print: results on stdout, everything else on stderr.

A script that reads stdout sees paths or JSON and nothing else, and a pipe never
receives a progress bar or a control character.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import typer

from napari_cxr3d.progress import CancelToken, Progress, ProgressCallback

__all__ = ["error", "interruptible", "note", "progress_bar", "result", "result_json", "table"]


def result(text: str) -> None:
    """Print one line of the command's result on stdout."""
    typer.echo(text)


def result_json(record: Mapping[str, Any]) -> None:
    """Print the command's result as one JSON object on stdout."""
    typer.echo(json.dumps(record, indent=2, ensure_ascii=False))


def note(message: str) -> None:
    """Tell the user, on stderr, what was chosen, mended or assumed."""
    typer.echo(f"Note: {message}", err=True)


def error(message: str) -> None:
    """Say on stderr why the command failed."""
    typer.echo(f"Error: {message}", err=True)


def table(rows: Sequence[tuple[str, ...]], *, indent: str = "  ") -> str:
    """Rows of text with aligned columns, without colours or rules."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = (
        indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


@contextmanager
def interruptible() -> Iterator[CancelToken]:
    """A token that Ctrl-C cancels, besides raising `KeyboardInterrupt`.

    A compiler or a C library that calls back into Python swallows the exception; the work
    still sees the token at its next step.
    """
    token = CancelToken()

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        token.cancel()
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield token  # only the main thread may set a handler, and only it is interrupted
        return
    previous = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield token
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def progress_bar(title: str) -> Iterator[ProgressCallback | None]:
    """A progress bar on a terminal; None, which means silence, in a pipe or a log file.

    The bar is drawn on stderr and wiped when the work ends.
    """
    if not sys.stderr.isatty():
        yield None
        return

    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)

        def show(progress: Progress) -> None:
            bar.update(
                task,
                completed=progress.done,
                total=progress.total or None,
                description=progress.message or title,
            )

        yield show
