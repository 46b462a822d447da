"""The codec of slices: one network for every slice, and Stable Diffusion's weights in it."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from napari_cxr3d.errors import ConsentRequiredError, InvalidInputError, UnreadableFileError
from napari_cxr3d.models.codecs import SLICE_PRESETS, SliceCodec
from napari_cxr3d.models.codecs.sd import SD_SCALE, sd_slice_codec
from napari_cxr3d.models.network import build_network, outline_network


@pytest.fixture(scope="module")
def tiny() -> SliceCodec:
    torch.manual_seed(0)
    codec = build_network(SLICE_PRESETS["tiny"]).eval()
    assert isinstance(codec, SliceCodec)
    codec.set_scale(2.5)
    return codec


def volumes(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def test_the_latent_keeps_the_slices_and_shortens_their_axes(tiny) -> None:
    x = volumes(2, 1, 5, 16, 24)
    z = tiny.encode(x)
    assert z.shape == (2, 4, 5, 4, 6)
    assert z.shape[1:] == tiny.latent_shape((5, 16, 24))
    assert tiny.decode(z).shape == x.shape
    assert tiny.factors == (1, 4, 4)
    assert tiny.numbers_per_voxel == 0.25
    with pytest.raises(InvalidInputError, match="not shorter alike"):
        _ = tiny.factor


def test_a_slice_knows_nothing_of_its_neighbours(tiny) -> None:
    x = volumes(2, 1, 4, 16, 16)
    z, y = tiny.encode(x), tiny.reconstruct(x)
    other = x.clone()
    other[0, 0, 2] += 1
    torch.testing.assert_close(tiny.encode(other)[0, :, [0, 1, 3]], z[0, :, [0, 1, 3]])
    assert not torch.allclose(tiny.encode(other)[0, :, 2], z[0, :, 2])
    torch.testing.assert_close(tiny.encode(other)[1], z[1])
    # One by one it is the same, whatever goes through the network together.
    torch.testing.assert_close(tiny.encode_slices(x[1].transpose(0, 1)), z[1].transpose(0, 1))
    torch.testing.assert_close(tiny.decode_slices(z[1].transpose(0, 1)), y[1].transpose(0, 1))


def test_parts_and_tiles_of_slices_change_nothing(tiny) -> None:
    x = volumes(1, 1, 7, 16, 24)
    z, y = tiny.encode(x), tiny.reconstruct(x)
    few = build_network(SLICE_PRESETS["tiny"] | {"slices_at_once": 3}).eval()
    few.load_state_dict(tiny.state_dict())
    torch.testing.assert_close(few.encode(x), z)
    seen: list[int] = []
    tiled = tiny.tiled_decode(z, tile=2, overlap=1, progress=lambda p: seen.append(p.total))
    torch.testing.assert_close(tiled, y)
    assert seen == [4, 4, 4, 4]  # seven slices, two at a time, and none twice
    torch.testing.assert_close(tiny.tiled_encode(x, tile=3, overlap=1), z)


def test_any_length_of_an_axis_can_be_reconstructed(tiny) -> None:
    x = volumes(1, 1, 3, 13, 18)
    assert tiny.reconstruct(x).shape == x.shape
    assert tiny.pad(x).shape == (1, 1, 3, 16, 20)


def test_every_weight_learns_and_a_frozen_codec_passes_gradients_on(tiny) -> None:
    codec = build_network(SLICE_PRESETS["tiny"])
    x = volumes(1, 1, 2, 16, 16)
    out = codec(x, torch.Generator().manual_seed(0))
    ((out.reconstruction - x).abs().mean() + 1e-3 * out.sigma.log().square().mean()).backward()
    assert [n for n, p in codec.named_parameters() if p.grad is None or not p.grad.any()] == []

    frozen = build_network(SLICE_PRESETS["tiny"] | {"frozen": True, "use_checkpoint": True})
    latent = torch.randn(2, 4, 4, 4, requires_grad=True)
    frozen.decode_slices(latent).square().mean().backward()
    assert float(latent.grad.abs().min()) > 0
    assert all(p.grad is None for p in frozen.parameters())


def test_the_presets_have_the_stated_sizes() -> None:
    counts = {
        name: sum(p.numel() for p in outline_network(preset).parameters())
        for name, preset in SLICE_PRESETS.items()
    }
    assert counts == {"tiny": 27_133, "demo": 158_677, "paper": 83_653_863}


@pytest.mark.parametrize(
    "changes", [{"channels": []}, {"norm_num_groups": 3}, {"slices_at_once": 0}]
)
def test_sizes_that_make_no_codec_are_refused(changes) -> None:
    with pytest.raises(InvalidInputError, match="cannot be built"):
        SliceCodec(**{"channels": [8, 8], "norm_num_groups": 4} | changes)


def test_what_is_no_slice_is_refused(tiny) -> None:
    with pytest.raises(InvalidInputError, match="Slices are"):
        tiny.encode_slices(volumes(1, 1, 2, 16, 16))
    with pytest.raises(InvalidInputError, match="Slices are"):
        tiny.decode_slices(volumes(4, 4, 4))
    with pytest.raises(InvalidInputError, match="multiples of 1, 4 and 4"):
        tiny.encode(volumes(1, 1, 3, 15, 16))


def test_a_codec_of_slices_survives_its_bundle(tiny, codec_card, tmp_path) -> None:
    from napari_cxr3d.models import open_bundle, write_bundle

    path = write_bundle(
        tmp_path / "c.zip",
        network=SLICE_PRESETS["tiny"],
        state=tiny.state_dict(),
        card=codec_card("slice-codec-tiny"),
        dtype="float32",
    )
    x = volumes(1, 1, 2, 16, 16)
    torch.testing.assert_close(open_bundle(path).network().encode(x), tiny.encode(x))


# --- Stable Diffusion's weights ------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """An autoencoder of diffusers with small random weights, and where it was saved."""
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    network = diffusers.AutoencoderKL(
        block_out_channels=(8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=2,
        norm_num_groups=4,
    ).eval()
    folder = tmp_path_factory.mktemp("sd")
    network.save_pretrained(folder)
    return network, folder


def test_weights_of_diffusers_compute_the_same_here(saved) -> None:
    network, folder = saved
    codec = sd_slice_codec(folder)
    x = volumes(2, 1, 3, 16, 24)
    pictures = x[0].transpose(0, 1).expand(-1, 3, -1, -1)
    with torch.no_grad():
        theirs = network.encode(pictures).latent_dist
        mean, sigma = codec.posterior(x)
        torch.testing.assert_close(mean[0].transpose(0, 1), theirs.mean)
        torch.testing.assert_close(sigma[0].transpose(0, 1), theirs.std)
        torch.testing.assert_close(codec.encode(x), mean * SD_SCALE)
        grey = network.decode(theirs.mean).sample.mean(1)
        torch.testing.assert_close(codec.reconstruct(x)[0, 0], grey, atol=1e-4, rtol=1e-4)
    assert not any(p.requires_grad for p in codec.parameters())


def test_the_weights_of_2022_have_other_names_and_are_the_same(saved, tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    _, folder = saved
    name = "diffusion_pytorch_model.safetensors"
    old = {}
    for key, tensor in load_file(folder / name).items():
        for new, then in (
            ("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")
        ):  # fmt: skip
            key = key.replace(f"attentions.0.{new}.", f"attentions.0.{then}.")
        if key.split(".")[-2] in ("query", "key", "value", "proj_attn") and tensor.ndim == 2:
            tensor = tensor[:, :, None, None].contiguous()
        old[key] = tensor
    save_file(old, tmp_path / name)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    x = volumes(1, 1, 1, 16, 16)
    assert torch.equal(sd_slice_codec(tmp_path).encode(x), sd_slice_codec(folder).encode(x))


def test_other_files_are_refused_by_name(saved, tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    _, folder = saved
    name = "diffusion_pytorch_model.safetensors"
    with pytest.raises(UnreadableFileError, match="no such file"):
        sd_slice_codec(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    save_file(load_file(folder / name), tmp_path / name)
    for change, why in (
        ({"_class_name": "UNet2DModel"}, "UNet2DModel"),
        ({"act_fn": "relu"}, "act_fn differ"),
        ({"block_out_channels": [8, 16, 32]}, "shape"),
        ({"layers_per_block": 1}, "unknown"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(UnreadableFileError) as caught:
            sd_slice_codec(tmp_path)
        assert why in str(caught.value)
    (tmp_path / name).write_bytes(b"no weights")
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnreadableFileError, match="weights cannot be read"):
        sd_slice_codec(tmp_path)


def test_nothing_is_fetched_without_consent(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("CXR3D_MODELS", str(tmp_path))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConsentRequiredError, match="sd-vae-ft-mse"):
        sd_slice_codec()
