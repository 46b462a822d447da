"""How the kernels are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

__all__ = ["helper", "kernel"]

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": True, "error_model": "numpy"}


def kernel(function: F) -> F:
    """Compile a kernel that releases the GIL, and keep the machine code on disk.

    Kernels are serial: threads run them side by side on blocks that each own their
    output (`workers`). numba's own parallel loops are not used because its default
    threading layer aborts the process when two threads enter it at once.

    Where neither the package folder nor the user's cache folder can be written, the
    kernel is compiled afresh in each process.
    """
    try:
        return cast(F, numba.njit(cache=True, **_OPTIONS)(function))
    except RuntimeError:  # numba's "no locator available"
        return cast(F, numba.njit(**_OPTIONS)(function))


def helper(function: F) -> F:
    """Compile a function that LLVM inlines into the kernels of its own module."""
    return cast(F, numba.njit(**_OPTIONS)(function))
