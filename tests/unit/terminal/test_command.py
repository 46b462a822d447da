"""Option groups, and how failures end: a sentence and an exit status."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from napari_cxr3d.errors import Cancelled, InvalidInputError, UnreadableFileError
from napari_cxr3d.terminal.command import as_command, usage_errors


@dataclass(frozen=True)
class Group:
    length: Annotated[float, typer.Option(help="Length in mm.")] = 1.0
    fast: Annotated[bool, typer.Option("--fast")] = False


def _run(function, *arguments: str):
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(as_command(function))
    return CliRunner().invoke(app, arguments)


def test_fields_of_a_group_become_options():
    seen = []

    def command(name: str, group: Group) -> None:
        seen.append((name, group))

    assert _run(command, "a", "--length", "-2.5", "--fast").exit_code == 0
    assert _run(command, "b").exit_code == 0
    assert seen == [("a", Group(-2.5, True)), ("b", Group())]


def test_our_error_is_its_own_sentence_with_status_1():
    def command() -> None:
        raise UnreadableFileError("The file ends too early", remedy="copy it again")

    result = _run(command)
    assert result.exit_code == 1
    assert result.stderr == "Error: The file ends too early. Copy it again.\n"
    assert result.stdout == ""


def test_unforeseen_error_is_one_line_that_names_debug():
    def command() -> None:
        raise ZeroDivisionError("division\nby zero")

    result = _run(command)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "ZeroDivisionError: division by zero" in result.stderr
    assert "--debug" in result.stderr
    assert "Traceback" not in result.stderr


def test_debug_lets_the_traceback_through():
    def command() -> None:
        raise UnreadableFileError("The file ends too early")

    assert isinstance(_run(command, "--debug").exception, UnreadableFileError)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, Cancelled])
def test_interruption_ends_with_status_130(interruption):
    def command() -> None:
        raise interruption

    result = _run(command)
    assert result.exit_code == 130
    assert result.stderr == "Error: Cancelled.\n"


def test_invalid_value_is_wrong_usage_that_names_the_option():
    def command() -> None:
        with usage_errors("--pitch"):
            raise InvalidInputError("The pitch is too large")

    result = _run(command)
    assert result.exit_code == 2
    assert "--pitch" in result.stderr
    assert "The pitch is too large." in result.stderr


def test_warnings_of_libraries_are_shown_only_with_debug():
    def command() -> None:
        warnings.warn("a library is worried", stacklevel=1)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _run(command).exit_code == 0
        assert isinstance(_run(command, "--debug").exception, UserWarning)
