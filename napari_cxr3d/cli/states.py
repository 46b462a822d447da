"""Work that yields states, watched from the command line to its result."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from napari_cxr3d.errors import InputRefusedError
from napari_cxr3d.progress import Progress, ProgressCallback

__all__ = ["last_result"]

_PERMILLE = 1000


def last_result(states: Iterable[Any], progress: ProgressCallback | None) -> Any:
    """The result in the last of the states.

    Parameters
    ----------
    states : iterable
        Each with ``fraction``, ``message`` and ``result``.
    progress : callable, optional
        Told of every state.

    Raises
    ------
    InputRefusedError
        As the work does, with the options by which it goes on.
    """
    result = None
    try:
        for state in states:
            if progress is not None:
                progress(Progress(round(_PERMILLE * state.fraction), _PERMILLE, state.message))
            result = state.result
    except InputRefusedError as error:
        words = " ".join(f"--accept {code}" for code in error.codes)
        raise InputRefusedError(
            error.what,
            why=error.why,
            remedy=f"mend it, or go on with {words} if you know that it is right",
            codes=error.codes,
        ) from error
    return result
