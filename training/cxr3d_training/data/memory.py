"""What was loaded last, kept in memory up to a budget, for many threads at once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["DEFAULT_BUDGET", "Memory"]

T = TypeVar("T")

DEFAULT_BUDGET = 2 << 30


class Memory(Generic[T]):
    """Values by key; the least recently used leave when the budget is spent.

    Two threads that want the same value make it once; threads that want different values do not
    wait for each other.

    Parameters
    ----------
    size : callable
        Bytes that a value takes.
    budget : int
        Bytes to keep; the value asked for last is kept in any case.
    """

    def __init__(self, size: Callable[[T], int], budget: int = DEFAULT_BUDGET) -> None:
        self._size = size
        self._budget = budget
        self._lock = threading.Lock()
        self._making: dict[Hashable, threading.Lock] = {}
        self._kept: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of the key, made now if it is not here."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._kept:
                    return self._kept[key]
            value = make()
            with self._lock:
                self._kept[key] = value
                self._making.pop(key, None)
                held = sum(self._size(v) for v in self._kept.values())
                while held > self._budget and len(self._kept) > 1:
                    held -= self._size(self._kept.popitem(last=False)[1])
            return value
