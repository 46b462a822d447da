"""How well a volume's own X-ray agrees with the X-rays that were taken: the figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

__all__ = ["ConsistencyRecord", "Reprojection", "ViewAgreement", "ViewCalibration", "agreement"]

FloatImages = npt.NDArray[np.float32]
Masks = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ViewCalibration:
    """How one view's integrals were brought to the scale of a volume's.

    Attributes
    ----------
    gain, offset : float
        ``gain * integrals + offset`` is compared with the volume; 1 and 0 for an exact view.
    used : bool
        False where the view says nothing about the volume, as `note` tells.
    note : str
        Why the view was not used, or what was limited; empty otherwise.
    """

    gain: float = 1.0
    offset: float = 0.0
    used: bool = True
    note: str = ""


@dataclass(frozen=True)
class ViewAgreement:
    """Figures of one view; see `Reprojection`."""

    relative_error: float
    explained: float
    gain: float
    offset: float
    exact: bool
    rays: int


@dataclass(frozen=True, eq=False)
class Reprojection:
    """The X-ray of a volume beside the X-ray that was taken.

    Attributes
    ----------
    integrals : ndarray of float32, shape (V, rows, cols)
        Line integrals of the volume.
    residual : ndarray of float32, shape (V, rows, cols)
        Those less the measured ones on their calibrated scale; 0 where a ray does not count.
    counted : ndarray of bool, shape (V, rows, cols)
        Rays that count: the picture reaches them, and the volume holds what they pass.
    relative_error : float
        ``|A v - b| / |b|`` over the rays that count.
    explained : float
        ``1 - |A v - b|^2 / |b - mean(b)|^2``, the means taken view by view: 1 is perfect
        agreement, 0 is no better than a flat picture.
    per_view : tuple of ViewAgreement
        The same for every view.
    """

    integrals: FloatImages
    residual: FloatImages
    counted: Masks
    relative_error: float
    explained: float
    per_view: tuple[ViewAgreement, ...]

    def to_dict(self) -> dict[str, Any]:
        """The figures without the pictures, JSON-serialisable."""
        return {
            "relative_error": self.relative_error,
            "explained": self.explained,
            "per_view": [asdict(view) for view in self.per_view],
        }


@dataclass(frozen=True)
class ConsistencyRecord:
    """What was done to bring a volume into agreement with its X-rays.

    Attributes
    ----------
    mode : {"soft", "hard"}
        As asked for.
    iterations : int
        Of conjugate gradients; 0 where the volume agreed already as well as can be told.
    before, after : float
        Relative error of re-projection; see `Reprojection`.
    calibrations : tuple of ViewCalibration
        One a view.
    change_hu : float
        Root mean square of what was changed.
    seconds : float
        Time taken.
    """

    mode: Literal["soft", "hard"]
    iterations: int
    before: float
    after: float
    calibrations: tuple[ViewCalibration, ...]
    change_hu: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable form."""
        return {
            **asdict(self),
            "calibrations": [asdict(calibration) for calibration in self.calibrations],
        }


def agreement(
    projected: FloatImages,
    measured: FloatImages,
    counted: Masks,
    exact: Sequence[bool],
    calibrations: Sequence[ViewCalibration],
) -> Reprojection:
    """Compare line integrals view by view.

    Parameters
    ----------
    projected, measured : ndarray of float32, shape (V, rows, cols)
        Line integrals of the volume, and of the X-rays on their calibrated scale.
    counted : ndarray of bool, shape (V, rows, cols)
        Rays to compare.
    exact : sequence of bool
        Views whose integrals needed no calibration.
    calibrations : sequence of ViewCalibration
        As they were applied to `measured`.
    """
    residual = np.where(counted, projected - measured, 0).astype(np.float32)
    sums = []
    views = []
    for k, calibration in enumerate(calibrations):
        b = measured[k][counted[k]].astype(np.float64)
        r = residual[k][counted[k]].astype(np.float64)
        powers = (r @ r, b @ b, float(np.sum((b - b.mean()) ** 2)) if b.size else 0.0)
        sums.append(powers)
        views.append(
            ViewAgreement(
                *_figures(*powers), calibration.gain, calibration.offset, bool(exact[k]), b.size
            )
        )
    total = np.sum(sums, axis=0)
    return Reprojection(projected, residual, counted, *_figures(*total), tuple(views))


def _figures(residual: float, power: float, spread: float) -> tuple[float, float]:
    """Relative error and explained part, from sums of squares."""
    error = float(np.sqrt(residual / power)) if power > 0 else 0.0
    return error, 1.0 - float(residual / spread) if spread > 0 else 0.0
