"""The lungs: lobes, fissures, and the space that their vessels grow into."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_cxr3d.imaging.frames import FloatArray
from napari_cxr3d.phantom.anatomy.bench import AERATED, Bench
from napari_cxr3d.phantom.anatomy.model import Dome, Ellipsoidal, Fissure
from napari_cxr3d.phantom.anatomy.person import normal
from napari_cxr3d.phantom.anatomy.sections import Sections
from napari_cxr3d.phantom.labels import Label, label_mask
from napari_cxr3d.phantom.scene import KEEP, Blend, Clip
from napari_cxr3d.phantom.tissues import Tissue

__all__ = ["LungSpace", "fissures_of", "paint_fissures", "paint_lungs"]

_SIDES = {
    "right": (Label.RIGHT_UPPER_LOBE, Label.RIGHT_MIDDLE_LOBE, Label.RIGHT_LOWER_LOBE),
    "left": (Label.LEFT_UPPER_LOBE, Label.LEFT_LOWER_LOBE),
}
_RADIUS = 420.0  # mm, of the fissures' spheres


def fissures_of(bench: Bench) -> dict[str, Fissure]:
    """Where the oblique fissures and the horizontal one lie.

    An oblique fissure falls from the level of T4 behind to the diaphragm's front third.
    """
    figure, rng = bench.figure, bench.rng(20)
    fissures = {}
    for side, sign in (("right", -1.0), ("left", 1.0)):
        lift = 6.0 * normal(rng)
        behind = figure.at((sign * 60.0, 80.0, 62.0 + lift + (6.0 if side == "left" else 0.0)))
        before = figure.at((sign * 70.0, -68.0, -92.0 + lift))
        fissures[f"{side} oblique"] = _bowed(behind, before, sign, label_mask_of(side))
    level = figure.at((-70.0, -40.0, 6.0 + 5.0 * normal(rng)))
    tilt = np.array([0.10 * normal(rng), -0.12, 1.0])
    tilt /= np.sqrt(tilt @ tilt)
    center = level - _RADIUS * tilt
    fissures["horizontal"] = Fissure(
        (float(center[0]), float(center[1]), float(center[2])), _RADIUS, _SIDES["right"][:2]
    )
    return fissures


def label_mask_of(side: str) -> tuple[Label, ...]:
    """The lobes of one lung."""
    return _SIDES[side]


def _bowed(behind: FloatArray, before: FloatArray, sign: float, over: tuple[Label, ...]) -> Fissure:
    along = before - behind
    along /= np.sqrt(along @ along)
    across = np.array([1.0, -0.12 * sign, 0.05 * sign])
    up = np.cross(along, across)
    up /= np.sqrt(up @ up)
    up = up if up[2] > 0 else -up
    middle = 0.5 * (behind + before)
    half = 0.5 * np.sqrt(((before - behind) ** 2).sum())
    center = middle - up * np.sqrt(_RADIUS**2 - half**2)
    return Fissure((float(center[0]), float(center[1]), float(center[2])), _RADIUS, over)


def paint_lungs(bench: Bench, lungs: dict[str, Sections], fissures: dict[str, Fissure]) -> None:
    """Paint both lungs lobe by lobe, denser behind than in front."""
    builder = bench.builder
    air = bench.hu(Tissue.LUNG) + 14.0 * normal(bench.rng(21)).__float__()
    air -= 0.35 * (bench.person.age - 55.0) + 60.0 * (bench.person.inspiration - 1.0)
    for side, lobes in _SIDES.items():
        lung = lungs[side]
        texture = {"mottle_hu": 16.0, "mottle_mm": 7.0}
        builder.loft(lung.rows, bench.rule(lobes[0], air, **texture))
        upper = label_mask([lobes[0]])
        oblique = fissures[f"{side} oblique"]
        builder.ellipsoid(oblique.center, (oblique.radius,) * 3,
                          bench.rule(lobes[-1], air, over=upper, **texture))  # fmt: skip
        if side == "right":
            level = fissures["horizontal"]
            builder.ellipsoid(level.center, (level.radius,) * 3,
                              bench.rule(lobes[1], air, over=upper, **texture))  # fmt: skip
    # The lung's own weight: about 40 HU from front to back (lying), spread over its depth.
    low, high = lungs["left"].bounds()
    depth = float(high[1] - low[1])
    if bench.person.arms == "up":
        plane = Clip.through((0.0, 0.5 * (low[1] + high[1]), 0.0), (0.0, -1.0, 0.0))
    else:
        depth = float(high[2] - low[2])
        plane = Clip.through((0.0, 0.0, 0.5 * (low[2] + high[2])), (0.0, 0.0, 1.0))
    weight = bench.rule(KEEP, 44.0, over=AERATED, blend=Blend.ADD, soft_mm=depth, seed=1)
    builder.half_space(plane, weight, box=((-400, -400, -400), (400, 400, 400)))


def paint_fissures(bench: Bench, fissures: dict[str, Fissure]) -> None:
    """Paint the fissures as thin sheets; the horizontal one may be incomplete."""
    for name, fissure in fissures.items():
        rule = bench.rule(
            Label.FISSURE, 0.0, over=label_mask(fissure.over), opacity=0.16,
            seed=len(name) * 101 + bench.person.seed,
        )  # fmt: skip
        bench.builder.shell(fissure.center, fissure.radius, 0.9, rule)


@dataclass(frozen=True, eq=False)
class LungSpace:
    """Where there is lung and nothing else: the space for vessels.

    Attributes
    ----------
    lungs : dict of str to Sections
        Outlines.
    domes : dict of str to Dome
        Below them there is no lung.
    solids : tuple of Ellipsoidal
        Heart and other organs that the lungs make room for.
    lofts : tuple of Sections
        Mediastinum.
    spine : ndarray, shape (N, 3)
        Centres of the vertebrae.
    fissures : dict of str to Fissure
        Between the lobes.
    """

    lungs: dict[str, Sections]
    domes: dict[str, Dome]
    solids: tuple[Ellipsoidal, ...]
    lofts: tuple[Sections, ...]
    spine: FloatArray
    fissures: dict[str, Fissure]

    def free(self, points: FloatArray, side: str, margin: float) -> np.ndarray:
        """Whether points lie in a lung, `margin` mm or more from its surface."""
        lung = self.lungs[side].grown(-margin)
        inside = lung.level(points) < 1.0
        inside &= lung.level(points + (0.0, 0.0, margin)) < 1.0
        dome = self.domes[side].sections
        inside &= dome.grown(margin).level(points) > 1.0
        inside &= dome.level(points - (0.0, 0.0, margin)) > 1.0
        for solid in self.solids:
            local = (points - solid.center) @ solid.axes / (solid.semi_axes + margin)
            inside &= (local**2).sum(axis=1) > 1.0
        for loft in self.lofts:
            inside &= loft.grown(margin).level(points) > 1.0
        z, order = self.spine[::-1, 2], self.spine[::-1]
        x = np.interp(points[:, 2], z, order[:, 0])
        y = np.interp(points[:, 2], z, order[:, 1])
        bone = ((points[:, 0] - x) / (22.0 + margin)) ** 2 + (
            (points[:, 1] - y) / (20.0 + margin)
        ) ** 2
        rear = ((points[:, 0] - x) / (38.0 + margin)) ** 2 + (
            (points[:, 1] - y - 36) / (26.0 + margin)
        ) ** 2
        inside &= (bone > 1.0) & (rear > 1.0)
        return inside

    def lobe_of(self, points: FloatArray, side: str) -> np.ndarray:
        """Label of the lobe that each point belongs to."""
        lobes = _SIDES[side]
        label = np.full(len(points), int(lobes[0]))
        if side == "right":
            label[self._below(points, "horizontal")] = int(lobes[1])
        label[self._below(points, f"{side} oblique")] = int(lobes[-1])
        return label

    def _below(self, points: FloatArray, name: str) -> np.ndarray:
        fissure = self.fissures[name]
        gap = points - np.asarray(fissure.center)
        below: np.ndarray = (gap**2).sum(axis=1) < fissure.radius**2
        return below
