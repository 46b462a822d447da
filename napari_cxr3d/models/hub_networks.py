"""The published networks as modules: built here, filled from files, frozen."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from napari_cxr3d.errors import BackendUnavailableError, InvalidInputError, UnreadableFileError
from napari_cxr3d.models.codecs.kl import KLCodec
from napari_cxr3d.models.codecs.presets import PRESETS
from napari_cxr3d.models.network import build_network, outline_network
from napari_cxr3d.models.weights import require_match

__all__ = ["ImageTower", "TowerOutput", "biomedclip", "maisi", "rad_dino", "sd_vae"]

# OpenAI CLIP's statistics, which OpenCLIP normalises by unless a configuration says otherwise.
_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_BIOMEDCLIP_TRUNK = {"model_name": "vit_base_patch16_224", "num_classes": 0}
_BIOMEDCLIP_WIDTH = 512
_VISUAL = "visual."
_WRAPPED = "unet_state_dict"  # how NV-Generate-CTMR wraps its later checkpoints


class TowerOutput(NamedTuple):
    """What an encoder says of pictures.

    Attributes
    ----------
    embedding : Tensor, shape (B, D)
        One vector a picture.
    patches : Tensor, shape (B, C, h, w)
        One vector a patch, on the grid of the picture.
    """

    embedding: Tensor
    patches: Tensor


class ImageTower(nn.Module):
    """A picture encoder with its own preprocessing.

    Takes greyscale or colour pictures of any size, 0 to 1, resizes them to the encoder's size
    (bicubic, antialiased, not cropped: what lies at the edge of a chest X-ray is part of it)
    and normalises them as the encoder was trained.

    Parameters
    ----------
    size : int
        Rows and columns that the encoder takes.
    mean, std : sequence of 3 float
        Statistics of its training pictures.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, size: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, pictures: Tensor) -> TowerOutput:
        """Encode pictures.

        Parameters
        ----------
        pictures : Tensor, shape (B, 1 or 3, rows, cols)
            0 to 1, air black.

        Raises
        ------
        InvalidInputError
            If the tensor has another shape.
        """
        if pictures.ndim != 4 or pictures.shape[1] not in (1, 3):
            raise InvalidInputError(
                "An encoder takes pictures (B, 1 or 3, rows, cols)",
                why=f"it got the shape {tuple(pictures.shape)}",
            )
        x = nn.functional.interpolate(
            pictures.to(self.mean.dtype),
            (self.size, self.size),
            mode="bicubic",
            antialias=True,
            align_corners=False,
        )
        x = x.clamp(0, 1).expand(-1, 3, -1, -1)
        return self.tokens((x - self.mean) / self.std)

    def tokens(self, x: Tensor) -> TowerOutput:
        """Encode pictures of the encoder's own size, normalised."""
        raise NotImplementedError


def _on_grid(tokens: Tensor) -> Tensor:
    """Tokens (B, h * w, C) of a square picture as (B, C, h, w)."""
    side = round(tokens.shape[1] ** 0.5)
    return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, side, side)


class _RadDino(ImageTower):
    def __init__(self, trunk: Any, size: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__(size, mean, std)
        self.trunk = trunk

    def tokens(self, x: Tensor) -> TowerOutput:
        found = self.trunk(pixel_values=x)
        return TowerOutput(found.pooler_output, _on_grid(found.last_hidden_state[:, 1:]))


class _BiomedClip(ImageTower):
    def __init__(self, trunk: Any, size: int) -> None:
        super().__init__(size, _CLIP_MEAN, _CLIP_STD)
        self.trunk = trunk
        self.head = nn.ModuleDict(
            {"proj": nn.Linear(trunk.num_features, _BIOMEDCLIP_WIDTH, bias=False)}
        )

    def tokens(self, x: Tensor) -> TowerOutput:
        tokens = self.trunk.forward_features(x)
        vector = self.head["proj"](self.trunk.forward_head(tokens))
        return TowerOutput(
            nn.functional.normalize(vector, dim=-1),
            _on_grid(tokens[:, self.trunk.num_prefix_tokens :]),
        )


def rad_dino(folder: Path) -> ImageTower:
    """RAD-DINO of a folder whose configuration was looked at."""
    import json

    transformers = _library("transformers")
    trunk = _pretrained(transformers.Dinov2Model, folder)
    try:
        shown = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
        mean, std = (tuple(map(float, shown[key])) for key in ("image_mean", "image_std"))
        size = int(trunk.config.image_size)
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError("image_mean and image_std are not three numbers each")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnreadableFileError(
            "The model's preprocessing cannot be read",
            why=f"{type(error).__name__}: {error}",
            remedy="get the files again",
            path=folder / "preprocessor_config.json",
        ) from error
    return _RadDino(trunk, size, mean, std)


def sd_vae(folder: Path) -> Any:
    """The slice autoencoder of a folder whose configuration was looked at."""
    return _pretrained(_library("diffusers").AutoencoderKL, folder)


def _library(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision beside a CPU torch
        extra = "napari-cxr3d[hub]" if name != "timm" else "timm"
        raise BackendUnavailableError(
            f"{name} cannot be imported",
            why=" ".join(str(error).split())[:200],
            remedy=f'type python -m pip install "{extra}"',
        ) from error


def _pretrained(kind: Any, folder: Path) -> Any:
    """A library's own model, from local safetensors alone, every weight in its place."""
    try:
        network, told = kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except Exception as error:
        raise UnreadableFileError(
            "The model cannot be loaded",
            why=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
            remedy="get the files again",
            path=folder,
        ) from error
    troubles = {
        key: sorted(map(str, told.get(key) or ()))[:3]
        for key in ("missing_keys", "unexpected_keys", "mismatched_keys")
    }
    if any(troubles.values()):
        raise UnreadableFileError(
            "The weights are not those of the model",
            why="; ".join(
                f"{k.replace('_', ' ')}: {', '.join(v)}" for k, v in troubles.items() if v
            ),
            remedy="get the files again",
            path=folder,
        )
    return network.float()


def biomedclip(file: Path) -> ImageTower:
    """BiomedCLIP's image tower from a file of both towers' weights."""
    state = {
        name.removeprefix(_VISUAL): tensor
        for name, tensor in _read(file).items()
        if name.startswith(_VISUAL)
    }
    timm = _library("timm")
    trunk = timm.create_model(pretrained=False, **_BIOMEDCLIP_TRUNK)
    tower = _BiomedClip(trunk, int(trunk.patch_embed.img_size[0]))
    return _filled(tower, state, "BiomedCLIP's image tower", file)


def maisi(file: Path) -> KLCodec:
    """MAISI's autoencoder from a file of its weights."""
    state = _read(file)
    renamed = {f"autoencoder.{_plain_name(name)}": tensor for name, tensor in state.items()}
    description = PRESETS["paper"]
    wanted = dict(outline_network(description).state_dict())
    del wanted["scale"]
    _require(wanted, renamed, "MAISI's autoencoder", file)
    codec = build_network(description)
    assert isinstance(codec, KLCodec)
    codec.load_state_dict({**renamed, "scale": torch.ones(())}, strict=True)
    return codec


def _plain_name(name: str) -> str:
    """A weight's name in AutoencoderKL, from that in AutoencoderKlMaisi.

    Each convolution there lies in a module of its own, that splits what it is given.
    """
    name = re.sub(r"^(decoder\.blocks\.\d+)\.conv\.conv\.conv\.", r"\1.postconv.conv.", name)
    return name.replace(".conv.conv.", ".conv.", 1)


def _filled(network: ImageTower, state: Mapping[str, Tensor], name: str, file: Path) -> ImageTower:
    _require(network.state_dict(), state, name, file)
    network.load_state_dict(state, strict=True)
    return network


def _require(
    wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], name: str, file: Path
) -> None:
    try:
        require_match(wanted, found, name)
    except InvalidInputError as error:
        raise UnreadableFileError(
            error.what, why=error.why, remedy="choose the file that is named", path=file
        ) from error


def _read(file: Path) -> dict[str, Tensor]:
    """Tensors by name; of a pickle by torch's weights-only reader, which runs nothing."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (
        SafetensorError, pickle.UnpicklingError, OSError, EOFError, RuntimeError, ValueError,
        KeyError, AttributeError, TypeError,
    ) as error:  # fmt: skip
        raise UnreadableFileError(
            "The weights cannot be read",
            why=f"the file is damaged, or holds more than weights ({type(error).__name__})",
            remedy="get the file again",
            path=file,
        ) from error
    if isinstance(state, dict) and isinstance(state.get(_WRAPPED), dict):
        state = state[_WRAPPED]
    if not isinstance(state, dict) or not all(
        isinstance(n, str) and isinstance(t, Tensor) for n, t in state.items()
    ):
        raise UnreadableFileError(
            "The file does not hold a network's weights", remedy="choose another", path=file
        )
    return dict(state)
