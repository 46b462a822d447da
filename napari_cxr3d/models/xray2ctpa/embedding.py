"""An X-ray as one vector of 512 numbers: what X-ray2CTPA's U-Net is told of it.

The paper takes BiomedCLIP's image tower, frozen. A small encoder of our own, trained along with
the U-Net, does without foreign weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.reconstruction import ViewBatch

if TYPE_CHECKING:
    from napari_cxr3d.models.hub_networks import ImageTower

__all__ = ["BiomedClipEncoder", "CxrEncoder", "pictures_of", "prepared"]

WIDTH = 512  # of the embedding, as published
MEAN, STD = 0.633, 0.181  # of X-ray2CTPA's radiographs, in greys from 0 to 1
_DARKEST, _BRIGHTEST = 0.01, 0.99  # quantiles of a picture that become 0 and 1


def pictures_of(views: ViewBatch) -> Tensor:
    """The first known view of every sample as a picture with bone bright, (B, 1, rows, cols).

    Of the line integrals that the view covers the first and the 99th percentile become 0 and 1;
    between them the scale is linear, beyond it is clipped, and what is not covered is 0. So the
    picture does not depend on the scale of the integrals: one that was read from grey values, and
    whose scale is a guess, looks like a DRR.

    Parameters
    ----------
    views : ViewBatch
        At least one known view a sample.
    """
    place = views.known.argmax(dim=1)
    each = torch.arange(len(place), device=place.device)
    integrals, valid = views.integrals[each, place].float(), views.valid[each, place] > 0.5
    pictures = torch.zeros_like(integrals)
    ends = torch.tensor([_DARKEST, _BRIGHTEST], device=integrals.device)
    for picture, values, seen in zip(pictures, integrals, valid, strict=True):
        if not seen.any():
            continue
        low, high = torch.quantile(values[seen], ends)
        stretched = (values - low) / (high - low).clamp_min(1e-6)
        picture.copy_(stretched.clamp(0, 1) * seen)
    return pictures[:, None]


def prepared(pictures: Tensor, size: int) -> Tensor:
    """Pictures as X-ray2CTPA shows them to an encoder: bilinear to one size, normalised.

    Parameters
    ----------
    pictures : Tensor, shape (B, 1, rows, cols)
        0 to 1, bone bright.
    size : int
        Rows and columns, 224 as published.
    """
    if pictures.shape[-2:] != (size, size):
        pictures = interpolate(pictures, (size, size), mode="bilinear", align_corners=False)
    return (pictures - MEAN) / STD


class CxrEncoder(nn.Module):
    """A small convolutional encoder, to be trained along with the U-Net.

    Parameters
    ----------
    channels : sequence of int
        Filters of each level; every level halves the picture.
    size : int
        Rows and columns that pictures are brought to; 224 as published.
    grid : int
        Rows and columns of the last features: where something lies is part of the vector.
    groups : int
        Of the group normalisations; divides every number of channels.
    length : float
        Of the vector: 1 as published; the U-Net's null vector begins with about
        ``sqrt(512) = 22.6``, and a small network learns faster from an embedding of that length.

    Raises
    ------
    InvalidInputError
        If these do not make a network.
    """

    width = WIDTH

    def __init__(
        self,
        channels: Sequence[int] = (32, 64, 128, 256),
        size: int = 224,
        grid: int = 4,
        groups: int = 8,
        length: float = 1.0,
    ) -> None:
        super().__init__()
        if not channels or min(*channels, size, grid, groups) < 1 or length <= 0:
            raise InvalidInputError("An encoder of X-rays needs positive numbers")
        if any(n % groups for n in channels):
            raise InvalidInputError(
                "The encoder cannot be built", why=f"{groups} groups do not divide {channels}"
            )
        if size < grid * 2 ** len(channels):
            raise InvalidInputError(
                "The encoder cannot be built",
                why=f"pictures of {size} cannot be halved {len(channels)} times to {grid}",
            )
        self.size = size
        self.length = float(length)
        layers: list[nn.Module] = []
        for a, b in zip([1, *channels[:-1]], channels, strict=True):
            layers += [nn.Conv2d(a, b, 3, 2, 1), nn.GroupNorm(groups, b), nn.SiLU()]
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(grid), nn.Flatten())
        self.head = nn.Linear(channels[-1] * grid * grid, WIDTH)

    def forward(self, pictures: Tensor) -> Tensor:
        """Vectors (B, 512) of one length, of pictures (B, 1, rows, cols) from 0 to 1."""
        vectors = self.head(self.features(prepared(pictures, self.size)))
        return normalize(vectors.float(), dim=-1) * self.length


class BiomedClipEncoder(nn.Module):
    """BiomedCLIP's image tower, as X-ray2CTPA uses it: frozen, 224 x 224, three channels.

    It is built empty; `take` fills it with the weights that `napari_cxr3d.models.hub` loaded
    from the user's file.

    Raises
    ------
    BackendUnavailableError
        If timm, which builds the tower, cannot be imported.
    """

    width = WIDTH
    size = 224

    def __init__(self) -> None:
        super().__init__()
        self.tower = _empty_tower().requires_grad_(False)

    def take(self, tower: ImageTower) -> None:
        """Take over the weights of a tower that was loaded."""
        self.tower.load_state_dict(tower.state_dict())

    def forward(self, pictures: Tensor) -> Tensor:
        """Vectors (B, 512) of length 1, of pictures (B, 1, rows, cols) from 0 to 1."""
        shown = prepared(pictures, self.size).expand(-1, 3, -1, -1)
        return normalize(self.tower.tokens(shown).embedding.float(), dim=-1)


def _empty_tower() -> ImageTower:
    from napari_cxr3d.models import hub_networks as hub

    timm = hub._library("timm")
    return hub._BiomedClip(
        timm.create_model(pretrained=False, **hub._BIOMEDCLIP_TRUNK), BiomedClipEncoder.size
    )
