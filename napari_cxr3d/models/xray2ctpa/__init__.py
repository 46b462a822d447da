"""X-ray2CTPA: a CT from one chest X-ray by diffusion of slice latents, as published.

Cahan et al., 2024 (arXiv 2406.16109). The classes load torch when they are first asked for; the
presets need none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_cxr3d.models.xray2ctpa.presets import PRESETS

if TYPE_CHECKING:
    from napari_cxr3d.models.xray2ctpa.embedding import BiomedClipEncoder, CxrEncoder
    from napari_cxr3d.models.xray2ctpa.model import LatentRange, Xray2Ctpa
    from napari_cxr3d.models.xray2ctpa.unet3d import Unet3d

__all__ = ["PRESETS", "BiomedClipEncoder", "CxrEncoder", "LatentRange", "Unet3d", "Xray2Ctpa"]

_HOMES = {
    "BiomedClipEncoder": "embedding",
    "CxrEncoder": "embedding",
    "LatentRange": "model",
    "Unet3d": "unet3d",
    "Xray2Ctpa": "model",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
