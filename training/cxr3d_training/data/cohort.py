"""Cohorts: cases to train on, each with its patient, split so that no patient is on two sides."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, overload

import numpy as np
import numpy.typing as npt

from cxr3d_training.data.split import SIDES, Side, check_disjoint, check_side
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Grid, Volume

__all__ = [
    "CaseContent",
    "CaseList",
    "Cohort",
    "CohortCase",
    "Label",
    "Region",
    "mix",
]

Array = npt.NDArray[Any]
Label = bool | int | float | str | None
Region = tuple[slice, slice, slice]


class CaseContent(Protocol):
    """Where a case's voxels and facts come from; safe to use from many threads."""

    @property
    def grid(self) -> Grid:
        """Where the voxels lie."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """What is known of the case, JSON-serialisable (see `CohortCase`)."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """The arrays that there are."""
        ...

    def read(self, name: str, region: Region | None = None) -> Array:
        """An array [I, P, L], or a part of it; not to be written to."""
        ...

    def volume(self) -> Volume:
        """The CT; the same object as long as it is in memory."""
        ...


@dataclass(frozen=True, eq=False)
class CohortCase:
    """One case of a cohort; its voxels are loaded when they are asked for.

    Attributes
    ----------
    id : str
        Its name within the cohort: a phantom's seed, or a part of the content's hash.
    patient : str
        A phantom's name, or a hash (see `identity`).
    content : CaseContent
        Where voxels and facts come from.
    synthetic : bool
        Whether no scanner measured it.
    licence : str
        Under which licence the source may be used; empty where nobody said.
    given : mapping
        ``labels`` and ``report`` that a table gave: they go before the facts'.
    """

    id: str
    patient: str
    content: CaseContent = field(repr=False)
    synthetic: bool = False
    licence: str = ""
    given: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def grid(self) -> Grid:
        """Where the voxels lie."""
        return self.content.grid

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along (I, P, L)."""
        return self.content.grid.shape

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Spacing along (I, P, L) in mm."""
        return self.content.grid.spacing_mm

    @property
    def origin_lps(self) -> tuple[float, float, float]:
        """LPS position of the centre of voxel [0, 0, 0] in mm."""
        return self.content.grid.origin_lps

    @property
    def facts(self) -> Mapping[str, Any]:
        """All that is known: source, notes, and for phantoms findings, landmarks, measures."""
        return self.content.facts

    @property
    def labels(self) -> dict[str, Label]:
        """Labels by name: a phantom's findings, and the columns of a table. None is unknown."""
        return {**self.facts.get("labels", {}), **self.given.get("labels", {})}

    @property
    def report(self) -> str:
        """The report's text; empty where there is none."""
        return str(self.given.get("report") or self.facts.get("report", ""))

    @property
    def landmarks(self) -> dict[str, tuple[float, float, float]]:
        """LPS positions in mm by name, of phantoms."""
        return {
            name: (float(p[0]), float(p[1]), float(p[2]))
            for name, p in self.facts.get("landmarks", {}).items()
        }

    @property
    def measures(self) -> dict[str, float]:
        """Numbers that belong to the case, such as a phantom's ``cardiovascular_risk``."""
        return {name: float(v) for name, v in self.facts.get("measures", {}).items()}

    @property
    def hu(self) -> Array:
        """Hounsfield units, int16 [I, P, L]."""
        return self.content.read("hu")

    @property
    def body(self) -> Array:
        """Mask of the patient, bool [I, P, L]."""
        return self.content.read("body")

    @property
    def lungs(self) -> Array:
        """Mask of the aerated lungs with their vessels, bool [I, P, L]."""
        return self.content.read("lungs")

    @property
    def anatomy(self) -> Array:
        """A phantom's label map, uint8 [I, P, L].

        Raises
        ------
        InvalidInputError
            For a case that has none.
        """
        return self.read("anatomy")

    @property
    def finding_bits(self) -> Array:
        """A phantom's findings, one bit a kind, uint32 [I, P, L]; errors as `anatomy`."""
        return self.read("findings")

    def read(self, name: str, region: Region | None = None) -> Array:
        """An array, or a part of it: only the chunks that the part touches are read.

        Parameters
        ----------
        name : str
            One of `content.names`: ``hu``, ``body``, ``lungs``, ``anatomy``, ``findings``.
        region : tuple of 3 slice, optional
            Which part, by index along (I, P, L).

        Raises
        ------
        InvalidInputError
            If the case has no such array.
        """
        if name not in self.content.names:
            raise InvalidInputError(
                f"The case {self.id} has no array {name!r}",
                why=f"it has {', '.join(self.content.names)}",
                remedy="ask for it of phantoms only" if not self.synthetic else "",
            )
        return self.content.read(name, region)

    def volume(self) -> Volume:
        """The CT as a volume; the same object as long as it is in memory."""
        return self.content.volume()


class CaseList(Sequence[CohortCase]):
    """The cases of one side of a split, in a fixed order, with a way to draw among them.

    Parameters
    ----------
    groups : sequence of sequence of CohortCase
        The cases; several groups after `mix`.
    shares : sequence of float
        How often `draw` takes a case of each group; they make 1 together.
    """

    def __init__(self, groups: Sequence[Sequence[CohortCase]], shares: Sequence[float]) -> None:
        pairs = [(tuple(g), float(s)) for g, s in zip(groups, shares, strict=True) if len(g)]
        self._groups = [group for group, _ in pairs]
        weights = np.array([share for _, share in pairs], np.float64)
        if not weights.any():  # nothing but a group whose share is 0: it gives them all
            weights += 1.0
        self._edges = (np.cumsum(weights) / weights.sum()).tolist() if len(pairs) else []
        self._cases = tuple(case for group in self._groups for case in group)

    @property
    def groups(self) -> tuple[tuple[CohortCase, ...], ...]:
        """The cases by where they come from."""
        return tuple(self._groups)

    @property
    def shares(self) -> tuple[float, ...]:
        """How often `draw` takes a case of each group."""
        return tuple(np.diff([0.0, *self._edges]).tolist())

    def draw(self, rng: np.random.Generator) -> CohortCase:
        """A case at random: each group at its share, each case of a group alike.

        A recipe's ``sample(rng)`` begins with this: a choice by index would not keep the ratio of
        a mixed cohort.

        Raises
        ------
        InvalidInputError
            If there is no case.
        """
        if not self._groups:
            raise InvalidInputError(
                "This side of the split has no case",
                remedy="give more patients, or a larger share",
            )
        place = min(bisect_right(self._edges, rng.random()), len(self._groups) - 1)
        group = self._groups[place]
        return group[int(rng.integers(len(group)))]

    def __len__(self) -> int:
        return len(self._cases)

    @overload
    def __getitem__(self, index: int) -> CohortCase: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[CohortCase, ...]: ...
    def __getitem__(self, index: int | slice) -> CohortCase | tuple[CohortCase, ...]:
        return self._cases[index]

    def __iter__(self) -> Iterator[CohortCase]:
        return iter(self._cases)


class Cohort:
    """Cases and the side of the split that each is on.

    Parameters
    ----------
    cases : sequence of (CohortCase, side)
        In a fixed order.
    name : str
        What it was opened from, for logs: no path that could hold a name.
    identities : str
        Which secret the patients were hashed with (`identity.Identities.check`); ``""`` where ids
        are nobody's hash, as those of phantoms.

    Raises
    ------
    InvalidInputError
        If a patient, or one and the same content, is on two sides.
    """

    def __init__(
        self, cases: Sequence[tuple[CohortCase, Side]], *, name: str = "", identities: str = ""
    ) -> None:
        check_disjoint([(case.patient, side) for case, side in cases])
        check_disjoint([(case.id, side) for case, side in cases], "case")
        self.name = name
        self.identities = identities
        self._groups: dict[Side, list[tuple[CohortCase, ...]]] = {
            side: [tuple(case for case, on in cases if on == side)] for side in SIDES
        }
        self._shares: tuple[float, ...] = (1.0,)

    @property
    def cases(self) -> tuple[CohortCase, ...]:
        """All cases, those of the training side first."""
        return tuple(case for side in SIDES for case in self.split(side))

    def __len__(self) -> int:
        return sum(len(self.split(side)) for side in SIDES)

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(self.split(side))} {side}" for side in SIDES)
        return f"Cohort({self.name!r}: {counts})"

    def split(self, side: str) -> CaseList:
        """The cases of one side.

        Parameters
        ----------
        side : {"train", "validation", "test"}
            Which one.

        Raises
        ------
        InvalidInputError
            If there is no such side.
        """
        return CaseList(self._groups[check_side(side)], self._shares)

    def describe(self) -> dict[str, Any]:
        """Counts and origins, JSON-serialisable: for logs and model cards."""
        cases = self.cases
        licences = sorted({case.licence for case in cases if case.licence})
        return {
            "name": self.name,
            "cases": {side: len(self.split(side)) for side in SIDES},
            "patients": {side: len({c.patient for c in self.split(side)}) for side in SIDES},
            "licences": licences,
            "shares": list(self.split("train").shares),
        }


def mix(
    first: Cohort, second: Cohort, *, ratio: float, assume_different_patients: bool = False
) -> Cohort:
    """Two cohorts as one, in which `CaseList.draw` takes the second's cases at a stated ratio.

    Parameters
    ----------
    first, second : Cohort
        Phantoms and patients, say.
    ratio : float
        Share of the draws that take a case of `second`, between 0 and 1. Where one has no case on
        a side, the other gives them all. Listing a side gives every case once.
    assume_different_patients : bool
        Take two cohorts whose patients were hashed with different secrets to have no patient in
        common: nobody can find out.

    Raises
    ------
    InvalidInputError
        If the ratio lies outside 0 to 1, if a patient or content would be on two sides, or if the
        patients of both cannot be compared.
    """
    if not 0 <= ratio <= 1:
        raise InvalidInputError("The ratio must lie between 0 and 1", why=f"it is {ratio:g}")
    known = {c.identities for c in (first, second) if c.identities}
    if len(known) > 1 and not assume_different_patients:
        raise InvalidInputError(
            "The patients of the two cohorts cannot be compared",
            why="they were hashed with different secrets, so one patient could be on two sides",
            remedy="prepare both with the same --secret, or say that no patient is in both",
        )
    pairs = [(c, side) for cohort in (first, second) for side in SIDES for c in cohort.split(side)]
    check_disjoint([(case.patient, side) for case, side in pairs])
    check_disjoint([(case.id, side) for case, side in pairs], "case")
    mixed = Cohort((), name=f"{first.name} + {ratio:.0%} {second.name}")
    mixed.identities = "+".join(sorted(known))
    mixed._groups = {side: [*first._groups[side], *second._groups[side]] for side in SIDES}
    mixed._shares = (
        *((1 - ratio) * share for share in first._shares),
        *(ratio * share for share in second._shares),
    )
    return mixed
