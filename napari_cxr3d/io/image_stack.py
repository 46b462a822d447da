"""What all writers of radiographs ask of their images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import XrayView
from napari_cxr3d.imaging.radiograph import Quantity

__all__ = ["as_frames", "display_range", "numbered"]


def as_frames(images: npt.NDArray[Any], views: Sequence[XrayView]) -> npt.NDArray[np.float32]:
    """Stack of images, float32 (V, rows, cols), each with its view.

    Raises
    ------
    InvalidInputError
        If there are no rows and columns, or images and views differ in number.
    """
    images = np.asarray(images, np.float32)
    if images.ndim not in (2, 3) or images.size == 0:
        raise InvalidInputError(
            "Radiographs have the axes (rows, columns) or (views, rows, columns)",
            why=f"the shape is {images.shape}",
        )
    frames = images.reshape(-1, *images.shape[-2:])
    if len(frames) != len(views):
        raise InvalidInputError(
            "Every image needs its view", why=f"{len(frames)} images, {len(views)} views"
        )
    return frames


def display_range(frames: npt.NDArray[np.float32], quantity: Quantity) -> tuple[float, float]:
    """Values shown black and white, the same for all images."""
    if quantity == "display":
        return 0.0, 1.0
    low, high = min(0.0, float(frames.min())), float(frames.max())
    return low, high if high > low else low + 1.0


def numbered(path: Path, count: int) -> tuple[Path, ...]:
    """One path for each image: the path itself for one, ``name_000.suffix`` and on for more."""
    if count == 1:
        return (path,)
    return tuple(path.with_name(f"{path.stem}_{k:03d}{path.suffix}") for k in range(count))
