"""What a painted shape leaves behind: rules, blends, patterns, and planes that cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging.frames import FloatArray

__all__ = ["EVERYTHING", "KEEP", "Blend", "Clip", "Pattern", "Point", "Rule", "unit"]

EVERYTHING = (1 << 63) - 1
"""A rule's `over` that may cover every label."""

KEEP = -1
"""A rule's `label` that leaves the label as it is."""

Point = Sequence[float] | FloatArray


class Blend(IntEnum):
    """How a rule's HU meets the HU that is there."""

    SET = 0
    """Replace it."""
    ADD = 1
    """Add to it."""
    RAISE = 2
    """Replace it where the new value is higher."""
    LOWER = 3
    """Replace it where the new value is lower."""


class Pattern(IntEnum):
    """The random field that `Rule.pattern_above` thresholds; each lies in about [-1, 1]."""

    SMOOTH = 0
    """Blobs of about the pattern's scale."""
    RIDGES = 1
    """Thin curved sheets: septa, reticulation."""
    CELLS = 2
    """Round cells about the pattern's scale apart: 1 at their centres, below 0 between."""
    SEPTA = 3
    """The sheets between such cells: 1 in their middle, below 0 inside the cells."""


@dataclass(frozen=True)
class Clip:
    """A half space that a shape is cut off by: what has ``normal . p > offset`` is dropped.

    Attributes
    ----------
    normal : tuple of 3 float
        Unit vector in LPS.
    offset : float
        mm.
    """

    normal: tuple[float, float, float]
    offset: float

    @classmethod
    def through(cls, point: Point, normal: Point) -> Clip:
        """The half space behind the plane through a point; `normal` points to what is dropped."""
        direction = unit(normal)
        x, y, z = (float(v) for v in direction)
        return cls((x, y, z), float(direction @ np.asarray(point, np.float64)))


@dataclass(frozen=True)
class Rule:
    """What a shape leaves behind in the voxels that it covers.

    Attributes
    ----------
    label : int
        Label of voxels covered by half or more; `KEEP` leaves theirs.
    hu : float
        Hounsfield units that it paints (or adds, see `blend`).
    over : int
        Bit mask of the labels that may be covered (`label_mask`).
    blend : Blend
        How `hu` meets what is there.
    opacity : float
        Share of `hu` in the mixture, 0 to 1.
    soft_mm : float
        Width of the edge; one voxel at the least, which is the partial volume effect.
    rough_mm, rough_scale_mm : float
        Amplitude and wavelength of a random displacement of the surface.
    mottle_hu, mottle_mm : float
        Amplitude and wavelength of a random variation of `hu`.
    pattern : Pattern
        Which random field thins the paint out, where `pattern_above` is above -1.
    pattern_mm : float
        Its scale.
    pattern_above : float
        Paint only where the field exceeds this, with an edge of `pattern_soft`.
    pattern_soft : float
        Width of that edge, in units of the field.
    finding : int or None
        Bit of the finding map that covered voxels get.
    warped : bool
        Whether the scene's warp bends the shape (a device is not bent).
    seed : int
        Seed of the rule's random fields.
    """

    label: int
    hu: float
    over: int = EVERYTHING
    blend: Blend = Blend.SET
    opacity: float = 1.0
    soft_mm: float = 0.0
    rough_mm: float = 0.0
    rough_scale_mm: float = 12.0
    mottle_hu: float = 0.0
    mottle_mm: float = 8.0
    pattern: Pattern = Pattern.SMOOTH
    pattern_mm: float = 6.0
    pattern_above: float = -1.0
    pattern_soft: float = 0.3
    finding: int | None = None
    warped: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        widths = (self.soft_mm, self.rough_mm, self.opacity)
        scales = (self.rough_scale_mm, self.mottle_mm, self.pattern_mm, self.pattern_soft)
        if not (all(w >= 0 for w in widths) and all(s > 0 for s in scales)):
            raise InvalidInputError(
                "A painting rule needs scales above 0 and widths and an opacity of 0 or more",
                why=f"it is {self}",
            )
        if self.finding is not None and not 0 <= self.finding < 32:
            raise InvalidInputError(
                "A finding's bit lies between 0 and 31", why=f"it is {self.finding}"
            )


def unit(direction: Point) -> FloatArray:
    """A direction of length 1."""
    vector = np.asarray(direction, np.float64)
    length = float(np.sqrt((vector * vector).sum()))
    if not length > 0:
        raise InvalidInputError("A direction must not be zero")
    direction_of_length_one: FloatArray = vector / length
    return direction_of_length_one
