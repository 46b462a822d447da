"""Letters in a radiograph: lead markers in the beam, and text burnt into the pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import XrayView

__all__ = ["BurntText", "LeadMarker", "Style", "side_letter", "view_label"]

FloatImage = npt.NDArray[np.float32]
Style = Literal["plain", "boxed", "ring"]

_STYLES = ("plain", "boxed", "ring")
_FRONTAL = math.sin(math.radians(45.0))  # beyond it a view counts as lateral
_SAMPLING = 4  # pixels drawn along each side of one pixel


def side_letter(view: XrayView, column: float) -> str:
    """The letter, L or R, that a technologist would put there.

    In a frontal view the side of the patient at that column; in a lateral view the side
    against the detector.

    Parameters
    ----------
    view : XrayView
        The exposure.
    column : float
        In parts of the picture's width.
    """
    leftward = float(view.image_axes[1][0])
    if abs(leftward) >= _FRONTAL:
        return "L" if (column - 0.5) * leftward > 0 else "R"
    return "L" if view.toward_source[0] < 0 else "R"


def view_label(view: XrayView) -> str:
    """``"PA"``, ``"AP"``, ``"LL"`` or ``"RL"``: where the beam comes from."""
    x, y, _ = view.toward_source
    if abs(y) >= _FRONTAL:
        return "PA" if y > 0 else "AP"
    return "LL" if x < 0 else "RL"


@dataclass(frozen=True)
class LeadMarker:
    """A letter of lead on the detector's cover; it lies in the beam, with blur and noise.

    Attributes
    ----------
    row, column : float
        Its middle, in parts of the picture's height and width.
    height_mm : float
        Height of the letter.
    letter : str
        Empty for the side's own letter.
    degrees : float
        How crookedly it was put down.
    ring : bool
        Whether the letter stands in a ring.
    integral : float
        Line integral of the lead; 4 is about a millimetre at 120 kV.
    """

    row: float = 0.12
    column: float = 0.9
    height_mm: float = 14.0
    letter: str = ""
    degrees: float = 0.0
    ring: bool = False
    integral: float = 4.0

    def __post_init__(self) -> None:
        _check("lead marker", self.row, self.column, self.height_mm)

    def add_to(self, integrals: FloatImage, view: XrayView, pixel_mm: float) -> None:
        """Add the lead to line integrals, in place."""
        text = self.letter or side_letter(view, self.column)
        style: Style = "ring" if self.ring else "plain"
        height = max(2, round(self.height_mm / pixel_mm))
        ink, _ = _glyphs(text, height, style, round(self.degrees))
        region, part = _place(integrals, ink, self.row, self.column)
        region += np.float32(self.integral) * part


@dataclass(frozen=True)
class BurntText:
    """Text that a workstation wrote into the pixels.

    Attributes
    ----------
    row, column : float
        Its middle, in parts of the picture's height and width.
    height : float
        Height of the letters in parts of the picture's height.
    text : str
        ``"{side}"`` stands for L or R, ``"{view}"`` for PA or AP.
    style : {"plain", "boxed", "ring"}
        ``boxed`` has a dark box behind the letters, ``ring`` a dark disc.
    level : float
        Grey value of the letters.
    """

    row: float = 0.06
    column: float = 0.92
    height: float = 0.03
    text: str = "{side}"
    style: Style = "plain"
    level: float = 1.0

    def __post_init__(self) -> None:
        _check("burnt text", self.row, self.column, self.height)
        if self.style not in _STYLES:
            raise InvalidInputError(
                f"There is no style of text called {self.style!r}",
                remedy=f"choose one of {', '.join(_STYLES)}",
            )

    def draw_on(self, picture: FloatImage, view: XrayView) -> None:
        """Draw the text on grey values, in place."""
        side = side_letter(view, self.column)
        text = self.text.replace("{side}", side).replace("{view}", view_label(view))
        height = max(3, round(self.height * picture.shape[0]))
        ink, ground = _glyphs(text, height, self.style, 0)
        region, part = _place(picture, ink, self.row, self.column)
        if self.style != "plain":
            _, dark = _place(picture, ground, self.row, self.column)
            region *= 1 - np.float32(0.9) * dark
        region += (np.float32(self.level) - region) * part


def _check(name: str, row: float, column: float, height: float) -> None:
    if not (0 <= row <= 1 and 0 <= column <= 1 and height > 0):
        raise InvalidInputError(
            f"The {name} cannot be placed",
            why=f"its middle is ({row:g}, {column:g}) and its height {height:g}",
            remedy="give a place in parts of the picture, 0 to 1, and a positive height",
        )


def _place(
    picture: FloatImage, glyphs: FloatImage, row: float, column: float
) -> tuple[FloatImage, FloatImage]:
    """The part of the picture that the glyphs lie on, and the part of the glyphs on it."""
    rows, cols = (min(n, m) for n, m in zip(picture.shape, glyphs.shape, strict=True))
    top = int(np.clip(round(row * picture.shape[0] - rows / 2), 0, picture.shape[0] - rows))
    left = int(np.clip(round(column * picture.shape[1] - cols / 2), 0, picture.shape[1] - cols))
    return picture[top : top + rows, left : left + cols], glyphs[:rows, :cols]


@lru_cache(maxsize=256)
def _glyphs(text: str, height: int, style: Style, degrees: int) -> tuple[FloatImage, FloatImage]:
    """Ink and background of a text with letters `height` pixels high, both 0 to 1."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(height * _SAMPLING * 1.35)
    left, top, right, bottom = (round(v) for v in font.getbbox(text))
    wide, high = right - left, bottom - top
    margin = round(0.45 * max(high, 1))
    size = (wide + 2 * margin, high + 2 * margin)
    if style == "ring":
        size = (max(size), max(size))
    ink, ground = Image.new("L", size), Image.new("L", size)
    pen, brush = ImageDraw.Draw(ink), ImageDraw.Draw(ground)
    if style == "ring":
        brush.ellipse((0, 0, size[0] - 1, size[1] - 1), fill=255)
        thick = max(_SAMPLING, size[0] // 14)
        pen.ellipse((0, 0, size[0] - 1, size[1] - 1), outline=255, width=thick)
    elif style == "boxed":
        brush.rectangle((0, 0, *size), fill=255)
    pen.text(((size[0] - wide) / 2 - left, (size[1] - high) / 2 - top), text, fill=255, font=font)
    if degrees:
        ink = ink.rotate(degrees, Image.Resampling.BILINEAR, expand=True)
        ground = ground.rotate(degrees, Image.Resampling.BILINEAR, expand=True)
    wide, high = (max(1, -(-n // _SAMPLING)) for n in ink.size)
    pictures = (p.resize((wide, high), Image.Resampling.BOX) for p in (ink, ground))
    shown = [np.asarray(p, np.float32) / np.float32(255) for p in pictures]
    for picture in shown:
        picture.flags.writeable = False
    return shown[0], shown[1]
