"""The SYNTHETIC mark that every picture made here carries."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.imaging import XrayView

__all__ = ["SYNTHETIC_NOTE", "burn_in", "is_marked", "mark_text"]

SYNTHETIC_NOTE = (
    "SYNTHETIC: computed by napari-cxr3d, not measured by a scanner. Not for diagnosis."
)


def is_marked(text: str) -> bool:
    """Whether a title, description or comment in a file says that its picture is synthetic."""
    return text.startswith("SYNTHETIC")


def mark_text(view: XrayView | None = None) -> str:
    """Text burnt into a picture: the mark, and the angles of a view."""
    if view is None:
        return "SYNTHETIC"
    angles = {"yaw": view.yaw, "pitch": view.pitch, "roll": view.roll}
    told = " ".join(f"{k} {v:.4g}" for k, v in angles.items() if v != 0 or k == "yaw")
    return f"SYNTHETIC DRR {told}"


def burn_in(picture: npt.NDArray[Any], text: str) -> npt.NDArray[Any]:
    """Copy of a picture with white text on black in its lower left corner.

    Parameters
    ----------
    picture : ndarray of uint8 or uint16, shape (rows, cols)
        White is the greatest value of its dtype.
    text : str
        One line; it is made small enough to fit the width.
    """
    from PIL import Image, ImageDraw, ImageFont

    rows, cols = picture.shape
    size = max(8, rows // 32)
    font = ImageFont.load_default(size)
    left, top, right, bottom = font.getbbox(text)
    if right - left > cols - 4 and size > 8:
        font = ImageFont.load_default(max(8, int(size * (cols - 4) / (right - left))))
        left, top, right, bottom = font.getbbox(text)
    label = Image.new("L", (int(right - left) + 4, int(bottom - top) + 4))
    ImageDraw.Draw(label).text((2 - left, 2 - top), text, fill=255, font=font)
    patch = np.asarray(label, np.float64)[-rows:, :cols] * (np.iinfo(picture.dtype).max / 255.0)
    marked = picture.copy()
    marked[rows - patch.shape[0] :, : patch.shape[1]] = np.rint(patch).astype(picture.dtype)
    return marked
