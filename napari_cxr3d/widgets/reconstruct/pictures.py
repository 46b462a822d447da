"""Small pictures in a row, each with a line under it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QGridLayout, QLabel, QWidget

__all__ = ["Picture", "PictureRow", "difference_colors", "grey"]

_EDGE = 100  # pixels: three fit into a panel
_OUTSIDE = np.array([38, 41, 48], np.uint8)
# Dark between two hues that the colour-blind tell apart: less blue-grey, more amber.
_LESS, _MORE = np.array([90.0, 170.0, 255.0]), np.array([255.0, 176.0, 0.0])

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture and what it shows.

    Attributes
    ----------
    pixels : ndarray of uint8, shape (rows, cols) or (rows, cols, 3)
        Grey or red, green, blue.
    caption : str
        A word or two.
    tip : str
        A sentence.
    """

    pixels: Bytes
    caption: str
    tip: str = ""


def grey(
    values: npt.NDArray[Any], limits: tuple[float, float] = (0.0, 1.0), valid: Any = None
) -> Bytes:
    """Values between two limits as grey pixels with the invalid ones set apart, (rows, cols, 3)."""
    low, high = limits
    scaled = np.clip((np.asarray(values, np.float32) - low) / max(high - low, 1e-6), 0, 1)
    pixels = np.repeat(np.rint(255 * scaled).astype(np.uint8)[..., None], 3, axis=-1)
    if valid is not None:
        pixels[~np.asarray(valid, bool)] = _OUTSIDE
    return pixels


def difference_colors(values: npt.NDArray[Any], limit: float, valid: Any = None) -> Bytes:
    """Differences as colours: black for none, amber for too much, blue for too little."""
    part = np.clip(np.asarray(values, np.float32) / max(limit, 1e-6), -1, 1)[..., None]
    pixels = np.where(part > 0, part * _MORE, -part * _LESS).round().astype(np.uint8)
    if valid is not None:
        pixels[~np.asarray(valid, bool)] = _OUTSIDE
    return pixels


class PictureRow(QWidget):
    """Pictures side by side; a second line of them begins below the first."""

    def __init__(self, parent: QWidget | None = None, *, columns: int = 3) -> None:
        super().__init__(parent)
        self._columns = columns
        self._cells: list[QLabel] = []
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(4)
        self._grid.setAlignment(Qt.AlignmentFlag.AlignLeft)
        self.hide()

    @property
    def captions(self) -> list[str]:
        """What stands under the pictures that are shown."""
        return [cell.text() for cell in self._cells if cell.text()]

    def show_pictures(self, pictures: Sequence[Picture]) -> None:
        """Show these; without any the row goes away."""
        for cell in self._cells:
            self._grid.removeWidget(cell)
            cell.deleteLater()
        self._cells = []
        for k, picture in enumerate(pictures):
            row, column = 2 * (k // self._columns), k % self._columns
            image, caption = QLabel(), QLabel(picture.caption)
            image.setPixmap(_pixmap(picture.pixels))
            caption.setAlignment(Qt.AlignmentFlag.AlignHCenter)
            caption.setWordWrap(True)
            for cell, at in ((image, row), (caption, row + 1)):
                cell.setToolTip(picture.tip)
                self._grid.addWidget(cell, at, column, Qt.AlignmentFlag.AlignHCenter)
                self._cells.append(cell)
        self.setVisible(bool(pictures))


def _pixmap(pixels: Bytes) -> QPixmap:
    colored = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=-1)
    colored = np.ascontiguousarray(colored)
    rows, cols, _ = colored.shape
    image = QImage(colored.tobytes(), cols, rows, 3 * cols, QImage.Format.Format_RGB888)
    return QPixmap.fromImage(image.copy()).scaled(
        _EDGE,
        _EDGE,
        Qt.AspectRatioMode.KeepAspectRatio,
        Qt.TransformationMode.SmoothTransformation,
    )
