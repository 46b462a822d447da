"""Low-rank adapters: a trained U-Net taken to new data by a few numbers beside it.

Hu et al., LoRA, ICLR 2022 (arXiv 2106.09685): a linear layer's weight W becomes
``W + scale * B A`` with A of `rank` rows, drawn at random, and B zero. Only A and B are trained.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.xray2ctpa.attention import Attention, SpatialLinearAttention
from napari_cxr3d.models.xray2ctpa.unet3d import Block, ResnetBlock

__all__ = ["ADAPTED", "LoraLinear", "add_adapters", "merge_adapters"]

ADAPTED = (ResnetBlock, Attention, SpatialLinearAttention, Block)
"""Whose linear layers X-ray2CTPA adapts. (Convolutions, of 1 x 1 x 1 too, stay as they are.)"""


class LoraLinear(nn.Module):
    """A frozen linear layer with an adapter.

    Parameters
    ----------
    linear : Linear
        The layer.
    rank : int
        Rows of A.
    scale : float
        Of what the adapter adds.
    """

    def __init__(self, linear: nn.Linear, rank: int, scale: float) -> None:
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.scale = scale
        like = linear.weight
        self.down = nn.Parameter(like.new_empty(rank, linear.in_features))
        self.up = nn.Parameter(like.new_zeros(linear.out_features, rank))
        nn.init.normal_(self.down, std=1 / rank)

    def forward(self, x: Tensor) -> Tensor:
        """What the layer gives, and what the adapter adds."""
        out: Tensor = self.linear(x)
        return out + self.scale * nn.functional.linear(nn.functional.linear(x, self.down), self.up)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """One layer that does the same."""
        self.linear.weight += self.scale * self.up @ self.down
        return self.linear


def add_adapters(network: nn.Module, rank: int = 4, scale: float = 1.0) -> int:
    """Freeze a network, and put adapters on the linear layers below `ADAPTED`.

    An optimizer must be made after it: what it is given then are the adapters alone.

    Parameters
    ----------
    network : Module
        Changed in place.
    rank : int
        Of every adapter; at most the layer's features.
    scale : float
        Of what they add.

    Returns
    -------
    int
        How many there are.

    Raises
    ------
    InvalidInputError
        If there is no such layer, or the rank is too great for one.
    """
    names = _names(network, nn.Linear)
    layers = [network.get_submodule(name) for name in names]
    fitting = [
        isinstance(one, nn.Linear) and 1 <= rank <= min(one.in_features, one.out_features)
        for one in layers
    ]
    if not layers or not all(fitting):
        raise InvalidInputError(
            f"Adapters of rank {rank} do not fit this network",
            why="it has no linear layers in its blocks, or smaller ones",
            remedy="choose a smaller rank",
        )
    network.requires_grad_(False)
    for name, layer in zip(names, layers, strict=True):
        assert isinstance(layer, nn.Linear)
        network.set_submodule(name, LoraLinear(layer, rank, scale))
    return len(names)


def merge_adapters(network: nn.Module) -> None:
    """Add every adapter to its layer, so that the network is again what it was built as."""
    for name in _names(network, LoraLinear):
        adapted = network.get_submodule(name)
        assert isinstance(adapted, LoraLinear)
        network.set_submodule(name, adapted.merged())


def _names(network: nn.Module, kind: type[nn.Module]) -> list[str]:
    """The layers of a kind below the adapted blocks."""
    blocks = [name for name, module in network.named_modules() if isinstance(module, ADAPTED)]
    return [
        name
        for name, module in network.named_modules()
        if isinstance(module, kind) and any(name.startswith(f"{block}.") for block in blocks)
    ]
