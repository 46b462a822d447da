"""Lung whose air has gone: consolidation, ground glass, oedema, atelectasis."""

from __future__ import annotations

import numpy as np

from napari_cxr3d.phantom.findings.canvas import (
    LOBES_OF,
    LUNG_OF,
    LUNGS,
    Canvas,
    above,
    between,
    unit,
)
from napari_cxr3d.phantom.findings.vocabulary import LOBES
from napari_cxr3d.phantom.labels import Label, label_mask
from napari_cxr3d.phantom.scene import Blend, Clip, Pattern
from napari_cxr3d.phantom.tissues import Tissue

__all__ = [
    "ground_glass_share",
    "paint_consolidation",
    "paint_ground_glass",
    "paint_lobar_collapse",
    "paint_oedema",
    "paint_plates",
]


def paint_consolidation(canvas: Canvas) -> None:
    """Airless lung within one lobe, bounded by its fissures, with air bronchograms and a halo."""
    place = canvas.plan.place
    lobe = LOBES[place]
    points = canvas.lobe_points(place)
    low, high = points.min(axis=0), points.max(axis=0)
    # An ellipsoid fills the corners of a lobe only when it is wider than the lobe.
    reach = between(0.25, 1.5, canvas.severity)
    half = np.maximum(0.5 * reach * (high - low + 10.0), 12.0)
    # A small one lies at the pleura behind, where pneumonia begins; a large one fills the lobe.
    behind = np.argsort(points[:, 1])[int(0.6 * len(points)) :]
    edge = points[behind[int(canvas.rng.random() * len(behind))]]
    share = min(canvas.severity * 1.2, 1.0)
    center = edge + share * (points.mean(axis=0) - edge)
    halo = canvas.rule(
        260.0, label_mask([lobe]), blend=Blend.ADD, soft_mm=14.0, rough_mm=8.0,
        rough_scale_mm=24.0, pattern=Pattern.SMOOTH, pattern_mm=11.0,
        pattern_above=above(Pattern.SMOOTH, 0.7), pattern_soft=0.5,
    )  # fmt: skip
    canvas.builder.ellipsoid(center, half + 9.0, halo)
    solid = canvas.rule(
        Tissue.CONSOLIDATED_LUNG, label_mask([lobe]), blend=Blend.RAISE, soft_mm=6.0,
        rough_mm=7.0, rough_scale_mm=22.0, mottle_hu=18.0, mottle_mm=6.0,
        pattern=Pattern.SMOOTH, pattern_mm=13.0, pattern_above=above(Pattern.SMOOTH, 0.97),
        pattern_soft=0.7,
    )  # fmt: skip
    canvas.builder.ellipsoid(center, half, solid)
    air = canvas.rule(-960.0, label_mask([lobe, Label.AIRWAY_WALL]), label=Label.AIRWAY)
    for branch in canvas.branches(canvas.anatomy.airways, lobes=[lobe]):
        inside = (((branch.points - center) / half) ** 2).sum(axis=1) < 0.9
        if inside.sum() >= 2:
            canvas.builder.tube(branch.points[inside], np.maximum(branch.radii[inside], 1.3), air)
    size = np.minimum(2 * half, high - low + 10.0)
    canvas.note(place, center.clip(low, high), size)
    canvas.measures["reach"] = min(reach, 1.0)


def ground_glass_share(severity: float) -> float:
    """Share of the affected lung that turns hazy: a tenth to two thirds."""
    return between(0.1, 0.66, severity)


def paint_ground_glass(canvas: Canvas) -> None:
    """Hazy patches through which vessels stay visible: under the pleura, or anywhere."""
    share = ground_glass_share(canvas.severity)
    haze = between(120.0, 380.0, canvas.severity)
    for side in canvas.plan.sides:
        if canvas.plan.style == "peripheral":
            depth = between(16.0, 38.0, canvas.severity)
            patches = canvas.rule(
                1.25 * haze, LUNG_OF[side], blend=Blend.ADD, soft_mm=14.0, pattern=Pattern.SMOOTH,
                pattern_mm=34.0, pattern_above=above(Pattern.SMOOTH, min(1.15 * share, 0.8)),
                pattern_soft=0.35, mottle_hu=30.0, mottle_mm=5.0,
            )  # fmt: skip
            outline = canvas.rim(side, depth, high=0.9)
            canvas.builder.around_loft(outline, patches, box=canvas.box(side))
        else:
            patches = canvas.rule(
                haze, LUNG_OF[side], blend=Blend.ADD, pattern=Pattern.SMOOTH, pattern_mm=40.0,
                pattern_above=above(Pattern.SMOOTH, share), pattern_soft=0.5, mottle_hu=30.0,
                mottle_mm=5.0,
            )  # fmt: skip
            canvas.everywhere(side, patches)
        low, high = canvas.lung(side).bounds()
        canvas.note(f"{side} lung", (low + high) / 2, high - low)
    canvas.measures["haze_hu"] = haze
    canvas.measures["share"] = share


def paint_oedema(canvas: Canvas) -> None:
    """Septal lines at the bases, cuffs about the central bronchi, and a perihilar haze.

    The wide veins of the upper lobes are built with the body (`modify_person`).
    """
    severity = canvas.severity
    haze = between(0.0, 420.0, max(severity - 0.35, 0.0) / 0.65)
    for side in ("right", "left"):
        outward = -1.0 if side == "right" else 1.0
        hilum = canvas.hilum(side)
        veil = canvas.rule(
            between(15.0, 70.0, severity), LUNG_OF[side], blend=Blend.ADD, marked=False
        )
        canvas.everywhere(side, veil)
        if haze > 0:
            low, high = canvas.lung(side).bounds()
            middle = hilum + np.array([outward * 22.0, 14.0, -8.0])
            half = np.array([0.28 * (high[0] - low[0]) + 12.0, 62.0, 74.0])
            wing = canvas.rule(
                1.5 * haze, LUNG_OF[side], blend=Blend.ADD, soft_mm=46.0, rough_mm=10.0,
                rough_scale_mm=30.0, pattern=Pattern.SMOOTH, pattern_mm=12.0,
                pattern_above=above(Pattern.SMOOTH, 0.75), pattern_soft=1.4,
            )  # fmt: skip
            canvas.builder.ellipsoid(middle, half, wing)
            canvas.note(f"{side} perihilar lung", middle, 2 * half)
        lines = canvas.rule(
            between(280.0, 500.0, severity), LUNG_OF[side], blend=Blend.ADD, pattern=Pattern.SEPTA,
            pattern_mm=16.0, pattern_above=between(0.78, 0.66, severity), pattern_soft=0.35,
        )  # fmt: skip
        outline = canvas.rim(side, 24.0, high=0.65)
        canvas.builder.around_loft(outline, lines, box=canvas.box(side))
        cuff = canvas.rule(-140.0, LUNG_OF[side], blend=Blend.RAISE, soft_mm=2.0)
        for branch in canvas.branches(
            canvas.anatomy.airways, lobes=LOBES_OF[side], generations=(3, 5)
        ):
            canvas.builder.tube(branch.points, branch.radii + between(1.6, 3.2, severity), cuff)
    canvas.measures["haze_hu"] = haze


def paint_plates(canvas: Canvas) -> None:
    """Plate-like atelectasis: thin sheets near the diaphragm or along the lobe's base."""
    place = canvas.plan.place
    points = canvas.lobe_points(place)
    count = 1 + round(3 * canvas.severity)
    thickness = between(2.0, 5.0, canvas.severity)
    # Above the lowest tenth, which the diaphragm's curve cuts.
    low, high = int(0.1 * len(points)), int(0.45 * len(points)) + 1
    floor = points[np.argsort(points[:, 2])[low:high]]
    plate = canvas.rule(
        25.0, LUNGS, blend=Blend.RAISE, rough_mm=0.8, rough_scale_mm=14.0, mottle_hu=20.0
    )
    for _ in range(count):
        center = floor[int(canvas.rng.random() * len(floor))]
        up = unit(np.array([*canvas.rng.uniform(-0.9, 0.9, 2), 1.0]))
        along = unit(np.cross(up, [*canvas.rng.uniform(-1, 1, 2), 0.05]))
        axes = np.stack([along, np.cross(up, along), up], axis=1)
        half = np.array(
            [canvas.rng.uniform(24, 42), canvas.rng.uniform(12, 24), thickness / 2 + 0.4]
        )
        canvas.builder.ellipsoid(center, half, plate, axes=axes)
        extent = 2 * np.sqrt(((axes * half) ** 2).sum(axis=1))
        canvas.note(place, center, extent)
    canvas.measures["thickness_mm"] = thickness


# Where each lobe collapses to, seen from the hilum: medial, back, up, as shares of its extent.
_COLLAPSE = {
    "right upper lobe": (0.9, -0.1, 0.55),
    "right middle lobe": (0.8, -0.35, -0.25),
    "right lower lobe": (0.9, 0.5, -0.5),
    "left upper lobe": (0.85, -0.55, 0.35),
    "left lower lobe": (0.9, 0.5, -0.5),
}
_NEIGHBOUR = {
    "right upper lobe": Label.RIGHT_LOWER_LOBE,
    "right middle lobe": Label.RIGHT_UPPER_LOBE,
    "right lower lobe": Label.RIGHT_UPPER_LOBE,
    "left upper lobe": Label.LEFT_LOWER_LOBE,
    "left lower lobe": Label.LEFT_UPPER_LOBE,
}


def paint_lobar_collapse(canvas: Canvas) -> None:
    """An airless lobe against the mediastinum; its neighbour expands into the rest of its room.

    The shift of the mediastinum and the raised dome are built with the body (`modify_person`).
    """
    place = canvas.plan.place
    side = place.split()[0]
    lobe, neighbour = LOBES[place], _NEIGHBOUR[place]
    points = canvas.lobe_points(place)
    low, high = points.min(axis=0) - 5.0, points.max(axis=0) + 5.0
    middle, extent = (low + high) / 2, high - low
    medial, back, up = _COLLAPSE[place]
    outward = -1.0 if side == "right" else 1.0
    toward = np.array([-outward * medial, back, up])
    left = between(0.75, 0.34, canvas.severity)  # share of its width that is left
    half = 0.5 * extent * np.array([left, 0.5 + 0.5 * left, 0.55 + 0.45 * left])
    center = middle + toward * (0.5 * extent - half)
    everywhere = (low - 8.0, high + 8.0)
    clip = Clip((0.0, 0.0, 1.0), 1e5)
    airless = canvas.rule(
        Tissue.ATELECTATIC_LUNG, label_mask([lobe]), label=lobe, soft_mm=4.0, rough_mm=2.0,
        mottle_hu=10.0,
    )  # fmt: skip
    expanded = canvas.rule(
        -20.0, label_mask([lobe]), label=neighbour, blend=Blend.ADD, marked=False
    )
    rest = canvas.rule(
        canvas.hu(Tissue.LUNG), label_mask([Label.FISSURE]), label=neighbour, marked=False
    )
    canvas.builder.half_space(clip, rest, box=everywhere)
    canvas.builder.around_ellipsoid(center, half, expanded, box=everywhere)
    canvas.builder.half_space(clip, airless, box=everywhere)
    canvas.note(place, center, 2 * half)
    canvas.measures["volume_left"] = float(np.prod(half / (0.5 * extent)))
