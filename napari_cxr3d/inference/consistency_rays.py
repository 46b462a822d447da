"""Which rays of an X-ray a volume can be held to, and on which scale."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_cxr3d.imaging import Grid, XrayView
from napari_cxr3d.inference.consistency_record import ViewCalibration

__all__ = ["calibrate", "rays_through"]

FloatImage = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

_CORE = 0.7  # of the grid's extent along P and L: where a body is, and no ray may leave it by I
_GAINS = (0.5, 2.0)
_LEAST_PIXELS = 64
_LEAST_CORRELATION = 0.3  # below it the picture shows something else than the volume
_MAD = 1.4826  # a Gaussian's standard deviation over its median absolute deviation


def rays_through(view: XrayView, grid: Grid, *, beyond: str) -> Mask:
    """Rays of a view whose integral the grid can account for, shape (rows, cols).

    Parameters
    ----------
    view : XrayView
        The exposure.
    grid : Grid
        Where the volume lies.
    beyond : {"air", "body"}
        What lies above and below the grid. With a body there, rays that leave by these faces
        within the central 70 % of the grid along P and L are left out.
    """
    frame = view.frame(grid)
    rows, cols = (np.arange(n, dtype=np.float64) for n in view.detector_shape)
    ends = (
        frame.origin
        + rows[:, None, None] * frame.row_step
        + cols[None, :, None] * frame.column_step
    )
    begin = grid.lps_to_index(frame.source)
    along = grid.lps_to_index(ends) - begin
    half = np.array(grid.shape) / 2.0
    begin = begin - (half - 0.5)  # from the grid's centre
    enter, leave = _within(begin, along, half)
    meets = leave > np.maximum(enter, 0)
    if beyond == "air":
        return np.asarray(meets)
    core = half * np.array([np.inf, _CORE, _CORE])
    enter, leave = _within(begin, along, core)
    slices = np.stack([begin[0] + along[..., 0] * t for t in (enter, leave)])
    cut = (leave > enter) & (np.abs(slices).max(axis=0) > half[0])
    return np.asarray(meets & ~cut)


def _within(
    begin: npt.NDArray[np.float64], along: npt.NDArray[np.float64], half: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Where rays enter and leave a box about the origin (Kay and Kajiya's slabs)."""
    along = np.where(np.abs(along) < 1e-12, 1e-12, along)
    a, b = (-half - begin) / along, (half - begin) / along
    return np.minimum(a, b).max(axis=-1), np.maximum(a, b).min(axis=-1)


def calibrate(
    picture: FloatImage, projected: FloatImage, counted: Mask
) -> tuple[FloatImage, ViewCalibration]:
    """The picture on the scale of a volume's line integrals, by a robust line.

    Parameters
    ----------
    picture : ndarray of float32, shape (rows, cols)
        Approximate line integrals.
    projected : ndarray of float32, shape (rows, cols)
        Line integrals of the volume in the same view.
    counted : ndarray of bool, shape (rows, cols)
        Rays to fit.

    Returns
    -------
    calibrated : ndarray of float32, shape (rows, cols)
    calibration : ViewCalibration
        Not `used` where the picture does not show the volume.
    """
    x, y = (a[counted].astype(np.float64) for a in (picture, projected))
    if x.size < _LEAST_PIXELS or np.ptp(x) < 1e-3 or np.ptp(y) < 1e-3:
        return picture, ViewCalibration(used=False, note="too few rays pass through the body")
    likeness = float(np.corrcoef(x, y)[0, 1])
    if likeness < _LEAST_CORRELATION:
        return picture, ViewCalibration(
            used=False, note=f"its correlation with the volume's own X-ray is {likeness:.2f}"
        )
    gain, offset = _robust_line(x, y)
    note = "" if _GAINS[0] < gain < _GAINS[1] else "the gain was held at its limit"
    calibrated = np.asarray(np.float32(gain) * picture + np.float32(offset), np.float32)
    return calibrated, ViewCalibration(gain, offset, True, note)


def _robust_line(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Gain within its limits, and offset, with Cauchy's loss."""
    from scipy.optimize import least_squares

    slope, level = np.polyfit(x, y, 1)
    error = y - slope * x - level
    scale = _MAD * float(np.median(np.abs(error - np.median(error)))) + 1e-6
    slope = float(np.clip(slope, 1.01 * _GAINS[0], 0.99 * _GAINS[1]))
    fit = least_squares(
        lambda line: line[0] * x + line[1] - y,
        [slope, float(np.mean(y - slope * x))],
        bounds=([_GAINS[0], -np.inf], [_GAINS[1], np.inf]),
        loss="cauchy",
        f_scale=scale,
    )
    return float(fit.x[0]), float(fit.x[1])
