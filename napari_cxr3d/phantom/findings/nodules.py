"""Nodules and masses."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_cxr3d.imaging.frames import FloatArray
from napari_cxr3d.phantom.findings.canvas import IN_LUNG, LUNGS, Canvas, between, unit
from napari_cxr3d.phantom.findings.vocabulary import LOBES
from napari_cxr3d.phantom.scene import Blend
from napari_cxr3d.phantom.tissues import Tissue

__all__ = ["mass_diameter", "nodule_diameter", "paint_mass", "paint_nodules"]


def nodule_diameter(severity: float) -> float:
    """Longest diameter of the largest nodule in mm: 4 to 30, the Fleischner Society's limit."""
    return between(4.0, 30.0, severity)


def mass_diameter(severity: float) -> float:
    """Longest diameter of a mass in mm: 31 to 85."""
    return between(31.0, 85.0, severity)


def paint_nodules(canvas: Canvas) -> None:
    """The nodule of the plan, and smaller ones in any lobe where it asks for several."""
    largest = nodule_diameter(canvas.severity)
    lobes = tuple(LOBES)
    for number in range(canvas.plan.count):
        diameter = largest if number == 0 else largest * canvas.rng.uniform(0.4, 0.85)
        diameter = max(diameter, 4.0)
        place = canvas.plan.place if number == 0 else lobes[int(canvas.rng.random() * len(lobes))]
        center = canvas.roomy_point(place, diameter / 2)
        _nodule(canvas, center, diameter, canvas.plan.style, LOBES[place])
        canvas.note(place, center, diameter)
    canvas.measures["diameter_mm"] = largest


def _nodule(canvas: Canvas, center: FloatArray, diameter: float, style: str, lobe: int) -> None:
    radius = diameter / 2
    half = radius * np.array([1.0, *canvas.rng.uniform(0.82, 0.98, 2)])
    axes = _turned(canvas)
    rough = min(0.12 * radius, 1.5)
    # The roughness pushes outwards as well: what is painted keeps the stated diameter.
    half = half - 0.5 * rough
    surface: dict[str, Any] = {"rough_mm": rough, "rough_scale_mm": max(0.9 * radius, 3.0)}
    if style in ("ground-glass", "part-solid"):
        halo = canvas.rule(
            -560.0, LUNGS, blend=Blend.RAISE, soft_mm=2.0, mottle_hu=50.0, mottle_mm=5.0, **surface
        )
        canvas.builder.ellipsoid(center, half, halo, axes=axes)
    if style == "part-solid":
        half = 0.5 * half
    if style != "ground-glass":
        hu: float | Tissue = Tissue.NODULE if style != "calcified" else 620.0
        solid = canvas.rule(hu, IN_LUNG, label=lobe, mottle_hu=12.0, mottle_mm=4.0, **surface)
        canvas.builder.ellipsoid(center, half, solid, axes=axes)


def paint_mass(canvas: Canvas) -> None:
    """A mass: lobulated, or with spicules into the lung around; large ones with a dark centre."""
    diameter, place = mass_diameter(canvas.severity), canvas.plan.place
    radius, rng = diameter / 2, canvas.rng
    center = canvas.roomy_point(place, radius)
    body = canvas.rule(
        Tissue.NODULE,
        IN_LUNG,
        label=LOBES[place],
        rough_mm=0.07 * radius,
        rough_scale_mm=0.7 * radius,
        mottle_hu=12.0,
        mottle_mm=9.0,
    )
    lobules = 9 if canvas.plan.style == "lobulated" else 5
    canvas.builder.ellipsoid(center, 0.8 * radius * rng.uniform(0.9, 1.0, 3), body)
    for direction in _directions(rng, lobules):
        own = radius * rng.uniform(0.38, 0.52)
        canvas.builder.ellipsoid(center + (radius - own) * direction, np.full(3, own), body)
    if canvas.plan.style == "spiculated":
        thin = canvas.rule(-120.0, LUNGS, blend=Blend.RAISE)
        for direction in _directions(rng, 34):
            reach = radius + rng.uniform(6.0, 16.0)
            bend = 3.0 * unit(rng.uniform(-1, 1, 3))
            canvas.builder.cone(
                center + 0.75 * radius * direction, center + reach * direction + bend,
                (1.9, 0.5), thin,
            )  # fmt: skip
    if diameter > 50.0:
        necrosis = canvas.rule(
            18.0, 1 << LOBES[place], soft_mm=8.0, rough_mm=3.0, opacity=0.9, blend=Blend.LOWER
        )
        canvas.builder.ellipsoid(center, 0.5 * radius * rng.uniform(0.7, 1.0, 3), necrosis)
    canvas.note(place, center, diameter)
    canvas.measures["diameter_mm"] = diameter


def _directions(rng: np.random.Generator, count: int) -> FloatArray:
    """Directions about evenly over the sphere (a Fibonacci lattice, turned at random)."""
    k = np.arange(count) + 0.5
    z = 1.0 - 2.0 * k / count
    turn = np.pi * (1.0 + 5.0**0.5) * k + 2 * np.pi * rng.random()
    across = np.sqrt(1.0 - z * z)
    points = np.stack([across * np.cos(turn), across * np.sin(turn), z], axis=1)
    points += rng.uniform(-0.15, 0.15, points.shape)
    directions: FloatArray = points / np.sqrt((points**2).sum(axis=1))[:, None]
    return directions


def _turned(canvas: Canvas) -> FloatArray:
    """Random directions of three axes, one a column."""
    first = unit(canvas.rng.uniform(-1.0, 1.0, 3) + 1e-3)
    helper = unit(canvas.rng.uniform(-1.0, 1.0, 3) + 2e-3)
    second = unit(np.cross(first, helper))
    return np.stack([first, second, np.cross(first, second)], axis=1)
