"""How well a volume agrees with X-rays: at the poses it was made from, and at others."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.metrics.image_quality import Metric

__all__ = ["explained_projection", "reprojection_error"]

Images = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


def reprojection_error(projected: Images, measured: Images, *, mask: Mask | None = None) -> Metric:
    """Relative error of a volume's line integrals: ``|A v - b| / |b|``.

    At the input's poses it tells whether the volume agrees with what it was made from, which
    any number of wrong volumes do; at held-out poses it tells something of the volume.

    Parameters
    ----------
    projected, measured : ndarray, shape (V, rows, cols)
        Line integrals of the volume, and of the truth.
    mask : ndarray of bool, shape (V, rows, cols), optional
        Rays that count; all if None.

    Returns
    -------
    Metric
        0 for perfect agreement.

    Raises
    ------
    InvalidInputError
        If the shapes differ, values are not finite, or no ray counts.
    """
    a, b = _rays(projected, measured, mask)
    power = math.sqrt(float(b @ b))
    if power == 0:
        raise InvalidInputError(
            "A relative error needs X-rays that went through something",
            why="all line integrals that count are 0",
        )
    difference = a - b
    return Metric(
        "reprojection_error",
        math.sqrt(float(difference @ difference)) / power,
        f"|A v - b| / |b| of line integrals, {_counted(mask)}",
        higher_is_better=False,
    )


def explained_projection(
    projected: Images, measured: Images, *, mask: Mask | None = None
) -> Metric:
    """Part of the pictures' variance that a volume explains: ``1 - |A v - b|^2 / |b - mean b|^2``.

    The means are taken view by view, so that 0 is no better than flat pictures.

    Parameters
    ----------
    projected, measured, mask
        As for `reprojection_error`.

    Returns
    -------
    Metric
        At most 1; below 0 where a flat picture would agree better.

    Raises
    ------
    InvalidInputError
        As `reprojection_error`, or if every view is flat.
    """
    a, b = _rays(projected, measured, mask)
    shape = np.shape(measured)
    counted = np.ones(shape, bool) if mask is None else np.asarray(mask)
    views = np.broadcast_to(np.arange(shape[0])[:, None, None], shape)[counted]
    rays = np.maximum(np.bincount(views, minlength=shape[0]), 1)
    centered = b - (np.bincount(views, b, minlength=shape[0]) / rays)[views]
    spread, difference = float(centered @ centered), a - b
    if spread == 0:
        raise InvalidInputError("The pictures are flat", why="nothing in them can be explained")
    return Metric(
        "explained_projection",
        1.0 - float(difference @ difference) / spread,
        f"1 - |A v - b|^2 / |b - mean b|^2 of line integrals, means by view, {_counted(mask)}",
    )


def _rays(
    projected: Images, measured: Images, mask: Mask | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    a, b = np.asarray(projected), np.asarray(measured)
    if a.ndim != 3 or a.shape != b.shape or not a.size:
        raise InvalidInputError(
            "Line integrals of the same views are compared",
            why=f"they have the shapes {a.shape} and {b.shape}",
        )
    if mask is not None and (mask.shape != a.shape or mask.dtype != bool or not mask.any()):
        raise InvalidInputError(
            "The mask cannot be used",
            why=f"it is {mask.dtype} with shape {mask.shape}, or empty",
            remedy="give a mask of the images' shape with rays in it",
        )
    a, b = (v.ravel() if mask is None else v[mask] for v in (a, b))
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InvalidInputError("Line integrals hold values that are not numbers")
    return a.astype(np.float64), b.astype(np.float64)


def _counted(mask: Mask | None) -> str:
    return "all rays" if mask is None else "rays of the mask"
