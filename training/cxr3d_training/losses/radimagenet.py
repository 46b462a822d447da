"""LPIPS in the features of RadImageNet's ResNet-50, from a file of the user's.

The term that X-ray2CTPA calls LPIPS, as MONAI computes it: the last features of a network that was
trained on radiological images (Mei et al., Radiology: Artificial Intelligence 2022), at unit
length along their channels. MONAI fetches code and weights from a hub; here the network is
MONAI's own ResNet, filled from a file that nothing executes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from napari_cxr3d.errors import UnreadableFileError
from napari_cxr3d.io.guard import existing_path

__all__ = ["RadImageNetFeatures"]

_MEAN = (0.406, 0.456, 0.485)  # of blue, green and red, as the network was trained
# The published file names the stages by their place in a sequence.
_STAGES = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


class RadImageNetFeatures(nn.Module):
    """Features of slices from -1 to 1; give them to `losses.features.feature_distance`.

    Parameters
    ----------
    path : path-like
        Weights of the ResNet-50 without its head, ``.pt`` or ``.safetensors``, named as
        torchvision names them or as the published file does (``backbone.0.weight``).

    Raises
    ------
    UnreadableFileError
        If the file cannot be read, or holds other weights.
    """

    mean: Tensor

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        from monai.networks.nets import resnet50

        path = existing_path(path)
        self.network = resnet50(
            spatial_dims=2, n_input_channels=3, conv1_t_stride=2, feed_forward=False,
            bias_downsample=False,
        )  # fmt: skip
        state = {_torchvision_name(name): tensor for name, tensor in _read(path).items()}
        state = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
        try:
            self.network.load_state_dict(state)
        except RuntimeError as error:
            raise UnreadableFileError(
                "The file does not hold the weights of a ResNet-50",
                why=" ".join(str(error).split())[:200],
                remedy="give the PyTorch weights that RadImageNet's authors publish",
                path=path,
            ) from error
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """The last features (B, 2048, p, l) of slices (B, 1, P, L)."""
        net: Any = self.network
        x = (x + 1) / 2 - self.mean
        x = net.maxpool(net.act(net.bn1(net.conv1(x))))
        return [net.layer4(net.layer3(net.layer2(net.layer1(x))))]

    def train(self, mode: bool = True) -> RadImageNetFeatures:
        """It stays in evaluation mode: its normalisations are never trained."""
        return super().train(False)


def _torchvision_name(name: str) -> str:
    found = re.fullmatch(r"(?:module\.)?backbone\.(\d+)\.(.+)", name)
    if found is None or found[1] not in _STAGES:
        return name
    return f"{_STAGES[found[1]]}.{found[2]}"


def _read(path: Path) -> Mapping[str, Tensor]:
    """Tensors by name; only tensors are read, whatever else the file holds."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, Mapping):
            raise ValueError("it holds no weights by name")
        return state
    except Exception as error:
        raise UnreadableFileError(
            "The weights cannot be read",
            why=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}",
            path=path,
        ) from error
