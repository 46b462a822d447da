"""Where a point of one view can lie in another view of the same patient.

The ray through a pixel is seen from elsewhere as a straight line, the epipolar line, and its part
within the patient as a segment of it (Hartley and Zisserman, Multiple View Geometry, 2003,
chapter 9).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_cxr3d.imaging import XrayView

__all__ = ["EpipolarBand", "epipolar_band", "ray_of"]

FloatArray = npt.NDArray[np.float64]

_REACH_MM = 250.0  # from the isocenter: no thorax is wider
_HALF_WIDTH_MM = 15.0  # at the isocenter: about half a patch of the demo model


@dataclass(frozen=True, eq=False)
class EpipolarBand:
    """A segment on a detector with some width.

    Attributes
    ----------
    ends : ndarray of float64, shape (2, 2)
        Detector (row, column) of what is nearest to the source of the other view and of what
        is farthest from it.
    half_width : float
        Detector pixels to each side of the segment, and beyond its ends.
    """

    ends: FloatArray
    half_width: float

    def distance(self, points: npt.ArrayLike) -> FloatArray:
        """Detector pixels from points (row, column) to the segment, shape (...,)."""
        first, along = self.ends[0], self.ends[1] - self.ends[0]
        apart = np.asarray(points, np.float64) - first
        length = float(along @ along)
        part = np.clip(apart @ along / length, 0, 1) if length > 0 else np.zeros(apart.shape[:-1])
        distance = np.linalg.norm(apart - part[..., None] * along, axis=-1)
        return np.asarray(distance, np.float64)

    def contains(self, points: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether points (row, column) lie in the band, shape (...,)."""
        return np.asarray(self.distance(points) <= self.half_width)


def ray_of(view: XrayView, detector: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Source and unit direction of the ray through a detector point, LPS mm, shapes (3,).

    Parameters
    ----------
    view : XrayView
        With its isocenter.
    detector : array_like, shape (2,)
        Detector (row, column).
    """
    frame = view.frame()
    row, col = np.asarray(detector, np.float64)
    toward = frame.origin + row * frame.row_step + col * frame.column_step - frame.source
    return frame.source, toward / np.linalg.norm(toward)


def epipolar_band(
    seen: XrayView,
    detector: npt.ArrayLike,
    view: XrayView,
    *,
    reach_mm: float = _REACH_MM,
    half_width_mm: float = _HALF_WIDTH_MM,
) -> EpipolarBand:
    """Where a point that one view shows can lie in another.

    Parameters
    ----------
    seen : XrayView
        The view that shows it, with its isocenter.
    detector : array_like, shape (2,)
        Detector (row, column) of the point there.
    view : XrayView
        The other view, in the same frame.
    reach_mm : float
        How far from the isocenter of `seen`, along the ray, the point can lie.
    half_width_mm : float
        At the isocenter, to each side: for errors of the click and of matching.
    """
    source, toward = ray_of(seen, detector)
    isocenter = np.asarray(seen.isocenter_lps, np.float64)
    middle = float((isocenter - source) @ toward)
    # Before the source of the other view there is no picture of a point.
    reach = min(reach_mm, 0.9 * middle, 0.9 * view.source_to_isocenter_mm)
    depths = middle + reach * np.array([-1.0, 1.0])
    ends = view.frame().project(source + depths[:, None] * toward)
    pixels = half_width_mm * view.magnification / view.pixel_mm
    return EpipolarBand(np.asarray(ends, np.float64), float(pixels))
