"""Divergence of a Gaussian latent from the standard normal."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["kl_to_standard_normal"]


def kl_to_standard_normal(mean: Tensor, sigma: Tensor) -> Tensor:
    """KL divergence of N(mean, sigma^2) from N(0, 1), in nats.

    ``0.5 (mean^2 + sigma^2 - log sigma^2 - 1)``, Kingma and Welling, ICLR 2014, appendix B: summed
    over the latent, averaged over the batch. A weight of 1e-6 (Rombach et al., CVPR 2022) belongs
    to this sum, beside an L1 term that is a mean.

    Parameters
    ----------
    mean, sigma : Tensor, shape (B, ...)
        Of every latent value; `sigma` positive.
    """
    mean, variance = mean.float(), sigma.float().square()
    divergence = 0.5 * (mean.square() + variance - torch.log(variance) - 1)
    return divergence.flatten(1).sum(1).mean()
