"""What every finding paints with: its rules, its random numbers, places in the lungs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from napari_cxr3d.imaging.frames import FloatArray
from napari_cxr3d.phantom.anatomy.model import Anatomy, Branch
from napari_cxr3d.phantom.anatomy.sections import Sections
from napari_cxr3d.phantom.findings.finding import Finding, Part
from napari_cxr3d.phantom.findings.planning import PlannedFinding
from napari_cxr3d.phantom.findings.vocabulary import LOBES
from napari_cxr3d.phantom.labels import LUNG, Label, label_mask
from napari_cxr3d.phantom.scene import KEEP, Clip, Pattern, Rule, SceneBuilder
from napari_cxr3d.phantom.tissues import Tissue, hu_of

__all__ = [
    "AIRWAYS",
    "IN_LUNG",
    "LOBES_OF",
    "LUNGS",
    "LUNG_OF",
    "VESSELS",
    "Canvas",
    "above",
    "across",
    "between",
    "resampled",
    "unit",
]

LUNGS = label_mask(LUNG)
VESSELS = label_mask([Label.PULMONARY_ARTERY, Label.PULMONARY_VEIN])
AIRWAYS = label_mask([Label.AIRWAY, Label.AIRWAY_WALL])
IN_LUNG = LUNGS | VESSELS | AIRWAYS
"""Lung and what branches in it; also the trunks in the mediastinum, so beware of the hila."""

LOBES_OF = {
    side: tuple(label for name, label in LOBES.items() if name.startswith(side))
    for side in ("right", "left")
}
LUNG_OF = {side: label_mask([*lobes, Label.FISSURE]) for side, lobes in LOBES_OF.items()}
"""Mask of one lung: the two touch in front of the heart, where a box would hold both."""

_SHARES = (0.01, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
# What each pattern exceeds in those shares of space, measured over a million points.
_EXCEEDED = {
    Pattern.SMOOTH: (
        0.594, 0.492, 0.435, 0.344, 0.281, 0.229, 0.144, 0.070, 0.000, -0.069, -0.143, -0.228,
        -0.344, -0.435, -0.594,
    ),
    Pattern.CELLS: (
        0.733, 0.613, 0.541, 0.419, 0.332, 0.261, 0.145, 0.044, -0.049, -0.139, -0.234, -0.342,
        -0.486, -0.598, -0.793,
    ),
    Pattern.SEPTA: (
        0.990, 0.969, 0.949, 0.896, 0.840, 0.783, 0.658, 0.521, 0.367, 0.188, -0.024, -0.294,
        -0.696, -1.035, -1.649,
    ),
}  # fmt: skip


def between(low: float, high: float, severity: float) -> float:
    """The value at a severity, even from 0 to 1."""
    return low + severity * (high - low)


def unit(vector: Any) -> FloatArray:
    """A vector's direction."""
    values = np.asarray(vector, np.float64)
    direction: FloatArray = values / math.sqrt(float(values @ values))
    return direction


def across(direction: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Two unit vectors that stand upright on a direction and on each other."""
    helper = np.array([0.0, 0.0, 1.0]) if abs(direction[2]) < 0.8 else np.array([1.0, 0.0, 0.0])
    first = unit(np.cross(direction, helper))
    second: FloatArray = np.cross(direction, first)
    return first, second


def resampled(points: FloatArray, step_mm: float) -> FloatArray:
    """A polyline (or rows whose first three columns are points) at even steps along it."""
    rows = np.asarray(points, np.float64)
    lengths = np.sqrt((np.diff(rows[:, :3], axis=0) ** 2).sum(axis=1))
    along = np.concatenate([[0.0], np.cumsum(lengths)])
    count = max(int(along[-1] / step_mm) + 1, 2)
    wanted = np.linspace(0.0, along[-1], count)
    columns = [np.interp(wanted, along, column) for column in rows.T]
    return np.stack(columns, axis=1)


@dataclass
class Canvas:
    """A body, a plan, and the record of what is painted.

    Attributes
    ----------
    anatomy : Anatomy
        The body; shapes are added to its builder.
    plan : PlannedFinding
        What is to be painted.
    others : tuple of PlannedFinding
        All findings of the case.
    """

    anatomy: Anatomy
    plan: PlannedFinding
    others: tuple[PlannedFinding, ...] = ()
    parts: list[Part] = field(default_factory=list)
    measures: dict[str, float] = field(default_factory=dict)
    _rules: int = 0

    def __post_init__(self) -> None:
        self.rng = self.plan.rng()

    @property
    def builder(self) -> SceneBuilder:
        """Takes the shapes."""
        return self.anatomy.builder

    @property
    def severity(self) -> float:
        """Of the plan."""
        return self.plan.severity

    def hu(self, tissue: Tissue | Label) -> float:
        """Hounsfield units of a tissue in this body's contrast phase."""
        return hu_of(tissue, self.anatomy.person.phase)

    def rule(
        self,
        hu: float | Tissue,
        over: int,
        *,
        label: int = KEEP,
        marked: bool = True,
        **texture: Any,
    ) -> Rule:
        """A rule that sets the finding's bit, with random fields of its own.

        Parameters
        ----------
        hu : float or Tissue
            What it paints.
        over : int
            Mask of the labels that may be covered.
        label : int
            Label it leaves.
        marked : bool
            Whether covered voxels belong to the finding's mask.
        **texture
            Further attributes of `Rule`.
        """
        self._rules += 1
        value = self.hu(hu) if isinstance(hu, Tissue) else hu
        seed = (self.plan.seed + 1009 * self._rules + self.plan.kind.bit * 7919) & 0x7FFFFFFF
        return Rule(
            label, value, over, finding=self.plan.kind.bit if marked else None, seed=seed, **texture
        )

    def note(self, place: str, center: Any, size: Any) -> None:
        """Record a painted piece: where, and its extent along x, y, z in mm."""
        x, y, z = (round(float(v), 1) for v in np.asarray(center, np.float64))
        a, b, c = (round(float(v), 1) for v in np.broadcast_to(np.asarray(size, float), 3))
        self.parts.append(Part(place, (x, y, z), (a, b, c)))

    def finding(self) -> Finding:
        """What was painted."""
        rounded = {name: round(value, 3) for name, value in self.measures.items()}
        return Finding.from_plan(self.plan, tuple(self.parts), rounded)

    # Places in the lungs

    def lung(self, side: str) -> Sections:
        """Outline of a lung, mediastinum and diaphragm not taken off."""
        return self.anatomy.lungs[side]

    def box(self, side: str) -> tuple[FloatArray, FloatArray]:
        """A box that holds a lung and reaches the midline, not the other lung."""
        low, high = (corner.copy() for corner in self.anatomy.lung_bounds(side))
        return low - 4.0, high + 4.0

    def everywhere(self, side: str, rule: Rule, *, low: float = 0.0, high: float = 1.0) -> None:
        """Paint a lung between two heights, 0 its base and 1 its apex; `rule.over` says where."""
        corner, other = self.box(side)
        corner[2], other[2] = self.heights(side, low, high)
        self.builder.half_space(Clip((0.0, 0.0, 1.0), 1e5), rule, box=(corner, other))

    def heights(self, side: str, low: float, high: float) -> tuple[float, float]:
        """z of two heights above the lowest aerated lung, 0 its base and 1 its apex."""
        base = min(float(self.anatomy.lobes[lobe][:, 2].min()) for lobe in LOBES_OF[side]) - 5.0
        top = float(self.lung(side).rows[-1, 0])
        below = base + low * (top - base) if low > 0 else base - 60.0
        return below, base + high * (top - base) if high < 1 else top + 5.0

    def rim(
        self, side: str, depth: float, *, low: float = 0.0, high: float = 1.0, front: bool = True
    ) -> FloatArray:
        """Sections inside a layer under the costal pleura, for `SceneBuilder.around_loft`.

        The layer is deepest in the middle of its heights, or at the base or apex if it reaches
        there, and tapers to nothing at its ends.

        Parameters
        ----------
        side : str
            Of the lung.
        depth : float
            Greatest depth in mm.
        low, high : float
            Heights between which it lies, 0 the base and 1 the apex.
        front : bool
            Whether it reaches round to the front.
        """
        rows = self.lung(side).rows.copy()
        base, top = self.heights(side, 1e-6, 1.0 - 1e-6)
        height = (rows[:, 0] - base) / (top - base)
        rise = np.ones_like(height) if low <= 0 else (height - low) / (0.5 * (high - low))
        fall = np.ones_like(height) if high >= 1 else (high - height) / (0.75 * (high - low))
        depths = depth * np.minimum(np.minimum(rise, fall), 1.0)
        depths = np.maximum(depths, -6.0)[:, None]
        columns = [3, 4, 5, 6] if front else [3, 4, 6]
        rows[:, columns] = np.maximum(rows[:, columns] - depths, 1.0)
        if not front:
            rows[:, 5] += 6.0
        return rows

    def hilum(self, side: str) -> FloatArray:
        """The hilum's landmark."""
        return np.array(self.anatomy.landmarks[f"{side}_hilum"])

    def lobe_points(self, place: str) -> FloatArray:
        """Points strewn through a lobe by its name."""
        return self.anatomy.lobes[LOBES[place]]

    def branches(
        self,
        tree: Iterable[Branch],
        *,
        lobes: Iterable[Label] = tuple(LOBES.values()),
        generations: tuple[int, int] = (0, 99),
    ) -> list[Branch]:
        """Branches that supply some lobes, of generations from and to."""
        wanted = set(lobes)
        low, high = generations
        return [
            branch for branch in tree if branch.lobe in wanted and low <= branch.generation <= high
        ]

    def roomy_point(self, place: str, radius: float) -> FloatArray:
        """A point of a lobe about which a ball of a radius has room in the lung, as far as any.

        Of up to 60 points strewn in the lobe, those count for whose ball most of 26 directions
        still lie near other points of the lung; one of the best is drawn.
        """
        points = self.lobe_points(place)
        side = place.split()[0]
        lung = np.concatenate([self.anatomy.lobes[lobe] for lobe in LOBES_OF[side]])
        lung = lung[:: max(len(lung) // 400, 1)]
        chosen = points[self.rng.permutation(len(points))[:60]]
        from_hilum = np.sqrt(((chosen - self.hilum(side)) ** 2).sum(axis=1))
        inner = max(radius - 4.0, 0.0)
        directions = np.array(
            [(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1) if x or y or z],
            np.float64,
        )
        directions /= np.sqrt((directions**2).sum(axis=1))[:, None]
        near = 0.9 * _spacing(lung) + 2.0
        probes = chosen[:, None, :] + inner * directions
        gaps = ((probes[:, :, None, :] - lung[None, None, :, :]) ** 2).sum(axis=3).min(axis=2)
        room = (gaps < near * near).mean(axis=1) - (from_hilum < radius + 25.0)
        best = np.flatnonzero(room >= room.max() - 0.04)
        found: FloatArray = chosen[best[int(self.rng.random() * len(best))]]
        return found


def _spacing(points: FloatArray) -> float:
    """Median distance to the nearest neighbour, of a sample."""
    sample = points[:: max(len(points) // 60, 1)]
    gaps = ((sample[:, None, :] - points[None, :, :]) ** 2).sum(axis=2)
    gaps[gaps < 1e-9] = np.inf
    return float(np.sqrt(np.median(gaps.min(axis=1))))


def above(pattern: Pattern, share: float) -> float:
    """The value that a pattern exceeds in a share of space."""
    return float(np.interp(share, _SHARES, _EXCEEDED[pattern]))
