"""Progress and cancellation, without any thread or GUI library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Event

from napari_cxr3d.errors import Cancelled

__all__ = ["CancelToken", "Progress", "ProgressCallback", "part_of"]


@dataclass(frozen=True)
class Progress:
    """How far a piece of work has come.

    Attributes
    ----------
    done, total : int
        Finished and total steps; a total of 0 means unknown.
    message : str
        A short phrase for the user, for example ``"projecting view 3 of 72"``.
    """

    done: int
    total: int
    message: str = ""

    @property
    def fraction(self) -> float:
        """Finished part between 0 and 1 (0 while the total is unknown)."""
        return self.done / self.total if self.total > 0 else 0.0


ProgressCallback = Callable[[Progress], None]

_PERMILLE = 1000


def part_of(progress: ProgressCallback | None, begin: float, end: float) -> ProgressCallback | None:
    """Make a callback that tells its own progress as a part of the whole.

    Parameters
    ----------
    progress : callable or None
        Told of the whole; None gives None.
    begin, end : float
        Where the part lies in the whole, between 0 and 1.
    """
    if progress is None:
        return None

    def told(inner: Progress) -> None:
        done = begin + (end - begin) * min(1.0, inner.fraction)
        progress(Progress(round(_PERMILLE * done), _PERMILLE, inner.message))

    return told


class CancelToken:
    """A flag that the owner of a job sets and the job looks at between steps."""

    def __init__(self) -> None:
        self._event = Event()

    def cancel(self) -> None:
        """Ask the work to stop at its next step."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """Whether the work was asked to stop."""
        return self._event.is_set()

    def raise_if_cancelled(self) -> None:
        """Raise `Cancelled` if the work was asked to stop."""
        if self._event.is_set():
            raise Cancelled
