"""How well scores tell the sick from the healthy, with how sure that is.

AUROC with the interval and the paired test of DeLong et al. (Biometrics 44, 837-845, 1988), in the
form by ranks of Sun and Xu (IEEE Signal Proc. Lett. 21, 1389-1393, 2014). The numbers are those
of R's pROC (Robin et al., BMC Bioinformatics 12:77, 2011).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.metrics.image_quality import Metric
from napari_cxr3d.metrics.intervals import Interval

__all__ = [
    "Auroc",
    "Cutoff",
    "DelongTest",
    "at_cutoff",
    "auroc",
    "concordance",
    "delong_auroc",
    "delong_test",
    "macro_auroc",
    "macro_difference",
    "youden",
]

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float64]

_BATCH = 256  # resamples whose counts are in memory at once


@dataclass(frozen=True)
class Auroc:
    """Area under the ROC curve, and where it lies.

    Attributes
    ----------
    value : float
        Probability that a positive scores above a negative, ties counting half.
    low, high : float or None
        Ends of the interval, cut at 0 and 1; None where a class has but one member.
    positives, negatives : int
        How many of each.
    convention : str
        How the interval was made.
    """

    value: float
    low: float | None
    high: float | None
    positives: int
    negatives: int
    convention: str

    def metric(self, name: str = "auroc") -> Metric:
        """For a report."""
        return Metric(name, self.value, self.convention)


@dataclass(frozen=True)
class DelongTest:
    """Two scores of the same cases compared by their AUROC.

    Attributes
    ----------
    difference : float
        First AUROC less the second.
    low, high : float or None
        Interval of the difference.
    z : float or None
        The difference in its standard errors; None where that error is 0 or unknown and the
        difference is not 0.
    p : float or None
        Two-sided.
    convention : str
        How it was made.
    """

    difference: float
    low: float | None
    high: float | None
    z: float | None
    p: float | None
    convention: str


@dataclass(frozen=True)
class Cutoff:
    """What a threshold does: scores at or above it are called positive.

    Attributes
    ----------
    threshold : float
        In the scores' own unit.
    sensitivity, specificity : float
        Parts of the positives and of the negatives that it calls right.
    """

    threshold: float
    sensitivity: float
    specificity: float

    @property
    def youden(self) -> float:
        """Youden's J, sensitivity + specificity - 1 (Cancer 3, 32-35, 1950)."""
        return self.sensitivity + self.specificity - 1.0


def auroc(truth: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Area under the ROC curve alone; parameters and errors as `delong_auroc`."""
    y, s = _checked(truth, scores)
    value, _, _ = _components(y, s)
    return value


def delong_auroc(truth: npt.ArrayLike, scores: npt.ArrayLike, *, confidence: float = 0.95) -> Auroc:
    """AUROC with DeLong's interval.

    Parameters
    ----------
    truth : array-like of bool or {0, 1}, shape (n,)
        Which cases are positive.
    scores : array-like of float, shape (n,)
        Higher is more likely positive.
    confidence : float
        Of the interval, between 0 and 1.

    Raises
    ------
    InvalidInputError
        If lengths differ, a score is not a number, or one of the classes is missing.
    """
    y, s = _checked(truth, scores)
    quantile = _quantile(confidence)
    value, of_positives, of_negatives = _components(y, s)
    m, n = len(of_positives), len(of_negatives)
    way = f"{confidence:.0%} DeLong, {m} positives and {n} negatives"
    if min(m, n) < 2:
        return Auroc(value, None, None, m, n, f"no interval: {m} positives, {n} negatives")
    half = quantile * math.sqrt(of_positives.var(ddof=1) / m + of_negatives.var(ddof=1) / n)
    return Auroc(value, max(0.0, value - half), min(1.0, value + half), m, n, way)


def delong_test(
    truth: npt.ArrayLike,
    scores: npt.ArrayLike,
    others: npt.ArrayLike,
    *,
    confidence: float = 0.95,
) -> DelongTest:
    """Whether two scores of the same cases differ in AUROC.

    Parameters
    ----------
    truth, scores, confidence
        As `delong_auroc`.
    others : array-like of float, shape (n,)
        The scores compared with.

    Raises
    ------
    InvalidInputError
        As `delong_auroc`.
    """
    y, first = _checked(truth, scores)
    _, second = _checked(truth, others)
    quantile = _quantile(confidence)
    a, a_positives, a_negatives = _components(y, first)
    b, b_positives, b_negatives = _components(y, second)
    difference, m, n = a - b, len(a_positives), len(a_negatives)
    way = f"{confidence:.0%} paired DeLong, {m} positives and {n} negatives"
    if min(m, n) < 2:
        told = f"no test: {m} positives, {n} negatives"
        return DelongTest(difference, None, None, None, None, told)
    # The variance of a difference of means is that of the paired differences.
    variance = (a_positives - b_positives).var(ddof=1) / m
    variance += (a_negatives - b_negatives).var(ddof=1) / n
    error = math.sqrt(variance)
    low, high = difference - quantile * error, difference + quantile * error
    if error <= 1e-12:
        z, p = (0.0, 1.0) if abs(difference) <= 1e-12 else (None, None)
        return DelongTest(difference, low, high, z, p, way)
    z = difference / error
    return DelongTest(difference, low, high, z, math.erfc(abs(z) / math.sqrt(2.0)), way)


def macro_auroc(
    truth: npt.ArrayLike,
    scores: npt.ArrayLike,
    patients: Sequence[str] | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Mean AUROC over labels, with a bootstrap interval over patients.

    Labels of one patient are drawn together, so that what they share is counted. A label that a
    resample leaves without a class is left out of that resample's mean.

    Parameters
    ----------
    truth, scores : array-like, shape (n, labels)
        As `delong_auroc`, a column a label.
    patients : sequence of str, optional
        The patient of each case; every case is a patient of its own if None.
    confidence, resamples, seed
        As `napari_cxr3d.metrics.bootstrap_interval`.

    Raises
    ------
    InvalidInputError
        As `delong_auroc`, for any label.
    """
    y, s = _columns(truth, scores)
    drawn = _Drawn(y, patients, resamples, seed)
    return drawn.interval(_mean(y, s), drawn.macro(s), confidence)


def macro_difference(
    truth: npt.ArrayLike,
    scores: npt.ArrayLike,
    others: npt.ArrayLike,
    patients: Sequence[str] | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """How much larger the mean AUROC is with one set of scores than with another.

    Parameters
    ----------
    truth, scores, patients, confidence, resamples, seed
        As `macro_auroc`.
    others : array-like, shape (n, labels)
        The scores compared with, of the same cases; both see the same resamples.

    Raises
    ------
    InvalidInputError
        As `macro_auroc`.
    """
    y, first = _columns(truth, scores)
    _, second = _columns(truth, others)
    drawn = _Drawn(y, patients, resamples, seed)
    gain = _mean(y, first) - _mean(y, second)
    return drawn.interval(gain, drawn.macro(first) - drawn.macro(second), confidence)


def youden(truth: npt.ArrayLike, scores: npt.ArrayLike) -> Cutoff:
    """The threshold with the largest Youden's J, half way between two scores.

    Of several such thresholds the lowest, which is the most sensitive. It is to be chosen on
    other cases than those on which `at_cutoff` measures it.

    Parameters
    ----------
    truth, scores
        As `delong_auroc`.

    Raises
    ------
    InvalidInputError
        As `delong_auroc`, or if all scores are the same.
    """
    y, s = _checked(truth, scores)
    values = np.unique(s)
    if len(values) < 2:
        raise InvalidInputError("No threshold parts scores that are all the same")
    thresholds = (values[:-1] + values[1:]) / 2.0
    positives, negatives = np.sort(s[y]), np.sort(s[~y])
    sensitive = 1.0 - np.searchsorted(positives, thresholds) / len(positives)
    specific = np.searchsorted(negatives, thresholds) / len(negatives)
    gain = sensitive + specific
    best = int(np.flatnonzero(gain >= gain.max() - 1e-12)[0])
    return Cutoff(float(thresholds[best]), float(sensitive[best]), float(specific[best]))


def at_cutoff(truth: npt.ArrayLike, scores: npt.ArrayLike, threshold: float) -> Cutoff:
    """What a threshold does on these cases; parameters and errors as `delong_auroc`."""
    y, s = _checked(truth, scores)
    called = s >= threshold
    return Cutoff(float(threshold), float(called[y].mean()), float((~called)[~y].mean()))


def concordance(times: npt.ArrayLike, events: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Harrell's C: how often the one who has the event earlier has the higher score.

    Pairs count whose earlier time is an event's (Harrell et al., Stat. Med. 15, 361-387, 1996);
    of two at the same time, an event comes before one who was then still without. Equal scores
    count half, two events at the same time not at all.

    Parameters
    ----------
    times : array-like of float, shape (n,)
        Until the event or the last that is known.
    events : array-like of bool, shape (n,)
        Whether the event was seen.
    scores : array-like of float, shape (n,)
        Higher is earlier.

    Raises
    ------
    InvalidInputError
        If lengths differ, a number is none, or no pair can be compared.
    """
    t, e = np.asarray(times, np.float64), np.asarray(events, bool)
    s = np.asarray(scores, np.float64)
    if not (t.ndim == 1 and t.shape == e.shape == s.shape and np.isfinite(t + s).all()):
        raise InvalidInputError(
            "Each case needs a time, an event and a score",
            why=f"there are {t.size}, {e.size} and {s.size}, or a number is none",
        )
    earlier = e[:, None] & ((t[:, None] < t) | ((t[:, None] == t) & ~e))
    pairs = int(earlier.sum())
    if not pairs:
        raise InvalidInputError("No two cases can be compared", why="there are too few events")
    right = (s[:, None] > s) + 0.5 * (s[:, None] == s)
    return float((right * earlier).sum() / pairs)


class _Drawn:
    """Resamples of patients, as how often each case stands in them."""

    def __init__(
        self, truth: Array, patients: Sequence[str] | None, resamples: int, seed: int
    ) -> None:
        if patients is not None and len(patients) != len(truth):
            raise InvalidInputError(
                "Every case has one patient",
                why=f"there are {len(truth)} cases and {len(patients)} patients",
            )
        names = [str(k) for k in range(len(truth))] if patients is None else list(patients)
        self._patient = np.unique(names, return_inverse=True)[1]
        self._truth, self._resamples, self._seed = truth, resamples, seed
        self.patients = int(self._patient.max()) + 1

    def macro(self, scores: Array) -> FloatArray:
        """Mean AUROC over labels in each resample; NaN where no label has both classes."""
        rng = np.random.default_rng(self._seed)
        shares = np.full(self.patients, 1.0 / self.patients)
        wins = [_wins(y, s) for y, s in zip(self._truth.T, scores.T, strict=True)]
        found = []
        for start in range(0, self._resamples, _BATCH):
            count = min(_BATCH, self._resamples - start)
            weights = rng.multinomial(self.patients, shares, count)[:, self._patient]
            areas = np.full((count, len(wins)), np.nan)
            for label, (y, won) in enumerate(zip(self._truth.T, wins, strict=True)):
                w, v = weights[:, y].astype(np.float64), weights[:, ~y]
                both = w.sum(1) * v.sum(1)
                total = ((w @ won) * v).sum(1)
                np.divide(total, both, out=areas[:, label], where=both > 0)
            known = np.isfinite(areas)
            sums = np.where(known, areas, 0.0).sum(1)
            found.append(np.where(known.any(1), sums / np.maximum(known.sum(1), 1), np.nan))
        return np.concatenate(found)

    def interval(self, value: float, drawn: FloatArray, confidence: float) -> Interval:
        """Of a value and its resamples."""
        _quantile(confidence)
        drawn = drawn[np.isfinite(drawn)]
        if self.patients < 3 or not len(drawn):
            told = f"no interval: too few patients ({self.patients} patients)"
            return Interval(value, None, None, self.patients, told)
        low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
        way = f"{confidence:.0%} percentile bootstrap over {self.patients} patients"
        way += f", {self._resamples} resamples, seed {self._seed}"
        return Interval(value, float(low), float(high), self.patients, way)


def _components(y: npt.NDArray[np.bool_], s: FloatArray) -> tuple[float, FloatArray, FloatArray]:
    """AUROC and DeLong's components.

    Of each positive the part of the negatives below it, of each negative the part of the
    positives above it, ties half.
    """
    from scipy.stats import rankdata

    m, n = int(y.sum()), int((~y).sum())
    among_all = rankdata(s)
    of_positives = (among_all[y] - rankdata(s[y])) / n
    of_negatives = 1.0 - (among_all[~y] - rankdata(s[~y])) / m
    return float(of_positives.mean()), of_positives, of_negatives


def _wins(y: npt.NDArray[np.bool_], s: FloatArray) -> FloatArray:
    """Whether each positive scores above each negative, ties half, (positives, negatives)."""
    above, below = s[y][:, None], s[~y][None, :]
    won: FloatArray = (above > below) + 0.5 * (above == below)
    return won


def _mean(truth: Array, scores: Array) -> float:
    areas = [_components(y, s)[0] for y, s in zip(truth.T, scores.T, strict=True)]
    return math.fsum(areas) / len(areas)


def _columns(truth: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Array, Array]:
    y, s = np.asarray(truth), np.asarray(scores)
    if y.ndim != 2 or y.shape != s.shape or not y.shape[1]:
        raise InvalidInputError(
            "Labels and scores of several kinds are a column each",
            why=f"their shapes are {y.shape} and {s.shape}",
        )
    pairs = [_checked(*columns) for columns in zip(y.T, s.T, strict=True)]
    return np.stack([y for y, _ in pairs], axis=1), np.stack([s for _, s in pairs], axis=1)


def _checked(
    truth: npt.ArrayLike, scores: npt.ArrayLike
) -> tuple[npt.NDArray[np.bool_], FloatArray]:
    y, s = np.asarray(truth), np.asarray(scores, np.float64)
    if y.ndim != 1 or y.shape != s.shape:
        raise InvalidInputError(
            "Every case has one label and one score",
            why=f"there are {y.size} labels and {s.size} scores",
        )
    if not np.isin(y, (0, 1)).all() or not np.isfinite(s).all():
        raise InvalidInputError(
            "A label is 0 or 1, and a score a finite number",
            remedy="leave out cases that are not labelled",
        )
    y = y.astype(bool)
    if y.all() or not y.any():
        raise InvalidInputError(
            "Positives and negatives are needed",
            why=f"all {y.size} cases are {'positive' if y.any() else 'negative'}",
        )
    return y, s


def _quantile(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise InvalidInputError("A confidence lies between 0 and 1", why=f"it is {confidence:g}")
    from scipy.special import ndtri

    return float(ndtri((1.0 + confidence) / 2.0))
