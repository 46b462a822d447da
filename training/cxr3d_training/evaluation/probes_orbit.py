"""Risk and findings read off a frozen model's predicted orbit, beside a supervised network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from cxr3d_training.evaluation.probes_data import ProbeSet
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.metrics.statistics import auroc, concordance
from napari_cxr3d.models.orbit_heads import OrbitHead, Pooling, cox_loss, orbit_tokens
from napari_cxr3d.models.orbit_model import OrbitModel

__all__ = [
    "FOLLOWED_YEARS",
    "Survival",
    "at_high_risk",
    "fit_hazard",
    "fit_head",
    "orbit_yaws",
    "read_orbit",
    "survival",
]

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.bool_]

FOLLOWED_YEARS = 10.0
"""The span over which a phantom's risk is told, and for which it is followed here."""

_STEPS = 300
_LOOK_EVERY = 10
_RATE = 3e-3
_DECAY = 0.1
_BATCH = 16


@dataclass(frozen=True, eq=False)
class Survival:
    """When events come.

    Attributes
    ----------
    times : ndarray of float64, shape (n,)
        Years until the event, or until the last that is known.
    events : ndarray of bool, shape (n,)
        Whether it was seen.
    """

    times: Array
    events: Labels


def orbit_yaws(model: OrbitModel, count: int = 7) -> tuple[float, ...]:
    """Angles spread evenly over those that a model was trained on, ends included."""
    yaws = model.yaws
    chosen = np.unique(np.rint(np.linspace(0, len(yaws) - 1, min(count, len(yaws)))).astype(int))
    return tuple(yaws[k] for k in chosen)


def read_orbit(
    model: OrbitModel,
    sides: Sequence[ProbeSet],
    yaws: Sequence[float],
    *,
    device: str | torch.device = "cpu",
    step: Callable[[], None] = lambda: None,
) -> tuple[Tensor, ...]:
    """Mean predicted tokens of each side's pictures, (n, K, D) each."""
    model = model.to(device).eval()
    found = []
    for side in sides:
        parts = []
        for k in range(0, len(side), _BATCH):
            pictures = torch.from_numpy(side.pictures[k : k + _BATCH]).to(device)
            with torch.no_grad():
                parts.append(orbit_tokens(model, pictures, yaws).cpu())
            step()
        found.append(torch.cat(parts))
    return tuple(found)


def at_high_risk(risk: Array, train: Array) -> Labels:
    """Whose risk is above the median of the training side.

    Raises
    ------
    InvalidInputError
        If a risk is not known.
    """
    if not (np.isfinite(risk).all() and np.isfinite(train).all()):
        raise InvalidInputError(
            "The risk of some cases is not known",
            remedy="probe phantoms, or leave the table of the orbit out",
        )
    high: Labels = risk > np.median(train)
    return high


def survival(risk: Array, seed: int) -> Survival:
    """Events drawn at a constant hazard that gives each patient his risk within ten years.

    The hazard is ``-ln(1 - risk) / 10`` a year; who has no event in ten years is censored then.
    Times are drawn, not measured: even the true risk orders them only as well as chance allows.

    Parameters
    ----------
    risk : ndarray of float64, shape (n,)
        Probability of an event in ten years.
    seed : int
        Of the draw.
    """
    rng = np.random.default_rng(seed)
    hazard = -np.log1p(-np.clip(risk, 1e-9, 1 - 1e-9)) / FOLLOWED_YEARS
    times = rng.exponential(1.0, len(risk)) / hazard
    return Survival(np.minimum(times, FOLLOWED_YEARS), times < FOLLOWED_YEARS)


def fit_head(
    tokens: Tensor,
    truth: Labels,
    validation: tuple[Tensor, Labels],
    *,
    pooling: Pooling = "attention",
    seed: int = 0,
) -> OrbitHead:
    """A head for labels; the step of the best mean AUROC on the validation side is kept.

    Parameters
    ----------
    tokens : Tensor, shape (n, K, D)
        Of the training side, from `read_orbit`.
    truth : ndarray of bool, shape (n, labels)
        Its labels.
    validation : tuple
        Tokens and labels.
    pooling : {"mean", "attention"}
        See `OrbitHead`.
    seed : int
        Of the dropout.
    """
    wanted = torch.from_numpy(truth.astype(np.float32))

    def loss(logits: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(logits, wanted)

    def value(logits: Array) -> float:
        pairs = zip(validation[1].T, logits.T, strict=True)
        return float(np.mean([auroc(t, s) for t, s in pairs]))

    return _fitted(tokens, validation[0], truth.shape[1], loss, value, pooling, seed)


def fit_hazard(
    tokens: Tensor,
    known: Survival,
    validation: tuple[Tensor, Survival],
    *,
    pooling: Pooling = "attention",
    seed: int = 0,
) -> OrbitHead:
    """A head for the log hazard by Cox's partial likelihood; the rest as `fit_head`.

    The step is kept whose hazards order the events of the validation side best (Harrell's C).
    """
    times, events = torch.from_numpy(known.times), torch.from_numpy(known.events)
    then = validation[1]

    def loss(hazards: Tensor) -> Tensor:
        return cox_loss(hazards[:, 0], times, events)

    def value(hazards: Array) -> float:
        return concordance(then.times, then.events, hazards[:, 0])

    return _fitted(tokens, validation[0], 1, loss, value, pooling, seed)


def _fitted(
    tokens: Tensor,
    validation: Tensor,
    outputs: int,
    loss: Callable[[Tensor], Tensor],
    value: Callable[[Array], float],
    pooling: Pooling,
    seed: int,
) -> OrbitHead:
    torch.manual_seed(seed)
    head = OrbitHead(tokens.shape[-1], outputs, pooling=pooling)
    head.standardise_by(tokens)
    optimizer = torch.optim.AdamW(head.parameters(), lr=_RATE, weight_decay=_DECAY)
    best, kept = -1.0, head.state_dict()
    for done in range(1, _STEPS + 1):
        head.train()
        optimizer.zero_grad(set_to_none=True)
        loss(head(tokens)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if done % _LOOK_EVERY == 0:
            head.eval()
            with torch.no_grad():
                reached = value(head(validation).double().numpy())
            if reached > best:
                best = reached
                kept = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    head.load_state_dict(kept)
    return head.eval()
