"""What every codec offers, whatever network it is made of."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.codecs.layerwise import Step, run_layerwise
from napari_cxr3d.models.codecs.tiling import run_in_tiles
from napari_cxr3d.progress import CancelToken, ProgressCallback

__all__ = ["Codec", "CodecOutput"]


class CodecOutput(NamedTuple):
    """What training a codec looks at.

    Attributes
    ----------
    reconstruction : Tensor, shape (B, C, I, P, L)
        Decoded from a sample of the posterior.
    mean, sigma : Tensor, shape (B, Z, i, p, l)
        The posterior, without the scale: what a KL term is a function of.
    """

    reconstruction: Tensor
    mean: Tensor
    sigma: Tensor


class Codec(nn.Module, ABC):
    """Volumes to latents and back.

    A volume is a tensor (B, `in_channels`, I, P, L) in the network's range (see `HuWindow`);
    its latent is (B, `latent_channels`, i, p, l), each axis shorter by its factor. Latents
    are multiplied by `scale` on the way out and divided by it on the way back, so that a
    model of latents sees about unit variance. The scale is part of the state.

    Attributes
    ----------
    factors : tuple of 3 int
        How many times shorter the latent's axes are along (I, P, L).
    in_channels, latent_channels : int
        Channels of a volume and of its latent.
    scale : Tensor, shape ()
        What latents are multiplied by.
    """

    scale: Tensor

    def __init__(
        self, *, factors: int | Sequence[int], in_channels: int, latent_channels: int
    ) -> None:
        super().__init__()
        i, p, ell = (factors,) * 3 if isinstance(factors, int) else (int(n) for n in factors)
        self.factors = (i, p, ell)
        self.in_channels = in_channels
        self.latent_channels = latent_channels
        self.register_buffer("scale", torch.ones(()))

    @property
    def factor(self) -> int:
        """How many times shorter all axes of the latent are.

        Raises
        ------
        InvalidInputError
            If they are not shorter alike; `factors` tells each.
        """
        if len(set(self.factors)) > 1:
            raise InvalidInputError(
                "The axes of this codec's latent are not shorter alike",
                why=f"the factors along (I, P, L) are {self.factors}",
                remedy="use Codec.factors",
            )
        return self.factors[0]

    @property
    def numbers_per_voxel(self) -> float:
        """How many numbers the latent holds for every voxel and channel of the volume."""
        return self.latent_channels / (math.prod(self.factors) * self.in_channels)

    @abstractmethod
    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latent, without the scale.

        Parameters
        ----------
        x : Tensor, shape (B, C, I, P, L)
            Volumes whose axes are multiples of `factors`.
        """

    @abstractmethod
    def _decode(self, z: Tensor) -> Tensor:
        """The volume of a latent without the scale."""

    def encode(self, x: Tensor) -> Tensor:
        """The latent's mean, scaled: the same volume, the same latent.

        Raises
        ------
        InvalidInputError
            If the tensor is not a batch of volumes, or an axis is no multiple of its factor.
        """
        self._require_volume(x)
        return self.posterior(x)[0] * self.scale

    def sample(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A latent drawn from the posterior, scaled.

        Parameters
        ----------
        x : Tensor, shape (B, C, I, P, L)
            Volumes.
        generator : torch.Generator, optional
            On the device of `x`; torch's own if None.
        """
        self._require_volume(x)
        return _drawn(*self.posterior(x), generator) * self.scale

    def decode(self, z: Tensor) -> Tensor:
        """The volume of a scaled latent, in the network's range but not clipped to it.

        Raises
        ------
        InvalidInputError
            If the tensor is not a batch of latents.
        """
        self._require_latent(z)
        return self._decode(z / self.scale)

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> CodecOutput:
        """Encode, draw and decode, in the one call that a distributed wrapper allows."""
        self._require_volume(x)
        mean, sigma = self.posterior(x)
        return CodecOutput(self._decode(_drawn(mean, sigma, generator)), mean, sigma)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Encode the mean and decode it; an axis of any length is padded and cropped back."""
        padded = self.pad(x)
        i, p, ell = x.shape[-3:]
        return self.decode(self.encode(padded))[..., :i, :p, :ell]

    def pad(self, x: Tensor) -> Tensor:
        """Repeat the last voxels until each axis is a multiple of its factor."""
        self._require_volume(x, whole=False)
        missing = [-n % f for n, f in zip(x.shape[-3:], self.factors, strict=True)]
        if not any(missing):
            return x
        i, p, ell = missing
        return nn.functional.pad(x, (0, ell, 0, p, 0, i), mode="replicate")

    def latent_shape(self, shape: Sequence[int]) -> tuple[int, int, int, int]:
        """Channels and axes of the latent of a volume.

        Parameters
        ----------
        shape : sequence of 3 int
            Voxels of the volume along (I, P, L).

        Raises
        ------
        InvalidInputError
            If an axis is no multiple of its factor.
        """
        i, p, ell = (int(n) for n in shape)
        fi, fp, fl = self.factors
        if any(n < 1 or n % f for n, f in zip((i, p, ell), self.factors, strict=True)):
            raise InvalidInputError(
                f"A volume of {i} x {p} x {ell} voxels cannot be encoded",
                why=f"the axes must be multiples of {fi}, {fp} and {fl}",
                remedy="pad it, as Codec.pad does",
            )
        return (self.latent_channels, i // fi, p // fp, ell // fl)

    def set_scale(self, scale: float) -> None:
        """Set what latents are multiplied by.

        Raises
        ------
        InvalidInputError
            If it is not a positive number.
        """
        if not 0 < scale < float("inf"):
            raise InvalidInputError("A latent's scale must be positive", why=f"it is {scale}")
        self.scale.fill_(scale)

    @torch.no_grad()
    def fit_scale(self, x: Tensor) -> float:
        """Set the scale to one over the standard deviation of these volumes' latents.

        Rombach et al., CVPR 2022, arXiv 2112.10752, appendix G.

        Parameters
        ----------
        x : Tensor, shape (B, C, I, P, L)
            A batch that stands for all.

        Returns
        -------
        float
            The scale.
        """
        self._require_volume(x)
        mean = self.posterior(x)[0].float()
        self.set_scale(float(1 / mean.std().clamp_min(torch.finfo(torch.float32).tiny)))
        return float(self.scale)

    @torch.no_grad()
    def tiled_encode(
        self,
        x: Tensor,
        *,
        tile: int = 24,
        overlap: int = 8,
        out_device: str | torch.device | None = None,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> Tensor:
        """`encode` in tiles, for volumes that do not fit; see `tiled_decode`."""
        self._require_volume(x)
        grid = self.latent_shape(x.shape[-3:])[1:]
        return self._in_tiles(
            False, x, grid, tile=tile, overlap=overlap, device=self.scale.device,
            out_device=out_device, progress=progress, cancel=cancel,
        )  # fmt: skip

    @torch.no_grad()
    def tiled_decode(
        self,
        z: Tensor,
        *,
        tile: int = 24,
        overlap: int = 8,
        out_device: str | torch.device | None = None,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> Tensor:
        """`decode` in tiles, for latents that do not fit; without gradients.

        The result is that of `decode`, but for the order of sums: tiles reach as far as the
        layers look, and normalisations know the whole volume (`run_layerwise`), slices and the
        blocks of a wavelet know nothing of each other. It takes some three times as long. Only a
        codec that cannot be taken apart is run as a whole on tiles that blend where they overlap,
        and is then near to `decode`.

        Parameters
        ----------
        z : Tensor, shape (B, Z, i, p, l)
            Scaled latents, on any device.
        tile, overlap : int
            Edge of a tile, in latent voxels; and the overlap of tiles that are blended.
        out_device : str or torch.device, optional
            Where the result is put together, for example ``"cpu"``; where `z` is if None.
        progress : callable, optional
            Told of every tile.
        cancel : CancelToken, optional
            Looked at before every tile.

        Raises
        ------
        InvalidInputError
            If the tensor is not a batch of latents, or the tiles cannot be.
        Cancelled
            If the token was cancelled.
        """
        self._require_latent(z)
        i, p, ell = z.shape[-3:]
        return self._in_tiles(
            True, z, (i, p, ell), tile=tile, overlap=overlap, device=self.scale.device,
            out_device=out_device, progress=progress, cancel=cancel,
        )  # fmt: skip

    def _steps(self, decoding: bool) -> list[Step] | None:
        """The network from volume to mean latent, or back, for `run_layerwise`; without the scale.

        None, if it cannot be taken apart: its tiles are then blended.
        """
        return None

    def _in_tiles(
        self, decoding: bool, x: Tensor, grid: Sequence[int], tile: int, overlap: int, **given: Any
    ) -> Tensor:
        """What both ways share, and a codec may do in a way of its own."""
        steps = self._steps(decoding)
        if steps is not None:
            if decoding:
                steps = [Step(lambda z: z / self.scale), *steps]
            else:
                steps = [*steps, Step(lambda z: z * self.scale)]
            return run_layerwise(steps, x, grid, tile=tile, **given)
        function = self.decode if decoding else self.encode
        return run_in_tiles(function, x, grid, tile=tile, overlap=overlap, **given)

    def _require_volume(self, x: Tensor, *, whole: bool = True) -> None:
        if x.ndim != 5 or x.shape[1] != self.in_channels or not x.is_floating_point():
            raise InvalidInputError(
                f"A codec encodes floating tensors (B, {self.in_channels}, I, P, L)",
                why=f"it got {x.dtype} with shape {tuple(x.shape)}",
            )
        if whole:
            self.latent_shape(x.shape[-3:])

    def _require_latent(self, z: Tensor) -> None:
        if z.ndim != 5 or z.shape[1] != self.latent_channels or not z.is_floating_point():
            raise InvalidInputError(
                f"A codec decodes floating tensors (B, {self.latent_channels}, i, p, l)",
                why=f"it got {z.dtype} with shape {tuple(z.shape)}",
            )


def _drawn(mean: Tensor, sigma: Tensor, generator: torch.Generator | None) -> Tensor:
    noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
    return mean + sigma * noise
