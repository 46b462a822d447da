"""Volumes on another spacing: smoothed first where they get coarser, geometry exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import GeometryError
from napari_cxr3d.imaging import Grid

__all__ = ["resample", "resampled_grid"]

_CHUNK = 1 << 22  # voxels filtered at a time: temporaries stay near 32 MB
_SAME = 1e-3  # relative difference of spacings that are taken to be one
_REACH = 4.0  # standard deviations at which the smoothing kernel ends
_FWHM = 2.0 * np.sqrt(2.0 * np.log(2.0))  # of a Gaussian, in standard deviations


def resampled_grid(grid: Grid, spacing_mm: tuple[float, float, float]) -> Grid:
    """The grid with another spacing about the same centre, of the size nearest to the old one.

    An axis that has the spacing already keeps its samples.

    Raises
    ------
    GeometryError
        If the spacing is not three positive numbers of mm.
    """
    if len(spacing_mm) != 3 or not all(np.isfinite(s) and s > 0 for s in spacing_mm):
        raise GeometryError(
            "The spacing must be three positive numbers of mm", why=f"it is {spacing_mm}"
        )
    same = [
        abs(new / old - 1) < _SAME for new, old in zip(spacing_mm, grid.spacing_mm, strict=True)
    ]
    spacing = np.where(same, grid.spacing_mm, spacing_mm)
    counts = np.maximum(1, np.rint(np.array(grid.size_mm) / spacing)).astype(int)
    shape = np.where(same, grid.shape, counts)
    half = (shape - 1) / 2 * spacing  # along (I, P, L); LPS is (L, P, -I)
    x, y, z = grid.center_lps
    origin = (float(x - half[2]), float(y - half[1]), float(z + half[0]))
    if all(same):
        origin = grid.origin_lps
    i, p, ell = (int(n) for n in shape)
    si, sp, sl = (float(s) for s in spacing)
    return Grid((i, p, ell), (si, sp, sl), origin)


def resample(values: npt.NDArray[Any], grid: Grid, target: Grid) -> npt.NDArray[np.float32]:
    """Values of a volume on another grid, by linear interpolation.

    Along an axis that gets coarser by a factor r, the volume is first smoothed by a Gaussian of
    ``sqrt(r**2 - 1) / 2.355`` source voxels, so that a source voxel's point spread of one voxel
    (full width at half maximum) becomes one of r (Cardoso et al., MICCAI 2015, "Scale factor
    point spread function matching"). Beyond the edge the nearest voxel is repeated.

    Parameters
    ----------
    values : ndarray, shape (I, P, L)
        Any real dtype.
    grid : Grid
        Where they lie.
    target : Grid
        Where they are wanted.

    Returns
    -------
    ndarray of float32, the shape of `target`
        The very values, where both grids are the same.
    """
    if target == grid:
        return np.asarray(values, np.float32)
    starts = grid.lps_to_index(target.origin_lps)
    ends = grid.lps_to_index(target.index_to_lps(np.array(target.shape) - 1.0))
    order = np.argsort(np.array(target.shape) / np.array(grid.shape))  # shrink first what shrinks
    result: npt.NDArray[Any] = values
    for axis in order.tolist():
        places = np.linspace(starts[axis], ends[axis], target.shape[axis])
        ratio = target.spacing_mm[axis] / grid.spacing_mm[axis]
        result = _along(result, axis, _weights(places, grid.shape[axis], ratio))
    return np.ascontiguousarray(result, dtype=np.float32)


def _weights(places: npt.NDArray[np.float64], count: int, ratio: float) -> Any:
    """Sparse matrix from the samples of an axis to its values at `places` (sample numbers)."""
    from scipy.sparse import csr_matrix

    sigma = np.sqrt(max(0.0, ratio**2 - 1.0)) / _FWHM
    low = np.floor(places).astype(int)
    share = places - low
    reach = int(np.ceil(_REACH * sigma))
    offsets = np.arange(-reach, reach + 2)
    # Linear interpolation of the smoothed samples: the two kernels about `low` and `low + 1`.
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2) if sigma > 0 else (offsets == 0).astype(float)
    kernel[np.abs(offsets) > reach] = 0.0
    kernel /= kernel.sum()
    shifted = np.concatenate([[0.0], kernel[:-1]])
    weights = (1.0 - share)[:, None] * kernel + share[:, None] * shifted
    columns = np.clip(low[:, None] + offsets, 0, count - 1)
    rows = np.broadcast_to(np.arange(len(places))[:, None], columns.shape)
    matrix = csr_matrix(
        (weights.astype(np.float32).ravel(), (rows.ravel(), columns.ravel())),
        shape=(len(places), count),
    )
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def _along(values: npt.NDArray[Any], axis: int, weights: Any) -> npt.NDArray[np.float32]:
    """The weights applied along one axis, a slab of another axis at a time."""
    n_out = weights.shape[0]
    other = 1 if axis == 0 else 0
    shape = list(values.shape)
    shape[axis] = n_out
    out = np.empty(shape, np.float32)
    step = max(1, _CHUNK * values.shape[other] // max(1, values.size))
    for start in range(0, values.shape[other], step):
        slab: list[slice] = [slice(None)] * 3
        slab[other] = slice(start, start + step)
        part = np.moveaxis(values[tuple(slab)], axis, 0)
        flat = np.ascontiguousarray(part, dtype=np.float32).reshape(part.shape[0], -1)
        out[tuple(slab)] = np.moveaxis((weights @ flat).reshape(n_out, *part.shape[1:]), 0, axis)
    return out
