"""Skin, fat, the muscles of the trunk, breasts, and the CT table."""

from __future__ import annotations

import numpy as np

from napari_cxr3d.imaging.frames import FloatArray
from napari_cxr3d.phantom.anatomy.bench import Bench, curve
from napari_cxr3d.phantom.anatomy.person import normal
from napari_cxr3d.phantom.anatomy.sections import Sections
from napari_cxr3d.phantom.labels import Label, label_mask
from napari_cxr3d.phantom.scene import Rule
from napari_cxr3d.phantom.tissues import Tissue

__all__ = ["paint_breasts", "paint_muscles", "paint_table", "paint_trunk"]

_WALL = label_mask([Label.FAT, Label.MUSCLE])


def paint_table(bench: Bench, body: Sections) -> None:
    """Paint a curved carbon table under the back; it does not bend with the body."""
    back = float((body.rows[:, 2] + body.rows[:, 6]).max()) + 9.0
    top = bench.rule(Label.TABLE, Tissue.TABLE_SHELL, warped=False)
    core = bench.rule(Label.TABLE, Tissue.TABLE_CORE, warped=False)
    x = np.linspace(-205.0, 205.0, 15)
    y = back + 6.0 - x * x / 2200.0
    for rule, half in ((top, 7.0), (core, 5.2)):
        for k in range(len(x) - 1):
            a = np.array([x[k], y[k], -520.0])
            for shift in (0.0, 0.5):
                p = a + shift * np.array([x[k + 1] - x[k], y[k + 1] - y[k], 0.0])
                bench.builder.cone(
                    p, p + (0, 0, 1040.0), (17.0, 17.0), rule, flat=(0, 1, 0), flatness=17.0 / half
                )


def paint_trunk(bench: Bench, body: Sections) -> None:
    """Paint the trunk's skin, fat and its innermost layer of muscle."""
    builder = bench.builder
    builder.loft(body.rows, bench.rule(Label.SKIN, Tissue.SKIN))
    fat = bench.rule(Label.FAT, Tissue.FAT, mottle_hu=9.0, mottle_mm=9.0)
    builder.loft(body.grown(-2.2).rows, fat)


def paint_muscles(bench: Bench, spine: FloatArray, cages: dict[str, Sections]) -> None:
    """Paint the muscles that show in axial slices, from within outwards."""
    builder, figure = bench.builder, bench.figure
    size = figure.size
    strong = (1.0 if bench.person.sex == "male" else 0.75) * (1 - 0.003 * (bench.person.age - 50))
    strong *= 1 + 0.08 * normal(bench.rng(10))
    muscle = bench.rule(Label.MUSCLE, Tissue.MUSCLE, over=_WALL, mottle_hu=14.0, mottle_mm=5.0)
    gap = bench.rule(Label.FAT, Tissue.FAT, over=_WALL)
    for cage in cages.values():
        builder.loft(cage.grown(9.5).rows, muscle)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        cage = cages[side]
        _serratus(bench, cage, sign, strong, muscle)
        _latissimus(bench, cage, sign, strong, muscle)
        _pectorals(bench, cage, sign, strong, muscle)
        _abdominal(bench, cage, sign, strong, muscle)
        # Erector spinae beside the spinous processes.
        path = spine + (sign * size(27.0), size(45.0), 0.0)
        thick = size(np.interp(path[:, 2], [-180, -80, 60, 150], [27.0, 24.0, 19.0, 17.0])) * strong
        builder.tube(path, thick + 2.0, gap, flat=(0.3 * sign, 1, 0), flatness=1.45)
        builder.tube(path, thick, muscle, flat=(0.3 * sign, 1, 0), flatness=1.45)
        inner = spine + (sign * size(12.0), size(42.0), 0.0)
        builder.tube(inner, size(12.0) * strong, muscle)
        # Trapezius and rhomboids: a sheet from the spinous processes to the scapula.
        for level, reach in (
            (9, 38.0),
            (8, 52.0),
            (7, 62.0),
            (6, 70.0),
            (5, 76.0),
            (4, 84.0),
            (3, 92.0),
        ):
            deep = size(47.0) + np.interp(level, np.arange(len(thick)), thick) / 1.45
            start = spine[level] + (sign * size(5.0), deep, 0.0)
            goal = np.array([sign * size(reach), start[1] - size(2.0), start[2] + size(14.0)])
            builder.cone(
                start, goal, (size(14.0), size(13.0)), muscle, flat=(0, 1, 0), flatness=4.0 / strong
            )
        neck = np.stack(
            [
                spine[0] + (sign * size(26.0), size(40.0), size(30.0)),
                spine[2] + (sign * size(50.0), size(44.0), size(10.0)),
                spine[3] + (sign * size(100.0), size(30.0), size(6.0)),
            ]
        )
        builder.tube(
            curve(neck, 7),
            size(np.linspace(22.0, 17.0, 7)) * strong,
            muscle,
            flat=(0, 1, 0),
            flatness=1.3,
        )
        _neck(bench, spine, sign, strong, muscle)


def _serratus(bench: Bench, cage: Sections, sign: float, strong: float, muscle: Rule) -> None:
    z = bench.figure.scale[2] * np.linspace(-95.0, 85.0, 10)
    for back_to_front in np.linspace(0.75, -0.15, 8):
        angle = back_to_front if sign > 0 else np.pi - back_to_front
        path = cage.outline(z, np.full(len(z), angle), 11.5)
        bench.builder.tube(
            path,
            bench.figure.size(13.0),
            muscle,
            flat=(np.cos(angle), np.sin(angle), 0),
            flatness=2.6 / strong,
        )


def _latissimus(bench: Bench, cage: Sections, sign: float, strong: float, muscle: Rule) -> None:
    """From the lower back round the side up to the axilla."""
    figure = bench.figure
    goal = figure.at((sign * 138.0, 34.0, 92.0))
    for k, (low, angle) in enumerate(((-165.0, 0.95), (-130.0, 0.8), (-95.0, 0.66), (-60.0, 0.55))):
        around = angle if sign > 0 else np.pi - angle
        z = figure.scale[2] * np.linspace(low, 45.0, 8)
        turn = around + (0.12 if sign < 0 else -0.12) * np.linspace(0, 1, 8) * k
        path = np.concatenate([cage.outline(z, turn, figure.size(20.0)), [goal]])
        path = curve(path, 11)
        wide = figure.size(np.interp(np.linspace(0, 1, 11), [0, 0.6, 1], [20.0, 20.0, 15.0]))
        flat = (np.cos(around), np.sin(around), 0)
        bench.builder.tube(path, wide, muscle, flat=flat, flatness=3.4 / strong)


def _pectorals(bench: Bench, cage: Sections, sign: float, strong: float, muscle: Rule) -> None:
    """Fans from sternum and clavicle to the humerus, pectoralis minor beneath."""
    figure = bench.figure
    size = figure.size
    goal = figure.at((sign * 140.0, -30.0, 84.0))
    origins = (
        (60.0, 100.0),
        (34.0, 92.0),
        (24.0, 74.0),
        (22.0, 52.0),
        (24.0, 28.0),
        (30.0, 4.0),
        (42.0, -22.0),
    )
    for x, z in origins:
        height = figure.scale[2] * np.linspace(z, min(z + 28.0, 80.0), 6)
        start, stop = figure.scale[0] * x, figure.scale[0] * 112.0
        across = sign * np.linspace(start, stop, 6)
        row = cage.at(height)
        u = np.clip(
            (across - row[:, 1]) / np.where(across > row[:, 1], row[:, 3], row[:, 4]), -0.97, 0.97
        )
        angle = -np.arccos(u)
        on_wall = cage.outline(height, angle, size(16.0))
        path = curve(np.concatenate([on_wall, [goal]]), 10)
        along = np.gradient(path, axis=0)
        flat = np.stack([along[:, 1], -along[:, 0], 0 * along[:, 0]], -1)
        wide = size(np.linspace(15.0, 13.0, 10))
        bench.builder.tube(path, wide, muscle, flat=flat + 1e-6, flatness=2.5 / strong)
    minor = figure.at((sign * 118.0, -16.0, 102.0))
    for x, z in ((72.0, 26.0), (82.0, 0.0), (66.0, 48.0)):
        height = np.array([figure.scale[2] * z])
        start = cage.outline(height, np.array([-1.0 if sign > 0 else np.pi + 1.0]), size(12.0))[0]
        start[0] = sign * figure.scale[0] * x if abs(start[0]) < figure.scale[0] * x else start[0]
        bench.builder.cone(
            start,
            minor,
            (size(14.0), size(8.0)),
            muscle,
            flat=(0.4 * sign, -1, 0),
            flatness=2.4 / strong,
        )


def _abdominal(bench: Bench, cage: Sections, sign: float, strong: float, muscle: Rule) -> None:
    figure = bench.figure
    z = figure.scale[2] * np.linspace(-200.0, -70.0, 7)
    for angle, wide, thin in (
        (-1.5, 24.0, 2.9),
        (-1.2, 18.0, 2.6),
        (-0.6, 26.0, 3.2),
        (0.0, 26.0, 3.2),
        (0.5, 26.0, 3.2),
    ):
        around = angle if sign > 0 else np.pi - angle
        path = cage.outline(z, np.full(7, around), figure.size(13.0))
        bench.builder.tube(
            path,
            figure.size(wide),
            muscle,
            flat=(np.cos(around), np.sin(around), 0),
            flatness=thin / strong,
        )


def _neck(bench: Bench, spine: FloatArray, sign: float, strong: float, muscle: Rule) -> None:
    """Sternocleidomastoid, scalenes and the deep muscles beside the cervical spine."""
    figure = bench.figure
    size = figure.size
    mastoid = np.stack(
        [
            figure.at((sign * 14.0, -58.0, 106.0)),
            figure.at((sign * 34.0, -38.0, 170.0)),
            figure.at((sign * 46.0, -10.0, 235.0)),
        ]
    )
    bench.builder.tube(
        curve(mastoid, 7), size(11.0) * strong, muscle, flat=(sign, -1, 0), flatness=1.7
    )
    scalene = np.stack(
        [
            figure.at((sign * 46.0, -18.0, 112.0)),
            figure.at((sign * 32.0, 0.0, 160.0)),
            figure.at((sign * 24.0, 2.0, 230.0)),
        ]
    )
    bench.builder.tube(curve(scalene, 7), size(11.0) * strong, muscle)
    deep = np.stack(
        [
            spine[2] + (sign * size(30.0), size(34.0), 0.0),
            spine[0] + (sign * size(24.0), size(34.0), size(60.0)),
        ]
    )
    bench.builder.tube(deep, size(22.0) * strong, muscle)


def paint_breasts(bench: Bench, cages: dict[str, Sections]) -> None:
    """Paint a woman's breasts: flat and to the side when she lies, with a fold when she stands.

    Each is a wide mound over the pectoral muscle and a slope that rises from it to the collarbone;
    both meet the chest wall at a shallow angle, so that a radiograph shows a shadow without a rim,
    save for the lower fold of a standing woman.
    """
    person, figure = bench.person, bench.figure
    if person.sex != "female":
        return
    rng = bench.rng(11)
    fullness = {"slim": 0.82, "average": 1.0, "heavy": 1.22}[person.habitus]
    fullness *= 1 + 0.1 * normal(rng)
    dense = min(max(1.05 - 0.012 * (person.age - 25) + 0.12 * normal(rng), 0.1), 1.0)
    lying = person.arms == "up"
    over = label_mask([Label.AIR, Label.SKIN, Label.FAT])
    skin = bench.rule(Label.SKIN, Tissue.SKIN, over=label_mask([Label.AIR]))
    fat = bench.rule(Label.FAT, Tissue.FAT, over=over, mottle_hu=8.0)
    gland = bench.rule(
        Label.BREAST,
        Tissue.BREAST_GLAND,
        over=label_mask([Label.FAT]),
        pattern_mm=9.0,
        pattern_above=0.45 - 0.75 * dense,
        pattern_soft=0.5,
    )
    up = np.array([0.0, 0.0, 1.0])
    for side, sign in (("left", 1.0), ("right", -1.0)):
        z = figure.scale[2] * (8.0 if lying else -18.0)
        angle = -0.80 if lying else -0.98
        around = angle if sign > 0 else np.pi - angle
        wall = cages[side].outline(np.array([z]), np.array([around]), 12.0)[0]
        out = np.array([np.cos(around), np.sin(around), 0.0])
        axes = np.stack([np.array([-out[1], out[0], 0.0]), out, up], axis=-1)
        scale = fullness * figure.scale
        height = (20.0 if lying else 32.0) * fullness + 0.75 * figure.fat_mm + 6.0
        mound = np.array([76.0, 58.0, 70.0]) * scale
        slope = np.array([78.0, 58.0, 84.0]) * scale
        shapes = (
            (wall + (height - mound[1]) * out, mound),
            (wall + (0.66 * height - slope[1]) * out + 20.0 * scale[2] * up, slope),
        )
        for rule, inset in ((skin, 0.0), (fat, 2.2)):
            for center, half in shapes:
                bench.builder.ellipsoid(center, half - inset, rule, axes=axes)
        middle = wall + 0.42 * height * out - (0.0 if lying else 8.0) * up
        bench.builder.ellipsoid(
            middle, np.array([42.0, 0.5 * height / scale[1], 38.0]) * scale, gland, axes=axes
        )
