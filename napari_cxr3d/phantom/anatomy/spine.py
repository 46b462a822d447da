"""The vertebral column from C6 to L2."""

from __future__ import annotations

import numpy as np

from napari_cxr3d.imaging.frames import FloatArray
from napari_cxr3d.phantom.anatomy.bench import AERATED, Bench
from napari_cxr3d.phantom.anatomy.figure import VERTEBRAE
from napari_cxr3d.phantom.labels import Label, label_mask
from napari_cxr3d.phantom.scene import Rule
from napari_cxr3d.phantom.tissues import Tissue, trabecular_hu

__all__ = ["paint_spine"]

# Half width and half depth of the bodies and lengths of the processes, mm; after Panjabi et
# al., Spine 16, 861-869 (1991).
_HALF_WIDTH = (
    12.5,
    13.5,
    14.5,
    14.5,
    13.8,
    13.5,
    13.8,
    14.3,
    15.0,
    15.8,
    17.0,
    18.5,
    20.0,
    21.5,
    22.5,
    23.0,
)
_HALF_DEPTH = (
    8.0,
    8.5,
    9.0,
    9.8,
    10.8,
    11.8,
    12.6,
    13.3,
    14.0,
    14.6,
    15.2,
    15.7,
    16.2,
    16.6,
    17.0,
    17.2,
)
_TRANSVERSE = (22, 28, 36, 35, 33, 32, 32, 32, 31, 30, 29, 27, 25, 23, 34, 36)


def paint_spine(bench: Bench) -> FloatArray:
    """Paint vertebrae, discs, canal and the tissue around them.

    Returns
    -------
    ndarray, shape (16, 3)
        Centres of the vertebral bodies.
    """
    builder, figure = bench.builder, bench.figure
    centers = figure.spine()
    marrow = trabecular_hu(bench.person.age, bench.person.sex)
    shell = 200 + 0.7 * marrow
    _soft_bed(bench, centers)
    tangent = np.gradient(centers, axis=0)
    tangent /= np.sqrt((tangent**2).sum(axis=1))[:, None]
    bone = bench.rule(Label.VERTEBRA, shell, rough_mm=0.6, rough_scale_mm=5.0)
    spongy = bench.rule(Label.VERTEBRA, marrow, mottle_hu=45.0, mottle_mm=3.0)
    disc = bench.rule(Label.DISC, Tissue.DISC)
    for k, name in enumerate(VERTEBRAE):
        up = -tangent[k]
        side = np.array([1.0, 0.0, 0.0])
        back = np.cross(up, side)
        back /= np.sqrt(back @ back)
        axes = np.stack([side, back, up], axis=-1)
        pitch = 0.5 * np.sqrt(((centers[max(k - 1, 0)] - centers[min(k + 1, 15)]) ** 2).sum())
        pitch *= 2.0 if k in (0, 15) else 1.0
        a, b = figure.size(_HALF_WIDTH[k]), figure.size(_HALF_DEPTH[k])
        h = 0.5 * pitch * (0.82 if name.startswith("T") else 0.76)
        _body(bench, centers[k], axes, (a, b, h), bone, spongy)
        if k + 1 < len(VERTEBRAE):
            between = 0.5 * (centers[k] + centers[k + 1])
            builder.cone(
                between - 0.1 * side, between + 0.1 * side, (a * 0.96, a * 0.96), disc,
                flat=up, flatness=a / max(pitch / 2 - h, 1.5),
            )  # fmt: skip
        _arch(bench, name, centers[k], axes, (a, b, h), figure.size(_TRANSVERSE[k]), bone, spongy)
    _canal(bench, centers)
    return centers


def _body(
    bench: Bench,
    center: FloatArray,
    axes: FloatArray,
    size: tuple[float, float, float],
    bone: Rule,
    spongy: Rule,
) -> None:
    a, b, h = size
    builder = bench.builder
    side, _, up = axes.T
    # A waisted drum: three stacked slabs, wider at the end plates.
    for height, wide in ((-0.72, 1.0), (0.0, 0.93), (0.72, 1.0)):
        middle = center + height * h * up
        for shift in (-0.42, 0.42):
            builder.ellipsoid(
                middle + shift * a * side, (a * 0.66 * wide, b * wide, h * 0.52), bone, axes=axes
            )
        builder.ellipsoid(middle, (a * 0.8 * wide, b * 1.0 * wide, h * 0.52), bone, axes=axes)
    builder.ellipsoid(center, (a * 0.97, b * 0.9, h * 0.98), bone, axes=axes)
    for shift in (-0.36, 0.36):
        builder.ellipsoid(
            center + shift * a * side, (a * 0.6, b * 0.88, h * 0.88), spongy, axes=axes
        )
    builder.ellipsoid(center, (a * 0.78, b * 0.9, h * 0.9), spongy, axes=axes)


def _arch(
    bench: Bench,
    name: str,
    center: FloatArray,
    axes: FloatArray,
    size: tuple[float, float, float],
    transverse: float,
    bone: Rule,
    spongy: Rule,
) -> None:
    a, b, h = size
    builder, grow = bench.builder, bench.figure.size
    side, back, up = axes.T
    canal = grow(8.5)
    dense = bench.rule(Label.VERTEBRA, 430.0, rough_mm=0.6, rough_scale_mm=5.0)
    root = center + (b * 0.75) * back + h * 0.25 * up
    spinous = center + (b + 2 * canal + grow(4.0)) * back + h * -0.15 * up
    steep = 0.9 if name in {"T4", "T5", "T6", "T7", "T8", "T9"} else 0.45
    tip = spinous + grow(24.0) * back - grow(24.0) * steep * up
    for sign in (-1.0, 1.0):
        pedicle = root + sign * a * 0.72 * side
        joint = pedicle + (canal * 1.15) * back + sign * grow(1.5) * side
        builder.cone(pedicle, joint, (grow(5.2), grow(5.6)), bone, flat=side, flatness=1.3)
        builder.cone(joint, spinous + sign * grow(2) * side, (grow(8.5), grow(8.0)), dense,
                     flat=back, flatness=1.9)  # fmt: skip
        for vertical in (-1.0, 1.0):
            facet = joint + vertical * h * 0.75 * up + grow(2.0) * back
            builder.cone(joint, facet, (grow(6.0), grow(5.2)), dense, flat=back, flatness=1.3)
        backward = 0.0 if name.startswith("L") else 0.42
        end = (
            joint
            + sign * max(transverse - a * 0.8, grow(5)) * side
            + backward * transverse * 0.5 * back
        )
        builder.cone(joint, end, (grow(5.6), grow(6.2)), bone)
        builder.cone(joint, end, (grow(3.4), grow(4.2)), spongy)
    builder.cone(spinous, tip, (grow(9.0), grow(6.5)), bone, flat=side, flatness=2.2)
    builder.cone(spinous, tip, (grow(6.5), grow(4.5)), spongy, flat=side, flatness=2.6)


def _canal(bench: Bench, centers: FloatArray) -> None:
    figure = bench.figure
    depth = figure.size(np.array(_HALF_DEPTH))
    path = centers + np.stack([0 * depth, depth + figure.size(8.5), 0 * depth], -1)
    canal = bench.rule(
        Label.SPINAL_CANAL, Tissue.SPINAL_CANAL,
        over=label_mask([Label.VERTEBRA, Label.DISC, Label.MUSCLE, Label.FAT]),
    )  # fmt: skip
    bench.builder.tube(path, figure.size(8.2), canal)
    cord = bench.rule(Label.SPINAL_CANAL, 38.0, over=label_mask([Label.SPINAL_CANAL]))
    bench.builder.tube(path, figure.size(4.6), cord)


def _soft_bed(bench: Bench, centers: FloatArray) -> None:
    """Prevertebral tissue, and muscle between and behind the transverse processes."""
    figure = bench.figure
    over = AERATED | label_mask([Label.FAT, Label.MUSCLE, Label.ABDOMINAL_FAT, Label.MEDIASTINUM])
    fat = bench.rule(Label.MEDIASTINUM, Tissue.FAT, over=AERATED)
    width = figure.size(np.array(_HALF_WIDTH))
    bench.builder.tube(centers, width + figure.size(3.0), fat, flat=(0, 1, 0), flatness=1.06)
    muscle = bench.rule(Label.MUSCLE, Tissue.MUSCLE, over=over)
    back = centers + np.array([0.0, figure.size(36.0), 0.0])
    bench.builder.tube(back, width + figure.size(9.0), muscle, flat=(0, 1, 0), flatness=1.5)
