"""From a CT and its views to radiographs: the one way of the panel and the command line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError, OutOfMemoryError
from napari_cxr3d.imaging import Radiograph, SourceInfo, Volume, XrayView
from napari_cxr3d.imaging.masks import remove_table
from napari_cxr3d.inference.simulated_looks import (
    PUBLISHED,
    develop_published,
    project_published,
    published_views,
    settled_system,
)
from napari_cxr3d.progress import CancelToken, ProgressCallback, part_of
from napari_cxr3d.provenance import Provenance
from napari_cxr3d.xray.appearance import (
    Appearance,
    AppearanceWindow,
    choose_window,
    minmax,
    render,
)
from napari_cxr3d.xray.attenuation import DEFAULT_ENERGY_KEV
from napari_cxr3d.xray.projector import Projector, project_basis, projector
from napari_cxr3d.xray.simulator_system import Simulator
from napari_cxr3d.xray.spectra import DEFAULT_FILTRATION, Filtration, polyenergetic_integrals

__all__ = [
    "MAX_SWEEP_VIEWS",
    "AppearanceName",
    "DrrRequest",
    "DrrResult",
    "render_drr",
    "sweep_views",
]

FloatImages = npt.NDArray[np.float32]
AppearanceName = Literal[
    "integral", "radiograph", "minmax", "realistic", "x2ct-clip", "x-win", "x-ray2ctpa"
]

MAX_SWEEP_VIEWS = 3600
_APPEARANCES = get_args(AppearanceName)
_MEMORY_FRACTION = 0.8  # of the free memory that one request may take
_PROJECTING = 0.9  # part of the work that projecting is, for the progress bar
_ANGLE_TOLERANCE = 1e-6  # of a sweep's step


@dataclass(frozen=True, eq=False)
class DrrRequest:
    """What to project, from where, and how to show it.

    Attributes
    ----------
    volume : Volume
        The CT.
    views : tuple of XrayView
        One or more views that share one detector shape; one for a single radiograph.
    backend : str
        ``"auto"``, ``"cpu"``, ``"nanodrr"`` or ``"diffdrr"``.
    quality : {"full", "exact", "preview"}
        See `napari_cxr3d.xray.Projector`.
    energy_kev : float
        Photon energy of a monoenergetic beam, 30 to 150 keV.
    kilovolt : float or None
        Tube voltage of a polyenergetic beam, 60 to 140 kV, in place of `energy_kev`.
    filtration : Filtration
        The tube's filter, where `kilovolt` is given.
    appearance : Appearance, Simulator or str
        How the line integrals are shown. ``"integral"`` shows them as they are,
        ``"minmax"`` stretches each view, ``"radiograph"`` is the default `Appearance`,
        ``"realistic"`` is the system that the domain of this name has for the seed; a
        system has a beam of its own where no `kilovolt` is given. ``"x2ct-clip"``,
        ``"x-win"`` and ``"x-ray2ctpa"`` are the published simulators' own pictures: the first
        projects in parallel from the front, whatever the view, the others project DiffDRR's
        density in the views given.
    window : AppearanceWindow or None
        Holds the appearance's window; chosen over all views of the request if None.
    remove_table : bool
        Put air in place of the CT table first.
    device : str or None
        Device of the torch backends, for example ``"cuda:0"``.
    seed : int
        Of the system and the noise of a simulated radiograph.

    Raises
    ------
    InvalidInputError
        If there are no views, their detectors differ, or the appearance is unknown.
    """

    volume: Volume
    views: tuple[XrayView, ...]
    backend: str = "auto"
    quality: str = "full"
    energy_kev: float = DEFAULT_ENERGY_KEV
    kilovolt: float | None = None
    filtration: Filtration = DEFAULT_FILTRATION
    appearance: Appearance | Simulator | AppearanceName = field(default_factory=Appearance)
    window: AppearanceWindow | None = None
    remove_table: bool = False
    device: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "views", tuple(self.views))
        if not self.views:
            raise InvalidInputError("There is no view to project", remedy="give one or more")
        shapes = {view.detector_shape for view in self.views}
        if len(shapes) > 1:
            raise InvalidInputError(
                "All views of one request must share one detector shape",
                why=f"they have {', '.join(f'{r} x {c}' for r, c in sorted(shapes))}",
                remedy="project them one by one",
            )
        if isinstance(self.appearance, str) and self.appearance not in _APPEARANCES:
            raise InvalidInputError(
                f"There is no appearance called {self.appearance!r}",
                remedy=f"choose one of {', '.join(_APPEARANCES)}",
            )
        if self.seed < 0:
            raise InvalidInputError("The seed must be 0 or more", why=f"it is {self.seed}")
        if self.appearance in PUBLISHED and self.kilovolt is not None:
            raise InvalidInputError(
                f"The appearance {self.appearance} has no tube voltage",
                why="its publication knows no beam",
                remedy="leave the voltage out",
            )

    @property
    def n_bytes(self) -> int:
        """Memory that the result takes: line integrals and pictures."""
        rows, cols = self.views[0].detector_shape
        frames = len(self.views) * rows * cols * np.dtype(np.float32).itemsize
        return frames * (2 + (self.kilovolt is not None) - (self.appearance == "integral"))


@dataclass(frozen=True, eq=False)
class DrrResult:
    """Line integrals and pictures of all views, and how they were made.

    Attributes
    ----------
    integrals : ndarray of float32, shape (V, rows, cols)
        Line integrals, or with a tube voltage the logarithmic reading; dimensionless.
    pictures : ndarray of float32, shape (V, rows, cols)
        What is shown: 0 to 1, or `integrals` itself for the ``"integral"`` appearance.
    views : tuple of XrayView
        The views with their isocenter written out.
    provenance : Provenance
        Everything that shaped the result.
    backend : str
        The projector that ran.
    window : AppearanceWindow or None
        The window of the pictures, to hold it for further views.
    """

    integrals: FloatImages
    pictures: FloatImages
    views: tuple[XrayView, ...]
    provenance: Provenance
    backend: str
    window: AppearanceWindow | None = None

    @property
    def quantity(self) -> Literal["display", "line_integral"]:
        """What a value of `pictures` means."""
        return "line_integral" if self.pictures is self.integrals else "display"

    def radiograph(self, index: int = 0) -> Radiograph:
        """One view's picture as a synthetic radiograph.

        Parameters
        ----------
        index : int
            Which view; negative counts from the last.
        """
        view = self.views[index]
        return Radiograph(
            self.pictures[index],
            pitch_mm=(view.pixel_mm, view.pixel_mm),
            view=view,
            source=SourceInfo(kind="DRR", description=f"DRR · yaw {view.yaw:g}°", modality="DX"),
            quantity=self.quantity,
            view_position=_view_position(view),
            display_range=(0.0, 1.0) if self.quantity == "display" else None,
            synthetic=True,
        )


def sweep_views(base: XrayView, start: float, stop: float, step: float) -> tuple[XrayView, ...]:
    """Turn the source about the patient, a view at every step.

    Parameters
    ----------
    base : XrayView
        Everything but the yaw.
    start, stop : float
        First and last yaw in degrees; `stop` is included where it falls on a step.
    step : float
        Degrees between views; negative to turn from a larger yaw to a smaller.

    Raises
    ------
    InvalidInputError
        If the step is zero or points away from `stop`, or there would be too many views.
    """
    if not all(math.isfinite(angle) for angle in (start, stop, step)):
        raise InvalidInputError("A sweep's angles must be finite numbers of degrees")
    if step == 0:
        raise InvalidInputError(
            "A sweep needs a step", why="the step is 0 degrees", remedy="give for example 5"
        )
    steps = (stop - start) / step
    if steps < 0:
        raise InvalidInputError(
            "The sweep's step points away from its end",
            why=f"from {start:g} to {stop:g} degrees in steps of {step:g}",
            remedy=f"give a step of {-step:g}",
        )
    # Compared before it becomes an int: a tiny step overflows to infinity.
    if steps + 1 > MAX_SWEEP_VIEWS:
        rows, cols = base.detector_shape
        gigabytes = (steps + 1) * rows * cols * 8 / 1e9
        raise InvalidInputError(
            f"A sweep can have {MAX_SWEEP_VIEWS} views at most",
            why=f"this one has {steps + 1:.3g}, about {gigabytes:.3g} GB",
            remedy="choose a larger step",
        )
    count = math.floor(steps + _ANGLE_TOLERANCE) + 1
    return tuple(replace(base, yaw=start + k * step) for k in range(count))


def render_drr(
    request: DrrRequest,
    *,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> DrrResult:
    """Project a CT and give the projections the look of radiographs.

    Parameters
    ----------
    request : DrrRequest
        What to do.
    progress : callable, optional
        Told how far the work is.
    cancel : CancelToken, optional
        Stops the work at the next view.

    Raises
    ------
    OutOfMemoryError
        If the result would not fit into the free memory.
    BackendUnavailableError, InvalidInputError, EnergyOutOfRangeError
        If the request cannot be carried out.
    Cancelled
        If the token was cancelled.
    """
    cancel = cancel or CancelToken()
    request = _settled(request)
    _require_memory(request)
    engine = projector(
        request.backend, request.quality, energy_kev=request.energy_kev, device=request.device
    )
    volume = remove_table(request.volume) if request.remove_table else request.volume
    cancel.raise_if_cancelled()
    views = published_views(request.appearance, request.views, volume)
    integrals = _project(
        engine, volume, views, request, part_of(progress, 0.0, _PROJECTING), cancel
    )
    pictures, window = _develop(
        integrals, views, request, part_of(progress, _PROJECTING, 1.0), cancel
    )
    return DrrResult(
        integrals, pictures, views, _provenance(request, engine, views, window), engine.name, window
    )


def _settled(request: DrrRequest) -> DrrRequest:
    """The request with a simulated system drawn, and the system's beam as its own."""
    system = settled_system(request.appearance, request.seed, request.kilovolt, request.filtration)
    if system is None:
        return request
    beam = system.beam
    return replace(
        request,
        appearance=system,
        kilovolt=beam.kilovolt,
        filtration=beam.filtration,
        energy_kev=request.energy_kev if beam.energy_kev is None else beam.energy_kev,
    )


def _project(
    engine: Projector,
    volume: Volume,
    views: Sequence[XrayView],
    request: DrrRequest,
    progress: ProgressCallback | None,
    cancel: CancelToken,
) -> FloatImages:
    if request.appearance in PUBLISHED:
        return project_published(
            str(request.appearance), engine, volume, views, progress=progress, cancel=cancel
        )
    if request.kilovolt is None:
        return engine.project(volume, views, progress=progress, cancel=cancel)
    water, bone = project_basis(engine, volume, views, progress=progress, cancel=cancel)
    return polyenergetic_integrals(water, bone, request.kilovolt, request.filtration)


def _develop(
    integrals: FloatImages,
    views: tuple[XrayView, ...],
    request: DrrRequest,
    progress: ProgressCallback | None,
    cancel: CancelToken,
) -> tuple[FloatImages, AppearanceWindow | None]:
    """Pictures of the line integrals, and the window that all of them share."""
    cancel.raise_if_cancelled()
    if request.appearance == "integral":
        return integrals, None
    if request.appearance == "minmax":
        return minmax(integrals), None
    if request.appearance in PUBLISHED:
        return develop_published(str(request.appearance), integrals), None
    if isinstance(request.appearance, Simulator):
        from napari_cxr3d.xray.simulator import simulate

        pictures = simulate(
            integrals, views, request.appearance, request.seed,
            one_window=len(views) > 1, progress=progress, cancel=cancel,
        )  # fmt: skip
        return pictures, None
    pixel_mm = views[0].pixel_mm
    appearance = request.appearance if isinstance(request.appearance, Appearance) else Appearance()
    window = request.window or choose_window(integrals, appearance, pixel_mm=pixel_mm)
    pictures = render(
        integrals, appearance, pixel_mm=pixel_mm, window=window, progress=progress, cancel=cancel
    )
    return pictures, window


def _require_memory(request: DrrRequest) -> None:
    import psutil

    free = int(psutil.virtual_memory().available)
    if request.n_bytes > _MEMORY_FRACTION * free:
        rows, cols = request.views[0].detector_shape
        raise OutOfMemoryError(
            "The radiographs do not fit into memory",
            why=f"{len(request.views)} views of {rows} x {cols} pixels take "
            f"{request.n_bytes / 1e9:.1f} GB and {free / 1e9:.1f} GB are free",
            remedy="choose fewer views or a smaller detector",
        )


def _view_position(view: XrayView) -> str:
    """DICOM view position of the four standard views; empty for any other."""
    if abs(view.pitch) > 1 or abs(view.roll) > 1:
        return ""
    for yaw, name in ((0.0, "PA"), (180.0, "AP"), (90.0, "LL"), (-90.0, "RL")):
        if abs((view.yaw - yaw + 180.0) % 360.0 - 180.0) <= 1:
            return name
    return ""


def _provenance(
    request: DrrRequest,
    engine: Projector,
    views: Sequence[XrayView],
    window: AppearanceWindow | None,
) -> Provenance:
    appearance = request.appearance
    parameters: dict[str, Any] = {
        "views": [view.to_dict() for view in views],
        "quality": engine.quality,
        "appearance": appearance if isinstance(appearance, str) else appearance.to_dict(),
        "remove_table": request.remove_table,
    }
    if request.kilovolt is None:
        parameters["energy_kev"] = request.energy_kev
    else:
        parameters["kilovolt"] = request.kilovolt
        parameters["aluminium_mm"] = request.filtration.aluminium_mm
        parameters["copper_mm"] = request.filtration.copper_mm
    if window is not None:
        parameters["window"] = [window.low, window.high]
    noise = appearance.noise if isinstance(appearance, Appearance) else None
    return Provenance(
        operation="drr" if len(views) == 1 else "sweep",
        parameters=parameters,
        inputs=(request.volume.content_sha256(),),
        backend=engine.name,
        device=str(getattr(engine, "device", request.device or "cpu")),
        seed=request.seed if isinstance(appearance, Simulator) else noise.seed if noise else None,
    )
