"""X-ray2CTPA's networks: as published, and each part does what it is there for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.bundle import open_bundle, write_bundle
from napari_cxr3d.models.latent_classifier import LatentClassifier
from napari_cxr3d.models.network import build_network, outline_network
from napari_cxr3d.models.reconstruction import ViewBatch
from napari_cxr3d.models.xray2ctpa import PRESETS, CxrEncoder, LatentRange, Unet3d, Xray2Ctpa
from napari_cxr3d.models.xray2ctpa.attention import (
    Attention,
    DepthPositions,
    RelativePositionBias,
    SpatialLinearAttention,
    rotation,
)
from napari_cxr3d.models.xray2ctpa.embedding import MEAN, STD, BiomedClipEncoder, pictures_of
from napari_cxr3d.models.xray2ctpa.lora import LoraLinear, add_adapters, merge_adapters


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    """Networks this small gain nothing from a second one."""
    torch.set_num_threads(1)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def views(batch: int = 2, count: int = 2, size: int = 48) -> ViewBatch:
    integrals = noise(batch, count, size, size, seed=3).abs()
    ones = torch.ones(batch, count)
    return ViewBatch(
        integrals, torch.ones_like(integrals), torch.zeros(batch, count, 12), ones, ones
    )


@pytest.fixture(scope="module")
def tiny() -> Xray2Ctpa:
    torch.manual_seed(0)
    model = build_network(PRESETS["tiny"]).eval().requires_grad_(False)
    assert isinstance(model, Xray2Ctpa)
    model.range.set(-3.0, 3.0)
    return model


# --- the published sizes -------------------------------------------------------------------------


def test_the_papers_unet_has_12_million_numbers_and_keeps_its_latents_shape() -> None:
    with torch.device("meta"):
        unet = Unet3d(**PRESETS["paper"]["unet"])
        out = unet(
            torch.zeros(1, 4, 64, 32, 32), torch.zeros(1), torch.zeros(1, 512), torch.ones(1)
        )
    assert sum(p.numel() for p in unet.parameters()) == 12_007_236
    assert out.shape == (1, 4, 64, 32, 32)
    told = {m.in_features for n, m in unet.named_modules() if n.endswith("modulation.1")}
    assert told == {128 + 512}  # time and condition, at every level
    kernels = {m.kernel_size for m in unet.modules() if isinstance(m, nn.Conv3d)}
    assert kernels == {(1, 7, 7), (1, 3, 3), (1, 4, 4), (1, 1, 1)}


def test_the_papers_classifier_halves_the_slices_and_keeps_their_number() -> None:
    with torch.device("meta"):
        classifier = LatentClassifier()
        stem = classifier.network.features.conv0(torch.zeros(1, 4, 64, 32, 32))
        last = classifier.network.features(torch.zeros(1, 4, 64, 32, 32))
        logits = classifier(torch.zeros(2, 4, 64, 32, 32))
    assert stem.shape == (1, 64, 64, 16, 16)
    assert last.shape == (1, 1024, 4, 1, 1)  # what the published average pooling takes
    assert logits.shape == (2, 1)
    dropouts = [m.p for m in classifier.modules() if isinstance(m, nn.Dropout3d)]
    assert len(dropouts) == 6 + 12 + 24 + 16
    assert set(dropouts) == {0.2}


def test_a_classifier_that_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="positive"):
        LatentClassifier(dropout=1.0)


# --- attention -----------------------------------------------------------------------------------


def test_rotary_similarity_depends_on_the_distance_of_slices_alone() -> None:
    cosine, sine = rotation(12, 8, torch.device("cpu"))
    q, k = noise(8), noise(8, seed=1)

    def turned(x: torch.Tensor, i: int) -> torch.Tensor:
        pairs = torch.view_as_complex(x.reshape(4, 2).contiguous())
        return torch.view_as_real(pairs * torch.complex(cosine[i, ::2], sine[i, ::2])).flatten()

    near = [float(turned(q, i) @ turned(k, i + 3)) for i in range(9)]
    assert max(near) - min(near) < 1e-5
    assert abs(float(turned(q, 0) @ turned(k, 4)) - near[0]) > 1e-3


def test_depth_attention_is_that_of_its_formula() -> None:
    torch.manual_seed(1)
    layer, n, heads, width = Attention(6, 2, 4), 5, 2, 4
    bias = RelativePositionBias(heads)(n).detach()
    cosine, sine = rotation(n, width, torch.device("cpu"))
    tokens = noise(3, n, 6)
    found = layer(tokens, DepthPositions(cosine, sine, bias))

    def turned(x: torch.Tensor) -> torch.Tensor:
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
        turn = torch.complex(cosine[:, ::2], sine[:, ::2])[:, None]
        return torch.view_as_real(pairs * turn).flatten(-2)

    q, k, v = (t.unflatten(-1, (heads, width)) for t in layer.qkv(tokens).chunk(3, dim=-1))
    likeness = torch.einsum("bihd,bjhd->bhij", turned(q), turned(k)) / width**0.5 + bias
    expected = torch.einsum("bhij,bjhd->bihd", likeness.softmax(-1), v).flatten(2)
    torch.testing.assert_close(found, layer.out(expected), atol=1e-5, rtol=1e-4)


def test_distances_between_slices_fall_into_t5s_classes() -> None:
    bias = RelativePositionBias(heads=1)
    offsets = torch.tensor([0, -1, -7, -8, -16, -31, -32, -500, 1, 8, 500])
    # 16 classes a direction: 0 to 7 one each, then 8 shared by the logarithm up to 32.
    assert bias.class_of(offsets).tolist() == [0, 1, 7, 8, 12, 15, 15, 15, 17, 24, 31]


def test_linear_attention_looks_within_each_slice_alone() -> None:
    torch.manual_seed(2)
    layer = SpatialLinearAttention(6, 2, 4).requires_grad_(False)
    x = noise(2, 6, 3, 4, 4)
    changed = x.clone()
    changed[:, 0, 1, 2, 2] += 1
    differs = (layer(changed) - layer(x)).abs().amax(dim=(0, 1))
    assert float(differs[0].max()) == 0
    assert float(differs[2].max()) == 0
    assert float(differs[1].min()) > 0  # every place of that slice looks at the changed one

    normed = layer.norm(x[0, :, 0].flatten(1).T)  # (places, 6)
    q, k, v = (normed @ w.T for w in layer.qkv.weight[:, :, 0, 0, 0].chunk(3))
    heads = []
    for h in range(2):
        own = slice(4 * h, 4 * h + 4)
        heads.append((q[:, own].softmax(-1) / 2) @ (k[:, own].softmax(0).T @ v[:, own]))
    out = torch.cat(heads, dim=1) @ layer.out.weight[:, :, 0, 0, 0].T + layer.out.bias
    torch.testing.assert_close(layer(x)[0, :, 0].flatten(1).T - x[0, :, 0].flatten(1).T, out)


def test_slices_know_of_each_other_through_depth_attention() -> None:
    torch.manual_seed(0)
    unet = Unet3d(4, dim=8, mults=(1, 2), heads=2, head_dim=8, groups=4).requires_grad_(False)
    given = (torch.tensor([7]), noise(1, 512), torch.ones(1))
    x = noise(1, 4, 5, 8, 8)  # slices of any number
    assert unet(x, *given).shape == x.shape
    with pytest.raises(InvalidInputError, match="does not fit the U-Net"):
        unet(noise(1, 4, 5, 8, 9), *given)
    moved = unet(x.flip(2), *given).flip(2)
    assert float((moved - unet(x, *given)).abs().max()) > 1e-3  # and of their order
    with pytest.raises(InvalidInputError, match="cannot be built"):
        Unet3d(4, dim=12, groups=8)


# --- the X-ray -----------------------------------------------------------------------------------


def test_the_picture_does_not_depend_on_the_scale_of_the_integrals() -> None:
    given = views()
    other = given._replace(integrals=0.3 + 2.5 * given.integrals)
    torch.testing.assert_close(pictures_of(other), pictures_of(given), atol=1e-5, rtol=0)
    picture = pictures_of(given)
    assert picture.shape == (2, 1, 48, 48)
    assert float(picture.min()) == 0
    assert float(picture.max()) == 1
    assert 0.008 < float((picture == 1).float().mean()) < 0.02


def test_the_picture_is_the_first_known_views_where_it_reaches() -> None:
    given = views()
    valid = given.valid.clone()
    valid[:, :, :10] = 0
    known = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    integrals = given.integrals.clone()
    integrals[:, :, :10] = 1e6  # what is not covered does not count
    picture = pictures_of(given._replace(integrals=integrals, valid=valid, known=known))
    assert float(picture[:, :, :10].max()) == 0
    alone = pictures_of(
        ViewBatch(*(t[1:, 1:] for t in given))._replace(
            integrals=given.integrals[1:, 1:, 10:], valid=valid[1:, 1:, 10:]
        )
    )
    torch.testing.assert_close(picture[1:, :, 10:], alone)


def test_an_embedding_has_its_length_and_differs_between_pictures() -> None:
    torch.manual_seed(0)
    encoder = CxrEncoder((8, 16), size=32, grid=2, groups=4, length=22.6).requires_grad_(False)
    vectors = encoder(noise(3, 1, 40, 40).sigmoid())
    assert vectors.shape == (3, 512)
    torch.testing.assert_close(vectors.norm(dim=1), torch.full((3,), 22.6))
    assert float((vectors[0] - vectors[1]).norm()) > 0.01
    for wrong in ({"channels": (8, 10)}, {"size": 8}, {"length": 0.0}):
        with pytest.raises(InvalidInputError):
            CxrEncoder(**{"channels": (8, 16), "groups": 4, **wrong})


def test_biomedclip_sees_three_channels_of_224_normalised_as_published(monkeypatch) -> None:
    from napari_cxr3d.models import hub_networks

    seen: list[torch.Tensor] = []

    class Trunk(nn.Module):
        num_features, num_prefix_tokens = 6, 1

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 6)

        def forward_features(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return self.layer(x.mean((2, 3)))[:, None].expand(-1, 5, -1)

        def forward_head(self, tokens: torch.Tensor) -> torch.Tensor:
            return tokens[:, 0]

    class Timm:
        @staticmethod
        def create_model(pretrained: bool, **given: Any) -> Trunk:
            assert not pretrained
            return Trunk()

    monkeypatch.setattr(hub_networks, "_library", lambda name: Timm)
    encoder, other = BiomedClipEncoder(), BiomedClipEncoder()
    vectors = encoder(torch.full((2, 1, 96, 96), MEAN + 2 * STD))
    assert seen[0].shape == (2, 3, 224, 224)
    torch.testing.assert_close(seen[0], torch.full_like(seen[0], 2.0))
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))
    assert not any(p.requires_grad for p in encoder.parameters())
    encoder.take(other.tower)
    torch.testing.assert_close(encoder.tower.state_dict(), other.tower.state_dict())


# --- the model -----------------------------------------------------------------------------------


def test_latents_come_into_the_range_and_back() -> None:
    limits = LatentRange()
    limits.set(-8.7, 12.3)
    z = torch.tensor([-20.0, -8.7, 0.0, 12.3, 15.0])
    x = limits(z)
    torch.testing.assert_close(x[[0, 1, 3, 4]], torch.tensor([-1.0, -1.0, 1.0, 1.0]))
    torch.testing.assert_close(limits.back(x), torch.tensor([-8.7, -8.7, 0.0, 12.3, 12.3]))
    assert bool(limits.measured)
    with pytest.raises(InvalidInputError, match="must rise"):
        limits.set(1.0, 1.0)


def test_a_volume_comes_back_as_its_codec_gives_it(tiny: Xray2Ctpa) -> None:
    volume = noise(2, 1, 32, 32, 32).clamp(-1, 1)
    condition = tiny.condition(views())
    latent = tiny.encode(volume, condition)
    assert latent.shape == (2, *tiny.latent_shape) == (2, 4, 32, 8, 8)
    assert float(latent.abs().max()) <= 1
    expected = tiny.codec.decode(tiny.range.back(latent)).clamp(-1, 1)
    torch.testing.assert_close(tiny.decode(latent, condition), expected)
    tiled = tiny.decode(latent, condition, tile=8)
    torch.testing.assert_close(tiled, expected, atol=1e-5, rtol=1e-5)


def test_guidance_shows_the_x_ray_hides_it_or_goes_beyond(tiny: Xray2Ctpa) -> None:
    x, time = noise(2, *tiny.latent_shape), torch.tensor([0.8, 0.3])
    one, other = (
        tiny.condition(views()._replace(integrals=noise(2, 2, 48, 48, seed=s).abs()))
        for s in (1, 2)
    )
    shown, hidden = (tiny.predict(x, time, one, g) for g in (1.0, 0.0))
    assert float((shown - tiny.predict(x, time, other)).abs().max()) > 1e-5
    torch.testing.assert_close(hidden, tiny.predict(x, time, other, 0.0))
    torch.testing.assert_close(
        tiny.predict(x, time, one, 3.0), hidden + 3 * (shown - hidden), atol=1e-4, rtol=1e-3
    )


def test_it_knows_nothing_of_where_the_x_ray_was_taken_from(tiny: Xray2Ctpa) -> None:
    given = views()
    assert not tiny.uses_geometry
    moved = given._replace(cameras=given.cameras + 100)
    torch.testing.assert_close(tiny.condition(moved).features, tiny.condition(given).features)


def test_it_is_sampled_in_the_thousand_steps_of_its_training(tiny: Xray2Ctpa) -> None:
    assert tiny.default_steps == 1000
    times = torch.tensor(tiny.process.times(1000)[:-1])
    assert tiny.step(times).tolist() == list(range(999, -1, -1))
    assert tiny.process.clip == 1.0
    assert tiny.process.objective == "epsilon"
    assert outline_network(PRESETS["demo"]).process.objective == "x0"


def test_it_is_sampled_by_the_common_sampler(tiny: Xray2Ctpa) -> None:
    from napari_cxr3d.inference.sampler import sample

    condition = tiny.condition(views())
    start = noise(2, *tiny.latent_shape)
    states = list(
        sample(
            lambda x, t: tiny.predict(x, t, condition), tiny.process, start, steps=4, method="ddim"
        )
    )
    volume = tiny.decode(states[-1].x0, condition)
    assert volume.shape == (2, 1, 32, 32, 32)
    assert bool(volume.isfinite().all())


def test_it_goes_through_a_bundle(tiny: Xray2Ctpa, tmp_path) -> None:
    card = {
        "name": "xray2ctpa-tiny", "version": "1.0.0", "kind": "reconstructor", "licence": "none",
        "intended_use": "tests", "limits": "SYNTHETIC", "synthetic_training": True,
        "preprocessing": tiny.window.to_dict(), "metrics": {},
        "training": {"command": None, "seed": None, "data": None},
    }  # fmt: skip
    out = tmp_path / "bundle"
    write_bundle(out, network=PRESETS["tiny"], state=tiny.state_dict(), card=card, dtype="float32")
    again = open_bundle(out).network()
    assert isinstance(again, Xray2Ctpa)
    condition, x = tiny.condition(views()), noise(2, *tiny.latent_shape)
    time = torch.tensor([0.5, 0.5])
    torch.testing.assert_close(
        again.predict(x, time, again.condition(views())), tiny.predict(x, time, condition)
    )
    assert bool(again.range.measured)


def test_a_model_that_does_not_fit_is_refused() -> None:
    unet = {**PRESETS["tiny"]["unet"], "mults": [1, 2, 4, 8, 16]}
    for wrong in ({"unet": unet}, {"objective": "v"}, {"codec": PRESETS["tiny"]["encoder"]}):
        with pytest.raises(InvalidInputError):
            outline_network({**PRESETS["tiny"], **wrong})


# --- adapters ------------------------------------------------------------------------------------


def adapted() -> tuple[Unet3d, tuple[torch.Tensor, ...]]:
    torch.manual_seed(0)
    unet = Unet3d(4, dim=8, mults=(1, 2), heads=2, head_dim=8, groups=4)
    return unet, (noise(1, 4, 4, 8, 8), torch.tensor([500]), noise(1, 512), torch.ones(1))


def test_adapters_change_nothing_before_they_are_trained() -> None:
    unet, given = adapted()
    before = unet(*given)
    count = add_adapters(unet, rank=4)
    torch.testing.assert_close(unet(*given), before)
    # Two for every attention of softmax, one for every residual block that is told something.
    depth, slices, told = 1 + 2 + 2 + 1, 1, 4 + 4 + 2
    assert count == 2 * (depth + slices) + told


def test_only_adapters_learn_and_merging_keeps_what_they_learned() -> None:
    unet, given = adapted()
    names = set(unet.state_dict())
    add_adapters(unet, rank=2, scale=0.5)
    trained = {n for n, p in unet.named_parameters() if p.requires_grad}
    assert {n.rpartition(".")[2] for n in trained} == {"up", "down"}
    base = {n: p.clone() for n, p in unet.named_parameters() if n not in trained}
    optimizer = torch.optim.Adam([p for p in unet.parameters() if p.requires_grad], lr=1e-2)
    before = unet(*given).detach()
    for _ in range(3):
        optimizer.zero_grad()
        unet(*given).square().mean().backward()
        optimizer.step()
    for name, value in unet.named_parameters():
        if name in base:
            assert value.grad is None
            torch.testing.assert_close(value, base[name], rtol=0, atol=0)
    after = unet(*given).detach()
    assert float((after - before).abs().max()) > 1e-4
    merge_adapters(unet)
    assert set(unet.state_dict()) == names
    torch.testing.assert_close(unet(*given), after, atol=1e-4, rtol=1e-4)


def test_adapters_that_do_not_fit_are_refused() -> None:
    unet, _ = adapted()
    with pytest.raises(InvalidInputError, match="rank 99"):
        add_adapters(unet, rank=99)
    assert not any(isinstance(m, LoraLinear) for m in unet.modules())
    assert all(p.requires_grad for p in unet.parameters())
    with pytest.raises(InvalidInputError, match="no linear layers"):
        add_adapters(nn.Sequential(nn.Linear(8, 8)), rank=2)
