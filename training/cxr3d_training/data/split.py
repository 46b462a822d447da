"""Train, validation and test: by patient, the same on every machine, stable when data is added."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Literal, get_args

from napari_cxr3d.errors import InvalidInputError

__all__ = ["DEFAULT_FRACTIONS", "SIDES", "Side", "assign_sides", "check_disjoint", "check_side"]

Side = Literal["train", "validation", "test"]
SIDES: tuple[Side, ...] = get_args(Side)

DEFAULT_FRACTIONS: Mapping[Side, float] = {"train": 0.8, "validation": 0.1, "test": 0.1}


def check_side(name: str) -> Side:
    """The side of that name.

    Raises
    ------
    InvalidInputError
        If there is none.
    """
    for side in SIDES:
        if name == side:
            return side
    raise InvalidInputError(
        f"There is no side called {name!r}", remedy=f"choose one of {', '.join(SIDES)}"
    )


def check_fractions(fractions: Mapping[Side, float]) -> None:
    """Refuse fractions that are not shares of a whole.

    Raises
    ------
    InvalidInputError
        If one is negative, or their sum is not 1.
    """
    if any(f < 0 for f in fractions.values()) or abs(sum(fractions.values()) - 1) > 1e-6:
        told = ", ".join(f"{side} {fractions.get(side, 0):g}" for side in SIDES)
        raise InvalidInputError(
            "The fractions of the split must be 0 or more and make 1 together",
            why=f"they are {told}",
        )


def assign_sides(
    patients: Iterable[str],
    *,
    fractions: Mapping[Side, float] = DEFAULT_FRACTIONS,
    seed: int = 0,
    strata: Mapping[str, Hashable] | None = None,
    kept: Mapping[str, Side] | None = None,
    in_order: bool = False,
) -> dict[str, Side]:
    """A side for every patient.

    Patients come in an order that a hash of seed and id gives, and each goes to the side that is
    furthest behind its share, first of its stratum, then of all. Every side with a share gets a
    patient as soon as there are as many patients as sides.

    Parameters
    ----------
    patients : iterable of str
        Patient ids; repeats count once.
    fractions : mapping of side to float
        Shares that make 1 together.
    seed : int
        Another seed, another order.
    strata : mapping of patient to hashable, optional
        Groups that shall be spread alike (a label, an origin).
    kept : mapping of patient to side, optional
        Patients whose side is known: they keep it, and count.
    in_order : bool
        Take the patients as they come, without the hash: a longer list then begins with the
        sides of the shorter one.

    Returns
    -------
    dict of str to side
        For `patients`, and for those of `kept`.

    Raises
    ------
    InvalidInputError
        If the fractions cannot be used.
    """
    check_fractions(fractions)
    known: dict[str, Side] = dict(kept or {})
    group = strata or {}
    names = list(dict.fromkeys(patients))
    if not in_order:
        names.sort(key=lambda name: sha256(f"{seed}:{name}".encode()).digest())
    sides: dict[str, Side] = {}
    overall: Counter[Side] = Counter()
    within: dict[Hashable, Counter[Side]] = {}

    def count(name: str, side: Side) -> None:
        sides[name] = side
        overall[side] += 1
        within.setdefault(group.get(name), Counter())[side] += 1

    for name, side in known.items():
        count(name, side)
    for name in names:
        if name not in sides:
            stratum = within.setdefault(group.get(name), Counter())
            count(name, _furthest_behind(fractions, stratum, overall))
    return sides


def _furthest_behind(
    fractions: Mapping[Side, float], stratum: Counter[Side], overall: Counter[Side]
) -> Side:
    wanted = [side for side in SIDES if fractions.get(side, 0) > 0]
    empty = [side for side in wanted if overall[side] == 0]
    if empty:
        return empty[0]

    def behind(side: Side) -> tuple[float, float]:
        share = fractions[side]
        return (
            round(share * (stratum.total() + 1) - stratum[side], 9),
            round(share * (overall.total() + 1) - overall[side], 9),
        )

    return max(wanted, key=behind)


def check_disjoint(sides: Sequence[tuple[str, Side]], what: str = "patient") -> None:
    """Refuse a split in which one patient is on two sides.

    Parameters
    ----------
    sides : sequence of (str, side)
        Patient and side of every case.
    what : str
        What the ids name, for the message.

    Raises
    ------
    InvalidInputError
        If an id has two sides.
    """
    seen: dict[str, Side] = {}
    for name, side in sides:
        if seen.setdefault(name, side) != side:
            raise InvalidInputError(
                f"The {what} {name} would be on two sides of the split, {seen[name]} and {side}",
                why="what is learnt of one would be tested on itself",
                remedy="give all of one patient the same side",
            )
