"""Between Hounsfield units and the range that a network computes in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import HU_MAX, HU_MIN

__all__ = ["HuWindow"]

Array = TypeVar("Array")  # ndarray or torch.Tensor


@dataclass(frozen=True)
class HuWindow:
    """A linear map of a HU range onto a network's range, clipped at both ends.

    Both ways take NumPy arrays and torch tensors, on any device, and leave gradients alone
    inside the window.

    Attributes
    ----------
    low, high : float
        The HU range that is kept; what lies outside is clipped to it.
    to_low, to_high : float
        What its ends become: -1 and 1, or 0 and 1 as in MAISI.

    Raises
    ------
    InvalidInputError
        If a range is empty, or `low` and `high` lie outside the CT scale.
    """

    low: float = -1000.0
    high: float = 1000.0
    to_low: float = -1.0
    to_high: float = 1.0

    def __post_init__(self) -> None:
        ends = (self.low, self.high, self.to_low, self.to_high)
        if not all(isinstance(e, int | float) and math.isfinite(e) for e in ends) or not (
            HU_MIN <= self.low < self.high <= HU_MAX and self.to_low < self.to_high
        ):
            raise InvalidInputError(
                "The HU window cannot be used",
                why=f"it maps {self.low} to {self.high} HU onto {self.to_low} to {self.to_high}",
                remedy=f"give rising ranges, the first between {HU_MIN} and {HU_MAX} HU",
            )
        for name, value in zip(("low", "high", "to_low", "to_high"), ends, strict=True):
            object.__setattr__(self, name, float(value))

    @property
    def limits(self) -> tuple[float, float]:
        """Low and high HU, as the metrics take a window."""
        return (self.low, self.high)

    @property
    def width(self) -> float:
        """Width in HU: the data range of PSNR and SSIM."""
        return self.high - self.low

    @property
    def _gain(self) -> float:
        return (self.to_high - self.to_low) / self.width

    def encode(self, hu: Array) -> Array:
        """From HU to the network's range.

        Parameters
        ----------
        hu : ndarray or torch.Tensor
            Hounsfield units, any shape; integers become float32.

        Returns
        -------
        ndarray or torch.Tensor
            Between `to_low` and `to_high`.
        """
        values: Any = _as_float(hu)
        mapped: Array = (values.clip(self.low, self.high) - self.low) * self._gain + self.to_low
        return mapped

    def decode(self, values: Array) -> Array:
        """From the network's range to HU; values beyond its ends become the window's ends.

        Parameters
        ----------
        values : ndarray or torch.Tensor
            What a network returned, any shape.
        """
        clipped: Any = _as_float(values)
        hu: Array = (clipped.clip(self.to_low, self.to_high) - self.to_low) / self._gain + self.low
        return hu

    def to_dict(self) -> dict[str, list[float]]:
        """As a bundle's preprocessing states it."""
        return {
            "hu_window": [self.low, self.high],
            "network_range": [self.to_low, self.to_high],
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> HuWindow:
        """From what `to_dict` wrote, other keys beside it.

        Raises
        ------
        InvalidInputError
            If the record states no window, or none that can be used.
        """
        try:
            low, high = record["hu_window"]
            to_low, to_high = record.get("network_range", (-1.0, 1.0))
            return cls(low, high, to_low, to_high)
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, InvalidInputError):
                raise
            raise InvalidInputError(
                "The preprocessing states no HU window",
                remedy="give hu_window: [low, high] and network_range: [low, high]",
            ) from error


def _as_float(values: Any) -> Any:
    """A floating array or tensor; half precision stays what it is."""
    if hasattr(values, "is_floating_point"):  # a torch.Tensor, without importing torch
        return values if values.is_floating_point() else values.float()
    array = np.asarray(values)
    return array if array.dtype.kind == "f" else array.astype(np.float32)
