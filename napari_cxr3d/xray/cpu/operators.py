"""One view through one volume: the kernels with their tables, on a crew of threads."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Grid, XrayView
from napari_cxr3d.workers import Workers
from napari_cxr3d.xray.cpu import rays, shear_kernels
from napari_cxr3d.xray.cpu.shear_plan import ShearPlan, plan_shear, shear_axes

__all__ = ["Method", "Operator", "voxel_geometry"]

Method = Literal["siddon", "joseph", "shear-warp"]
Voxels = npt.NDArray[Any]
Image = npt.NDArray[np.float32]

_MOST_VOXELS = 1 << 32  # the ray-driven kernels count voxels in 32 bits
_IMAGE_ROWS = 8  # detector rows a block
_BASE_ROWS = 16  # base-plane rows a block: consecutive ones share their voxel rows in cache
_SLABS = 32  # blocks of the volume in the ray-driven adjoints
_PARTIAL_PLANES = 4  # base planes that the adjoint warp fills side by side


def voxel_geometry(view: XrayView, grid: Grid) -> npt.NDArray[np.float64]:
    """Source, centre of pixel (0, 0), row step and column step, shape (4, 3).

    In voxels along (I, P, L), with voxel n covering [n, n + 1): voxel centres lie at
    n + 0.5, half a voxel further than array indices.
    """
    frame = view.frame(grid)
    points = np.stack(
        [
            frame.source,
            frame.origin,
            frame.origin + frame.row_step,
            frame.origin + frame.column_step,
        ]
    )
    geometry = grid.lps_to_index(points) + 0.5
    geometry[2:] -= geometry[1]
    return geometry


class Operator:
    """The projection of one grid onto one view by one method, and its adjoint.

    Parameters
    ----------
    view : XrayView
        The exposure.
    grid : Grid
        The voxels.
    method : {"siddon", "joseph", "shear-warp"}
        The shear-warp gives way to Joseph's method where it cannot be used
        (`shear_axes`).

    Raises
    ------
    InvalidInputError
        If the volume is too large for the ray-driven methods (from 4 Gi voxels).
    """

    def __init__(self, view: XrayView, grid: Grid, method: Method) -> None:
        self._shape = np.array(grid.shape, dtype=np.int64)
        self._spacing = np.array(grid.spacing_mm)
        self._detector = view.detector_shape
        self._geometry = voxel_geometry(view, grid)
        self._plan: ShearPlan | None = None
        if method == "shear-warp":
            axes = shear_axes(self._geometry, grid.shape, view.detector_shape)
            if axes is None:
                method = "joseph"
            else:
                self._plan = plan_shear(self._geometry, grid.shape, view.detector_shape, axes)
        if self._plan is None and math.prod(grid.shape) >= _MOST_VOXELS:
            raise InvalidInputError(
                "The volume is too large to be projected ray by ray",
                why=f"it has {math.prod(grid.shape):,} voxels, and {_MOST_VOXELS:,} are too many",
                remedy="crop it or halve its resolution",
            )
        self.method: Method = method

    @property
    def swapped(self) -> bool:
        """Whether it reads and writes voxels in the order (I, L, P)."""
        return self._plan is not None and self._plan.swapped

    def forward(self, voxels: Voxels, scale: float, image: Image, crew: Workers) -> None:
        """Write the line integrals.

        Parameters
        ----------
        voxels : ndarray of float32 or int16, three axes
            C order, axes (I, P, L), or (I, L, P) if `swapped`.
        scale : float
            What a stored 1 means, in 1/mm.
        image : ndarray of float32, shape (rows, cols)
            Written.
        crew : Workers
            Threads to run on.
        """
        flat = voxels.reshape(-1)
        rows = self._detector[0]
        if self._plan is not None:
            self._shear_warp(self._plan, flat, scale, image, crew)
            return
        kernel = rays.siddon_forward if self.method == "siddon" else rays.joseph_forward

        def block(n: int) -> None:
            start, stop = n * _IMAGE_ROWS, min((n + 1) * _IMAGE_ROWS, rows)
            kernel(flat, self._shape, self._spacing, self._geometry, scale, image, start, stop)

        crew.run(block, -(-rows // _IMAGE_ROWS))

    def adjoint(self, image: Image, voxels: Image, crew: Workers) -> None:
        """Add the image, spread back along its rays, to float32 `voxels`, in mm."""
        flat = voxels.reshape(-1)
        if self._plan is not None:
            self._shear_warp_adjoint(self._plan, image, flat, crew)
            return
        slabs = np.linspace(0, self._shape[0], min(int(self._shape[0]), _SLABS) + 1).astype(int)
        kernel = rays.siddon_adjoint if self.method == "siddon" else rays.joseph_adjoint

        def block(n: int) -> None:
            start, stop = int(slabs[n]), int(slabs[n + 1])
            kernel(flat, self._shape, self._spacing, self._geometry, image, start, stop)

        crew.run(block, len(slabs) - 1)

    def _shear_warp(
        self, plan: ShearPlan, flat: Voxels, scale: float, image: Image, crew: Workers
    ) -> None:
        base = np.empty(plan.base_shape, dtype=np.float32)
        rows = plan.base_shape[0]

        def shear(n: int) -> None:
            start, stop = n * _BASE_ROWS, min((n + 1) * _BASE_ROWS, rows)
            shear_kernels.shear(flat, base, start, stop, *plan.tables)

        def warp(n: int) -> None:
            start, stop = n * _IMAGE_ROWS, min((n + 1) * _IMAGE_ROWS, self._detector[0])
            shear_kernels.warp(
                base,
                self._geometry,
                plan.axes,
                self._spacing,
                plan.plane,
                scale,
                image,
                start,
                stop,
            )

        crew.run(shear, -(-rows // _BASE_ROWS))
        crew.run(warp, -(-self._detector[0] // _IMAGE_ROWS))

    def _shear_warp_adjoint(
        self, plan: ShearPlan, image: Image, flat: Image, crew: Workers
    ) -> None:
        # Pixels of different rows may meet in one base pixel: each block of rows fills a
        # plane of its own, and the planes are added in their order.
        planes = np.zeros((_PARTIAL_PLANES, *plan.base_shape), dtype=np.float32)
        edges = np.linspace(0, self._detector[0], _PARTIAL_PLANES + 1).astype(int)

        def warp(n: int) -> None:
            shear_kernels.warp_adjoint(
                planes[n],
                self._geometry,
                plan.axes,
                self._spacing,
                plan.plane,
                image,
                int(edges[n]),
                int(edges[n + 1]),
            )

        crew.run(warp, _PARTIAL_PLANES)
        base = planes.sum(axis=0)
        crew.run(
            lambda n: shear_kernels.shear_adjoint(flat, base, n, *plan.tables),
            len(plan.groups) - 1,
        )
