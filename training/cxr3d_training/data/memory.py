"""What was loaded last, kept in memory up to a budget, for many threads at once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from napari_cxr3d.imaging import Volume

__all__ = ["DEFAULT_BUDGET", "Memory", "size_of"]

T = TypeVar("T")

DEFAULT_BUDGET = 2 << 30


def size_of(value: Any) -> int:
    """Bytes of an array, a prepared case, or a volume."""
    array = value.hu if isinstance(value, Volume) else value
    return int(array.nbytes)


class Memory(Generic[T]):
    """Values by key; the least recently used leave when the budget is spent.

    Two threads that want the same value make it once; threads that want different values do not
    wait for each other.

    Parameters
    ----------
    budget : int
        Bytes to keep; the value asked for last is kept in any case.
    size : callable
        Bytes that a value takes.
    """

    def __init__(self, budget: int = DEFAULT_BUDGET, size: Callable[[T], int] = size_of) -> None:
        self._size = size
        self._budget = budget
        self._lock = threading.Lock()
        self._making: dict[Hashable, threading.Lock] = {}
        self._kept: OrderedDict[Hashable, T] = OrderedDict()

    def peek(self, key: Hashable) -> T | None:
        """The value of the key if it is here."""
        with self._lock:
            return self._kept.get(key)

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
