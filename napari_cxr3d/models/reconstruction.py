"""What every network that makes a CT from X-rays offers, whatever it is made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.hu_window import HuWindow

if TYPE_CHECKING:
    from napari_cxr3d.models.diffusion import Process
    from napari_cxr3d.progress import CancelToken

__all__ = ["Condition", "ReconstructionModel", "ViewBatch"]


class ViewBatch(NamedTuple):
    """The X-rays that a volume is made from, on the model's detector.

    Attributes
    ----------
    integrals : Tensor, shape (B, V, rows, cols)
        Line integrals, dimensionless; approximate where they were read from grey values, 0
        where the picture does not reach.
    valid : Tensor, shape (B, V, rows, cols)
        1 where the picture covers the detector, 0 elsewhere.
    cameras : Tensor, shape (B, V, 12)
        Source, first pixel, row step and column step in LPS mm from the grid's centre: pixel
        (r, c) is seen from the source in the direction
        ``first_pixel + r * row_step + c * column_step - source``.
    exact : Tensor, shape (B, V)
        1 where the integrals are on their true scale (a DRR), 0 where that was estimated.
    known : Tensor, shape (B, V)
        1 for a view, 0 for a place kept free in a batch of unequal numbers of views.
    """

    integrals: Tensor
    valid: Tensor
    cameras: Tensor
    exact: Tensor
    known: Tensor

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> ViewBatch:
        """The same on another device, and in another floating type."""
        return ViewBatch(*(t.to(device=device, dtype=dtype or t.dtype) for t in self))

    def repeat(self, n: int) -> ViewBatch:
        """Every sample `n` times in a row."""
        return ViewBatch(*(t.repeat_interleave(n, dim=0) for t in self))


class Condition(NamedTuple):
    """What a model made of the X-rays, once for all steps of the sampler.

    Attributes
    ----------
    features : Tensor, shape (B, ...)
        What the denoiser is shown: lifted features, or a pooled embedding.
    coarse : Tensor, shape (B, 1, I, P, L), or None
        The volume that one pass gives, in the network's range; None where the model has none.
    coarse_latent : Tensor, shape (B, Z, i, p, l), or None
        The same as a latent.
    spread : Tensor, shape (B, Z, i, p, l), or None
        Standard deviation of the truth about `coarse_latent`, as the coarse stage expects it.
    """

    features: Tensor
    coarse: Tensor | None = None
    coarse_latent: Tensor | None = None
    spread: Tensor | None = None

    def repeat(self, n: int) -> Condition:
        """Every sample `n` times in a row, for `n` draws."""
        features, *others = self
        return Condition(
            features.repeat_interleave(n, dim=0),
            *(None if t is None else t.repeat_interleave(n, dim=0) for t in others),
        )


class ReconstructionModel(nn.Module, ABC):
    """From X-rays to volumes, by way of latents that a sampler moves.

    The grid is axis-aligned, in (I, P, L), its centre at the point that `ViewBatch.cameras`
    are measured from.

    Attributes
    ----------
    volume_shape : tuple of 3 int
        Voxels along (I, P, L).
    spacing_mm : tuple of 3 float
        Their spacing in mm.
    detector_shape : tuple of 2 int
        Rows and columns of the detector on which the model wants its X-rays.
    window : HuWindow
        HU and the network's range.
    process : Process
        How noise enters; what the sampler undoes.
    uses_geometry : bool
        Whether the views' cameras reach the result; a model with a pooled embedding takes
        the first view alone, wherever it was taken from.
    default_steps : int
        Steps of the sampler that the weights are meant for.
    """

    process: Process
    uses_geometry: bool = True
    default_steps: int = 8

    def __init__(
        self,
        *,
        volume_shape: Sequence[int],
        spacing_mm: Sequence[float],
        detector_shape: Sequence[int],
        hu_window: Sequence[float],
    ) -> None:
        super().__init__()
        i, p, ell = (int(n) for n in volume_shape)
        rows, cols = (int(n) for n in detector_shape)
        di, dp, dl = (float(s) for s in spacing_mm)
        if min(i, p, ell, rows, cols) < 1 or min(di, dp, dl) <= 0:
            raise InvalidInputError(
                "The grid of a reconstruction cannot be used",
                why=f"it is {volume_shape} voxels of {spacing_mm} mm, detector {detector_shape}",
                remedy="give positive numbers",
            )
        self.volume_shape = (i, p, ell)
        self.detector_shape = (rows, cols)
        self.spacing_mm = (di, dp, dl)
        self.window = HuWindow(*hu_window)

    @property
    @abstractmethod
    def latent_shape(self) -> tuple[int, int, int, int]:
        """Channels and axes of one latent."""

    @abstractmethod
    def condition(self, views: ViewBatch) -> Condition:
        """Look at the X-rays; the first picture where the model has a coarse stage."""

    @abstractmethod
    def predict(
        self, x: Tensor, time: Tensor, condition: Condition, guidance: float = 1.0
    ) -> Tensor:
        """What `process` calls the network's output at a state.

        Parameters
        ----------
        x : Tensor, shape (B, *latent_shape)
            The state.
        time : Tensor, shape (B,)
            From 1, noise, to 0, the sample.
        condition : Condition
            From `condition`.
        guidance : float
            Scale of classifier-free guidance (Ho and Salimans, 2022, arXiv 2207.12598):
            1 is the conditional model alone and costs one evaluation, 0 the unconditional one.
        """

    @abstractmethod
    def decode(
        self,
        x: Tensor,
        condition: Condition,
        *,
        tile: int | None = None,
        cancel: CancelToken | None = None,
    ) -> Tensor:
        """The volume of a clean latent, float32 (B, 1, I, P, L) in the network's range.

        Parameters
        ----------
        x : Tensor, shape (B, *latent_shape)
            A state at time 0, or an estimate of it.
        condition : Condition
            From `condition`.
        tile : int, optional
            Decode in tiles of this many latent voxels' edge, for little memory.
        cancel : CancelToken, optional
            Looked at between tiles.
        """

    @abstractmethod
    def encode(self, volume: Tensor, condition: Condition) -> Tensor:
        """The clean latent of a volume in the network's range; the inverse of `decode`."""
