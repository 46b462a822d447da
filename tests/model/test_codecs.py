"""Codecs: a volume into a latent and back, whole or in tiles."""

from __future__ import annotations

import copy
import io

import pytest
import torch

from napari_cxr3d.errors import Cancelled, InvalidInputError
from napari_cxr3d.models.codecs import PRESETS, Codec, HaarCodec, KLCodec
from napari_cxr3d.models.network import build_network, outline_network
from napari_cxr3d.progress import CancelToken, Progress


@pytest.fixture(scope="module")
def tiny() -> Codec:
    torch.manual_seed(0)
    codec = build_network(PRESETS["tiny"]).eval()
    assert isinstance(codec, KLCodec)
    codec.set_scale(2.5)
    return codec


def smooth(*shape: int) -> torch.Tensor:
    """Volumes with structure on several scales, about -1 to 1."""
    generator = torch.Generator().manual_seed(1)
    x = torch.zeros(shape)
    for size in (2, 4, 8):
        coarse = torch.randn((*shape[:2], size, size, size), generator=generator)
        x += torch.nn.functional.interpolate(coarse, shape[2:], mode="trilinear") / 3
    return x


def test_a_latent_has_the_shape_it_was_said_to_have(tiny) -> None:
    x = smooth(2, 1, 16, 24, 20)
    z = tiny.encode(x)
    assert z.shape == (2, 4, 4, 6, 5)
    assert z.shape[1:] == tiny.latent_shape((16, 24, 20))
    assert tiny.decode(z).shape == x.shape


def test_encoding_the_mean_draws_nothing(tiny) -> None:
    x = smooth(1, 1, 16, 16, 16)
    assert torch.equal(tiny.encode(x), tiny.encode(x))
    mean, _ = tiny.posterior(x)
    torch.testing.assert_close(tiny.encode(x), 2.5 * mean)


def test_a_sample_scatters_about_the_mean_as_the_posterior_says(tiny) -> None:
    codec = copy.deepcopy(tiny)
    with torch.no_grad():
        codec.autoencoder.quant_conv_log_sigma.conv.bias -= 3  # sigma about 0.2
        x = smooth(1, 1, 16, 16, 16).expand(64, -1, -1, -1, -1)
        generator = torch.Generator().manual_seed(0)
        drawn = codec.sample(x, generator) / codec.scale
        mean, sigma = codec.posterior(x[:1])
    assert float(sigma.mean()) < 0.5
    assert float(((drawn - mean) / sigma).std()) == pytest.approx(1, abs=0.02)
    again = torch.Generator().manual_seed(0)
    assert torch.equal(codec.sample(x, again) / codec.scale, drawn)


def test_the_scale_cancels_in_a_round_trip_and_is_kept_in_the_state(tiny) -> None:
    x = smooth(1, 1, 16, 16, 16)
    before = tiny.decode(tiny.encode(x))
    other = build_network(PRESETS["tiny"])
    other.load_state_dict(tiny.state_dict())
    assert float(other.scale) == 2.5
    other.set_scale(0.1)
    torch.testing.assert_close(other.decode(other.encode(x)), before, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(other.encode(x), tiny.encode(x) / 25)


def test_a_fitted_scale_gives_latents_of_unit_variance() -> None:
    codec = build_network(PRESETS["tiny"])
    x = smooth(3, 1, 16, 16, 16)
    codec.fit_scale(x)
    assert float(codec.encode(x).detach().std()) == pytest.approx(1, abs=1e-4)


def test_every_weight_learns_from_a_reconstruction_and_its_divergence(tiny) -> None:
    tiny.zero_grad()
    x = smooth(1, 1, 16, 16, 16)
    out = tiny(x, torch.Generator().manual_seed(0))
    divergence = 0.5 * (out.mean**2 + out.sigma**2 - 2 * out.sigma.log() - 1)
    ((out.reconstruction - x).abs().mean() + 1e-3 * divergence.mean()).backward()
    still = [n for n, p in tiny.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


@pytest.mark.parametrize("enlarging", ["trilinear", "transposed"])
def test_the_decoder_enlarges_as_it_is_told(tiny, enlarging) -> None:
    other = build_network(PRESETS["tiny"] | {"enlarging": enlarging})
    x = smooth(1, 1, 16, 16, 16)
    assert other.reconstruct(x).shape == x.shape
    if enlarging == "trilinear":  # the same weights, another picture
        other.load_state_dict(tiny.state_dict())
        assert torch.equal(other.encode(x), tiny.encode(x))
        assert not torch.allclose(other.reconstruct(x), tiny.reconstruct(x))


def test_any_length_of_an_axis_can_be_reconstructed(tiny) -> None:
    x = smooth(1, 1, 13, 17, 8)
    assert tiny.reconstruct(x).shape == x.shape
    padded = tiny.pad(x)
    assert padded.shape == (1, 1, 16, 20, 8)
    assert torch.equal(padded[..., :13, :17, :8], x)
    assert torch.equal(padded[0, 0, 15, :17, 0], x[0, 0, 12, :, 0])


def test_shapes_that_would_lose_voxels_are_refused(tiny) -> None:
    for shape in ((1, 1, 13, 16, 16), (1, 2, 16, 16, 16), (16, 16, 16)):
        with pytest.raises(InvalidInputError, match="encode"):
            tiny.encode(torch.zeros(shape))
    with pytest.raises(InvalidInputError, match="encodes floating"):
        tiny.encode(torch.zeros((1, 1, 16, 16, 16), dtype=torch.int16))
    with pytest.raises(InvalidInputError, match="decodes floating"):
        tiny.decode(torch.zeros((1, 3, 4, 4, 4)))
    with pytest.raises(InvalidInputError, match="positive"):
        tiny.set_scale(0.0)


@pytest.mark.parametrize(("tile", "overlap"), [(3, 0), (3, 1), (4, 3), (5, 2)])
def test_tiles_of_a_linear_codec_add_up_to_the_whole(tile, overlap) -> None:
    codec = HaarCodec(levels=1)
    x = torch.randn(2, 1, 14, 10, 8)
    z = codec.encode(x)
    torch.testing.assert_close(codec.tiled_decode(z, tile=tile, overlap=overlap), x)
    torch.testing.assert_close(codec.tiled_encode(x, tile=tile, overlap=overlap), z)


def test_tiles_tell_their_progress_and_stop_when_asked() -> None:
    codec = HaarCodec(levels=1)
    z = torch.randn(1, 8, 8, 4, 4)
    seen: list[Progress] = []
    codec.tiled_decode(z, tile=4, overlap=2, progress=seen.append)
    assert [(p.done, p.total) for p in seen] == [(1, 3), (2, 3), (3, 3)]
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        codec.tiled_decode(z, cancel=token)
    with pytest.raises(InvalidInputError, match="overlap"):
        codec.tiled_decode(z, tile=4, overlap=4)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_the_wavelet_loses_nothing_and_keeps_the_norm(levels) -> None:
    codec = HaarCodec(levels)
    x = torch.randn(2, 1, 16, 24, 8, dtype=torch.float64)
    z = codec.double().encode(x)
    assert z.shape[1:] == codec.latent_shape(x.shape[2:])
    assert z.numel() == x.numel()
    torch.testing.assert_close(codec.decode(z), x, rtol=0, atol=1e-6)
    torch.testing.assert_close(z.norm(), x.norm(), rtol=1e-6, atol=0)


def test_the_wavelets_adjoint_is_its_inverse() -> None:
    codec = HaarCodec(2)
    x = torch.randn(1, 1, 8, 8, 8, requires_grad=True)
    y = torch.randn(1, 64, 2, 2, 2)
    (codec.encode(x) * y).sum().backward()
    torch.testing.assert_close(x.grad, codec.decode(y))


def test_the_wavelet_is_linear_and_its_first_band_is_the_mean() -> None:
    codec = HaarCodec(2)
    a, b = torch.randn(2, 1, 1, 8, 8, 8)
    torch.testing.assert_close(codec.encode(2 * a - b), 2 * codec.encode(a) - codec.encode(b))
    means = torch.nn.functional.avg_pool3d(a, 4)
    torch.testing.assert_close(codec.encode(a)[:, :1], 8 * means)  # sqrt(4**3)
    flat = codec.encode(torch.ones(1, 1, 8, 8, 8))
    assert float(flat[:, 1:].abs().max()) < 1e-6


def test_the_presets_have_the_stated_sizes() -> None:
    counts = {
        name: sum(p.numel() for p in outline_network(preset).parameters())
        for name, preset in PRESETS.items()
    }
    assert counts == {"tiny": 87_785, "demo": 2_929_057, "paper": 20_944_897}
    assert 2 * counts["demo"] < 16 * 2**20


def test_a_codec_of_the_tiny_preset_survives_its_bundle(tiny, codec_card, tmp_path) -> None:
    from napari_cxr3d.models import open_bundle, write_bundle

    path = write_bundle(
        tmp_path / "codec.zip",
        network=PRESETS["tiny"],
        state=tiny.state_dict(),
        card=codec_card("codec-tiny"),
    )
    loaded = open_bundle(path).network()
    x = smooth(1, 1, 16, 16, 16)
    with torch.no_grad():
        before, after = tiny.reconstruct(x), loaded.reconstruct(x)
    assert float((after - before).abs().max()) < 0.05 * float(before.abs().max())
    assert path.stat().st_size < 0.25 * 2**20


@pytest.mark.parametrize(
    "changes",
    [
        {"norm_num_groups": 3},
        {"channels": []},
        {"channels": [8, 0]},
        {"channels": [8, 8.5]},
        {"num_res_blocks": [1, 1]},
        {"latent_channels": 0},
        {"enlarging": "bicubic"},
    ],
)
def test_sizes_that_make_no_codec_are_refused(changes) -> None:
    with pytest.raises(InvalidInputError, match="cannot be built"):
        KLCodec(**{"channels": [8, 16, 16], "norm_num_groups": 8} | changes)
    with pytest.raises(InvalidInputError, match="cannot be built"):
        HaarCodec(levels=9)


def test_a_codec_can_be_copied_and_pickled_for_workers(tiny) -> None:
    buffer = io.BytesIO()
    torch.save(tiny, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    x = smooth(1, 1, 8, 8, 8)
    assert torch.equal(loaded.encode(x), tiny.encode(x))
