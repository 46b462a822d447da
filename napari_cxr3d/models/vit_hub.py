"""Weights of DINOv2 transformers, RAD-DINO among them, as a start for our own.

Oquab et al., DINOv2, TMLR 2024 (arXiv 2304.07193); Perez-Garcia et al., RAD-DINO, 2024 (arXiv
2401.10815). DINOv3 turns its positions into rotations, which our transformer has not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from napari_cxr3d.errors import BundleError, UnreadableFileError
from napari_cxr3d.models.vit import TransformerBlock, VisionTransformer

__all__ = ["begin_from_dinov2", "read_dinov2"]

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"


def read_dinov2(folder: str | Path) -> dict[str, Tensor]:
    """Weights of a folder as the Hugging Face hub holds them; nothing in it is run.

    Parameters
    ----------
    folder : path-like
        With ``config.json`` and ``model.safetensors``.

    Raises
    ------
    UnreadableFileError
        If a file is missing or broken.
    BundleError
        If it is no DINOv2.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    place = Path(folder).expanduser()
    try:
        config = json.loads((place / _CONFIG).read_text())
        state = load_file(place / _WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise UnreadableFileError(
            "The weights to begin from cannot be read",
            why=str(error),
            remedy=f"name a folder with {_CONFIG} and {_WEIGHTS}",
            path=place,
        ) from error
    if config.get("model_type") != "dinov2":
        raise BundleError(
            "An encoder can begin from a DINOv2 only",
            why=f"this one is {config.get('model_type')!r}",
            remedy="take RAD-DINO or a facebook/dinov2 model",
            path=place,
        )
    return {name.removeprefix("dinov2."): value for name, value in state.items()}


def begin_from_dinov2(encoder: VisionTransformer, state: Mapping[str, Tensor]) -> None:
    """Fill an encoder with the weights of a DINOv2 of the same width and depth.

    Kernels and positions are resized to our patches, and the kernels of the three colours summed.
    The scales after attention and network go into the layers before them. The class token is
    left out, so features are near to those of the hub's model, not the same.

    Parameters
    ----------
    encoder : VisionTransformer
        With ``learned_position``.
    state : mapping of str to Tensor
        From `read_dinov2`.

    Raises
    ------
    BundleError
        If width or depth differ, or a weight is missing.
    """
    if encoder.position_change is None:
        raise BundleError(
            "An encoder that begins from a DINOv2 must learn its positions",
            remedy="set learned_position of the encoder to true",
        )
    try:
        with torch.no_grad():
            _fill(encoder, encoder.position_change, state)
    except (KeyError, RuntimeError) as error:
        raise BundleError(
            "These weights do not fit the encoder",
            why=str(error).splitlines()[0],
            remedy=f"it has a width of {encoder.dim} and {len(encoder.blocks)} blocks",
        ) from error


def _fill(encoder: VisionTransformer, change: Tensor, state: Mapping[str, Tensor]) -> None:
    p = encoder.patch_size
    kernel = state["embeddings.patch_embeddings.projection.weight"].sum(1, keepdim=True).float()
    area = kernel.shape[-1] * kernel.shape[-2] / p**2
    resized = functional.interpolate(kernel, (p, p), mode="bicubic", antialias=True) * area
    encoder.patches.weight.copy_(resized.flatten(1))
    encoder.patches.bias.copy_(state["embeddings.patch_embeddings.projection.bias"])
    places = state["embeddings.position_embeddings"][0, 1:].float()
    side = round(len(places) ** 0.5)
    maps = places.T.reshape(1, -1, side, side)
    maps = functional.interpolate(maps, encoder.grid, mode="bicubic", align_corners=False)
    change.copy_(maps[0].flatten(1).T - encoder.position)
    for index, block in enumerate(encoder.blocks):
        assert isinstance(block, TransformerBlock)
        _fill_block(block, state, f"encoder.layer.{index}.")
    if f"encoder.layer.{len(encoder.blocks)}.norm1.weight" in state:
        raise RuntimeError("they have more blocks")
    encoder.norm.weight.copy_(state["layernorm.weight"])
    encoder.norm.bias.copy_(state["layernorm.bias"])


def _fill_block(block: TransformerBlock, state: Mapping[str, Tensor], prefix: str) -> None:
    def of(name: str) -> Tensor:
        return state[prefix + name].float()

    for kind in ("weight", "bias"):
        for norm in ("norm1", "norm2"):
            getattr(getattr(block, norm), kind).copy_(of(f"{norm}.{kind}"))
        parts = [of(f"attention.attention.{part}.{kind}") for part in ("query", "key", "value")]
        getattr(block.qkv, kind).copy_(torch.cat(parts))
        getattr(block.widen, kind).copy_(of(f"mlp.fc1.{kind}"))
        for layer, name, scale in (
            (block.join, "attention.output.dense", "layer_scale1.lambda1"),
            (block.narrow, "mlp.fc2", "layer_scale2.lambda1"),
        ):
            factor = of(scale)
            values = of(f"{name}.{kind}")
            getattr(layer, kind).copy_(values * (factor[:, None] if kind == "weight" else factor))
