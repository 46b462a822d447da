"""Samples of a world model: one X-ray of a patient, and what it would show from elsewhere.

A patient's volume is changed once for each of a number of variants, which are kept: the X-ray
that the model sees is simulated once a variant, while the views that it is to predict are
rendered anew at every step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cxr3d_training.data.augment import augment
from cxr3d_training.data.augment import augmentation as steps_named
from cxr3d_training.data.cohort import CaseList, CohortCase
from cxr3d_training.data.grids import block_start, on_grid
from cxr3d_training.data.memory import Memory
from cxr3d_training.data.poses import FixedPoses, Range
from cxr3d_training.data.views import ViewRenderer
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Grid, Volume, XrayView

__all__ = ["LandmarkSet", "OrbitEpisodes", "OrbitPoses", "case_shift", "orbit_of", "orbit_views"]

FloatArray = npt.NDArray[np.float32]

_MEMORY = 5 << 30
_TRIPLES = 64
_TRIPLE_SEED = 20261124
_FIT_VOXELS = 4096


@dataclass(frozen=True)
class OrbitPoses:
    """Where the X-ray is taken from, and the turns to the views that are predicted.

    Attributes
    ----------
    count : int
        Views predicted of a sample, N of X-WIN.
    yaw_range : tuple of 2 float
        Degrees from the X-ray, first and last.
    yaw_step : float
        Degrees between the angles that are drawn from, without repeats.
    pitch, roll : float
        Largest turn in pitch and roll, for models that are told them; 0 is yaw alone.
    tilt : float
        Largest deviation of the X-ray's own yaw, pitch and roll, degrees: patients do not stand
        straight.
    source_to_isocenter_mm, isocenter_to_detector_mm : tuple of 2 float
        Distances, drawn once for a variant.
    jitter_mm : tuple of 3 float
        How far the isocenter may lie from the volume's centre, along L, P and S.
    detector_shape : tuple of 2 int
        Rows and columns.
    field_mm : tuple of 2 float
        Edge of the detector along its columns, drawn once for a variant.
    """

    count: int = 8
    yaw_range: Range = (-90.0, 90.0)
    yaw_step: float = 3.0
    pitch: float = 0.0
    roll: float = 0.0
    tilt: float = 0.0
    source_to_isocenter_mm: Range = (1600.0, 1600.0)
    isocenter_to_detector_mm: Range = (200.0, 200.0)
    jitter_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    detector_shape: tuple[int, int] = (128, 128)
    field_mm: Range = (440.0, 440.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "detector_shape", tuple(int(n) for n in self.detector_shape))
        if self.yaw_step <= 0 or not 1 <= self.count <= len(self.yaws):
            raise InvalidInputError(
                "There are not enough angles to draw from",
                why=f"{self.count} views are wanted of {self.yaw_range} by {self.yaw_step:g}",
                remedy="choose a smaller yaw_step, or fewer views",
            )
        for name in ("source_to_isocenter_mm", "isocenter_to_detector_mm", "field_mm"):
            low, high = (float(v) for v in getattr(self, name))
            if not 0 < low <= high:
                raise InvalidInputError(f"The range of {name} must rise from above 0")
            object.__setattr__(self, name, (low, high))

    @property
    def yaws(self) -> tuple[float, ...]:
        """The angles that are drawn from."""
        first, last = (round(end / self.yaw_step) for end in self.yaw_range)
        return tuple(k * self.yaw_step for k in range(first, last + 1))

    def base(self, rng: np.random.Generator, grid: Grid) -> XrayView:
        """Where the X-ray of a volume is taken from."""
        near, beyond, field = (
            float(rng.uniform(*ends))
            for ends in (self.source_to_isocenter_mm, self.isocenter_to_detector_mm, self.field_mm)
        )
        yaw, pitch, roll = (rng.uniform(-1, 1, 3) * (self.tilt, self.tilt, self.tilt / 2)).tolist()
        center = np.array(grid.center_lps) + rng.uniform(-1, 1, 3) * np.array(self.jitter_mm)
        x, y, z = center.tolist()
        return XrayView(
            yaw=yaw,
            pitch=pitch,
            roll=roll,
            source_to_isocenter_mm=near,
            source_to_detector_mm=near + beyond,
            detector_shape=self.detector_shape,
            pixel_mm=field / self.detector_shape[1],
            isocenter_lps=(x, y, z),
        )

    def turns(self, rng: np.random.Generator) -> FloatArray:
        """Turns to `count` views, float32 (count, 3): yaw, pitch and roll in degrees."""
        turns = np.zeros((self.count, 3), np.float32)
        turns[:, 0] = rng.choice(self.yaws, self.count, replace=False)
        turns[:, 1:] = rng.uniform(-1, 1, (self.count, 2)) * (self.pitch, self.roll)
        return turns


def turned(view: XrayView, turn: npt.ArrayLike) -> XrayView:
    """A view turned by yaw, pitch and roll in degrees."""
    yaw, pitch, roll = (float(a) for a in np.asarray(turn))
    return replace(view, yaw=view.yaw + yaw, pitch=view.pitch + pitch, roll=view.roll + roll)


class LandmarkSet:
    """Points that are the same place in every phantom: landmarks, and mixtures of three.

    A mixture has the same three landmarks and the same shares in every patient, so that places
    between landmarks are covered too.

    Parameters
    ----------
    cases : sequence of CohortCase
        Whose landmarks tell which lie near each other; those of patients have none.
    held_out : sequence of str
        Landmarks that are left to the evaluation, in mixtures too.
    """

    def __init__(self, cases: Sequence[CohortCase], held_out: Sequence[str] = ()) -> None:
        sets = [case.landmarks for case in cases[:64] if case.landmarks]
        names = sorted(set.intersection(*map(set, sets))) if sets else []
        unknown = set(held_out) - set(names) if names else set()
        if unknown:
            raise InvalidInputError(
                f"There is no landmark {', '.join(sorted(unknown))}",
                remedy=f"choose of {', '.join(names)}",
            )
        self.names = tuple(name for name in names if name not in held_out)
        self.shares = np.zeros((0, len(self.names)))
        if len(self.names) < 3:
            return
        rng = np.random.default_rng(_TRIPLE_SEED)
        mean = np.mean([[s[name] for name in self.names] for s in sets], axis=0)
        rows = list(np.eye(len(self.names)))
        for _ in range(_TRIPLES):
            first = rng.integers(len(self.names))
            near = np.argsort(np.linalg.norm(mean - mean[first], axis=1))[1:13]
            row = np.zeros(len(self.names))
            row[[first, *rng.choice(near, 2, replace=False)]] = rng.dirichlet((1.0, 1.0, 1.0))
            rows.append(row)
        self.shares = np.array(rows)

    def __len__(self) -> int:
        return len(self.shares)

    def points(self, case: CohortCase) -> npt.NDArray[np.float64]:
        """LPS positions in the case's own frame, mm, (len(self), 3); NaN without landmarks."""
        marks = case.landmarks
        if not len(self) or not marks:
            return np.full((len(self), 3), np.nan)
        found: npt.NDArray[np.float64] = self.shares @ np.array([marks[n] for n in self.names])
        return found


@dataclass(frozen=True, eq=False)
class _Episode:
    """One variant of a patient."""

    volume: Volume
    base: XrayView
    picture: FloatArray  # the realistic X-ray
    points: npt.NDArray[np.float64]

    @property
    def nbytes(self) -> int:
        return int(self.volume.hu.nbytes + self.picture.nbytes + self.points.nbytes)


class OrbitEpisodes:
    """Draws samples for a world model; `sample` goes to a `Feed`.

    Parameters
    ----------
    cases : CaseList
        The training cases.
    poses : OrbitPoses
        Where from.
    volume_shape, spacing_mm : sequences of 3
        The grid on which the cases are rendered.
    domain : str
        Look of realistic X-rays; see `napari_cxr3d.xray.simulator`.
    realistic : float
        Part of the samples whose X-ray has that look; the others show the DRR itself.
    variants : int
        Changed copies of every patient; they are kept in memory.
    augmentation : {"none", "light", "full"}
        Of the volumes.
    collimated, blades : float
        Part of the X-rays of which sides are black, and how much at most.
    landmarks : LandmarkSet, optional
        Points whose places in the pictures are told.
    """

    def __init__(
        self,
        cases: CaseList,
        poses: OrbitPoses,
        *,
        volume_shape: Sequence[int],
        spacing_mm: Sequence[float],
        domain: str = "realistic",
        realistic: float = 0.5,
        variants: int = 4,
        augmentation: str = "full",
        collimated: float = 0.3,
        blades: float = 0.12,
        landmarks: LandmarkSet | None = None,
    ) -> None:
        if not (0 <= realistic <= 1 and 0 <= collimated <= 1 and 0 <= blades < 0.5):
            raise InvalidInputError(
                "Shares of X-rays lie between 0 and 1, blades below a half",
                why=f"they are {realistic:g}, {collimated:g} and {blades:g}",
            )
        self.cases = cases
        self.poses = poses
        self.landmarks = landmarks
        self._shape, self._spacing = tuple(volume_shape), tuple(spacing_mm)
        self._realistic, self._variants = realistic, max(1, variants)
        self._share_collimated, self._blades = collimated, blades
        self._steps = steps_named(augmentation)
        nowhere = FixedPoses((XrayView(detector_shape=poses.detector_shape),))
        self._look = ViewRenderer(nowhere, domain=domain)
        self._lines = ViewRenderer(nowhere)
        self._memory: Memory[_Episode] = Memory(_MEMORY, size=lambda episode: episode.nbytes)

    def sample(self, rng: np.random.Generator) -> dict[str, npt.NDArray[Any]]:
        """One sample.

        Returns
        -------
        dict of str to ndarray
            ``context`` float32 [rows, cols], the X-ray that the model sees; ``frontal`` its DRR;
            ``integrals`` [K, rows, cols], line integrals of the views to predict; ``turns``
            [K, 3]; ``marks`` [1 + K, L, 2], (row, column) of the landmarks in the X-ray and the
            views, and ``marked`` bool [1 + K, L], where they are known and on the detector.
        """
        episode = self._draw(rng)
        turns = self.poses.turns(rng)
        views = (episode.base, *(turned(episode.base, turn) for turn in turns))
        lines = self._lines.render(episode.volume, views).integrals
        seen = episode.picture if rng.random() < self._realistic else lines[0]
        sample = {
            "context": self.collimated(seen, rng),
            "frontal": lines[0],
            "integrals": lines[1:],
            "turns": turns,
        }
        if self.landmarks is not None:
            marks, marked = _marks(episode.points, views)
            sample |= {"marks": marks, "marked": marked}
        return sample

    def realistic(self, rng: np.random.Generator) -> FloatArray:
        """A realistic X-ray alone, float32 [rows, cols]."""
        return self.collimated(self._draw(rng).picture, rng)

    def _draw(self, rng: np.random.Generator) -> _Episode:
        case = self.cases.draw(rng)
        variant = int(rng.integers(self._variants))
        return self._memory.get((case.id, variant), lambda: self._episode(case, variant))

    def _episode(self, case: CohortCase, variant: int) -> _Episode:
        # Of the case's name, so that the same variant comes out whoever asks for it first.
        seed = [variant, *case.id.encode()]
        rng = np.random.default_rng(seed)
        volume, maps = on_grid(case, self._shape, self._spacing)
        index = np.indices(volume.shape, np.int16)
        named = dict(zip("ipl", index, strict=True))
        changed = augment(volume, self._steps, rng, {"lungs": maps["lungs"], **named})
        points = np.zeros((0, 3))
        if self.landmarks is not None:
            points = _carried(self.landmarks.points(case), case, volume, changed.maps)
        base = self.poses.base(rng, changed.volume.grid)
        picture = self._look.render(changed.volume, [base], int(rng.integers(1 << 31))).pictures
        assert picture is not None  # a domain was named
        return _Episode(changed.volume, base, picture[0], points)

    def collimated(self, picture: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Black sides, as collimation or a picture of other proportions leaves them."""
        cut = rng.uniform(0, self._blades, 4) * (rng.random() < self._share_collimated)
        top, bottom, left, right = np.rint(cut * np.repeat(picture.shape, 2)).astype(int)
        out = np.full_like(picture, picture.min())
        rows, cols = slice(top, len(picture) - bottom), slice(left, picture.shape[1] - right)
        out[rows, cols] = picture[rows, cols]
        return out


def orbit_views(base: XrayView, yaws: Sequence[float]) -> tuple[XrayView, ...]:
    """The views of an orbit, turned by each yaw from `base`."""
    return tuple(turned(base, (yaw, 0.0, 0.0)) for yaw in yaws)


def case_shift(case: CohortCase, volume: Volume) -> npt.NDArray[np.float64]:
    """What takes LPS points of a case into the frame of its block by `on_grid`, mm, shape (3,)."""
    i, p, ell = (
        first * step
        for first, step in zip(block_start(case, volume.shape), volume.spacing_mm, strict=True)
    )
    to_block = np.subtract(volume.origin_lps, case.origin_lps)
    shift: npt.NDArray[np.float64] = to_block - np.array([ell, p, -i])
    return shift


def orbit_of(
    case: CohortCase,
    base: XrayView,
    yaws: Sequence[float],
    *,
    volume_shape: Sequence[int] = (64, 64, 64),
    spacing_mm: Sequence[float] = (6.0, 6.0, 6.0),
) -> tuple[Volume, FloatArray]:
    """A case as it is, and its line integrals from an orbit.

    Parameters
    ----------
    case : CohortCase
        Of the spacing.
    base : XrayView
        The view at yaw 0, such as a model's `base_view`.
    yaws : sequence of float
        Degrees from it.
    volume_shape, spacing_mm : sequences of 3
        The grid, about the patient; see `on_grid`.

    Returns
    -------
    volume : Volume
        On that grid, its centre at LPS (0, 0, 0).
    integrals : ndarray of float32, shape (len(yaws), rows, cols)
    """
    volume, _ = on_grid(case, volume_shape, spacing_mm)
    views = orbit_views(base, yaws)
    return volume, ViewRenderer(FixedPoses(views)).render(volume, views).integrals


def _carried(
    points: npt.NDArray[np.float64],
    case: CohortCase,
    volume: Volume,
    maps: Mapping[str, npt.NDArray[Any]],
) -> npt.NDArray[np.float64]:
    """Landmarks of a case in the frame of its changed volume.

    `maps` tell for every voxel which one it was. The changes are affine, and maps are looked up
    at whole voxels: the affine map is fitted to many of them.
    """
    if not np.isfinite(points).all() or not len(points):
        return points
    spacing = np.array(volume.spacing_mm)
    first = np.array(volume.origin_lps)
    x, y, z = (points + case_shift(case, volume) - first).T
    old = np.stack([-z, y, x], axis=1) / spacing
    was = np.stack([maps[axis] for axis in "ipl"], axis=-1).reshape(-1, 3).astype(np.float64)
    now = np.indices(volume.shape).reshape(3, -1).T.astype(np.float64)
    inner = np.flatnonzero((was > 0).all(1) & (was < np.array(volume.shape) - 1).all(1))
    chosen = inner[:: max(1, len(inner) // _FIT_VOXELS)]
    ones = np.ones((len(chosen), 1))
    fit, *_ = np.linalg.lstsq(np.hstack([was[chosen], ones]), now[chosen], rcond=None)
    i, p, ell = (np.hstack([old, np.ones((len(old), 1))]) @ fit * spacing).T
    moved: npt.NDArray[np.float64] = first + np.stack([ell, p, -i], axis=1)
    return moved


def _marks(
    points: npt.NDArray[np.float64], views: Sequence[XrayView]
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    rows, cols = views[0].detector_shape
    places = np.stack([view.frame().project(points) for view in views]).astype(np.float32)
    known = np.asarray(np.isfinite(places).all(axis=-1))
    places = np.where(known[..., None], places, np.float32(0))
    edge = np.array([rows - 1, cols - 1])
    inside = ((places >= 0) & (places <= edge)).all(axis=-1)
    return places, np.logical_and(known, inside)
