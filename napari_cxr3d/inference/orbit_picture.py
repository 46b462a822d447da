"""One picture on a world model's detector, and where each of its pixels came from.

The preparation of `napari_cxr3d.inference.xray_preparation` inverts, turns, mirrors and crops a
picture, and puts it on the detector. All of it but the inversion moves pixels, by one affine map.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Volume, XrayView
from napari_cxr3d.inference.xray_input_resampling import area_mean, footprints
from napari_cxr3d.inference.xray_input_types import XrayInput
from napari_cxr3d.inference.xray_preparation import prepare_inputs

if TYPE_CHECKING:
    from napari_cxr3d.models.orbit_model import OrbitModel

__all__ = ["PLANES", "OrbitPicture", "Plane", "prepare_picture", "slice_picture"]

FloatImage = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]
Plane = Literal["axial", "coronal", "sagittal"]

PLANES: tuple[Plane, ...] = get_args(Plane)
"""The planes that `slice_picture` cuts."""

_COVERED = 0.5  # part of a detector pixel that the picture must cover
_SLICE_HU = (-1000.0, 600.0)  # black and white of a slice: air to bone, the lung not black
_SLICE_KEV = 70.0  # of the rays through a slice, as cxr3d drr has them

# A slice lies as a picture of these angles shows the patient; the axis it is cut across.
_PLANE_ANGLES: dict[Plane, tuple[float, float]] = {
    "axial": (0.0, 90.0),
    "coronal": (0.0, 0.0),
    "sagittal": (90.0, 0.0),
}
_PLANE_AXIS: dict[Plane, int] = {"axial": 0, "coronal": 1, "sagittal": 2}


@dataclass(frozen=True, eq=False)
class OrbitPicture:
    """A picture on the detector of a world model.

    Points are (row, column) of pixel centres, fractional, the first pixel at (0, 0).

    Attributes
    ----------
    pixels : ndarray of float32, shape (rows, cols)
        What the model is given, bone bright: the integrals of exact views, else the greys.
    valid : ndarray of bool, shape (rows, cols)
        Where the picture reaches.
    view : XrayView
        The exposure, about LPS (0, 0, 0); for a slice the view whose plane through the
        isocenter it is.
    exact : bool
        Whether integrals and geometry are those of a projection that was computed.
    integrals : ndarray of float32, shape (rows, cols)
        Line integrals, approximate unless `exact`; of a slice those through its thickness.
    affine : ndarray of float64, shape (2, 3)
        Takes (row, column, 1) of the picture as it is stored to (row, column) of the detector.
    source_shape : tuple of 2 int
        Rows and columns of the picture as it is stored.
    center_lps : tuple of 3 float or None
        Where LPS (0, 0, 0) of `view` lies in the frame of the CT; None where there is none.
    notes : tuple of str
        What was assumed, one sentence each.
    name : str
        For people.
    synthetic : bool
        Whether no detector measured it.
    """

    pixels: FloatImage
    valid: npt.NDArray[np.bool_]
    view: XrayView
    exact: bool
    integrals: FloatImage
    affine: FloatArray
    source_shape: tuple[int, int]
    center_lps: tuple[float, float, float] | None = None
    notes: tuple[str, ...] = ()
    name: str = ""
    synthetic: bool = False
    _inverse: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        inverse = np.linalg.inv(np.vstack([self.affine, [0.0, 0.0, 1.0]]))[:2]
        object.__setattr__(self, "_inverse", inverse)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the detector."""
        return self.view.detector_shape

    def to_detector(self, points: npt.ArrayLike) -> FloatArray:
        """Detector (row, column) of points of the picture as it is stored, shape (..., 2)."""
        return _moved(self.affine, points)

    def to_source(self, points: npt.ArrayLike) -> FloatArray:
        """Points of the picture as it is stored at detector (row, column), shape (..., 2)."""
        return _moved(self._inverse, points)

    def shows(self, points: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether points of the picture as it is stored lie on valid detector pixels, (...,)."""
        nearest = np.rint(self.to_detector(points))
        rows, cols = self.shape
        within = np.logical_and(nearest >= 0, nearest < (rows, cols))
        inside = np.asarray(within.all(-1), bool)
        row, col = np.moveaxis(np.where(inside[..., None], nearest, 0).astype(np.intp), -1, 0)
        return np.asarray(inside & self.valid[row, col])

    def in_ct(self) -> XrayView:
        """The exposure in the frame of the CT that it was projected from or cut out of.

        Raises
        ------
        InvalidInputError
            If it comes from no CT, or from one whose place is not known.
        """
        if self.center_lps is None:
            raise InvalidInputError(
                "The picture has no place in a CT", why="it was not projected from one"
            )
        offset = self.view.isocenter_lps or (0.0, 0.0, 0.0)
        x, y, z = (a + b for a, b in zip(self.center_lps, offset, strict=True))
        return replace(self.view, isocenter_lps=(x, y, z))


def _moved(affine: FloatArray, points: npt.ArrayLike) -> FloatArray:
    moved = np.asarray(points, np.float64) @ affine[:, :2].T + affine[:, 2]
    return np.asarray(moved, np.float64)


def prepare_picture(given: XrayInput, model: OrbitModel, *, name: str = "") -> OrbitPicture:
    """Bring an X-ray to the detector of a world model.

    Parameters
    ----------
    given : XrayInput
        As its user confirmed it.
    model : OrbitModel
        Whose detector.
    name : str, optional
        For people.

    Raises
    ------
    InvalidInputError
        As `prepare_inputs`: no contrast, or nothing of it on the detector.
    """
    base = model.base_view
    prepared = prepare_inputs(
        [given],
        detector_shape=model.detector_shape,
        field_mm=base.pixel_mm * base.detector_shape[1],
    )
    (view,), (exact,), (placement,) = prepared.views, prepared.exact, prepared.placements
    return OrbitPicture(
        pixels=prepared.integrals[0] if exact else prepared.pictures[0],
        valid=prepared.valid[0],
        view=view,
        exact=exact,
        integrals=prepared.integrals[0],
        affine=_placed(view, placement["center_pixel"], placement["pitch_mm"]) @ _upright(given),
        source_shape=given.radiograph.shape,
        center_lps=prepared.center_lps,
        notes=prepared.notes,
        name=name,
        synthetic=given.radiograph.synthetic,
    )


def _upright(given: XrayInput) -> FloatArray:
    """From (row, column, 1) as stored to the same upright; see `turned`. Shape (3, 3)."""
    rows, cols = given.radiograph.shape
    turns: dict[int, list[list[float]]] = {
        0: [[1, 0, 0], [0, 1, 0]],
        90: [[0, 1, 0], [-1, 0, rows - 1]],
        180: [[-1, 0, rows - 1], [0, -1, cols - 1]],
        270: [[0, -1, cols - 1], [1, 0, 0]],
    }
    matrix = np.array([*turns[given.rotation], [0, 0, 1]], np.float64)
    if given.mirrored:
        width = rows if given.rotation in (90, 270) else cols
        matrix = np.array([[1, 0, 0], [0, -1, width - 1], [0, 0, 1]], np.float64) @ matrix
    return matrix


def _placed(view: XrayView, center_pixel: Any, pitch_mm: Any) -> FloatArray:
    """From (row, column, 1) of the upright picture to the detector, shape (2, 3).

    Parameters
    ----------
    view : XrayView
        With the detector.
    center_pixel : sequence of 2 float
        What lies on the detector's centre, in pixels from the picture's outer edge.
    pitch_mm : sequence of 2 float
        Of the upright picture, on the detector.
    """
    scale = np.asarray(pitch_mm, np.float64) / view.pixel_mm
    middle = (np.asarray(view.detector_shape) - 1) / 2
    offset = middle + (0.5 - np.asarray(center_pixel, np.float64)) * scale
    return np.column_stack([np.diag(scale), offset])


def slice_picture(volume: Volume, plane: Plane, index: int, model: OrbitModel) -> OrbitPicture:
    """A CT slice on the detector of a world model, as large as its plane is projected.

    Parameters
    ----------
    volume : Volume
        The CT.
    plane : {"axial", "coronal", "sagittal"}
        Which plane.
    index : int
        Along (I, P, L) respectively.
    model : OrbitModel
        Whose detector.

    Raises
    ------
    InvalidInputError
        If there is no such plane or slice.
    """
    from napari_cxr3d.xray.attenuation import hu_to_attenuation

    if plane not in PLANES:
        raise InvalidInputError(
            f"There is no plane called {plane!r}", remedy=f"choose one of {', '.join(PLANES)}"
        )
    axis = _PLANE_AXIS[plane]
    if not 0 <= index < volume.shape[axis]:
        raise InvalidInputError(
            f"There is no {plane} slice {index}", why=f"there are {volume.shape[axis]}"
        )
    yaw, pitch = _PLANE_ANGLES[plane]
    view = replace(model.base_view, yaw=yaw, pitch=pitch)
    hu = np.asarray(np.take(volume.hu, index, axis), np.float32)
    spacing = np.delete(volume.spacing_mm, axis) * view.magnification
    middle = np.array(hu.shape) / 2
    affine = _placed(view, middle, spacing)
    low, high = _SLICE_HU
    greys = np.clip((hu - low) / np.float32(high - low), 0, 1)
    through = hu_to_attenuation(hu, _SLICE_KEV) * np.float32(volume.spacing_mm[axis])
    parts = [
        footprints(n, c - size / 2 * view.pixel_mm / p, view.pixel_mm / p, size)
        for n, c, p, size in zip(hu.shape, middle, spacing, view.detector_shape, strict=True)
    ]
    pixels, covered = area_mean(greys, parts[0], parts[1])
    integrals, _ = area_mean(through, parts[0], parts[1])
    valid = covered >= _COVERED
    place = [(n - 1) / 2 for n in volume.shape]
    place[axis] = index
    x, y, z = (float(v) for v in volume.grid.index_to_lps(place))
    return OrbitPicture(
        pixels=np.where(valid, pixels, np.float32(0)),
        valid=valid,
        view=view,
        exact=False,
        integrals=np.where(valid, integrals, np.float32(0)),
        affine=affine,
        source_shape=(hu.shape[0], hu.shape[1]),
        center_lps=(x, y, z),
        notes=("A slice is no X-ray: the model never saw one, and its answers are worth less.",),
        name=f"{plane} slice {index}",
        synthetic=volume.synthetic,
    )
