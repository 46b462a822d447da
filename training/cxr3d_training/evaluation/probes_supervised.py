"""The same transformer trained on labels: from nothing, or from a world model's weights."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from cxr3d_training.evaluation.probes import shots
from cxr3d_training.evaluation.probes_data import ProbeSet
from napari_cxr3d.metrics.statistics import auroc
from napari_cxr3d.models.orbit_model import OrbitModel

__all__ = ["Classifier", "FitPlan", "few_shot_fine_tuned", "fit_classifier"]

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.bool_]
Pictures = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FitPlan:
    """How a classifier is trained.

    Attributes
    ----------
    epochs, batch : int
        How long, and how many pictures at a time.
    rate, decay : float
        AdamW's; the rate falls as half a cosine after a twentieth of rise.
    shift : int
        Pixels that a picture is moved by at most, either way; what comes in repeats the edge.
    seed : int
        Of weights that are new, order and shifts.
    """

    epochs: int = 10
    batch: int = 32
    rate: float = 5e-4
    decay: float = 0.05
    shift: int = 8
    seed: int = 0


class Classifier(nn.Module):
    """`encode`, the mean of its tokens, and one linear layer.

    Parameters
    ----------
    model : OrbitModel
        It is copied; only what `encode` uses is trained.
    outputs : int
        Labels.
    """

    def __init__(self, model: OrbitModel, outputs: int) -> None:
        super().__init__()
        self.model = deepcopy(model).requires_grad_(True)  # a bundle gives it frozen
        self.norm = nn.LayerNorm(model.dim)
        self.head = nn.Linear(model.dim, outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures (B, rows, cols) to logits (B, outputs)."""
        logits: Tensor = self.head(self.norm(self.model.encode(pictures).mean(1)))
        return logits


def fit_classifier(
    model: OrbitModel,
    pictures: Pictures,
    truth: Labels,
    plan: FitPlan,
    *,
    validation: tuple[Pictures, Labels] | None = None,
    device: str | torch.device = "cpu",
    step: Callable[[], None] = lambda: None,
) -> Classifier:
    """Train all weights of `encode` on labels.

    Parameters
    ----------
    model : OrbitModel
        Where the weights begin; it is not changed.
    pictures : ndarray of float32, shape (n, rows, cols)
        To learn from.
    truth : ndarray of bool, shape (n, labels)
        Their labels.
    plan : FitPlan
        How.
    validation : tuple, optional
        Pictures and labels by whose mean AUROC the best epoch is kept; the last one without.
    device : str or device
        Where.
    step : callable
        Called after every step.
    """
    torch.manual_seed(plan.seed)
    rng = np.random.default_rng(plan.seed)
    net = Classifier(model, truth.shape[1]).to(device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=plan.rate, weight_decay=plan.decay)
    per_epoch = -(-len(pictures) // plan.batch)
    total = per_epoch * plan.epochs
    rise = max(1, total // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda k: min((k + 1) / rise, 0.5 * (1 + float(np.cos(np.pi * k / total)))),
    )
    best, kept = -1.0, None
    for _ in range(plan.epochs):
        net.train()
        for rows in np.array_split(rng.permutation(len(pictures)), per_epoch):
            seen = _shifted(pictures[rows], plan.shift, rng)
            wanted = torch.from_numpy(truth[rows].astype(np.float32)).to(device)
            logits = net(torch.from_numpy(seen).to(device))
            loss = functional.binary_cross_entropy_with_logits(logits, wanted)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            step()
        if validation is not None:
            scores = scores_of(net, validation[0], device)
            value = float(
                np.mean([auroc(t, s) for t, s in zip(validation[1].T, scores.T, strict=True)])
            )
            if value > best:
                best, kept = value, deepcopy(net.state_dict())
    if kept is not None:
        net.load_state_dict(kept)
    return net.eval()


def scores_of(net: nn.Module, pictures: Pictures, device: str | torch.device = "cpu") -> Array:
    """Logits of pictures, (n, outputs)."""
    net.eval()
    with torch.inference_mode():
        parts = [
            net(torch.from_numpy(pictures[k : k + 32]).to(device)).cpu()
            for k in range(0, len(pictures), 32)
        ]
    return np.asarray(torch.cat(parts).double().numpy())


def few_shot_fine_tuned(
    model: OrbitModel,
    train: ProbeSet,
    test: ProbeSet,
    labels: tuple[str, ...],
    count: int,
    seed: int,
    plan: FitPlan,
    *,
    device: str | torch.device = "cpu",
) -> float:
    """Mean AUROC of networks fine-tuned on `count` cases with and without each label.

    Parameters
    ----------
    model : OrbitModel
        Where the weights begin.
    train, test : ProbeSet
        Labels and pictures.
    labels : tuple of str
        Those of `train` for which a network is trained.
    count, seed : int
        Cases of each kind, and of the draw: the very cases that `few_shot_probe` sees.
    plan : FitPlan
        How.
    """
    areas = []
    for name in labels:
        k = train.labels.index(name)
        rows = shots(train.truth[:, k], count, seed)
        net = fit_classifier(
            model, train.pictures[rows], train.truth[rows, k : k + 1], plan, device=device
        )
        areas.append(auroc(test.truth[:, k], scores_of(net, test.pictures, device)[:, 0]))
    return float(np.mean(areas))


def _shifted(pictures: Pictures, most: int, rng: np.random.Generator) -> Pictures:
    if not most:
        return pictures
    padded = np.pad(pictures, ((0, 0), (most, most), (most, most)), mode="edge")
    rows, cols = pictures.shape[1:]
    moved = np.empty_like(pictures)
    for k, (r, c) in enumerate(rng.integers(0, 2 * most + 1, (len(pictures), 2)).tolist()):
        moved[k] = padded[k, r : r + rows, c : c + cols]
    return moved
