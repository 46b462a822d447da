"""From the hila into the lungs: lobar arteries and bronchi, veins, and all that grows on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from napari_cxr3d.imaging.frames import FloatArray
from napari_cxr3d.phantom.anatomy.bench import AERATED, Bench, curve
from napari_cxr3d.phantom.anatomy.heart import Heart
from napari_cxr3d.phantom.anatomy.lungs import LungSpace
from napari_cxr3d.phantom.anatomy.model import Branch, Side
from napari_cxr3d.phantom.anatomy.trees import Grower, strew
from napari_cxr3d.phantom.anatomy.vessels import GreatVessels
from napari_cxr3d.phantom.labels import Label, label_mask
from napari_cxr3d.phantom.tissues import Tissue

__all__ = ["LungTrees", "grow_trees", "paint_airways", "paint_lung_vessels"]


@dataclass(frozen=True)
class _Lobe:
    """One lobe's hilum, reference mm: courses of artery and bronchus with radii, and segments.

    `segments` are named directions from the lobe's middle in units of its half spread.
    """

    label: Label
    name: str
    side: Side
    artery: tuple[tuple[float, float, float, float], ...]
    bronchus: tuple[tuple[float, float, float, float], ...]
    vein: tuple[tuple[float, float, float, float], ...]
    segments: dict[str, tuple[float, float, float]]


_LOBES: Final = (
    _Lobe(
        Label.RIGHT_UPPER_LOBE,
        "right upper lobe",
        "right",
        ((-32, -3, 30, 6.5), (-40, -6, 40, 5.8), (-47, -6, 50, 5.0)),
        ((-13, 11, 43, 5.4), (-30, 8, 44, 4.8), (-42, 5, 48, 4.3)),
        ((-30, 4, 8, 5.5), (-40, -10, 12, 5.2), (-47, -18, 26, 4.6)),
        {"apical": (0, 0, 1), "posterior": (-0.3, 1, -0.3), "anterior": (-0.1, -1, -0.4)},
    ),
    _Lobe(
        Label.RIGHT_MIDDLE_LOBE,
        "right middle lobe",
        "right",
        ((-46, 2, 12, 4.6), (-54, -10, 2, 4.0), (-62, -20, -6, 3.6)),
        ((-37, 17, 8, 4.0), (-46, 2, -2, 3.6), (-54, -12, -8, 3.2)),
        ((-30, 2, 4, 4.0), (-42, -12, -4, 3.6), (-52, -22, -12, 3.2)),
        {"lateral": (-1, 0.3, 0), "medial": (0.8, -0.6, 0)},
    ),
    _Lobe(
        Label.RIGHT_LOWER_LOBE,
        "right lower lobe",
        "right",
        ((-43, 4, 19, 7.8), (-48, 12, 4, 7.0), (-50, 20, -14, 6.4)),
        ((-37, 18, 6, 5.4), (-40, 22, -6, 5.0), (-43, 26, -20, 4.6)),
        ((-28, 16, -8, 6.0), (-38, 24, -16, 5.4), (-46, 32, -28, 5.0)),
        {
            "superior": (0, 0.5, 1.1),
            "medial basal": (0.9, -0.3, -0.5),
            "anterior basal": (-0.2, -1, -0.5),
            "lateral basal": (-0.9, 0.1, -0.5),
            "posterior basal": (0.2, 0.9, -0.6),
        },
    ),
    _Lobe(
        Label.LEFT_UPPER_LOBE,
        "left upper lobe",
        "left",
        ((41, 11, 38, 6.6), (47, 0, 46, 5.8), (52, -6, 52, 5.0)),
        ((42, 21, 21, 5.0), (50, 10, 24, 4.6), (56, 2, 28, 4.2)),
        ((34, 4, 10, 5.6), (44, -10, 16, 5.2), (50, -18, 24, 4.6)),
        {
            "apicoposterior": (0, 0.7, 1),
            "anterior": (0.1, -0.8, 0.4),
            "superior lingular": (0.5, -0.6, -0.5),
            "inferior lingular": (0.2, -0.7, -1.1),
        },
    ),
    _Lobe(
        Label.LEFT_LOWER_LOBE,
        "left lower lobe",
        "left",
        ((46, 20, 20, 7.6), (49, 26, 4, 6.8), (51, 30, -14, 6.2)),
        ((44, 23, 14, 5.2), (46, 28, 0, 4.9), (49, 31, -16, 4.5)),
        ((32, 18, -6, 6.0), (42, 26, -14, 5.4), (48, 34, -26, 5.0)),
        {
            "superior": (0, 0.5, 1.1),
            "anteromedial basal": (0, -0.9, -0.5),
            "lateral basal": (0.9, 0.1, -0.5),
            "posterior basal": (-0.2, 0.9, -0.6),
        },
    ),
)


@dataclass(frozen=True, eq=False)
class LungTrees:
    """The three trees, and the points that they reach.

    Attributes
    ----------
    arteries, veins, airways : tuple of Branch
        See `Anatomy`.
    targets : dict of Label to ndarray, shape (N, 3)
        Points through each lobe.
    """

    arteries: tuple[Branch, ...]
    veins: tuple[Branch, ...]
    airways: tuple[Branch, ...]
    targets: dict[Label, FloatArray]


def grow_trees(
    bench: Bench, space: LungSpace, vessels: GreatVessels, heart: Heart, *, spacing_mm: float = 15.5
) -> LungTrees:
    """Grow arteries with bronchi, and veins between them, into every lobe."""
    person = bench.person
    rng = bench.rng(50)
    arteries = Grower(0.72 * person.vessel_scale, bench.rng(51))
    airways = Grower(0.5, bench.rng(52))
    veins = Grower(0.68 * person.vessel_scale, bench.rng(53))
    trunk = arteries.add("pulmonary trunk", *_split(vessels.trunk), 0, "middle", None, -1)
    mains: dict[str, tuple[int, int]] = {}
    trachea = airways.add("trachea", *_split(vessels.trachea), 0, "middle", None, -1)
    both: tuple[tuple[Side, FloatArray, FloatArray], ...] = (
        ("right", vessels.right_main, vessels.right_bronchus),
        ("left", vessels.left_main, vessels.left_bronchus),
    )
    for side, artery, bronchus in both:
        mains[side] = (
            arteries.add(f"{side} main pulmonary artery", *_split(artery), 1, side, None, trunk),
            airways.add(f"{side} main bronchus", *_split(bronchus), 1, side, None, trachea),
        )
    targets: dict[Label, FloatArray] = {}
    for side in ("right", "left"):
        points, lobes = strew(space, side, spacing_mm, 3.5, rng)
        for lobe in _LOBES:
            if lobe.side == side:
                targets[lobe.label] = points[lobes == int(lobe.label)]
    between = np.array([0.5, 0.5, 0.5]) * spacing_mm
    atrium = heart.parts["left atrium"]
    for lobe in _LOBES:
        group = targets[lobe.label]
        main = mains[lobe.side]
        _plant(bench, arteries, lobe, lobe.artery, group, main[0], f"{lobe.name} artery", 0.75)
        _plant(bench, airways, lobe, lobe.bronchus, group, main[1], f"{lobe.name} bronchus", 0.8)
        shifted = group + between
        shifted = shifted[space.free(shifted, lobe.side, 3.5)]
        ostium = (
            atrium.center + (bench.figure.at(np.array(lobe.vein[0][:3])) - atrium.center) * 0.55
        )
        _plant(bench, veins, lobe, lobe.vein, shifted, -1, f"{lobe.name} vein", 0.7, ostium)
    return LungTrees(
        tuple(arteries.branches), tuple(veins.branches), tuple(airways.branches), targets
    )


def _split(table: FloatArray) -> tuple[FloatArray, FloatArray]:
    return table[:, :3], table[:, 3]


def _plant(
    bench: Bench,
    grower: Grower,
    lobe: _Lobe,
    course: tuple[tuple[float, ...], ...],
    group: FloatArray,
    parent: int,
    name: str,
    narrow: float,
    ostium: FloatArray | None = None,
) -> None:
    """The lobar stem, its segments, and all that grows from them."""
    figure = bench.figure
    table = np.array(course, np.float64)
    shift = np.array([bench.person.mediastinal_shift_mm / figure.scale[0] * 0.7, 0.0, 0.0])
    placed = figure.at(table[:, :3] + shift)
    if ostium is not None:
        placed = np.concatenate([[ostium], placed])
        table = np.concatenate([table[:1], table])
    elif parent >= 0:
        # The stem leaves its parent where the parent passes nearest.
        above = grower.branches[parent].points
        nearest = above[((above - placed[0]) ** 2).sum(axis=1).argmin()]
        placed[0] = nearest
    stem = curve(np.concatenate([placed, figure.size(table[:, 3:4])], axis=1), 7)
    index = grower.add(name, stem[:, :3], stem[:, 3], 2, lobe.side, lobe.label, parent)
    if not len(group):
        return
    middle = group.mean(axis=0)
    spread = np.sqrt(((group - middle) ** 2).mean(axis=0))
    seeds = middle + np.array(list(lobe.segments.values())) * spread * 1.2
    owner = (((group[:, None, :] - seeds) ** 2).sum(axis=2)).argmin(axis=1)
    end, course_end = stem[-1, :3], stem[-1, :3] - stem[-2, :3]
    course_end = course_end / np.sqrt(course_end @ course_end)
    for k, segment in enumerate(lobe.segments):
        grower.grow(
            f"{name}, {segment} segment",
            index,
            end,
            course_end,
            group[owner == k],
            3,
            lobe.side,
            lobe.label,
            float(stem[-1, 3] * narrow),
        )


def paint_lung_vessels(bench: Bench, trees: LungTrees, space: LungSpace) -> None:
    """Paint arteries and veins of the lungs, from the lobar ones on."""
    person = bench.person
    over = AERATED | label_mask([Label.MEDIASTINUM, Label.PERICARDIUM])
    middle = float(np.mean([d.apex[2] for d in space.domes.values()])) * 0.5 + 60.0
    for branches, label, hu in (
        (trees.veins, Label.PULMONARY_VEIN, bench.bolus.pulmonary_vein),
        (trees.arteries, Label.PULMONARY_ARTERY, bench.bolus.pulmonary_artery),
    ):
        rule = bench.rule(label, hu, over=over)
        for branch in branches:
            if branch.generation < 2:
                continue
            swell = person.upper_vessel_scale if branch.points[:, 2].mean() > middle else 1.0
            bench.builder.tube(branch.points, branch.radii * swell, rule)


def paint_airways(bench: Bench, trees: LungTrees, *, deepest: int = 5) -> None:
    """Paint walls first, then all lumens, so that forks stay open."""
    over = AERATED | label_mask(
        [
            Label.MEDIASTINUM,
            Label.FAT,
            Label.MUSCLE,
            Label.PERICARDIUM,
            Label.PULMONARY_ARTERY,
            Label.PULMONARY_VEIN,
            Label.AIRWAY_WALL,
            Label.LEFT_ATRIUM,
            Label.MYOCARDIUM,
            Label.OESOPHAGUS,
        ]
    )
    wall = bench.rule(Label.AIRWAY_WALL, Tissue.AIRWAY_WALL, over=over)
    lumen = bench.rule(Label.AIRWAY, Tissue.AIR, over=over)
    scale = bench.person.bronchus_scale
    for inner in (False, True):
        for branch in trees.airways:
            if branch.generation > deepest:
                continue
            radii = branch.radii * (scale if branch.generation > 2 else 1.0)
            thick = np.minimum(0.35 + 0.13 * radii, 1.5)
            bench.builder.tube(
                branch.points, radii if inner else radii + thick, lumen if inner else wall
            )
