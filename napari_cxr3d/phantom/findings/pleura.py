"""Fluid and air between lung and chest wall, and the lung that they compress.

A patient on a CT table lies on the back: fluid collects behind, air in front. What is left
of the lung is its own outline with the rear or front reach drawn in; everything of the lung
outside that outline becomes fluid or air, which gives the crescent shape and the meniscus.
"""

from __future__ import annotations

import numpy as np

from napari_cxr3d.imaging.frames import FloatArray
from napari_cxr3d.phantom.anatomy.sections import Sections
from napari_cxr3d.phantom.findings.canvas import (
    AIRWAYS,
    LOBES_OF,
    LUNG_OF,
    VESSELS,
    Canvas,
    between,
)
from napari_cxr3d.phantom.findings.planning import PlannedFinding
from napari_cxr3d.phantom.labels import Label, label_mask
from napari_cxr3d.phantom.scene import Blend, Clip, Rule
from napari_cxr3d.phantom.tissues import Tissue

__all__ = [
    "compressed_layer",
    "effusion_depth",
    "paint_compressive_atelectasis",
    "paint_effusion",
    "paint_pneumothorax",
    "retraction",
]

_LEAST_MM = 12.0  # what is left of a lung from front to back


def effusion_depth(severity: float) -> float:
    """Greatest depth of the fluid behind the supine lung in mm: 8 to 80."""
    return between(8.0, 80.0, severity)


def retraction(severity: float) -> float:
    """Greatest distance of the lung from the front wall in a pneumothorax in mm: 6 to 70."""
    return between(6.0, 70.0, severity)


def paint_effusion(canvas: Canvas) -> None:
    """Free fluid: deepest behind and below, tapering to a meniscus at the side and above.

    Where the same side has a pneumothorax, the fluid's surface under the air is flat.
    """
    depths = _depths(canvas.plan)
    air = {s for p in canvas.others if p.name == "pneumothorax" for s in p.sides}
    for side in canvas.plan.sides:
        own = depths[side]
        if side in air:
            _flat_level(canvas, side, own)
        else:
            _crescent(canvas, side, own)
        canvas.note(f"{side} pleural space", _behind(canvas, side), (0.0, own, 0.0))
    canvas.measures["depth_mm"] = max(depths.values())


def paint_compressive_atelectasis(canvas: Canvas) -> None:
    """The layer of airless lung on the fluid of an effusion, painted after the fluid."""
    effusion = next(p for p in canvas.others if p.name == "pleural_effusion")
    depths, layer = _depths(effusion), compressed_layer(canvas.severity)
    for side in canvas.plan.sides:
        if side not in depths:
            continue
        _airless(canvas, side, depths[side], layer, marked=True)
        canvas.note(f"{side} lower lobe", _behind(canvas, side), (0.0, layer, 0.0))
    canvas.measures["layer_mm"] = layer


def compressed_layer(severity: float) -> float:
    """Greatest thickness of the lung that an effusion compresses in mm: 6 to 30."""
    return between(6.0, 30.0, severity)


def _airless(canvas: Canvas, side: str, depth: float, layer: float, *, marked: bool) -> None:
    """Lung without air down to a layer above fluid of a depth."""
    airless = canvas.rule(
        Tissue.ATELECTATIC_LUNG, LUNG_OF[side], soft_mm=5.0, rough_mm=3.0, rough_scale_mm=18.0,
        mottle_hu=12.0, marked=marked,
    )  # fmt: skip
    left = _without_fluid(canvas, side, depth, layer)
    canvas.builder.around_loft(left.rows, airless, box=canvas.box(side))


def paint_pneumothorax(canvas: Canvas) -> None:
    """Air in front, above and at the base, the lung's edge a thin line, no vessels beyond it."""
    depth = retraction(canvas.severity)
    for side in canvas.plan.sides:
        left = _retracted(canvas, side, depth)
        box = canvas.box(side)
        # A lung with less room is denser; what it holds does not change.
        canvas.everywhere(
            side, canvas.rule(between(15.0, 230.0, canvas.severity), LUNG_OF[side], blend=Blend.ADD,
                              marked=False)
        )  # fmt: skip
        air = canvas.rule(Tissue.AIR, LUNG_OF[side], label=Label.PLEURAL_AIR)
        canvas.builder.around_loft(left.rows, air, box=box)
        _cover_branches(
            canvas, side, left,
            canvas.rule(Tissue.AIR, VESSELS | AIRWAYS, label=Label.PLEURAL_AIR),
        )  # fmt: skip
        edge = canvas.rule(
            -350.0, label_mask([Label.PLEURAL_AIR]), label=LOBES_OF[side][0], marked=False
        )
        canvas.builder.loft(left.grown(0.9).rows, edge)
        low, high = canvas.lung(side).bounds()
        canvas.note(f"{side} pleural space", (low + high) / 2, (0.0, depth, 0.0))
    canvas.measures["rim_mm"] = depth


def _without_fluid(canvas: Canvas, side: str, depth: float, layer: float = 0.0) -> Sections:
    """Outline of the lung in front of fluid of a depth at the base, less a layer over it."""
    lung = canvas.lung(side)
    rows = lung.rows.copy()
    low, high = canvas.heights(side, 0.001, 0.999)
    height = ((rows[:, 0] - low) / (high - low)).clip(0.0, 1.0)
    # Deepest over the lower half; towards the apex a thin layer, thinner in small effusions.
    thin = 0.12 + 0.5 * min(depth / 80.0, 1.0)
    profile = np.where(height < 0.35, 1.0, 1.0 - (1.0 - thin) * (height - 0.35) / 0.65)
    # The layer ends at mid-height: the lung above floats up.
    deepest = depth * profile + layer * (1.0 - height / 0.55).clip(-0.2, 1.0)
    # A large effusion climbs along the side, too.
    lateral = 0.2 * np.maximum(deepest - 30.0, 0.0)
    outer = 4 if side == "right" else 3
    rows[:, outer] = np.maximum(rows[:, outer] - lateral, _LEAST_MM)
    return Sections(_drawn_in(rows, 6, deepest))


def _retracted(canvas: Canvas, side: str, depth: float) -> Sections:
    """Outline of the lung behind air of a depth in front."""
    rows = canvas.lung(side).rows.copy()
    low, high = canvas.heights(side, 0.001, 0.999)
    height = ((rows[:, 0] - low) / (high - low)).clip(0.0, 1.0)
    outer = 4 if side == "right" else 3
    severity = canvas.severity
    profile = 0.75 + 0.25 * height
    lateral = depth * (0.22 + 0.35 * severity) * (0.5 + 0.5 * height)
    rows[:, outer] = np.maximum(rows[:, outer] - lateral, _LEAST_MM)
    rows[:, 6] = np.maximum(rows[:, 6] - 0.45 * severity * depth * height, _LEAST_MM)
    rows = _drawn_in(rows, 5, depth * profile)
    # The apex comes down by the depth: the upper sections shrink to a dome, then end.
    top = high - 1.0 * depth
    span = 45.0
    dome = np.sqrt(np.clip((top - rows[:, 0]) / span, 0.0, 1.0) * (2 - np.clip(
        (top - rows[:, 0]) / span, 0.0, 1.0)))  # fmt: skip
    rows[:, 3:7] = np.maximum(rows[:, 3:7] * dome[:, None], 0.01)
    kept = rows[rows[:, 0] <= top + 1.0]
    return Sections(kept if len(kept) >= 2 else rows[:2])


def _drawn_in(rows: FloatArray, column: int, by: FloatArray) -> FloatArray:
    """Shorten the reach forward (5) or backward (6), moving the centre where it must."""
    other = 11 - column
    towards = 1.0 if column == 6 else -1.0
    reach = rows[:, column] - by
    missing = np.maximum(_LEAST_MM - reach, 0.0)
    missing = np.minimum(missing, np.maximum(rows[:, other] - _LEAST_MM, 0.0))
    rows[:, 2] -= towards * missing
    rows[:, other] = np.maximum(rows[:, other] - missing, _LEAST_MM)
    rows[:, column] = np.maximum(reach + missing, _LEAST_MM)
    return rows


def _cover_branches(canvas: Canvas, side: str, lung: Sections, rule: Rule) -> None:
    """Paint over the vessels and bronchi outside what is left of a lung, not those at its root.

    Beyond the root's side all of them go at once; nearer to the midline branch by branch, since
    the great vessels of the mediastinum, which stay, have the same labels.
    """
    anatomy = canvas.anatomy
    outline = canvas.lung(side)
    low, high = canvas.box(side)
    lateral = abs(float(canvas.hilum(side)[0])) + 12.0
    low[0], high[0] = (low[0], -lateral) if side == "right" else (lateral, high[0])
    canvas.builder.around_loft(lung.rows, rule, box=(low, high))
    for tree in (anatomy.arteries, anatomy.veins, anatomy.airways):
        for branch in canvas.branches(tree, lobes=LOBES_OF[side], generations=(3, 99)):
            if (np.abs(branch.points[:, 0]) > lateral + 2.0).all():
                continue
            outside = (lung.level(branch.points) > 1.0) & (outline.level(branch.points) < 1.2)
            for k in np.flatnonzero(outside[:-1] | outside[1:]):
                radius = float(max(branch.radii[k : k + 2])) + 2.5
                canvas.builder.cone(branch.points[k], branch.points[k + 1], (radius, radius), rule)


def _depths(effusion: PlannedFinding) -> dict[str, float]:
    """Depth of the fluid on each side; two sides are never quite alike."""
    depth = effusion_depth(effusion.severity)
    shares = (1.0, float(effusion.rng(1).uniform(0.6, 1.0)))
    return {side: depth * share for side, share in zip(effusion.sides, shares, strict=False)}


def _crescent(canvas: Canvas, side: str, depth: float) -> None:
    """Fluid about what it leaves of the lung."""
    for other in canvas.others:
        if other.style == "compressive" and side in other.sides:
            # Under the fluid, too: at its border it mixes with airless lung and not with air.
            _airless(canvas, side, depth, compressed_layer(other.severity), marked=False)
    left = _without_fluid(canvas, side, depth)
    fluid = canvas.rule(Tissue.FLUID, LUNG_OF[side], label=Label.PLEURAL_FLUID, mottle_hu=3.0)
    canvas.builder.around_loft(left.rows, fluid, box=canvas.box(side))
    drowned = canvas.rule(Tissue.FLUID, VESSELS | AIRWAYS, label=Label.PLEURAL_FLUID, mottle_hu=3.0)
    _cover_branches(canvas, side, left, drowned)


def _flat_level(canvas: Canvas, side: str, depth: float) -> None:
    """Fluid under air finds a level, and covers what of the lung hangs into it."""
    level = float(_behind(canvas, side)[1]) - depth
    below = Clip((0.0, -1.0, 0.0), -level)
    space = LUNG_OF[side] | label_mask([Label.PLEURAL_AIR])
    fluid = canvas.rule(Tissue.FLUID, space, label=Label.PLEURAL_FLUID, mottle_hu=3.0)
    canvas.builder.half_space(below, fluid, box=canvas.box(side))
    low, high = canvas.box(side)
    lateral = abs(float(canvas.hilum(side)[0])) + 12.0
    low[0], high[0] = (low[0], -lateral) if side == "right" else (lateral, high[0])
    drowned = canvas.rule(Tissue.FLUID, VESSELS | AIRWAYS, label=Label.PLEURAL_FLUID, mottle_hu=3.0)
    canvas.builder.half_space(below, drowned, box=(low, high))


def _behind(canvas: Canvas, side: str) -> FloatArray:
    """The hindmost point of a lung."""
    lung = canvas.lung(side)
    rows = lung.rows
    k = int(np.argmax(rows[:, 2] + rows[:, 6]))
    return np.array([rows[k, 1], rows[k, 2] + rows[k, 6], rows[k, 0]])
