"""The codecs' sizes: for a test, for the weights that travel with the program, as published."""

from __future__ import annotations

from typing import Any

__all__ = ["PRESETS", "SLICE_PRESETS", "VQ_PRESETS"]

_KL = "napari_cxr3d.models.codecs.KLCodec"
_SLICE = "napari_cxr3d.models.codecs.SliceCodec"
_VQ = "napari_cxr3d.models.codecs.VQCodec"

PRESETS: dict[str, dict[str, Any]] = {
    # Seconds on a CPU.
    "tiny": {
        "_target_": _KL,
        "channels": [8, 16, 16],
        "latent_channels": 4,
        "num_res_blocks": 1,
        "norm_num_groups": 4,
    },
    # 5.6 MiB in bfloat16.
    "demo": {
        "_target_": _KL,
        "channels": [32, 64, 128],
        "latent_channels": 4,
        "num_res_blocks": 1,
        "norm_num_groups": 8,
    },
    # The VAE of MAISI (Guo et al., WACV 2025, arXiv 2409.11169): its weights fit by name.
    "paper": {
        "_target_": _KL,
        "channels": [64, 128, 256],
        "latent_channels": 4,
        "num_res_blocks": 2,
        "norm_num_groups": 32,
        "enlarging": "trilinear",
    },
}

SLICE_PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {
        "_target_": _SLICE,
        "channels": [8, 8, 16],
        "latent_channels": 4,
        "num_res_blocks": 1,
        "norm_num_groups": 4,
        "picture_channels": 1,
        "attention": False,
    },
    # Slices 4 times smaller each way: 64 x 64 voxels become 4 x 16 x 16 numbers.
    "demo": {
        "_target_": _SLICE,
        "channels": [16, 32, 32],
        "latent_channels": 4,
        "num_res_blocks": 1,
        "norm_num_groups": 8,
        "picture_channels": 1,
        "attention": False,
        "slices_at_once": 64,
    },
    # Stable Diffusion's, which X-ray2CTPA takes: the weights of sd-vae-ft-mse fit by name.
    "paper": {
        "_target_": _SLICE,
        "channels": [128, 256, 512, 512],
        "latent_channels": 4,
        "num_res_blocks": 2,
        "norm_num_groups": 32,
        "picture_channels": 3,
        "attention": True,
        "slices_at_once": 4,
    },
}

VQ_PRESETS: dict[str, dict[str, Any]] = {
    # As many weights and latent numbers as the tiny KL codec, to be compared with it.
    "tiny": {
        "_target_": _VQ,
        "n_codes": 256,
        "channels": [8, 16, 16],
        "latent_channels": 4,
        "num_res_blocks": 1,
        "norm_num_groups": 4,
    },
    "demo": {
        "_target_": _VQ,
        "n_codes": 2048,
        "channels": [32, 64, 128],
        "latent_channels": 4,
        "num_res_blocks": 1,
        "norm_num_groups": 8,
    },
    # The codebook of Medical Diffusion (Khader et al., 2023) in the network of the KL codec.
    "paper": {
        "_target_": _VQ,
        "n_codes": 16384,
        "channels": [64, 128, 256],
        "latent_channels": 8,
        "num_res_blocks": 2,
        "norm_num_groups": 32,
    },
}
