"""Clots in the pulmonary arteries."""

from __future__ import annotations

import numpy as np

from napari_cxr3d.imaging.frames import FloatArray
from napari_cxr3d.phantom.anatomy.model import Branch
from napari_cxr3d.phantom.findings.canvas import Canvas, across, resampled, unit
from napari_cxr3d.phantom.labels import Label, label_mask
from napari_cxr3d.phantom.scene import Rule
from napari_cxr3d.phantom.tissues import Tissue

__all__ = ["paint_embolism"]

_ARTERY = label_mask([Label.PULMONARY_ARTERY])
_LEVELS = ("segmental", "lobar", "main", "saddle")


def paint_embolism(canvas: Canvas) -> None:
    """Clots from segmental arteries up to the level of the plan's place.

    Each clot is a tube inside the contrast-filled lumen with rounded ends: it fills the lumen
    (an acute occlusion, the artery a little widened), lies against its wall, or swims in its
    middle. ``obstruction`` is the index of Qanadli et al. (AJR 176:1415-1420, 2001): segmental
    arteries behind a clot, those behind an occlusion counted twice, over twice all segmental
    arteries.
    """
    plan, arteries = canvas.plan, canvas.anatomy.arteries
    level = _LEVELS.index(plan.place)
    sides = plan.sides or ("right", "left")
    if plan.place == "saddle":
        sides = ("right", "left")
    blocked: dict[int, int] = {}
    if plan.place == "saddle":
        _saddle(canvas, blocked)
    elif plan.place == "main":
        side = sides[int(canvas.rng.random() * len(sides))]
        _in_branch(canvas, _main(arteries, side), (0.25, 1.0), blocked)
    if level >= 1:
        _some(canvas, sides, 2, 1 + round(4 * max(plan.severity - 0.35, 0.0)), blocked)
    _some(canvas, sides, 3, 1 + round(7 * plan.severity), blocked)
    canvas.measures["obstruction"] = _obstruction(arteries, blocked)
    canvas.measures["clots"] = len(canvas.parts)


def _some(
    canvas: Canvas, sides: tuple[str, ...], generation: int, count: int, blocked: dict[int, int]
) -> None:
    """Clots in arteries of one generation, on each side asked for at least one."""
    arteries = canvas.anatomy.arteries
    order = canvas.rng.permutation(len(arteries))
    fit = [
        int(k)
        for k in order
        if arteries[k].generation == generation
        and arteries[k].side in sides
        and int(k) not in blocked
    ]
    first = [next((k for k in fit if arteries[k].side == side), None) for side in sides]
    wanted = [k for k in first if k is not None]
    wanted += [k for k in fit if k not in wanted]
    for k in wanted[: max(count, len(sides))]:
        _in_branch(canvas, k, (0.1, 1.0), blocked)
        children = [n for n, branch in enumerate(arteries) if branch.parent == k]
        if children and canvas.rng.random() < 0.6:
            child = children[int(canvas.rng.random() * len(children))]
            _in_branch(canvas, child, (0.0, 0.6), blocked, noted=False)


def _in_branch(
    canvas: Canvas,
    number: int,
    reach: tuple[float, float],
    blocked: dict[int, int],
    *,
    noted: bool = True,
) -> None:
    """One clot along a part of a branch, between two fractions of its length."""
    branch = canvas.anatomy.arteries[number]
    start = reach[0] + 0.2 * canvas.rng.random() * (reach[1] - reach[0])
    look = canvas.rng.random()
    rows = resampled(np.column_stack([branch.points, branch.radii]), 2.5)
    rows = rows[int(start * len(rows)) : max(int(reach[1] * len(rows)), 2)]
    if len(rows) < 2:
        rows = np.column_stack([branch.points, branch.radii])
    # Small arteries are mostly occluded: half a lumen of 4 mm would escape the slices.
    occlusive = look < (0.4 if branch.radii.mean() > 3.5 else 0.8)
    _clot(canvas, rows, 1.08 if occlusive else 0.62, 0.0 if occlusive or look > 0.75 else 0.42)
    blocked[number] = max(blocked.get(number, 0), 2 if occlusive else 1)
    if noted:
        low, high = rows[:, :3].min(axis=0), rows[:, :3].max(axis=0)
        canvas.note(_name(branch), (low + high) / 2, high - low + 2 * rows[:, 3].mean())


def _saddle(canvas: Canvas, blocked: dict[int, int]) -> None:
    """One clot that rides on the bifurcation, its ends in both main arteries."""
    arteries = canvas.anatomy.arteries
    right, left = (_main(arteries, side) for side in ("right", "left"))
    arms = []
    for number in (right, left):
        branch = arteries[number]
        rows = resampled(np.column_stack([branch.points, branch.radii]), 3.0)
        arms.append(rows[: max(int((0.55 + 0.3 * canvas.rng.random()) * len(rows)), 2)])
        blocked[number] = 1
    path = np.concatenate([arms[0][::-1], arms[1]])
    _clot(canvas, path, 0.55, 0.15)
    low, high = path[:, :3].min(axis=0), path[:, :3].max(axis=0)
    canvas.note("pulmonary artery bifurcation", (low + high) / 2, high - low + path[:, 3].mean())


def _clot(canvas: Canvas, rows: FloatArray, width: float, aside: float) -> None:
    """Paint a clot along rows of centre and radius, set aside by a share of the radius."""
    middle = rows[:, :3].copy()
    direction = unit(rows[-1, :3] - rows[0, :3] + 1e-6)
    first, second = across(direction)
    turn = 2 * np.pi * canvas.rng.random()
    middle += (aside * rows[:, 3])[:, None] * (np.cos(turn) * first + np.sin(turn) * second)
    radii = width * rows[:, 3]
    radii *= 1.0 - 0.12 * canvas.rng.random(len(rows))
    canvas.builder.tube(middle, radii, _clot_rule(canvas))


def _clot_rule(canvas: Canvas) -> Rule:
    return canvas.rule(
        Tissue.CLOT, _ARTERY, mottle_hu=8.0, mottle_mm=7.0, rough_mm=0.3, rough_scale_mm=4.0
    )


def _main(arteries: tuple[Branch, ...], side: str) -> int:
    return next(
        k for k, branch in enumerate(arteries) if branch.generation == 1 and branch.side == side
    )


def _name(branch: Branch) -> str:
    """The artery in a report's words."""
    if branch.generation <= 1:
        return f"{branch.side} main pulmonary artery"
    lobe = branch.lobe.name.lower().replace("_", " ") if branch.lobe is not None else branch.side
    lobe = lobe.removesuffix(" lobe")
    if branch.generation == 2:
        return f"{lobe} lobar artery"
    return f"{'segmental' if branch.generation == 3 else 'subsegmental'} {lobe} lobe arteries"


def _obstruction(arteries: tuple[Branch, ...], blocked: dict[int, int]) -> float:
    total = reached = 0
    for number, branch in enumerate(arteries):
        if branch.generation != 3:
            continue
        total += 2
        worst, at = 0, number
        while at >= 0:
            worst = max(worst, blocked.get(at, 0))
            at = arteries[at].parent
        reached += worst
    return reached / total if total else 0.0
