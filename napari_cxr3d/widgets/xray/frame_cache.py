"""Frames that were projected once, so that scrubbing over them is a memory read."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.imaging import XrayView

__all__ = ["CachedFrame", "FrameCache", "orbit_views", "preview_view"]

PREVIEW_PIXELS = 256
BUDGET_BYTES = 128 * 1024 * 1024
_NEARBY_DEG = 45


@dataclass(frozen=True, eq=False)
class CachedFrame:
    """A projection, and the picture that was last made of it.

    Attributes
    ----------
    projection : ndarray of float32
        What the projector gave: (rows, columns) line integrals, or two basis images.
    picture : ndarray of float32, shape (rows, columns)
        Display picture, 0 to 1.
    look : hashable
        Appearance and window that the picture was made with.
    """

    projection: npt.NDArray[Any]
    picture: npt.NDArray[np.float32]
    look: Hashable

    @property
    def nbytes(self) -> int:
        """Memory that the arrays hold."""
        return self.projection.nbytes + self.picture.nbytes


class FrameCache:
    """The most recently used frames, within a memory budget."""

    def __init__(self, budget_bytes: int = BUDGET_BYTES) -> None:
        self._budget = budget_bytes
        self._frames: OrderedDict[Hashable, CachedFrame] = OrderedDict()
        self._nbytes = 0

    def __len__(self) -> int:
        return len(self._frames)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._frames

    @property
    def nbytes(self) -> int:
        """Memory that the frames hold."""
        return self._nbytes

    def get(self, key: Hashable) -> CachedFrame | None:
        """The frame of a key, which counts as its use."""
        frame = self._frames.get(key)
        if frame is not None:
            self._frames.move_to_end(key)
        return frame

    def put(self, key: Hashable, frame: CachedFrame) -> None:
        """Keep a frame; the least recently used ones make room."""
        self.discard(key)
        self._frames[key] = frame
        self._nbytes += frame.nbytes
        while self._nbytes > self._budget and len(self._frames) > 1:
            _, oldest = self._frames.popitem(last=False)
            self._nbytes -= oldest.nbytes

    def has_room(self, nbytes: int) -> bool:
        """Whether a frame of this size would push no other out."""
        return self._nbytes + nbytes <= self._budget

    def discard(self, key: Hashable) -> None:
        """Forget one frame."""
        frame = self._frames.pop(key, None)
        if frame is not None:
            self._nbytes -= frame.nbytes

    def clear(self) -> None:
        """Forget everything."""
        self._frames.clear()
        self._nbytes = 0


def preview_view(view: XrayView) -> XrayView:
    """The same exposure on a detector of at most 256 pixels a side, for a dragging hand.

    The pixels grow by a whole factor, so that the coarse detector covers the fine one
    and exceeds it by less than one of its own pixels.
    """
    factor = -(-max(view.detector_shape) // PREVIEW_PIXELS)
    if factor <= 1:
        return view
    rows, cols = (-(-n // factor) for n in view.detector_shape)
    return replace(view, detector_shape=(rows, cols), pixel_mm=view.pixel_mm * factor)


def orbit_views(view: XrayView, step_deg: int = 5) -> list[XrayView]:
    """The exposures worth having at hand: a full turn, then whole degrees nearby.

    Yaws are multiples of the step within (-180, 180], then every degree within 45 of the
    view; those nearest to `view` come first in both.
    """

    def distance(yaw: int) -> float:
        return abs((yaw - view.yaw + 180) % 360 - 180)

    turn = sorted(range(-180 + step_deg, 181, step_deg), key=distance)
    nearby = sorted(
        (yaw for yaw in range(-179, 181) if yaw % step_deg and distance(yaw) <= _NEARBY_DEG),
        key=distance,
    )
    return [replace(view, yaw=float(yaw)) for yaw in (*turn, *nearby)]
