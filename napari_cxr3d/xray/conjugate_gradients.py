"""From line integrals back to attenuation, by least squares on the projector and its adjoint.

`conjugate_gradients` is the solver: damped, weighted, and drawn to where a prior expects the
changes. `reconstruct_cg` and `reconstruct_backprojection` make a volume from views alone,
without any knowledge of anatomy; with one or two views they are what a network has to beat.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Grid, XrayView
from napari_cxr3d.progress import CancelToken, Progress, ProgressCallback, part_of
from napari_cxr3d.xray.projector import Projector

__all__ = [
    "Solution",
    "conjugate_gradients",
    "reconstruct_backprojection",
    "reconstruct_cg",
]

FloatArray = npt.NDArray[np.float32]
Operator = Callable[[FloatArray], FloatArray]

_ROUNDS = 4  # of solving and clipping, in `reconstruct_cg`
_GRAZING = 0.05  # of the longest path through the volume: shorter ones say little of a voxel


class Solution(NamedTuple):
    """What `conjugate_gradients` found.

    Attributes
    ----------
    x : ndarray of float32
        The solution.
    residuals : tuple of float
        Norms of ``W (A x - b)`` before the first and after every iteration.
    """

    x: FloatArray
    residuals: tuple[float, ...]

    @property
    def iterations(self) -> int:
        """How many iterations were made."""
        return len(self.residuals) - 1


def conjugate_gradients(
    project: Operator,
    backproject: Operator,
    b: FloatArray,
    *,
    x0: FloatArray,
    weights: FloatArray | None = None,
    scale: FloatArray | None = None,
    damping: float = 0.0,
    iterations: int = 10,
    tolerance: float = 0.0,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Solution:
    """Minimise ``|W (A x - b)|^2 + damping |(x - x0) / scale|^2``.

    CGLS (Hestenes and Stiefel, J. Res. Nat. Bur. Stand. 49, 409-436, 1952, section 10; Bjorck,
    Numerical Methods for Least Squares Problems, 1996, algorithm 7.4.1) in ``(x - x0) / scale``.
    `scale` is the standard deviation that a prior gives every element: also without damping the
    first iterations change most what it holds for most uncertain, and never where it is 0.

    Parameters
    ----------
    project, backproject : callable
        A, and its exact adjoint.
    b : ndarray of float32
        What ``A x`` should be.
    x0 : ndarray of float32
        Where to start, and what to stay near.
    weights : ndarray of float32, the shape of `b`, optional
        W; 1 if None.
    scale : ndarray of float32, the shape of `x0`, optional
        1 if None.
    damping : float
        0 or more, in units of the squared residual.
    iterations : int
        At most; each costs one projection and one backprojection.
    tolerance : float
        Stop where the norm of the residual has fallen to this much, in the middle of a step if
        need be: by the discrepancy principle that is the norm of what b may be wrong by.
    progress : callable, optional
        Told after every iteration.
    cancel : CancelToken, optional
        Looked at before every iteration.

    Raises
    ------
    InvalidInputError
        If the damping or the iterations are negative.
    Cancelled
        If the token was cancelled.
    """
    if damping < 0 or iterations < 0:
        raise InvalidInputError(
            "The damping and the iterations of a solver must be 0 or more",
            why=f"they are {damping:g} and {iterations}",
        )
    w: FloatArray | float = 1.0 if weights is None else np.asarray(weights, np.float32)
    s: FloatArray | float = 1.0 if scale is None else np.asarray(scale, np.float32)
    residual = np.asarray(w * (b - project(x0) if x0.any() else b), np.float32)
    residuals = [_norm(residual)]
    change = np.zeros_like(x0, dtype=np.float32)
    gradient = np.asarray(s * backproject(w * residual), np.float32)
    direction, squared = gradient, _norm(gradient) ** 2
    for k in range(iterations):
        if residuals[-1] <= tolerance or squared == 0:
            break
        if cancel is not None:
            cancel.raise_if_cancelled()
        image = np.asarray(w * project(s * direction), np.float32)
        step = squared / (_norm(image) ** 2 + damping * _norm(direction) ** 2)
        step = _cut_short(step, residual, image, tolerance)
        change = change + np.float32(step) * direction
        residual = residual - np.float32(step) * image
        residuals.append(_norm(residual))
        gradient = s * backproject(w * residual) - np.float32(damping) * change
        previous, squared = squared, _norm(gradient) ** 2
        direction = gradient + np.float32(squared / previous) * direction
        if progress is not None:
            progress(Progress(k + 1, iterations, f"iteration {k + 1} of {iterations}"))
    return Solution(np.asarray(x0 + s * change, np.float32), tuple(residuals))


def reconstruct_backprojection(
    integrals: FloatArray, views: Sequence[XrayView], grid: Grid, engine: Projector
) -> FloatArray:
    """Every voxel the mean of its rays, scaled to the least squared error of re-projection.

    Parameters
    ----------
    integrals : ndarray of float32, shape (views, rows, cols)
        Line integrals, dimensionless.
    views : sequence of XrayView
        With one detector shape.
    grid : Grid
        Of the result.
    engine : Projector
        The linear operator and its adjoint.

    Returns
    -------
    ndarray of float32, shape (I, P, L)
        Attenuation in 1/mm.
    """
    lengths = _path_lengths(views, grid, engine)
    through = lengths > _GRAZING * lengths.max()
    means = np.where(through, integrals / np.where(through, lengths, 1), 0).astype(np.float32)
    seen = engine.backproject(through.astype(np.float32), views, grid)
    volume = engine.backproject(means, views, grid)
    volume = np.where(seen > _GRAZING * seen.max(), volume / np.maximum(seen, 1e-6), 0)
    volume = volume.astype(np.float32)
    image = engine.project_attenuation(volume, grid, views)
    return np.asarray(volume * np.float32(_ratio(image, integrals)), np.float32)


def reconstruct_cg(
    integrals: FloatArray,
    views: Sequence[XrayView],
    grid: Grid,
    engine: Projector,
    *,
    weights: FloatArray | None = None,
    iterations: int = 10,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> FloatArray:
    """The smallest volume without negative attenuation that shows these views.

    From zero, by least squares in a few rounds: after each, what fell below 0 is set to 0 and
    stays so where the next round would push it down again.

    Parameters
    ----------
    integrals : ndarray of float32, shape (views, rows, cols)
        Line integrals, dimensionless.
    views : sequence of XrayView
        With one detector shape.
    grid : Grid
        Of the result.
    engine : Projector
        The linear operator and its adjoint.
    weights : ndarray of float32, shape (views, rows, cols), optional
        How much every ray counts; 0 for those that are not known.
    iterations : int
        Of conjugate gradients, in all rounds together.
    progress, cancel : optional
        As for `conjugate_gradients`.

    Returns
    -------
    ndarray of float32, shape (I, P, L)
        Attenuation in 1/mm.

    Raises
    ------
    Cancelled
        If the token was cancelled.
    """

    def project(x: FloatArray) -> FloatArray:
        return engine.project_attenuation(x, grid, views)

    def backproject(y: FloatArray) -> FloatArray:
        return engine.backproject(y, views, grid)

    w: FloatArray | float = 1.0 if weights is None else weights
    x = np.zeros(grid.shape, np.float32)
    rounds = min(_ROUNDS, max(iterations, 1))
    for k in range(rounds):
        uphill = backproject(np.asarray(w * w * (integrals - project(x)), np.float32)) > 0
        free = (x > 0) | uphill
        x = conjugate_gradients(
            project,
            backproject,
            integrals,
            x0=x,
            weights=weights,
            scale=free.astype(np.float32),
            iterations=math.ceil(iterations * (k + 1) / rounds)
            - math.ceil(iterations * k / rounds),
            progress=part_of(progress, k / rounds, (k + 1) / rounds),
            cancel=cancel,
        ).x
        x = np.maximum(x, 0)
    return x


def _cut_short(step: float, residual: FloatArray, image: FloatArray, tolerance: float) -> float:
    """The part of a step after which ``|residual - step * image|`` meets the tolerance."""
    along, power = _dot(residual, image), _dot(image, image)
    excess = _dot(residual, residual) - tolerance**2
    if tolerance <= 0 or excess - 2 * step * along + step**2 * power >= 0:
        return step
    return (along - math.sqrt(max(along**2 - power * excess, 0.0))) / power


def _path_lengths(views: Sequence[XrayView], grid: Grid, engine: Projector) -> FloatArray:
    """How many mm of every ray lie in the volume, shape (views, rows, cols)."""
    return engine.project_attenuation(np.ones(grid.shape, np.float32), grid, views)


def _ratio(image: FloatArray, integrals: FloatArray) -> float:
    """The factor of `image` that comes nearest to `integrals`."""
    power = _dot(image, image)
    return _dot(image, integrals) / power if power > 0 else 0.0


def _norm(array: FloatArray) -> float:
    return math.sqrt(_dot(array, array))


def _dot(a: FloatArray, b: FloatArray) -> float:
    """Sum of products in double precision."""
    return float(a.ravel().astype(np.float64) @ b.ravel().astype(np.float64))
