"""A SYNTHETIC volume out of the views that a world model predicts of one X-ray.

``fdk`` filters and backprojects them. Half a turn is limited-angle, and predicted views err, each
in its own way; so the same of the true projections of a CT is made beside it where there is one:
the ceiling that no prediction can pass. ``consistency`` takes all rays as rows of one operator,
those of the given X-ray among them, and solves for the volume that agrees best.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Grid, Volume, XrayView
from napari_cxr3d.inference import orbit_volume_solver as solver
from napari_cxr3d.inference import reconstruct_stages as stages
from napari_cxr3d.inference.novel_views import NovelViewsRequest, NovelViewsResult, novel_views
from napari_cxr3d.inference.novel_views_comparison import true_views
from napari_cxr3d.inference.novel_views_types import checked_yaws, nearest_yaw
from napari_cxr3d.inference.reconstruct_types import DEFAULT_MODEL as COARSE_MODEL
from napari_cxr3d.inference.reconstruct_types import ReconstructionRequest
from napari_cxr3d.inference.world_models import DEFAULT_MODEL
from napari_cxr3d.inference.xray_input_types import XrayInput
from napari_cxr3d.progress import CancelToken
from napari_cxr3d.provenance import Provenance
from napari_cxr3d.xray.fdk import WINDOWS, Arc, FilterWindow, arc_of, reconstruct_fdk

if TYPE_CHECKING:
    from napari_cxr3d.inference.consistency import Reprojection
    from napari_cxr3d.xray.projector import Projector

__all__ = [
    "METHODS",
    "OrbitVolumeRequest",
    "OrbitVolumeResult",
    "OrbitVolumeState",
    "volume_from_orbit",
]

Method = Literal["fdk", "consistency"]
Start = Literal["air", "coarse"]
Stage = Literal["model", "predicting", "confidence", "coarse", "volume", "ceiling", "done"]

METHODS: tuple[Method, ...] = get_args(Method)
STARTS: tuple[Start, ...] = get_args(Start)

_SAME_PLACE_DEG = 2.0  # from the given X-ray: views that show what it shows
_WINDOW_HU = (-1000.0, 1000.0)  # of the figures, as for C's reconstructions
_MOST_VOXELS = 512


@dataclass(frozen=True, eq=False)
class OrbitVolumeRequest:
    """Which X-ray becomes a volume by way of its predicted views, and how.

    Attributes
    ----------
    input : XrayInput
        The X-ray, with what its user confirmed about it.
    model : str
        A world model's name, or the path of a bundle's folder or zip.
    yaws : tuple of float or None
        Degrees from the X-ray at which views are predicted; the model's own when None.
    method : {"fdk", "consistency"}
        See the module.
    shape, spacing_mm : tuples of 3
        Of the volume, along (I, P, L).
    window : {"hann", "cosine", "none"}
        Of the filter of ``fdk``.
    start : {"air", "coarse"}
        Where ``consistency`` begins: at nothing, or at the first picture of a model that
        reconstructs, on that one's grid.
    coarse_model : str
        That model.
    iterations : int
        Of ``consistency``.
    ceiling_from : Volume or None
        The CT that the X-ray was projected from: the same is made of its true projections.
    accepted : tuple of str
        Codes of findings that the user knows and accepts.

    Raises
    ------
    InvalidInputError
        If a value cannot be used.
    """

    input: XrayInput
    model: str = DEFAULT_MODEL
    yaws: tuple[float, ...] | None = None
    method: Method = "fdk"
    shape: tuple[int, int, int] = (64, 64, 64)
    spacing_mm: tuple[float, float, float] = (6.0, 6.0, 6.0)
    window: FilterWindow = "hann"
    start: Start = "air"
    coarse_model: str = COARSE_MODEL
    iterations: int = 16
    ceiling_from: Volume | None = None
    accepted: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "yaws", checked_yaws(self.yaws))
        object.__setattr__(self, "accepted", tuple(self.accepted))
        for what, value, known in (
            ("method", self.method, METHODS),
            ("filter window", self.window, WINDOWS),
            ("start", self.start, STARTS),
        ):
            if value not in known:
                raise InvalidInputError(
                    f"There is no {what} called {value!r}",
                    remedy=f"choose one of {', '.join(known)}",
                )
        if self.iterations < 1:
            raise InvalidInputError("There must be one iteration or more")
        if self.yaws is not None and len(self.yaws) < 2:
            raise InvalidInputError(
                "A volume needs two views or more", remedy="name more angles, or none for all"
            )
        if max(self.shape) > _MOST_VOXELS:
            raise InvalidInputError(
                f"A volume of predicted views has {_MOST_VOXELS} voxels an axis at most",
                why=f"the shape is {self.shape}; the views hold no such detail",
            )
        Grid.centered(self.shape, self.spacing_mm)  # refuses what is no grid

    def to_dict(self) -> dict[str, Any]:
        """All settings but the pictures, JSON-serialisable."""
        return {
            "method": self.method,
            "shape": list(self.shape),
            "spacing_mm": list(self.spacing_mm),
            "window": self.window if self.method == "fdk" else None,
            "start": self.start if self.method == "consistency" else None,
            "coarse_model": self.coarse_model if self.start == "coarse" else None,
            "iterations": self.iterations if self.method == "consistency" else None,
        }


@dataclass(frozen=True, eq=False)
class OrbitVolumeResult:
    """A SYNTHETIC volume of predicted views, its grid centred at LPS (0, 0, 0).

    Attributes
    ----------
    volume : Volume
        In HU.
    ceiling : Volume or None
        The same of the CT's true projections from the same angles; None without a CT.
    prediction : NovelViewsResult
        The views.
    arc : Arc
        What their angles cover.
    reprojection : Reprojection
        How the volume agrees with the given X-ray.
    figures : mapping
        PSNR in dB and mean error in HU of volume and ceiling against the CT; empty without one.
    notes : tuple of str
        What was assumed, one sentence each.
    provenance : Provenance
        Everything that shaped the result.
    timings : mapping of str to float
        Seconds of each stage, and of all.
    """

    volume: Volume
    ceiling: Volume | None
    prediction: NovelViewsResult
    arc: Arc
    reprojection: Reprojection
    figures: Mapping[str, float]
    notes: tuple[str, ...]
    provenance: Provenance
    timings: Mapping[str, float] = field(default_factory=dict)

    @property
    def views(self) -> tuple[XrayView, ...]:
        """Where the views are seen from."""
        return self.prediction.views


@dataclass(frozen=True, eq=False)
class OrbitVolumeState:
    """How far a volume of predicted views has come.

    Attributes
    ----------
    stage : str
        ``"model"``, ``"predicting"``, ``"confidence"``, ``"coarse"``, ``"volume"``,
        ``"ceiling"`` or ``"done"``.
    preview : Volume or None
        The newest picture of the volume.
    view : XrayView or None
        The newest view, while they are predicted.
    integrals : ndarray of float32, shape (rows, cols), or None
        What it shows.
    message : str
        A short phrase for the user.
    fraction : float
        Finished part of the whole, 0 to 1.
    elapsed_s : float
        Seconds since the start.
    result : OrbitVolumeResult or None
        Everything, in the last state.
    """

    stage: Stage
    preview: Volume | None = None
    view: XrayView | None = None
    integrals: npt.NDArray[np.float32] | None = None
    message: str = ""
    fraction: float = 0.0
    elapsed_s: float = 0.0
    result: OrbitVolumeResult | None = None


def volume_from_orbit(
    request: OrbitVolumeRequest,
    *,
    device: str | None = "auto",
    cancel: CancelToken | None = None,
) -> Iterator[OrbitVolumeState]:
    """Predict the views of an orbit, and make a volume of them.

    Parameters
    ----------
    request : OrbitVolumeRequest
        What to do.
    device : str, optional
        As `napari_cxr3d.device.resolve_device` takes it.
    cancel : CancelToken, optional
        Stops the work at its next step.

    Yields
    ------
    OrbitVolumeState
        At the start, with every view, with every picture of the volume, and with the result.

    Raises
    ------
    GeometryError
        If ``fdk`` is asked of an X-ray that has a pitch or a roll.
    InputRefusedError, InvalidInputError, UnreadableFileError, BundleError
        As `napari_cxr3d.inference.novel_views.novel_views`.
    Cancelled
        If the token was cancelled.
    """
    yield from _Run(request, cancel or CancelToken()).states(device)


class _Run:
    """One volume, and what its stages hand on to each other."""

    prediction: NovelViewsResult

    def __init__(self, request: OrbitVolumeRequest, cancel: CancelToken) -> None:
        self.request = request
        self.cancel = cancel
        self.began = self._lap = perf_counter()
        self.timings: dict[str, float] = {}
        self.notes: list[str] = []
        self.grid = Grid.centered(request.shape, request.spacing_mm)

    def states(self, device: str | None) -> Iterator[OrbitVolumeState]:
        """Everything, in order."""
        from napari_cxr3d.xray.projector import projector

        yield from self._predict(device)
        self.notes += self.prediction.notes
        # a tilt, which fdk refuses and consistency takes, does not change what the yaws cover
        self.arc = arc_of([replace(v, pitch=0.0, roll=0.0) for v in self.prediction.views])
        self.notes.append(self.arc.sentence)
        start = None
        if self.request.method == "consistency" and self.request.start == "coarse":
            yield self._tell("coarse", 0.5, "looking for a start")
            start = self._coarse(device)
            self.grid = start.grid
            self._timed("coarse")
            yield self._tell("coarse", 0.55, "first picture", start)
        engine = projector("cpu")
        gain = self._gain()
        integrals = np.float32(gain) * self.prediction.integrals
        given, note = self._given(integrals)
        if self.request.method == "consistency":
            self.notes.append(note)
        volume = yield from self._made(
            "volume", integrals, given, start, engine, self.prediction.confidence
        )
        self._timed("volume")
        ceiling, figures = None, {}
        if self.request.ceiling_from is not None:
            yield self._tell("ceiling", 0.85, "projecting the CT")
            truth = self._truth(self.request.ceiling_from, engine)
            full = np.ones(len(truth), np.float32)
            true_given = given if self.prediction.picture.exact else None
            ceiling = yield from self._made("ceiling", truth, true_given, start, engine, full)
            figures = self._figures(self.request.ceiling_from, volume, ceiling)
            self._timed("ceiling")
        self.timings["total"] = perf_counter() - self.began
        result = OrbitVolumeResult(
            volume, ceiling, self.prediction, self.arc, self._reprojection(volume, engine),
            figures, tuple(dict.fromkeys(self.notes)), self._provenance(gain), dict(self.timings),
        )  # fmt: skip
        yield self._tell("done", 1.0, "done", volume, result=result)

    def _predict(self, device: str | None) -> Iterator[OrbitVolumeState]:
        asked = NovelViewsRequest(
            self.request.input, self.request.model, self.request.yaws, self.request.accepted,
            confidence=self.request.method == "consistency",
        )  # fmt: skip
        for state in novel_views(asked, device=device, cancel=self.cancel):
            if state.result is not None:
                self.prediction = state.result
            elif state.stage != "done":
                yield self._tell(
                    state.stage, state.fraction / 2, state.message,
                    view=state.view, integrals=state.integrals,
                )  # fmt: skip
        self._timed("predict")

    def _coarse(self, device: str | None) -> Volume:
        """The first picture of a model that reconstructs."""
        from napari_cxr3d.inference.reconstruct import reconstruct

        request = ReconstructionRequest(
            (self.request.input,), model=self.request.coarse_model, accepted=self.request.accepted
        )
        for state in reconstruct(request, device=device, cancel=self.cancel):
            if state.stage == "coarse" and state.preview is not None:
                return state.preview
            if state.stage == "sampling":
                break
        raise InvalidInputError(
            f"The model {self.request.coarse_model} has no first picture to start from",
            remedy="start from air",
        )

    def _front(self) -> int | None:
        """Which view shows what the given X-ray shows."""
        index = nearest_yaw(self.prediction.yaws, 0.0)
        return index if abs(self.prediction.yaws[index]) <= _SAME_PLACE_DEG else None

    def _gain(self) -> float:
        """Of the predicted views, where the given X-ray has its true scale."""
        picture, front = self.prediction.picture, self._front()
        if not picture.exact or front is None:
            return 1.0
        gain = solver.gain_of(self.prediction.integrals[front], picture.integrals, picture.valid)
        self.notes.append(
            f"Predicted line integrals were multiplied by {gain:.3f}, the scale of the given X-ray."
        )
        return gain

    def _given(self, integrals: npt.NDArray[np.float32]) -> tuple[solver.Rays | None, str]:
        picture, front = self.prediction.picture, self._front()
        rendered = None if front is None else integrals[front]
        return solver.given_rays(
            picture.view, picture.integrals, picture.valid, self.grid,
            exact=picture.exact, rendered=rendered,
        )  # fmt: skip

    def _made(
        self,
        stage: Literal["volume", "ceiling"],
        integrals: npt.NDArray[np.float32],
        given: solver.Rays | None,
        start: Volume | None,
        engine: Projector,
        confidence: npt.NDArray[np.float32],
    ) -> Any:  # a generator of states that returns a volume
        """The volume of an orbit, by the method that was asked for."""
        views, request = self.prediction.views, self.request
        of = "predicted" if stage == "volume" else "true"
        name = f"{request.method} of {len(views)} {of} views"
        begin = 0.6 if stage == "volume" else 0.87
        self.cancel.raise_if_cancelled()
        if request.method == "fdk":
            yield self._tell(stage, begin, "filtering and backprojecting")
            volume = reconstruct_fdk(
                integrals, views, self.grid, energy_kev=engine.energy_kev, window=request.window,
                name=name, cancel=self.cancel,
            )  # fmt: skip
            yield self._tell(stage, begin + 0.1, f"{of} views backprojected", volume)
            return volume
        ct = request.ceiling_from
        taller = stage == "ceiling" and ct is not None and ct.size_mm[0] > self.grid.size_mm[0]
        rays = solver.rays_of_orbit(
            views, integrals, self.grid, confidence, beyond="body" if taller else "air"
        ).with_others(given)
        rounds = solver.solve(
            rays, self.grid, engine, start=start if stage == "volume" else None,
            iterations=request.iterations, cancel=self.cancel,
        )  # fmt: skip
        volume = stages.synthetic_volume(np.full(self.grid.shape, -1000.0), self.grid, name)
        for k, hu in enumerate(rounds):
            volume = stages.synthetic_volume(hu, self.grid, name)
            told = f"agreement with {of} views, round {k + 1}"
            yield self._tell(stage, begin + 0.05 * (k + 1), told, volume)
        return volume

    def _truth(self, ct: Volume, engine: Projector) -> npt.NDArray[np.float32]:
        """True projections of a CT from where the views were predicted."""
        views, notes = true_views(self.prediction.views, ct, self.prediction.picture.center_lps)
        self.notes += notes
        return engine.project(ct, views, cancel=self.cancel)

    def _figures(self, ct: Volume, volume: Volume, ceiling: Volume) -> dict[str, float]:
        from napari_cxr3d.metrics import mae_hu, psnr3d

        center = self.prediction.picture.center_lps or ct.grid.center_lps
        truth = solver.on_grid(ct, self.grid, center)
        return {
            f"{what}_{metric.name}": metric.value
            for what, made in (("volume", volume), ("ceiling", ceiling))
            for metric in (psnr3d(made.hu, truth, _WINDOW_HU), mae_hu(made.hu, truth, _WINDOW_HU))
        }

    def _reprojection(self, volume: Volume, engine: Projector) -> Reprojection:
        from napari_cxr3d.inference.consistency import Consistency

        picture = self.prediction.picture
        return Consistency(
            self.grid, [picture.view], picture.integrals[None], picture.valid[None],
            [picture.exact], engine=engine, limits=solver.LIMITS_HU,
        ).reprojection(volume.hu)  # fmt: skip

    def _provenance(self, gain: float) -> Provenance:
        own = self.prediction.provenance
        parameters = {
            **own.parameters,
            **self.request.to_dict(),
            "shape": list(self.grid.shape),
            "spacing_mm": list(self.grid.spacing_mm),
            "gain": gain,
            "arc_deg": self.arc.extent_deg,
            "limited_angle": self.arc.limited,
        }
        return replace(own, operation="orbit-volume", parameters=parameters)

    def _tell(
        self,
        stage: Stage,
        fraction: float,
        message: str,
        preview: Volume | None = None,
        *,
        view: XrayView | None = None,
        integrals: npt.NDArray[np.float32] | None = None,
        result: OrbitVolumeResult | None = None,
    ) -> OrbitVolumeState:
        elapsed = perf_counter() - self.began
        return OrbitVolumeState(stage, preview, view, integrals, message, fraction, elapsed, result)

    def _timed(self, stage: str) -> None:
        now = perf_counter()
        self.timings[stage] = now - self._lap
        self._lap = now
