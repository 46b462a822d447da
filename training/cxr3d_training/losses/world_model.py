"""The terms of X-WIN, and the blocks that its mask predictor is asked for.

Yang et al., CVPR 2026 (arXiv 2511.14918); I-JEPA: Assran et al., CVPR 2023 (arXiv 2301.08243).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, distributed
from torch.nn import functional

from cxr3d_training.data.poses import Range
from napari_cxr3d.errors import InvalidInputError

__all__ = [
    "Blocks",
    "affinities",
    "affinity_alignment",
    "effective_rank",
    "gathered",
    "info_nce",
    "landmark_maps",
    "looks_real",
    "tells_domains",
]


def gathered(x: Tensor) -> Tensor:
    """The rows of all processes, so that every sample has all others for negatives.

    The gradient goes back to each process's own rows. A process alone gets its rows.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return x
    from torch.distributed.nn import functional as collective

    parts: tuple[Tensor, ...] = collective.all_gather(x)  # type: ignore[no-untyped-call]
    return torch.cat(parts, dim=0)


def _similarities(a: Tensor, b: Tensor) -> Tensor:
    """Cosines of all pairs, (len(a), len(b)); in full precision, as a temperature divides them."""
    with torch.autocast(a.device.type, enabled=False):
        return functional.normalize(a.float(), dim=-1) @ functional.normalize(b.float(), dim=-1).T


def info_nce(targets: Tensor, predictions: Tensor, temperature: float) -> Tensor:
    """Symmetric contrastive loss: each prediction belongs to its own target.

    ``p_ij = softmax_j(cos(t_i, z_j) / tau)``; the mean of the cross-entropies to the identity of
    rows and of columns (van den Oord et al., 2018, arXiv 1807.03748; Radford et al., 2021).

    Parameters
    ----------
    targets, predictions : Tensor, shape (M, D)
        ``t`` and ``z``, of any length.
    temperature : float
        tau; 0.1 in the released code of X-WIN.
    """
    logits = _similarities(targets, predictions) / temperature
    own = torch.arange(len(logits), device=logits.device)
    return 0.5 * (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own))


def affinities(targets: Tensor, temperature: float) -> Tensor:
    """How alike targets are: ``A_ij = softmax_j(cos(t_i, t_j) / tau)``, (M, M), no gradient."""
    with torch.no_grad():
        return torch.softmax(_similarities(targets, targets) / temperature, dim=1)


def affinity_alignment(
    targets: Tensor, predictions: Tensor, labels: Tensor, temperature: float
) -> Tensor:
    """Contrastive loss with soft labels: ``-1/M sum_ij A_ij log p_ij``.

    Neighbouring angles look alike, and are not to be pushed apart as strangers are. With the
    identity for labels it is the row half of `info_nce`. The published formula is not public;
    this is the natural reading of the article's figure.

    Parameters
    ----------
    targets, predictions : Tensor, shape (M, D)
        ``t`` and ``z``.
    labels : Tensor, shape (M, M)
        ``A``; rows sum to 1.
    temperature : float
        tau.
    """
    logits = _similarities(targets, predictions) / temperature
    return -(labels * functional.log_softmax(logits, dim=1)).sum(1).mean()


def looks_real(logits: Tensor) -> Tensor:
    """``-mean log f_c(z)``: predictions that the critic takes for real ones cost nothing.

    The critic must be frozen: it is a judge here, and no gradient is reversed.
    """
    return functional.softplus(-logits.float()).mean()


def tells_domains(real: Tensor, simulated: Tensor) -> Tensor:
    """Binary cross-entropy of the critic's logits: real ones above 0, simulated ones below."""
    return 0.5 * (
        functional.softplus(-real.float()).mean() + functional.softplus(simulated.float()).mean()
    )


def landmark_maps(
    query: Tensor,
    key: Tensor,
    places: Tensor,
    wanted: Tensor,
    known: Tensor,
    grid: tuple[int, int],
    *,
    temperature: float,
    spread: float,
) -> Tensor:
    """Cross-entropy of similarity maps: a landmark's token lights up where the landmark is.

    For places in one picture and the same anatomical places in another, the softmax over all
    patches of the other one is compared with a Gaussian about the true place. Ours, not of
    X-WIN: it needs landmarks, which phantoms have.

    Parameters
    ----------
    query, key : Tensor, shape (B, N, D)
        Tokens of the two pictures.
    places, wanted : Tensor, shape (B, L, 2)
        The landmarks in them, (row, column) in patches: 0 is the centre of the first.
    known : Tensor of bool, shape (B, L)
        Which count.
    grid : tuple of 2 int
        Rows and columns of patches.
    temperature : float
        Of the softmax.
    spread : float
        Standard deviation of the Gaussian, in patches.

    Returns
    -------
    Tensor
        Mean over the landmarks that are known; 0 with none.
    """
    rows, cols = grid
    b, _, dim = query.shape
    maps = functional.normalize(query.float(), dim=-1).transpose(1, 2).reshape(b, dim, rows, cols)
    size = places.new_tensor([rows, cols])
    sites = ((places.float() + 0.5) / size * 2 - 1).flip(-1)[:, :, None]
    taken = functional.grid_sample(maps, sites, align_corners=False, padding_mode="border")
    tokens = functional.normalize(taken[..., 0].transpose(1, 2), dim=-1)  # (B, L, D)
    with torch.autocast(query.device.type, enabled=False):
        cosines = tokens @ functional.normalize(key.float(), dim=-1).transpose(1, 2)
    row, col = torch.meshgrid(
        torch.arange(rows, device=query.device), torch.arange(cols, device=query.device),
        indexing="ij",
    )  # fmt: skip
    centres = torch.stack([row, col], dim=-1).reshape(1, 1, -1, 2)
    distance = (centres - wanted[:, :, None].float()).square().sum(-1)
    labels = torch.softmax(-distance / (2 * spread**2), dim=-1)
    loss = -(labels * functional.log_softmax(cosines / temperature, dim=-1)).sum(-1)
    weight = known.float()
    return (loss * weight).sum() / weight.sum().clamp_min(1)


def effective_rank(vectors: Tensor) -> float:
    """How many directions vectors use: a collapsed encoder has 1.

    Exponential of the entropy of the singular values of the centred vectors (Roy and Vetterli,
    2007; RankMe, Garrido et al., ICML 2023).

    Parameters
    ----------
    vectors : Tensor, shape (M, D)
        M of at least 2.
    """
    values = torch.linalg.svdvals(vectors.double() - vectors.double().mean(0))
    shares = values / values.sum().clamp_min(1e-12)
    return float(torch.exp(-(shares * torch.log(shares.clamp_min(1e-12))).sum()))


@dataclass(frozen=True)
class Blocks:
    """I-JEPA's multi-block masks: patches that are shown, and a block that is hidden.

    Attributes
    ----------
    hidden_scale, hidden_aspect : tuple of 2 float
        Part of the picture that the hidden block takes, and its height over its width.
    shown_scale : tuple of 2 float
        Part that the shown block, a square, takes; the hidden one is cut out of it.
    least : int
        Patches that remain shown at least.
    """

    hidden_scale: Range = (0.15, 0.2)
    hidden_aspect: Range = (0.75, 1.0)
    shown_scale: Range = (0.85, 1.0)
    least: int = 4

    def __post_init__(self) -> None:
        for name in ("hidden_scale", "hidden_aspect", "shown_scale"):
            low, high = (float(v) for v in getattr(self, name))
            if not 0 < low <= high:
                raise InvalidInputError(f"The range of {name} must rise from above 0")
            object.__setattr__(self, name, (low, high))

    def draw(
        self, rngs: Sequence[np.random.Generator], grid: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Patches of a batch by number, row by row.

        The first generator draws the blocks' sizes, which a batch has in common; every sample's
        own one draws the places. Of the samples' shown patches as many are kept as all have.

        Parameters
        ----------
        rngs : sequence of Generator
            One a sample.
        grid : tuple of 2 int
            Rows and columns of patches.

        Returns
        -------
        shown, hidden : Tensor of int64, shapes (B, M) and (B, H)
            In rising order; no patch is in both.
        """
        rows, cols = grid
        n = rows * cols
        height, width = _block(
            rngs[0].uniform(*self.hidden_scale) * n, rngs[0].uniform(*self.hidden_aspect), grid
        )
        tall, wide = _block(rngs[0].uniform(*self.shown_scale) * n, 1.0, grid)
        shown, hidden = [], []
        for rng in rngs:
            covered = np.zeros(grid, bool)
            seen = np.zeros(grid, bool)
            r, c = rng.integers(rows - height + 1), rng.integers(cols - width + 1)
            covered[r : r + height, c : c + width] = True
            r, c = rng.integers(rows - tall + 1), rng.integers(cols - wide + 1)
            seen[r : r + tall, c : c + wide] = True
            left = np.flatnonzero(seen & ~covered)
            if len(left) < self.least:
                left = rng.permutation(np.flatnonzero(~covered))[: self.least]
            shown.append(rng.permutation(left))
            hidden.append(np.flatnonzero(covered))
        common = min(map(len, shown))
        kept = np.stack([np.sort(patches[:common]) for patches in shown])
        return torch.from_numpy(kept), torch.from_numpy(np.stack(hidden))


def _block(area: float, aspect: float, grid: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of a block of so many patches, within the grid."""
    height = min(max(1, round(math.sqrt(area * aspect))), grid[0])
    width = min(max(1, round(math.sqrt(area / aspect))), grid[1])
    return height, width
