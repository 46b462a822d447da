"""A landmark followed through the projections of one CT as the source turns."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import XrayView
from napari_cxr3d.inference.orbit_picture import OrbitPicture
from napari_cxr3d.inference.similarity import (
    PatchFeatures,
    SimilarityMap,
    epipolar_band,
    map_of_template,
    similarity_map,
)
from napari_cxr3d.inference.similarity_epipolar import ray_of
from napari_cxr3d.io.destination import new_file

__all__ = ["TrackedPoint", "Trajectory", "track"]

FloatArray = npt.NDArray[np.float64]

_MEMORY = 0.5  # of the template that stays the clicked one; the rest is the last frame's
_LEAST_RAY_ANGLE = 5.0  # degrees between the farthest rays: less tells no depth
_LEAST_WEIGHT = 0.05  # of a frame whose match is poor, against the best one


@dataclass(frozen=True, eq=False)
class TrackedPoint:
    """The landmark in one frame of the sweep.

    Attributes
    ----------
    index : int
        Which frame.
    yaw : float
        Its angle in degrees.
    point : tuple of 2 float
        (row, column) on the frame's picture as it is stored.
    value : float
        The cosine of the match.
    contrast : float
        As `SimilarityMap.contrast`.
    error_mm : float or None
        From the true projection, at the isocenter; None where the truth is not known.
    """

    index: int
    yaw: float
    point: tuple[float, float]
    value: float
    contrast: float
    error_mm: float | None = None


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The landmark in all frames of a sweep, in the sweep's order.

    Attributes
    ----------
    points : tuple of TrackedPoint
        One a frame.
    epipolar : bool
        Whether the search was held to the epipolar bands.
    landmark_lps : tuple of 3 float or None
        Where the rays of all frames meet best, in the frame of the CT; None where the angles
        tell no depth.
    landmark_error_mm : float or None
        From there to the truth, where that is known.
    notes : tuple of str
        What was assumed, one sentence each.
    """

    points: tuple[TrackedPoint, ...]
    epipolar: bool
    landmark_lps: tuple[float, float, float] | None
    landmark_error_mm: float | None
    notes: tuple[str, ...] = ()

    @property
    def median_error_mm(self) -> float | None:
        """Of the frames; None where the truth is not known."""
        errors = [p.error_mm for p in self.points if p.error_mm is not None]
        return float(np.median(errors)) if errors else None

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable form."""
        return {
            "points": [{**asdict(p), "point": list(p.point)} for p in self.points],
            "epipolar": self.epipolar,
            "landmark_lps": None if self.landmark_lps is None else list(self.landmark_lps),
            "landmark_error_mm": self.landmark_error_mm,
            "median_error_mm": self.median_error_mm,
            "notes": list(self.notes),
        }

    def write_csv(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write one line a frame.

        Parameters
        ----------
        path : path-like
            The file.
        overwrite : bool
            Whether it may be replaced.

        Raises
        ------
        ExportError
            If it must not or cannot be written.
        """
        path = Path(path).expanduser()
        columns = ("index", "yaw", "row", "column", "value", "contrast", "error_mm", "synthetic")
        with (
            new_file(path, overwrite=overwrite) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as stream,
        ):
            writer = csv.writer(stream)
            writer.writerow(columns)
            for p in self.points:
                error = "" if p.error_mm is None else f"{p.error_mm:.3f}"
                numbers = (*p.point, p.value, p.contrast)
                line = (p.index, f"{p.yaw:g}", *(f"{n:.4f}" for n in numbers), error, True)
                writer.writerow(line)
        return path


def track(
    query: PatchFeatures,
    point: npt.ArrayLike,
    sweep: Sequence[PatchFeatures],
    *,
    epipolar: bool = True,
    truth_lps: Sequence[float] | None = None,
    memory: float = _MEMORY,
) -> Trajectory:
    """Follow a point of a picture through a sweep of projections.

    It starts at the frame whose yaw is nearest to the picture's and goes both ways, each time with
    a template between that of the click and that of the frame before. The search is held to
    the epipolar bands of the click, or, where the click lies on a picture that was not
    projected from the sweep's CT, to those of its match in the first frame.

    Parameters
    ----------
    query : PatchFeatures
        Of the picture with the point.
    point : array_like, shape (2,)
        (row, column) on it as it is stored.
    sweep : sequence of PatchFeatures
        Of the projections of one CT, in the order of their angles.
    epipolar : bool
        Whether to hold the search to the bands.
    truth_lps : sequence of 3 float, optional
        The landmark in the frame of the CT: for the errors.
    memory : float
        Part of the template that stays the clicked one, 0 to 1.

    Raises
    ------
    InvalidInputError
        If there is no frame, a frame is no projection of a CT, or as `similarity_map`.
    """
    if not sweep:
        raise InvalidInputError("There is no sweep to follow the landmark through")
    if not 0 <= memory <= 1:
        raise InvalidInputError("The memory must lie from 0 to 1", why=f"it is {memory:g}")
    views = [_projected(features.picture) for features in sweep]
    notes: list[str] = []
    start = min(range(len(sweep)), key=lambda k: _turn(query.picture.view.yaw, views[k].yaw))
    anchor: tuple[XrayView, FloatArray] | None = None
    if epipolar and query.picture.exact and query.picture.center_lps is not None:
        anchor = (query.picture.in_ct(), query.picture.to_detector(point))
    first = similarity_map(
        query, point, sweep[start],
        band=None if anchor is None else epipolar_band(*anchor, views[start]),
    )  # fmt: skip
    if epipolar and anchor is None:
        anchor = (views[start], np.array(first.peak))
        notes.append(
            "The picture was not projected from the CT: the search is held to the height that its "
            f"match has at yaw {views[start].yaw:g}°."
        )
    maps: dict[int, SimilarityMap] = {start: first}
    clicked = query.at(query.picture.to_detector(point))
    for frames in (range(start + 1, len(sweep)), range(start - 1, -1, -1)):
        last, where = sweep[start], first.peak
        for k in frames:
            template = memory * clicked + (1 - memory) * last.at(where)
            template /= max(float(np.linalg.norm(template)), 1e-6)
            band = None if anchor is None else epipolar_band(*anchor, views[k])
            maps[k] = map_of_template(template, sweep[k], band=band)
            last, where = sweep[k], maps[k].peak
    truth = None if truth_lps is None else np.asarray(truth_lps, np.float64)
    points = tuple(_point(k, views[k], maps[k], truth) for k in range(len(sweep)))
    landmark = _meeting(views, points, [maps[k].peak for k in range(len(sweep))])
    error = None
    if landmark is not None and truth is not None:
        error = float(np.linalg.norm(landmark - truth))
    if landmark is None:
        notes.append("The angles of the sweep are too near each other to tell the depth.")
    place = None
    if landmark is not None:
        place = (float(landmark[0]), float(landmark[1]), float(landmark[2]))
    return Trajectory(points, anchor is not None, place, error, tuple(notes))


def _projected(picture: OrbitPicture) -> XrayView:
    if not picture.exact or picture.center_lps is None:
        raise InvalidInputError(
            "A landmark is followed through projections of a CT",
            why=f"{picture.name or 'a frame'} is none",
            remedy="make a sweep of a CT first",
        )
    return picture.in_ct()


def _turn(a: float, b: float) -> float:
    """Degrees from one yaw to another, 0 to 180."""
    return abs((a - b + 180) % 360 - 180)


def _point(
    index: int, view: XrayView, found: SimilarityMap, truth: FloatArray | None
) -> TrackedPoint:
    error = None
    if truth is not None:
        apart = np.linalg.norm(view.frame().project(truth) - np.array(found.peak))
        error = float(apart * view.pixel_mm / view.magnification)
    return TrackedPoint(index, view.yaw, found.peak_source, found.value, found.contrast, error)


def _meeting(
    views: Sequence[XrayView], points: Sequence[TrackedPoint], peaks: Sequence[tuple[float, float]]
) -> FloatArray | None:
    """The point with the least weighted squared distance from the rays, shape (3,).

    Better matches count for more. None where the rays are nearly parallel.
    """
    rays = [ray_of(view, peak) for view, peak in zip(views, peaks, strict=True)]
    directions = np.array([toward for _, toward in rays])
    cosines = np.abs(directions @ directions.T)
    if cosines.min() > np.cos(np.deg2rad(_LEAST_RAY_ANGLE)):
        return None
    values = np.array([p.value for p in points])
    weights = np.maximum(values / max(values.max(), 1e-6), _LEAST_WEIGHT) ** 2
    # Each ray leaves open where along it the point lies: (I - d d^T) x = (I - d d^T) s.
    across = np.eye(3) - directions[:, :, None] * directions[:, None, :]
    sources = np.array([source for source, _ in rays])
    left = np.einsum("k,kij->ij", weights, across)
    right = np.einsum("k,kij,kj->i", weights, across, sources)
    found: FloatArray = np.linalg.solve(left, right)
    return found
