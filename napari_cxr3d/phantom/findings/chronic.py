"""Diffuse disease of the lung's structure: emphysema, fibrosis, mosaic attenuation, septa."""

from __future__ import annotations

import numpy as np

from napari_cxr3d.phantom.findings.canvas import IN_LUNG, LUNGS, Canvas, above, between
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
    lower = 0.45 * share if canvas.plan.place == "upper lobes" else share
    for side in _SIDES:
        for bottom, top, part in ((0.0, 0.5, lower), (0.5, 1.0, share)):
            holes = canvas.rule(
                -985.0, LUNGS, blend=Blend.LOWER, pattern=Pattern.CELLS,
                pattern_mm=between(9.0, 13.0, canvas.severity),
                pattern_above=above(Pattern.CELLS, min(1.08 * part, 0.95)), pattern_soft=0.16,
            )  # fmt: skip
            canvas.everywhere(side, holes, low=bottom, high=top)
        if style == "paraseptal":
            _paraseptal(canvas, side)
        if style == "bullous":
            _bullae(canvas, side)
        low, high = canvas.lung(side).bounds()
        canvas.note(f"{side} lung", (low + high) / 2, high - low)
    canvas.measures["share"] = share


def _paraseptal(canvas: Canvas, side: str) -> None:
    """Small cysts in a row under the pleura of the upper half."""
    for _ in range(round(between(12, 46, canvas.severity))):
        height, angle = canvas.rng.uniform(0.55, 0.95), canvas.rng.uniform(-110.0, 120.0)
        radius = canvas.rng.uniform(3.5, between(6.0, 10.0, canvas.severity))
        _cyst(canvas, side, height, angle, radius)


def _bullae(canvas: Canvas, side: str) -> None:
    """Large thin-walled holes towards the apex."""
    for _ in range(round(between(1, 6, canvas.severity))):
        height, angle = canvas.rng.uniform(0.6, 0.93), canvas.rng.uniform(-100.0, 100.0)
        radius = canvas.rng.uniform(10.0, between(16.0, 34.0, canvas.severity))
        _cyst(canvas, side, height, angle, radius)
        canvas.measures["bulla_mm"] = max(canvas.measures.get("bulla_mm", 0.0), 2 * radius)


def _cyst(canvas: Canvas, side: str, height: float, angle: float, radius: float) -> None:
    point, normal = canvas.anatomy.lung_surface_point(side, height, angle)
    center = point - 0.85 * radius * normal
    half = radius * canvas.rng.uniform(0.85, 1.1, 3)
    canvas.builder.ellipsoid(center, half + 1.1, canvas.rule(-480.0, LUNGS, blend=Blend.RAISE))
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
    for side in _SIDES:
        lung = canvas.lung(side)
        for share, inner in ((between(0.35, 0.85, severity), depth), (0.3, 1.5 * depth)):
            low, high = canvas.box(side)
            high[2] = canvas.heights(side, 0.0, share)[1]
            veil = canvas.rule(
                between(60.0, 150.0, severity), LUNGS, blend=Blend.ADD, soft_mm=8.0,
                pattern=Pattern.SMOOTH, pattern_mm=26.0, pattern_above=above(Pattern.SMOOTH, 0.75),
                pattern_soft=0.8,
            )  # fmt: skip
            net = canvas.rule(
                between(260.0, 460.0, severity), LUNGS, blend=Blend.ADD, soft_mm=4.0,
                pattern=Pattern.RIDGES, pattern_mm=11.0, pattern_above=above(Pattern.RIDGES, 0.24),
                pattern_soft=0.7,
            )  # fmt: skip
            outline = lung.grown(-inner)
            for rule in (veil, net):
                canvas.builder.around_loft(outline.rows, rule, box=(low, high))
                canvas.builder.loft(
                    canvas.anatomy.domes[side].sections.grown(0.8 * inner).rows, rule
                )
        if severity >= 0.4:
            _honeycomb(canvas, side, depth)
        low, high = lung.bounds()
        high[2] = canvas.heights(side, 0.0, between(0.35, 0.85, severity))[1]
        canvas.note(f"{side} lung base", (low + high) / 2, high - low)
    canvas.measures["depth_mm"] = depth


def _honeycomb(canvas: Canvas, side: str, depth: float) -> None:
    """Stacked cysts with shared walls behind and at the base."""
    low, high = canvas.box(side)
    high[2] = canvas.heights(side, 0.0, between(0.12, 0.5, canvas.severity))[1]
    low[1] = (low[1] + high[1]) / 2
    outline = canvas.lung(side).grown(-0.6 * depth).rows
    walls = canvas.rule(-220.0, LUNGS, blend=Blend.RAISE, soft_mm=3.0, mottle_hu=40.0)
    cysts = canvas.rule(
        -930.0, LUNGS, blend=Blend.LOWER, pattern=Pattern.CELLS, pattern_mm=8.5,
        pattern_above=above(Pattern.CELLS, 0.5), pattern_soft=0.35,
    )  # fmt: skip
    for rule in (walls, cysts):
        canvas.builder.around_loft(outline, rule, box=(low, high))


def paint_mosaic(canvas: Canvas) -> None:
    """Lung in patches of two densities with sharp borders."""
    difference = between(60.0, 200.0, canvas.severity)
    for side in _SIDES:
        bright = canvas.rule(0.6 * difference, LUNGS, blend=Blend.ADD, marked=False)
        canvas.everywhere(side, bright)
        dark = canvas.rule(
            -difference, LUNGS, blend=Blend.ADD, pattern=Pattern.SMOOTH, pattern_mm=30.0,
            pattern_above=above(Pattern.SMOOTH, 0.45), pattern_soft=0.12,
        )  # fmt: skip
        canvas.everywhere(side, dark)
        low, high = canvas.lung(side).bounds()
        canvas.note(f"{side} lung", (low + high) / 2, high - low)
    canvas.measures["difference_hu"] = difference


def paint_septa(canvas: Canvas) -> None:
    """Lines between the lobules, clearest under the pleura."""
    low_part, high_part = {
        "upper lobes": (0.5, 1.0), "lower lobes": (0.0, 0.5),
    }.get(canvas.plan.place, (0.0, 1.0))  # fmt: skip
    depth = between(14.0, 34.0, canvas.severity)
    for side in _SIDES:
        lines = canvas.rule(
            between(220.0, 480.0, canvas.severity), LUNGS, blend=Blend.ADD, soft_mm=6.0,
            pattern=Pattern.RIDGES, pattern_mm=17.0,
            pattern_above=above(Pattern.RIDGES, between(0.08, 0.16, canvas.severity)),
            pattern_soft=0.45,
        )  # fmt: skip
        low, high = canvas.box(side)
        low[2], high[2] = canvas.heights(side, low_part, high_part)
        canvas.builder.around_loft(canvas.lung(side).grown(-depth).rows, lines, box=(low, high))
        canvas.note(f"{side} lung", (low + high) / 2, np.array(high) - low)
    canvas.measures["depth_mm"] = depth
