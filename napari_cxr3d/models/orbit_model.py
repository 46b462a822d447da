"""What every world model of the chest X-ray offers, whatever it is made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import XrayView

__all__ = ["OrbitModel", "standardised"]

_LEAST_DEVIATION = 1e-3


def standardised(pictures: Tensor) -> Tensor:
    """Each picture with mean 0 and standard deviation 1, so that exposure does not count.

    Parameters
    ----------
    pictures : Tensor, shape (..., rows, cols)
        Grey values or line integrals, bone bright.
    """
    pictures = pictures.float()
    mean = pictures.mean((-2, -1), keepdim=True)
    deviation = pictures.std((-2, -1), keepdim=True).clamp_min(_LEAST_DEVIATION)
    return (pictures - mean) / deviation


class OrbitModel(nn.Module, ABC):
    """From one X-ray to what it would show from elsewhere.

    The source turns about the patient, detector opposite; distances and detector stay as they
    are. Pictures lie on the detector of `base_view`, whose isocenter is the point turned about.

    Attributes
    ----------
    detector_shape : tuple of 2 int
        Rows and columns of its pictures.
    grid : tuple of 2 int
        Rows and columns of its patch tokens; ``grid[0] * grid[1]`` is N below.
    dim : int
        Numbers of a token, D below.
    yaw_range : tuple of 2 float
        Degrees from the given picture, over which the model was trained.
    yaw_step : float
        Degrees between the angles it was trained on.
    euler : bool
        Whether turns may have pitch and roll.
    renders : bool
        Whether `render` can be called.
    """

    renders: bool = True

    def __init__(
        self,
        *,
        detector_shape: Sequence[int],
        grid: Sequence[int],
        dim: int,
        field_mm: float,
        source_to_isocenter_mm: float,
        source_to_detector_mm: float,
        yaw_range: Sequence[float],
        yaw_step: float,
        euler: bool = False,
    ) -> None:
        super().__init__()
        rows, cols = (int(n) for n in detector_shape)
        grid_rows, grid_cols = (int(n) for n in grid)
        first, last = (float(a) for a in yaw_range)
        if min(grid_rows, grid_cols) < 1 or rows % grid_rows or cols % grid_cols:
            raise InvalidInputError(
                "The detector of a world model must be whole patches",
                why=f"{rows} x {cols} pixels are no multiple of {grid_rows} x {grid_cols} patches",
            )
        if not (first <= 0 <= last and yaw_step > 0 and dim > 0):
            raise InvalidInputError(
                "The angles of a world model must hold 0 and have a step above 0",
                why=f"they are {first:g} to {last:g} by {yaw_step:g} degrees",
            )
        self.detector_shape = (rows, cols)
        self.grid = (grid_rows, grid_cols)
        self.dim = int(dim)
        self.yaw_range = (first, last)
        self.yaw_step = float(yaw_step)
        self.euler = bool(euler)
        self.base_view = XrayView(
            source_to_isocenter_mm=float(source_to_isocenter_mm),
            source_to_detector_mm=float(source_to_detector_mm),
            detector_shape=(rows, cols),
            pixel_mm=float(field_mm) / cols,
            isocenter_lps=(0.0, 0.0, 0.0),
        )

    @property
    def yaws(self) -> tuple[float, ...]:
        """The angles it was trained on, in rising order, 0 among them."""
        first, last = (round(end / self.yaw_step) for end in self.yaw_range)
        return tuple(k * self.yaw_step for k in range(first, last + 1))

    @abstractmethod
    def encode(self, pictures: Tensor) -> Tensor:
        """Patch tokens of pictures, float32 (B, N, D), row by row.

        Parameters
        ----------
        pictures : Tensor, shape (B, rows, cols)
            Grey values or line integrals of any scale, bone bright; they are standardised.
        """

    @abstractmethod
    def predict(self, tokens: Tensor, turns: Tensor) -> Tensor:
        """Tokens of the same patient seen from elsewhere, float32 (B, K, N, D).

        Parameters
        ----------
        tokens : Tensor, shape (B, N, D)
            From `encode`.
        turns : Tensor, shape (B, K, 3)
            Yaw, pitch and roll from the given picture, degrees.
        """

    @abstractmethod
    def render(self, tokens: Tensor) -> Tensor:
        """Line integrals that tokens show, float32 (B, rows, cols), dimensionless.

        Parameters
        ----------
        tokens : Tensor, shape (B, N, D)
            From `predict`, or from `target` of a true picture.
        """

    def target(self, pictures: Tensor) -> Tensor:
        """Tokens that `predict` is compared with, (B, N, D); those of `encode` by default."""
        return self.encode(pictures)

    def embed(self, pictures: Tensor) -> Tensor:
        """One vector a picture, (B, E): the mean of its tokens by default."""
        return self.encode(pictures).mean(1)

    def forward(self, pictures: Tensor) -> Tensor:
        """As `encode`."""
        return self.encode(pictures)

    def turns(self, yaws: Sequence[float] | Tensor) -> Tensor:
        """Turns of one patient by yaw alone, (1, K, 3), for `predict`."""
        yaw = torch.as_tensor(yaws, dtype=torch.float32)
        turns = torch.zeros(1, len(yaw), 3)
        turns[0, :, 0] = yaw
        return turns

    def describe(self) -> dict[str, Any]:
        """What a card says of its pictures and angles; JSON-serialisable."""
        view = self.base_view
        return {
            "detector_shape": list(self.detector_shape),
            "field_mm": view.pixel_mm * view.detector_shape[1],
            "source_to_isocenter_mm": view.source_to_isocenter_mm,
            "source_to_detector_mm": view.source_to_detector_mm,
            "patches": list(self.grid),
            "yaw_range": list(self.yaw_range),
            "yaw_step": self.yaw_step,
            "standardise": "mean 0, standard deviation 1 of each picture",
        }
