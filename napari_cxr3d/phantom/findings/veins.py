"""The way of catheters and leads through the great veins."""

from __future__ import annotations

import numpy as np

from napari_cxr3d.imaging.frames import FloatArray
from napari_cxr3d.phantom.anatomy.model import Anatomy
from napari_cxr3d.phantom.findings.canvas import between, resampled

__all__ = ["atrial_appendage", "line_course", "subclavian_course", "ventricle_apex"]


def caval_axis(anatomy: Anatomy) -> FloatArray:
    """Centreline of the superior vena cava from above to its junction with the right atrium."""
    line = resampled(anatomy.systemic_veins["superior vena cava"][:, :3], 2.0)
    ordered: FloatArray = line[np.argsort(-line[:, 2], kind="stable")]
    return ordered


def _towards_heart(anatomy: Anatomy, name: str, step_mm: float) -> FloatArray:
    """Centreline of a vein from its far end to the heart's, which lies nearer to the cava."""
    line = resampled(anatomy.systemic_veins[name][:, :3], step_mm)
    cava = caval_axis(anatomy)[0]
    first, last = (((end - cava) ** 2).sum() for end in (line[0], line[-1]))
    ordered: FloatArray = line[::-1] if first < last else line
    return ordered


def subclavian_course(anatomy: Anatomy, side: str) -> list[FloatArray]:
    """From under the collarbone through the veins into the superior vena cava."""
    subclavian = _towards_heart(anatomy, f"{side} subclavian vein", 12.0)
    # Punctured under the middle of the collarbone: the outer third of the vein stays free.
    subclavian = subclavian[len(subclavian) // 3 :]
    vein = _towards_heart(anatomy, f"{side} brachiocephalic vein", 8.0)
    return [*subclavian, *vein[1:], *caval_axis(anatomy)[1::6]]


def line_course(
    anatomy: Anatomy, side: str, place: str, severity: float
) -> tuple[FloatArray, float]:
    """Course of a central line, and how far its tip lies below the cavoatrial junction in mm."""
    cava = caval_axis(anatomy)
    vein = _towards_heart(anatomy, f"{side} brachiocephalic vein", 8.0)
    length = float(cava[0, 2] - cava[-1, 2])
    depth = (
        between(-0.85 * length, 0.0, 2 * severity)
        if severity < 0.5
        else between(0.0, 38.0, 2 * severity - 1.0)
    )
    end = float(cava[-1, 2]) - depth
    if place == "subclavian":
        subclavian = _towards_heart(anatomy, f"{side} subclavian vein", 12.0)
        way = [*subclavian[len(subclavian) // 3 :], *vein[1:]]
    else:
        jugular = _towards_heart(anatomy, f"{side} jugular vein", 12.0)
        # Punctured low in the neck, and led out to the skin in front.
        low = jugular[jugular[:, 2] < jugular[-1, 2] + 62.0]
        way = [low[0] + np.array([0.0, -24.0, 14.0]), *low, *vein[1:]]
    course = [*way, *cava[cava[:, 2] > end + 2.0][1::4]]
    if depth > 0:
        atrium = anatomy.organs["right atrium"].center
        sideways = 0.65 * cava[-1, :2] + 0.35 * atrium[:2]
        course += [cava[-1], np.array([*sideways, end])]
    else:
        course.append(cava[int(np.argmin(np.abs(cava[:, 2] - end)))])
    return np.array(course), depth


def ventricle_apex(anatomy: Anatomy) -> FloatArray:
    """Apex of the right ventricle, a few mm inside."""
    ventricle = anatomy.organs["right ventricle"]
    direction = np.array(anatomy.landmarks["heart_apex"]) - ventricle.center
    surface = ventricle.surface_point(direction)
    inside: FloatArray = ventricle.center + 0.85 * (surface - ventricle.center)
    return inside


def atrial_appendage(anatomy: Anatomy) -> FloatArray:
    """Front upper wall of the right atrium."""
    atrium = anatomy.organs["right atrium"]
    surface = atrium.surface_point(np.array([0.35, -0.8, 0.5]))
    inside: FloatArray = atrium.center + 0.9 * (surface - atrium.center)
    return inside
