"""Cases that are made when they are needed: in memory, or in a cache on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cxr3d_training.data.cohort import Array, Region
from cxr3d_training.data.conditioning import Prepared
from cxr3d_training.data.memory import Memory
from cxr3d_training.data.store import StoredContent, case_folder, write_case
from napari_cxr3d.imaging import Grid, Volume

__all__ = ["CachedContent", "MadeContent"]

Make = Callable[[], Prepared]


@dataclass(frozen=True, eq=False)
class MadeContent:
    """A case that is made anew whenever the memory had no room to keep it.

    Attributes
    ----------
    key : str
        Its name in the memory.
    make : callable
        Makes it: reads and conditions a CT, or builds a phantom.
    memory : Memory
        Shared by the cohort.
    """

    key: str
    make: Make
    memory: Memory[Any]

    def _made(self) -> Prepared:
        made: Prepared = self.memory.get(self.key, self.make)
        return made

    @property
    def grid(self) -> Grid:
        """Where the voxels lie."""
        return self._made().grid

    @property
    def facts(self) -> Mapping[str, Any]:
        """What is known of the case."""
        return self._made().facts

    @property
    def names(self) -> tuple[str, ...]:
        """The arrays that there are."""
        return tuple(sorted(self._made().arrays))

    def read(self, name: str, region: Region | None = None) -> Array:
        """An array [I, P, L], or a view of a part."""
        array = self._made().arrays[name]
        return array if region is None else array[region]

    def volume(self) -> Volume:
        """The CT; the same object as long as it is in memory."""
        return self._made().volume()


@dataclass(frozen=True, eq=False)
class CachedContent:
    """A case that is made once and then lies in a folder of cases.

    Attributes
    ----------
    folder : Path
        A folder as datasets have it; several processes may share it.
    case_id : str
        The case's name there.
    make : callable
        Makes it where it is missing.
    memory : Memory
        Shared by the cohort.
    """

    folder: Path
    case_id: str
    make: Make
    memory: Memory[Any]
    _opened: dict[str, StoredContent] = field(default_factory=dict, init=False, repr=False)

    def _stored(self) -> StoredContent:
        stored = self._opened.get("stored")
        if stored is None:
            # Once in this process; another one that makes the same at the same time loses nothing.
            self.memory.get((self.case_id, "made"), self._ensure)
            stored = self._opened["stored"] = StoredContent(self.folder, self.case_id, self.memory)
        return stored

    def _ensure(self) -> memoryview:
        if not (case_folder(self.folder, self.case_id) / "zarr.json").is_file():
            write_case(self.folder, self.case_id, self.make())
        return memoryview(b"")  # takes no memory

    @property
    def grid(self) -> Grid:
        """Where the voxels lie."""
        return self._stored().grid

    @property
    def facts(self) -> Mapping[str, Any]:
        """What is known of the case."""
        return self._stored().facts

    @property
    def names(self) -> tuple[str, ...]:
        """The arrays that there are."""
        return self._stored().names

    def read(self, name: str, region: Region | None = None) -> Array:
        """An array [I, P, L], or a part of it."""
        return self._stored().read(name, region)

    def volume(self) -> Volume:
        """The CT; the same object as long as it is in memory."""
        return self._stored().volume()
