"""What the gate looks at in a picture: coarse greys and the directions of its edges.

A picture is trimmed, brought to a square of 64 pixels whatever its proportions, and its
contrast to that of its bulk. Its features are the edges' strength in eight directions
in each of 8 x 8 cells, normalised to what is around (histograms of oriented gradients, Dalal and
Triggs, CVPR 2005, with signed directions, since bone is bright), and 16 x 16 coarse greys.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.inference.xray_input_resampling import (
    Box,
    FloatImage,
    area_mean,
    content_box,
    footprints,
)

__all__ = ["COARSE", "FEATURES", "SIDE", "picture_features", "square_picture"]

SIDE = 64  # pixels
_CELLS, _DIRECTIONS = 8, 8
_GREYS = 16
_BULK = (2.0, 98.0)  # percentiles that become 0 and 1
_EDGE_WEIGHT = 1.5  # of the edges beside the coarse greys

COARSE = _GREYS * _GREYS
"""The last features of a picture are its coarse greys; this many."""
FEATURES = _CELLS * _CELLS * _DIRECTIONS + COARSE
"""Length of a feature vector."""


def square_picture(pixels: npt.NDArray[Any]) -> tuple[FloatImage, Box]:
    """A picture's content as a square of `SIDE` pixels, its bulk from 0 to 1.

    Parameters
    ----------
    pixels : ndarray, shape (rows, cols)
        Grey values of any scale.

    Returns
    -------
    square : ndarray of float32, shape (SIDE, SIDE)
        The content; all 0 for a picture without contrast.
    box : tuple of 4 int
        The content within the picture, see `content_box`.
    """
    box = content_box(pixels)
    top, bottom, left, right = box
    inside = np.asarray(pixels[top:bottom, left:right], np.float32)
    rows, cols = inside.shape
    square, _ = area_mean(
        inside, footprints(rows, 0, rows / SIDE, SIDE), footprints(cols, 0, cols / SIDE, SIDE)
    )
    low, high = np.percentile(square, _BULK)
    if not high > low:
        return np.zeros((SIDE, SIDE), np.float32), box
    return np.asarray(np.clip((square - low) / (high - low), 0, 1), np.float32), box


def picture_features(square: FloatImage) -> FloatImage:
    """Edges' directions and coarse greys of a square picture, shape (`FEATURES`,).

    Parameters
    ----------
    square : ndarray of float32, shape (SIDE, SIDE)
        From `square_picture`.
    """
    down, along = np.gradient(square)
    angles = 2 * np.pi * np.arange(_DIRECTIONS) / _DIRECTIONS
    # Part of the gradient along each direction; what points away from it does not count.
    parts = np.cos(angles)[:, None, None] * along + np.sin(angles)[:, None, None] * down
    cell = SIDE // _CELLS
    strength = np.maximum(parts, 0).reshape(_DIRECTIONS, _CELLS, cell, _CELLS, cell)
    cells = strength.mean(axis=(2, 4))
    energy = np.sqrt((cells**2).sum(axis=0))
    around = np.pad(energy, 1, mode="edge")
    near = sum(
        around[r : r + _CELLS, c : c + _CELLS] for r in range(3) for c in range(3)
    ) / np.float32(9)
    edges = np.sqrt(cells / (near + 0.25 * energy.mean() + 1e-6))
    size = SIDE // _GREYS
    greys = square.reshape(_GREYS, size, _GREYS, size).mean(axis=(1, 3))
    greys = (greys - greys.mean()) / (greys.std() + 1e-6)
    return np.concatenate([_EDGE_WEIGHT * edges.ravel(), greys.ravel()]).astype(np.float32)
