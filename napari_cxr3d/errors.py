"""The errors that users see.

Every error says what happened, why, and what to do about it. The command line prints
``str(error)`` as it stands; the panels show it on their status line. An error never
carries a patient's name: files are named by path only where the user gave the path.
"""

from __future__ import annotations

from os import PathLike
from typing import Any

__all__ = [
    "AmbiguousSeriesError",
    "BackendUnavailableError",
    "BundleError",
    "Cancelled",
    "ConsentRequiredError",
    "Cxr3dError",
    "EnergyOutOfRangeError",
    "ExportError",
    "GeometryError",
    "InputRefusedError",
    "InvalidInputError",
    "OutOfMemoryError",
    "UnreadableFileError",
    "UnsupportedFileError",
    "WorkerProcessError",
]


class Cxr3dError(Exception):
    """Base of all errors raised on purpose.

    Parameters
    ----------
    what : str
        What happened, as a clause without a full stop.
    why : str, optional
        The cause, as a clause without a full stop.
    remedy : str, optional
        What the user can do, as a clause without a full stop.
    path : path-like, optional
        The file or folder that the error is about.
    """

    def __init__(
        self,
        what: str,
        *,
        why: str = "",
        remedy: str = "",
        path: str | PathLike[str] | None = None,
    ) -> None:
        self.what = what
        self.why = why
        self.remedy = remedy
        self.path = None if path is None else str(path)
        super().__init__(self._sentence())

    def __reduce__(self) -> tuple[Any, ...]:
        """As another process gets it: made by its own keywords, with the notes that it carries."""
        return (_revived, (type(self), dict(self.__dict__)))

    def _sentence(self) -> str:
        head = f"{self.path}: {self.what}" if self.path else self.what
        text = f"{head}: {self.why}" if self.why else head
        text = text.rstrip(".") + "."
        if self.remedy:
            remedy = self.remedy[0].upper() + self.remedy[1:]
            text = f"{text} {remedy.rstrip('.')}."
        return " ".join(text.split())


def _revived(kind: type[Cxr3dError], carried: dict[str, Any]) -> Cxr3dError:
    given = {k: v for k, v in carried.items() if k != "what" and k[0] != "_" and v is not None}
    error = kind(carried["what"], **given)
    error.__dict__.update(carried)
    return error


class InvalidInputError(Cxr3dError, ValueError):
    """A value that the user or a caller gave cannot be used."""


class InputRefusedError(InvalidInputError):
    """Pictures that are probably no chest X-rays; the user must say that they are.

    Attributes
    ----------
    codes : tuple of str
        What was found, as the names that the user may accept; the command line spells it
        ``--accept CODE``.
    """

    def __init__(
        self, what: str, *, codes: tuple[str, ...], why: str = "", remedy: str = ""
    ) -> None:
        self.codes = codes
        super().__init__(what, why=why, remedy=remedy)


class EnergyOutOfRangeError(InvalidInputError):
    """A photon energy or tube voltage outside the tabulated range."""


class UnreadableFileError(Cxr3dError, OSError):
    """A file that is missing, truncated or corrupt."""


class UnsupportedFileError(Cxr3dError):
    """A file that is whole but is not a CT or a radiograph that we can read."""


class AmbiguousSeriesError(Cxr3dError):
    """A folder holds several series and the caller must choose one."""


class GeometryError(Cxr3dError):
    """Positions, spacing or orientation that cannot be trusted."""


class ConsentRequiredError(GeometryError):
    """Reading on would alter the data (fill a gap, resample); the user must say yes.

    Attributes
    ----------
    consent : str
        The keyword of the reading function that gives the consent, for example
        ``"allow_gaps"``; the command line spells it ``--allow-gaps``.
    """

    def __init__(
        self,
        what: str,
        *,
        consent: str,
        why: str = "",
        remedy: str = "",
        path: str | PathLike[str] | None = None,
    ) -> None:
        self.consent = consent
        super().__init__(what, why=why, remedy=remedy, path=path)


class BackendUnavailableError(Cxr3dError, RuntimeError):
    """A projector backend or library that is not installed or has no device here."""


class OutOfMemoryError(Cxr3dError, MemoryError):
    """The work needs more memory than is free."""


class WorkerProcessError(Cxr3dError, RuntimeError):
    """A process that worked for the program and ended, or could not be started."""


class BundleError(Cxr3dError):
    """A model bundle that is damaged, incomplete, altered or not to be trusted."""


class ExportError(Cxr3dError):
    """A result that could not be written, or must not be written there."""


class Cancelled(Exception):
    """The user cancelled; nothing was changed. Not an error, so not a `Cxr3dError`."""
