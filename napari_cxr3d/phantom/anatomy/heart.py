"""The heart: chambers, muscle, fat, pericardium, valves' planes and coronaries.

Sizes after Lang et al., J. Am. Soc. Echocardiogr. 28, 1-39 (2015).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_cxr3d.imaging.frames import FloatArray
from napari_cxr3d.phantom.anatomy.bench import AERATED, Bench, curve
from napari_cxr3d.phantom.anatomy.model import Ellipsoidal
from napari_cxr3d.phantom.anatomy.person import normal
from napari_cxr3d.phantom.labels import Label, label_mask
from napari_cxr3d.phantom.scene import Rule
from napari_cxr3d.phantom.tissues import Tissue

__all__ = ["Heart", "heart_of", "paint_coronaries", "paint_heart", "paint_pericardium"]


@dataclass(frozen=True, eq=False)
class Heart:
    """Where the parts of the heart lie.

    Attributes
    ----------
    parts : dict of str to Ellipsoidal
        "heart", "left ventricle" (with its muscle), "left ventricle cavity", "right ventricle",
        "outflow tract", "right atrium", "left atrium".
    apex : ndarray, shape (3,)
        LPS mm.
    coronaries : dict of str to ndarray, shape (N, 3)
        Centrelines.
    scale : float
        Size, 1 for the reference.
    shift : ndarray, shape (3,)
        Displacement, reference mm.
    """

    parts: dict[str, Ellipsoidal]
    apex: FloatArray
    coronaries: dict[str, FloatArray]
    scale: float
    shift: FloatArray

    def move(self, point: Any) -> FloatArray:
        """A reference point, moved and grown with the heart, in the reference frame still."""
        moved: FloatArray = (
            _CRUX + self.scale * (np.asarray(point, np.float64) - _CRUX) + self.shift
        )
        return moved


_CRUX = np.array([8.0, -28.0, -30.0])  # where the four chambers meet, reference mm
_UP = np.array([0.0, 0.0, 1.0])


def _frame(long: FloatArray, hint: FloatArray) -> FloatArray:
    along = long / np.sqrt(long @ long)
    across = np.cross(hint, along)
    across /= np.sqrt(across @ across)
    return np.stack([along, across, np.cross(along, across)], axis=-1)


def heart_of(bench: Bench) -> Heart:
    """Pose and size the heart."""
    person, figure = bench.person, bench.figure
    rng = bench.rng(30)
    size = figure.size
    s = person.heart_scale * (0.95 if person.sex == "female" else 1.0)
    shift = np.array([3.0, 2.5, 3.0]) * normal(rng, 3).clip(-2, 2)
    # In a deep breath the heart hangs steeply; the stout, whose diaphragm is high, have it lie.
    steep = 0.50 + 1.2 * (figure.inspiration - 1.0) + 0.05 * normal(rng)
    shift += (0.0, 0.0, -10.0 - 75.0 * (figure.inspiration - 1.0))
    shift += (person.mediastinal_shift_mm / figure.scale[0], 0.0, 0.0)
    axes = _frame(np.array([0.70, -0.53, -steep]), _UP)
    along = axes[:, 0]
    lv, la, rh = person.left_ventricle_scale, person.left_atrium_scale, person.right_heart_scale

    def move(point: FloatArray) -> FloatArray:
        moved: FloatArray = _CRUX + s * (np.asarray(point, np.float64) - _CRUX) + shift
        return moved

    def part(at: Any, half: tuple[float, float, float], turn: FloatArray) -> Ellipsoidal:
        return Ellipsoidal(figure.at(move(np.asarray(at))), size(s * np.array(half)), turn)

    mitral = np.array([16.0, -20.0, -28.0])
    level = np.eye(3)
    tilted = _frame(np.array([0.78, -0.28, -0.9 * steep]), _UP)
    parts = {
        "heart": part(
            (20, -42, -40), (68.0, 47.0, 50.0), _frame(np.array([0.82, -0.4, -0.38]), _UP)
        ),
        "left ventricle": part(mitral + 43.0 * lv * along, (52.0 * lv, 34.0 * lv, 35.0 * lv), axes),
        "left ventricle cavity": part(
            mitral + 38.0 * lv * along, (44.0 * lv, 23.5 * lv, 24.0 * lv), axes
        ),
        "right ventricle": part((24, -64, -52), (46.0 * rh, 25.0 * rh, 32.0 * rh), tilted),
        "outflow tract": part((18, -58, -8), (18.0 * rh, 18.0 * rh, 30.0), level),
        "right atrium": part((-18, -36, -36), (25.0 * rh, 30.0 * rh, 36.0 * rh), level),
        "left atrium": part((2, -6, -8), (36.0 * la, 20.0 * la, 26.0 * la), level),
    }
    apex = parts["left ventricle"].surface_point(along)
    root = figure.at(move(np.array([4.0, -32.0, -2.0])))
    return Heart(parts, apex, _coronaries(root, parts, s), s, shift)


def _coronaries(root: FloatArray, parts: dict[str, Ellipsoidal], s: float) -> dict[str, FloatArray]:
    ventricle, right, atrium = (
        parts["left ventricle"],
        parts["right ventricle"],
        parts["right atrium"],
    )

    def on(body: Ellipsoidal, direction: tuple[float, float, float]) -> FloatArray:
        d = np.asarray(direction, np.float64)
        point = body.surface_point(d)
        return point + 1.5 * d / np.sqrt(d @ d)

    ostium_left = root + s * np.array([12.0, 2.0, 4.0])
    fork = root + s * np.array([24.0, -3.0, 2.0])
    lad = np.stack(
        [
            fork,
            on(ventricle, (-0.35, -0.35, 1.0)),
            on(ventricle, (0.1, -0.75, 0.75)),
            on(ventricle, (0.45, -1.0, 0.15)),
            on(ventricle, (0.75, -0.9, -0.45)),
        ]
    )
    lcx = np.stack(
        [
            fork,
            on(ventricle, (0.1, 0.4, 1.0)),
            on(ventricle, (0.35, 0.85, 0.4)),
            on(ventricle, (0.2, 1.0, -0.3)),
        ]
    )
    ostium_right = root + s * np.array([-4.0, -14.0, 4.0])
    groove = 0.5 * (right.center + atrium.center)
    rca = np.stack(
        [
            ostium_right,
            on(atrium, (0.45, -1.0, 0.9)),
            on(atrium, (0.35, -1.0, -0.1)),
            on(atrium, (0.5, -0.6, -1.0)),
            groove + s * np.array([22.0, 22.0, -34.0]),
        ]
    )
    return {
        "LM": curve(np.stack([ostium_left, fork]), 5),
        "LAD": curve(lad, 24),
        "LCx": curve(lcx, 18),
        "RCA": curve(rca, 24),
    }


def paint_pericardium(bench: Bench, heart: Heart) -> None:
    """Paint the fat around the heart, with the fat pads of both angles."""
    builder, figure = bench.builder, bench.figure
    fluid = bench.person.pericardial_fluid_mm
    over = AERATED | label_mask([Label.MEDIASTINUM])
    fat_mm = {"slim": 2.5, "average": 4.5, "heavy": 8.0}[bench.person.habitus]
    fat = bench.rule(Label.PERICARDIUM, Tissue.FAT, over=over, mottle_hu=10.0)
    sac = bench.rule(Label.PERICARDIUM, 25.0, over=over | label_mask([Label.PERICARDIUM]))
    names = ("left ventricle", "right ventricle", "right atrium", "outflow tract", "left atrium")
    whole = heart.parts["heart"]
    builder.ellipsoid(whole.center, whole.semi_axes + fluid, fat, axes=whole.axes)
    for name in names:
        part = heart.parts[name]
        more = 0.0 if name == "left atrium" else fat_mm
        builder.ellipsoid(part.center, part.semi_axes + fluid + more + 2.0, fat, axes=part.axes)
    pads = (
        ((70.0, -80.0, -80.0), (24.0, 15.0, 16.0)),
        ((-36.0, -78.0, -76.0), (19.0, 14.0, 15.0)),
    )
    grow = {"slim": 0.7, "average": 1.0, "heavy": 1.4}[bench.person.habitus]
    low = 12.0 + 70.0 * (figure.inspiration - 1.0)
    for center, half in pads:
        builder.ellipsoid(
            figure.at(np.array(center) - (0, 0, low)), np.array(half) * grow * figure.scale, fat
        )
    if fluid > 0:
        water = bench.rule(
            Label.PERICARDIAL_FLUID, Tissue.FLUID, over=over | label_mask([Label.PERICARDIUM])
        )
        for name in names[:4]:
            part = heart.parts[name]
            builder.ellipsoid(part.center, part.semi_axes + fluid + 2.0, sac, axes=part.axes)
        for name in names[:4]:
            part = heart.parts[name]
            builder.ellipsoid(part.center, part.semi_axes + fluid + 1.0, water, axes=part.axes)
    else:
        for name in names[:4]:
            part = heart.parts[name]
            builder.ellipsoid(part.center, part.semi_axes + fat_mm, sac, axes=part.axes)
            builder.ellipsoid(
                part.center, part.semi_axes + fat_mm - 1.0, _fat_rule(bench), axes=part.axes
            )


def _fat_rule(bench: Bench) -> Rule:
    """Epicardial fat, inside the pericardium."""
    return bench.rule(
        Label.PERICARDIUM, Tissue.FAT, over=label_mask([Label.PERICARDIUM]), mottle_hu=10.0
    )


def paint_heart(bench: Bench, heart: Heart) -> None:
    """Paint muscle and blood of the four chambers, the left ventricle last."""
    builder, bolus = bench.builder, bench.bolus
    parts = heart.parts
    over = AERATED | label_mask(
        [
            Label.PERICARDIUM,
            Label.MEDIASTINUM,
            Label.MYOCARDIUM,
            Label.PERICARDIAL_FLUID,
            Label.RIGHT_VENTRICLE,
            Label.RIGHT_ATRIUM,
            Label.LEFT_ATRIUM,
        ]
    )
    wall = bench.rule(Label.MYOCARDIUM, Tissue.MYOCARDIUM, over=over)
    core = bench.figure.at(heart.move((10.0, -38.0, -32.0)))
    builder.ellipsoid(core, bench.figure.size(heart.scale * np.array([30.0, 26.0, 30.0])), wall)

    def paint(name: str, label: Label, hu: float, thick: float) -> None:
        part = parts[name]
        builder.ellipsoid(part.center, part.semi_axes, wall, axes=part.axes)
        blood = bench.rule(label, hu, over=over)
        builder.ellipsoid(part.center, part.semi_axes - thick, blood, axes=part.axes)

    paint("left atrium", Label.LEFT_ATRIUM, bolus.left_heart, 2.0)
    paint("right atrium", Label.RIGHT_ATRIUM, 0.5 * (bolus.right_heart + bolus.lower_caval), 2.0)
    paint("right ventricle", Label.RIGHT_VENTRICLE, bolus.right_heart, 3.5)
    paint("outflow tract", Label.RIGHT_VENTRICLE, bolus.right_heart, 3.0)
    ventricle, cavity = parts["left ventricle"], parts["left ventricle cavity"]
    builder.ellipsoid(ventricle.center, ventricle.semi_axes, wall, axes=ventricle.axes)
    blood = bench.rule(Label.LEFT_VENTRICLE, bolus.left_heart, over=over)
    builder.ellipsoid(cavity.center, cavity.semi_axes, blood, axes=cavity.axes)
    papillary = bench.rule(
        Label.MYOCARDIUM, Tissue.MYOCARDIUM, over=label_mask([Label.LEFT_VENTRICLE])
    )
    for up in (-0.45, 0.55):
        a = cavity.center + cavity.axes @ (cavity.semi_axes * (0.7, up, -0.4))
        b = cavity.center + cavity.axes @ (cavity.semi_axes * (0.1, up * 0.9, -0.35))
        builder.cone(a, b, (5.0, 3.5), papillary)


def paint_coronaries(bench: Bench, heart: Heart) -> None:
    """Paint the coronary arteries in the epicardial fat."""
    over = label_mask([Label.PERICARDIUM, Label.MYOCARDIUM, Label.MEDIASTINUM])
    blood = bench.rule(Label.AORTA, bench.bolus.aorta, over=over)
    for name, line in heart.coronaries.items():
        start = 2.2 if name == "LM" else 1.9
        bench.builder.tube(line, np.linspace(start, 2.0 if name == "LM" else 0.9, len(line)), blood)
