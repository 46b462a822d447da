"""The frame of one body: its size and curvature, chest cage, diaphragm and skin.

Everything is drawn for a reference man and carried over to a person by one smooth map
(`Figure.at`): a scale along each axis, and the kyphosis, which moves the back and not the
front. Reference sizes are those of adult chest CT: vertebral heights of Kunkel et al., J.
Anat. 219, 375-387 (2011); cage widths and depths of Bellemare et al., AJRCCM 168, 305-312
(2003), and Weaver et al., J. Anat. 225, 529-537 (2014).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from napari_cxr3d.imaging.frames import FloatArray
from napari_cxr3d.phantom.anatomy.person import Person, child_rng, normal
from napari_cxr3d.phantom.anatomy.sections import Sections, smooth_table

__all__ = ["VERTEBRAE", "Figure"]

VERTEBRAE: Final = ("C6", "C7", *(f"T{k}" for k in range(1, 13)), "L1", "L2")

# z of the vertebral centres and y of the canal's front edge, the reference man's.
_SPINE_Z: Final = (170.0, 152.0, 132.0, 111.0, 90.0, 68.0, 46.0, 23.0, 0.0, -24.0, -49.0, -75.0,
                   -102.0, -131.0, -162.0, -194.0)  # fmt: skip
_SPINE_Y: Final = (10.0, 14.0, 22.0, 31.0, 40.0, 46.0, 50.0, 52.0, 52.5, 51.0, 47.5, 42.5,
                   36.0, 29.0, 23.0, 19.0)  # fmt: skip

# Inner surface of the reference man's right half cage (mirrored for the left):
# z, lateral |x|, y of the front, y of the back, squareness.
_CAGE: Final = np.array([
    (-200.0, 122.0, -90.0, 66.0, 0.30),
    (-160.0, 130.0, -95.0, 72.0, 0.34),
    (-120.0, 136.0, -99.0, 79.0, 0.38),
    (-80.0, 139.0, -99.0, 84.0, 0.42),
    (-40.0, 138.0, -95.0, 88.0, 0.46),
    (0.0, 134.5, -88.0, 89.0, 0.48),
    (30.0, 130.0, -80.0, 88.0, 0.48),
    (60.0, 122.0, -69.0, 84.0, 0.45),
    (85.0, 111.0, -56.0, 78.0, 0.40),
    (105.0, 97.0, -41.0, 70.0, 0.34),
    (122.0, 82.0, -26.0, 62.0, 0.26),
    (138.0, 66.0, -8.0, 53.0, 0.18),
    (150.0, 52.0, 4.0, 46.0, 0.10),
])  # fmt: skip
_APEX: Final = 140.0  # z of the lungs' apices
_MEDIAL: Final = -4.0  # |x| of the lungs' medial edges; the mediastinum is laid over them


@dataclass(frozen=True, eq=False)
class Figure:
    """The map from the reference man to a person, and the outlines made with it.

    Attributes
    ----------
    person : Person
        Whose body it is.
    scale : ndarray, shape (3,)
        Along x, y, z.
    kyphosis : float
        1 for the reference curve.
    fat_mm : float
        Thickness of the fat under the skin at the side.
    """

    person: Person
    scale: FloatArray
    kyphosis: float
    fat_mm: float
    lateral_curve: FloatArray

    @classmethod
    def of(cls, person: Person) -> Figure:
        """Draw a person's size and posture."""
        rng = child_rng(person.seed, 2)
        size = np.array([1.0, 1.0, 1.0]) if person.sex == "male" else np.array([0.91, 0.90, 0.925])
        size = size * (1.0 + np.array([0.03, 0.04, 0.03]) * normal(rng, 3).clip(-2, 2))
        width = {"slim": 0.96, "average": 1.0, "heavy": 1.05}[person.habitus]
        size *= np.array([width, width * (1 + 0.16 * person.barrel), 1.0])
        fat = {"slim": 7.0, "average": 15.0, "heavy": 31.0}[person.habitus]
        fat *= (1.15 if person.sex == "female" else 1.0) * (1 + 0.12 * normal(rng))
        curve = 1.0 + 0.12 * normal(rng) + max(person.age - 50, 0) * 0.018 + person.kyphosis
        bend = 2.5 * normal(rng, 2).clip(-2, 2)
        return cls(person, size, curve, fat, bend)

    @property
    def inspiration(self) -> float:
        """Height of the lungs, 1 for a full breath."""
        stout = {"slim": 0.03, "average": 0.0, "heavy": -0.06}[self.person.habitus]
        return self.person.inspiration + stout

    def at(self, points: npt.ArrayLike) -> FloatArray:
        """Carry reference points over to the person, shape (..., 3)."""
        p = np.asarray(points, np.float64)
        x, y, z = p[..., 0], p[..., 1], p[..., 2]
        share = np.clip((y + 90.0) / 130.0, 0.0, 1.0)
        share = share * share * (3 - 2 * share)
        bow = 52.5 - smooth_table(_SPINE_Z[::-1], _SPINE_Y[::-1], z.ravel()).reshape(z.shape)
        moved = y - (self.kyphosis - 1.0) * bow * share * 0.6
        sway = self.lateral_curve[0] * (1 - (z / 150.0) ** 2) + self.lateral_curve[1] * z / 150.0
        return np.stack(
            [self.scale[0] * (x + sway * share), self.scale[1] * moved, self.scale[2] * z], axis=-1
        )

    def size(self, radius: Any) -> Any:
        """Carry a length without direction over."""
        return radius * float(self.scale.prod() ** (1 / 3))

    def sections(self, table: npt.ArrayLike, step: float = 5.0) -> Sections:
        """Sections from reference rows.

        Parameters
        ----------
        table : array_like, shape (N, 7)
            z (ascending), centre x, x of the left edge, x of the right edge, y of the front,
            y of the back, squareness.
        step : float
            Distance of the sections, mm.
        """
        rows = np.asarray(table, np.float64)
        z = np.linspace(rows[0, 0], rows[-1, 0], max(2, round((rows[-1, 0] - rows[0, 0]) / step)))
        full = smooth_table(rows[:, 0], rows[:, 1:], z)
        cx, left, right, front, back, square = full.T
        cy = front + 0.56 * (back - front)
        middle = self.at(np.stack([cx, cy, z], -1))
        ahead = self.at(np.stack([cx, front, z], -1))
        behind = self.at(np.stack([cx, back, z], -1))
        sx = self.scale[0]
        return Sections(
            np.stack(
                [
                    self.scale[2] * z, middle[:, 0], middle[:, 1], sx * (left - cx),
                    sx * (cx - right), middle[:, 1] - ahead[:, 1], behind[:, 1] - middle[:, 1],
                    square,
                ],
                axis=-1,
            )
        )  # fmt: skip

    def cage(self, side: str) -> Sections:
        """Inner surface of one half of the rib cage."""
        z, lateral, front, back, square = _CAGE.T
        sign = 1.0 if side == "left" else -1.0
        cx = sign * (0.33 * lateral + 2)
        outer, inner = sign * lateral, np.full_like(z, sign * _MEDIAL)
        left, right = (outer, inner) if sign > 0 else (inner, outer)
        return self.sections(np.stack([z, cx, left, right, front, back, square], -1))

    def lung(self, side: str) -> Sections:
        """Outline of one lung: the cage, closed by a dome above."""
        cage = self.cage(side)
        top, low = self.scale[2] * (_APEX + (0 if side == "left" else -1.0)), self.lung_floor
        z = np.linspace(low, top, 56)
        rows = cage.at(z)
        rows[:, 0] = z
        height = 46.0 * self.scale[2]
        share = np.clip((z - (top - height)) / height, 0.0, 1.0)
        rows[:, 3:7] *= np.sqrt(np.maximum(1 - share**2.6, 0.0))[:, None]
        # The apex lies towards the spine's side, not over the middle of the cage.
        return Sections(rows)

    @property
    def lung_floor(self) -> float:
        """z of the deepest costophrenic recess, mm."""
        return float(self.scale[2] * (-166.0 * (0.4 + 0.6 * self.inspiration)))

    def dome_apex(self, side: str) -> FloatArray:
        """Highest point of one half of the diaphragm, LPS mm."""
        left = side == "left"
        raised = self.person.diaphragm_raise_mm[0 if left else 1]
        z = 140.0 - (140.0 + (94.0 if left else 80.0)) * self.inspiration
        x, y = (66.0, -16.0) if left else (-66.0, -14.0)
        apex = self.at((x, y, z))
        apex[2] += raised
        return apex

    def dome(self, side: str, inset: float = 0.0) -> Sections:
        """What lies under one half of the diaphragm, from the floor to its apex.

        The edge of the dome stands high in front, low at the side and lowest behind.
        """
        apex = self.dome_apex(side)
        top = apex[2] - inset
        floor = float(self.at((0.0, 0.0, -200.0))[2])
        z = np.linspace(floor, top, 48)
        cage = self.cage(side).at(z)
        base = {
            "front": min(self.scale[2] * -102.0 * self.inspiration, top - 14.0),
            "side": self.scale[2] * -144.0 * (0.4 + 0.6 * self.inspiration),
            "back": self.lung_floor + 4.0,
            "middle": self.scale[2] * -134.0 * self.inspiration,
        }

        def width(edge: float) -> FloatArray:
            share = np.clip((z - edge) / (top - edge), 0.0, 1.0)
            # Rounder above than an ellipse: a dome, not a table.
            shape: FloatArray = np.maximum(1.0 - share**1.8, 0.0) ** 0.58
            return shape

        lateral = width(base["side"])
        medial = width(base["middle"])
        rows = cage.copy()
        rows[:, 0] = z
        high = np.clip((z - floor) / (top - floor), 0.0, 1.0) ** 4
        rows[:, 1] += high * (apex[0] - cage[:, 1])
        rows[:, 2] += high * (apex[1] - cage[:, 2])
        outer, inner = (3, 4) if side == "left" else (4, 3)
        rows[:, outer] *= lateral
        rows[:, inner] = (rows[:, inner] + 22.0) * np.maximum(medial, 0.0)
        rows[:, 5] *= width(base["front"])
        rows[:, 6] *= width(base["back"])
        rows[:, 3:7] = np.maximum(rows[:, 3:7] - inset, 1e-3)
        return Sections(rows)

    def body(self, inset: float = 0.0) -> Sections:
        """The skin of the trunk; `inset` mm below it for deeper layers."""
        fat, muscular = self.fat_mm, (1.0 if self.person.sex == "male" else 0.8)
        sx, sy = self.scale[0], self.scale[1]
        belly = {"slim": 0.0, "average": 8.0, "heavy": 30.0}[self.person.habitus]
        z, lateral, front, back, _ = _CAGE.T
        axilla = 16.0 + muscular * np.interp(z, [-120, -60, 20, 80], [0.0, 4.0, 18.0, 26.0])
        side = lateral + axilla + fat / sx
        arms = self.person.arms == "down"
        shoulder = np.interp(
            z, [60, 100, 122, 138, 150], [0, 16, 26, 18 if arms else 34, -18 if arms else 40]
        )
        side = side + shoulder
        ahead = front - 12.0 - 0.8 * fat / sy - np.interp(z, [-200, -120, -60], [belly, belly, 0])
        ahead -= muscular * np.interp(z, [-30, 20, 80, 120], [0, 8, 14, 14])
        behind = back + 20.0 + 0.75 * fat / sy + np.interp(z, [60, 138], [0, 8])
        square = np.interp(z, [-120, 0, 90, 140], [0.30, 0.34, 0.36, 0.3])
        table = np.stack([z, 0 * z, side, -side, ahead, behind, square], -1)
        neck = self._neck(table[-1])
        return self.sections(np.concatenate([table, neck]), step=4.0).grown(-inset)

    def _neck(self, last: FloatArray) -> FloatArray:
        fat = self.fat_mm
        raised = self.person.arms == "up"
        rows = []
        for z, share in ((165.0, 0.45), (185.0, 0.95), (230.0, 1.0)):
            half = 62.0 + 0.4 * fat
            half += (1 - share) * max(last[2] - half, 0.0) + (18.0 * (1 - share) if raised else 0)
            front = (1 - share) * last[4] + share * (-48.0 - 0.2 * fat)
            back = (1 - share) * last[5] + share * (72.0 + 0.2 * fat)
            rows.append((z, 0.0, half, -half, front, back, 0.25))
        return np.array(rows)

    def spine(self) -> FloatArray:
        """Centres of the vertebral bodies from C6 to L2, LPS mm, shape (16, 3)."""
        z = np.array(_SPINE_Z)
        depth = np.interp(z, [-200, 130, 170], [16.5, 9.5, 8.0])
        y = np.array(_SPINE_Y) - depth + 14.0
        return self.at(np.stack([0 * z, y, z], -1))
