"""From what the user names to a cohort: phantoms, a prepared dataset, CTs as they lie, or a mix."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxr3d_training.data.cohort import Array, Cohort, CohortCase, Region
from cxr3d_training.data.conditioning import Conditioning, Prepared, condition
from cxr3d_training.data.identity import PUBLIC, user_identities
from cxr3d_training.data.memory import DEFAULT_BUDGET, Memory
from cxr3d_training.data.sources import find_sources
from cxr3d_training.data.split import Side, assign_sides
from napari_cxr3d.errors import UnsupportedFileError
from napari_cxr3d.imaging import Grid, Volume

__all__ = ["MadeContent", "cohort_of", "open_cohort"]

_MIXED = re.compile(r"(?P<first>.+?)\s+\+\s+(?P<percent>\d+(?:\.\d+)?)%\s+(?P<second>.+)")
_PHANTOM = re.compile(r"phantom:(?P<count>\d+)(?::(?P<seed>\d+))?")


@dataclass(frozen=True, eq=False)
class MadeContent:
    """A case that is made when it is needed, and kept as long as the memory has room.

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
    make: Callable[[], Prepared]
    memory: Memory[Prepared]

    def _made(self) -> Prepared:
        return self.memory.get(self.key, self.make)

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
        return tuple(self._made().arrays)

    def read(self, name: str, region: Region | None = None) -> Array:
        """An array [I, P, L], or a view of a part."""
        array = self._made().arrays[name]
        return array if region is None else array[region]

    def volume(self) -> Volume:
        """The CT; the same object as long as it is in memory."""
        return self._made().volume()


def open_cohort(
    spec: str | Path,
    *,
    spacing_mm: float | tuple[float, float, float] | None = None,
    hu_range: tuple[int, int] | None = None,
    memory_bytes: int = DEFAULT_BUDGET,
    **options: Any,
) -> Cohort:
    """A cohort by name."""
    text = str(spec)
    mixed = _MIXED.fullmatch(text)
    if mixed is not None:
        raise NotImplementedError
    return _of_files(Path(spec), Conditioning(), memory_bytes, True)


def _of_files(path: Path, settings: Conditioning, memory_bytes: int, public: bool) -> Cohort:
    found = find_sources(path)
    if not found.sources:
        reasons = "; ".join(sorted({p.reason for p in found.passed})) or "there is no volume"
        raise UnsupportedFileError("There is no CT to train on", why=reasons, path=path)
    identities = PUBLIC if public else user_identities()
    memory: Memory[Prepared] = Memory(memory_bytes)
    patients = {s.place: identities.patient(s.patient_text()) for s in found.sources}
    sides = assign_sides(patients.values())
    cases = []
    for source in found.sources:
        patient = patients[source.place]

        def make(source: Any = source) -> Prepared:
            return condition(source.read(), settings)

        key = identities.place(source.place)[:12]
        content = MadeContent(key, make, memory)
        cases.append((CohortCase(key, patient, content), sides[patient]))
    return Cohort(cases, name=f"{len(cases)} CTs", identities=identities.check)


def cohort_of(
    volumes: Mapping[str, Volume],
    *,
    patients: Mapping[str, str] | None = None,
    labels: Mapping[str, Mapping[str, Any]] | None = None,
    sides: Mapping[str, Side] | None = None,
    settings: Conditioning | None = None,
) -> Cohort:
    """A cohort of volumes that are in memory already.

    Parameters
    ----------
    volumes : mapping of str to Volume
        The CTs by id.
    patients : mapping of id to str, optional
        Who they are of; everybody else when None.
    labels : mapping of id to mapping, optional
        Labels by name.
    sides : mapping of patient to side, optional
        Those that are decided; the others are assigned as everywhere.
    settings : Conditioning, optional
        What is done to them; nothing but the masks when None.
    """
    settings = settings or Conditioning(spacing_mm=None, least_length_mm=0.0)
    memory: Memory[Prepared] = Memory()
    who = {name: (patients or {}).get(name, name) for name in volumes}
    on = assign_sides(who.values(), kept=sides, in_order=True)
    cases = []
    for name, volume in volumes.items():

        def make(volume: Volume = volume) -> Prepared:
            return condition(volume, settings)

        given = {"labels": dict((labels or {}).get(name, {}))}
        content = MadeContent(name, make, memory)
        case = CohortCase(name, who[name], content, synthetic=volume.synthetic, given=given)
        cases.append((case, on[who[name]]))
    return Cohort(cases, name=f"{len(cases)} volumes")
