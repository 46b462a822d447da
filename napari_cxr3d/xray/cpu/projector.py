"""The CPU projector: which method, which copy of the volume, how many threads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Grid, Volume, XrayView
from napari_cxr3d.progress import CancelToken, Progress, ProgressCallback
from napari_cxr3d.workers import Workers, available_threads
from napari_cxr3d.xray.attenuation import (
    DEFAULT_ENERGY_KEV,
    bone_attenuation,
    water_attenuation,
)
from napari_cxr3d.xray.cpu import copy_kernels
from napari_cxr3d.xray.cpu.copies import LEVELS, Channel, copies_of, level_grid, swapped_order
from napari_cxr3d.xray.cpu.operators import Method, Operator
from napari_cxr3d.xray.cpu.shear_plan import FEWEST_VOXELS
from napari_cxr3d.xray.projector import FloatImages, Quality

__all__ = ["CpuProjector", "warm_up"]

_RAY_COST = 8.0
"""Time of one step of a ray over that of one voxel in the shear-warp (measured)."""

_PREVIEW_VOXELS = 1 << 24
"""What a preview reads at most: some 10 ms on two processors."""


class CpuProjector:
    """Line integrals on any machine, with numba kernels on all processors.

    - ``exact``: Siddon's method, ray by ray.
    - ``full``: the perspective shear-warp on the full volume; Siddon's method where it is
      faster (small detectors) or more accurate (volumes of a few slices), Joseph's where
      the source is too near for a shear-warp.
    - ``preview``: `project` reads box means of the volume, no finer than the detector
      resolves and few enough for a dragging hand. The linear operator and its adjoint
      are those of ``full``.

    Results do not depend on the number of threads, and are the same bit for bit each time.

    Parameters
    ----------
    quality : {"full", "exact", "preview"}
        See above.
    energy_kev : float
        Photon energy of the attenuation.
    threads : int, optional
        Processors to use; all that the process may use when None.
    method : {"siddon", "joseph", "shear-warp"}, optional
        Use this method whatever the quality says.
    """

    name = "cpu"

    def __init__(
        self,
        quality: Quality = "full",
        *,
        energy_kev: float = DEFAULT_ENERGY_KEV,
        threads: int | None = None,
        method: Method | None = None,
    ) -> None:
        if threads is not None and threads < 1:
            raise InvalidInputError("A projector needs one thread or more", why=f"it got {threads}")
        self.quality = quality
        self.energy_kev = energy_kev
        self._attenuation = Channel(energy_kev)
        self._threads = threads or available_threads()
        self._method = method
        water_attenuation(energy_kev)  # an energy out of range is refused here, not later

    def project(
        self,
        volume: Volume,
        views: Sequence[XrayView],
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> FloatImages:
        """Line integrals of the attenuation at `energy_kev`, float32 [views, rows, cols].

        The first call on a volume makes its quantised copies; later calls find them.

        Parameters
        ----------
        volume : Volume
            The CT.
        views : sequence of XrayView
            With one detector shape.
        progress : callable, optional
            Told after every view.
        cancel : CancelToken, optional
            Looked at between blocks of rows.

        Raises
        ------
        InvalidInputError
            If there is no view, or their detectors differ in shape.
        Cancelled
            If the token was cancelled.
        """
        images = self._project(volume, self._attenuation, views, progress, cancel)
        return _no_less_than_zero(images)

    def project_basis(
        self,
        volume: Volume,
        views: Sequence[XrayView],
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> tuple[FloatImages, FloatImages]:
        """Path lengths in water and in cortical bone, each float32 [views, rows, cols] in mm.

        At any energy E, ``water_mm * water_attenuation(E) + bone_mm * bone_attenuation(E)``
        is the line integral. Parameters and errors are those of `project`.
        """
        bone = self._project(volume, Channel(None), views, progress, cancel)
        total = self._project(volume, self._attenuation, views, progress, cancel)
        total -= np.float32(bone_attenuation(self.energy_kev)) * bone
        total /= np.float32(water_attenuation(self.energy_kev))
        return _no_less_than_zero(total), _no_less_than_zero(bone)

    def project_attenuation(
        self,
        mu: npt.NDArray[np.float32],
        grid: Grid,
        views: Sequence[XrayView],
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> FloatImages:
        """The linear operator: line integrals of any attenuation, float32 [views, rows, cols].

        No copy is quantised or kept. Views along L need the volume in another order: the
        call then holds a second array of the size of `mu`.

        Parameters
        ----------
        mu : ndarray of float32, shape (I, P, L)
            Attenuation coefficients in 1/mm.
        grid : Grid
            Where they lie.
        views, progress, cancel
            As for `project`.

        Raises
        ------
        InvalidInputError
            If `mu` does not have the grid's shape, or for views as in `project`.
        Cancelled
            If the token was cancelled.
        """
        images = _new_images(views)
        voxels = np.ascontiguousarray(mu, dtype=np.float32)
        if voxels.shape != grid.shape:
            raise InvalidInputError(
                "The attenuation does not lie on the grid",
                why=f"their shapes are {voxels.shape} and {grid.shape}",
            )
        swapped: npt.NDArray[np.float32] | None = None
        with Workers(self._threads, cancel) as crew:
            for n, view in _told(views, progress, "projecting"):
                operator = self._operator(view, grid)
                if operator.swapped and swapped is None:
                    swapped = swapped_order(voxels, crew)
                ordered = swapped if operator.swapped and swapped is not None else voxels
                operator.forward(ordered, 1.0, images[n], crew)
        return images

    def backproject(
        self,
        images: FloatImages,
        views: Sequence[XrayView],
        like: Volume | Grid,
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> npt.NDArray[np.float32]:
        """The exact adjoint of `project_attenuation`, float32 [I, P, L] in mm.

        Parameters
        ----------
        images : ndarray of float32, shape (views, rows, cols)
            One image a view.
        views : sequence of XrayView
            With one detector shape.
        like : Volume or Grid
            The grid of the result.
        progress, cancel
            As for `project`.

        Raises
        ------
        InvalidInputError
            If the images do not match the views, or for views as in `project`.
        Cancelled
            If the token was cancelled.
        """
        grid = like.grid if isinstance(like, Volume) else like
        shape = (len(views), *_detector_shape(views))
        images = np.ascontiguousarray(images, dtype=np.float32)
        if images.shape != shape:
            raise InvalidInputError(
                "The images do not match the views",
                why=f"their shape is {images.shape}, and the views need {shape}",
            )
        i, p, ell = grid.shape
        volume = np.zeros(grid.shape, dtype=np.float32)
        swapped: npt.NDArray[np.float32] | None = None
        with Workers(self._threads, cancel) as crew:
            for n, view in _told(views, progress, "backprojecting"):
                operator = self._operator(view, grid)
                if operator.swapped:
                    if swapped is None:
                        swapped = np.zeros((i, ell, p), dtype=np.float32)
                    operator.adjoint(images[n], swapped, crew)
                else:
                    operator.adjoint(images[n], volume, crew)
            if swapped is not None:
                other = swapped
                crew.run(lambda n: copy_kernels.swap_add(other, volume, n, n + 1), i)
        return volume

    def prepare(self, volume: Volume, views: Sequence[XrayView] = ()) -> None:
        """Compile the kernels, and make the copies that `views` will read.

        Parameters
        ----------
        volume : Volume
            The CT.
        views : sequence of XrayView
            The exposures to come, as they will be asked for: the copies depend on the
            angles and on the detector's pixels. Without any, the copy that all others
            are made from.
        """
        warm_up()
        copies = copies_of(volume)
        with Workers(self._threads) as crew:
            copies.get(volume, self._attenuation, 1, False, crew)
            for view in views:
                level, operator = self._sampled(view.resolved(volume.grid), volume.grid)
                copies.get(volume, self._attenuation, level, operator.swapped, crew)

    def _project(
        self,
        volume: Volume,
        channel: Channel,
        views: Sequence[XrayView],
        progress: ProgressCallback | None,
        cancel: CancelToken | None,
    ) -> FloatImages:
        images = _new_images(views)
        copies = copies_of(volume)
        with Workers(self._threads, cancel) as crew:
            for n, view in _told(views, progress, "projecting"):
                level, operator = self._sampled(view.resolved(volume.grid), volume.grid)
                copy = copies.get(volume, channel, level, operator.swapped, crew)
                operator.forward(copy.voxels, copy.scale, images[n], crew)
        return images

    def _sampled(self, view: XrayView, grid: Grid) -> tuple[int, Operator]:
        """The level of the copies that `project` reads, and its operator on them."""
        level = self._level(view, grid)
        return level, self._operator(view, level_grid(grid, level))

    def _level(self, view: XrayView, grid: Grid) -> int:
        """Which box means `project` reads."""
        if self.quality != "preview":
            return 1
        footprint = view.pixel_mm / view.magnification
        for level in LEVELS[:-1]:
            coarse = level_grid(grid, level)
            resolves = 2 * min(coarse.spacing_mm) > 1.5 * footprint
            if resolves and np.prod(coarse.shape) <= _PREVIEW_VOXELS:
                return level
        return LEVELS[-1]

    def _operator(self, view: XrayView, grid: Grid) -> Operator:
        if self._method is not None:
            return Operator(view, grid, self._method)
        if self.quality == "exact" or min(grid.shape) < FEWEST_VOXELS:
            return Operator(view, grid, "siddon")
        rows, cols = view.detector_shape
        if rows * cols * max(grid.shape) * _RAY_COST < np.prod(grid.shape):
            return Operator(view, grid, "siddon")
        return Operator(view, grid, "shear-warp")


def warm_up() -> None:
    """Compile the kernels of `CpuProjector.project`, or load them from disk.

    Takes seconds the first time on a machine, a fraction of a second in later processes,
    and next to nothing once done. A thread in the background may call it.
    """
    views = [XrayView(yaw=yaw, detector_shape=(8, 8), pixel_mm=40.0) for yaw in (0.0, 90.0)]
    for dtype in (np.int16, np.float32):
        volume = Volume(np.zeros((16, 16, 16), dtype), (20.0, 20.0, 20.0))
        channel = Channel(DEFAULT_ENERGY_KEV)
        with Workers(1) as crew:
            copies_of(volume).get(volume, channel, 2, True, crew)
        methods: tuple[Method, ...] = ("shear-warp", "siddon")
        for method in methods:
            CpuProjector(method=method, threads=1).project(volume, views)


def _detector_shape(views: Sequence[XrayView]) -> tuple[int, int]:
    shapes = {view.detector_shape for view in views}
    if len(shapes) != 1:
        raise InvalidInputError(
            "The views of one call must share one detector shape",
            why=f"they have {sorted(shapes)}" if shapes else "there is no view",
            remedy="project them in separate calls" if shapes else "give at least one view",
        )
    return shapes.pop()


def _new_images(views: Sequence[XrayView]) -> FloatImages:
    return np.empty((len(views), *_detector_shape(views)), dtype=np.float32)


def _no_less_than_zero(images: FloatImages) -> FloatImages:
    """In place: cubic interpolation undershoots by up to 0.3 % beside sharp edges."""
    return np.maximum(images, 0, out=images)


def _told(
    views: Sequence[XrayView], progress: ProgressCallback | None, doing: str
) -> Iterable[tuple[int, XrayView]]:
    """The views with their numbers; `progress` is told when each is done."""
    for n, view in enumerate(views):
        yield n, view
        if progress is not None:
            progress(Progress(n + 1, len(views), f"{doing} view {n + 1} of {len(views)}"))
