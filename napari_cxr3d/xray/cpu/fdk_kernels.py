"""The backprojection of filtered pictures: voxel by voxel, as FDK weighs it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from napari_cxr3d.xray.cpu._jit import kernel

__all__ = ["fdk_backproject"]


@kernel
def fdk_backproject(
    volume: Any,
    images: Any,
    angles: Any,
    camera: Any,
    first: Any,
    step: Any,
    start: int,
    stop: int,
) -> None:
    """Add ``(R / U)^2`` times each picture's value at a voxel's image, U its depth.

    Parameters
    ----------
    volume : ndarray of float32, shape (P, L, I)
        Added to in the rows `start` to `stop` of its first axis: I runs fastest, since a line of
        voxels along it lies in one column of every picture.
    images : ndarray of float32, shape (views, cols, rows)
        Filtered and weighted pictures, a column at a stretch.
    angles : ndarray of float64, shape (views, 2)
        Cosine and sine of each yaw.
    camera : ndarray of float64, shape (3,)
        Source to isocenter R and source to detector in mm, pixel pitch in mm.
    first, step : ndarray of float64, shape (3,)
        x, y, z of voxel (0, 0, 0) from the isocenter, and from voxel to voxel, along (L, P, I):
        LPS mm.
    start, stop : int
        Rows along P.
    """
    views, cols, rows = images.shape
    height, width = volume.shape[2], volume.shape[1]
    near, far, pitch = camera[0], camera[1], camera[2]
    middle_row, middle_col = 0.5 * (rows - 1), 0.5 * (cols - 1)
    line = np.empty(rows, np.float32)
    for k in range(views):
        cosine, sine = angles[k, 0], angles[k, 1]
        for p in range(start, stop):
            y = first[1] + p * step[1]
            for n in range(width):
                x = first[0] + n * step[0]
                depth = near + x * sine - y * cosine
                if depth <= 0.0:
                    continue
                scale = far / (depth * pitch)
                col = (x * cosine + y * sine) * scale + middle_col
                if col < 0.0 or col > cols - 1:
                    continue
                left = min(int(col), cols - 2)
                weight = (near / depth) * (near / depth)
                of_right = np.float32(weight * (col - left))
                of_left = np.float32(weight * (left + 1 - col))
                for r in range(rows):
                    line[r] = of_left * images[k, left, r] + of_right * images[k, left + 1, r]
                top = middle_row - first[2] * scale
                slope = -step[2] * scale
                begin = max(0, int(math.ceil(-top / slope)))
                end = min(height, int(math.floor((rows - 1 - top) / slope)) + 1)
                top_, slope_ = np.float32(top), np.float32(slope)
                for i in range(begin, end):
                    row = top_ + np.float32(np.int32(i)) * slope_
                    upper = min(max(np.int32(row), np.int32(0)), np.int32(rows - 2))
                    part = row - np.float32(upper)
                    above = line[np.uintp(upper)]
                    volume[p, n, i] += above + part * (line[np.uintp(upper + 1)] - above)
