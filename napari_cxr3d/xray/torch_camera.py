"""What the torch renderers share: the view as a camera matrix, and volumes on a device.

A camera has its origin in the source; x grows along image columns, y along image rows
(downward) and z from the source to the detector, all in mm. World is LPS relative to the
grid's centre, so that float32 keeps its precision wherever the patient lies.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from threading import RLock
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import BackendUnavailableError, InvalidInputError, OutOfMemoryError
from napari_cxr3d.imaging import Grid, Volume, XrayView
from napari_cxr3d.imaging.frames import FloatArray
from napari_cxr3d.progress import Progress, ProgressCallback

if TYPE_CHECKING:
    import torch

__all__ = [
    "POSE_PARAMETERS",
    "PerVolume",
    "camera_from_pose",
    "camera_matrix",
    "check_attenuation",
    "check_images",
    "check_views",
    "longest_chord",
    "memory_errors",
    "pose_of",
    "report",
    "require",
    "to_tensor",
    "view_at",
    "voxel_to_world",
]

T = TypeVar("T")

POSE_PARAMETERS = ("yaw", "pitch", "roll", "x", "y", "z")
"""A pose as a vector: three angles in degrees, then the isocenter in LPS mm."""


@lru_cache(maxsize=1024)
def camera_matrix(view: XrayView, grid: Grid) -> FloatArray:
    """Camera to world, shape (4, 4); a reflection where the view flips its columns."""
    frame = view.frame(grid)
    matrix = np.eye(4)
    matrix[:3, 0] = frame.column_step / view.pixel_mm
    matrix[:3, 1] = frame.row_step / view.pixel_mm
    matrix[:3, 2] = (frame.center - frame.source) / view.source_to_detector_mm
    matrix[:3, 3] = frame.source - np.array(grid.center_lps)
    matrix.flags.writeable = False
    return matrix


def voxel_to_world(grid: Grid) -> FloatArray:
    """Matrix from voxel index (l, p, i) to world, shape (4, 4).

    The renderers index a volume by its fastest axis first.
    """
    matrix = grid.affine_lps[:, [2, 1, 0, 3]]
    matrix[:3, 3] -= grid.center_lps
    return matrix


@lru_cache(maxsize=64)
def longest_chord(grid: Grid) -> float:
    """Upper bound of any ray's path through the grid in mm: its diagonal."""
    return float(np.linalg.norm(grid.size_mm))


def pose_of(view: XrayView, grid: Grid) -> FloatArray:
    """The view's pose, by `POSE_PARAMETERS`, shape (6,)."""
    isocenter = view.isocenter_lps or grid.center_lps
    return np.array([view.yaw, view.pitch, view.roll, *isocenter])


def view_at(view: XrayView, pose: npt.ArrayLike) -> XrayView:
    """The view with another pose, given by `POSE_PARAMETERS`."""
    yaw, pitch, roll, x, y, z = np.asarray(pose, dtype=np.float64).tolist()
    return replace(view, yaw=yaw, pitch=pitch, roll=roll, isocenter_lps=(x, y, z))


def camera_from_pose(pose: torch.Tensor, view: XrayView, grid: Grid) -> torch.Tensor:
    """`camera_matrix` as a differentiable function of the pose.

    Parameters
    ----------
    pose : Tensor, shape (V, 6)
        Poses by `POSE_PARAMETERS`.
    view : XrayView
        Gives the distances and whether the columns are flipped.
    grid : Grid
        Gives the world's origin.

    Returns
    -------
    Tensor, shape (V, 4, 4)
        Of the pose's dtype, on its device.
    """
    import torch

    yaw, pitch, roll = torch.deg2rad(pose[:, :3]).unbind(dim=1)
    zero = torch.zeros_like(yaw)
    toward = torch.stack([-yaw.sin() * pitch.cos(), yaw.cos() * pitch.cos(), pitch.sin()], dim=1)
    right = torch.stack([yaw.cos(), yaw.sin(), zero], dim=1)
    down = torch.linalg.cross(toward, right)
    cos_roll, sin_roll = roll.cos()[:, None], roll.sin()[:, None]
    columns = cos_roll * right + sin_roll * down
    rows = cos_roll * down - sin_roll * right
    center = torch.as_tensor(grid.center_lps, dtype=pose.dtype, device=pose.device)
    source = pose[:, 3:] - center + view.source_to_isocenter_mm * toward
    affine = torch.stack([-columns if view.flip_columns else columns, rows, -toward, source], dim=2)
    last = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=pose.dtype, device=pose.device)
    return torch.cat([affine, last.expand(len(pose), 1, 4)], dim=1)


class PerVolume(Generic[T]):
    """Keeps what was built for the last volume, as long as that volume lives.

    Parameters
    ----------
    build : callable
        Makes the thing to keep from a volume.
    """

    def __init__(self, build: Callable[[Volume], T]) -> None:
        self._build = build
        self._lock = RLock()
        self._kept: tuple[weakref.ref[Volume], T] | None = None

    def __call__(self, volume: Volume) -> T:
        """What was built for the volume, now or before."""
        with self._lock:
            if self._kept is not None and self._kept[0]() is volume:
                return self._kept[1]
            self._kept = None  # before building, so that two volumes never fill the device
            built = self._build(volume)
            self._kept = (weakref.ref(volume, self._forget), built)
            return built

    def _forget(self, reference: weakref.ref[Volume]) -> None:
        with self._lock:
            if self._kept is not None and self._kept[0] is reference:
                self._kept = None


def check_views(views: Sequence[XrayView]) -> tuple[int, int]:
    """The detector shape that the views of one call share.

    Raises
    ------
    InvalidInputError
        If there is no view, or their detectors differ in shape.
    """
    shapes = sorted({view.detector_shape for view in views})
    if not shapes:
        raise InvalidInputError("There is no view to project", remedy="give one or more views")
    if len(shapes) > 1:
        raise InvalidInputError(
            "The views of one call must share one detector shape",
            why=f"they have {', '.join(f'{r} x {c}' for r, c in shapes)} pixels",
            remedy="project each detector shape in a call of its own",
        )
    return shapes[0]


def check_images(images: npt.NDArray[Any], views: Sequence[XrayView]) -> None:
    """Refuse images that do not belong to the views.

    Raises
    ------
    InvalidInputError
        If the shape is not [views, rows, cols].
    """
    expected = (len(views), *check_views(views))
    if images.shape != expected:
        raise InvalidInputError(
            "The images do not fit the views",
            why=f"they have shape {images.shape}, the views {expected}",
        )


def check_attenuation(shape: tuple[int, ...], grid: Grid) -> None:
    """Refuse an attenuation array that does not lie on the grid.

    Raises
    ------
    InvalidInputError
        If the shapes differ.
    """
    if tuple(shape) != grid.shape:
        raise InvalidInputError(
            "The attenuation does not fit its grid",
            why=f"it has shape {tuple(shape)}, the grid {grid.shape}",
        )


def require(module: str, package: str) -> None:
    """Import a renderer now, so that what is missing is said in our words.

    Raises
    ------
    BackendUnavailableError
        If it cannot be imported.
    """
    try:
        import_module(module)
    except (ImportError, RuntimeError, OSError) as error:
        raise BackendUnavailableError(
            f"The renderer {package} cannot be imported",
            why=str(error),
            remedy=f"type pip install --upgrade {package}",
        ) from error


def to_tensor(array: npt.NDArray[Any], device: str) -> torch.Tensor:
    """A float32 tensor on the device, without a copy where none is needed."""
    import torch

    array = np.ascontiguousarray(array, dtype=np.float32)
    if not array.flags.writeable:  # torch warns of arrays that it must not write to
        array = array.copy()
    return torch.from_numpy(array).to(device)


@contextmanager
def memory_errors(device: str) -> Iterator[None]:
    """Turn torch's out-of-memory error into ours.

    Raises
    ------
    OutOfMemoryError
        In place of torch's.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(
            f"There is not enough free memory on {device} to project",
            why=str(error).partition("\n")[0],
            remedy="choose fewer detector pixels, or the backend cpu",
        ) from error


def report(progress: ProgressCallback | None, done: int, total: int, verb: str) -> None:
    """Tell how many views are done."""
    if progress is not None:
        progress(Progress(done, total, f"{verb} view {done} of {total}"))
