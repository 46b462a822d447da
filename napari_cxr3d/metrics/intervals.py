"""How sure a mean is: bootstrap intervals over patients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError

__all__ = ["Interval", "Method", "bootstrap_interval", "paired_interval", "per_patient"]

Method = Literal["BCa", "percentile"]
_FEWEST = 3  # patients of whom a bootstrap says anything


@dataclass(frozen=True)
class Interval:
    """A mean over patients and where it lies.

    Attributes
    ----------
    mean : float
        Mean of the patients' values.
    low, high : float or None
        Ends of the interval; None where there are too few patients, or a value is infinite.
    patients : int
        How many patients.
    convention : str
        How the interval was made.
    """

    mean: float
    low: float | None
    high: float | None
    patients: int
    convention: str


def bootstrap_interval(
    values: Sequence[float],
    patients: Sequence[str] | None = None,
    *,
    confidence: float = 0.95,
    method: Method = "BCa",
    resamples: int = 9999,
    seed: int = 0,
) -> Interval:
    """Interval of the mean over patients, who are drawn with replacement.

    Several values of one patient are averaged first: they are not independent. BCa is the
    bias-corrected and accelerated bootstrap (Efron, J. Am. Stat. Assoc. 82, 171-185, 1987).

    Parameters
    ----------
    values : sequence of float
        One a case.
    patients : sequence of str, optional
        The patient of each case; every case is a patient of its own if None.
    confidence : float
        Between 0 and 1.
    method : {"BCa", "percentile"}
        How the interval is read from the resamples.
    resamples : int
        How many times patients are drawn.
    seed : int
        Same seed, same interval.

    Raises
    ------
    InvalidInputError
        If there are no values, one is not a number, or a setting cannot be used.
    """
    means = per_patient(values, patients)
    if method not in ("BCa", "percentile") or not 0 < confidence < 1 or resamples < 1:
        raise InvalidInputError(
            "The bootstrap cannot be made",
            why=f"method {method!r}, confidence {confidence}, {resamples} resamples",
            remedy="choose BCa or percentile, and a confidence between 0 and 1",
        )
    n, mean = len(means), float(means.mean())
    way = f"{confidence:.0%} {method} bootstrap over {n} patients, {resamples} resamples"
    if n < _FEWEST or not np.isfinite(means).all():
        why = "an infinite value" if n >= _FEWEST else "too few patients"
        return Interval(mean, None, None, n, f"no interval: {why} ({n} patients)")
    if np.ptp(means) == 0:
        return Interval(mean, mean, mean, n, way)

    from scipy import stats

    found = stats.bootstrap(
        (means,),
        np.mean,
        n_resamples=resamples,
        batch=1000,
        confidence_level=confidence,
        method=method,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    low, high = float(found.low), float(found.high)
    if math.isnan(low) or math.isnan(high):
        return Interval(mean, None, None, n, f"no interval: {method} is degenerate here")
    return Interval(mean, low, high, n, f"{way}, seed {seed}")


def paired_interval(
    values: Sequence[float],
    others: Sequence[float],
    patients: Sequence[str] | None = None,
    *,
    confidence: float = 0.95,
    method: Method = "BCa",
    resamples: int = 9999,
    seed: int = 0,
) -> Interval:
    """Interval of the mean difference of two methods on the same cases.

    Parameters
    ----------
    values, others : sequence of float
        Both methods' values, case by case.
    patients, confidence, method, resamples, seed
        As `bootstrap_interval`.

    Raises
    ------
    InvalidInputError
        As `bootstrap_interval`, or if the lengths differ.
    """
    a, b = np.asarray(values, float), np.asarray(others, float)
    if a.shape != b.shape:
        raise InvalidInputError(
            "Paired values come case by case", why=f"there are {a.size} and {b.size}"
        )
    with np.errstate(invalid="ignore"):
        difference = np.where(a == b, 0.0, a - b)  # of two infinite values too
    return bootstrap_interval(
        difference.tolist(),
        patients,
        confidence=confidence,
        method=method,
        resamples=resamples,
        seed=seed,
    )


def per_patient(values: Sequence[float], patients: Sequence[str] | None) -> npt.NDArray[np.float64]:
    """Mean of each patient's values, patients in the order of their first case.

    Raises
    ------
    InvalidInputError
        If there are no values, one is not a number, or the lengths differ.
    """
    array = np.asarray(values, float)
    if array.ndim != 1 or not array.size or np.isnan(array).any():
        raise InvalidInputError(
            "A mean needs numbers",
            why=f"there are {array.size} values, {int(np.isnan(array).sum())} of them not numbers",
        )
    if patients is None:
        return array
    if len(patients) != array.size:
        raise InvalidInputError(
            "Every case has one patient",
            why=f"there are {array.size} values and {len(patients)} patients",
        )
    groups: dict[str, list[float]] = {}
    for patient, value in zip(patients, array.tolist(), strict=True):
        groups.setdefault(patient, []).append(value)
    return np.array([math.fsum(g) / len(g) for g in groups.values()])
