"""The sizes of X-ray2CTPA: for a test, for the weights trained on phantoms, as published."""

from __future__ import annotations

from typing import Any

from napari_cxr3d.models.codecs.presets import SLICE_PRESETS

__all__ = ["PRESETS"]

_MODEL = "napari_cxr3d.models.xray2ctpa.Xray2Ctpa"
_ENCODER = "napari_cxr3d.models.xray2ctpa.CxrEncoder"

PRESETS: dict[str, dict[str, Any]] = {
    # Seconds on a CPU.
    "tiny": {
        "_target_": _MODEL,
        "codec": SLICE_PRESETS["tiny"],
        "encoder": {
            "_target_": _ENCODER,
            "channels": [8, 16],
            "size": 48,
            "grid": 3,
            "groups": 4,
            "length": 22.6,
        },
        "unet": {"dim": 8, "mults": [1, 2], "heads": 2, "head_dim": 8, "groups": 4},
        "volume_shape": [32, 32, 32],
        "spacing_mm": [12.0, 12.0, 12.0],
        "detector_shape": [48, 48],
        "hu_window": [-1000, 1000],
        "objective": "epsilon",
    },
    # The grid of the default reconstruction, so that both can be compared.
    "demo": {
        "_target_": _MODEL,
        "codec": SLICE_PRESETS["demo"],
        "encoder": {
            "_target_": _ENCODER,
            "channels": [16, 32, 64],
            "size": 96,
            "grid": 6,
            "length": 22.6,
        },
        "unet": {"dim": 12, "mults": [1, 2, 4], "heads": 1, "head_dim": 16, "groups": 4},
        "volume_shape": [64, 64, 64],
        "spacing_mm": [6.0, 6.0, 6.0],
        "detector_shape": [96, 96],
        "hu_window": [-1000, 1000],
        "objective": "x0",
    },
    # As published: latents of 4 x 64 x 32 x 32. The slices' spacing is ours: the paper resizes
    # the lungs' box, whatever its size.
    "paper": {
        "_target_": _MODEL,
        "codec": SLICE_PRESETS["paper"],
        "encoder": {"_target_": "napari_cxr3d.models.xray2ctpa.BiomedClipEncoder"},
        "unet": {"dim": 32, "mults": [1, 2, 4, 8], "heads": 8, "head_dim": 32},
        "volume_shape": [64, 256, 256],
        "spacing_mm": [5.0, 1.4, 1.4],
        "detector_shape": [512, 512],
        "hu_window": [-100, 900],
        "objective": "epsilon",
    },
}
