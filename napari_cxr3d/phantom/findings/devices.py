"""Lines, tubes, pacemakers and wires.

Metal reads as the top of the CT scale; so that projections show it as they should, thin metal is
painted a little thicker than it is.
"""

from __future__ import annotations

import numpy as np

from napari_cxr3d.imaging.frames import FloatArray
from napari_cxr3d.phantom.findings.canvas import Canvas, across, between, resampled, unit
from napari_cxr3d.phantom.findings.veins import (
    atrial_appendage,
    line_course,
    subclavian_course,
    ventricle_apex,
)
from napari_cxr3d.phantom.labels import Label
from napari_cxr3d.phantom.scene import EVERYTHING, Rule

__all__ = [
    "paint_chest_drain",
    "paint_endotracheal_tube",
    "paint_line",
    "paint_pacemaker",
    "paint_sternal_wires",
]

_TITANIUM_HU = 3000.0
_BARIUM_HU = 2600.0  # polyurethane loaded with barium sulphate
_STRIPE_HU = 2600.0


def _device(canvas: Canvas, hu: float, *, warped: bool = True, label: int = Label.DEVICE) -> Rule:
    return canvas.rule(hu, EVERYTHING, label=label, warped=warped)


def smooth(points: FloatArray, step_mm: float = 3.0) -> FloatArray:
    """A course through points without kinks: corners cut four times (Chaikin, 1974)."""
    line = np.asarray(points, np.float64)
    for _ in range(4):
        cut = np.empty((2 * len(line) - 2, line.shape[1]))
        cut[0::2] = 0.75 * line[:-1] + 0.25 * line[1:]
        cut[1::2] = 0.25 * line[:-1] + 0.75 * line[1:]
        line = np.concatenate([line[:1], cut, line[-1:]])
    return resampled(line, step_mm)


def paint_line(canvas: Canvas) -> None:
    """A catheter from the neck or below the collarbone to the superior vena cava."""
    side = canvas.plan.side
    course, tip_depth = line_course(canvas.anatomy, side, canvas.plan.place, canvas.severity)
    canvas.builder.tube(smooth(course), 1.5, _device(canvas, _BARIUM_HU))
    tip = course[-1]
    canvas.note("tip", tip, 3.0)
    canvas.measures["tip_below_junction_mm"] = tip_depth


def paint_pacemaker(canvas: Canvas) -> None:
    """A generator under the skin below the collarbone, and its leads through the veins."""
    anatomy, side = canvas.anatomy, canvas.plan.side
    outward = -1.0 if side == "right" else 1.0
    pocket = _pocket(canvas, side)
    up = np.array([0.0, 0.0, 1.0])
    flat = unit(np.array([0.35 * outward, -1.0, 0.12]))
    along = unit(np.cross(flat, up))
    axes = np.stack([along, np.cross(flat, along), flat], axis=1)
    can = _device(canvas, _TITANIUM_HU, warped=False)
    canvas.builder.ellipsoid(pocket, (23.0, 21.0, 6.0), can, axes=axes)
    header = pocket + axes @ np.array([6.0, 19.0 * np.sign(axes[2, 1]), 0.0])
    canvas.builder.ellipsoid(header, (13.0, 7.0, 5.0), can, axes=axes)
    canvas.note(f"{side} chest wall", pocket, (46.0, 14.0, 46.0))

    vein = subclavian_course(anatomy, side)
    apex, appendage = ventricle_apex(anatomy), atrial_appendage(anatomy)
    leads = 1 + int(canvas.severity >= 0.34) + int(canvas.severity >= 0.67)
    lead, tip = _device(canvas, _TITANIUM_HU), _device(canvas, _TITANIUM_HU)
    loop = [pocket + np.array([-outward * 4.0, 5.0, 20.0]), vein[0]]
    tips = [("right ventricular apex", [*vein, *_through_atrium(canvas), apex])]
    if leads > 1:
        tips.append(("right atrial appendage", [*vein, *_into_atrium(canvas), appendage]))
    if leads > 2:
        heart = anatomy.organs["heart"]
        wall = heart.surface_point(np.array([0.8, 0.55, -0.1]))
        back = heart.surface_point(np.array([0.0, 0.9, -0.35]))
        tips.append(("lateral left ventricular wall", [*vein, *_through_atrium(canvas)[:1],
                                                       back, wall]))  # fmt: skip
    for number, (name, course) in enumerate(tips):
        jitter = np.array([0.8 * number, -1.0 * number, 1.2 * number])
        path = np.array([*loop, *course]) + jitter
        path[-1] -= jitter
        canvas.builder.tube(smooth(path), 1.3, lead)
        canvas.builder.ellipsoid(path[-1], (2.2, 2.2, 2.2), tip)
        canvas.note(name, path[-1], 4.0)
    canvas.measures["leads"] = leads


def _pocket(canvas: Canvas, side: str) -> FloatArray:
    """Under the skin in front of the chest, below the outer half of the collarbone.

    Found on the line forward from the lung's surface: past the rib and the pectoral muscle.
    """
    point, normal = canvas.anatomy.lung_surface_point(side, 0.80, -58.0)
    medial = np.array(canvas.anatomy.landmarks[f"{side}_clavicle_medial_end"])
    reach = min(max(0.75 * (medial[2] - point[2]), 20.0), 60.0)
    place = point.copy()
    place[2] = medial[2] - reach
    thick = {"slim": 20.0, "average": 27.0, "heavy": 34.0}[canvas.anatomy.person.habitus]
    found: FloatArray = place + thick * unit(np.array([normal[0], normal[1], 0.0]))
    return found


def _into_atrium(canvas: Canvas) -> list[FloatArray]:
    atrium = canvas.anatomy.organs["right atrium"]
    return [atrium.center + np.array([-0.2 * atrium.semi_axes[0], 0.0, 0.2 * atrium.semi_axes[2]])]


def _through_atrium(canvas: Canvas) -> list[FloatArray]:
    atrium = canvas.anatomy.organs["right atrium"]
    ventricle = canvas.anatomy.organs["right ventricle"]
    low = atrium.center + np.array([0.0, 2.0, -0.45 * atrium.semi_axes.min()])
    floor = ventricle.center + np.array([0.0, 4.0, -0.35 * ventricle.semi_axes.min()])
    return [low, floor]


def paint_endotracheal_tube(canvas: Canvas) -> None:
    """A tube in the trachea, its tip 65 to 15 mm above the carina, with a dense stripe."""
    above_carina = between(65.0, 15.0, canvas.severity)
    trachea = next(b for b in canvas.anatomy.airways if b.generation == 0)
    line = resampled(trachea.points, 2.0)
    line = line[np.argsort(-line[:, 2])]
    carina = np.array(canvas.anatomy.landmarks["carina"])
    line = line[line[:, 2] >= carina[2] + above_carina]
    if len(line) < 2:
        line = resampled(trachea.points, 2.0)[:2]
    top = line[0] + np.array([0.0, -6.0, 45.0])
    course = np.concatenate([top[None], line])
    radius = min(5.2, 0.75 * float(np.median(trachea.radii)))
    canvas.builder.tube(course, radius, _device(canvas, 150.0))
    canvas.builder.tube(course, radius - 1.6, _device(canvas, -980.0, label=Label.AIRWAY))
    stripe = course + np.array([0.0, -radius + 0.4, 0.0])
    canvas.builder.tube(stripe, 1.1, _device(canvas, _STRIPE_HU))
    canvas.note("tip", line[-1], (2 * radius, 2 * radius, 2.0))
    canvas.measures["tip_above_carina_mm"] = float(line[-1][2] - carina[2])


def paint_chest_drain(canvas: Canvas) -> None:
    """A tube through the side of the chest, up along the pleura towards the apex."""
    side, anatomy = canvas.plan.side, canvas.anatomy
    top = between(0.55, 0.9, canvas.severity)
    entry, normal = anatomy.lung_surface_point(side, 0.34, -6.0)
    course = [entry + 48.0 * normal + np.array([0.0, 0.0, -14.0]), entry + 3.0 * normal]
    for share in (0.3, 0.65, 1.0):
        point, outwards = anatomy.lung_surface_point(
            side, 0.36 + share * (top - 0.36), -6.0 + 70.0 * share
        )
        course.append(point - 5.0 * outwards)
    path = smooth(np.array(course))
    canvas.builder.tube(path, 4.2, _device(canvas, 220.0))
    canvas.builder.tube(path, 2.6, _device(canvas, -950.0))
    first, _ = across(unit(path[-1] - path[0]))
    canvas.builder.tube(path + 3.6 * first, 1.1, _device(canvas, _STRIPE_HU))
    canvas.note(f"{side} pleural space", path[-1], 9.0)
    canvas.measures["tip_height"] = top


def paint_sternal_wires(canvas: Canvas) -> None:
    """Steel loops through the sternum, closed in front, down the midline."""
    marks = canvas.anatomy.landmarks
    angle = np.array(marks["sternal_angle"])
    count = round(between(4, 7, canvas.severity))
    steel = _device(canvas, _TITANIUM_HU)
    turns = np.linspace(0.0, 2 * np.pi, 17)
    for number in range(count):
        z = angle[2] + 18.0 - number * 21.0
        middle = np.array([canvas.rng.uniform(-1.5, 1.5), _sternum_y(canvas, z), z])
        half = np.array([canvas.rng.uniform(10.0, 13.0), 8.0, 0.0])
        tilt = canvas.rng.uniform(-2.5, 2.5)
        loop = middle + np.stack(
            [half[0] * np.cos(turns), half[1] * np.sin(turns), tilt * np.cos(turns)], axis=1
        )
        canvas.builder.tube(loop, 0.9, steel)
        twist = middle + np.array([0.0, -half[1] - 1.5, 0.0])
        canvas.builder.ellipsoid(twist, (1.6, 2.4, 3.0), steel)
        canvas.note("sternum", middle, 2 * half + 1.4)
    canvas.measures["loops"] = count


def _sternum_y(canvas: Canvas, z: float) -> float:
    """Depth of the sternum at a height: in front of the lungs, on a line from its angle down."""
    marks = canvas.anatomy.landmarks
    angle = np.array(marks["sternal_angle"])
    low = np.array(marks["xiphoid_tip"])
    share = (angle[2] - z) / max(angle[2] - low[2], 1.0)
    return float(angle[1] + share * (low[1] - angle[1]) + 4.0)
