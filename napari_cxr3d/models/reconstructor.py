"""The default reconstruction: a coarse volume along the true rays, then a flow of what it left out.

One pass lifts the pictures into the volume and says what is to be expected, and how far the truth
may lie from it: mean and standard deviation of every latent number. A rectified flow then draws
the rest, in units of that standard deviation, so that it works where something is uncertain and
leaves alone what the X-rays settle. Any number of views, at any pose, with one set of weights.

A wavelet's finest bands of the residual are noise to a small network. The flow may therefore draw
the residual of lower bands alone, that is of averages of voxels; it is brought back to the voxels
by interpolation, which leaves no blocks, and the fine bands stay as the coarse stage expects them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.codecs.base import Codec
from napari_cxr3d.models.codecs.haar import HaarCodec
from napari_cxr3d.models.diffusion import RectifiedFlow
from napari_cxr3d.models.lift import Lift
from napari_cxr3d.models.reconstruction import Condition, ReconstructionModel, ViewBatch

if TYPE_CHECKING:
    from napari_cxr3d.progress import CancelToken

__all__ = ["FlowReconstructor", "FlowStage", "LiftStage"]

_LEAST_LOG_SPREAD, _MOST_LOG_SPREAD = -5.0, 2.0
_FARTHEST = 6.0  # standard deviations: what an encoded volume may lie from the coarse one
_NETWORK_TIMES = 1000.0


class LiftStage(nn.Module):
    """Mean and spread of the latent, from the pictures, in one pass.

    Latents are compared in units of their own standard deviation over the training volumes,
    `latent_std`, about `latent_mean`: both are buffers, measured in training.

    Parameters
    ----------
    latent_shape : sequence of 4 int
        Channels and axes of a latent.
    extent_mm : sequence of 3 float
        Edges of the volume.
    lift : mapping
        Arguments of `Lift` but those of the grid.
    network : Module
        From `features` channels to twice the latent's: MONAI's DiffusionModelUNet, say.
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(
        self,
        latent_shape: Sequence[int],
        extent_mm: Sequence[float],
        lift: Mapping[str, Any],
        network: nn.Module,
    ) -> None:
        super().__init__()
        channels = latent_shape[0]
        self.lift = Lift(**lift, shape=latent_shape[1:], extent_mm=extent_mm)
        self.network = network
        self.register_buffer("latent_mean", torch.zeros(channels, 1, 1, 1))
        self.register_buffer("latent_std", torch.ones(channels, 1, 1, 1))

    def forward(self, views: ViewBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Features, mean latent and logarithm of its spread, the spread in units of `latent_std`.

        Returns
        -------
        features : Tensor, shape (B, F, i, p, l)
        mean, log_spread : Tensor of float32, shape (B, Z, i, p, l)
        """
        features = self.lift(views)
        still = torch.zeros(len(features), device=features.device)
        mean, log_spread = self.network(features, still).float().chunk(2, dim=1)
        mean = self.latent_mean + self.latent_std * mean
        return features, mean, log_spread.clamp(_LEAST_LOG_SPREAD, _MOST_LOG_SPREAD)


class FlowStage(nn.Module):
    """The velocity of the residual.

    The network is preconditioned as in Karras et al., NeurIPS 2022 (arXiv 2206.00364), written
    for the straight path between data of unit variance and noise: with an untrained network
    the velocity is the best linear one.

    Parameters
    ----------
    network : Module
        From the drawn, the latent's and the features' channels to the drawn.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, x: Tensor, time: Tensor, features: Tensor, coarse: Tensor, known: Tensor
    ) -> Tensor:
        """Velocity ``x0 - noise``, float32, of the shape of `x`.

        Parameters
        ----------
        x : Tensor, shape (B, D, i, p, l)
            State on the path, in units of the spread.
        time : Tensor, shape (B,)
            1 is noise, 0 the sample.
        features, coarse : Tensor
            From `LiftStage`; the coarse latent in units of its standard deviation.
        known : Tensor, shape (B,)
            0 hides the condition, for guidance.
        """
        t = time.float().reshape(-1, 1, 1, 1, 1)
        variance = (1 - t).square() + t.square()
        shown = known.reshape(-1, 1, 1, 1, 1).to(x.dtype)
        seen = torch.cat([x / variance.sqrt(), coarse * shown, features.to(x.dtype) * shown], dim=1)
        out: Tensor = self.network(seen, time.float() * _NETWORK_TIMES).float()
        return (1 - 2 * t) / variance * x.float() + out / variance.sqrt()


class FlowReconstructor(ReconstructionModel):
    """See the module.

    Parameters
    ----------
    codec : Codec
        The latent space: an orthonormal wavelet, or a trained autoencoder.
    volume_shape, spacing_mm, detector_shape, hu_window : sequences
        See `ReconstructionModel`.
    lift : mapping
        Arguments of `Lift`: ``encoder_channels``, ``picture_features``, ``features``.
    coarse, flow : mapping
        Arguments of MONAI's DiffusionModelUNet but those that follow from the rest.
    drawn_levels : int, optional
        Levels of a `HaarCodec`, counted from the coarsest, whose residual the flow draws; the
        whole latent's if None.

    Raises
    ------
    InvalidInputError
        If the codec is none, or has no such levels.

    Attributes
    ----------
    lift_stage : LiftStage
    flow_stage : FlowStage
    codec : Codec
    """

    default_steps = 8

    def __init__(
        self,
        *,
        codec: Codec,
        volume_shape: Sequence[int],
        spacing_mm: Sequence[float],
        detector_shape: Sequence[int],
        hu_window: Sequence[float],
        lift: Mapping[str, Any],
        coarse: Mapping[str, Any],
        flow: Mapping[str, Any],
        drawn_levels: int | None = None,
    ) -> None:
        super().__init__(
            volume_shape=volume_shape, spacing_mm=spacing_mm,
            detector_shape=detector_shape, hu_window=hu_window,
        )  # fmt: skip
        if not isinstance(codec, Codec):
            raise InvalidInputError("The setting 'codec' must describe a codec")
        if drawn_levels is not None and not (
            isinstance(codec, HaarCodec) and 1 <= drawn_levels < codec.levels
        ):
            raise InvalidInputError(
                "The flow cannot draw a part of this latent",
                why=f"drawn_levels is {drawn_levels}",
                remedy="give null, or fewer levels than the Haar codec has",
            )
        self.process = RectifiedFlow()
        self.codec = codec
        self.drawn_levels = drawn_levels
        whole = codec.latent_shape(self.volume_shape)
        features, drawn = int(lift["features"]), self.latent_shape[0]
        extent = [n * s for n, s in zip(self.volume_shape, self.spacing_mm, strict=True)]
        self.lift_stage = LiftStage(whole, extent, lift, _unet(features, 2 * whole[0], **coarse))
        self.flow_stage = FlowStage(_unet(drawn + whole[0] + features, drawn, **flow))

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        """Channels and axes of what the flow draws."""
        channels, *axes = self.codec.latent_shape(self.volume_shape)
        if self.drawn_levels is not None:
            channels = self.codec.in_channels * 8**self.drawn_levels
        i, p, ell = axes
        return (channels, i, p, ell)

    def condition(self, views: ViewBatch) -> Condition:
        """The coarse volume, and all that the flow is shown."""
        features, mean, log_spread = self.lift_stage(views)
        spread = log_spread.exp() * self.lift_stage.latent_std
        return Condition(features, self._volume(mean), mean, spread)

    def predict(
        self, x: Tensor, time: Tensor, condition: Condition, guidance: float = 1.0
    ) -> Tensor:
        """The velocity; see `ReconstructionModel.predict`."""
        features, coarse = condition.features, self.seen(self._coarse(condition))
        shown = torch.ones(len(x), device=x.device)
        if guidance == 1.0:
            return self._velocity(x, time, features, coarse, shown)
        if guidance == 0.0:
            return self._velocity(x, time, features, coarse, 0 * shown)
        both = self._velocity(
            torch.cat([x, x]), torch.cat([time, time]), torch.cat([features, features]),
            torch.cat([coarse, coarse]), torch.cat([shown, 0 * shown]),
        )  # fmt: skip
        conditional, unconditional = both.chunk(2)
        return unconditional + guidance * (conditional - unconditional)

    def decode(
        self,
        x: Tensor,
        condition: Condition,
        *,
        tile: int | None = None,
        cancel: CancelToken | None = None,
    ) -> Tensor:
        """The coarse volume and the residual."""
        residual = self._spread(condition) * x.float()
        if isinstance(self.codec, HaarCodec) and self.drawn_levels is not None:
            assert condition.coarse is not None  # `condition` of this model gives it
            finer = self.codec.levels - self.drawn_levels
            averages = self.codec.averages(residual, self.drawn_levels)
            smooth = functional.interpolate(averages, scale_factor=2**finer, mode="trilinear")
            return (condition.coarse + smooth).clamp(-1, 1)
        latent = self._coarse(condition) + residual
        if tile is None:
            return self._volume(latent)
        whole = self.codec.tiled_decode(latent, tile=tile, overlap=max(1, tile // 4), cancel=cancel)
        return whole.float().clamp(-1, 1)

    def encode(self, volume: Tensor, condition: Condition) -> Tensor:
        """The residual of a volume in units of the spread, at most 6 of them.

        Where the flow draws averages alone, what is finer in the volume is left out.
        """
        drawn = self.latent_shape[0]
        latent = self.codec.encode(volume).float()[:, :drawn]
        residual = (latent - self._coarse(condition)[:, :drawn]) / self._spread(condition)
        return residual.clamp(-_FARTHEST, _FARTHEST)

    def seen(self, latent: Tensor) -> Tensor:
        """A latent as the networks see it: about zero mean and unit variance."""
        return (latent - self.lift_stage.latent_mean) / self.lift_stage.latent_std

    def _velocity(self, *given: Tensor) -> Tensor:
        out: Tensor = self.flow_stage(*given)
        return out

    def _volume(self, latent: Tensor) -> Tensor:
        return self.codec.decode(latent.float()).float().clamp(-1, 1)

    @staticmethod
    def _coarse(condition: Condition) -> Tensor:
        assert condition.coarse_latent is not None  # `condition` of this model gives it
        return condition.coarse_latent

    def _spread(self, condition: Condition) -> Tensor:
        """Of what the flow draws."""
        assert condition.spread is not None
        return condition.spread[:, : self.latent_shape[0]]


def _unet(in_channels: int, out_channels: int, **given: Any) -> nn.Module:
    """MONAI's U-Net of diffusion models in three dimensions."""
    from monai.networks.nets import DiffusionModelUNet

    levels = len(given["channels"])
    settings = {
        "attention_levels": [False] * (levels - 1) + [True],
        "num_res_blocks": 1,
        "num_head_channels": 32,
        "norm_num_groups": 16,
        **given,
    }
    network: nn.Module = DiffusionModelUNet(
        spatial_dims=3, in_channels=in_channels, out_channels=out_channels, **settings
    )
    return network
