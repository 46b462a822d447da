"""Heads weigh the angles of an orbit, and Cox's loss is that of a sheet of paper."""

from __future__ import annotations

import math

import pytest
import torch

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.orbit_heads import OrbitHead, cox_loss, orbit_tokens
from napari_cxr3d.models.world_model import XWin


def test_cox_by_hand_with_ties_by_breslow() -> None:
    """Times 1, 2, 2, 3; events at 1 and both at 2: each of the tied sees both at risk."""
    hazards = torch.tensor([0.0, math.log(2.0), math.log(3.0), math.log(4.0)])
    events = torch.tensor([True, True, True, False])
    wanted = math.log(10 / 1) + math.log(9 / 2) + math.log(9 / 3)
    times = torch.tensor([1.0, 2.0, 2.0, 3.0])
    assert float(cox_loss(hazards, times, events)) == pytest.approx(wanted / 3, rel=1e-6)
    assert float(cox_loss(hazards + 5, times, events)) == pytest.approx(wanted / 3, rel=1e-5)
    shuffled = torch.tensor([2, 0, 3, 1])
    again = cox_loss(hazards[shuffled], times[shuffled], events[shuffled])
    assert float(again) == pytest.approx(wanted / 3, rel=1e-6)


def test_cox_is_that_of_r() -> None:
    """Of coxph(Surv(time, event) ~ x, ties = "breslow") at a coefficient of 0.5, survival 3.5-3."""
    times = torch.tensor([5, 3, 8, 2, 9, 4, 4, 7, 6, 1, 4, 5], dtype=torch.float64)
    events = torch.tensor([1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1, 1]).bool()
    x = [1.2, -0.3, 0.1, 2.0, -1.1, 0.4, 0.9, -0.5, 0.0, 1.5, 0.2, -0.7]
    found = cox_loss(0.5 * torch.tensor(x, dtype=torch.float64), times, events)
    assert float(found) * int(events.sum()) == pytest.approx(14.5678624879, abs=1e-9)


def test_who_is_censored_counts_only_while_at_risk() -> None:
    times, events = torch.tensor([1.0, 2.0]), torch.tensor([False, True])
    assert float(cox_loss(torch.tensor([9.0, 0.0]), times, events)) == 0.0


def test_without_an_event_or_with_other_lengths_nothing_is_learnt() -> None:
    with pytest.raises(InvalidInputError, match="without an event"):
        cox_loss(torch.zeros(2), torch.ones(2), torch.zeros(2, dtype=torch.bool))
    with pytest.raises(InvalidInputError, match="a hazard, a time"):
        cox_loss(torch.zeros(2), torch.ones(3), torch.ones(3, dtype=torch.bool))


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_the_angles_weights_make_one_and_begin_alike(pooling: str) -> None:
    head = OrbitHead(4, 2, pooling=pooling).eval()  # type: ignore[arg-type]
    tokens = torch.randn(3, 5, 4)
    assert torch.allclose(head.attention(tokens), torch.full((3, 5, 2), 0.2))
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_()
    weights = head.attention(tokens)
    assert torch.allclose(weights.sum(1), torch.ones(3, 2))
    assert (weights.std() > 0.01) == (pooling == "attention")
    mixed = (weights[..., None] * tokens[:, :, None]).sum(1)
    assert torch.allclose(head(tokens), (mixed * head.weight).sum(-1) + head.bias, atol=1e-5)


def test_tokens_of_any_scale_give_the_same_after_standardising() -> None:
    tokens = torch.randn(20, 3, 4)
    heads = [OrbitHead(4), OrbitHead(4)]
    for head in heads:
        torch.nn.init.ones_(head.weight)
        head.eval()
    heads[0].standardise_by(tokens)
    heads[1].standardise_by(tokens * 100 + 7)
    assert torch.allclose(heads[0](tokens), heads[1](tokens * 100 + 7), atol=1e-3)


def test_attention_finds_the_angle_that_tells() -> None:
    torch.manual_seed(0)
    truth = torch.rand(200, 1) < 0.5
    tokens = torch.randn(200, 4, 6)
    tokens[:, 2, 0] = truth[:, 0] * 4.0
    tokens[:, 2, 1] = 5.0  # how the angle is known
    head = OrbitHead(6, dropout=0.0)
    head.standardise_by(tokens)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    for _ in range(150):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(head(tokens), truth.float())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    weights = head.attention(tokens).mean(0)[:, 0]
    assert int(weights.argmax()) == 2
    assert float(((head(tokens) > 0) == truth).float().mean()) > 0.9


def test_an_orbits_tokens_are_the_means_of_what_is_predicted() -> None:
    model = XWin(
        image_size=(32, 32), field_mm=440, source_to_isocenter_mm=1600,
        source_to_detector_mm=1800, predictor={"dim": 32, "depth": 1, "heads": 2},
        encoder={"patch_size": 8, "dim": 32, "depth": 1, "heads": 2},
    ).eval()  # fmt: skip
    pictures = torch.randn(2, 32, 32)
    with torch.no_grad():
        found = orbit_tokens(model, pictures, (-30.0, 0.0, 60.0))
        alone = model.predict(model.encode(pictures[1:]), model.turns((60.0,)))
    assert found.shape == (2, 3, 32)
    assert torch.allclose(found[1, 2], alone[0, 0].mean(0), atol=1e-5)


def test_a_head_that_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="mean or attention"):
        OrbitHead(4, pooling="max")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="an output or more"):
        OrbitHead(4, 0)
