"""Diffuse disease of the lung's structure: emphysema, fibrosis, mosaic attenuation, septa."""

from __future__ import annotations

import numpy as np

from napari_cxr3d.phantom.findings.canvas import IN_LUNG, LUNG_OF, Canvas, above, between
from napari_cxr3d.phantom.labels import Label
from napari_cxr3d.phantom.scene import Blend, Pattern

__all__ = [
    "emphysema_share",
    "fibrosis_depth",
    "paint_emphysema",
    "paint_fibrosis",
    "paint_mosaic",
    "paint_septa",
]

_SIDES = ("right", "left")
_BANDS = 6  # of height, each with its own share of emphysema
_HOLE_HU = -992.0
_HOLE_EDGE = 0.3  # softness of a hole's border; -950 HU is passed a fifth of it inside


def emphysema_share(severity: float) -> float:
    """Share of the affected lung below -950 HU: 3 % to 45 % (LAA-950, Gevenois 1996)."""
    return between(0.03, 0.45, severity)


def fibrosis_depth(severity: float) -> float:
    """Depth of the reticulation under the pleura in mm: 8 to 35."""
    return between(8.0, 35.0, severity)


def paint_emphysema(canvas: Canvas) -> None:
    """Holes in the lung: at the lobules' centres, in a row under the pleura, or bullae.

    Whatever the style, the holes at the lobules' centres have the stated share; the other
    styles add theirs. Hyperinflation is built with the body (`modify_person`).
    """
    share = emphysema_share(canvas.severity)
    style = canvas.plan.style
    lowest = 0.35 if canvas.plan.place == "upper lobes" else 1.0
    for side in _SIDES:
        for step in range(_BANDS):
            # Towards the base fewer, where the upper lobes are the seat of the disease.
            part = share * between(lowest, 1.0, min(step / (_BANDS - 2), 1.0))
            for size, own in ((1.0, 0.6), (0.55, 0.4)):
                holes = canvas.rule(
                    _HOLE_HU, LUNG_OF[side], blend=Blend.LOWER, pattern=Pattern.CELLS,
                    pattern_mm=size * between(10.0, 14.0, canvas.severity),
                    pattern_above=above(Pattern.CELLS, own * part) - 0.2 * _HOLE_EDGE,
                    pattern_soft=_HOLE_EDGE,
                )  # fmt: skip
                canvas.everywhere(side, holes, low=step / _BANDS, high=(step + 1) / _BANDS)
        if style == "paraseptal":
            _paraseptal(canvas, side)
        if style == "bullous":
            _bullae(canvas, side)
        low, high = canvas.lung(side).bounds()
        canvas.note(f"{side} lung", (low + high) / 2, high - low)
    canvas.measures["share"] = share


def _paraseptal(canvas: Canvas, side: str) -> None:
    """Small cysts in rows under the pleura of the upper half."""
    for height in np.linspace(0.58, 0.93, round(between(2, 7, canvas.severity))):
        angle = canvas.rng.uniform(-110.0, -60.0)
        while angle < 110.0:
            radius = canvas.rng.uniform(3.5, between(5.5, 9.0, canvas.severity))
            if canvas.rng.random() < 0.75:
                own = float(height) + canvas.rng.uniform(-0.015, 0.015)
                _cyst(canvas, side, own, angle, radius)
            # The next one touches it: the chest's half width is about 65 mm.
            angle += np.degrees(1.9 * radius / 65.0)


def _bullae(canvas: Canvas, side: str) -> None:
    """Large thin-walled holes towards the apex."""
    for _ in range(round(between(1, 6, canvas.severity))):
        height, angle = canvas.rng.uniform(0.6, 0.93), canvas.rng.uniform(-100.0, 100.0)
        radius = canvas.rng.uniform(10.0, between(16.0, 34.0, canvas.severity))
        _cyst(canvas, side, height, angle, radius)
        canvas.measures["bulla_mm"] = max(canvas.measures.get("bulla_mm", 0.0), 2 * radius)


def _cyst(canvas: Canvas, side: str, height: float, angle: float, radius: float) -> None:
    point, normal = canvas.anatomy.lung_surface_point(side, height, angle)
    center = point - 0.9 * radius * normal
    half = radius * canvas.rng.uniform(0.85, 1.1, 3)
    canvas.builder.ellipsoid(
        center, half + 1.0, canvas.rule(-620.0, LUNG_OF[side], blend=Blend.RAISE)
    )
    canvas.builder.ellipsoid(center, half, canvas.rule(-988.0, IN_LUNG, label=_lobe(side, height)))


def _lobe(side: str, height: float) -> int:
    if side == "right":
        return Label.RIGHT_UPPER_LOBE if height > 0.5 else Label.RIGHT_LOWER_LOBE
    return Label.LEFT_UPPER_LOBE if height > 0.5 else Label.LEFT_LOWER_LOBE


def paint_fibrosis(canvas: Canvas) -> None:
    """A net of lines under the pleura, denser towards the bases; cysts there when advanced.

    The loss of volume is built with the body (`modify_person`).
    """
    severity = canvas.severity
    depth = fibrosis_depth(severity)
    reach = between(0.4, 0.95, severity)
    for side in _SIDES:
        # On the diaphragm the layer is as deep as the dome is lifted.
        lifted = canvas.anatomy.domes[side].sections.rows.copy()
        lifted[:, 0] += 0.5 * depth
        for high, inner, part in ((reach, depth, 1.0), (0.55 * reach, 1.4 * depth, 0.4)):
            veil = canvas.rule(
                part * between(50.0, 130.0, severity), LUNG_OF[side], blend=Blend.ADD, soft_mm=8.0,
                pattern=Pattern.SMOOTH, pattern_mm=24.0, pattern_above=above(Pattern.SMOOTH, 0.8),
                pattern_soft=1.0,
            )  # fmt: skip
            net = canvas.rule(
                part * between(330.0, 520.0, severity), LUNG_OF[side], blend=Blend.ADD, soft_mm=4.0,
                pattern=Pattern.SEPTA, pattern_mm=between(11.0, 8.5, severity),
                pattern_above=between(0.72, 0.58, severity), pattern_soft=0.5,
            )  # fmt: skip
            for rule in (veil, net):
                outline = canvas.rim(side, inner, high=high)
                canvas.builder.around_loft(outline, rule, box=canvas.box(side))
                if part == 1.0:
                    canvas.builder.loft(lifted, rule)
        if severity >= 0.4:
            _honeycomb(canvas, side, depth)
        low, high_corner = canvas.lung(side).bounds()
        high_corner[2] = canvas.heights(side, 0.0, reach)[1]
        canvas.note(f"{side} lung base", (low + high_corner) / 2, high_corner - low)
    canvas.measures["depth_mm"] = depth


def _honeycomb(canvas: Canvas, side: str, depth: float) -> None:
    """Stacked cysts with shared walls, behind and beside, at the base."""
    outline = canvas.rim(side, 0.75 * depth, high=between(0.15, 0.6, canvas.severity), front=False)
    walls = canvas.rule(-240.0, LUNG_OF[side], blend=Blend.RAISE, soft_mm=3.0, mottle_hu=40.0)
    cysts = canvas.rule(
        -930.0, LUNG_OF[side], blend=Blend.LOWER, pattern=Pattern.CELLS, pattern_mm=9.0,
        pattern_above=above(Pattern.CELLS, 0.52), pattern_soft=0.35,
    )  # fmt: skip
    for rule in (walls, cysts):
        canvas.builder.around_loft(outline, rule, box=canvas.box(side))


def paint_mosaic(canvas: Canvas) -> None:
    """Lung in patches of two densities with sharp borders."""
    difference = between(60.0, 200.0, canvas.severity)
    for side in _SIDES:
        bright = canvas.rule(0.6 * difference, LUNG_OF[side], blend=Blend.ADD, marked=False)
        canvas.everywhere(side, bright)
        dark = canvas.rule(
            -difference, LUNG_OF[side], blend=Blend.ADD, pattern=Pattern.SMOOTH, pattern_mm=30.0,
            pattern_above=above(Pattern.SMOOTH, 0.45), pattern_soft=0.12,
        )  # fmt: skip
        canvas.everywhere(side, dark)
        low, high = canvas.lung(side).bounds()
        canvas.note(f"{side} lung", (low + high) / 2, high - low)
    canvas.measures["difference_hu"] = difference


def paint_septa(canvas: Canvas) -> None:
    """Lines between the lobules, clearest under the pleura."""
    low, high = {"upper lobes": (0.45, 1.0), "lower lobes": (0.0, 0.6)}.get(
        canvas.plan.place, (0.0, 1.0)
    )
    depth = between(14.0, 40.0, canvas.severity)
    for side in _SIDES:
        lines = canvas.rule(
            between(330.0, 560.0, canvas.severity), LUNG_OF[side], blend=Blend.ADD, soft_mm=6.0,
            pattern=Pattern.SEPTA, pattern_mm=17.0,
            pattern_above=between(0.8, 0.62, canvas.severity), pattern_soft=0.35,
        )  # fmt: skip
        outline = canvas.rim(side, depth, low=low, high=high)
        canvas.builder.around_loft(outline, lines, box=canvas.box(side))
        corner, other = (point.copy() for point in canvas.lung(side).bounds())
        corner[2], other[2] = canvas.heights(side, low, high)
        canvas.note(f"{side} lung", (corner + other) / 2, other - corner)
    canvas.measures["depth_mm"] = depth
