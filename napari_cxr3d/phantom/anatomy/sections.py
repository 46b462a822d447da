"""A body part as a stack of horizontal sections, with the geometry that painting does not need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.imaging.frames import FloatArray

__all__ = ["Sections", "smooth_table"]


def smooth_table(keys: npt.ArrayLike, values: npt.ArrayLike, at: npt.ArrayLike) -> FloatArray:
    """Monotone cubic interpolation of rows (Fritsch and Carlson, SIAM J. Numer. Anal. 17, 1980).

    Parameters
    ----------
    keys : array_like, shape (N,)
        Ascending.
    values : array_like, shape (N,) or (N, M)
        Values there.
    at : array_like, shape (K,)
        Where values are wanted; held beyond the ends.

    Returns
    -------
    ndarray, shape (K,) or (K, M)
    """
    x = np.asarray(keys, np.float64)
    y = np.asarray(values, np.float64)
    flat = y.reshape(len(x), -1)
    step = np.diff(x)[:, None]
    slope = np.diff(flat, axis=0) / step
    tangent = np.zeros_like(flat)
    left, right = slope[:-1], slope[1:]
    weight_left, weight_right = 2 * step[1:] + step[:-1], step[1:] + 2 * step[:-1]
    same = left * right > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        harmonic = (weight_left + weight_right) / (weight_left / left + weight_right / right)
    tangent[1:-1] = np.where(same, harmonic, 0.0)
    tangent[0], tangent[-1] = slope[0], slope[-1]
    where = np.clip(np.asarray(at, np.float64), x[0], x[-1])
    k = np.clip(np.searchsorted(x, where, side="right") - 1, 0, len(x) - 2)
    h = step[k]
    t = (where - x[k])[:, None] / h
    result: FloatArray = (
        (1 + 2 * t) * (1 - t) ** 2 * flat[k]
        + t * (1 - t) ** 2 * h * tangent[k]
        + t * t * (3 - 2 * t) * flat[k + 1]
        + t * t * (t - 1) * h * tangent[k + 1]
    )
    return result.reshape((len(where), *y.shape[1:]))


@dataclass(frozen=True, eq=False)
class Sections:
    """The table that `SceneBuilder.loft` paints, with its geometry.

    Attributes
    ----------
    rows : ndarray, shape (N, 8)
        z, centre x, centre y, reach to +x, -x, -y, +y, squareness; z ascends in equal steps.
    """

    rows: FloatArray

    def at(self, z: npt.ArrayLike) -> FloatArray:
        """Rows at heights, shape (K, 8); held beyond the ends."""
        heights = np.atleast_1d(np.asarray(z, np.float64))
        low, high = self.rows[0, 0], self.rows[-1, 0]
        where = (np.clip(heights, low, high) - low) / (high - low) * (len(self.rows) - 1)
        k = np.minimum(where.astype(np.int64), len(self.rows) - 2)
        t = (where - k)[:, None]
        found: FloatArray = (1 - t) * self.rows[k] + t * self.rows[k + 1]
        return found

    def outline(self, z: npt.ArrayLike, angle: npt.ArrayLike, offset: Any = 0.0) -> FloatArray:
        """Points of the outline, LPS mm, shape (K, 3).

        Parameters
        ----------
        z : array_like, shape (K,)
            Heights in mm.
        angle : array_like, shape (K,)
            Radians about each section's centre: 0 to the left (+x), pi/2 to the back (+y).
        offset : float or ndarray
            By how many mm all reaches are larger.
        """
        heights, angles = np.broadcast_arrays(np.asarray(z, np.float64), np.asarray(angle))
        row = self.at(heights)
        c, s = np.cos(angles), np.sin(angles)
        a = np.where(c >= 0, row[:, 3], row[:, 4]) + offset
        b = np.where(s < 0, row[:, 5], row[:, 6]) + offset
        square = row[:, 7]
        r = 1.0 / np.sqrt((1 - square) + square * np.sqrt(c**4 + s**4))
        return np.stack([row[:, 1] + a * r * c, row[:, 2] + b * r * s, heights], axis=-1)

    def level(self, points: FloatArray) -> FloatArray:
        """1 on the outline, less inside; large beyond the ends, shape (K,)."""
        row = self.at(points[:, 2])
        dx, dy = points[:, 0] - row[:, 1], points[:, 1] - row[:, 2]
        u = dx / np.where(dx >= 0, row[:, 3], row[:, 4])
        v = dy / np.where(dy < 0, row[:, 5], row[:, 6])
        around = u * u + v * v
        square = row[:, 7]
        value = np.sqrt((1 - square) * around + square * np.sqrt(u**4 + v**4))
        outside = (points[:, 2] < self.rows[0, 0]) | (points[:, 2] > self.rows[-1, 0])
        result: FloatArray = np.where(outside, 1e6, value)
        return result

    def grown(self, offset: float) -> Sections:
        """The same with all reaches longer by an offset in mm."""
        rows = self.rows.copy()
        rows[:, 3:7] = np.maximum(rows[:, 3:7] + offset, 1e-3)
        return Sections(rows)

    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Lower and upper corner of the box around it, LPS mm."""
        r = self.rows
        low = np.array([(r[:, 1] - r[:, 4]).min(), (r[:, 2] - r[:, 5]).min(), r[0, 0]])
        high = np.array([(r[:, 1] + r[:, 3]).max(), (r[:, 2] + r[:, 6]).max(), r[-1, 0]])
        return low, high

    def surface_point(
        self, height_fraction: float, angle_deg: float, side: str
    ) -> tuple[FloatArray, FloatArray]:
        """A point on the surface and its outward normal; see `Anatomy.lung_surface_point`."""
        low, high = self.rows[0, 0], self.rows[-1, 0]
        z = low + min(max(height_fraction, 0.0), 1.0) * (high - low)
        turn = np.deg2rad(angle_deg)
        angle = np.pi - turn if side == "right" else turn

        def point(height: float, around: float) -> FloatArray:
            found: FloatArray = self.outline(np.array([height]), np.array([around]))[0]
            return found

        along = point(z, angle + 0.02) - point(z, angle - 0.02)
        up = point(min(z + 2, high), angle) - point(max(z - 2, low), angle)
        normal = np.cross(along, up)
        normal /= np.sqrt(normal @ normal)
        return point(z, angle), normal
