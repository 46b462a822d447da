"""Codecs: between a CT and the smaller latent in which generative models work.

The classes load torch, and the learned ones MONAI, when they are first asked for; the presets need
neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_cxr3d.models.codecs.presets import PRESETS, SLICE_PRESETS, VQ_PRESETS

if TYPE_CHECKING:
    from napari_cxr3d.models.codecs.base import Codec, CodecOutput
    from napari_cxr3d.models.codecs.haar import HaarCodec
    from napari_cxr3d.models.codecs.kl import KLCodec
    from napari_cxr3d.models.codecs.slice import SliceCodec
    from napari_cxr3d.models.codecs.vq import VQCodec

__all__ = [
    "PRESETS",
    "SLICE_PRESETS",
    "VQ_PRESETS",
    "Codec",
    "CodecOutput",
    "HaarCodec",
    "KLCodec",
    "SliceCodec",
    "VQCodec",
]

_HOMES = {
    "Codec": "base",
    "CodecOutput": "base",
    "HaarCodec": "haar",
    "KLCodec": "kl",
    "SliceCodec": "slice",
    "VQCodec": "vq",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
