"""How steady predicted views are: what another exposure of the same patient would change.

Another exposure has another film curve, noise, and the patient a little higher or lower on the
detector. None of it changes the patient, so none of it should change what is predicted from
elsewhere, but by the same shift. The part of a view's variance that stays is its confidence.

It tells where a model guesses from details that mean nothing. It does not tell where a model is
wrong in a steady way: one that draws the same chest for everybody would have a confidence of 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["EXPOSURES", "Exposure", "another_exposure", "steadiness"]

FloatImages = npt.NDArray[np.float32]

_LEAST = 1e-6


@dataclass(frozen=True)
class Exposure:
    """How an exposure differs from the given one.

    Attributes
    ----------
    gamma : float
        Exponent of the film curve.
    down : float
        Part of the detector's height by which the patient is lower.
    noise : float
        Standard deviation of grain, in standard deviations of the picture.
    """

    gamma: float
    down: float
    noise: float


EXPOSURES = (Exposure(0.8, 0.024, 0.05), Exposure(1.25, -0.024, 0.05), Exposure(1.0, 0.0, 0.15))
"""What views are predicted from again."""


def another_exposure(picture: FloatImages, exposure: Exposure, seed: int = 0) -> FloatImages:
    """The picture as another exposure of the patient would show it.

    Parameters
    ----------
    picture : ndarray of float32, shape (rows, cols)
        Bone bright.
    exposure : Exposure
        How it differs.
    seed : int
        Of the grain.
    """
    low, high = float(picture.min()), float(picture.max())
    unit = (picture - low) / max(high - low, _LEAST)
    curved = np.power(unit, exposure.gamma)
    grain = np.random.default_rng(seed).standard_normal(picture.shape)
    grey = curved + exposure.noise * float(curved.std()) * grain
    return _lowered(grey.astype(np.float32), _pixels(exposure, len(picture)))


def steadiness(views: FloatImages, others: FloatImages, exposure: Exposure) -> FloatImages:
    """Part of each view's variance that stays, where both pictures reach.

    Parameters
    ----------
    views : ndarray of float32, shape (K, rows, cols)
        Predicted from the given picture.
    others : ndarray of float32, shape (K, rows, cols)
        Predicted from `another_exposure` of it.
    exposure : Exposure
        Which one.

    Returns
    -------
    ndarray of float32, shape (K,)
        0 to 1.
    """
    down = _pixels(exposure, views.shape[1])
    back = np.stack([_lowered(view, -down) for view in others])
    rows = slice(abs(down), views.shape[1] - abs(down))
    a, b = views[:, rows].astype(np.float64), back[:, rows].astype(np.float64)
    lost = np.square(a - b).mean((1, 2)) / np.maximum(a.var((1, 2)), _LEAST)
    return np.asarray(np.clip(1 - lost, 0, 1), np.float32)


def _pixels(exposure: Exposure, rows: int) -> int:
    return round(exposure.down * rows)


def _lowered(picture: FloatImages, pixels: int) -> FloatImages:
    """The picture moved down by whole pixels, its first or last row repeated."""
    rows = np.clip(np.arange(len(picture)) - pixels, 0, len(picture) - 1)
    moved: FloatImages = picture[rows]
    return moved
