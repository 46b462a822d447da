"""Trees of vessels and airways that fill the lungs.

Points are strewn through each lobe, grouped into its segments, and every group is halved again
and again: from where a branch ends, two go on towards the middles of the two halves. So each
piece of lung is reached, no two branches cross for long, and the calibre follows from what is
left to supply: Murray's law with the exponent 2.7 of the pulmonary arteries (Huang et al., J.
Appl. Physiol. 81, 2123-2133, 1996), r = r_end * leaves ** (1 / 2.7).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from napari_cxr3d.imaging.frames import FloatArray
from napari_cxr3d.phantom.anatomy.lungs import LungSpace
from napari_cxr3d.phantom.anatomy.model import Branch, Side
from napari_cxr3d.phantom.labels import Label

__all__ = ["Grower", "strew"]

_MURRAY = 2.7


def strew(
    space: LungSpace, side: str, spacing_mm: float, margin_mm: float, rng: np.random.Generator
) -> tuple[FloatArray, np.ndarray]:
    """Points evenly through one lung, jittered, with the lobe of each.

    Returns
    -------
    points : ndarray, shape (N, 3)
        LPS mm.
    lobes : ndarray of int, shape (N,)
        Labels.
    """
    low, high = space.lungs[side].bounds()
    axes = [np.arange(a + spacing_mm / 2, b, spacing_mm) for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    grid = grid + rng.uniform(-0.42, 0.42, grid.shape) * spacing_mm
    points = grid[space.free(grid, side, margin_mm)]
    return points, space.lobe_of(points, side)


@dataclass
class Grower:
    """Grows one tree.

    Parameters
    ----------
    end_radius_mm : float
        Radius of a branch that supplies a single point.
    rng : numpy.random.Generator
        Bends the branches.
    straight : float
        How far each branch goes towards its group's middle, 0 to 1.
    """

    end_radius_mm: float
    rng: np.random.Generator
    straight: float = 0.42
    branches: list[Branch] = field(default_factory=list)

    def add(
        self,
        name: str,
        points: FloatArray,
        radii: FloatArray,
        generation: int,
        side: Side,
        lobe: Label | None,
        parent: int,
    ) -> int:
        """Append a given branch; returns its index."""
        self.branches.append(Branch(name, points, radii, generation, side, lobe, parent))
        return len(self.branches) - 1

    def grow(
        self,
        name: str,
        parent: int,
        start: FloatArray,
        direction: FloatArray,
        targets: FloatArray,
        generation: int,
        side: Side,
        lobe: Label,
        limit: float,
    ) -> None:
        """Grow from a point towards all targets.

        Parameters
        ----------
        name : str
            Of all branches grown.
        parent : int
            Index of the branch that they start from.
        start, direction : ndarray, shape (3,)
            Where it ends and where it was going.
        targets : ndarray, shape (N, 3)
            Points to reach.
        generation : int
            Of the first branch.
        side, lobe
            Of all branches.
        limit : float
            Largest radius at the start, mm.
        """
        stack = [(parent, start, direction, targets, generation, limit)]
        while stack:
            above, here, course, group, level, widest = stack.pop()
            count = len(group)
            if count == 0:
                continue
            radius = min(self.end_radius_mm * count ** (1 / _MURRAY), widest)
            middle = group.mean(axis=0)
            end = middle if count == 1 else here + self.straight * (middle - here)
            gap = end - here
            length = float(np.sqrt(gap @ gap))
            if length < 1e-3:
                end = here + 1e-2
                length = 1.0
            bend = here + 0.5 * (end - here) + 0.11 * length * course
            bend = bend + self.rng.uniform(-0.04, 0.04, 3) * length
            tip = radius * 0.55 if count == 1 else radius * 0.94
            points = np.stack([here, bend, end])
            radii = np.array([radius, 0.5 * (radius + tip), tip])
            index = self.add(name, points, radii, level, side, lobe, above)
            if count == 1:
                continue
            onward = end - bend
            onward = onward / max(float(np.sqrt(onward @ onward)), 1e-6)
            centered = group - middle
            spread = centered.T @ centered
            axis = _main_axis(spread)
            along = centered @ axis
            cut = np.argsort(along, kind="stable")
            half = count // 2 if count < 4 else int(count * self.rng.uniform(0.38, 0.62))
            half = min(max(half, 1), count - 1)
            for part in (cut[:half], cut[half:]):
                stack.append((index, end, onward, group[part], level + 1, tip))


def _main_axis(spread: FloatArray) -> FloatArray:
    """Direction of the largest spread, by power iteration (the same on every machine)."""
    vector = spread[int(np.argmax(np.diag(spread)))] + 1e-9
    for _ in range(8):
        vector = spread @ vector
        vector = vector / max(float(np.sqrt(vector @ vector)), 1e-12)
    unit: FloatArray = vector
    return unit
