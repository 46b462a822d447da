"""Lymph nodes and hiatal hernia."""

from __future__ import annotations

import numpy as np

from napari_cxr3d.imaging.frames import FloatArray
from napari_cxr3d.phantom.findings.canvas import Canvas, between
from napari_cxr3d.phantom.findings.vocabulary import STATIONS
from napari_cxr3d.phantom.labels import LUNG, Label, label_mask
from napari_cxr3d.phantom.scene import Clip
from napari_cxr3d.phantom.tissues import Tissue

__all__ = ["STATION_NAMES", "node_short_axis", "paint_hernia", "paint_nodes", "pouch_diameter"]

STATION_NAMES = {
    "2R": "right upper paratracheal",
    "4R": "right lower paratracheal",
    "4L": "left lower paratracheal",
    "5": "aortopulmonary window",
    "7": "subcarinal",
    "8": "paraesophageal",
    "10R": "right hilar",
    "10L": "left hilar",
}
"""What reports call the stations."""

_HILAR = ("10R", "10L")
_SOFT = label_mask(
    [*LUNG, Label.MEDIASTINUM, Label.FAT, Label.PERICARDIUM, Label.LYMPH_NODE, Label.MUSCLE]
)


def node_short_axis(severity: float) -> float:
    """Short axis of the largest node in mm: 11 to 35 (enlarged above 10)."""
    return between(11.0, 35.0, severity)


def paint_nodes(canvas: Canvas) -> None:
    """Enlarged nodes at their stations, one or two each, between the organs that are there."""
    largest = node_short_axis(canvas.severity)
    for number, station in enumerate(_chosen(canvas)):
        short = largest if number == 0 else largest * canvas.rng.uniform(0.5, 0.9)
        short = max(short, 10.5)
        center = _station(canvas, station, short / 2)
        count = 1 if canvas.rng.random() < 0.5 else 2
        for k in range(count):
            own = short if k == 0 else 0.7 * short
            along = canvas.rng.uniform(1.15, 1.5)
            half = 0.5 * own * np.array([1.0, canvas.rng.uniform(1.0, 1.15), along])
            middle = center + k * np.array([0.25, -0.4, 0.9]) * short * canvas.rng.uniform(0.7, 1.0)
            node = canvas.rule(
                Tissue.LYMPH_NODE, _SOFT, label=Label.LYMPH_NODE, mottle_hu=6.0, rough_mm=0.6
            )
            canvas.builder.ellipsoid(middle, half, node)
            if k == 0:
                canvas.note(STATION_NAMES[station], middle, 2 * half)
    canvas.measures["short_axis_mm"] = largest


def _chosen(canvas: Canvas) -> list[str]:
    place = canvas.plan.place
    if place in STATIONS:
        return [place]
    order = [STATIONS[int(k)] for k in canvas.rng.permutation(len(STATIONS))]
    if place == "hilar":
        return [s for s in order if s in _HILAR]
    if place == "mediastinal":
        order = [s for s in order if s not in _HILAR]
    count = 1 + round(5 * canvas.severity)
    if place == "mediastinal and hilar":
        hilar = [s for s in order if s in _HILAR][: 1 + int(canvas.severity > 0.5)]
        return [s for s in order if s not in _HILAR][: max(count - 1, 1)] + hilar
    return order[:count]


def _station(canvas: Canvas, station: str, radius: float) -> FloatArray:
    """Middle of a node of a radius at a station."""
    marks = canvas.anatomy.landmarks
    carina = np.array(marks["carina"])
    beside = _windpipe(canvas) + 0.8 * radius
    if station == "8":
        line = canvas.anatomy.oesophagus
        k = int(np.argmin(np.abs(line[:, 2] - (carina[2] - 55.0))))
        beside_oesophagus: FloatArray = line[k, :3] - np.array([7.0 + 0.8 * radius, 0.0, 0.0])
        return beside_oesophagus
    if station in _HILAR:
        side, outward = ("right", -1.0) if station == "10R" else ("left", 1.0)
        hilum = np.array(marks[f"{side}_hilum"])
        at_hilum: FloatArray = hilum + np.array([outward * (4.0 + 0.7 * radius), 6.0, -2.0])
        return at_hilum
    from_carina = {
        "2R": (-beside, -2.0, 52.0),
        "4R": (-beside, -4.0, 20.0),
        "4L": (beside, 2.0, 10.0),
        "5": (beside + 13.0, -14.0, 6.0),
        "7": (1.0, 3.0, -(9.0 + radius)),
    }[station]
    place: FloatArray = carina + np.array(from_carina)
    return place


def _windpipe(canvas: Canvas) -> float:
    """Radius of the trachea."""
    trachea = next(b for b in canvas.anatomy.airways if b.generation == 0)
    return float(np.median(trachea.radii)) + 2.0


def pouch_diameter(severity: float) -> float:
    """Width of the herniated stomach in mm: 25 to 95."""
    return between(25.0, 95.0, severity)


def paint_hernia(canvas: Canvas) -> None:
    """A pouch of stomach behind the heart, above the hiatus, with food and a gas level in front.

    It displaces lung, fat and pericardium, not heart, aorta or spine.
    """
    diameter = pouch_diameter(canvas.severity)
    radius = diameter / 2
    line = canvas.anatomy.oesophagus
    domes = canvas.anatomy.domes
    floor = float(min(domes["left"].apex[2], domes["right"].apex[2]))
    k = int(np.argmin(np.abs(line[:, 2] - (floor - 5.0))))
    half = radius * np.array([1.0, 0.78, 0.95])
    center = line[k, :3] + np.array([0.25 * radius, -0.1 * radius, 0.62 * radius])
    over = _SOFT | label_mask([Label.OESOPHAGUS, Label.DIAPHRAGM, Label.ABDOMINAL_FAT,
                               Label.PULMONARY_VEIN, Label.PULMONARY_ARTERY, Label.AIRWAY,
                               Label.AIRWAY_WALL])  # fmt: skip
    wall = canvas.rule(Tissue.STOMACH_WALL, over, label=Label.STOMACH)
    inner = label_mask([Label.STOMACH])
    food = canvas.rule(Tissue.STOMACH_CONTENT, inner, label=Label.STOMACH, mottle_hu=22.0)
    gas = canvas.rule(-995.0, inner, label=Label.STOMACH_GAS)
    shapes = [(center, half)]
    if canvas.severity > 0.5:  # a second, smaller pouch: the fundus folds beside the cardia
        shapes.append((center + np.array([0.75, -0.1, -0.25]) * radius, 0.7 * half))
    for middle, reach in shapes:
        canvas.builder.ellipsoid(middle, reach, wall)
    for middle, reach in shapes:
        canvas.builder.ellipsoid(middle, reach - 3.2, food)
    level = center[1] - canvas.rng.uniform(0.0, 0.35) * half[1]
    for middle, reach in shapes:
        clip = Clip.through((0.0, level, 0.0), (0.0, 1.0, 0.0))
        if middle[1] - reach[1] + 4.0 < level:
            canvas.builder.ellipsoid(middle, reach - 3.6, gas, clip=clip)
    canvas.note("oesophageal hiatus", center, 2 * half)
    canvas.measures["diameter_mm"] = diameter
