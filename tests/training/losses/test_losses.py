"""Loss terms: by hand, and which way their gradients go."""

from __future__ import annotations

import math

import pytest
import torch

from cxr3d_training.losses.adversarial import AdversarialKind, discriminator_loss, generator_loss
from cxr3d_training.losses.features import RandomFeatures, feature_distance
from cxr3d_training.losses.gaussian import kl_to_standard_normal


def test_the_divergence_is_the_textbooks() -> None:
    # N(1, 2^2) from N(0, 1): (1 + 4 - ln 4 - 1) / 2, for each of three values of a sample.
    mean, sigma = torch.ones(5, 3, 1), torch.full((5, 3, 1), 2.0)
    assert float(kl_to_standard_normal(mean, sigma)) == pytest.approx(3 * (4 - math.log(4)) / 2)


def test_the_divergence_agrees_with_torch_and_vanishes_for_the_normal_itself() -> None:
    mean, sigma = torch.randn(4, 2, 3, 3, 3), torch.rand(4, 2, 3, 3, 3) + 0.1
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean, sigma), normal(0.0, 1.0))
    torch.testing.assert_close(kl_to_standard_normal(mean, sigma), expected.sum() / 4)
    assert float(kl_to_standard_normal(torch.zeros(2, 9), torch.ones(2, 9))) == 0


def test_the_hinge_by_hand() -> None:
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.0])
    # max(0, 1 - D(x)): 0 and 0.5; max(0, 1 + D(G)): 0 and 1.
    assert float(discriminator_loss(real, fake, "hinge")) == pytest.approx(0.5 * (0.25 + 0.5))
    assert float(generator_loss(fake, "hinge")) == pytest.approx(1.5)


def test_least_squares_by_hand() -> None:
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-1.0, 0.0])
    assert float(discriminator_loss(real, fake, "least_squares")) == pytest.approx(
        0.5 * ((1 + 0.25) / 2 + 0.5)
    )
    assert float(generator_loss(fake, "least_squares")) == pytest.approx(0.5 * (4 + 1) / 2)


@pytest.mark.parametrize("kind", ["hinge", "least_squares"])
def test_the_two_sides_pull_a_logit_apart(kind: AdversarialKind) -> None:
    fake = torch.zeros(1, requires_grad=True)
    (up,) = torch.autograd.grad(generator_loss(fake, kind), fake)
    (down,) = torch.autograd.grad(discriminator_loss(torch.zeros(1), fake + 0.1, kind), fake)
    assert up < 0 < down


def test_features_of_the_same_are_no_distance_apart_and_blur_is() -> None:
    features = RandomFeatures((4, 8), seed=3)
    x = torch.randn(2, 1, 16, 16, 16)
    blurred = torch.nn.functional.avg_pool3d(x, 3, 1, 1)
    assert float(feature_distance(features(x), features(x))) == 0
    far = float(feature_distance(features(blurred), features(x)))
    near = float(feature_distance(features(0.9 * x + 0.1 * blurred), features(x)))
    assert 0 < near < far <= 4


def test_the_distance_of_features_by_hand() -> None:
    # Unit vectors at a right angle are the square root of two apart.
    a, b = torch.zeros(1, 2, 1), torch.zeros(1, 2, 1)
    a[0, 0], b[0, 1] = 5.0, 0.1
    assert float(feature_distance([a], [b])) == pytest.approx(2.0)


def test_the_distance_moves_the_first_and_not_the_second() -> None:
    features = RandomFeatures((4,), seed=0)
    x, y = (torch.randn(1, 1, 8, 8, 8, requires_grad=True) for _ in range(2))
    feature_distance(features(x), features(y)).backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert y.grad is None
    assert all(not p.requires_grad for p in features.parameters())


def test_random_features_are_one_network_a_seed() -> None:
    torch.manual_seed(1)
    first = RandomFeatures((4,), seed=5)
    torch.manual_seed(2)
    assert torch.equal(first.levels[0].weight, RandomFeatures((4,), seed=5).levels[0].weight)
    assert not torch.equal(first.levels[0].weight, RandomFeatures((4,), seed=6).levels[0].weight)


def test_losses_are_counted_in_full_precision() -> None:
    fake = torch.randn(64, dtype=torch.bfloat16)
    for term in (
        generator_loss(fake, "hinge"),
        discriminator_loss(fake, fake, "least_squares"),
        kl_to_standard_normal(fake[None], fake[None].abs() + 0.1),
        feature_distance([fake.view(1, 8, 8)], [fake.view(1, 8, 8)]),
    ):
        assert term.dtype == torch.float32
