"""Every MONAI network that a bundle may name builds from plain numbers, without memory."""

from __future__ import annotations

import pytest
import torch

from napari_cxr3d.models.network import ALLOWED_MONAI, build_network, outline_network

UNET = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2}
DIFFUSION = {
    "spatial_dims": 3,
    "in_channels": 1,
    "num_res_blocks": [1, 1],
    "channels": [8, 8],
    "attention_levels": [False, True],
    "norm_num_groups": 4,
    "num_head_channels": 4,
}
VIT = {
    "in_channels": 1,
    "img_size": [8, 8],
    "patch_size": [4, 4],
    "hidden_size": 12,
    "mlp_dim": 12,
    "num_layers": 1,
    "num_heads": 2,
    "spatial_dims": 2,
}
ARGUMENTS = {
    "AutoencoderKL": {
        "spatial_dims": 2,
        "channels": [8],
        "attention_levels": [False],
        "num_res_blocks": 1,
        "norm_num_groups": 4,
    },
    "BasicUNet": UNET | {"features": [4, 4, 4, 4, 4, 4]},
    "ControlNet": DIFFUSION,
    "DenseNet": UNET | {"init_features": 4, "growth_rate": 2, "block_config": [1, 1]},
    "DenseNet121": UNET | {"init_features": 4, "growth_rate": 2, "block_config": [1, 1, 1, 1]},
    "DiffusionModelUNet": DIFFUSION | {"out_channels": 1},
    "DynUNet": UNET
    | {
        "kernel_size": [3, 3, 3],
        "strides": [1, 2, 2],
        "upsample_kernel_size": [2, 2],
        "filters": [4, 4, 4],
    },
    "MultiScalePatchDiscriminator": {
        "num_d": 1,
        "num_layers_d": 1,
        "spatial_dims": 3,
        "channels": 4,
        "in_channels": 1,
    },
    "PatchDiscriminator": {
        "spatial_dims": 3,
        "channels": 4,
        "in_channels": 1,
        "num_layers_d": 2,
    },
    "ResNet": {
        "block": "basic",
        "layers": [1, 1, 1, 1],
        "block_inplanes": [2, 2, 2, 2],
        "n_input_channels": 1,
    },
    "SegResNet": UNET | {"init_filters": 8},
    "UNet": UNET | {"channels": [4, 8], "strides": [2]},
    "VQVAE": UNET
    | {
        "channels": [4, 4],
        "num_res_channels": 4,
        "num_res_layers": 1,
        "downsample_parameters": [[2, 4, 1, 1], [2, 4, 1, 1]],
        "upsample_parameters": [[2, 4, 1, 1, 0], [2, 4, 1, 1, 0]],
        "num_embeddings": 8,
        "embedding_dim": 4,
    },
    "ViT": VIT,
}


def test_every_allowed_network_is_looked_at() -> None:
    assert ARGUMENTS.keys() == ALLOWED_MONAI


@pytest.mark.parametrize("name", sorted(ALLOWED_MONAI))
def test_an_allowed_network_builds_without_memory_and_with_the_same_names(name) -> None:
    description = {"_target_": f"monai.networks.nets.{name}", **ARGUMENTS[name]}
    outline, network = outline_network(description), build_network(description)
    wanted = {k: v.shape for k, v in network.state_dict().items()}
    assert {k: v.shape for k, v in outline.state_dict().items()} == wanted
    assert all(isinstance(p, torch.nn.Parameter) and not p.is_meta for p in network.parameters())
