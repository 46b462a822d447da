"""What a world model is measured on: a patient's true views from an orbit, and known points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt

from cxr3d_training.data import CohortCase
from cxr3d_training.data.grids import block_start, on_grid
from cxr3d_training.data.orbits import orbit_views
from cxr3d_training.data.poses import FixedPoses
from cxr3d_training.data.views import ViewRenderer
from napari_cxr3d.imaging import Volume, XrayView
from napari_cxr3d.models.orbit_model import OrbitModel

__all__ = ["CONTEXTS", "OrbitScene", "OrbitStage", "points_of_lungs"]

Images = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Point = npt.NDArray[np.float64]

CONTEXTS = ("DRR", "realistic X-ray")
"""What a model is shown of a scene: the frontal projection itself, or a picture developed of it."""

_STANCE_MM = (30.0, 15.0, 35.0)  # of the isocenter from the patient's middle, either way
_STANCE_DEGREES = (4.0, 3.0, 3.0)  # of yaw, pitch and roll
_STANCE_ZOOM = 0.07
_MIDDLE_MM = 20.0  # from the midline: trachea and main bronchi, which masks of lungs hold
_LATERAL = 0.86  # part of a lung's width beyond which its costophrenic angle is looked for
_DOME_WIDTH = (0.45, 0.7)  # and between which its dome is, beside the heart
_DOME_DEPTH = (0.5, 0.75)  # part of its depth, behind the heart


@dataclass(frozen=True, eq=False)
class OrbitStage:
    """Where the views of an evaluation are taken, and on what grid patients lie.

    Attributes
    ----------
    base : XrayView
        The X-ray that is given; turned about LPS (0, 0, 0), the grid's centre.
    yaws : tuple of float
        Degrees from it, 0 among them.
    volume_shape, spacing_mm : tuple of 3
        The grid.
    domain : str
        Look of realistic X-rays; see `napari_cxr3d.xray.simulator`.
    """

    base: XrayView
    yaws: tuple[float, ...]
    volume_shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    domain: str = "realistic"

    @classmethod
    def of(
        cls,
        model: OrbitModel,
        *,
        volume_shape: Sequence[int],
        spacing_mm: Sequence[float],
        domain: str = "realistic",
    ) -> OrbitStage:
        """The stage of a model, with all angles that it was trained on."""
        i, p, ell = (int(n) for n in volume_shape)
        di, dp, dl = (float(s) for s in spacing_mm)
        return cls(model.base_view, model.yaws, (i, p, ell), (di, dp, dl), domain)

    @cached_property
    def views(self) -> tuple[XrayView, ...]:
        """The views of the orbit."""
        return orbit_views(self.base, self.yaws)

    @property
    def front(self) -> int:
        """Which of the views is the X-ray that is given."""
        return self.yaws.index(0.0)

    @cached_property
    def renderer(self) -> ViewRenderer:
        """Line integrals."""
        return ViewRenderer(FixedPoses(self.views), engine="cpu")

    @cached_property
    def developer(self) -> ViewRenderer:
        """Realistic pictures."""
        return ViewRenderer(FixedPoses(self.views), domain=self.domain, engine="cpu")

    def scene(self, case: CohortCase) -> OrbitScene:
        """A case on the grid.

        Raises
        ------
        InvalidInputError
            If the case has another spacing than the grid.
        """
        volume, maps = on_grid(case, self.volume_shape, self.spacing_mm)
        points = _landmarks(case, volume) or points_of_lungs(maps["lungs"], volume)
        return OrbitScene(
            case.id, case.patient, self, volume, maps["body"], points, bool(case.landmarks), case
        )


@dataclass(frozen=True, eq=False)
class OrbitScene:
    """One patient on the stage.

    Attributes
    ----------
    case, patient : str
        As the cohort names them.
    stage : OrbitStage
        Grid and views.
    volume : Volume
        HU on the grid, its centre at LPS (0, 0, 0).
    body : ndarray of bool, shape (I, P, L)
        The patient.
    points : mapping of str to ndarray, shape (3,)
        Known places in LPS mm.
    known : bool
        Whether the points are a phantom's own landmarks; else they were read off the lungs.
    source : CohortCase
        The patient.
    """

    case: str
    patient: str
    stage: OrbitStage
    volume: Volume
    body: Mask
    points: Mapping[str, Point]
    known: bool
    source: CohortCase

    @cached_property
    def sha256(self) -> str:
        """Identity of the voxels, for figures that are kept."""
        return sha256(np.ascontiguousarray(self.volume.hu).data).hexdigest()

    @cached_property
    def integrals(self) -> Images:
        """Exact line integrals of the stage's views, [K, rows, cols]."""
        return self.stage.renderer.render(self.volume, self.stage.views).integrals

    @cached_property
    def realistic(self) -> Images:
        """The given X-ray as a realistic picture, [rows, cols]; its noise is the case's own."""
        base = self.stage.views[self.stage.front]
        pictures = self.stage.developer.render(self.volume, [base], [_seed(self.case)]).pictures
        assert pictures is not None  # the developer makes them
        first: Images = pictures[0]
        return first

    def shown(self, context: str) -> Images:
        """What a model is given, [rows, cols]: one of `CONTEXTS`."""
        if context == CONTEXTS[0]:
            front: Images = self.integrals[self.stage.front]
            return front
        return self.realistic

    @cached_property
    def stance(self) -> XrayView:
        """The X-ray as a patient who stands otherwise would get it; the case's own.

        Landmarks of other patients are looked for on such ones: patients who are all centred alike
        have theirs at nearly the same place, and whoever repeats the place finds them.
        """
        rng = np.random.default_rng([_seed(self.case), 1])
        x, y, z = (rng.uniform(-1, 1, 3) * _STANCE_MM).tolist()
        yaw, pitch, roll = (rng.uniform(-1, 1, 3) * _STANCE_DEGREES).tolist()
        base = self.stage.base
        zoom = float(rng.uniform(1 - _STANCE_ZOOM, 1 + _STANCE_ZOOM))
        return replace(
            base, yaw=yaw, pitch=pitch, roll=roll, isocenter_lps=(x, y, z),
            pixel_mm=base.pixel_mm * zoom,
        )  # fmt: skip

    @cached_property
    def stood(self) -> dict[str, Images]:
        """The pictures of `stance` by context, [rows, cols]."""
        views, stage = [self.stance], self.stage
        pictures = stage.developer.render(self.volume, views, [_seed(self.case)]).pictures
        assert pictures is not None  # the developer makes them
        lines = stage.renderer.render(self.volume, views).integrals
        return {CONTEXTS[0]: lines[0], CONTEXTS[1]: pictures[0]}

    def places(self, names: Sequence[str], view: XrayView) -> npt.NDArray[np.float64]:
        """(row, column) of points in a view, (len(names), 2)."""
        points = np.array([self.points[name] for name in names]).reshape(-1, 3)
        places: npt.NDArray[np.float64] = view.frame().project(points)
        return places

    def on_detector(self, names: Sequence[str], view: XrayView, margin: float = 0.0) -> Mask:
        """Which points fall on the detector of a view, `margin` pixels within its edge."""
        rows, cols = self.stage.base.detector_shape
        places = self.places(names, view)
        edge = np.array([rows - 1, cols - 1]) - margin
        inside = ((places >= margin) & (places <= edge)).all(axis=1)
        return np.asarray(inside, bool)


def _seed(case: str) -> int:
    return int(sha256(case.encode()).hexdigest()[:7], 16)


def _landmarks(case: CohortCase, volume: Volume) -> dict[str, Point]:
    """A case's landmarks in the frame of its block, which was moved without interpolation."""
    found = {}
    start = np.array(block_start(case, volume.shape))
    for name, lps in case.landmarks.items():
        index = case.grid.lps_to_index(np.array(lps)) - start
        found[name] = np.asarray(volume.grid.index_to_lps(index), np.float64)
    return found


def points_of_lungs(lungs: npt.NDArray[Any], volume: Volume) -> dict[str, Point]:
    """Apex, dome and costophrenic angle of both lungs, read off their mask.

    For CTs, of which nobody has marked landmarks. The apex is the middle of a lung's highest
    slice; the dome the highest point of its lower surface, beside and behind the heart;
    the costophrenic angle its lowest point near the outer end of its width. The lungs are told
    apart by the sides of the grid's middle, where the body's middle is; a strip about it holds
    the trachea and is left out.

    Parameters
    ----------
    lungs : ndarray of bool, shape (I, P, L)
        Mask of the lungs.
    volume : Volume
        Whose grid it is on, its centre at LPS x 0.

    Returns
    -------
    dict of str to ndarray, shape (3,)
        LPS mm by the names of the phantoms' landmarks; those alone that can be told: a lung that
        the scan cuts above or below has no apex, or no dome and angle.
    """
    index = np.argwhere(np.asarray(lungs).astype(bool))
    if not len(index):
        return {}
    points = np.asarray(volume.grid.index_to_lps(index), np.float64)
    found: dict[str, Point] = {}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        own = points[:, 0] * sign > _MIDDLE_MM
        if own.sum() < 8:
            continue
        marks, places = points[own], index[own]
        high, low = places[:, 0].min(), places[:, 0].max()
        if high > 0:
            found[f"{side}_lung_apex"] = marks[places[:, 0] == high].mean(axis=0)
        if low == lungs.shape[0] - 1:
            continue
        across = np.abs(marks[:, 0]) / np.abs(marks[:, 0]).max()
        behind = (marks[:, 1] - marks[:, 1].min()) / max(float(np.ptp(marks[:, 1])), 1e-6)
        outer = marks[across >= _LATERAL]
        lowest = outer[outer[:, 2] == outer[:, 2].min()]
        found[f"{side}_costophrenic_angle"] = lowest.mean(axis=0)
        central = (across >= _DOME_WIDTH[0]) & (across <= _DOME_WIDTH[1])
        central &= (behind >= _DOME_DEPTH[0]) & (behind <= _DOME_DEPTH[1])
        if central.any():
            columns = places[central][:, 1:]
            _, which = np.unique(columns, axis=0, return_inverse=True)
            base = np.full(which.max() + 1, np.inf)
            np.minimum.at(base, which.ravel(), marks[central][:, 2])
            top = int(np.argmax(base))
            there = marks[central][which.ravel() == top]
            found[f"{side}_dome"] = there[np.argmin(there[:, 2])]
    return found
