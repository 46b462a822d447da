"""A finding as it was painted: what reports, labels and boxes are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from napari_cxr3d.phantom.findings.planning import PlannedFinding
from napari_cxr3d.phantom.findings.vocabulary import FindingKind, kind_of

__all__ = ["Finding", "Part"]

Vec = tuple[float, float, float]


@dataclass(frozen=True)
class Part:
    """One painted piece of a finding: a nodule, a clot, a node, a plaque.

    Attributes
    ----------
    place : str
        Where it lies, in a report's words.
    center_lps : tuple of 3 float
        mm, in the frame of the painted shapes (before the body's warp).
    size_mm : tuple of 3 float
        Extent along x, y and z.
    """

    place: str
    center_lps: Vec
    size_mm: Vec

    @property
    def diameter_mm(self) -> float:
        """Its longest extent."""
        return max(self.size_mm)


@dataclass(frozen=True)
class Finding:
    """A painted finding.

    Attributes
    ----------
    name : str
        Name in the vocabulary; the bit of its mask is ``BITS[name]``.
    severity : float
        0 to 1; `FindingKind.measure` says of what.
    side, place, style : str
        As planned; empty where the kind has none.
    cause : str
        Name of the finding that brought it along, or empty.
    parts : tuple of Part
        Its pieces, the largest first.
    measures : mapping of str to float
        What was painted, in the units of the names: ``depth_mm``, ``agatston``, ``share``.
    box_lps : pair of 3-vectors or None
        Lower and upper corner of its voxels, once it was painted into a volume.
    """

    name: str
    severity: float
    side: str = ""
    place: str = ""
    style: str = ""
    cause: str = ""
    parts: tuple[Part, ...] = ()
    measures: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    box_lps: tuple[Vec, Vec] | None = None

    @property
    def kind(self) -> FindingKind:
        """Its entry in the vocabulary."""
        return kind_of(self.name)

    @classmethod
    def from_plan(
        cls,
        plan: PlannedFinding,
        parts: tuple[Part, ...] = (),
        measures: Mapping[str, float] | None = None,
    ) -> Finding:
        """What became of a plan."""
        return cls(
            plan.name,
            plan.severity,
            plan.side,
            plan.place,
            plan.style,
            plan.cause,
            tuple(sorted(parts, key=lambda part: -part.diameter_mm)),
            MappingProxyType(dict(measures or {})),
        )
