"""Heads that read a disease off what a world model predicts from all around.

What is read are the mean tokens of the views at a number of angles, (B, K, D): the heads are
small, the world model stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.orbit_model import OrbitModel

__all__ = ["OrbitHead", "Pooling", "cox_loss", "orbit_tokens"]

Pooling = Literal["mean", "attention"]


class OrbitHead(nn.Module):
    """From tokens of an orbit to logits, or to a log hazard.

    Parameters
    ----------
    dim : int
        Numbers of a token, D.
    outputs : int
        Logits: findings, or 1 for a risk.
    pooling : {"mean", "attention"}
        How the angles become one: their mean, or a weighted mean whose weights every output
        learns from the tokens (Ilse et al., ICML 2018, without the gate).
    dropout : float
        Of the pooled numbers, while it trains.

    Attributes
    ----------
    mean, deviation : Tensor, shape (D,)
        Tokens are standardised by them; see `standardise_by`.
    """

    def __init__(
        self, dim: int, outputs: int = 1, *, pooling: Pooling = "attention", dropout: float = 0.2
    ) -> None:
        super().__init__()
        if pooling not in ("mean", "attention") or min(dim, outputs) < 1:
            raise InvalidInputError(
                "A head pools angles by mean or attention, and has an output or more",
                why=f"it is {pooling!r} with {outputs} of {dim} numbers",
            )
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("deviation", torch.ones(dim))
        self.score = nn.Linear(dim, outputs) if pooling == "attention" else None
        self.dropout = nn.Dropout(dropout)
        self.weight = nn.Parameter(torch.zeros(outputs, dim))
        self.bias = nn.Parameter(torch.zeros(outputs))
        if self.score is not None:  # all angles alike at first
            nn.init.zeros_(self.score.weight)
            nn.init.zeros_(self.score.bias)

    def standardise_by(self, tokens: Tensor) -> None:
        """Take mean and deviation from the training side's tokens, (n, K, D)."""
        flat = tokens.reshape(-1, tokens.shape[-1]).float()
        self.mean.copy_(flat.mean(0))
        self.deviation.copy_(flat.std(0).clamp_min(1e-6))

    def attention(self, tokens: Tensor) -> Tensor:
        """Weights of the angles for every output, (B, K, outputs); they make 1 over K."""
        x = (tokens - self.mean) / self.deviation
        if self.score is None:
            shape = (*tokens.shape[:2], len(self.bias))
            return tokens.new_full(shape, 1.0 / tokens.shape[1])
        weights: Tensor = self.score(x).softmax(1)
        return weights

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens of an orbit (B, K, D) to (B, outputs)."""
        x = (tokens - self.mean) / self.deviation
        pooled = torch.einsum("bko,bkd->bod", self.attention(tokens), x)
        out: Tensor = (self.dropout(pooled) * self.weight).sum(-1) + self.bias
        return out


def orbit_tokens(model: OrbitModel, pictures: Tensor, yaws: Sequence[float]) -> Tensor:
    """Mean tokens that a model predicts at angles, float32 (B, K, D).

    Parameters
    ----------
    model : OrbitModel
        Any world model.
    pictures : Tensor, shape (B, rows, cols)
        Bone bright.
    yaws : sequence of float
        Degrees from the pictures.
    """
    turns = model.turns(yaws).to(pictures.device).expand(len(pictures), -1, -1)
    return model.predict(model.encode(pictures), turns).mean(2)


def cox_loss(hazards: Tensor, times: Tensor, events: Tensor) -> Tensor:
    """Negative log partial likelihood of Cox per event, ties by Breslow.

    Cox, J. R. Stat. Soc. B 34, 187-220, 1972; Breslow, Biometrics 30, 89-99, 1974: at every event,
    the patient's log hazard less the logarithm of the sum over all whose time is not earlier.

    Parameters
    ----------
    hazards : Tensor, shape (n,)
        Log hazards; a constant added to all changes nothing.
    times : Tensor, shape (n,)
        Until the event, or the last that is known.
    events : Tensor of bool, shape (n,)
        Whether the event was seen.

    Raises
    ------
    InvalidInputError
        If there is no event, or the lengths differ.
    """
    if not (hazards.ndim == 1 and hazards.shape == times.shape == events.shape):
        raise InvalidInputError(
            "Each patient needs a hazard, a time and whether there was an event",
            why=f"their shapes are {tuple(hazards.shape)}, {tuple(times.shape)} and "
            f"{tuple(events.shape)}",
        )
    events = events.bool()
    if not bool(events.any()):
        raise InvalidInputError(
            "Nothing can be learnt of hazards without an event", remedy="follow patients for longer"
        )
    still = times[None, :] >= times[:, None]  # who is at risk when a patient's time comes
    at_risk = hazards[None, :].masked_fill(~still, -torch.inf).logsumexp(1)
    return (at_risk - hazards)[events].mean()
