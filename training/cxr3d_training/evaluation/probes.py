"""What frozen weights know of findings: linear probes, with few labels and with all.

A probe is logistic regression on the mean of a picture's patch tokens, each number standardised
by the training side. Nothing of the network moves, which the hash of its weights proves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from cxr3d_training.evaluation.probes_data import ProbeSet
from cxr3d_training.evaluation.reconstruct_store import network_sha256
from napari_cxr3d.errors import Cxr3dError, InvalidInputError
from napari_cxr3d.metrics import Interval
from napari_cxr3d.metrics.statistics import auroc
from napari_cxr3d.models.orbit_model import OrbitModel, standardised

__all__ = [
    "STRENGTHS",
    "Features",
    "Probe",
    "few_shot_probe",
    "frozen_features",
    "linear_probe",
    "over_seeds",
    "pixel_features",
    "shots",
]

Array = npt.NDArray[np.float64]

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Inverse penalties among which the validation side chooses."""

_BATCH = 32
_COMPONENTS = 192


@dataclass(frozen=True, eq=False)
class Features:
    """Numbers of every picture, by side.

    Attributes
    ----------
    train, validation, test : ndarray of float64, shape (n, D)
        One row a picture.
    sha256 : str
        Of the frozen weights; empty where there are none.
    """

    train: Array
    validation: Array
    test: Array
    sha256: str = ""


@dataclass(frozen=True, eq=False)
class Probe:
    """What a linear probe says of the test side.

    Attributes
    ----------
    strength : float
        Inverse penalty that the validation side chose.
    validation, test : ndarray of float64, shape (n, labels)
        Scores, higher for positive.
    """

    strength: float
    validation: Array
    test: Array


def frozen_features(
    model: OrbitModel,
    train: ProbeSet,
    validation: ProbeSet,
    test: ProbeSet,
    *,
    device: str | torch.device = "cpu",
) -> Features:
    """Mean patch tokens of `model.encode`, whose weights stay as they are.

    Raises
    ------
    Cxr3dError
        If the weights were changed by reading them.
    """
    before = network_sha256(model)
    model = model.to(device).eval()

    def read(pictures: npt.NDArray[np.float32]) -> Array:
        with torch.inference_mode():
            parts = [
                model.encode(torch.from_numpy(pictures[k : k + _BATCH]).to(device)).mean(1).cpu()
                for k in range(0, len(pictures), _BATCH)
            ]
        return torch.cat(parts).double().numpy()

    found = Features(read(train.pictures), read(validation.pictures), read(test.pictures), before)
    if network_sha256(model) != before:
        raise Cxr3dError(
            "The weights are not frozen", why="they are others after the pictures were read"
        )
    return found


def pixel_features(
    train: ProbeSet, validation: ProbeSet, test: ProbeSet, *, components: int = _COMPONENTS
) -> Features:
    """Principal components of the pixels themselves: what no network is needed for.

    Parameters
    ----------
    train, validation, test : ProbeSet
        The components are those of the training side.
    components : int
        How many, at most.
    """
    from sklearn.decomposition import PCA

    flat = [
        standardised(torch.from_numpy(side.pictures)).flatten(1).numpy()
        for side in (train, validation, test)
    ]
    count = min(components, len(train) - 1, flat[0].shape[1])
    found = PCA(count, svd_solver="full", whiten=False).fit(flat[0])
    a, b, c = (np.asarray(found.transform(side), np.float64) for side in flat)
    return Features(a, b, c)


def linear_probe(
    features: Features,
    train: ProbeSet,
    validation: ProbeSet,
    *,
    strengths: Sequence[float] = STRENGTHS,
) -> Probe:
    """Logistic regression for every label, of one penalty for all.

    Parameters
    ----------
    features : Features
        Of the sides.
    train, validation : ProbeSet
        Labels to learn from, and those whose mean AUROC chooses the penalty.
    strengths : sequence of float
        Inverse penalties to choose from.
    """
    x, y, z = _standardised(features)
    best: Probe | None = None
    reached = -1.0
    for strength in strengths:
        columns = [_fitted(x, train.truth[:, k], strength) for k in range(len(train.labels))]
        scores = np.stack([y @ w + b for w, b in columns], axis=1)
        value = _macro(validation.truth, scores)
        if value > reached:
            reached = value
            best = Probe(strength, scores, np.stack([z @ w + b for w, b in columns], axis=1))
    if best is None:
        raise InvalidInputError("There is no penalty to choose from")
    return best


def shots(truth: npt.NDArray[np.bool_], count: int, seed: int) -> npt.NDArray[np.int64]:
    """Cases with and without a label, `count` of each, drawn by a seed.

    A seed's draw of few is the beginning of its draw of more.

    Parameters
    ----------
    truth : ndarray of bool, shape (n,)
        Who has it.
    count : int
        Of each kind; all that there are where there are fewer.
    seed : int
        Of the draw.
    """
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(np.flatnonzero(truth == kind))[:count] for kind in (True, False)]
    return np.sort(np.concatenate(drawn))


def few_shot_probe(
    features: Features,
    train: ProbeSet,
    test: ProbeSet,
    count: int | None,
    seed: int,
) -> float:
    """Mean AUROC over labels of probes that saw `count` cases with and without each label.

    The penalty is not chosen, which would need labels: it is one over the number of features.

    Parameters
    ----------
    features : Features
        Of the sides; the training side without labels standardises them.
    train, test : ProbeSet
        Labels.
    count : int or None
        Cases of each kind; None is all.
    seed : int
        Of the draw.
    """
    x, _, z = _standardised(features)
    areas = []
    for k in range(len(train.labels)):
        truth = train.truth[:, k]
        rows = np.arange(len(truth)) if count is None else shots(truth, count, seed)
        w, b = _fitted(x[rows], truth[rows], 1.0 / x.shape[1])
        areas.append(auroc(test.truth[:, k], z @ w + b))
    return float(np.mean(areas))


def over_seeds(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean over draws with Student's interval; no interval of a single one.

    Parameters
    ----------
    values : sequence of float
        One a seed.
    confidence : float
        Between 0 and 1.
    """
    from scipy.stats import t

    count, mean = len(values), float(np.mean(values))
    if count < 2:
        return Interval(mean, None, None, count, "no interval: one draw")
    half = float(t.ppf((1 + confidence) / 2, count - 1)) * float(np.std(values, ddof=1))
    half /= count**0.5
    way = f"{confidence:.0%} Student over {count} draws of the training cases"
    return Interval(mean, mean - half, mean + half, count, way)


def _standardised(features: Features) -> tuple[Array, Array, Array]:
    mean, deviation = features.train.mean(0), features.train.std(0)
    scale = np.where(deviation > 1e-9, deviation, 1.0)
    x, y, z = (
        (side - mean) / scale for side in (features.train, features.validation, features.test)
    )
    return x, y, z


def _fitted(x: Array, truth: npt.NDArray[np.bool_], strength: float) -> tuple[Array, float]:
    from sklearn.linear_model import LogisticRegression

    found = LogisticRegression(C=strength, max_iter=2000).fit(x, truth)
    return np.asarray(found.coef_[0], np.float64), float(found.intercept_[0])


def _macro(truth: npt.NDArray[np.bool_], scores: Array) -> float:
    return float(np.mean([auroc(truth[:, k], scores[:, k]) for k in range(truth.shape[1])]))
