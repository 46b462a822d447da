"""CT display windows, and the conversion between window and contrast limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from napari_cxr3d.errors import InvalidInputError

__all__ = ["WINDOWS", "Window"]


@dataclass(frozen=True)
class Window:
    """A display window in HU.

    Attributes
    ----------
    level : float
        Centre of the window.
    width : float
        Full width of the window; positive.
    """

    level: float
    width: float

    def __post_init__(self) -> None:
        if not self.width > 0:
            raise InvalidInputError("A window's width must be positive", why=f"it is {self.width}")

    @property
    def limits(self) -> tuple[float, float]:
        """The window as (low, high) contrast limits."""
        return (self.level - self.width / 2, self.level + self.width / 2)

    @classmethod
    def from_limits(cls, low: float, high: float) -> Window:
        """The window between two contrast limits."""
        return cls(level=(low + high) / 2, width=high - low)


# Level and width as radiology workstations ship them (OHIF's defaults, and the
# mediastinal window of thoracic reading).
WINDOWS: Mapping[str, Window] = MappingProxyType(
    {
        "Mediastinum": Window(50, 350),
        "Lung": Window(-600, 1500),
        "Bone": Window(480, 2500),
        "Soft tissue": Window(40, 400),
        "CTPA": Window(100, 700),
    }
)
