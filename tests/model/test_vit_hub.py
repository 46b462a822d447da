"""An encoder that begins from a DINOv2 computes what the hub's own layers compute."""

from __future__ import annotations

import json

import pytest

from napari_cxr3d.errors import BundleError, UnreadableFileError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", reason="the hub extra is not installed")


@pytest.fixture(scope="module")
def hub_model():
    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14
    )
    model = transformers.Dinov2Model(config).eval()
    for parameter in model.parameters():  # scales and biases too
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture
def folder(hub_model, tmp_path):
    hub_model.save_pretrained(tmp_path)
    return tmp_path


def _encoder(**changes):
    from napari_cxr3d.models.vit import VisionTransformer

    settings = {"patch_size": 14, "dim": 32, "depth": 2, "heads": 2, "learned_position": True}
    return VisionTransformer(image_size=(56, 56), **{**settings, **changes}).eval()


def test_the_blocks_compute_what_those_of_the_hub_compute(hub_model, folder):
    from napari_cxr3d.models.vit_hub import begin_from_dinov2, read_dinov2

    encoder = _encoder()
    begin_from_dinov2(encoder, read_dinov2(folder))
    picture = torch.randn(2, 56, 56)
    with torch.no_grad():
        tokens = hub_model.embeddings(picture[:, None].expand(-1, 3, -1, -1))[:, 1:]
        for layer in hub_model.encoder.layer:
            tokens = layer(tokens)
            tokens = tokens[0] if isinstance(tokens, tuple) else tokens
        expected = hub_model.layernorm(tokens)
        found = encoder(picture)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_other_patches_and_grids_are_resized_to(hub_model, folder):
    from napari_cxr3d.models.vit import VisionTransformer
    from napari_cxr3d.models.vit_hub import begin_from_dinov2, read_dinov2

    encoder = VisionTransformer(
        image_size=(64, 64), patch_size=8, dim=32, depth=2, heads=2, learned_position=True
    )
    begin_from_dinov2(encoder, read_dinov2(folder))
    # A picture of one grey has the same answer at any patch size, but for the resizing's ringing.
    mine = encoder.patches.weight.sum(1)
    hubs = hub_model.embeddings.patch_embeddings.projection.weight.sum((1, 2, 3))
    torch.testing.assert_close(mine, hubs, rtol=0.1, atol=1.0)


@pytest.mark.parametrize("changes", [{"dim": 64}, {"depth": 1}, {"depth": 3}])
def test_another_width_or_depth_is_refused(folder, changes):
    from napari_cxr3d.models.vit_hub import begin_from_dinov2, read_dinov2

    with pytest.raises(BundleError, match="do not fit"):
        begin_from_dinov2(_encoder(**changes), read_dinov2(folder))


def test_a_folder_of_another_model_is_refused(folder):
    from napari_cxr3d.models.vit_hub import read_dinov2

    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "dinov3_vit"}))
    with pytest.raises(BundleError, match="dinov3_vit"):
        read_dinov2(folder)


def test_a_missing_folder_is_named(tmp_path):
    from napari_cxr3d.models.vit_hub import read_dinov2

    with pytest.raises(UnreadableFileError, match="nowhere"):
        read_dinov2(tmp_path / "nowhere")
