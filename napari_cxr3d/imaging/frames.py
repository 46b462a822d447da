"""The one truth about space: array axes (I, P, L), DICOM patient space LPS, napari world.

In memory every volume has array axes (I, P, L): the index grows toward inferior,
posterior and left. DICOM patient space is LPS in millimetres: x grows toward left,
y toward posterior, z toward superior. napari's world is (-z, y, x) of LPS, so that a
canonical volume needs a scale and a translation and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import GeometryError

__all__ = [
    "AXIS_LABELS",
    "CanonicalOrder",
    "Grid",
    "canonical_order",
    "lps_to_world",
    "orientation_letters",
    "world_to_lps",
]

FloatArray = npt.NDArray[np.float64]

AXIS_LABELS = ("I", "P", "L")

# Unit vectors of the canonical array axes in LPS: inferior, posterior, left.
_IPL_IN_LPS = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])

_AXIS_ALIGNED_TOLERANCE = 1e-3  # sine of the angle between an array axis and an LPS axis


def lps_to_world(points: npt.ArrayLike) -> FloatArray:
    """napari world coordinates of LPS points.

    Parameters
    ----------
    points : array_like, shape (..., 3)
        LPS positions (x, y, z) in mm.

    Returns
    -------
    ndarray, shape (..., 3)
        napari world coordinates (-z, y, x) in mm.
    """
    points = np.asarray(points, dtype=np.float64)
    return np.stack([-points[..., 2], points[..., 1], points[..., 0]], axis=-1)


def world_to_lps(points: npt.ArrayLike) -> FloatArray:
    """LPS positions of napari world points: the inverse of `lps_to_world`.

    Parameters
    ----------
    points : array_like, shape (..., 3)
        napari world coordinates (-z, y, x) in mm.

    Returns
    -------
    ndarray, shape (..., 3)
        LPS positions (x, y, z) in mm.
    """
    points = np.asarray(points, dtype=np.float64)
    return np.stack([points[..., 2], points[..., 1], -points[..., 0]], axis=-1)


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a canonical volume lie.

    Attributes
    ----------
    shape : tuple of 3 int
        Number of voxels along (I, P, L).
    spacing_mm : tuple of 3 float
        Positive distance of voxel centres along (I, P, L) in mm.
    origin_lps : tuple of 3 float
        LPS position (x, y, z) in mm of the centre of voxel [0, 0, 0], the most
        superior, anterior and right one.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_lps: tuple[float, float, float]

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or any(int(n) != n or n < 1 for n in self.shape):
            raise GeometryError(
                "A volume needs three axes of one voxel or more",
                why=f"the shape is {tuple(self.shape)}",
            )
        if len(self.spacing_mm) != 3 or not all(np.isfinite(s) and s > 0 for s in self.spacing_mm):
            raise GeometryError(
                "Voxel spacing must be three positive numbers in mm",
                why=f"it is {tuple(self.spacing_mm)}",
            )
        if len(self.origin_lps) != 3 or not all(np.isfinite(x) for x in self.origin_lps):
            raise GeometryError(
                "The volume's origin must be three finite numbers in mm",
                why=f"it is {tuple(self.origin_lps)}",
            )
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "spacing_mm", tuple(float(s) for s in self.spacing_mm))
        object.__setattr__(self, "origin_lps", tuple(float(x) for x in self.origin_lps))

    @classmethod
    def centered(
        cls,
        shape: Sequence[int],
        spacing_mm: Sequence[float],
        center_lps: Sequence[float] = (0.0, 0.0, 0.0),
    ) -> Grid:
        """The grid of this shape and spacing about a point.

        Parameters
        ----------
        shape : sequence of 3 int
            Voxels along (I, P, L).
        spacing_mm : sequence of 3 float
            Along (I, P, L).
        center_lps : sequence of 3 float
            LPS position of its centre in mm.
        """
        i, p, ell = (int(n) for n in shape)
        di, dp, dl = (float(s) for s in spacing_mm)
        x, y, z = center_lps
        origin = (x - (ell - 1) / 2 * dl, y - (p - 1) / 2 * dp, z + (i - 1) / 2 * di)
        return cls((i, p, ell), (di, dp, dl), origin)

    @property
    def size_mm(self) -> tuple[float, float, float]:
        """Extent along (I, P, L), outer edge to outer edge, in mm."""
        i, p, ell = (n * s for n, s in zip(self.shape, self.spacing_mm, strict=True))
        return (i, p, ell)

    @property
    def center_lps(self) -> tuple[float, float, float]:
        """LPS position (x, y, z) of the centre of the grid in mm."""
        x, y, z = self.index_to_lps((np.array(self.shape) - 1) / 2)
        return (float(x), float(y), float(z))

    def index_to_lps(self, index: npt.ArrayLike) -> FloatArray:
        """LPS positions of (fractional) voxel indices (i, p, l), shape (..., 3)."""
        index = np.asarray(index, dtype=np.float64)
        si, sp, sl = self.spacing_mm
        x0, y0, z0 = self.origin_lps
        return np.stack(
            [x0 + index[..., 2] * sl, y0 + index[..., 1] * sp, z0 - index[..., 0] * si],
            axis=-1,
        )

    def lps_to_index(self, points: npt.ArrayLike) -> FloatArray:
        """Fractional voxel indices (i, p, l) of LPS positions, shape (..., 3)."""
        points = np.asarray(points, dtype=np.float64)
        si, sp, sl = self.spacing_mm
        x0, y0, z0 = self.origin_lps
        return np.stack(
            [
                (z0 - points[..., 2]) / si,
                (points[..., 1] - y0) / sp,
                (points[..., 0] - x0) / sl,
            ],
            axis=-1,
        )

    @property
    def affine_lps(self) -> FloatArray:
        """The 4x4 matrix that takes (i, p, l, 1) to (x, y, z, 1) in LPS mm."""
        affine = np.eye(4)
        affine[:3, :3] = (_IPL_IN_LPS * np.array(self.spacing_mm)[:, None]).T
        affine[:3, 3] = self.origin_lps
        return affine


@dataclass(frozen=True)
class CanonicalOrder:
    """How a source array is permuted and flipped into (I, P, L), and back.

    Attributes
    ----------
    axes : tuple of 3 int
        ``axes[k]`` is the source axis that becomes canonical axis k.
    flips : tuple of 3 bool
        Whether canonical axis k runs against its source axis.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    def apply(self, array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """The source array with axes (I, P, L), as a view."""
        canonical = array.transpose(self.axes)
        return canonical[tuple(slice(None, None, -1 if f else None) for f in self.flips)]

    def invert(self, array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """A canonical array with the source's axes, as a view."""
        flipped = array[tuple(slice(None, None, -1 if f else None) for f in self.flips)]
        return flipped.transpose(np.argsort(self.axes))


def canonical_order(affine_lps: npt.ArrayLike) -> CanonicalOrder | None:
    """The permutation and flips that bring a source array to (I, P, L).

    Parameters
    ----------
    affine_lps : array_like, shape (4, 4)
        Matrix from source array index to LPS mm.

    Returns
    -------
    CanonicalOrder or None
        None when the axes are oblique or sheared, so that no permutation will do.

    Raises
    ------
    GeometryError
        If the matrix is singular or not finite.
    """
    matrix = np.asarray(affine_lps, dtype=np.float64)[:3, :3]
    if not np.all(np.isfinite(matrix)) or abs(np.linalg.det(matrix)) < 1e-9:
        raise GeometryError(
            "The file's axes do not span space",
            why="its orientation matrix is singular or not finite",
            remedy="export the series again from its archive",
        )
    directions = matrix / np.linalg.norm(matrix, axis=0)
    cosines = _IPL_IN_LPS @ directions  # [canonical axis, source axis]
    axes = np.argmax(np.abs(cosines), axis=1)
    if len(set(axes.tolist())) < 3:
        return None
    chosen = cosines[np.arange(3), axes]
    off_axis = np.sqrt(np.maximum(0.0, 1.0 - chosen**2))
    if np.any(off_axis > _AXIS_ALIGNED_TOLERANCE):
        return None
    a, b, c = axes.tolist()
    f, g, h = (chosen < 0).tolist()
    return CanonicalOrder((a, b, c), (f, g, h))


def orientation_letters(direction_lps: Sequence[float], *, minimum: float = 0.35) -> str:
    """Patient letters of a direction, strongest first: ``"L"``, ``"PL"``, ``"S"``.

    Parameters
    ----------
    direction_lps : sequence of 3 float
        A direction in LPS; its length does not matter.
    minimum : float
        Smallest direction cosine that still earns a letter (two at most).
    """
    direction = np.asarray(direction_lps, dtype=np.float64)
    length = float(np.linalg.norm(direction))
    if length == 0:
        return ""
    direction = direction / length
    letters = ("RL", "AP", "IS")
    order = np.argsort(-np.abs(direction))
    return "".join(
        letters[k][int(direction[k] > 0)] for k in order[:2] if abs(direction[k]) >= minimum
    )
