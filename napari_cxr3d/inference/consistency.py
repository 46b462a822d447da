"""Bring a volume into agreement with the X-rays it was made from, and say how well it agrees.

A network's volume looks like a chest, but projected back it differs from the very X-ray it was
shown. The data step moves it, by least squares along the true rays, until it does not, where it
may be wrong: at borders first, then in tissue, hardly in air. ``hard`` goes all the way, for line
integrals on their true scale (a DRR). ``soft`` is for pictures from an archive: their scale is
fitted to the volume, what is slow across the picture is left to the network, and the step ends
where what is left is no more than such pictures differ by from the truth; most often that is at
once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Grid, XrayView
from napari_cxr3d.inference.consistency_comparison import (
    LEAST_CHANGE,
    Comparison,
    compare_fully,
    compare_softly,
    likely_change,
)
from napari_cxr3d.inference.consistency_rays import calibrate, rays_through
from napari_cxr3d.inference.consistency_record import (
    ConsistencyRecord,
    Reprojection,
    ViewCalibration,
    agreement,
)
from napari_cxr3d.progress import CancelToken
from napari_cxr3d.xray.attenuation import attenuation_to_hu, hu_to_attenuation, water_attenuation
from napari_cxr3d.xray.conjugate_gradients import Solution, conjugate_gradients
from napari_cxr3d.xray.projector import Projector, projector

if TYPE_CHECKING:
    from torch import Tensor

    from napari_cxr3d.models.reconstruction import Condition, ReconstructionModel

__all__ = ["Consistency", "ConsistencyRecord", "Reprojection", "ViewCalibration"]

FloatArray = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Mode = Literal["soft", "hard"]

_HARD = 5e-4  # relative residual at which hard ends; twice that is left by the HU window
_ROUNDS = 4  # of solving and clipping to the HU window
_STALLED = 0.8  # of the error before a round: what is left, the voxels cannot show
_ITERATIONS = 8  # of each round; two views of a 64^3 volume have then converged
_AIR = 0.2  # line integral below which a ray has missed the body: 10 mm of water
_PLATEAU = 0.02  # from its ends, where a picture is clipped


class Consistency:
    """A volume's X-rays, ready to be compared with and to be moved toward.

    Parameters
    ----------
    grid : Grid
        Of the volumes.
    views : sequence of XrayView
        With one detector shape.
    integrals : ndarray of float32, shape (V, rows, cols)
        Line integrals as measured, or as read from grey values.
    valid : ndarray of bool, shape (V, rows, cols)
        Where the pictures reach.
    exact : sequence of bool
        Views whose integrals are on their true scale. Above and below the grid they are taken
        to have met air, the others the rest of the body.
    mode : {"soft", "hard"}
        See the module. ``hard`` with views that are not exact fits their scale, and then all
        that they show, scatter too.
    engine : Projector, optional
        Our CPU projector if None: milliseconds for a volume of 64^3.
    iterations : int
        Of conjugate gradients in one round.
    limits : tuple of 2 float
        Low and high HU of the volumes.

    Raises
    ------
    InvalidInputError
        If the arrays do not fit the views.
    """

    def __init__(
        self,
        grid: Grid,
        views: Sequence[XrayView],
        integrals: FloatArray,
        valid: Mask,
        exact: Sequence[bool],
        *,
        mode: Mode = "soft",
        engine: Projector | None = None,
        iterations: int = _ITERATIONS,
        limits: tuple[float, float] = (-1000.0, 1000.0),
    ) -> None:
        if mode not in ("soft", "hard"):
            raise InvalidInputError(
                f"There is no consistency called {mode!r}", remedy="choose soft or hard"
            )
        self.grid, self.mode, self.iterations = grid, mode, int(iterations)
        self.engine = projector("cpu") if engine is None else engine
        self.limits = limits
        self.views = tuple(views)
        self.integrals, self.counted, self.exact = self._checked(
            self.views, integrals, valid, exact
        )

    def project_hu(
        self,
        hu: npt.NDArray[Any],
        *,
        spread: npt.NDArray[Any] | None = None,
        rounds: int = _ROUNDS,
        cancel: CancelToken | None = None,
    ) -> tuple[FloatArray, ConsistencyRecord]:
        """The nearest volume that agrees with the X-rays; see the module.

        Parameters
        ----------
        hu : ndarray, shape (I, P, L)
            In HU; what lies outside the limits is clipped.
        spread : ndarray, shape (I, P, L), optional
            Standard deviation in HU that the volume may be wrong by, such as that of several
            samples; guessed from the volume's borders and tissue if None.
        rounds : int
            Of solving and clipping, at most.
        cancel : CancelToken, optional
            Looked at before every iteration.

        Raises
        ------
        InvalidInputError
            If a volume does not lie on the grid.
        Cancelled
            If the token was cancelled.
        """
        began = perf_counter()
        x = start = self._attenuation(hu)
        prior = self._prior(start, spread)
        projected = self._project(x)
        before, calibrations = self._compared(projected), self._calibrated(projected)[1]
        done, after = 0, before
        for _ in range(max(1, rounds)):
            solution, calibrations = self._solve(x, projected, prior, cancel)
            if not solution.iterations:
                break
            x = np.clip(solution.x, *self._bounds()).astype(np.float32)
            done, projected = done + solution.iterations, self._project(x)
            previous, after = after.relative_error, self._compared(projected)
            if self.mode == "hard" and (
                after.relative_error < 2 * _HARD or after.relative_error > _STALLED * previous
            ):
                break
        result = attenuation_to_hu(x, self.engine.energy_kev).clip(*self.limits)
        old = attenuation_to_hu(start, self.engine.energy_kev)
        record = ConsistencyRecord(
            self.mode, done, before.relative_error, after.relative_error, calibrations,
            float(np.sqrt(np.mean(np.square(result - old)))), perf_counter() - began,
        )  # fmt: skip
        return result, record

    def reprojection(self, hu: npt.NDArray[Any]) -> Reprojection:
        """Compare a volume, in HU, with the X-rays it was made from.

        Raises
        ------
        InvalidInputError
            If the volume does not lie on the grid.
        """
        return self._compared(self._project(self._attenuation(hu)))

    def at(
        self,
        hu: npt.NDArray[Any],
        views: Sequence[XrayView],
        integrals: FloatArray,
        valid: Mask | None = None,
        exact: Sequence[bool] | None = None,
    ) -> Reprojection:
        """Compare a volume with X-rays that it was not made from, such as held-out poses.

        Parameters
        ----------
        hu : ndarray, shape (I, P, L)
            In HU.
        views, integrals, valid, exact
            As for the class; all valid and exact if None.
        """
        integrals = np.asarray(integrals, np.float32)
        other = Consistency(
            self.grid, views, integrals,
            np.ones(integrals.shape, bool) if valid is None else valid,
            [True] * len(views) if exact is None else exact,
            mode=self.mode, engine=self.engine, limits=self.limits,
        )  # fmt: skip
        return other.reprojection(hu)

    def as_hook(
        self,
        model: ReconstructionModel,
        condition: Condition,
        last: int = 2,
        *,
        cancel: CancelToken | None = None,
    ) -> Callable[[Tensor, float, int, int], Tensor]:
        """The data step for `napari_cxr3d.inference.sampler.sample`, on its last steps.

        Decodes the estimate, moves it in one round, and encodes it again. What the codec loses
        is not won back here: call `project_hu` once on the result.

        Parameters
        ----------
        model : ReconstructionModel
            On this grid.
        condition : Condition
            Of the batch that is sampled.
        last : int
            How many steps, counted from the end.
        cancel : CancelToken, optional
            Looked at before every iteration.

        Raises
        ------
        InvalidInputError
            If the model has another grid.
        """
        import torch

        if model.volume_shape != self.grid.shape:
            raise InvalidInputError(
                "The data step does not lie on the model's grid",
                why=f"their shapes are {self.grid.shape} and {model.volume_shape}",
            )

        def hook(x0: Tensor, time: float, step: int, steps: int) -> Tensor:
            if step <= steps - last:
                return x0
            hu = model.window.decode(model.decode(x0, condition, cancel=cancel).float())
            moved = [self.project_hu(v, rounds=1, cancel=cancel)[0] for v in hu[:, 0].cpu().numpy()]
            volume = torch.from_numpy(np.stack(moved)[:, None]).to(x0.device)
            return model.encode(model.window.encode(volume), condition).to(x0.dtype)

        return hook

    def _solve(
        self, x: FloatArray, projected: FloatArray, prior: FloatArray, cancel: CancelToken | None
    ) -> tuple[Solution, tuple[ViewCalibration, ...]]:
        """One round: the change that the X-rays ask for, of voxels not held by the HU window."""
        wanted, calibrations = self._calibrated(projected)
        compared = self._comparison(wanted, projected, calibrations)
        residual = compared.apply(wanted - projected)
        uphill = self._backproject(compared.adjoint(residual))
        low, high = self._bounds()
        held = ((x <= low) & (uphill < 0)) | ((x >= high) & (uphill > 0))
        solution = conjugate_gradients(
            lambda change: compared.apply(self._project(change)),
            lambda images: self._backproject(compared.adjoint(images)),
            residual,
            x0=np.zeros_like(x),
            scale=np.where(held, np.float32(0), prior),
            iterations=self.iterations,
            tolerance=compared.tolerance,
            cancel=cancel,
        )
        return solution._replace(x=x + solution.x), calibrations

    def _comparison(
        self, wanted: FloatArray, projected: FloatArray, calibrations: Sequence[ViewCalibration]
    ) -> Comparison:
        used = np.array([c.used for c in calibrations])[:, None, None]
        weights = (self.counted & used).astype(np.float32)
        if self.mode == "hard":
            return compare_fully(wanted, weights, _HARD)
        for k, exact in enumerate(self.exact):
            if not exact:
                weights[k] *= self._in_body(k, projected)
        pitch = [view.pixel_mm for view in self.views]
        return compare_softly(wanted, projected, weights, self.exact, pitch)

    def _in_body(self, k: int, projected: FloatArray) -> Mask:
        """Rays of a picture that pass through the body, and are neither black nor white."""
        picture = self.integrals[k]
        low, high = (float(f(picture[self.counted[k]], initial=0)) for f in (np.min, np.max))
        inside = (picture > low + _PLATEAU) & (picture < high - _PLATEAU)
        return np.asarray(inside & (projected[k] > _AIR))

    def _calibrated(self, projected: FloatArray) -> tuple[FloatArray, tuple[ViewCalibration, ...]]:
        """The measured integrals on the scale of the volume's."""
        wanted, calibrations = self.integrals.copy(), []
        for k, exact in enumerate(self.exact):
            calibration = ViewCalibration()
            if not exact:
                inside = self.counted[k] & self._in_body(k, projected)
                wanted[k], calibration = calibrate(self.integrals[k], projected[k], inside)
            calibrations.append(calibration)
        return wanted, tuple(calibrations)

    def _compared(self, projected: FloatArray) -> Reprojection:
        wanted, calibrations = self._calibrated(projected)
        return agreement(projected, wanted, self.counted, self.exact, calibrations)

    def _prior(self, mu: FloatArray, spread: npt.NDArray[Any] | None) -> FloatArray:
        if spread is None:
            return likely_change(mu / np.float32(water_attenuation(self.engine.energy_kev)))
        if spread.shape != mu.shape:
            raise InvalidInputError(
                "The spread does not lie on the volume's grid",
                why=f"their shapes are {spread.shape} and {mu.shape}",
            )
        largest = max(float(np.max(spread)), 1e-6)
        return np.asarray(np.maximum(spread, 0) / largest + LEAST_CHANGE, np.float32)

    def _attenuation(self, hu: npt.NDArray[Any]) -> FloatArray:
        if hu.shape != self.grid.shape:
            raise InvalidInputError(
                "The volume does not lie on the grid of its X-rays",
                why=f"their shapes are {hu.shape} and {self.grid.shape}",
            )
        clipped = np.clip(hu, *self.limits).astype(np.float32)
        return hu_to_attenuation(clipped, self.engine.energy_kev)

    def _bounds(self) -> tuple[float, float]:
        low, high = hu_to_attenuation(np.array(self.limits, np.float32), self.engine.energy_kev)
        return float(low), float(high)

    def _project(self, mu: FloatArray) -> FloatArray:
        return self.engine.project_attenuation(mu, self.grid, self.views)

    def _backproject(self, images: FloatArray) -> FloatArray:
        return self.engine.backproject(images, self.views, self.grid)

    def _checked(
        self,
        views: Sequence[XrayView],
        integrals: npt.NDArray[Any],
        valid: npt.NDArray[Any],
        exact: Sequence[bool],
    ) -> tuple[FloatArray, Mask, tuple[bool, ...]]:
        """Integrals, rays that count, and which views are exact."""
        shapes = {view.detector_shape for view in views}
        expected = (len(views), *shapes.pop()) if len(shapes) == 1 else None
        if integrals.shape != expected or valid.shape != expected or len(exact) != len(views):
            raise InvalidInputError(
                "The line integrals do not match their views",
                why=f"for {len(views)} views of one detector there are integrals of shape "
                f"{integrals.shape}, a mask of shape {valid.shape} and {len(exact)} scales",
            )
        measured = np.asarray(integrals, np.float32)
        counted = np.asarray(valid, bool) & np.isfinite(measured)
        for k, view in enumerate(views):
            beyond = "air" if exact[k] else "body"
            counted[k] &= rays_through(view, self.grid, beyond=beyond)
        return np.nan_to_num(measured), counted, tuple(bool(e) for e in exact)
