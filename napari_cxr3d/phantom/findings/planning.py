"""Which findings a body gets: what a caller asks for, or a draw from a cohort.

A plan names kind, severity, side, place and look, and carries a seed of its own, so that one
finding more reshuffles neither the anatomy nor the other findings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.phantom.findings.cohort import draw_kinds
from napari_cxr3d.phantom.findings.vocabulary import LOBES, FindingKind, kind_of

__all__ = ["PlannedFinding", "Request", "plan_findings"]

Request = str | Sequence[str] | Mapping[str, Any] | None

_KEYS = ("severity", "side", "place", "style", "count")
_TAG = 7_001  # child seed of the plans: [seed, tag, number of the finding]
_MOST = 12  # nodules in one chest


@dataclass(frozen=True)
class PlannedFinding:
    """One finding that is to be painted.

    Attributes
    ----------
    name : str
        Name in the vocabulary.
    severity : float
        0 to 1; `FindingKind.measure` says of what.
    side : str
        ``"right"``, ``"left"``, ``"both"`` or empty.
    place : str
        One of the kind's places, or empty.
    style : str
        One of the kind's styles, or empty.
    count : int
        How many, where there may be several.
    seed : int
        Seed of all that is drawn while painting it.
    cause : str
        Name of the finding that brought it along; empty where it was asked for or drawn.
    """

    name: str
    severity: float
    side: str = ""
    place: str = ""
    style: str = ""
    count: int = 1
    seed: int = 0
    cause: str = ""

    @property
    def kind(self) -> FindingKind:
        """Its entry in the vocabulary."""
        return kind_of(self.name)

    @property
    def sides(self) -> tuple[str, ...]:
        """The sides, one by one."""
        return ("right", "left") if self.side == "both" else (self.side,) if self.side else ()

    def rng(self, tag: int = 0) -> np.random.Generator:
        """A generator of its own for each tag."""
        return np.random.default_rng([self.seed, self.kind.bit, tag])


def plan_findings(
    request: Request,
    seed: int,
    *,
    phase: str | None = None,
    age: float = 60.0,
) -> tuple[PlannedFinding, ...]:
    """Turn a request into findings with every choice made.

    Parameters
    ----------
    request : None, str, sequence of str, or mapping
        None for a healthy chest. ``"random"`` draws from the cohort of `draw_kinds`. A name or
        several; each may carry a severity and a place or side, as in ``"nodule=0.5"``,
        ``"nodule:left lower lobe"`` or ``"effusion=0.8:both"``. A mapping gives each name a
        severity, or a mapping of ``severity``, ``side``, ``place``, ``style``, ``count``; True
        leaves all to the seed, None or False leaves the finding out even where another one would
        bring it along.
    seed : int
        Decides what the request leaves open.
    phase : str, optional
        Contrast phase if it is settled; None if findings may choose it.
    age : float
        Years; of weight for the random cohort only.

    Returns
    -------
    tuple of PlannedFinding
        In the order of the vocabulary, what findings bring along included (a large effusion
        compresses lung, severe oedema comes with effusions, advanced fibrosis pulls bronchi
        open).

    Raises
    ------
    InvalidInputError
        For an unknown name, place or key, a severity outside 0 to 1, or findings that no chest
        can have together.
    """
    if isinstance(request, str) and request.strip().lower() == "random":
        wishes, left_out = _drawn(seed, age, phase), frozenset[str]()
    else:
        wishes, left_out = _wished(request)
    plans: list[PlannedFinding] = []
    for number, (kind, wish) in enumerate(wishes):
        plans.append(_settled(kind, wish, [seed, _TAG, kind.bit, number], plans))
    plans += _companions(plans, left_out, seed)
    plans.sort(key=lambda plan: plan.kind.bit)
    _refuse_the_impossible(plans, phase)
    return tuple(plans)


def _wished(
    request: Request,
) -> tuple[list[tuple[FindingKind, dict[str, Any]]], frozenset[str]]:
    if request is None:
        return [], frozenset()
    if isinstance(request, str):
        request = [word for word in request.split(",") if word.strip()]
    entries: Iterable[tuple[str, Any]]
    if isinstance(request, Mapping):
        entries = request.items()
    elif isinstance(request, Sequence):
        entries = [_parsed(word) for word in request]
    else:
        raise InvalidInputError(
            "Findings are asked for by name",
            why=f"a {type(request).__name__} was given",
            remedy="give a name, a list of names, a mapping of names to severities, or random",
        )
    wishes: list[tuple[FindingKind, dict[str, Any]]] = []
    left_out = []
    for name, value in entries:
        kind = kind_of(name)
        if value is None or value is False:
            left_out.append(kind.name)
        else:
            wishes.append((kind, _as_wish(kind, value)))
    wishes.sort(key=lambda wish: wish[0].bit)
    return wishes, frozenset(left_out)


def _parsed(word: object) -> tuple[str, Any]:
    """``"name=severity:place or side"`` taken apart."""
    if not isinstance(word, str):
        raise InvalidInputError(
            "Findings are listed by name", why=f"the list holds a {type(word).__name__}"
        )
    head, _, where = word.partition(":")
    name, _, severity = head.partition("=")
    wish: dict[str, Any] = {}
    if severity.strip():
        try:
            wish["severity"] = float(severity)
        except ValueError:
            raise InvalidInputError(
                f"The severity in {word!r} is not a number",
                remedy="write it like nodule=0.5",
            ) from None
    if where.strip():
        wish["where"] = where.strip()
    return name, wish or True


def _as_wish(kind: FindingKind, value: Any) -> dict[str, Any]:
    if value is True:
        return {}
    if isinstance(value, int | float):
        return {"severity": float(value)}
    if isinstance(value, str):
        return {"where": value}
    if isinstance(value, Mapping):
        unknown = [key for key in value if key not in (*_KEYS, "where")]
        if not unknown:
            return dict(value)
        raise InvalidInputError(
            f"A request for {kind.title} has no {unknown[0]!r}",
            remedy=f"it may name {', '.join(_KEYS)}",
        )
    raise InvalidInputError(
        f"The request for {kind.title} cannot be read",
        why=f"it is a {type(value).__name__}",
        remedy="give a severity of 0 to 1, or a mapping of severity, side and place",
    )


def _drawn(seed: int, age: float, phase: str | None) -> list[tuple[FindingKind, dict[str, Any]]]:
    rng = np.random.default_rng([seed, _TAG])
    names = draw_kinds(rng, age=age, phase=phase)
    return [(kind_of(name), {}) for name in names]


def _settled(
    kind: FindingKind,
    wish: Mapping[str, Any],
    seeds: Sequence[int],
    before: Sequence[PlannedFinding],
) -> PlannedFinding:
    """Fill in what a wish leaves open, and refuse what it may not ask for."""
    rng = np.random.default_rng(list(seeds))
    # Always the same draws in the same order: a wish does not reshuffle what it leaves open.
    by_severity, by_side, by_place, by_style, by_count = rng.random(5)
    own_seed = int(rng.integers(1 << 31))
    wish = {**wish, **_read_where(kind, wish)}

    severity = wish.get("severity")
    if severity is None:
        # Devices mostly lie where they should, in the middle of their scale.
        severity = 0.35 + 0.3 * by_severity if kind.device else 0.15 + 0.8 * by_severity
        severity = round(severity, 3)
    severity = _checked_severity(kind, severity)
    style = _one_of(kind, "style", wish.get("style"), kind.styles)
    if not style and kind.styles:
        style = _drawn_style(kind, severity, by_style)
    place = _one_of(kind, "place", wish.get("place"), kind.places)
    side = _one_of(kind, "side", wish.get("side"), kind.sides)
    if set(kind.places) == set(LOBES):
        place, side = _lobe(kind, place, side, style, by_place, before)
    else:
        side = side or _drawn_side(kind, severity, by_side, before)
        place = place or _drawn_place(kind, severity, by_place)
    count = wish.get("count")
    if count is None:
        count = 1 if by_count < 0.65 or not kind.several else 2 + int((by_count - 0.65) / 0.35 * 4)
    elif count != 1 and not kind.several:
        raise InvalidInputError(f"There is only one {kind.title} at a time", why=f"{count} asked")
    if not (isinstance(count, int) and 1 <= count <= _MOST):
        raise InvalidInputError(
            f"A chest may have 1 to {_MOST} {kind.title}s", why=f"{count!r} asked for"
        )
    return PlannedFinding(kind.name, severity, side, place, style, count, own_seed)


def _read_where(kind: FindingKind, wish: Mapping[str, Any]) -> dict[str, str]:
    """Sort a word after the colon to places, sides or styles."""
    where = wish.get("where")
    if where is None:
        return {}
    for key, known in (("place", kind.places), ("side", kind.sides), ("style", kind.styles)):
        if _plain(where) in {_plain(name) for name in known}:
            return {key: str(where)}
    choices = (*kind.places, *kind.sides, *kind.styles)
    raise InvalidInputError(
        f"{kind.title.capitalize()} cannot be {where!r}",
        remedy=f"choose among {', '.join(choices)}" if choices else "it has one place and look",
    )


def _checked_severity(kind: FindingKind, severity: Any) -> float:
    number = float(severity) if isinstance(severity, int | float) else float("nan")
    if not 0.0 <= number <= 1.0:
        raise InvalidInputError(
            f"The severity of {kind.title} lies between 0 and 1",
            why=f"it is {severity!r}",
            remedy="give 0 for the mildest, 1 for the most severe; leave the name out for none",
        )
    return number


def _one_of(kind: FindingKind, what: str, value: Any, known: Sequence[str]) -> str:
    """The known name that a value stands for; empty if there is no value."""
    if value is None or value == "":
        return ""
    for name in known:
        if _plain(str(value)) == _plain(name):
            return name
    raise InvalidInputError(
        f"{kind.title.capitalize()} has no {what} {value!r}",
        remedy=f"choose among {', '.join(known)}" if known else f"leave its {what} out",
    )


def _plain(text: str) -> str:
    return str(text).strip().lower().replace("_", " ").replace("-", " ")


def _lobe(
    kind: FindingKind,
    place: str,
    side: str,
    style: str,
    draw: float,
    before: Sequence[PlannedFinding],
) -> tuple[str, str]:
    """A lobe of the wished side that nothing else has filled, and its side."""
    if place:
        own = place.split()[0]
        if side and side != own:
            raise InvalidInputError(f"The {place} does not lie on the {side}")
        return place, own
    lobes = [lobe for lobe in LOBES if not side or lobe.startswith(side)]
    if style == "compressive":
        return (f"{side or 'right'} lower lobe", side or "right")
    free = [lobe for lobe in lobes if lobe not in {plan.place for plan in before}] or lobes
    if style == "plate-like":  # mostly at the bases
        free = [lobe for lobe in free if "upper" not in lobe] or free
    place = free[int(draw * len(free))]
    return place, place.split()[0]


def _drawn_side(
    kind: FindingKind, severity: float, draw: float, before: Sequence[PlannedFinding]
) -> str:
    if not kind.sides:
        return ""
    names = {plan.name: plan for plan in before}
    if kind.name == "chest_drain":
        for name in ("pneumothorax", "pleural_effusion"):
            if name in names:
                side = names[name].side
                return side if side in kind.sides else "right"
    if kind.name in ("pacemaker", "central_line"):
        usual = {"pacemaker": "left", "central_line": "right"}[kind.name]
        return usual if draw < 0.82 else _other(usual)
    if "both" not in kind.sides:
        return "right" if draw < 0.5 else "left"
    both = {"pneumothorax": 0.0, "pulmonary_embolism": 0.2 + 0.9 * severity, "ground_glass": 0.75}
    share = both.get(kind.name, 0.45)
    if draw < share:
        return "both"
    return "right" if draw < share + 0.55 * (1 - share) else "left"


def _other(side: str) -> str:
    return "left" if side == "right" else "right"


def _drawn_style(kind: FindingKind, severity: float, draw: float) -> str:
    """The first style is the commonest; what needs another finding is never drawn."""
    if kind.name == "atelectasis":
        return "lobar" if severity >= 0.6 else "plate-like"
    if kind.name == "nodule" and severity > 0.5:
        return ("solid", "part-solid")[int(draw > 0.75)]
    shares = {4: (0.55, 0.72, 0.85, 1.0), 3: (0.6, 0.85, 1.0), 2: (0.55, 1.0)}[len(kind.styles)]
    return next(s for s, upto in zip(kind.styles, shares, strict=True) if draw < upto)


def _drawn_place(kind: FindingKind, severity: float, draw: float) -> str:
    if not kind.places:
        return ""
    if kind.name == "pulmonary_embolism":
        return next(
            place
            for place, upto in zip(kind.places, (0.35, 0.55, 0.8, 2.0), strict=True)
            if severity < upto
        )
    common = {"lymphadenopathy": 3, "central_line": 2}.get(kind.name, len(kind.places))
    return kind.places[int(draw * common)]


def _companions(
    plans: Sequence[PlannedFinding], left_out: frozenset[str], seed: int
) -> list[PlannedFinding]:
    """What severe findings bring along, unless it was asked for or left out."""
    brought: list[PlannedFinding] = []

    def bring(cause: PlannedFinding, name: str, severity: float, **given: str) -> None:
        known = {plan.name for plan in plans} if name != "atelectasis" else set()
        if name in known or name in left_out or name in {plan.name for plan in brought}:
            return
        rng = np.random.default_rng([seed, _TAG, kind_of(name).bit, 99])
        own_seed = int(rng.integers(1 << 31))
        brought.append(
            PlannedFinding(
                name,
                round(severity, 3),
                given.get("side", ""),
                given.get("place", ""),
                given.get("style", ""),
                seed=own_seed,
                cause=cause.name,
            )
        )

    for plan in plans:
        if plan.name == "oedema" and plan.severity >= 0.5:
            bring(plan, "pleural_effusion", 0.3 * plan.severity - 0.05, side="both")
        if plan.name == "fibrosis" and plan.severity >= 0.6:
            bring(plan, "bronchiectasis", 0.4 * plan.severity, place="lower lobes")
    for plan in [*plans, *brought]:
        if plan.name == "pleural_effusion" and plan.severity >= 0.4:
            bring(plan, "atelectasis", plan.severity, side=plan.side, style="compressive")
    return brought


def _refuse_the_impossible(plans: Sequence[PlannedFinding], phase: str | None) -> None:
    names = {plan.name for plan in plans}
    if "pulmonary_embolism" in names and phase not in (None, "ctpa"):
        raise InvalidInputError(
            "Pulmonary embolism cannot be seen in this contrast phase",
            why=f"the phase is {phase!r}, and clots show only in contrast-filled arteries",
            remedy="choose the phase ctpa, or leave the phase out",
        )
    places: dict[tuple[str, str], PlannedFinding] = {}
    for plan in plans:
        if plan.name == "pneumothorax" and plan.side == "both" and plan.severity > 0.6:
            raise InvalidInputError(
                "A large pneumothorax on both sides cannot be survived",
                remedy="choose one side, or a severity of 0.6 or less",
            )
        fluid = {s for other in plans if other.name == "pleural_effusion" for s in other.sides}
        if plan.style == "compressive" and not fluid.issuperset(plan.sides):
            raise InvalidInputError(
                "Compressive atelectasis needs a pleural effusion that compresses",
                remedy="ask for a pleural effusion too, or for another style",
            )
        if not plan.kind.several:
            twin = places.setdefault((plan.name, plan.place + plan.side + plan.style), plan)
            if twin is not plan:
                raise InvalidInputError(
                    f"{plan.kind.title.capitalize()} was asked for twice at the same place",
                    remedy="name each place once",
                )
    solid = [
        plan
        for plan in plans
        if plan.name == "consolidation" or (plan.name == "atelectasis" and plan.style == "lobar")
    ]
    for plan in solid:
        for other in solid:
            if plan.name < other.name and plan.place == other.place:
                raise InvalidInputError(
                    f"The {plan.place} cannot be collapsed and consolidated at once",
                    remedy="choose another lobe for one of them",
                )
