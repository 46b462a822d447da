"""The two sides of an adversarial training, on the logits of a discriminator."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

__all__ = ["AdversarialKind", "discriminator_loss", "generator_loss"]

AdversarialKind = Literal["hinge", "least_squares"]


def generator_loss(fake: Tensor, kind: AdversarialKind) -> Tensor:
    """What the generator minimises: its pictures shall be taken for real.

    hinge: ``-mean(D(G))``, Lim and Ye, arXiv 1705.02894. least_squares:
    ``0.5 mean((D(G) - 1)^2)``, Mao et al., ICCV 2017, equation 9 with b = c = 1, a = 0.

    Parameters
    ----------
    fake : Tensor, any shape
        Logits of generated pictures, with their gradient.
    kind : {"hinge", "least_squares"}
        Which one.
    """
    fake = fake.float()
    return -fake.mean() if kind == "hinge" else 0.5 * (fake - 1).square().mean()


def discriminator_loss(real: Tensor, fake: Tensor, kind: AdversarialKind) -> Tensor:
    """What the discriminator minimises: real above, generated below.

    hinge: ``0.5 (mean(max(0, 1 - D(x))) + mean(max(0, 1 + D(G))))`` (the half as in VQGAN, Esser
    et al., CVPR 2021). least_squares: ``0.5 (mean((D(x) - 1)^2) + mean(D(G)^2))``. Sources as for
    `generator_loss`.

    Parameters
    ----------
    real, fake : Tensor, any shape
        Logits of real pictures and of generated ones, those detached from the generator.
    kind : {"hinge", "least_squares"}
        Which one.
    """
    real, fake = real.float(), fake.float()
    if kind == "hinge":
        return 0.5 * ((1 - real).relu().mean() + (1 + fake).relu().mean())
    return 0.5 * ((real - 1).square().mean() + fake.square().mean())
