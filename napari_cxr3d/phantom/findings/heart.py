"""Heart, pericardium and calcified arteries."""

from __future__ import annotations

import math

import numpy as np

from napari_cxr3d.imaging.frames import FloatArray
from napari_cxr3d.phantom.findings.canvas import Canvas, across, between, resampled, unit
from napari_cxr3d.phantom.labels import LUNG, Label, label_mask
from napari_cxr3d.phantom.scene import EVERYTHING, KEEP, Blend, Clip

__all__ = [
    "agatston_target",
    "density_weight",
    "heart_scale",
    "mark_heart",
    "mark_pericardial_fluid",
    "paint_aortic_calcification",
    "paint_coronary_calcification",
    "pericardial_fluid",
]

_SLICE_MM = 3.0  # Agatston's slices
_HEART = label_mask(
    [Label.MYOCARDIUM, Label.LEFT_ATRIUM, Label.LEFT_VENTRICLE, Label.RIGHT_ATRIUM,
     Label.RIGHT_VENTRICLE, Label.PERICARDIUM]
)  # fmt: skip
_SHARES = {"LAD": 0.46, "RCA": 0.26, "LCx": 0.2, "LM": 0.08}


def heart_scale(severity: float) -> float:
    """Width of the heart over that of a healthy one: 1.12 to 1.45."""
    return between(1.12, 1.45, severity)


def pericardial_fluid(severity: float) -> float:
    """Thickness of pericardial fluid in mm: 5 to 30 (small below 10, large above 20: ESC 2015)."""
    return between(5.0, 30.0, severity)


def agatston_target(severity: float) -> float:
    """Agatston score of a severity: 10 to 2000, even on a logarithmic scale."""
    return float(10.0 ** (1.0 + severity * math.log10(200.0)))


def density_weight(hu: float) -> int:
    """Agatston's weight of a deposit's peak (J. Am. Coll. Cardiol. 15:827-832, 1990).

    1 from 130 HU, 2 from 200, 3 from 300, 4 from 400; below 130 HU none.
    """
    return sum(hu >= limit for limit in (130.0, 200.0, 300.0, 400.0))


def mark_heart(canvas: Canvas) -> None:
    """Mark the heart that `modify_person` made large: the mask, without a change of HU."""
    heart = canvas.anatomy.organs["heart"]
    mark = canvas.rule(0.0, _HEART, opacity=0.0)
    canvas.builder.ellipsoid(heart.center, 1.35 * heart.semi_axes, mark, axes=heart.axes)
    canvas.note("heart", heart.center, 2 * heart.semi_axes)
    canvas.measures["heart_scale"] = heart_scale(canvas.severity)


def mark_pericardial_fluid(canvas: Canvas) -> None:
    """Mark the fluid that `modify_person` put around the heart."""
    mark = canvas.rule(0.0, label_mask([Label.PERICARDIAL_FLUID]), opacity=0.0)
    heart = canvas.anatomy.organs["heart"]
    reach = heart.semi_axes.max() + pericardial_fluid(canvas.severity) + 25.0
    box = (heart.center - reach, heart.center + reach)
    canvas.builder.half_space(Clip((0.0, 0.0, 1.0), 1e5), mark, box=box)
    canvas.note("pericardium", heart.center, 2 * heart.semi_axes)
    canvas.measures["thickness_mm"] = pericardial_fluid(canvas.severity)


def paint_coronary_calcification(canvas: Canvas) -> None:
    """Deposits along the coronary arteries until their Agatston score is that of the severity.

    A deposit is an ellipsoid along its artery; its score is its volume over slices of 3 mm
    times its `density_weight`: the score that ideal slices without noise or blur would give.
    ``agatston`` is the sum; the last deposit is cut to size.
    """
    target = agatston_target(canvas.severity)
    arteries = {
        name: resampled(canvas.anatomy.coronaries[name], 1.0)
        for name in _SHARES
        if name in canvas.anatomy.coronaries
    }
    shares = np.cumsum([_SHARES[name] for name in arteries])
    score = 0.0
    hit: dict[str, float] = {}
    while target - score > 0.05:
        name = list(arteries)[int(np.searchsorted(shares / shares[-1], canvas.rng.random()))]
        line = arteries[name]
        # Plaques lie towards the origin.
        at = int(canvas.rng.random() ** 1.5 * 0.85 * (len(line) - 2))
        hu = float(round(canvas.rng.uniform(280.0, 1050.0)))
        long = canvas.rng.uniform(1.2, between(2.4, 5.5, canvas.severity))
        wide = canvas.rng.uniform(0.8, between(1.2, 1.9, canvas.severity))
        own = _ellipsoid_volume(long, wide, wide) / _SLICE_MM * density_weight(hu)
        if own > target - score:
            shrink = ((target - score) / own) ** (1.0 / 3.0)
            long, wide, own = long * shrink, wide * shrink, target - score
        _deposit(canvas, line, at, (long, wide, wide), hu)
        score += own
        hit[name] = hit.get(name, 0.0) + own
    for name, value in hit.items():
        canvas.measures[f"agatston_{name}"] = value
        line = arteries[name]
        low, high = line.min(axis=0), line.max(axis=0)
        canvas.note(name, (low + high) / 2, high - low)
    canvas.measures["agatston"] = score


def _deposit(
    canvas: Canvas, line: FloatArray, at: int, half: tuple[float, float, float], hu: float
) -> None:
    along = unit(line[at + 1] - line[at])
    first, second = across(along)
    off = canvas.rng.uniform(-0.6, 0.6, 2)
    center = line[at] + off[0] * first + off[1] * second
    calcium = canvas.rule(hu, EVERYTHING & ~label_mask(LUNG), label=KEEP, blend=Blend.RAISE)
    canvas.builder.ellipsoid(center, half, calcium, axes=np.stack([along, first, second], axis=1))


def _ellipsoid_volume(a: float, b: float, c: float) -> float:
    return 4.0 / 3.0 * math.pi * a * b * c


def paint_aortic_calcification(canvas: Canvas) -> None:
    """Plaques in the wall of the aorta: flat, curved with it, densest in the arch."""
    aorta = canvas.anatomy.aorta
    rows = resampled(np.column_stack([aorta.points, aorta.radii]), 2.0)
    low, high = _stretch(canvas, rows)
    count = round(between(3, 60, canvas.severity))
    largest = between(3.0, 9.0, canvas.severity)
    volume = 0.0
    for _ in range(count):
        k = int(canvas.rng.uniform(low, high))
        k = min(max(k, 1), len(rows) - 2)
        along = unit(rows[k + 1, :3] - rows[k - 1, :3])
        first, second = across(along)
        turn = 2 * np.pi * canvas.rng.random()
        outward = np.cos(turn) * first + np.sin(turn) * second
        around = np.cross(along, outward)
        half = (
            0.5 * canvas.rng.uniform(2.0, largest),
            0.5 * canvas.rng.uniform(2.0, 0.8 * largest),
            canvas.rng.uniform(0.8, 1.3),
        )
        calcium = canvas.rule(
            float(round(canvas.rng.uniform(420.0, 1000.0))), EVERYTHING, blend=Blend.RAISE
        )
        center = rows[k, :3] + rows[k, 3] * outward
        axes = np.stack([along, around, outward], axis=1)
        canvas.builder.ellipsoid(center, half, calcium, axes=axes)
        volume += _ellipsoid_volume(*half)
    stretch = rows[int(low) : int(high) + 1, :3]
    corner, other = stretch.min(axis=0), stretch.max(axis=0)
    place = {"arch": "aortic arch", "descending": "descending thoracic aorta"}.get(
        canvas.plan.place, "aortic arch and descending thoracic aorta"
    )
    canvas.note(place, (corner + other) / 2, other - corner + 2 * rows[:, 3].mean())
    canvas.measures["volume_mm3"] = volume


def _stretch(canvas: Canvas, rows: FloatArray) -> tuple[float, float]:
    """Where the plaques lie, as rows of the resampled centreline."""
    aorta = canvas.anatomy.aorta

    def at(station: str) -> float:
        point = aorta.points[aorta.stations[station]]
        return float(np.argmin(((rows[:, :3] - point) ** 2).sum(axis=1)))

    arch, isthmus = at("arch"), at("isthmus")
    hiatus = at("hiatus") if "hiatus" in aorta.stations else len(rows) - 1.0
    start = arch - 0.8 * (isthmus - arch)
    ranges = {"arch": (start, isthmus), "descending": (isthmus, hiatus)}
    return ranges.get(canvas.plan.place, (start, hiatus))
