"""Xray2Xray's networks: steps add up, a step of 0 is none, and angles share their way."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.bundle import open_bundle, write_bundle
from napari_cxr3d.models.transition import Xray2Xray

DESCRIPTION: dict[str, Any] = {
    "image_size": [32, 48], "field_mm": 440.0,
    "source_to_isocenter_mm": 1600.0, "source_to_detector_mm": 1800.0,
    "vision": {"channels": [8, 8, 16], "dim": 16, "norm_num_groups": 4},
    "transition": {"dim": 32, "depth": 1, "heads": 2},
    "stride": 15.0, "yaw_step": 3.0,
}  # fmt: skip


def xray2xray(**vision: Any) -> Xray2Xray:
    torch.manual_seed(0)
    whole = {**DESCRIPTION, "vision": {**DESCRIPTION["vision"], **vision}}
    model = Xray2Xray(**whole)
    torch.nn.init.normal_(model.transition.leave.weight, std=0.2)  # so that steps are seen
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module", params=[None, 32], ids=["continuous", "codebook"])
def model(request: pytest.FixtureRequest) -> Xray2Xray:
    return xray2xray(n_codes=request.param)


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    return torch.rand(2, 32, 48, generator=torch.Generator().manual_seed(1))


def test_cells_lie_row_by_row_and_know_no_exposure(
    model: Xray2Xray, pictures: torch.Tensor
) -> None:
    cells = model.encode(pictures)
    assert model.grid == (8, 12)
    assert cells.shape == (2, 96, 16)
    assert float(cells.mean(-1).abs().max()) < 1e-5
    assert torch.allclose(cells.square().mean(-1), torch.ones(2, 96), atol=1e-3)
    assert torch.allclose(model.encode(3.0 * pictures + 7.0), cells, atol=1e-4)
    changed = pictures.clone()
    changed[:, :4, 8:12] += 1.0  # the cell of row 0, column 2
    moved = (model.encode(changed) - cells).square().sum((0, 2)).reshape(8, 12)
    row, col = divmod(int(moved.argmax()), 12)
    assert abs(row - 0) <= 1
    assert abs(col - 2) <= 1


def test_line_integrals_come_out(model: Xray2Xray, pictures: torch.Tensor) -> None:
    lines = model.render(model.encode(pictures))
    assert lines.shape == pictures.shape
    assert float(lines.min()) >= 0


def test_a_step_of_0_is_none(model: Xray2Xray, pictures: torch.Tensor) -> None:
    cells = model.encode(pictures)
    zero = torch.zeros(2)
    moved = model.transition(cells, cells.roll(1, 0), zero + 40, zero)
    assert torch.equal(moved.state, cells)
    assert torch.equal(model.predict(cells, model.turns([0.0]))[:, 0], cells)


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_a_roll_out_is_its_single_steps(
    model: Xray2Xray, pictures: torch.Tensor, side: float
) -> None:
    cells = model.encode(pictures)
    state = cells
    for yaw, step in ((0.0, 15.0), (15.0, 15.0), (30.0, 15.0), (45.0, 6.0)):
        told = (torch.full((2,), side * yaw), torch.full((2,), side * step))
        state = model.transition(state, cells, *told).state
    there = model.predict(cells, model.turns([side * 51.0]))[:, 0]
    assert torch.allclose(there, state, atol=1e-5)
    assert float((there - cells).abs().mean()) > 0.05


def test_angles_that_share_their_way_are_as_if_gone_to_alone(
    model: Xray2Xray, pictures: torch.Tensor
) -> None:
    cells = model.encode(pictures)
    yaws = [-90.0, -47.0, -3.0, 0.0, 15.0, 16.5, 90.0, 45.0]
    together = model.predict(cells, model.turns(yaws))
    for index, yaw in enumerate(yaws):
        alone = model.predict(cells, model.turns([yaw]))[:, 0]
        assert torch.allclose(together[:, index], alone, atol=1e-5), yaw


def test_patients_may_each_have_their_own_angles(model: Xray2Xray, pictures: torch.Tensor) -> None:
    cells = model.encode(pictures)
    turns = torch.zeros(2, 2, 3)
    turns[..., 0] = torch.tensor([[33.0, -60.0], [-5.0, 75.0]])
    found = model.predict(cells, turns)
    for row in range(2):
        alone = model.predict(cells[row : row + 1], turns[row : row + 1])[0]
        assert torch.allclose(found[row], alone, atol=1e-5)


def test_an_orbit_is_described_by_the_states_along_it(
    model: Xray2Xray, pictures: torch.Tensor
) -> None:
    cells = model.encode(pictures)
    assert model.stops == tuple(15.0 * k for k in range(-6, 7))
    assert torch.allclose(model.embed(pictures), model.orbit(cells, model.stops), atol=1e-6)
    parts = [model.orbit(cells, [yaw]) for yaw in (0.0, 20.0)]
    both = model.orbit(cells, [0.0, 20.0])
    assert both.shape == (2, 32)
    assert torch.allclose(both, torch.stack(parts).mean(0), atol=1e-6)
    assert not torch.allclose(parts[0], parts[1], atol=1e-3)


def test_what_is_drawn_tells_the_transition_model() -> None:
    for n_codes in (None, 32):
        model = xray2xray(n_codes=n_codes)
        model.transition.requires_grad_(True)
        cells = model.encode(torch.rand(1, 32, 48))
        drawn = model.render(model.predict(cells, model.turns([33.0]))[0])
        torch.autograd.backward(drawn.sum())
        for name, parameter in model.transition.named_parameters():
            assert parameter.grad is not None, name
            assert float(parameter.grad.abs().sum()) > 0, name


def test_the_likeliest_code_is_the_nearest() -> None:
    vision = xray2xray(n_codes=32).vision
    cells = vision.encode(torch.rand(2, 32, 48))
    nearest = vision.nearest(cells)
    assert vision.codebook is not None
    squared = torch.cdist(cells, vision.codebook.codes).square()
    assert torch.equal(nearest.numbers, squared.argmin(-1))
    assert torch.equal(vision.code_logits(cells).argmax(-1), nearest.numbers)
    # Differences of logits are half those of squared distances.
    logits = vision.code_logits(cells)
    assert torch.allclose(
        logits[..., 0] - logits[..., 1], (squared[..., 1] - squared[..., 0]) / 2, atol=1e-4
    )
    drawn = vision.decode(cells, (8, 12))
    assert torch.allclose(drawn, vision.decode(nearest.codes, (8, 12)), atol=1e-4)


def test_what_cannot_be_is_refused(pictures: torch.Tensor) -> None:
    model = xray2xray()
    cells = model.encode(pictures)
    turns = model.turns([10.0])
    turns[..., 1] = 5.0
    with pytest.raises(InvalidInputError, match="yaw alone"):
        model.predict(cells, turns)
    with pytest.raises(InvalidInputError, match="codebook"):
        model.vision.nearest(cells)
    with pytest.raises(InvalidInputError, match="codebook"):
        model.vision.code_logits(cells)
    with pytest.raises(InvalidInputError, match="groups"):
        xray2xray(channels=[6, 8])
    with pytest.raises(InvalidInputError, match="cannot be built"):
        xray2xray(n_codes=1)
    with pytest.raises(InvalidInputError, match="stride"):
        Xray2Xray(**{**DESCRIPTION, "stride": 0.0})
    with pytest.raises(InvalidInputError, match="whole patches"):
        Xray2Xray(**{**DESCRIPTION, "image_size": [30, 48]})


def test_a_bundle_gives_the_model_back(tmp_path: Any, pictures: torch.Tensor) -> None:
    model = xray2xray(n_codes=32)
    card = {
        "name": "turning", "version": "1.0", "kind": "world-model", "licence": "BSD-3-Clause",
        "intended_use": "Tests.", "limits": "Untrained.", "synthetic_training": True,
        "preprocessing": model.describe(),
        "training": {"command": None, "seed": None, "data": None}, "metrics": {},
    }  # fmt: skip
    described = {**DESCRIPTION, "vision": {**DESCRIPTION["vision"], "n_codes": 32}}
    network = {"_target_": "napari_cxr3d.models.transition.Xray2Xray", **described}
    path = write_bundle(
        tmp_path / "turning", network=network, state=model.state_dict(), card=card, dtype="float32"
    )
    again = open_bundle(path).network("cpu")
    assert isinstance(again, Xray2Xray)
    turns = model.turns([24.0])
    expected = model.render(model.predict(model.encode(pictures), turns)[:, 0])
    found = again.render(again.predict(again.encode(pictures), turns)[:, 0])
    assert torch.equal(found, expected)
    assert open_bundle(path).card["preprocessing"]["stride"] == 15.0
