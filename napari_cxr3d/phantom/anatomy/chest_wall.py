"""Ribs, costal cartilages, sternum, clavicles, scapulae and humeri."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_cxr3d.imaging.frames import FloatArray
from napari_cxr3d.phantom.anatomy.bench import Bench, curve
from napari_cxr3d.phantom.anatomy.sections import Sections
from napari_cxr3d.phantom.labels import Label, label_mask
from napari_cxr3d.phantom.tissues import Tissue, trabecular_hu

__all__ = ["Shoulder", "paint_ribs", "paint_sternum", "rib_lines", "shoulder_of"]

# Front end of each bony rib of the reference man: |x|, y, z; its half height in mm.
_RIB_END = np.array([
    (36.0, -46.0, 86.0), (56.0, -68.0, 50.0), (72.0, -78.0, 15.0), (84.0, -84.0, -20.0),
    (93.0, -87.0, -54.0), (101.0, -85.0, -86.0), (109.0, -80.0, -114.0), (117.0, -70.0, -138.0),
    (124.0, -54.0, -158.0), (128.0, -36.0, -174.0), (126.0, 8.0, -182.0), (96.0, 52.0, -184.0),
])  # fmt: skip
_RIB_HALF_HEIGHT = (7.2, 6.2, 5.8, 6.0, 6.3, 6.5, 6.6, 6.5, 6.2, 5.8, 5.2, 4.6)

# Where the cartilages of ribs 1 to 7 reach the sternum: |x|, y, z.
_STERNAL_END = np.array([
    (19.0, -62.0, 92.0), (15.0, -81.0, 64.0), (15.0, -89.0, 42.0), (15.0, -95.0, 20.0),
    (15.0, -100.0, -2.0), (15.0, -104.0, -20.0), (11.0, -106.0, -33.0),
])  # fmt: skip
_STERNUM = np.array([  # y, z, half width, half thickness
    (-58.0, 102.0, 24.0, 6.5), (-65.0, 90.0, 28.0, 6.0), (-74.0, 76.0, 20.0, 5.5),
    (-81.0, 64.0, 15.0, 5.5), (-87.0, 48.0, 15.0, 5.0), (-94.0, 22.0, 18.0, 5.0),
    (-101.0, -4.0, 19.5, 5.0), (-105.0, -24.0, 17.0, 4.8), (-107.0, -36.0, 10.0, 4.5),
])  # fmt: skip


def rib_lines(bench: Bench, spine: FloatArray) -> dict[str, FloatArray]:
    """Centrelines of the bony ribs from head to front end, LPS mm, shape (N, 3) each."""
    figure = bench.figure
    rng = bench.rng(1)
    lines: dict[str, FloatArray] = {}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        cage = figure.cage(side)
        for n in range(12):
            above, body = spine[1 + n], spine[2 + n]
            end = figure.at(_RIB_END[n] * (sign, 1, 1)) + rng.uniform(-2.0, 2.0, 3)
            lines[f"{side} {n + 1}"] = _rib(cage, n, sign, above, body, end, figure.size)
    return lines


def _rib(cage: Sections, n: int, sign: float, above: FloatArray, body: FloatArray,
         end: FloatArray, grow: Callable[[Any], Any]) -> FloatArray:  # fmt: skip
    share = 0.36 if n < 10 else 0.15
    head = body + share * (above - body)
    head = head + (sign * grow(17.0), grow(9.0), 0.0)
    tubercle = body + (sign * grow(36.0), grow(29.0), 0.0)
    offset = 4.6
    row = cage.at(np.array([0.5 * (tubercle[2] + end[2])]))[0]
    start = _angle(tubercle, row)
    stop = _angle(end, row)
    if sign < 0:
        start, stop = start % (2 * np.pi), stop % (2 * np.pi)
    t = np.linspace(0.0, 1.0, 30)[4:]
    angle = start + t * (stop - start)
    # A rib falls fastest round the side, and least in front.
    fall = t + 0.06 * np.sin(np.pi * t) - 0.05 * np.sin(2 * np.pi * t)
    z = tubercle[2] + fall * (end[2] - tubercle[2])
    path = cage.outline(z, angle, offset)
    return curve(np.concatenate([[head], [tubercle], path]), 34)


def _angle(point: FloatArray, row: FloatArray) -> float:
    dx, dy = point[0] - row[1], point[1] - row[2]
    a = row[3] if dx >= 0 else row[4]
    b = row[5] if dy < 0 else row[6]
    return float(np.arctan2(dy / b, dx / a))


def paint_ribs(bench: Bench, lines: dict[str, FloatArray]) -> None:
    """Paint bony ribs with marrow, and costal cartilages."""
    builder, figure = bench.builder, bench.figure
    marrow = 0.8 * trabecular_hu(bench.person.age, bench.person.sex) + 60
    cortex = bench.rule(Label.RIB, 730.0)
    inner = bench.rule(Label.RIB, marrow, over=label_mask([Label.RIB]))
    spots = 0.0 if bench.person.age < 35 else min((bench.person.age - 35) / 45.0, 1.0)
    soft = bench.rule(Label.COSTAL_CARTILAGE, Tissue.CARTILAGE, mottle_hu=15.0)
    chalk = bench.rule(
        Label.COSTAL_CARTILAGE, 330.0, pattern_mm=9.0, pattern_above=0.75 - 0.75 * spots,
        over=label_mask([Label.COSTAL_CARTILAGE]),
    )  # fmt: skip
    for name, line in lines.items():
        n = int(name.split()[1]) - 1
        half = figure.size(_RIB_HALF_HEIGHT[n])
        outward = _outward(line)
        thin = 1.55 if n else 2.2
        flat = outward if n else np.tile([0.0, 0.25, 0.97], (len(line), 1))
        taper = np.interp(
            np.linspace(0, 1, len(line)), [0, 0.08, 0.3, 0.8, 1], [0.75, 0.8, 1, 1, 1.08]
        )
        builder.tube(line, half * taper, cortex, flat=flat, flatness=thin)
        core = line[1:]
        builder.tube(core, half * taper[1:] - 1.4, inner, flat=flat[1:], flatness=thin * 1.2)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        for n in range(10):
            line = lines[f"{side} {n + 1}"]
            path = _cartilage(bench, lines, side, sign, n)
            half = figure.size(_RIB_HALF_HEIGHT[n])
            flat = _outward(path)
            wide = np.linspace(half * 1.05, half * (0.9 if n < 7 else 0.6), len(path))
            builder.tube(path, wide, soft, flat=flat, flatness=1.6)
            if spots > 0:
                builder.tube(path, wide - 0.5, chalk, flat=flat, flatness=1.6)
            del line


def _cartilage(
    bench: Bench, lines: dict[str, FloatArray], side: str, sign: float, n: int
) -> FloatArray:
    """From the rib's end along the cage to the sternum, or to the cartilage above."""
    size = bench.figure.size
    start = lines[f"{side} {n + 1}"][-1]
    if n < 7:
        goal = bench.figure.at(_STERNAL_END[n] * (sign, 1, 1))
        dip = 0.0 if n < 4 else (0.12, 0.2, 0.25)[n - 4]
    else:
        upper = _cartilage(bench, lines, side, sign, n - 1)
        goal = upper[5 if n == 7 else 4] - (0, 0, size(7.0))
        dip = 0.1
    middle = start + 0.5 * (goal - start)
    middle[2] -= dip * abs(goal[2] - start[2])
    cage = bench.figure.cage(side)
    row = cage.at(middle[2])[0]
    level = np.array([_angle(middle, row)])
    wall = cage.outline(middle[2:3], level, size(6.0))[0]
    middle[1] = min(middle[1], wall[1])
    return curve(np.stack([start, middle, goal]), 11)


def _outward(line: FloatArray) -> FloatArray:
    """Directions across a rib's thin side: level, and square to its course."""
    along = np.gradient(line, axis=0)
    out = np.stack([along[:, 1], -along[:, 0], 0 * along[:, 0]], -1)
    length = np.sqrt((out**2).sum(axis=1))[:, None]
    flat: FloatArray = np.where(length > 1e-6, out / np.maximum(length, 1e-6), [0.0, 1.0, 0.0])
    return flat


def paint_sternum(bench: Bench) -> FloatArray:
    """Paint manubrium, body and xiphoid; return the centreline from above, shape (N, 3)."""
    builder, figure = bench.builder, bench.figure
    y, z, wide, thick = _STERNUM.T
    line = figure.at(np.stack([0 * y, y, z], -1))
    along = np.gradient(line, axis=0)
    flat = np.stack([0 * y, along[:, 2], -along[:, 1]], -1)
    marrow = 0.6 * trabecular_hu(bench.person.age, bench.person.sex)
    bone = bench.rule(Label.STERNUM, 480.0)
    spongy = bench.rule(Label.STERNUM, marrow, mottle_hu=30.0, mottle_mm=4.0)
    side = np.array([1.0, 0.0, 0.0])
    for shell, rule in ((0.0, bone), (1.8, spongy)):
        for k in range(len(line) - 1):
            if k == 3 and shell:
                continue
            a, b = figure.size(wide[k]) - shell, figure.size(wide[k + 1]) - shell
            t = figure.size(0.5 * (thick[k] + thick[k + 1])) - shell
            for shift in (-0.62, -0.2, 0.2, 0.62):
                builder.cone(
                    line[k] + shift * a * side, line[k + 1] + shift * b * side,
                    (0.4 * a, 0.4 * b), rule, flat=flat[k] + flat[k + 1],
                    flatness=max(0.2 * (a + b) * 2 / (2 * t), 1.0),
                )  # fmt: skip
    tip = figure.at((0.0, -106.0, -62.0))
    builder.cone(line[-1], tip, (figure.size(7.0), figure.size(3.5)),
                 bench.rule(Label.STERNUM, 180.0), flat=(0, 1, 0), flatness=1.8)  # fmt: skip
    return np.concatenate([line, [tip]])


@dataclass(frozen=True, eq=False)
class Shoulder:
    """Landmarks of one shoulder girdle, LPS mm.

    Attributes
    ----------
    sign : float
        +1 left, -1 right.
    clavicle : ndarray, shape (N, 3)
        From the sternum outwards.
    glenoid, acromion, upper_angle, lower_angle, spine_root, coracoid, head, elbow : ndarray
        Points of the scapula and the humerus, shape (3,).
    """

    sign: float
    clavicle: FloatArray
    glenoid: FloatArray
    acromion: FloatArray
    upper_angle: FloatArray
    lower_angle: FloatArray
    spine_root: FloatArray
    coracoid: FloatArray
    head: FloatArray
    elbow: FloatArray


def shoulder_of(bench: Bench, side: str) -> Shoulder:
    """Pose one shoulder; arms beside the head turn the scapula outwards and up."""
    figure = bench.figure
    sign = 1.0 if side == "left" else -1.0
    rng = bench.rng(2 if sign > 0 else 3)
    flip = np.array([sign, 1.0, 1.0])
    tilt = rng.uniform(-4.0, 4.0, 3)

    def at(x: float, y: float, z: float) -> FloatArray:
        return figure.at(np.array([x, y, z]) * flip + tilt * flip * (0, 0.3, 1))

    if bench.person.arms == "up":
        ends = [
            at(12, -60, 103),
            at(36, -64, 112),
            at(70, -44, 126),
            at(104, -18, 142),
            at(122, 2, 152),
        ]
        glenoid, acromion = at(134, 20, 118), at(142, 12, 148)
        upper, lower, root = at(84, 76, 104), at(128, 86, -14), at(92, 88, 84)
        coracoid, head, elbow = at(120, -12, 124), at(152, 14, 136), at(172, -4, 320)
    else:
        ends = [
            at(12, -60, 100),
            at(38, -64, 104),
            at(76, -44, 112),
            at(116, -16, 118),
            at(140, 0, 118),
        ]
        glenoid, acromion = at(140, 14, 88), at(158, 8, 114)
        upper, lower, root = at(78, 80, 98), at(100, 98, -18), at(76, 92, 74)
        coracoid, head, elbow = at(122, -14, 100), at(164, 6, 84), at(190, 14, -190)
    return Shoulder(
        sign,
        curve(np.stack(ends), 12),
        glenoid,
        acromion,
        upper,
        lower,
        root,
        coracoid,
        head,
        elbow,
    )
