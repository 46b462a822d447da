"""From a plain function to a command: option groups, errors as sentences, exit status.

A command is a function whose parameters may be *option groups*: frozen dataclasses
whose fields are annotated typer options. `as_command` turns each field into an option
of its own, so that commands share options without repeating them.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Annotated, Any, get_type_hints

import typer

from napari_cxr3d.errors import Cancelled, ConsentRequiredError, Cxr3dError, InvalidInputError
from napari_cxr3d.terminal import console

__all__ = ["FAILURE", "INTERRUPTED", "as_command", "consent_option", "usage_errors"]

FAILURE = 1
INTERRUPTED = 130  # what a shell reports for a program ended by Ctrl-C

Debug = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of an error and library warnings.")
]


@contextmanager
def usage_errors(option: str | None = None) -> Iterator[None]:
    """Report invalid values met inside as wrong usage (exit status 2).

    Parameters
    ----------
    option : str, optional
        The option to name in the message, for example ``"--yaw"``.
    """
    try:
        yield
    except InvalidInputError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


@contextmanager
def _errors_as_sentences(debug: bool) -> Iterator[None]:
    """Turn every failure into one message on stderr and an exit status."""
    try:
        with warnings.catch_warnings():
            if not debug:
                warnings.simplefilter("ignore")
            yield
    except (typer.Exit, typer.BadParameter, BrokenPipeError):
        raise  # typer ends the program as it should, quietly when nobody reads stdout
    except (KeyboardInterrupt, Cancelled):
        console.error("Cancelled.")
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        if debug:
            raise
        console.error(_sentence(error))
        raise typer.Exit(FAILURE) from None


def consent_option(error: ConsentRequiredError) -> str:
    """The option that gives the consent which an error asks for."""
    return f"--{error.consent.replace('_', '-')}"


def _sentence(error: Exception) -> str:
    if isinstance(error, ConsentRequiredError):
        return f"{error} Consent with {consent_option(error)}."
    if isinstance(error, Cxr3dError):
        return str(error)
    detail = " ".join(str(error).split()).rstrip(".")
    cause = f"{type(error).__name__}: {detail}" if detail else type(error).__name__
    return f"Unexpected failure ({cause}). Run the command again with --debug for the traceback."


def _option(field: Field[Any], annotation: Any) -> inspect.Parameter:
    default = inspect.Parameter.empty if field.default is MISSING else field.default
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def as_command(function: Callable[..., None]) -> Callable[..., None]:
    """The function as typer shall see it.

    Parameters that are option groups are replaced by one option a field, ``--debug`` is
    added, and errors become a sentence and an exit status: 1 for a failure, 130 for
    Ctrl-C; typer itself uses 2 for wrong usage.
    """
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if is_dataclass(hints[name]):
            groups[name] = hints[name]
            annotations = get_type_hints(hints[name], include_extras=True)
            parameters += [_option(f, annotations[f.name]) for f in fields(hints[name])]
        else:
            parameters.append(
                parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
            )
    parameters.append(
        inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Debug)
    )

    def command(**values: Any) -> None:
        with _errors_as_sentences(values.pop("debug")):
            for name, group in groups.items():
                values[name] = group(**{f.name: values.pop(f.name) for f in fields(group)})
            function(**values)

    command.__name__ = function.__name__
    command.__doc__ = function.__doc__
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command
