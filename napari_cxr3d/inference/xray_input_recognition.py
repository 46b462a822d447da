"""What a picture shows: a chest from the front or the side, a CT slice, or something else.

Linear statistics of a picture's coarse features (`xray_input_features`), fitted by
``scripts/fit_input_gate.py`` to some real radiographs, projections of CTs and phantoms, and
pictures that are none of these. Pure numpy: some milliseconds a picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.inference.xray_input_features import (
    FEATURES,
    picture_features,
    square_picture,
)
from napari_cxr3d.inference.xray_input_resampling import Box, FloatImage, turned

__all__ = [
    "KINDS",
    "LungBox",
    "Recognition",
    "Turn",
    "Usual",
    "best_turn",
    "recognise",
    "usual",
]

KINDS = ("frontal", "lateral", "facing-right", "ct", "other")
"""Upright with bone bright: from the front; from the side, facing the image's left or right;
then a CT slice, and all else."""
_CHESTS = KINDS[:3]
_FILE = "xray_input_recognition.npz"
_CHEST = 0.5  # chance from which a picture is taken for a chest
_TURN_CHANCE, _TURN_DOUBT = 0.95, 0.3  # how sure of a turned picture, how unsure of it as it is

LungBox = tuple[float, float, float, float]
"""Top, bottom, left and right end in pixels, where a pixel reaches from k to k + 1."""


@dataclass(frozen=True)
class Turn:
    """What would make a picture an upright one with bone bright; one of both."""

    inverted: bool = False
    rotation: int = 0

    @property
    def any(self) -> bool:
        """Whether there is something to correct."""
        return self.inverted or self.rotation != 0


@dataclass(frozen=True)
class Usual:
    """Patients' measures, of CTs and phantoms.

    Attributes
    ----------
    lung_size_mm : tuple of 3 float
        Mean height, depth and width of the lungs' box.
    lung_size_spread : tuple of 3 float
        Standard deviations of their logarithms, the error of reading them off a picture
        included.
    lung_offset_mm : tuple of 2 float
        Where the middle of the lungs' box lies from the centre of a model's grid, toward
        inferior and posterior.
    middle_sd_mm : tuple of 2 float
        How uncertain the centre of the grid is in a picture, down and across.
    """

    lung_size_mm: tuple[float, float, float]
    lung_size_spread: tuple[float, float, float]
    lung_offset_mm: tuple[float, float]
    middle_sd_mm: tuple[float, float]


@dataclass(frozen=True)
class Recognition:
    """What a picture seems to show.

    Attributes
    ----------
    chances : mapping of str to float
        Of each of `KINDS`; their sum is 1.
    content : tuple of 4 int
        The picture without borders, see `content_box`.
    lungs : tuple of 4 float or None
        Estimated box of the lungs, in pixels of the picture; beyond its edges where they are
        cut off. None where no chest is recognised.
    heart : float
        Logarithm of the odds that the heart lies on the image's right; of frontal chests.
    """

    chances: Mapping[str, float]
    content: Box
    lungs: LungBox | None
    heart: float

    @property
    def chest(self) -> float:
        """Chance of an upright chest with bone bright."""
        return sum(self.chances[kind] for kind in _CHESTS)

    @property
    def lateral(self) -> float:
        """Chance of a lateral, facing either way."""
        return self.chances["lateral"] + self.chances["facing-right"]

    @property
    def kind(self) -> str:
        """The most likely one of `KINDS`."""
        return max(KINDS, key=self.chances.__getitem__)


def recognise(pixels: npt.NDArray[Any]) -> Recognition:
    """Look at a picture.

    Parameters
    ----------
    pixels : ndarray, shape (rows, cols)
        Grey values or line integrals, as it would be read: upright, bone bright.
    """
    square, content = square_picture(pixels)
    features = picture_features(square)
    chances = _chances(features)
    flipped = picture_features(np.ascontiguousarray(square[:, ::-1]))
    heart = float(_weights()["heart"] @ (features - flipped))
    record = MappingProxyType(dict(zip(KINDS, chances.tolist(), strict=True)))
    lungs = None
    if chances[:3].sum() >= _CHEST:
        lungs = _lung_box(features, flipped, KINDS[int(np.argmax(chances[:3]))], content)
    return Recognition(record, content, lungs, heart)


def best_turn(pixels: npt.NDArray[Any]) -> tuple[Turn, float]:
    """The correction that makes a chest of a picture, and the chance that it is one.

    No correction where the picture may be a chest as it stands, or where none helps.

    Parameters
    ----------
    pixels : ndarray, shape (rows, cols)
        Grey values.
    """
    square, _ = square_picture(pixels)
    if not square.any():
        return Turn(), 0.0
    found: dict[Turn, float] = {}
    # Not both at once: that is rare, and makes chests of hands.
    for turn in (*(Turn(rotation=k) for k in (0, 90, 180, 270)), Turn(inverted=True)):
        picture = turned(1 - square if turn.inverted else square, turn.rotation, mirrored=False)
        chances = _chances(picture_features(np.ascontiguousarray(picture)))
        found[turn] = float(chances[:3].sum())
    best = max(found, key=found.__getitem__)
    if found[Turn()] > _TURN_DOUBT or found[best] < _TURN_CHANCE:
        return Turn(), found[Turn()]
    return best, found[best]


def usual() -> Usual:
    """Measures of patients that the fit found."""
    weights = _weights()
    values = [tuple(float(v) for v in weights[name]) for name in (
        "lung_size_mm", "lung_size_spread", "lung_offset_mm", "middle_sd_mm")]  # fmt: skip
    return Usual(*values)  # type: ignore[arg-type]


def _chances(features: FloatImage) -> npt.NDArray[np.float64]:
    weights = _weights()
    scores = (weights["kinds"] @ (features - weights["center"]) + weights["kinds_bias"]).astype(
        np.float64
    )
    odds = np.exp(scores - scores.max())
    return np.asarray(odds / odds.sum())


def _lung_box(features: FloatImage, flipped: FloatImage, kind: str, content: Box) -> LungBox:
    """Ridge regression on the features; a lateral that faces right is looked at mirrored."""
    weights = _weights()
    name = "frontal" if kind == "frontal" else "lateral"
    seen = flipped if kind == "facing-right" else features
    parts = weights[name] @ (seen - weights["center"]) + weights[f"{name}_bias"]
    top, bottom, left, right = (float(part) for part in parts)
    if kind == "facing-right":
        left, right = 1 - right, 1 - left
    first_row, end_row, first_col, end_col = content
    rows, cols = end_row - first_row, end_col - first_col
    return (
        first_row + top * rows,
        first_row + bottom * rows,
        first_col + left * cols,
        first_col + right * cols,
    )


@lru_cache(maxsize=1)
def _weights() -> Mapping[str, FloatImage]:
    """The fitted arrays, float32; stored with half the digits."""
    with (
        (files("napari_cxr3d.inference") / _FILE).open("rb") as file,
        np.load(file, allow_pickle=False) as stored,
    ):
        weights = {name: stored[name].astype(np.float32) for name in stored.files}
    assert weights["kinds"].shape == (len(KINDS), FEATURES)  # the fit belongs to these features
    return MappingProxyType(weights)
