"""Distances in the features of a frozen network.

The form is that of LPIPS (Zhang et al., CVPR 2018), the network is not: nothing here was trained
to judge pictures as people do, so no number of it may be called LPIPS.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["RandomFeatures", "feature_distance"]


def feature_distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Mean squared distance of features, unit length along the channels, over places and levels.

    Zhang et al., CVPR 2018, equation 1, without the learned weights.

    Parameters
    ----------
    a, b : sequence of Tensor, shape (B, C, ...)
        Features of two pictures, level by level. The gradient goes through `a`.
    """
    distances = [
        (_unit(x) - _unit(y.detach())).square().sum(1).mean() for x, y in zip(a, b, strict=True)
    ]
    return torch.stack(distances).mean()


def _unit(features: Tensor) -> Tensor:
    features = features.float()
    return features * torch.rsqrt(features.square().sum(1, keepdim=True) + 1e-10)


class RandomFeatures(nn.Module):
    """A convolutional encoder with random weights, which are never trained.

    Features of random filters carry enough structure to reconstruct pictures from (He, Wang and
    Hopcroft, NeurIPS 2016), so a distance in them punishes blur that L1 forgives. It needs no
    weights from elsewhere.

    Parameters
    ----------
    channels : sequence of int
        Filters on each level; every level halves the axes.
    seed : int
        Of the weights: the same network on every machine.
    in_channels : int
        Channels of a volume, or of a picture.
    spatial_dims : int
        3 for volumes, 2 for pictures.
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        seed: int = 0,
        in_channels: int = 1,
        spatial_dims: int = 3,
    ) -> None:
        super().__init__()
        convolution = nn.Conv3d if spatial_dims == 3 else nn.Conv2d
        generator = torch.Generator().manual_seed(seed)
        self.levels = nn.ModuleList()
        for width in channels:
            level = convolution(in_channels, width, 3, stride=2, padding=1, bias=False)
            nn.init.kaiming_normal_(level.weight, a=0.2, generator=generator)
            self.levels.append(level)
            in_channels = width
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features [B, C, ...] of each level of volumes [B, in_channels, I, P, L] or pictures."""
        features = []
        for level in self.levels:
            x = nn.functional.leaky_relu(level(x), 0.2)
            features.append(x)
        return features
