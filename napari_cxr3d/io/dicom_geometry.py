"""From slice positions to a volume's geometry: order, gaps, spacing, tilt.

Slices are placed by ImagePositionPatient along the normal of ImageOrientationPatient
(DICOM PS3.3 C.7.6.2.1.1); instance numbers and slice locations are not trusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import GeometryError
from napari_cxr3d.imaging.frames import FloatArray

__all__ = ["SliceStack", "same_orientation", "slice_distances", "stack_slices"]

SAME_POSITION_MM = 0.01  # slices nearer than this lie at the same position
_JITTER = 0.01  # of the spacing: the deviation from an even grid that is no deviation
_ROUNDING_MM = 0.05  # positions are often rounded to a tenth of a millimetre ...
_ROUNDING = 0.05  # ... which may be this part of the spacing at most
_SIDEWAYS = 0.25  # of a pixel: how far a slice may lie beside the stack's line


@dataclass(frozen=True)
class SliceStack:
    """How slices lie along their normal.

    Attributes
    ----------
    affine_lps : ndarray, shape (4, 4)
        Matrix from (plane, row, column) to LPS mm.
    plane : ndarray of float, shape (n_slices,)
        The plane of each slice, ascending from 0; whole numbers unless `uneven`.
    n_planes : int
        Planes of the even grid.
    uneven : bool
        Whether slices lie between the planes, so that the stack must be interpolated.
    spacing_mm : float
        Distance of planes along the normal.
    """

    affine_lps: FloatArray
    plane: FloatArray
    n_planes: int
    uneven: bool
    spacing_mm: float

    @property
    def missing(self) -> tuple[int, ...]:
        """Planes farther from every slice than three quarters of the spacing."""
        away = np.abs(np.arange(self.n_planes)[:, None] - self.plane).min(axis=1)
        return tuple(int(k) for k in np.flatnonzero(away > 0.75))

    @property
    def has_gaps(self) -> bool:
        """Whether planes are missing."""
        return bool(self.missing)


def _axes(orientation: Sequence[float]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Unit vectors along a row, along a column, and the normal.

    Raises
    ------
    GeometryError
        If the direction cosines are not two perpendicular unit vectors.
    """
    along_row = np.array(orientation[:3], dtype=np.float64)
    along_column = np.array(orientation[3:6], dtype=np.float64)
    lengths = np.array([np.linalg.norm(along_row), np.linalg.norm(along_column)])
    if np.any(np.abs(lengths - 1) > 0.01) or abs(along_row @ along_column) > 0.01:
        raise GeometryError(
            "The slices' orientation cannot be right",
            why="ImageOrientationPatient is not two perpendicular unit vectors",
            remedy="export the series again from its archive",
        )
    along_row, along_column = along_row / lengths[0], along_column / lengths[1]
    return along_row, along_column, np.cross(along_row, along_column)


def same_orientation(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether two ImageOrientationPatient agree to about a tenth of a degree."""
    return bool(np.allclose(a, b, rtol=0, atol=2e-3))


def slice_distances(
    positions: npt.ArrayLike, orientation: Sequence[float]
) -> npt.NDArray[np.float64]:
    """Signed distance in mm of each slice along the normal, shape (n_slices,)."""
    *_, normal = _axes(orientation)
    return np.asarray(positions, dtype=np.float64) @ normal


def stack_slices(
    positions: npt.ArrayLike,
    orientation: Sequence[float],
    pixel_spacing_mm: Sequence[float],
) -> SliceStack:
    """The even grid through slices that are sorted along their normal.

    Parameters
    ----------
    positions : array_like, shape (n_slices, 3)
        ImagePositionPatient of each slice, ascending along the normal, no two alike.
    orientation : sequence of 6 float
        ImageOrientationPatient.
    pixel_spacing_mm : sequence of 2 float
        PixelSpacing: between rows, between columns.

    Raises
    ------
    GeometryError
        If there are fewer than two slices, more are missing than present, or they do
        not lie on a line.
    """
    positions = np.asarray(positions, dtype=np.float64)
    along_row, along_column, normal = _axes(orientation)
    row_mm, column_mm = (float(s) for s in pixel_spacing_mm[:2])
    if not (row_mm > 0 and column_mm > 0):
        raise GeometryError(
            "The pixel spacing cannot be right",
            why=f"it is {row_mm:g} and {column_mm:g} mm",
            remedy="export the series again from its archive",
        )
    if len(positions) < 2:
        raise GeometryError(
            "The series has a single slice, which is no volume",
            remedy="open the folder that holds the whole series",
        )
    distance = (positions - positions[0]) @ normal
    plane, spacing, uneven = _planes(distance)
    n_planes = int(np.floor(plane[-1] + 1e-6)) + 1
    if n_planes > 2 * len(positions):
        raise GeometryError(
            "More slices are missing than are there",
            why=f"{len(positions)} slices of {spacing:.3g} mm span {n_planes} positions",
            remedy="export the whole series again, or split it at the gap",
        )
    step = (positions[-1] - positions[0]) / plane[-1]
    beside = positions - positions[0] - plane[:, None] * step
    beside -= (beside @ normal)[:, None] * normal
    if np.linalg.norm(beside, axis=1).max() > _SIDEWAYS * min(row_mm, column_mm):
        raise GeometryError(
            "The slices do not lie on one line",
            why=f"one is {np.linalg.norm(beside, axis=1).max():.2g} mm beside it",
            remedy="export the series again; the table or the field of view moved within it",
        )
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = along_column * row_mm
    affine[:3, 2] = along_row * column_mm
    affine[:3, 3] = positions[0]
    return SliceStack(affine, plane, n_planes, uneven, spacing)


def _planes(distance: FloatArray) -> tuple[FloatArray, float, bool]:
    """Plane of each slice, plane spacing in mm, and whether slices lie between planes."""
    steps = np.diff(distance)
    spacing = float(np.median(steps))
    whole = np.maximum(1, np.rint(steps / spacing))
    plane = np.concatenate([[0.0], np.cumsum(whole)])
    spacing = float(distance[-1] / plane[-1])
    tolerance = max(_JITTER * spacing, min(_ROUNDING_MM, _ROUNDING * spacing))
    if np.abs(distance - plane * spacing).max() <= tolerance:
        return plane, spacing, False
    spacing = float(np.median(steps))
    return distance / spacing, spacing, True
