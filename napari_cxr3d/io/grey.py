"""Colour pictures of radiographs become grey."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["to_grey"]

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
_NEARLY_GREY = 0.02  # of full scale: the mean spread of the channels of a tinted film
_COLOURED_PART = 0.01  # of the pixels: less is a coloured mark on a radiograph
_COLOURED = 0.15  # of full scale: the spread of a pixel that is plainly coloured


def to_grey(rgb: npt.NDArray[Any], full_scale: float) -> tuple[npt.NDArray[np.float32], list[str]]:
    """Luminance of a colour picture, and what is to be said about it.

    Parameters
    ----------
    rgb : ndarray, shape (rows, columns, 3)
        Red, green and blue.
    full_scale : float
        The largest value a channel can hold.

    Returns
    -------
    ndarray of float32, shape (rows, columns)
        Luminance in the scale of the channels.
    list of str
        A note, a warning if the picture is plainly coloured.
    """
    spread = (rgb.max(axis=-1).astype(np.float32) - rgb.min(axis=-1)) / np.float32(full_scale)
    grey = np.asarray(rgb @ _LUMA, dtype=np.float32)
    if not spread.any():
        return rgb[..., 0].astype(np.float32), ["The colour picture was grey already."]
    coloured = float(np.mean(spread > _COLOURED))
    if float(spread.mean()) <= _NEARLY_GREY and coloured <= _COLOURED_PART:
        return grey, ["The slightly tinted colour picture was turned to grey."]
    return grey, [
        f"The picture is coloured ({100 * coloured:.0f}% of its pixels plainly so) and was turned "
        "to grey: it may not be a radiograph."
    ]
