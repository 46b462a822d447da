"""Pictures on another raster of pixels: means over footprints, borders, quarter turns."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Box", "area_mean", "content_box", "footprints", "letters", "turned"]

FloatImage = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Box = tuple[int, int, int, int]
"""First row, row after the last, first column, column after the last."""

_BORDER_TOLERANCE = 0.03  # of the picture's range: what JPEG leaves of a black border
_BORDER_PART = 0.97  # of a line that must be black, or white
_CAPTION_PART = 0.8  # of a line with a caption on it
_LEAST_CONTENT = 0.3  # of a side; less is no border but a picture with much black
_SAMPLES = 400  # lines and pixels of a line that are looked at
_LETTER_SIDE = 384  # longest side in pixels at which letters are looked for
_LETTER_BRIGHT, _LETTER_STEP = 0.8, 0.25  # of the range: how bright, how far above what is around
_LETTER_SHARP = 0.3  # of the range from one pixel to the next but one: bone is softer
_LETTER_SIZE = 0.09  # of the longest side: a larger bright thing is anatomy or metal
_LETTER_EDGE = 0.2  # of a side: letters stand near the edges
_LETTER_MARGIN = 0.008


def footprints(size: int, low: float, step: float, count: int) -> FloatImage:
    """Overlap of output pixels with input pixels along one axis.

    Parameters
    ----------
    size : int
        Input pixels; pixel k reaches from k to k + 1.
    low : float
        Where the first output pixel begins, in input pixels.
    step : float
        Width of an output pixel, in input pixels.
    count : int
        Output pixels.

    Returns
    -------
    ndarray of float32, shape (count, size)
        Part of each output pixel (rows) that each input pixel (columns) covers; a row sums
        to 1 where the input covers all of it.
    """
    edges = low + step * np.arange(count + 1)
    starts, ends = edges[:-1, None], edges[1:, None]
    pixels = np.arange(size)[None]
    overlap = np.minimum(ends, pixels + 1) - np.maximum(starts, pixels)
    return np.asarray(np.clip(overlap, 0, None) / step, np.float32)


def area_mean(
    image: npt.NDArray[Any], rows: FloatImage, cols: FloatImage, valid: Mask | None = None
) -> tuple[FloatImage, FloatImage]:
    """Mean of an image over the footprints of output pixels.

    Parameters
    ----------
    image : ndarray, shape (R, C)
        Values.
    rows, cols : ndarray of float32, shape (r, R) and (c, C)
        From `footprints`.
    valid : ndarray of bool, shape (R, C), optional
        Input pixels that count.

    Returns
    -------
    mean : ndarray of float32, shape (r, c)
        0 where nothing counts.
    covered : ndarray of float32, shape (r, c)
        Part of each output pixel that counted input pixels cover.
    """
    values = np.asarray(image, np.float32)
    if valid is None:
        total = rows @ values @ cols.T
        covered = np.outer(rows.sum(axis=1), cols.sum(axis=1))
    else:
        weight = valid.astype(np.float32)
        total = rows @ (values * weight) @ cols.T
        covered = rows @ weight @ cols.T
    mean = np.divide(total, covered, out=np.zeros_like(total), where=covered > 1e-6)
    return np.asarray(mean, np.float32), np.asarray(covered, np.float32)


def turned(image: npt.NDArray[Any], rotation: int, *, mirrored: bool) -> npt.NDArray[Any]:
    """A picture turned clockwise by quarter turns, then mirrored left to right.

    Parameters
    ----------
    image : ndarray, shape (rows, cols)
        The picture.
    rotation : {0, 90, 180, 270}
        Degrees, clockwise as the reader sees it.
    mirrored : bool
        Whether to mirror after the turn.
    """
    image = np.rot90(image, k=-(rotation // 90))
    return image[:, ::-1] if mirrored else image


def content_box(pixels: npt.NDArray[Any]) -> Box:
    """The picture without black and white borders.

    A line at the edge belongs to a border if nearly all its pixels lie at one end of the
    picture's range; a caption on a border, with the border on both sides of it, belongs to it.

    Parameters
    ----------
    pixels : ndarray, shape (rows, cols)
        Grey values.
    """
    rows, cols = pixels.shape
    low, high = float(pixels.min()), float(pixels.max())
    tolerance = _BORDER_TOLERANCE * (high - low)
    if tolerance <= 0:
        return (0, rows, 0, cols)
    box = [0, rows, 0, cols]
    for _ in range(2):  # a border around a border: a white frame about a padded picture
        for axis in (0, 1):
            first, end = box[2 - 2 * axis : 4 - 2 * axis]
            across = slice(first, end, max(1, (end - first) // _SAMPLES))
            lines = pixels[:, across] if axis == 0 else pixels[across].T
            dark = (lines <= low + tolerance).mean(axis=1)
            light = (lines >= high - tolerance).mean(axis=1)
            plain = np.maximum(dark, light)
            box[2 * axis : 2 * axis + 2] = _inside(plain, box[2 * axis], box[2 * axis + 1])
    return (box[0], box[1], box[2], box[3])


def _inside(plain: npt.NDArray[np.float64], first: int, end: int) -> tuple[int, int]:
    """The range without the lines of borders at its ends; itself if too little would be left.

    Parameters
    ----------
    plain : ndarray, shape (lines,)
        Part of each line of the picture that lies at one end of its range.
    first, end : int
        The range.
    """
    within = plain[first:end]
    uniform = within >= _BORDER_PART
    there, full = np.flatnonzero(~uniform), np.flatnonzero(within < _CAPTION_PART)
    if len(there) == 0 or len(full) == 0:
        return first, end
    low, high = int(there[0]), int(there[-1]) + 1
    # Lines with little on them that a uniform line parts from the rest are a caption.
    before, behind = (
        np.flatnonzero(uniform[low : full[0]]),
        np.flatnonzero(uniform[full[-1] : high]),
    )
    low = low + int(before[-1]) + 1 if len(before) else low
    high = int(full[-1]) + int(behind[0]) if len(behind) else high
    if high - low < _LEAST_CONTENT * len(within):
        return first, end
    return first + low, first + high


def letters(greys: FloatImage) -> Mask:
    """Burnt-in letters and lead markers near the edges of a picture.

    Small bright things with sharp edges that stand out from what is around them (a white top-hat
    by a square larger than a letter).

    Parameters
    ----------
    greys : ndarray of float32, shape (rows, cols)
        0 to 1, bone bright, without borders.

    Returns
    -------
    ndarray of bool, shape (rows, cols)
        True on them and a little around.
    """
    from scipy import ndimage

    rows, cols = greys.shape
    step = max(1.0, max(rows, cols) / _LETTER_SIDE)
    r, c = max(1, round(rows / step)), max(1, round(cols / step))
    small, _ = area_mean(greys, footprints(rows, 0, rows / r, r), footprints(cols, 0, cols / c, c))
    side = max(3, round(_LETTER_SIZE * max(r, c)))
    low, high = float(small.min()), float(small.max())
    relative = (small - low) / max(high - low, 1e-6)
    hat = relative - ndimage.grey_opening(relative, size=(side, side))
    bright = (relative > _LETTER_BRIGHT) & (hat > _LETTER_STEP)
    edge = ndimage.maximum_filter(relative, 3) - ndimage.minimum_filter(relative, 3)
    labels, count = ndimage.label(bright, np.ones((3, 3)))
    found = np.zeros((r, c), bool)
    for index, where in enumerate(ndimage.find_objects(labels), start=1):
        height, width = (part.stop - part.start for part in where)
        middle = [(part.start + part.stop) / 2 / n for part, n in zip(where, (r, c), strict=True)]
        near_edge = min(*middle, 1 - middle[0], 1 - middle[1]) < _LETTER_EDGE
        own = labels[where] == index
        sharp = float(np.median(edge[where][own & ~ndimage.binary_erosion(own)])) > _LETTER_SHARP
        if max(height, width) <= side and near_edge and sharp:
            found[where] |= own
    if count and found.any():
        reach = max(1, round(_LETTER_MARGIN * max(r, c)))
        found = ndimage.binary_dilation(found, iterations=reach)
    at = [np.minimum((np.arange(n) + 0.5) * m / n, m - 1).astype(np.intp)
          for n, m in ((rows, r), (cols, c))]  # fmt: skip
    return np.asarray(found[np.ix_(*at)])
