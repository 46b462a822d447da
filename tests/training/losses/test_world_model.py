"""The terms of X-WIN by hand, and which way their gradients go."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from cxr3d_training.losses.world_model import (
    Blocks,
    affinities,
    affinity_alignment,
    effective_rank,
    gathered,
    info_nce,
    landmark_maps,
    looks_real,
    tells_domains,
)
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.world_model import DomainCritic, ViewPredictor

# Three unit vectors of the plane at 0, 60 and 90 degrees; targets and predictions.
T = torch.tensor([[1.0, 0.0], [0.5, math.sqrt(0.75)], [0.0, 1.0]])
Z = torch.tensor([[0.5, math.sqrt(0.75)], [1.0, 0.0], [0.0, 1.0]])
# Their cosines: of angles 60 0 90, 0 60 30, 30 90 0 degrees.
COS30, TAU = math.sqrt(0.75), 0.5
COSINES = [[0.5, 1.0, 0.0], [1.0, 0.5, COS30], [COS30, 0.0, 1.0]]


def cross_entropy(row: list[float], own: int) -> float:
    """Of a softmax at tau, worked out number by number."""
    total = sum(math.exp(value / TAU) for value in row)
    return -math.log(math.exp(row[own] / TAU) / total)


def test_info_nce_of_three_by_three_by_hand() -> None:
    rows = sum(cross_entropy(COSINES[i], i) for i in range(3)) / 3
    columns = sum(cross_entropy([r[j] for r in COSINES], j) for j in range(3)) / 3
    assert float(info_nce(T, Z, TAU)) == pytest.approx(0.5 * (rows + columns), rel=1e-5)


def test_info_nce_is_symmetric_and_knows_no_lengths() -> None:
    a, b = torch.randn(7, 5), torch.randn(7, 5)
    torch.testing.assert_close(info_nce(a, b, 0.1), info_nce(b, a, 0.1))
    torch.testing.assert_close(info_nce(3 * a, 0.2 * b, 0.1), info_nce(a, b, 0.1))


def test_affinities_of_three_targets_by_hand() -> None:
    cosines = [[1.0, 0.5, 0.0], [0.5, 1.0, COS30], [0.0, COS30, 1.0]]
    expected = []
    for row in cosines:
        powers = [math.exp(value / TAU) for value in row]
        expected.append([power / sum(powers) for power in powers])
    found = affinities((5 * T).requires_grad_(), TAU)
    torch.testing.assert_close(found, torch.tensor(expected))
    assert not found.requires_grad


def test_alignment_with_three_soft_labels_by_hand() -> None:
    labels = [[0.7, 0.2, 0.1], [0.0, 1.0, 0.0], [0.25, 0.25, 0.5]]
    expected = sum(
        labels[i][j] * cross_entropy(COSINES[i], j) for i in range(3) for j in range(3)
    ) / 3  # fmt: skip
    found = affinity_alignment(T, Z, torch.tensor(labels), TAU)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_alignment_with_the_identity_is_info_nce() -> None:
    t, z = torch.randn(9, 6), torch.randn(9, 6)
    own = torch.eye(9)
    rows, columns = affinity_alignment(t, z, own, 0.2), affinity_alignment(z, t, own, 0.2)
    torch.testing.assert_close(0.5 * (rows + columns), info_nce(t, z, 0.2))
    # Targets that have nothing in common have no affinity but to themselves.
    apart = affinities(torch.eye(9), 0.01)
    torch.testing.assert_close(apart, own)


def test_soft_labels_push_neighbours_less_apart_than_strangers() -> None:
    t = torch.tensor([[1.0, 0.0, 0.0], [0.95, 0.3, 0.0], [0.0, 0.0, 1.0]])
    z = t.clone().requires_grad_()
    (hard,) = torch.autograd.grad(affinity_alignment(t, z, torch.eye(3), 0.1), z)
    (soft,) = torch.autograd.grad(affinity_alignment(t, z, affinities(t, 0.1), 0.1), z)
    assert float(soft[:2].norm()) < 0.2 * float(hard[:2].norm())


def test_the_structure_is_kept_at_no_cost_where_nothing_differs() -> None:
    # The structure term is the mean squared error; the domain term alone remains at equality.
    t = torch.randn(4, 16, 8)
    assert float(functional.mse_loss(t.clone(), t)) == 0
    assert float(looks_real(torch.full((4, 16), 60.0))) == pytest.approx(0, abs=1e-6)


def test_the_critics_terms_by_hand() -> None:
    real, simulated = torch.tensor([0.0, math.log(3.0)]), torch.tensor([0.0])
    # sigmoid of the logits: 1/2 and 3/4 of real ones, 1/2 of the simulated one.
    of_real = (math.log(2) + math.log(4 / 3)) / 2
    assert float(tells_domains(real, simulated)) == pytest.approx(0.5 * (of_real + math.log(2)))
    assert float(looks_real(real)) == pytest.approx(of_real)


def test_the_critic_judges_and_learns_nothing_from_it() -> None:
    critic = DomainCritic(8, 8).requires_grad_(False)  # as the engine freezes other players
    predictor = ViewPredictor(grid=(2, 2), token_dim=8, dim=8, depth=1, heads=2)
    predicted = predictor(torch.randn(3, 4, 8), torch.tensor([[[30.0, 0, 0]]] * 3))
    looks_real(critic(predicted)).backward()
    assert all(p.grad is None for p in critic.parameters())
    assert sum(float(p.grad.abs().sum()) for p in predictor.parameters() if p.grad is not None) > 0


def test_a_step_along_the_domain_term_makes_predictions_look_more_real() -> None:
    # Not reversed: what lowers the term raises the critic's logit.
    critic = DomainCritic(8, 16)
    tokens = torch.randn(32, 8, requires_grad=True)
    (slope,) = torch.autograd.grad(looks_real(critic(tokens)), tokens)
    with torch.no_grad():
        assert float((critic(tokens - 0.5 * slope * 32) - critic(tokens)).mean()) > 0


def test_a_process_alone_has_its_own_rows() -> None:
    x = torch.randn(3, 2)
    assert gathered(x) is x


# --- masks ----------------------------------------------------------------------------------------


def drawn(blocks: Blocks, grid: tuple[int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    shown, hidden = blocks.draw([np.random.default_rng([seed, k]) for k in range(6)], grid)
    return shown.numpy(), hidden.numpy()


def test_masks_stay_within_their_scales_and_share_no_patch() -> None:
    grid, blocks = (16, 16), Blocks()
    for seed in range(40):
        shown, hidden = drawn(blocks, grid, seed)
        # A side of the block is rounded to whole patches: half a patch on each side.
        rows, cols = np.unravel_index(hidden, grid)
        height, width = np.ptp(rows, axis=1) + 1, np.ptp(cols, axis=1) + 1
        assert (height * width == hidden.shape[1]).all()  # rectangles, without holes
        (h,), (w,) = set(height), set(width)
        assert (h - 0.5) * (w - 0.5) <= 0.2 * 256
        assert (h + 0.5) * (w + 0.5) >= 0.15 * 256
        assert (h - 0.5) / (w + 0.5) <= 1.0
        assert (h + 0.5) / (w - 0.5) >= 0.75
        for one, other in zip(shown, hidden, strict=True):
            assert not set(one) & set(other)
            assert len(set(one)) == len(one)
            assert (np.diff(one) > 0).all()
        assert shown.shape[1] <= 256 - hidden.shape[1]
        assert shown.shape[1] >= 0.85 * 256 - 16 - hidden.shape[1]
        assert min(shown.min(), hidden.min()) >= 0
        assert max(shown.max(), hidden.max()) < 256


def test_some_patches_remain_shown_where_the_block_covers_what_is_seen() -> None:
    blocks = Blocks(
        hidden_scale=(0.7, 0.7), hidden_aspect=(1, 1), shown_scale=(0.02, 0.02), least=5
    )
    for seed in range(10):
        shown, hidden = drawn(blocks, (8, 8), seed)
        assert shown.shape == (6, 5) or shown.shape[1] >= 1
        assert all(not set(s) & set(h) for s, h in zip(shown, hidden, strict=True))
    wide = Blocks(hidden_scale=(0.7, 0.7), hidden_aspect=(1, 1), shown_scale=(0.9, 0.9), least=5)
    shown, _ = drawn(wide, (8, 8), 0)
    assert shown.shape[1] >= 5


def test_masks_are_drawn_by_their_generators() -> None:
    one, again, other = (drawn(Blocks(), (8, 8), seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one[0], again[0])
    np.testing.assert_array_equal(one[1], again[1])
    assert one[1].shape != other[1].shape or (one[1] != other[1]).any()


def test_impossible_scales_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="hidden_scale"):
        Blocks(hidden_scale=(0.3, 0.2))


# --- landmarks and collapse -----------------------------------------------------------------------


def test_a_landmark_map_by_hand() -> None:
    # One row of three patches; the query's first token is the key's second one.
    query = torch.eye(3)[None]
    key = torch.eye(3)[None, [1, 0, 2]]
    places, known = torch.tensor([[[0.0, 0.0]]]), torch.tensor([[True]])

    def loss(wanted: float) -> float:
        at = torch.tensor([[[0.0, wanted]]])
        return float(
            landmark_maps(query, key, places, at, known, (1, 3), temperature=1.0, spread=1e-2)
        )

    total = math.e + 2  # cosines 0, 1, 0
    assert loss(1.0) == pytest.approx(math.log(total) - 1, rel=1e-5)
    assert loss(0.0) == pytest.approx(math.log(total), rel=1e-5)


def test_a_landmark_between_patches_is_read_between_them_and_unknown_ones_do_not_count() -> None:
    tokens = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    between = torch.tensor([[[0.0, 0.5], [0.0, 0.0]]])
    options = {"temperature": 1.0, "spread": 1.0}
    known = torch.tensor([[True, False]])
    found = landmark_maps(tokens, tokens, between, between, known, (1, 2), **options)
    assert float(found) == pytest.approx(math.log(2))  # both patches alike, and half of the labels
    nothing = torch.zeros(1, 2, dtype=torch.bool)
    assert float(landmark_maps(tokens, tokens, between, between, nothing, (1, 2), **options)) == 0


def test_the_rank_of_features_tells_a_collapse() -> None:
    orthogonal = torch.cat([torch.eye(6), -torch.eye(6)])
    assert effective_rank(orthogonal) == pytest.approx(6)
    direction = torch.randn(1, 6)
    line = torch.linspace(-1, 1, 12)[:, None] * direction
    assert effective_rank(line + 3.0) == pytest.approx(1, abs=1e-3)
    # Two directions, one twice as strong: exp of the entropy of (2/3, 1/3).
    two = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    entropy = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))
    assert effective_rank(two) == pytest.approx(math.exp(entropy))
