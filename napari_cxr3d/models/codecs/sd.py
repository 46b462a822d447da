"""Stable Diffusion's slice autoencoder, sd-vae-ft-mse, as a `SliceCodec`: no further library."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from napari_cxr3d.errors import InvalidInputError, UnreadableFileError
from napari_cxr3d.io.guard import existing_path
from napari_cxr3d.models.codecs.slice import SliceCodec
from napari_cxr3d.models.weights import require_match

__all__ = ["CTPA_LATENTS", "RSPECT_LATENTS", "SD_SCALE", "sd_slice_codec"]

SD_SCALE = 0.18215  # what Stable Diffusion, and X-ray2CTPA with it, multiplies latents by
# Smallest and largest scaled latent in X-ray2CTPA's own CTPA and in RSPECT, in its code: its
# diffusion works on latents that these limits map to -1 and 1, clipped. They belong to this
# codec's weights and to a window of -100 to 900 HU; other codecs measure their own.
CTPA_LATENTS = (-12.911299, 9.596558)
RSPECT_LATENTS = (-8.749182, 8.710065)
_WEIGHTS, _CONFIG = "diffusion_pytorch_model.safetensors", "config.json"
_MOST_BYTES = 1 << 20  # of a configuration
# Of an attention block: MONAI's names, those that diffusers writes now, and those of 2022.
_ATTENTION = {
    "norm": ("group_norm",),
    "attn.to_q": ("to_q", "query"),
    "attn.to_k": ("to_k", "key"),
    "attn.to_v": ("to_v", "value"),
    "attn.out_proj": ("to_out.0", "proj_attn"),
}
_RESIDUAL = {
    "norm1": ("norm1",),
    "conv1.conv": ("conv1",),
    "norm2": ("norm2",),
    "conv2.conv": ("conv2",),
    "nin_shortcut.conv": ("conv_shortcut",),
}


def sd_slice_codec(
    source: str | Path | None = None, *, consent: bool = False, slices_at_once: int = 4
) -> SliceCodec:
    """The frozen codec of X-ray2CTPA, of a folder of files or downloaded with consent.

    Any autoencoder that diffusers saved as ``AutoencoderKL`` with Stable Diffusion's layout fits;
    nothing but plain numbers and tensors is read.

    Parameters
    ----------
    source : path-like, optional
        Folder with ``config.json`` and ``diffusion_pytorch_model.safetensors``; if None, that of
        `napari_cxr3d.models.hub.fetch`.
    consent : bool
        Whether sd-vae-ft-mse may be downloaded if it is not here.
    slices_at_once : int
        See `SliceCodec`.

    Returns
    -------
    SliceCodec
        Frozen, in evaluation mode, its scale the configuration's ``scaling_factor``, 0.18215.

    Raises
    ------
    ConsentRequiredError
        If there are no files and consent was not given.
    UnreadableFileError
        If the folder holds no such autoencoder, or one of another layout.
    """
    if source is None:
        from napari_cxr3d.models.hub import fetch

        folder = fetch("sd-vae-ft-mse", consent=consent)
    else:
        folder = existing_path(source)
        folder = folder.parent if folder.is_file() else folder
    config, weights = existing_path(folder / _CONFIG), existing_path(folder / _WEIGHTS)
    settings = _settings(config)
    codec = SliceCodec(**settings["codec"], slices_at_once=slices_at_once, frozen=True)
    state = _renamed(_read(weights), settings["codec"])
    wanted = dict(codec.state_dict())
    scale = wanted.pop("scale")
    try:
        require_match(wanted, state, "this autoencoder")
    except InvalidInputError as error:
        raise UnreadableFileError(
            error.what, why=error.why, remedy="choose the files of one model", path=weights
        ) from error
    codec.load_state_dict({**state, "scale": scale}, strict=True)
    codec.set_scale(settings["scale"])
    return codec.eval()


def _settings(path: Path) -> dict[str, Any]:
    """Arguments of `SliceCodec`, and the scale, from a configuration of diffusers."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError("it is too long")
        config = json.loads(path.read_text(encoding="utf-8"))
        if config.get("_class_name") != "AutoencoderKL":
            raise ValueError(f"it is of a {config.get('_class_name')!r}")
        channels = [int(n) for n in config["block_out_channels"]]
        plain = {
            "act_fn": "silu",
            "down_block_types": ["DownEncoderBlock2D"] * len(channels),
            "up_block_types": ["UpDecoderBlock2D"] * len(channels),
            "out_channels": config["in_channels"],
        }
        odd = [key for key, value in plain.items() if config.get(key, value) != value]
        # diffusers' switches of parts that Stable Diffusion's autoencoder has
        parts = ("use_quant_conv", "use_post_quant_conv", "mid_block_add_attention")
        odd += [key for key in parts if not config.get(key, True)]
        if odd:
            raise ValueError(f"{', '.join(odd)} differ from Stable Diffusion's")
        codec = {
            "channels": channels,
            "latent_channels": int(config["latent_channels"]),
            "num_res_blocks": int(config["layers_per_block"]),
            "norm_num_groups": int(config.get("norm_num_groups", 32)),
            "picture_channels": int(config["in_channels"]),
        }
        return {"codec": codec, "scale": float(config.get("scaling_factor", SD_SCALE))}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableFileError(
            "The configuration is not that of a slice autoencoder",
            why=f"{type(error).__name__}: {str(error)[:200]}",
            remedy="choose the folder of sd-vae-ft-mse",
            path=path,
        ) from error


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return {name: tensor.float() for name, tensor in load_file(path).items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise UnreadableFileError(
            "The weights cannot be read",
            why=str(error)[:200],
            remedy="get the files again",
            path=path,
        ) from error


def _renamed(state: Mapping[str, Tensor], codec: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights under this package's names; those that have none keep theirs."""
    levels, blocks = len(codec["channels"]), codec["num_res_blocks"]
    names = {"quant_conv.": "quant.", "post_quant_conv.": "post_quant."}
    for theirs, ours in (*_encoder(levels, blocks), *_decoder(levels, blocks + 1)):
        names[f"{theirs}."] = f"{ours}."
    renamed = {}
    for name, tensor in state.items():
        stem, _, kind = name.rpartition(".")
        ours = names.get(f"{stem}.", f"{stem}.")
        if ".attn." in ours and kind == "weight":  # of 2022: convolutions of one place
            tensor = tensor.flatten(1)
        renamed[f"{ours}{kind}"] = tensor
    return renamed


def _encoder(levels: int, blocks: int) -> Iterator[tuple[str, str]]:
    """Their names and ours, block by block: here all blocks lie in one list."""
    at = 0
    yield "encoder.conv_in", f"encoder.{at}.conv"
    for level in range(levels):
        for block in range(blocks):
            at += 1
            yield from _parts(f"encoder.down_blocks.{level}.resnets.{block}", at, _RESIDUAL)
        if level < levels - 1:
            at += 1
            theirs = f"encoder.down_blocks.{level}.downsamplers.0.conv"
            yield theirs, f"encoder.{at}.conv.conv"
    yield from _middle("encoder", at)
    yield "encoder.conv_norm_out", f"encoder.{at + 4}"
    yield "encoder.conv_out", f"encoder.{at + 6}.conv"  # the activation lies between


def _decoder(levels: int, blocks: int) -> Iterator[tuple[str, str]]:
    yield "decoder.conv_in", "decoder.0.conv"
    yield from _middle("decoder", 0)
    at = 3
    for level in range(levels):
        for block in range(blocks):
            at += 1
            theirs = f"decoder.up_blocks.{level}.resnets.{block}"
            yield from _parts(theirs, at, _RESIDUAL, "decoder")
        if level < levels - 1:
            at += 1
            theirs = f"decoder.up_blocks.{level}.upsamplers.0.conv"
            yield theirs, f"decoder.{at}.postconv.conv"
    yield "decoder.conv_norm_out", f"decoder.{at + 1}"
    yield "decoder.conv_out", f"decoder.{at + 3}.conv"


def _middle(side: str, at: int) -> Iterator[tuple[str, str]]:
    yield from _parts(f"{side}.mid_block.resnets.0", at + 1, _RESIDUAL, side)
    yield from _parts(f"{side}.mid_block.attentions.0", at + 2, _ATTENTION, side)
    yield from _parts(f"{side}.mid_block.resnets.1", at + 3, _RESIDUAL, side)


def _parts(
    theirs: str, at: int, names: Mapping[str, tuple[str, ...]], side: str = "encoder"
) -> Iterator[tuple[str, str]]:
    for ours, others in names.items():
        for other in others:
            yield f"{theirs}.{other}", f"{side}.{at}.{ours}"
