"""Bronchi that are too wide or whose walls are too thick."""

from __future__ import annotations

import numpy as np

from napari_cxr3d.phantom.anatomy.model import Branch
from napari_cxr3d.phantom.findings.canvas import AIRWAYS, LUNGS, Canvas, between
from napari_cxr3d.phantom.labels import Label
from napari_cxr3d.phantom.scene import Blend
from napari_cxr3d.phantom.tissues import Tissue

__all__ = ["paint_bronchiectasis", "paint_peribronchial", "wall_thickness", "widening"]

_LEAST_LUMEN_MM = 1.1  # a lumen that slices of 2 mm can show


def widening(severity: float) -> float:
    """Width of the bronchi over their normal width: 1.6 to 3.5."""
    return between(1.6, 3.5, severity)


def wall_thickness(severity: float) -> float:
    """Thickness of a bronchial wall in mm: 1.5 to 3.5 (normal below 1)."""
    return between(1.5, 3.5, severity)


def paint_bronchiectasis(canvas: Canvas) -> None:
    """Wide, thick-walled bronchi from the segments outwards, varicose when severe."""
    factor = widening(canvas.severity)
    wall = canvas.rule(
        Tissue.AIRWAY_WALL, LUNGS | AIRWAYS, label=Label.AIRWAY_WALL, blend=Blend.RAISE
    )
    lumen = canvas.rule(-990.0, LUNGS | AIRWAYS, label=Label.AIRWAY)
    branches = _in_zone(canvas, (4, 7))
    kept = [b for b in branches if canvas.rng.random() < between(0.5, 0.95, canvas.severity)]
    # All walls before all lumens: a wall must not close the bronchus that it branches from.
    widths = []
    for branch in kept:
        beads = 1.0 + 0.3 * canvas.severity * canvas.rng.uniform(-1.0, 1.0, len(branch.points))
        widths.append(factor * np.maximum(branch.radii, _LEAST_LUMEN_MM) * beads)
        canvas.builder.tube(branch.points, widths[-1] + 1.2, wall)
    for branch, width in zip(kept, widths, strict=True):
        canvas.builder.tube(branch.points, width, lumen)
    _note_lobes(canvas, kept)
    canvas.measures["widening"] = factor


def paint_peribronchial(canvas: Canvas) -> None:
    """Thick walls about lumens that stay open."""
    thickness = wall_thickness(canvas.severity)
    wall = canvas.rule(
        Tissue.AIRWAY_WALL, LUNGS | AIRWAYS, label=Label.AIRWAY_WALL, blend=Blend.RAISE
    )
    lumen = canvas.rule(-960.0, LUNGS | AIRWAYS, label=Label.AIRWAY, marked=False)
    branches = _in_zone(canvas, (3, 6))
    for branch in branches:
        canvas.builder.tube(branch.points, branch.radii + thickness, wall)
    for branch in branches:
        canvas.builder.tube(branch.points, np.maximum(branch.radii, _LEAST_LUMEN_MM), lumen)
    _note_lobes(canvas, branches)
    canvas.measures["wall_mm"] = thickness


_UPPER = (Label.RIGHT_UPPER_LOBE, Label.LEFT_UPPER_LOBE)
_LOWER = (Label.RIGHT_LOWER_LOBE, Label.LEFT_LOWER_LOBE)


def _in_zone(canvas: Canvas, generations: tuple[int, int]) -> list[Branch]:
    lobes = {"upper lobes": _UPPER, "lower lobes": _LOWER}.get(
        canvas.plan.place, (*_UPPER, Label.RIGHT_MIDDLE_LOBE, *_LOWER)
    )
    return canvas.branches(canvas.anatomy.airways, lobes=lobes, generations=generations)


def _note_lobes(canvas: Canvas, branches: list[Branch]) -> None:
    for lobe in dict.fromkeys(branch.lobe for branch in branches):
        if lobe is None:
            continue
        points = np.concatenate([b.points for b in branches if b.lobe == lobe])
        low, high = points.min(axis=0), points.max(axis=0)
        canvas.note(lobe.name.lower().replace("_", " "), (low + high) / 2, high - low)
