"""A finding of a volume, from its latent: the classifier of X-ray2CTPA.

A DenseNet-121 in three dimensions (Huang et al., CVPR 2017, arXiv 1608.06993) whose first
convolution halves the slices and keeps their number, since latents are many times smaller within
a slice than along it.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from napari_cxr3d.errors import InvalidInputError

__all__ = ["LatentClassifier"]


class LatentClassifier(nn.Module):
    """Logits of findings from latents in the range -1 to 1.

    The defaults are X-ray2CTPA's: latents of 4 x 64 x 32 x 32, whose last features, 4 x 1 x 1,
    are averaged.

    Parameters
    ----------
    channels : int
        Of a latent.
    findings : int
        Logits; one, pulmonary embolism, as published.
    growth : int
        Feature maps that each layer adds.
    blocks : sequence of int
        Layers of each dense block.
    first : int
        Feature maps of the first convolution.
    dropout : float
        After each layer.

    Attributes
    ----------
    network : monai.networks.nets.DenseNet
        ``network.features.denseblock4`` is what a saliency map looks at.

    Raises
    ------
    InvalidInputError
        If these do not make a network.
    """

    def __init__(
        self,
        channels: int = 4,
        findings: int = 1,
        growth: int = 32,
        blocks: Sequence[int] = (6, 12, 24, 16),
        first: int = 64,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if min(channels, findings, growth, first, *blocks) < 1 or not 0 <= dropout < 1:
            raise InvalidInputError("A classifier of latents needs positive numbers")

        from monai.networks.nets import DenseNet

        self.network = DenseNet(
            spatial_dims=3,
            in_channels=channels,
            out_channels=findings,
            init_features=first,
            growth_rate=growth,
            block_config=tuple(blocks),
            dropout_prob=dropout,
        )
        stem = nn.Conv3d(channels, first, 7, stride=(1, 2, 2), padding=3, bias=False)
        nn.init.kaiming_normal_(stem.weight)
        self.network.features.conv0 = stem

    def forward(self, latents: Tensor) -> Tensor:
        """Logits (B, findings) of latents (B, channels, i, p, l)."""
        out: Tensor = self.network(latents)
        return out
