"""A body as a list of painted shapes: pure data, without a resolution.

A scene is painted in order, each shape over what came before, like a picture in oils. What a
shape does to a voxel is a *rule*: which labels it may cover, the label and the HU it leaves,
and the texture of both. One kernel paints every scene (`napari_cxr3d.phantom.painting`), so
anatomy, disease and devices need no code of their own at voxel level, and a landmark is known
exactly, whatever the voxel size.

Only +, -, *, / and square roots reach the voxels, whose results IEEE 754 fixes, and random
numbers come from integer arithmetic: the same scene gives the same bytes on every machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging.frames import FloatArray
from napari_cxr3d.phantom.rules import (
    EVERYTHING,
    KEEP,
    Blend,
    Clip,
    Pattern,
    Point,
    Rule,
    unit,
)

__all__ = ["EVERYTHING", "KEEP", "Blend", "Clip", "Pattern", "Rule", "Scene", "SceneBuilder"]

_FAR = 1e6  # mm, beyond any body
_DIGITS = 6  # to which numbers are rounded: no machine's sine shows in the voxels


class Shape(IntEnum):
    """The signed distance functions of the kernel."""

    ELLIPSOID = 0
    CONE = 1
    LOFT = 2
    SHELL = 3
    HALF_SPACE = 4
    AROUND_ELLIPSOID = 5
    AROUND_LOFT = 6


# Columns of the kernel's tables; `painting` reads them by these numbers.
N_REALS = 12 + 4 + 11
N_WHOLE = 9


@dataclass(frozen=True, eq=False)
class Scene:
    """Shapes and rules in painting order, in LPS millimetres.

    Attributes
    ----------
    reals : ndarray of float64, shape (N, 27)
        Of each shape: 12 parameters, the clip (normal, offset), and the rule's numbers.
    whole : ndarray of int64, shape (N, 9)
        Of each: shape, first row in `profiles`, rows, label, mask of coverable labels, blend,
        pattern, finding bit (-1 for none), seed (-seed - 1 where the warp does not apply).
    profiles : ndarray of float64, shape (M, 8)
        Cross-sections of the lofts; see `SceneBuilder.loft`.
    low, high : ndarray of float64, shape (N, 3)
        Bounding boxes in the frame of the shapes, LPS mm, rough surfaces included.
    warp_mm, warp_scale_mm : float
        Amplitude and wavelength of the smooth random warp that bends the whole body.
    seed : int
        Seed of the warp.
    background_hu : float
        HU before the first shape.
    """

    reals: FloatArray
    whole: npt.NDArray[np.int64]
    profiles: FloatArray
    low: FloatArray
    high: FloatArray
    warp_mm: float
    warp_scale_mm: float
    seed: int
    background_hu: float = -1000.0

    def __len__(self) -> int:
        return len(self.reals)


@dataclass
class SceneBuilder:
    """Collects shapes in painting order.

    Parameters
    ----------
    seed : int
        Seed of the warp.
    warp_mm : float
        Largest displacement along each axis by the warp that bends the whole body, in mm.
    warp_scale_mm : float
        Its wavelength in mm.
    """

    seed: int = 0
    warp_mm: float = 0.0
    warp_scale_mm: float = 80.0
    _reals: list[FloatArray] = field(default_factory=list)
    _whole: list[list[int]] = field(default_factory=list)
    _profiles: list[FloatArray] = field(default_factory=list)
    _boxes: list[tuple[FloatArray, FloatArray]] = field(default_factory=list)
    _n_profiles: int = 0

    def ellipsoid(
        self,
        center: Point,
        semi_axes_mm: Point,
        rule: Rule,
        *,
        axes: npt.ArrayLike | None = None,
        clip: Clip | None = None,
    ) -> None:
        """An ellipsoid.

        Parameters
        ----------
        center : sequence of 3 float
            LPS mm.
        semi_axes_mm : sequence of 3 float
            Half lengths along its own axes.
        rule : Rule
            What it paints.
        axes : array_like, shape (3, 3), optional
            Its own directions in LPS, one a column; the LPS axes if None.
        clip : Clip, optional
            Cuts a part off.
        """
        middle = np.asarray(center, np.float64)
        half = np.asarray(semi_axes_mm, np.float64)
        turn = np.eye(3) if axes is None else np.asarray(axes, np.float64)
        if not (half > 0).all():
            raise InvalidInputError("An ellipsoid needs positive half lengths", why=f"{half}")
        to_sphere = turn.T / half[:, None]
        extent = np.sqrt(((turn * half) ** 2).sum(axis=1))
        self._add(
            Shape.ELLIPSOID, [*middle, *to_sphere.ravel()], rule, clip, middle - extent,
            middle + extent,
        )  # fmt: skip

    def cone(
        self,
        start: Point,
        end: Point,
        radii_mm: tuple[float, float],
        rule: Rule,
        *,
        flat: Point | None = None,
        flatness: float = 1.0,
        clip: Clip | None = None,
    ) -> None:
        """A cone with rounded ends: a piece of a vessel, a bronchus, a rib.

        Parameters
        ----------
        start, end : sequence of 3 float
            LPS mm.
        radii_mm : tuple of 2 float
            At the two ends.
        rule : Rule
            What it paints.
        flat : sequence of 3 float, optional
            Direction in which it is thinner.
        flatness : float
            How many times thinner, 1 or more.
        clip : Clip, optional
            Cuts a part off.
        """
        a, b = np.asarray(start, np.float64), np.asarray(end, np.float64)
        normal = np.zeros(3) if flat is None else unit(flat)
        radius = max(radii_mm)
        self._add(
            Shape.CONE, [*a, *b, *radii_mm, *normal, flatness], rule, clip,
            np.minimum(a, b) - radius, np.maximum(a, b) + radius,
        )  # fmt: skip

    def tube(
        self,
        points: npt.ArrayLike,
        radii_mm: npt.ArrayLike,
        rule: Rule,
        *,
        flat: npt.ArrayLike | None = None,
        flatness: float = 1.0,
        clip: Clip | None = None,
    ) -> None:
        """Cones from point to point.

        Parameters
        ----------
        points : array_like, shape (N, 3)
            LPS mm.
        radii_mm : array_like, shape (N,) or one number
            Radius at each point.
        rule : Rule
            What it paints.
        flat : array_like, shape (3,) or (N, 3), optional
            Direction in which it is thinner, for all or at each point.
        flatness : float
            How many times thinner.
        clip : Clip, optional
            Cuts a part off.
        """
        places = np.asarray(points, np.float64)
        radii = np.broadcast_to(np.asarray(radii_mm, np.float64), len(places))
        thin = None if flat is None else np.broadcast_to(np.asarray(flat, np.float64), places.shape)
        for k in range(len(places) - 1):
            self.cone(
                places[k],
                places[k + 1],
                (float(radii[k]), float(radii[k + 1])),
                rule,
                flat=None if thin is None else thin[k] + thin[k + 1],
                flatness=flatness,
                clip=clip,
            )

    def loft(self, sections: npt.ArrayLike, rule: Rule, *, clip: Clip | None = None) -> None:
        """A body through horizontal cross-sections, each of four quarter superellipses.

        Parameters
        ----------
        sections : array_like, shape (N, 8)
            From below to above at equal steps: z, centre x, centre y, reach to the left (+x),
            to the right (-x), forward (-y), backward (+y), in mm, and squareness: 0 an
            ellipse, 1 nearly a rectangle. Between two sections all change linearly; beyond
            the first and last there is nothing.
        rule : Rule
            What it paints.
        clip : Clip, optional
            Cuts a part off.
        """
        rows, step = _sections(sections)
        x, y = rows[:, 1], rows[:, 2]
        low = np.array([(x - rows[:, 4]).min(), (y - rows[:, 5]).min(), rows[0, 0]])
        high = np.array([(x + rows[:, 3]).max(), (y + rows[:, 6]).max(), rows[-1, 0]])
        self._add(Shape.LOFT, [rows[0, 0], step], rule, clip, low, high, rows=rows)

    def shell(
        self,
        center: Point,
        radius_mm: float,
        thickness_mm: float,
        rule: Rule,
        *,
        box: tuple[Point, Point] | None = None,
        clip: Clip | None = None,
    ) -> None:
        """A spherical sheet: a fissure, a membrane.

        Parameters
        ----------
        center : sequence of 3 float
            Centre of the sphere, LPS mm.
        radius_mm, thickness_mm : float
            Of the sheet.
        rule : Rule
            What it paints.
        box : pair of sequences of 3 float, optional
            Lower and upper corner in LPS that the sheet is only painted within.
        clip : Clip, optional
            Cuts a part off.
        """
        middle = np.asarray(center, np.float64)
        reach = radius_mm + thickness_mm
        low, high = _boxed(middle - reach, middle + reach, box)
        self._add(Shape.SHELL, [*middle, radius_mm, thickness_mm / 2], rule, clip, low, high)

    def around_ellipsoid(
        self,
        center: Point,
        semi_axes_mm: Point,
        rule: Rule,
        *,
        box: tuple[Point, Point],
        axes: npt.ArrayLike | None = None,
        clip: Clip | None = None,
    ) -> None:
        """What lies outside an ellipsoid: fluid or air about a lung that has shrunk.

        Parameters
        ----------
        center, semi_axes_mm, rule, axes, clip
            As for `ellipsoid`.
        box : pair of sequences of 3 float
            Lower and upper corner in LPS that is only painted within.
        """
        middle = np.asarray(center, np.float64)
        half = np.asarray(semi_axes_mm, np.float64)
        turn = np.eye(3) if axes is None else np.asarray(axes, np.float64)
        if not (half > 0).all():
            raise InvalidInputError("An ellipsoid needs positive half lengths", why=f"{half}")
        low, high = _boxed(np.full(3, -_FAR), np.full(3, _FAR), box)
        to_sphere = turn.T / half[:, None]
        self._add(Shape.AROUND_ELLIPSOID, [*middle, *to_sphere.ravel()], rule, clip, low, high)

    def around_loft(
        self,
        sections: npt.ArrayLike,
        rule: Rule,
        *,
        box: tuple[Point, Point],
        clip: Clip | None = None,
    ) -> None:
        """What lies outside a body through cross-sections: a layer along the pleura.

        Parameters
        ----------
        sections, rule, clip
            As for `loft`; above its last section and below its first all is outside.
        box : pair of sequences of 3 float
            Lower and upper corner in LPS that is only painted within.
        """
        rows, step = _sections(sections)
        low, high = _boxed(np.full(3, -_FAR), np.full(3, _FAR), box)
        self._add(Shape.AROUND_LOFT, [rows[0, 0], step], rule, clip, low, high, rows=rows)

    def half_space(self, clip: Clip, rule: Rule, *, box: tuple[Point, Point] | None = None) -> None:
        """All that a clip keeps: fluid below its level, air above it.

        Parameters
        ----------
        clip : Clip
            ``normal . p <= offset`` is painted.
        rule : Rule
            What it paints; its `over` says where.
        box : pair of sequences of 3 float, optional
            Lower and upper corner in LPS that is only painted within.
        """
        low, high = _boxed(np.full(3, -_FAR), np.full(3, _FAR), box)
        self._add(Shape.HALF_SPACE, [*clip.normal, clip.offset], rule, None, low, high)

    def build(self) -> Scene:
        """The scene painted so far."""
        count = len(self._reals)
        low = np.array([b[0] for b in self._boxes], np.float64).reshape(count, 3)
        high = np.array([b[1] for b in self._boxes], np.float64).reshape(count, 3)
        return Scene(
            reals=np.round(np.array(self._reals, np.float64).reshape(count, N_REALS), _DIGITS),
            whole=np.array(self._whole, np.int64).reshape(count, N_WHOLE),
            profiles=np.round(np.concatenate([np.zeros((1, 8)), *self._profiles]), _DIGITS),
            low=np.round(low, _DIGITS),
            high=np.round(high, _DIGITS),
            warp_mm=self.warp_mm,
            warp_scale_mm=self.warp_scale_mm,
            seed=self.seed,
        )

    def _add(
        self,
        shape: Shape,
        parameters: Iterable[float],
        rule: Rule,
        clip: Clip | None,
        low: FloatArray,
        high: FloatArray,
        rows: FloatArray | None = None,
    ) -> None:
        reals = np.zeros(N_REALS)
        values = np.array(list(parameters), np.float64)
        reals[: len(values)] = values
        cut = clip or Clip((0.0, 0.0, 0.0), _FAR)
        reals[12:16] = (*cut.normal, cut.offset)
        reals[16:27] = (
            rule.hu, rule.opacity, rule.soft_mm, rule.rough_mm, rule.rough_scale_mm,
            rule.mottle_hu, rule.mottle_mm, rule.pattern_mm, rule.pattern_above,
            rule.pattern_soft, 0.0,
        )  # fmt: skip
        first, count = 0, 0
        if rows is not None:
            first, count = 1 + self._n_profiles, len(rows)
            self._profiles.append(rows)
            self._n_profiles += count
        seed = int(rule.seed) & 0x7FFFFFFF
        self._whole.append(
            [
                int(shape), first, count, int(rule.label), rule.over & EVERYTHING,
                int(rule.blend), int(rule.pattern),
                -1 if rule.finding is None else rule.finding,
                seed if rule.warped else -seed - 1,
            ]
        )  # fmt: skip
        self._reals.append(reals)
        margin = rule.rough_mm + rule.soft_mm
        self._boxes.append((low - margin, high + margin))


def _sections(sections: npt.ArrayLike) -> tuple[FloatArray, float]:
    """Checked cross-sections of a loft, and the step between them in mm."""
    rows = np.array(sections, np.float64)
    if rows.ndim != 2 or rows.shape[1] != 8 or len(rows) < 2:
        raise InvalidInputError("A loft needs two sections or more of 8 numbers each")
    steps = np.diff(rows[:, 0])
    if not (steps > 0).all() or np.ptp(steps) > 1e-6 * steps.mean():
        raise InvalidInputError("The sections of a loft rise in equal steps")
    rows[:, 3:7] = np.maximum(rows[:, 3:7], 1e-3)
    return rows, float(steps.mean())


def _boxed(
    low: FloatArray, high: FloatArray, box: tuple[Point, Point] | None
) -> tuple[FloatArray, FloatArray]:
    if box is None:
        return low, high
    return np.maximum(low, np.asarray(box[0], float)), np.minimum(high, np.asarray(box[1], float))
