"""Where X-rays are taken from: at random within ranges, on a lattice of angles, or fixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Grid, XrayView, preset

__all__ = [
    "CAMERA",
    "POSE",
    "FixedPoses",
    "LatticePoses",
    "Poses",
    "RandomPoses",
    "camera_rows",
    "frontal_and_lateral",
    "orbit",
    "pose_rows",
    "views_of",
]

Range = tuple[float, float]
FloatRows = npt.NDArray[np.float32]

POSE = ("yaw", "pitch", "roll", "x", "y", "z", "source_to_isocenter", "source_to_detector", "pixel")
"""Columns of `pose_rows`: degrees, then the isocenter in LPS mm, then mm."""

CAMERA = ("source", "first_pixel", "row_step", "column_step")
"""Columns of `camera_rows`, three numbers each: LPS mm from the volume's centre."""


class Poses(Protocol):
    """A way to choose the views of one sample."""

    def draw(self, rng: np.random.Generator, grid: Grid) -> tuple[XrayView, ...]:
        """Views of a volume on this grid, their isocenters written out, of one detector shape."""
        ...


@dataclass(frozen=True)
class RandomPoses:
    """Views drawn evenly from ranges.

    The distances are drawn once for a sample, as one room has one set-up; angles and the
    isocenter are drawn for every view.

    Attributes
    ----------
    count : int
        Views of a sample.
    yaw, pitch, roll : tuple of 2 float
        Degrees (see `XrayView`).
    source_to_isocenter_mm : tuple of 2 float
        Source to the point that the angles turn about.
    isocenter_to_detector_mm : tuple of 2 float
        From there to the detector.
    jitter_mm : tuple of 3 float
        How far the isocenter may lie from the volume's centre, to both sides along L, P and S.
    detector_shape : tuple of 2 int
        Rows and columns.
    pixel_mm : float
        Pixel pitch on the detector.
    flip_columns : bool
        Mirror the pictures, as AP presets do.
    """

    count: int = 2
    yaw: Range = (-180.0, 180.0)
    pitch: Range = (-10.0, 10.0)
    roll: Range = (-3.0, 3.0)
    source_to_isocenter_mm: Range = (1500.0, 1700.0)
    isocenter_to_detector_mm: Range = (150.0, 250.0)
    jitter_mm: tuple[float, float, float] = (15.0, 15.0, 25.0)
    detector_shape: tuple[int, int] = (128, 128)
    pixel_mm: float = 3.2
    flip_columns: bool = False

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InvalidInputError("A sample has one view or more", why=f"it is {self.count}")
        for name in (
            "yaw", "pitch", "roll", "source_to_isocenter_mm", "isocenter_to_detector_mm",
        ):  # fmt: skip
            low, high = (float(v) for v in getattr(self, name))
            if not low <= high:
                raise InvalidInputError(
                    f"The range of {name} must rise", why=f"it is from {low:g} to {high:g}"
                )
            object.__setattr__(self, name, (low, high))
        object.__setattr__(self, "jitter_mm", tuple(float(v) for v in self.jitter_mm))
        object.__setattr__(self, "detector_shape", tuple(int(n) for n in self.detector_shape))
        if self.isocenter_to_detector_mm[0] < 0 or min(self.jitter_mm) < 0:
            raise InvalidInputError("Distances and jitter must be 0 or more")
        for end in (0, 1):  # what XrayView refuses is refused now
            near, far = (ends[end] for ends in self._distances)
            self._view(self.pitch[end], near, far, (0.0, 0.0, 0.0))

    @property
    def _distances(self) -> tuple[Range, Range]:
        return self.source_to_isocenter_mm, self.isocenter_to_detector_mm

    def draw(self, rng: np.random.Generator, grid: Grid) -> tuple[XrayView, ...]:
        """`count` views."""
        near, far = (float(rng.uniform(*ends)) for ends in self._distances)
        center, jitter = np.array(grid.center_lps), np.array(self.jitter_mm)
        views = []
        for _ in range(self.count):
            yaw, pitch, roll = (
                float(rng.uniform(*ends)) for ends in (self.yaw, self.pitch, self.roll)
            )
            x, y, z = (center + rng.uniform(-1, 1, 3) * jitter).tolist()
            view = self._view(pitch, near, far, (x, y, z))
            views.append(replace(view, yaw=yaw, roll=roll))
        return tuple(views)

    def _view(
        self, pitch: float, near: float, far: float, isocenter: tuple[float, float, float]
    ) -> XrayView:
        return XrayView(
            pitch=pitch,
            source_to_isocenter_mm=near,
            source_to_detector_mm=near + far,
            detector_shape=self.detector_shape,
            pixel_mm=self.pixel_mm,
            isocenter_lps=isocenter,
            flip_columns=self.flip_columns,
        )


@dataclass(frozen=True)
class LatticePoses:
    """Views at multiples of one step of the yaw, drawn without repeats, the frontal one first.

    The choice of X-WIN: the first view is what a model sees, the others what it predicts.

    Attributes
    ----------
    base : XrayView
        The frontal view.
    count : int
        Views of a sample, the frontal one among them.
    step : float
        Degrees between neighbours.
    span : tuple of 2 float
        First and last angle, from that of `base`.
    """

    base: XrayView
    count: int = 9
    step: float = 3.0
    span: Range = (-90.0, 90.0)

    def __post_init__(self) -> None:
        if self.step <= 0 or self.count < 1 or len(self.angles) < self.count - 1:
            raise InvalidInputError(
                "There are not enough angles to draw from",
                why=f"{self.count - 1} of {len(self.angles) if self.step > 0 else 0} are wanted",
                remedy="choose a smaller step, or fewer views",
            )

    @property
    def angles(self) -> tuple[float, ...]:
        """The angles to draw from; 0 is left to the first view."""
        first, last = (round(end / self.step) for end in self.span)
        return tuple(k * self.step for k in range(first, last + 1) if k != 0)

    def draw(self, rng: np.random.Generator, grid: Grid) -> tuple[XrayView, ...]:
        """The frontal view, then `count - 1` others."""
        chosen = rng.choice(self.angles, self.count - 1, replace=False)
        base = self.base.resolved(grid)
        turned = (replace(base, yaw=base.yaw + float(angle)) for angle in chosen)
        return (base, *turned)


@dataclass(frozen=True)
class FixedPoses:
    """The same views every time, about each volume's own centre.

    Attributes
    ----------
    views : tuple of XrayView
        Of one detector shape.
    """

    views: tuple[XrayView, ...]

    def __post_init__(self) -> None:
        if len({view.detector_shape for view in self.views}) != 1:
            raise InvalidInputError(
                "Views to train on need one detector shape",
                why=f"they have {sorted({v.detector_shape for v in self.views})}",
            )

    def draw(self, rng: np.random.Generator, grid: Grid) -> tuple[XrayView, ...]:
        """The views."""
        return tuple(view.resolved(grid) for view in self.views)


def frontal_and_lateral(
    name: str = "pa", *, detector_shape: tuple[int, int] = (128, 128), pixel_mm: float = 3.2
) -> FixedPoses:
    """A frontal view by the name of its preset, and the left lateral of the same distances."""
    frontal = replace(preset(name), detector_shape=detector_shape, pixel_mm=pixel_mm)
    return FixedPoses((frontal, replace(frontal, yaw=90.0)))


def orbit(base: XrayView, count: int, *, span: Range = (-180.0, 180.0)) -> FixedPoses:
    """Views at even steps around the patient; the end of a whole turn is left out."""
    first, last = span
    whole = abs(last - first) >= 360.0
    angles = np.linspace(first, last, count, endpoint=not whole)
    return FixedPoses(tuple(replace(base, yaw=base.yaw + float(a)) for a in angles))


def pose_rows(views: Sequence[XrayView], grid: Grid) -> FloatRows:
    """Poses as numbers, float32 [V, 9], columns by `POSE`; `views_of` reads them back."""
    resolved = [view.resolved(grid) for view in views]
    return np.array(
        [
            [
                v.yaw, v.pitch, v.roll, *(v.isocenter_lps or ()),
                v.source_to_isocenter_mm, v.source_to_detector_mm, v.pixel_mm,
            ]
            for v in resolved
        ],
        np.float32,
    )  # fmt: skip


def views_of(
    rows: npt.ArrayLike, detector_shape: tuple[int, int], *, flip_columns: bool = False
) -> tuple[XrayView, ...]:
    """The views that `pose_rows` made numbers of.

    Parameters
    ----------
    rows : array_like, shape (V, 9)
        By `POSE`.
    detector_shape : tuple of 2 int
        That of the pictures.
    flip_columns : bool
        Whether they are mirrored.
    """
    return tuple(
        XrayView(yaw, pitch, roll, near, far, detector_shape, pixel, (x, y, z), flip_columns)
        for yaw, pitch, roll, x, y, z, near, far, pixel in np.asarray(rows, np.float64).tolist()
    )


def camera_rows(views: Sequence[XrayView], grid: Grid) -> FloatRows:
    """Every ray of a view in twelve numbers, float32 [V, 12], by `CAMERA`.

    Pixel (r, c) is seen from ``source`` in the direction of
    ``first_pixel + r * row_step + c * column_step - source``.
    """
    center = np.array(grid.center_lps)
    rows = []
    for view in views:
        frame = view.frame(grid)
        rows.append(
            [frame.source - center, frame.origin - center, frame.row_step, frame.column_step]
        )
    return np.array(rows, np.float32).reshape(len(views), 12)
