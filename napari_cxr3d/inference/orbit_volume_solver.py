"""From the views of an orbit to a volume: the arithmetic of predicted and of true views."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from napari_cxr3d.imaging import Grid, Volume, XrayView
from napari_cxr3d.inference.consistency_comparison import likely_change
from napari_cxr3d.inference.consistency_rays import calibrate, rays_through
from napari_cxr3d.progress import CancelToken
from napari_cxr3d.xray.attenuation import attenuation_to_hu, hu_to_attenuation, water_attenuation
from napari_cxr3d.xray.conjugate_gradients import conjugate_gradients
from napari_cxr3d.xray.projector import Projector

__all__ = ["LIMITS_HU", "Rays", "gain_of", "given_rays", "on_grid", "rays_of_orbit", "solve"]

FloatArray = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

LIMITS_HU = (-1000.0, 1500.0)

_GIVEN_EXACT = 4.0  # weight of a ray that was measured, beside 1 of one that was predicted
_GIVEN_PICTURE = 1.0  # and of one whose integral was read from a grey
_LEAST_CONFIDENCE = 0.05
_GAINS = (0.7, 1.4)
_AIR = 0.2  # line integral below which a ray has missed the body: 10 mm of water
_ROUNDS = 4


@dataclass(frozen=True, eq=False)
class Rays:
    """Rows of one operator: line integrals, where they lie, and how much they count.

    Attributes
    ----------
    views : tuple of XrayView
        With one detector shape.
    integrals, weights : ndarray of float32, shape (V, rows, cols)
        Dimensionless.
    """

    views: tuple[XrayView, ...]
    integrals: FloatArray
    weights: FloatArray

    def with_others(self, other: Rays | None) -> Rays:
        """These and others."""
        if other is None:
            return self
        return Rays(
            (*self.views, *other.views),
            np.concatenate([self.integrals, other.integrals]),
            np.concatenate([self.weights, other.weights]),
        )


def rays_of_orbit(
    views: tuple[XrayView, ...],
    integrals: FloatArray,
    grid: Grid,
    confidence: FloatArray,
    *,
    beyond: Literal["air", "body"] = "air",
) -> Rays:
    """The rays of an orbit that meet the grid, weighted by the root of their view's confidence.

    Parameters
    ----------
    views : tuple of XrayView
        Where from.
    integrals : ndarray of float32, shape (K, rows, cols)
        Line integrals.
    grid : Grid
        Of the volume.
    confidence : ndarray of float32, shape (K,)
        0 to 1; a view whose confidence is not known counts in full.
    beyond : {"air", "body"}
        What lies above and below the grid; air for predicted views, since world models are
        trained on volumes that end there.
    """
    trusted = np.sqrt(np.clip(np.nan_to_num(confidence, nan=1.0), _LEAST_CONFIDENCE, 1.0))
    meets = np.stack([rays_through(view, grid, beyond=beyond) for view in views])
    weights = (meets * trusted[:, None, None]).astype(np.float32)
    return Rays(views, integrals, weights)


def given_rays(
    view: XrayView,
    integrals: FloatArray,
    valid: Mask,
    grid: Grid,
    *,
    exact: bool,
    rendered: FloatArray | None,
) -> tuple[Rays | None, str]:
    """The rays of the X-ray that was given, and what became of them in one sentence.

    Parameters
    ----------
    view : XrayView
        Where it was taken.
    integrals : ndarray of float32, shape (rows, cols)
        Its line integrals; those read from greys are brought to the scale of `rendered`.
    valid : ndarray of bool, shape (rows, cols)
        Where the picture reaches.
    grid : Grid
        Of the volume.
    exact : bool
        Whether they are on their true scale.
    rendered : ndarray of float32, shape (rows, cols), or None
        The model's own view from there.
    """
    counted = valid & rays_through(view, grid, beyond="air" if exact else "body")
    weight = _GIVEN_EXACT if exact else _GIVEN_PICTURE
    if not exact:
        if rendered is None:
            return None, (
                "The given X-ray itself was left out: its scale is read off the predicted view "
                "from the same place, which was not asked for."
            )
        integrals, scale = calibrate(integrals, rendered, counted & (rendered > _AIR))
        if not scale.used:
            return None, f"The given X-ray itself was left out: {scale.note}."
    rows = Rays((view,), integrals[None], (weight * counted[None]).astype(np.float32))
    return rows, f"Each ray of the given X-ray counts {weight:g} times one of a predicted view."


def gain_of(rendered: FloatArray, measured: FloatArray, counted: Mask) -> float:
    """What predicted line integrals are multiplied with so that the given view has its own scale.

    The least squared error over the rays that count, within 0.7 and 1.4: a model sees a picture
    without its scale, and draws a patient of usual thickness.
    """
    a, b = (v[counted].astype(np.float64) for v in (rendered, measured))
    power = float(a @ a)
    return float(np.clip(a @ b / power, *_GAINS)) if power > 0 else 1.0


def solve(
    rays: Rays,
    grid: Grid,
    engine: Projector,
    *,
    start: Volume | None = None,
    iterations: int = 16,
    cancel: CancelToken | None = None,
) -> Iterator[FloatArray]:
    """Volumes that show these views better and better, in HU: one after every round.

    Weighted least squares in rounds of conjugate gradients, clipped to `LIMITS_HU` after each;
    what lies at a limit and would be pushed beyond stays. From air, or from a volume that is
    changed most where it may be wrong most.

    Parameters
    ----------
    rays : Rays
        What to agree with.
    grid : Grid
        Of the volume.
    engine : Projector
        The operator.
    start : Volume, optional
        On the grid.
    iterations : int
        Of conjugate gradients, in all rounds together.
    cancel : CancelToken, optional
        Looked at before every iteration.

    Raises
    ------
    Cancelled
        If the token was cancelled.
    """
    low, high = hu_to_attenuation(np.array(LIMITS_HU, np.float32), engine.energy_kev)
    x = np.zeros(grid.shape, np.float32)
    prior = np.ones(grid.shape, np.float32)
    if start is not None:
        x = np.clip(hu_to_attenuation(np.float32(start.hu), engine.energy_kev), low, high)
        prior = likely_change(x / np.float32(water_attenuation(engine.energy_kev)))

    def project(volume: FloatArray) -> FloatArray:
        return engine.project_attenuation(volume, grid, rays.views, cancel=cancel)

    def backproject(images: FloatArray) -> FloatArray:
        return engine.backproject(images, rays.views, grid, cancel=cancel)

    rounds = max(1, min(_ROUNDS, iterations))
    for k in range(rounds):
        residual = rays.integrals - project(x) if x.any() else rays.integrals
        uphill = backproject(np.asarray(rays.weights**2 * residual, np.float32))
        held = ((x <= low) & (uphill < 0)) | ((x >= high) & (uphill > 0))
        steps = math.ceil(iterations * (k + 1) / rounds) - math.ceil(iterations * k / rounds)
        solution = conjugate_gradients(
            project,
            backproject,
            np.asarray(residual, np.float32),
            x0=np.zeros_like(x),
            weights=rays.weights,
            scale=np.where(held, np.float32(0), prior),
            iterations=steps,
            cancel=cancel,
        )
        x = np.clip(x + solution.x, low, high).astype(np.float32)
        yield attenuation_to_hu(x, engine.energy_kev)


def on_grid(volume: Volume, grid: Grid, center_lps: tuple[float, float, float]) -> FloatArray:
    """A CT on a grid about LPS (0, 0, 0), air where it ends, in HU, shape (I, P, L).

    Parameters
    ----------
    volume : Volume
        The CT.
    grid : Grid
        Where it is wanted; details finer than its voxels are smoothed away first.
    center_lps : tuple of 3 float
        What becomes (0, 0, 0).
    """
    from scipy import ndimage

    ratio = np.divide(grid.spacing_mm, volume.spacing_mm)
    smooth = ndimage.gaussian_filter(
        np.asarray(volume.hu, np.float32), 0.4 * np.sqrt(np.maximum(ratio**2 - 1, 0))
    )
    x, y, z = (a + b for a, b in zip(grid.origin_lps, center_lps, strict=True))
    first = volume.grid.lps_to_index(np.array([x, y, z]))
    moved = ndimage.affine_transform(
        smooth, ratio, offset=first, output_shape=grid.shape, order=1, cval=LIMITS_HU[0]
    )
    return np.asarray(moved, np.float32)
