"""The geometry of one X-ray exposure: a point source and a flat detector."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging.frames import FloatArray, Grid

__all__ = ["PRESETS", "DetectorFrame", "XrayView", "preset"]


@dataclass(frozen=True)
class DetectorFrame:
    """Source and detector of a view in LPS millimetres.

    The centre of pixel (row, column) lies at ``origin + row * row_step +
    column * column_step``.

    Attributes
    ----------
    source : ndarray, shape (3,)
        The focal spot.
    center : ndarray, shape (3,)
        Centre of the detector, where the central ray meets it.
    origin : ndarray, shape (3,)
        Centre of pixel (0, 0).
    row_step, column_step : ndarray, shape (3,)
        From one pixel centre to the next along rows (downward) and columns.
    """

    source: FloatArray
    center: FloatArray
    origin: FloatArray
    row_step: FloatArray
    column_step: FloatArray

    def corners(self, shape: tuple[int, int]) -> FloatArray:
        """The detector's outer corners in LPS, clockwise from the top left, shape (4, 3)."""
        rows, cols = shape
        edges = [(-0.5, -0.5), (-0.5, cols - 0.5), (rows - 0.5, cols - 0.5), (rows - 0.5, -0.5)]
        return np.array([self.origin + r * self.row_step + c * self.column_step for r, c in edges])

    def project(self, points_lps: FloatArray) -> FloatArray:
        """Detector (row, column) of LPS points, fractional pixels, shape (..., 2).

        Points in the source's plane parallel to the detector have no image: NaN.
        """
        points = np.asarray(points_lps, dtype=np.float64) - self.source
        normal = np.cross(self.row_step, self.column_step)
        distance = float((self.center - self.source) @ normal)
        depth = points @ normal
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = np.where(depth == 0, np.nan, distance / depth)
        hits = points * scale[..., None] + (self.source - self.origin)
        return np.stack(
            [
                hits @ self.row_step / (self.row_step @ self.row_step),
                hits @ self.column_step / (self.column_step @ self.column_step),
            ],
            axis=-1,
        )


@dataclass(frozen=True)
class XrayView:
    """A cone-beam exposure on a flat detector.

    Yaw 0 is the PA frontal view (source behind the patient, detector in front), 180 the
    AP, +90 the left lateral (left side against the detector). With the angles at 0 the
    image columns grow toward the patient's left and the rows toward inferior: the
    picture a radiologist reads.

    Parameters
    ----------
    yaw : float
        Angle about the patient's superior-inferior axis in degrees.
    pitch : float
        Cranio-caudal angle in degrees, within [-90, 90]; positive lifts the source
        toward the head.
    roll : float
        Angle in the detector plane in degrees: the detector turns clockwise as the
        reader sees it (before `flip_columns`), so the patient's picture turns the
        other way.
    source_to_isocenter_mm, source_to_detector_mm : float
        Distances along the central ray in mm.
    detector_shape : tuple of 2 int
        Detector (rows, columns).
    pixel_mm : float
        Pixel pitch on the detector in mm.
    isocenter_lps : tuple of 3 float, optional
        The point all angles turn about, LPS mm; the volume's centre when None.
    flip_columns : bool
        Mirror the picture: AP presets set it, so that the patient's left is shown on
        the image's right. It never changes within a sweep.

    Raises
    ------
    InvalidInputError
        If a distance, the pitch, the detector or an angle cannot be used.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    source_to_isocenter_mm: float = 1600.0
    source_to_detector_mm: float = 1800.0
    detector_shape: tuple[int, int] = (512, 512)
    pixel_mm: float = 0.8
    isocenter_lps: tuple[float, float, float] | None = None
    flip_columns: bool = False

    def __post_init__(self) -> None:
        for name in ("yaw", "pitch", "roll"):
            if not math.isfinite(getattr(self, name)):
                raise InvalidInputError(f"The {name} angle must be a finite number of degrees")
        if abs(self.pitch) > 90:
            raise InvalidInputError(
                "The pitch must lie between -90 and 90 degrees",
                why=f"it is {self.pitch:g}",
                remedy="turn the yaw by 180 degrees instead",
            )
        sad, sdd = self.source_to_isocenter_mm, self.source_to_detector_mm
        if not (math.isfinite(sad) and math.isfinite(sdd) and 0 < sad <= sdd):
            raise InvalidInputError(
                "The source-to-isocenter distance must be positive and not larger than the "
                "source-to-detector distance",
                why=f"they are {sad:g} mm and {sdd:g} mm",
            )
        if len(self.detector_shape) != 2 or any(
            int(n) != n or not 1 <= n <= 16384 for n in self.detector_shape
        ):
            raise InvalidInputError(
                "The detector needs between 1 and 16384 rows and columns",
                why=f"it has {tuple(self.detector_shape)}",
            )
        if not (math.isfinite(self.pixel_mm) and self.pixel_mm > 0):
            raise InvalidInputError(
                "The pixel pitch must be a positive number of mm", why=f"it is {self.pixel_mm:g}"
            )
        rows, cols = (int(n) for n in self.detector_shape)
        object.__setattr__(self, "detector_shape", (rows, cols))
        if self.isocenter_lps is not None:
            center = tuple(float(v) for v in self.isocenter_lps)
            if len(center) != 3 or not all(math.isfinite(v) for v in center):
                raise InvalidInputError("The isocenter must be three finite LPS coordinates in mm")
            object.__setattr__(self, "isocenter_lps", center)

    @property
    def toward_source(self) -> FloatArray:
        """Unit vector from the isocenter to the source, in LPS."""
        yaw, pitch = math.radians(self.yaw), math.radians(self.pitch)
        return np.array(
            [
                -math.sin(yaw) * math.cos(pitch),
                math.cos(yaw) * math.cos(pitch),
                math.sin(pitch),
            ]
        )

    @property
    def image_axes(self) -> tuple[FloatArray, FloatArray]:
        """Unit vectors in LPS along which image rows (downward) and columns grow."""
        yaw, roll = math.radians(self.yaw), math.radians(self.roll)
        right = np.array([math.cos(yaw), math.sin(yaw), 0.0])
        down = np.cross(self.toward_source, right)
        columns = math.cos(roll) * right + math.sin(roll) * down
        rows = -math.sin(roll) * right + math.cos(roll) * down
        return rows, (-columns if self.flip_columns else columns)

    @property
    def magnification(self) -> float:
        """Size on the detector over size at the isocenter."""
        return self.source_to_detector_mm / self.source_to_isocenter_mm

    @property
    def field_of_view_mm(self) -> tuple[float, float]:
        """Height and width of the field at the isocenter in mm."""
        rows, cols = self.detector_shape
        pitch = self.pixel_mm / self.magnification
        return (rows * pitch, cols * pitch)

    def frame(self, grid: Grid | None = None) -> DetectorFrame:
        """Source and detector positions in LPS.

        Parameters
        ----------
        grid : Grid, optional
            The volume's grid: its centre is the isocenter where the view names none.

        Raises
        ------
        InvalidInputError
            If neither the view nor a grid gives an isocenter.
        """
        if self.isocenter_lps is not None:
            isocenter = np.array(self.isocenter_lps)
        elif grid is not None:
            isocenter = np.array(grid.center_lps)
        else:
            raise InvalidInputError(
                "The view has no isocenter", remedy="give isocenter_lps or a volume's grid"
            )
        toward = self.toward_source
        rows_axis, columns_axis = self.image_axes
        source = isocenter + self.source_to_isocenter_mm * toward
        center = source - self.source_to_detector_mm * toward
        row_step, column_step = rows_axis * self.pixel_mm, columns_axis * self.pixel_mm
        rows, cols = self.detector_shape
        origin = center - (rows - 1) / 2 * row_step - (cols - 1) / 2 * column_step
        return DetectorFrame(source, center, origin, row_step, column_step)

    def resolved(self, grid: Grid) -> XrayView:
        """The same view with its isocenter written out, as it is saved with results."""
        if self.isocenter_lps is not None:
            return self
        return replace(self, isocenter_lps=grid.center_lps)

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable form; `from_dict` reads it back."""
        record = asdict(self)
        record["detector_shape"] = list(self.detector_shape)
        record["isocenter_lps"] = None if self.isocenter_lps is None else list(self.isocenter_lps)
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> XrayView:
        """The view that `to_dict` wrote."""
        settings = dict(record)
        settings["detector_shape"] = tuple(settings["detector_shape"])
        if settings.get("isocenter_lps") is not None:
            settings["isocenter_lps"] = tuple(settings["isocenter_lps"])
        return cls(**settings)


PRESETS: Mapping[str, XrayView] = MappingProxyType(
    {
        # Clinical geometries: 1800 mm for the upright chest, 1000 mm at the bedside; the
        # isocenter lies in mid-chest, about 200 mm (upright) or 150 mm before the detector.
        "pa": XrayView(yaw=0.0),
        "ap": XrayView(yaw=180.0, flip_columns=True),
        "ap-bedside": XrayView(
            yaw=180.0,
            source_to_isocenter_mm=850.0,
            source_to_detector_mm=1000.0,
            flip_columns=True,
        ),
        "left-lateral": XrayView(yaw=90.0),
        "right-lateral": XrayView(yaw=-90.0),
        # The published pipelines' DiffDRR settings (as released with X-WIN and X-ray2CTPA).
        "x-win": XrayView(
            yaw=180.0,
            source_to_isocenter_mm=700.0,
            source_to_detector_mm=1020.0,
            detector_shape=(512, 512),
            pixel_mm=1.0,
            flip_columns=True,
        ),
        "x-ray2ctpa": XrayView(
            yaw=180.0,
            source_to_isocenter_mm=850.0,
            source_to_detector_mm=1200.0,
            detector_shape=(512, 512),
            pixel_mm=1.0,
            flip_columns=True,
        ),
    }
)


def preset(name: str) -> XrayView:
    """A named geometry.

    Raises
    ------
    InvalidInputError
        If there is no such preset; the message lists those that exist.
    """
    try:
        return PRESETS[name]
    except KeyError:
        raise InvalidInputError(
            f"There is no X-ray preset called {name!r}",
            remedy=f"choose one of {', '.join(PRESETS)}",
        ) from None
