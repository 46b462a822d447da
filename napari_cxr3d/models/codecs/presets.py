"""The codecs' sizes: for a test, for the weights that travel with the program, as published."""

from __future__ import annotations

from typing import Any

__all__ = ["PRESETS"]

_KL = "napari_cxr3d.models.codecs.KLCodec"

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
