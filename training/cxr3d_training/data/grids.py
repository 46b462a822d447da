"""Volumes of any extent on the one grid that a network wants, the patient in its middle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cxr3d_training.data.cohort import CohortCase
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Grid, Volume

__all__ = ["block_start", "centered_grid", "on_grid"]

_AIR_HU = -1000


def on_grid(
    case: CohortCase, shape: Sequence[int], spacing_mm: Sequence[float]
) -> tuple[Volume, dict[str, npt.NDArray[Any]]]:
    """A case cropped, and filled up with air, to a grid about its patient.

    The grid's centre is the middle of the body's box along P and L, and of the volume along I,
    where scans are cut; it lies at LPS (0, 0, 0).

    Parameters
    ----------
    case : CohortCase
        Of the grid's spacing.
    shape : sequence of 3 int
        Voxels along (I, P, L).
    spacing_mm : sequence of 3 float
        What the case's spacing must be, to a hundredth.

    Returns
    -------
    volume : Volume
        HU of the case's dtype.
    maps : dict of str to ndarray
        ``body`` and ``lungs`` on the same grid.

    Raises
    ------
    InvalidInputError
        If the case has another spacing.
    """
    if not np.allclose(case.spacing_mm, spacing_mm, rtol=0.01):
        raise InvalidInputError(
            "A case does not have the spacing that the model is trained at",
            why=f"{case.id} has {case.spacing_mm} mm, the model {tuple(spacing_mm)} mm",
            remedy="set data_options.spacing_mm, or prepare the dataset with that --spacing-mm",
        )
    start = block_start(case, shape)
    maps = {
        "body": _placed(np.asarray(case.body).astype(bool), start, shape, False),
        "lungs": _placed(np.asarray(case.lungs).astype(bool), start, shape, False),
    }
    return centered_grid(_placed(np.asarray(case.hu), start, shape, _AIR_HU), spacing_mm), maps


def block_start(case: CohortCase, shape: Sequence[int]) -> tuple[int, int, int]:
    """The voxel of a case that becomes the first one `on_grid`; it may lie outside."""
    body = np.asarray(case.body).astype(bool)
    middle = [(n - 1) / 2 for n in case.shape]
    for axis, others in ((1, (0, 2)), (2, (0, 1))):
        there = np.flatnonzero(body.any(axis=others))
        if len(there):
            middle[axis] = (there[0] + there[-1]) / 2
    i, p, ell = (round(m - (n - 1) / 2) for m, n in zip(middle, shape, strict=True))
    return i, p, ell


def centered_grid(hu: npt.NDArray[Any], spacing_mm: Sequence[float]) -> Volume:
    """A volume whose centre lies at LPS (0, 0, 0).

    Parameters
    ----------
    hu : ndarray, shape (I, P, L)
        Hounsfield units.
    spacing_mm : sequence of 3 float
        Along (I, P, L).
    """
    grid = Grid.centered(hu.shape, spacing_mm)
    return Volume(hu=hu, spacing_mm=grid.spacing_mm, origin_lps=grid.origin_lps)


def _placed(
    values: npt.NDArray[Any], start: Sequence[int], shape: Sequence[int], fill: Any
) -> npt.NDArray[Any]:
    """The block of `shape` voxels that begins at `start`, `fill` where there is nothing."""
    block = np.full(tuple(shape), fill, values.dtype)
    taken, put = [], []
    for first, n, size in zip(start, shape, values.shape, strict=True):
        low, high = max(first, 0), min(first + n, size)
        taken.append(slice(low, max(low, high)))
        put.append(slice(low - first, max(low, high) - first))
    block[tuple(put)] = values[tuple(taken)]
    return block
