"""X-WIN's networks: where patches lie, what a turn changes, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.orbit_model import standardised
from napari_cxr3d.models.vit import VisionTransformer, position_embedding
from napari_cxr3d.models.world_model import MaskPredictor, XWin

GEOMETRY: dict[str, Any] = {
    "image_size": (32, 48), "field_mm": 440.0,
    "source_to_isocenter_mm": 1600.0, "source_to_detector_mm": 1800.0,
    "encoder": {"patch_size": 8, "dim": 32, "depth": 1, "heads": 2},
    "predictor": {"dim": 32, "depth": 1, "heads": 2},
}  # fmt: skip
RENDERER = {"channels": (16, 16, 16, 16)}


def xwin(**changes: Any) -> XWin:
    torch.manual_seed(0)
    return XWin(**{**GEOMETRY, "renderer": RENDERER, **changes}).eval()


@pytest.fixture(scope="module")
def model() -> XWin:
    return xwin()


def test_positions_tell_rows_from_columns_by_sines_and_cosines() -> None:
    found = position_embedding(3, 4, 8)
    assert found.shape == (12, 8)
    # Patch (2, 3): sin and cos of row 2 and column 3 at the frequencies 1 and 1/100.
    expected = []
    for place in (2, 3):
        expected += [math.sin(place), math.sin(place / 100)]
        expected += [math.cos(place), math.cos(place / 100)]
    torch.testing.assert_close(found[2 * 4 + 3], torch.tensor(expected))
    assert len({tuple(row) for row in found.tolist()}) == 12
    with pytest.raises(InvalidInputError, match="multiple of 4"):
        position_embedding(2, 2, 6)


def test_patches_are_read_row_by_row() -> None:
    vit = VisionTransformer(image_size=(8, 12), patch_size=4, dim=8, depth=0, heads=2)
    with torch.no_grad():
        vit.patches.weight.zero_()
        vit.patches.weight[0] = 1 / 16  # the first number of a token is its patch's mean
        vit.patches.bias.zero_()
        vit.position.zero_()
    vit.norm = torch.nn.Identity()  # type: ignore[assignment]
    picture = torch.arange(6.0).reshape(2, 3).repeat_interleave(4, 0).repeat_interleave(4, 1)
    assert vit(picture[None])[0, :, 0].tolist() == pytest.approx([0, 1, 2, 3, 4, 5])
    shown = torch.tensor([[4, 1]])
    assert vit(picture[None], shown)[0, :, 0].tolist() == pytest.approx([4, 1])


def test_tokens_of_shown_patches_know_nothing_of_the_hidden_ones() -> None:
    vit = VisionTransformer(image_size=(16, 16), patch_size=4, dim=16, depth=2, heads=2).eval()
    picture = torch.randn(1, 16, 16)
    other = picture.clone()
    other[:, 8:, 8:] = 9.0
    shown = torch.tensor([[0, 1, 2, 3, 4, 5, 8, 9, 12]])  # none of the lower right quarter
    torch.testing.assert_close(vit(picture, shown), vit(other, shown))
    assert not torch.allclose(vit(picture)[:, 0], vit(other)[:, 0])


def test_the_interface_and_its_shapes(model: XWin) -> None:
    assert model.grid == (4, 6)
    assert model.yaws[0] == -90
    assert model.yaws[-1] == 90
    assert len(model.yaws) == 61
    assert 0.0 in model.yaws
    assert model.base_view.pixel_mm == pytest.approx(440 / 48)
    with torch.no_grad():
        tokens = model.encode(torch.rand(2, 32, 48))
        assert tokens.shape == (2, 24, 32)
        predicted = model.predict(tokens, model.turns([0.0, 30.0, -30.0]))
        assert predicted.shape == (2, 3, 24, 32)
        lines = model.render(predicted[:, 1])
    assert lines.shape == (2, 32, 48)
    assert lines.dtype == torch.float32
    assert float(lines.min()) >= 0
    assert model.embed(torch.rand(2, 32, 48)).shape == (2, 32)


def test_exposure_does_not_count(model: XWin) -> None:
    picture = torch.rand(1, 32, 48)
    torch.testing.assert_close(
        model.encode(picture), model.encode(5 * picture + 2), atol=1e-4, rtol=1e-4
    )
    flat = standardised(torch.full((1, 4, 4), 7.0))
    assert float(flat.abs().max()) == 0


def test_the_turn_changes_what_is_predicted_each_on_its_own(model: XWin) -> None:
    with torch.no_grad():
        tokens = model.encode(torch.rand(2, 32, 48))
        several = model.predict(tokens, model.turns([-90.0, 0.0, 3.0, 90.0]))[0]
        alone = model.predict(tokens, model.turns([3.0]))[0, 0]
    torch.testing.assert_close(several[2], alone)
    steps = (several[1:] - several[:-1]).abs().mean((1, 2))
    assert float(steps.min()) > 0.01 * float(steps.max())  # more than the sign of the turn
    assert float(steps[1]) < float(steps[0])  # 3 degrees change less than 90


def test_a_picture_of_a_batch_does_not_see_the_others(model: XWin) -> None:
    pictures = torch.rand(3, 32, 48)
    turns = torch.tensor([[[30.0, 0, 0]], [[-60.0, 0, 0]], [[0.0, 0, 0]]])
    with torch.no_grad():
        together = model.predict(model.encode(pictures), turns)
        apart = [
            model.predict(model.encode(pictures[k : k + 1]), turns[k : k + 1]) for k in range(3)
        ]
    torch.testing.assert_close(together, torch.cat(apart), atol=1e-5, rtol=1e-4)


def test_pitch_and_roll_are_for_models_that_are_told_them(model: XWin) -> None:
    turn = torch.tensor([[[10.0, 5.0, 0.0]]])
    with pytest.raises(InvalidInputError, match="yaw alone"):
        model.predict(torch.zeros(1, 24, 32), turn)
    told = xwin(euler=True)
    with torch.no_grad():
        tokens = told.encode(torch.rand(1, 32, 48))
        level, tilted = told.predict(tokens, torch.tensor([[[10.0, 0, 0], [10.0, 5.0, 0]]]))[0]
    assert float((level - tilted).abs().max()) > 1e-6


def test_the_target_encoder_begins_as_a_copy_of_its_own(model: XWin) -> None:
    picture = torch.rand(1, 32, 48)
    torch.testing.assert_close(model.target(picture), model.encode(picture))
    with torch.no_grad():
        twin = xwin()
        twin.encoder.norm.bias += 1.0
        assert not torch.allclose(twin.target(picture), twin.encode(picture))


def test_a_model_without_a_renderer_says_so() -> None:
    blind = xwin(renderer=None)
    assert not blind.renders
    with pytest.raises(InvalidInputError, match="without a renderer"):
        blind.render(torch.zeros(1, 24, 32))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"renderer": {"channels": (16, 16)}}, "renderer"),
        ({"image_size": (30, 48)}, "whole patches"),
        ({"yaw_range": (10, 90)}, "hold 0"),
        ({"encoder": {**GEOMETRY["encoder"], "heads": 3}}, "whole heads"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        xwin(**changes)


def test_the_mask_predictor_answers_for_the_patches_that_it_is_asked_for() -> None:
    masker = MaskPredictor(grid=(2, 3), token_dim=8, dim=16, depth=2, heads=2).eval()
    tokens, shown = torch.randn(1, 3, 8), torch.tensor([[0, 1, 5]])
    with torch.no_grad():
        found = masker(tokens, shown, torch.tensor([[2, 4]]))
        swapped = masker(tokens, shown, torch.tensor([[4, 2]]))
    assert found.shape == (1, 2, 8)
    torch.testing.assert_close(found, swapped.flip(1), atol=1e-5, rtol=1e-4)
    assert float((found[0, 0] - found[0, 1]).abs().max()) > 1e-6


def test_what_the_card_says_is_the_model(model: XWin) -> None:
    told = model.describe()
    assert told["field_mm"] == pytest.approx(440)
    assert (told["patches"], told["detector_shape"]) == ([4, 6], [32, 48])
    assert told["yaw_range"] == [-90, 90]
    assert np.isfinite(told["source_to_detector_mm"])
