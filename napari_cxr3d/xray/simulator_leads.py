"""Wires and lines that lie on a bedside patient: ECG leads, catheters, tubes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError

__all__ = ["Wire", "add_wires", "draw_wires"]

FloatImage = npt.NDArray[np.float32]
Point = tuple[float, float]

_SAMPLING = 2  # pixels drawn along each side of one pixel
_STEPS = 48  # straight pieces of a curve
_ELECTRODE_MM = 9.0


@dataclass(frozen=True)
class Wire:
    """A radio-opaque wire or tube along a cubic Bezier curve.

    Attributes
    ----------
    points : tuple of 4 (row, column)
        Control points in parts of the picture's height and width; may lie outside.
    width_mm : float
        Width on the detector in mm.
    integral : float
        Line integral through it; 0.5 is a catheter, 1 a lead.
    electrode : bool
        Whether an ECG electrode sits at its end.
    """

    points: tuple[Point, Point, Point, Point]
    width_mm: float = 1.2
    integral: float = 0.8
    electrode: bool = False

    def __post_init__(self) -> None:
        points = tuple((float(row), float(col)) for row, col in self.points)
        if len(points) != 4 or not (self.width_mm > 0 and self.integral >= 0):
            raise InvalidInputError(
                "A wire needs four points, a positive width and an integral of 0 or more",
                why=f"it has {len(points)} points, {self.width_mm:g} mm and {self.integral:g}",
            )
        object.__setattr__(self, "points", points)

    def curve(self) -> npt.NDArray[np.float64]:
        """Points along the wire in parts of the picture, (row, column), shape (n, 2)."""
        t = np.linspace(0, 1, _STEPS + 1)[:, None]
        a, b, c, d = (np.array(point) for point in self.points)
        return np.asarray(
            (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d
        )


def add_wires(integrals: FloatImage, wires: tuple[Wire, ...], pixel_mm: float) -> None:
    """Add the wires to line integrals, in place."""
    rows, cols = integrals.shape
    integrals += _drawn(wires, (rows, cols), round(pixel_mm, 4))


@lru_cache(maxsize=8)
def _drawn(wires: tuple[Wire, ...], shape: tuple[int, int], pixel_mm: float) -> FloatImage:
    """Line integrals of the wires alone, [rows, cols]."""
    from PIL import Image, ImageDraw

    rows, cols = shape
    strongest = max(wire.integral for wire in wires) or 1.0
    page = Image.new("L", (cols * _SAMPLING, rows * _SAMPLING))
    pen = ImageDraw.Draw(page)
    for wire in wires:
        curve = wire.curve()[:, ::-1] * np.array([cols, rows]) * _SAMPLING
        ink = wire.width_mm / pixel_mm * _SAMPLING
        # What is thinner than a drawn pixel is drawn as wide, and paler.
        pale = min(1.0, ink) * wire.integral / strongest
        points = [(float(x), float(y)) for x, y in curve]
        pen.line(points, fill=round(255 * pale), width=max(1, round(ink)), joint="curve")
        if wire.electrode:
            radius = _ELECTRODE_MM / 2 / pixel_mm * _SAMPLING
            x, y = points[-1]
            faint, dense = round(255 * 0.35 * pale), round(255 * pale)
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), outline=faint, width=2)
            pen.ellipse(
                (x - radius / 3, y - radius / 3, x + radius / 3, y + radius / 3), fill=dense
            )
    small = page.reduce(_SAMPLING)
    drawn = np.asarray(small, np.float32) * np.float32(strongest / 255)
    drawn.flags.writeable = False
    return drawn


def draw_wires(rng: np.random.Generator) -> tuple[Wire, ...]:
    """What a monitored patient has: two to five ECG leads, and now and then a line or tube."""
    wires = []
    for _ in range(int(rng.integers(2, 6))):
        end = (
            rng.uniform(0.15, 0.95),
            rng.choice([rng.uniform(0.05, 0.3), rng.uniform(0.7, 0.95)]),
        )
        start = _edge_point(rng)
        middle = rng.uniform(-0.1, 1.1, (2, 2))
        wires.append(
            Wire(
                (start, _pair(middle[0]), _pair(0.5 * middle[1] + 0.5 * np.array(end)), _pair(end)),
                width_mm=rng.uniform(0.8, 1.6),
                integral=rng.uniform(0.3, 0.9),
                electrode=bool(rng.random() < 0.8),
            )
        )
    if rng.random() < 0.35:  # a central line, from the neck or under the clavicle to the cava
        side = rng.choice([0.34, 0.38, 0.62])
        tip = (rng.uniform(0.36, 0.46), rng.uniform(0.43, 0.46))
        start = (rng.uniform(-0.05, 0.12), float(side))
        wires.append(
            Wire((start, (0.18, float(side)), (0.24, 0.44), tip), rng.uniform(1.5, 2.4), 0.35)
        )
    if rng.random() < 0.3:  # a gastric tube down the midline
        tip = (rng.uniform(0.92, 1.05), rng.uniform(0.56, 0.66))
        wires.append(Wire(((-0.05, 0.5), (0.3, 0.49), (0.7, 0.52), tip), rng.uniform(2, 4), 0.25))
    return tuple(wires)


def _pair(point: npt.ArrayLike) -> Point:
    row, col = np.asarray(point, np.float64)
    return (float(row), float(col))


def _edge_point(rng: np.random.Generator) -> Point:
    """A point just outside the left, right or lower edge."""
    along, side = rng.uniform(0.1, 1.0), rng.integers(3)
    return [(along, -0.05), (along, 1.05), (1.05, along)][int(side)]
