"""Clavicle, scapula and humerus, with the muscles around them."""

from __future__ import annotations

import numpy as np

from napari_cxr3d.imaging.frames import FloatArray
from napari_cxr3d.phantom.anatomy.bench import Bench
from napari_cxr3d.phantom.anatomy.chest_wall import Shoulder
from napari_cxr3d.phantom.labels import Label, label_mask
from napari_cxr3d.phantom.tissues import Tissue

__all__ = ["paint_shoulder_bones", "paint_shoulder_muscles"]


def paint_shoulder_muscles(bench: Bench, shoulder: Shoulder) -> None:
    """Paint skin, fat and muscle of the arm, the muscles of the scapula and the deltoid."""
    builder, figure = bench.builder, bench.figure
    size = figure.size
    strong = 1.0 if bench.person.sex == "male" else 0.82
    fat = figure.fat_mm
    arm = np.stack([shoulder.head, 0.5 * (shoulder.head + shoulder.elbow), shoulder.elbow])
    thick = size(np.array([36.0, 34.0, 28.0])) * strong
    outside = label_mask([Label.AIR])
    for rule, more in (
        (bench.rule(Label.SKIN, Tissue.SKIN, over=outside), fat * 0.7 + 2.0),
        (bench.rule(Label.FAT, Tissue.FAT, over=outside | label_mask([Label.SKIN])), fat * 0.7),
    ):
        builder.tube(arm, thick + more, rule)
    soft = label_mask([Label.FAT, Label.SKIN, Label.MUSCLE])
    muscle = bench.rule(Label.MUSCLE, Tissue.MUSCLE, over=soft, rough_mm=1.5, rough_scale_mm=15.0)
    builder.tube(arm, thick, muscle)
    builder.ellipsoid(shoulder.head, np.array([34.0, 38.0, 40.0]) * strong * figure.scale, muscle)
    # Infraspinatus and subscapularis on both faces of the blade.
    normal = _blade_normal(shoulder)
    for point, radius in _blade(shoulder, size):
        for shift, thin in ((7.0, 2.2), (-6.0, 2.4)):
            builder.cone(
                shoulder.glenoid + shift * normal, point + shift * normal,
                (size(17.0), radius * 1.15), muscle, flat=normal, flatness=thin,
            )  # fmt: skip


def paint_shoulder_bones(bench: Bench, shoulder: Shoulder) -> None:
    """Paint clavicle, scapula and humerus."""
    builder, size = bench.builder, bench.figure.size
    cortex, spongy = bench.rule(Label.CLAVICLE, 700.0), bench.rule(Label.CLAVICLE, 260.0)
    thick = size(np.interp(np.linspace(0, 1, 12), [0, 0.15, 0.5, 1], [10.0, 7.0, 5.6, 6.6]))
    builder.tube(shoulder.clavicle, thick, cortex)
    builder.tube(shoulder.clavicle, thick - 2.0, spongy)
    normal = _blade_normal(shoulder)
    plate = bench.rule(Label.SCAPULA, 430.0)
    for point, radius in _blade(shoulder, size):
        builder.cone(
            shoulder.glenoid, point, (size(8.0), radius), plate, flat=normal,
            flatness=radius / size(2.2),
        )  # fmt: skip
    bone = bench.rule(Label.SCAPULA, 560.0)
    marrow = bench.rule(Label.SCAPULA, 230.0, over=label_mask([Label.SCAPULA]))
    border = np.stack(
        [shoulder.glenoid, 0.5 * (shoulder.glenoid + shoulder.lower_angle), shoulder.lower_angle]
    )
    for path, radii in (
        (border, np.array([8.0, 5.0, 4.0])),
        (np.stack([shoulder.spine_root, shoulder.acromion]), np.array([3.5, 6.5])),
        (np.stack([shoulder.glenoid, shoulder.coracoid]), np.array([8.0, 5.0])),
    ):
        builder.tube(path, size(radii), bone)
        builder.tube(path, size(np.maximum(radii - 2.0, 0.8)), marrow)
    builder.ellipsoid(shoulder.glenoid, size(np.array([8.0, 13.0, 17.0])), bone)
    builder.ellipsoid(shoulder.glenoid, size(np.array([5.5, 10.5, 14.5])), marrow)
    _humerus(bench, shoulder)


def _humerus(bench: Bench, shoulder: Shoulder) -> None:
    builder, size = bench.builder, bench.figure.size
    cortex = bench.rule(Label.HUMERUS, 780.0)
    spongy = bench.rule(Label.HUMERUS, 210.0, mottle_hu=30.0, mottle_mm=5.0)
    hollow = bench.rule(Label.HUMERUS, 10.0)
    axis = shoulder.elbow - shoulder.head
    axis = axis / np.sqrt(axis @ axis)
    neck = shoulder.head + size(30.0) * axis
    builder.cone(shoulder.head, neck, (size(22.0), size(13.0)), cortex)
    builder.cone(neck, shoulder.elbow, (size(13.0), size(11.0)), cortex)
    builder.cone(shoulder.head, neck, (size(20.5), size(10.5)), spongy)
    builder.cone(neck + size(8.0) * axis, shoulder.elbow, (size(7.5), size(6.0)), hollow)


def _blade_normal(shoulder: Shoulder) -> FloatArray:
    normal = np.cross(
        shoulder.upper_angle - shoulder.glenoid, shoulder.lower_angle - shoulder.glenoid
    )
    unit: FloatArray = normal / np.sqrt(normal @ normal)
    return unit if unit[1] > 0 else -unit


def _blade(shoulder: Shoulder, size: object) -> list[tuple[FloatArray, float]]:
    """Points along the medial border, with the half width of the strip that ends there."""
    strips = []
    for t in np.linspace(0.0, 1.0, 6):
        corner = (1 - t) * (1 - t) * shoulder.upper_angle + 2 * t * (1 - t) * (
            shoulder.spine_root + 0.35 * (shoulder.spine_root - shoulder.glenoid)
        ) + t * t * shoulder.lower_angle  # fmt: skip
        strips.append((corner, float(size(13.0))))  # type: ignore[operator]
    return strips
