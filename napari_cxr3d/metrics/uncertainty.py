"""How honest an uncertainty is: does it rank the errors, cover the truth, and score well.

A generative model draws several volumes from one X-ray. Their standard deviation claims where the
result may be wrong; here that claim is held against the truth, voxel by voxel.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.metrics.image_quality import Metric

__all__ = ["GAUSSIAN_COVERAGE", "coverage", "crps", "fit_scale", "rank_correlation"]

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

GAUSSIAN_COVERAGE = math.erf(2 / math.sqrt(2))
"""Part of a normal distribution within two standard deviations of its mean: 0.9545."""

_LEAST_SPREAD = 1e-6  # in the unit of the volume; where all samples agree nothing is claimed


def rank_correlation(spread: Array, error: Array, *, mask: Mask | None = None) -> Metric:
    """Spearman's correlation of the claimed spread with the size of the error, over voxels.

    Spearman, Am. J. Psychol. 15, 72-101, 1904; ties get their mean rank.

    Parameters
    ----------
    spread : ndarray
        Standard deviation of the samples.
    error : ndarray, the same shape
        Estimate minus truth; its sign does not matter.
    mask : ndarray of bool, the same shape, optional
        Voxels that count; all if None.

    Returns
    -------
    Metric
        From -1 to 1; 0 where the spread, or the error, is the same everywhere: it ranks nothing.

    Raises
    ------
    InvalidInputError
        If the shapes differ or no voxel counts.
    """
    from scipy import stats

    sigma, size = _values(mask, spread, np.abs(error))
    value = 0.0
    if np.ptp(sigma) > 0 and np.ptp(size) > 0:
        value = float(stats.spearmanr(sigma, size).statistic)
    return Metric(
        "rank_correlation",
        value,
        f"Spearman's correlation over voxels of the samples' standard deviation with the absolute "
        f"error, {_counted(mask)}",
    )


def coverage(
    mean: Array,
    spread: Array,
    truth: Array,
    *,
    mask: Mask | None = None,
    scale: float = 1.0,
    sigmas: float = 2.0,
) -> Metric:
    """Part of the voxels whose truth lies within some standard deviations of the mean.

    Parameters
    ----------
    mean, spread, truth : ndarray, one shape
        Mean and standard deviation of the samples, and what they should have been.
    mask : ndarray of bool, the same shape, optional
        Voxels that count; all if None.
    scale : float
        The standard deviation is multiplied with it; from `fit_scale`.
    sigmas : float
        How many standard deviations to either side.

    Returns
    -------
    Metric
        From 0 to 1; of two standard deviations `GAUSSIAN_COVERAGE` is the honest value, above
        which intervals are too wide.

    Raises
    ------
    InvalidInputError
        As `rank_correlation`, or if the scale or the number of deviations is not positive.
    """
    if not (0 < scale < math.inf and 0 < sigmas < math.inf):
        raise InvalidInputError(
            "Coverage needs a positive scale and number of standard deviations",
            why=f"they are {scale:g} and {sigmas:g}",
        )
    sigma, size = _values(mask, spread, np.abs(_difference(mean, truth)))
    calibrated = "as drawn" if scale == 1.0 else "after scalar calibration on other patients"
    return Metric(
        "coverage",
        float(np.mean(size <= sigmas * scale * sigma)),
        f"part of the voxels within {sigmas:g} standard deviations of the samples' mean, "
        f"{calibrated}, {_counted(mask)}",
    )


def fit_scale(
    cases: Iterable[tuple[Array, Array, Array, Mask | None]],
    *,
    sigmas: float = 2.0,
    wanted: float = GAUSSIAN_COVERAGE,
) -> float:
    """The number by which standard deviations must be multiplied to cover what they claim.

    The quantile of ``|truth - mean| / (sigmas * spread)`` at the wanted coverage, over the voxels
    of all cases, each case weighing the same (split conformal prediction with a scalar
    uncertainty, Angelopoulos and Bates, 2021, arXiv 2107.07511, section 2.3.1). Fit it on
    validation patients, never on those on whom coverage is reported.

    Parameters
    ----------
    cases : iterable of (mean, spread, truth, mask)
        As `coverage` takes them.
    sigmas : float
        How many standard deviations to either side.
    wanted : float
        The coverage, between 0 and 1.

    Raises
    ------
    InvalidInputError
        If there is no case, the coverage lies outside 0 to 1, or so many samples agree to the
        last digit that no scale covers the truth.
    """
    if not 0 < wanted < 1:
        raise InvalidInputError("A coverage lies between 0 and 1", why=f"it is {wanted:g}")
    ratios, weights = [], []
    for mean, spread, truth, mask in cases:
        sigma, size = _values(mask, spread, np.abs(_difference(mean, truth)))
        ratio = size / (sigmas * np.maximum(sigma, _LEAST_SPREAD))
        ratios.append(ratio)
        weights.append(np.full(ratio.size, 1.0 / ratio.size))
    if not ratios:
        raise InvalidInputError(
            "There is no case to calibrate the uncertainty on",
            remedy="give validation patients",
        )
    ratio = np.concatenate(ratios)
    order = np.argsort(ratio)
    share = np.cumsum(np.concatenate(weights)[order]) / len(ratios)
    scale = float(ratio[order][min(int(np.searchsorted(share, wanted)), ratio.size - 1)])
    if not 0 < scale * _LEAST_SPREAD < 1:
        raise InvalidInputError(
            "The uncertainty cannot be calibrated by a factor",
            why="most samples are the same" if scale > 0 else "most of the voxels have no error",
            remedy="draw samples from different noise",
        )
    return scale


def crps(samples: Array, truth: Array, *, mask: Mask | None = None, unit: str = "HU") -> Metric:
    """Continuous ranked probability score of samples, the mean over voxels.

    ``E|X - y| - E|X - X'| / 2``, with the expectation over pairs of different samples, so that
    few samples are not punished (Gneiting and Raftery, J. Am. Stat. Assoc. 102, 359-378, 2007;
    Ferro, Q. J. R. Meteorol. Soc. 140, 1917-1923, 2014). Of one sample it is the mean absolute
    error: the score rewards a spread that is as wide as the errors are.

    Parameters
    ----------
    samples : ndarray, shape (N, ...)
        Draws.
    truth : ndarray, shape (...)
        What happened.
    mask : ndarray of bool, the shape of `truth`, optional
        Voxels that count; all if None.
    unit : str
        Of the values.

    Raises
    ------
    InvalidInputError
        As `rank_correlation`, or if there is no sample.
    """
    draws = np.asarray(samples)
    if draws.ndim < 2 or not len(draws):
        raise InvalidInputError("CRPS needs samples along the first axis")
    n = len(draws)
    values = np.sort(np.stack(_values(mask, *draws)), axis=0)
    (happened,) = _values(mask, truth)
    if values.shape[1:] != happened.shape:
        raise _unlike()
    score = np.abs(values - happened).mean(0)
    if n > 1:
        # Of sorted values: the sum of |a - b| over all pairs, without making the pairs.
        rank = 2.0 * np.arange(1, n + 1) - n - 1
        score -= np.tensordot(rank, values, axes=1) / (n * (n - 1))
    return Metric(
        "crps",
        float(score.mean()),
        f"fair continuous ranked probability score of {n} samples, mean over voxels, "
        f"{_counted(mask)}",
        unit,
        higher_is_better=False,
    )


def _difference(mean: Array, truth: Array) -> npt.NDArray[np.float64]:
    a, b = np.asarray(mean, np.float64), np.asarray(truth, np.float64)
    if a.shape != b.shape:
        raise _unlike()
    difference: npt.NDArray[np.float64] = a - b
    return difference


def _values(mask: Mask | None, *arrays: Array) -> list[npt.NDArray[np.float64]]:
    """The voxels that count, each array flat."""
    given = [np.asarray(array, np.float64) for array in arrays]
    shapes = {array.shape for array in given}
    counted = np.ones(given[0].shape, bool) if mask is None else np.asarray(mask)
    if len(shapes | {counted.shape}) > 1 or counted.dtype != bool:
        raise _unlike()
    if not counted.any():
        raise InvalidInputError("No voxel counts", why="the mask is empty")
    return [array[counted] for array in given]


def _unlike() -> InvalidInputError:
    return InvalidInputError(
        "Uncertainty is measured on volumes of one shape",
        why="mean, spread, truth and mask differ",
        remedy="bring them onto one grid; the mask holds True and False",
    )


def _counted(mask: Mask | None) -> str:
    return "all voxels" if mask is None else "voxels of the mask"
