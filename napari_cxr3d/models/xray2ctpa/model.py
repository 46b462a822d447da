"""X-ray2CTPA as a reconstruction: one picture, one vector, a thousand steps.

Cahan et al., 2024 (arXiv 2406.16109). A frozen autoencoder of slices gives the latent; a U-Net is
told the diffusion's step and a pooled embedding of the X-ray, and nothing of where the X-ray was
taken from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.codecs.base import Codec
from napari_cxr3d.models.diffusion import GaussianDiffusion
from napari_cxr3d.models.reconstruction import Condition, ReconstructionModel, ViewBatch
from napari_cxr3d.models.xray2ctpa.embedding import WIDTH, pictures_of
from napari_cxr3d.models.xray2ctpa.unet3d import Unet3d

if TYPE_CHECKING:
    from napari_cxr3d.progress import CancelToken

__all__ = ["LatentRange", "Xray2Ctpa"]


class LatentRange(nn.Module):
    """Latents to the range -1 to 1, in which the diffusion works, and back.

    Attributes
    ----------
    low, high : Tensor, shape ()
        What become -1 and 1: measured over training volumes. (X-ray2CTPA writes -12.9 and 9.6 into
        its code for its CTPAs, -8.7 and 8.7 for RSPECT.)
    measured : Tensor of bool, shape ()
        Whether they are.
    """

    low: Tensor
    high: Tensor
    measured: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("low", torch.tensor(-1.0))
        self.register_buffer("high", torch.tensor(1.0))
        self.register_buffer("measured", torch.tensor(False))

    def set(self, low: float, high: float) -> None:
        """Set the limits.

        Raises
        ------
        InvalidInputError
            If they do not rise.
        """
        if not low < high:
            raise InvalidInputError(
                "The range of a latent must rise", why=f"it is from {low:g} to {high:g}"
            )
        self.low.fill_(low)
        self.high.fill_(high)
        self.measured.fill_(True)

    def forward(self, latent: Tensor) -> Tensor:
        """In the range -1 to 1, clipped to it."""
        scaled = (latent.float() - self.low) / (self.high - self.low)
        return (2 * scaled - 1).clamp(-1, 1)

    def back(self, x: Tensor) -> Tensor:
        """The latent, as the codec has it."""
        return self.low + (x.float() + 1) / 2 * (self.high - self.low)


class Xray2Ctpa(ReconstructionModel):
    """See the module.

    Parameters
    ----------
    codec : Codec
        Of slices, as published; its latent keeps the axis I.
    encoder : Module
        From pictures (B, 1, rows, cols), 0 to 1, to vectors: `CxrEncoder` or
        `BiomedClipEncoder`.
    unet : mapping
        Arguments of `Unet3d` but those that follow from the rest.
    volume_shape, spacing_mm, detector_shape, hu_window : sequences
        See `ReconstructionModel`.
    objective : {"epsilon", "x0"}
        What the U-Net puts out: the noise, as in the published runs, or the sample.
    timesteps : int
        Steps of the diffusion.

    Attributes
    ----------
    process : GaussianDiffusion
        The cosine schedule; samples are clipped to -1 to 1.
    range : LatentRange
        Of the latents.
    """

    process: GaussianDiffusion
    uses_geometry = False

    def __init__(
        self,
        *,
        codec: Codec,
        encoder: nn.Module,
        unet: Mapping[str, Any],
        volume_shape: Sequence[int],
        spacing_mm: Sequence[float],
        detector_shape: Sequence[int],
        hu_window: Sequence[float],
        objective: str = "epsilon",
        timesteps: int = 1000,
    ) -> None:
        super().__init__(
            volume_shape=volume_shape, spacing_mm=spacing_mm,
            detector_shape=detector_shape, hu_window=hu_window,
        )  # fmt: skip
        if not isinstance(codec, Codec):
            raise InvalidInputError("The setting 'codec' must describe a codec")
        if objective not in ("epsilon", "x0"):
            raise InvalidInputError(
                f"X-ray2CTPA has no objective {objective!r}", remedy="choose epsilon or x0"
            )
        self.process = GaussianDiffusion(
            timesteps, "cosine", objective, clip=1.0, largest_beta=0.9999
        )
        self.default_steps = timesteps
        self.codec = codec
        self.range = LatentRange()
        self.encoder = encoder
        self.unet = Unet3d(self.latent_shape[0], condition=WIDTH, **unet)
        if any(n % self.unet.factor for n in self.latent_shape[2:]):
            raise InvalidInputError(
                "The latent does not fit the U-Net",
                why=f"slices of {self.latent_shape[2:]} are not multiples of {self.unet.factor}",
            )

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        """Channels and axes of one latent."""
        return self.codec.latent_shape(self.volume_shape)

    def condition(self, views: ViewBatch) -> Condition:
        """The embedding of the first known view of every sample."""
        return Condition(self.encoder(pictures_of(views)))

    def predict(
        self, x: Tensor, time: Tensor, condition: Condition, guidance: float = 1.0
    ) -> Tensor:
        """Noise or sample, as the objective is; see `ReconstructionModel.predict`."""
        step, vectors = self.step(time), condition.features
        shown = torch.ones(len(x), device=x.device)
        if guidance == 1.0:
            return self._output(x, step, vectors, shown)
        if guidance == 0.0:
            return self._output(x, step, vectors, 0 * shown)
        both = self._output(
            torch.cat([x, x]), torch.cat([step, step]), torch.cat([vectors, vectors]),
            torch.cat([shown, 0 * shown]),
        )  # fmt: skip
        conditional, unconditional = both.chunk(2)
        return unconditional + guidance * (conditional - unconditional)

    def step(self, time: Tensor) -> Tensor:
        """The published number of a time's step, from 0 to `timesteps` - 1."""
        return (self.process.step(time) - 1).clamp_min(0)

    def decode(
        self,
        x: Tensor,
        condition: Condition,
        *,
        tile: int | None = None,
        cancel: CancelToken | None = None,
    ) -> Tensor:
        """The latent, slice by slice, as a volume."""
        latent = self.range.back(x)
        if tile is None:
            return self.codec.decode(latent).float().clamp(-1, 1)
        whole = self.codec.tiled_decode(latent, tile=tile, overlap=max(1, tile // 4), cancel=cancel)
        return whole.float().clamp(-1, 1)

    def encode(self, volume: Tensor, condition: Condition) -> Tensor:
        """The latent of a volume, in the range -1 to 1."""
        out: Tensor = self.range(self.codec.encode(volume))
        return out

    def _output(self, *given: Tensor) -> Tensor:
        out: Tensor = self.unet(*given)
        return out.float()
