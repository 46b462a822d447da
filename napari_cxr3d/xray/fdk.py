"""From line integrals back to attenuation, directly: filtered backprojection of a cone beam.

The source turns about the isocenter in the axial plane, detector opposite. Rays that an arc
measures twice share their weight, rays that it measures once count in full, and what it does not
measure is missing: an arc shorter than half a turn and the fan is limited-angle, and its volume
is blurred along the directions that no ray took, whatever the filter.

References
----------
L. A. Feldkamp, L. C. Davis, J. W. Kress, J. Opt. Soc. Am. A 1 (1984) 612,
doi:10.1364/JOSAA.1.000612.
A. C. Kak, M. Slaney, Principles of Computerized Tomographic Imaging (1988), sections 3.3-3.6.
D. L. Parker, Med. Phys. 9 (1982) 254, doi:10.1118/1.595078.
F. Noo, M. Defrise, R. Clackdoyle, H. Kudo, Phys. Med. Biol. 47 (2002) 2525,
doi:10.1088/0031-9155/47/14/311.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import GeometryError, InvalidInputError
from napari_cxr3d.imaging import Grid, SourceInfo, Volume, XrayView
from napari_cxr3d.imaging.volume import HU_MAX
from napari_cxr3d.progress import CancelToken, ProgressCallback, part_of
from napari_cxr3d.xray.attenuation import DEFAULT_ENERGY_KEV, attenuation_to_hu

__all__ = ["WINDOWS", "Arc", "FilterWindow", "arc_of", "fdk", "ray_weights", "reconstruct_fdk"]

FloatArray = npt.NDArray[np.float32]
FilterWindow = Literal["none", "hann", "cosine"]

WINDOWS: tuple[FilterWindow, ...] = get_args(FilterWindow)

_CIRCLE = 2.5  # times the second largest gap between views: a larger one is no part of the turn
_FEATHER_DEG = 10.0  # at each end of an arc, over which twice measured rays change hands
_LEAST = 1e-6  # weight of an arc's very ends, so that rays measured there alone count in full
_EXTENSION = 0.25  # of the picture's width, over which cut-off bodies fall to nothing
_PARTS = 8  # of the angles that a view stands for, over which its weights are averaged
_BLOCK = 4  # rows of voxels that a thread fills at a time
_SAME = 1e-6


@dataclass(frozen=True)
class Arc:
    """The angles that a turn of the source covers.

    Attributes
    ----------
    start_deg, extent_deg : float
        First yaw, and degrees from there to the last; 360 for a full circle.
    fan_deg : float
        Opening of the fan that the detector sees, degrees.
    """

    start_deg: float
    extent_deg: float
    fan_deg: float

    @property
    def full(self) -> bool:
        """Whether the source went all around."""
        return self.extent_deg >= 360.0

    @property
    def needed_deg(self) -> float:
        """The shortest arc that measures every line through the field: half a turn and the fan."""
        return 180.0 + self.fan_deg

    @property
    def limited(self) -> bool:
        """Whether lines are missing."""
        return self.extent_deg < self.needed_deg - _SAME

    @property
    def sentence(self) -> str:
        """What it means for the volume."""
        if self.full:
            return "The source went all around: every line was measured twice."
        told = f"The arc of {self.extent_deg:.4g} degrees"
        if self.limited:
            return (
                f"{told} is limited-angle: {self.needed_deg:.4g} degrees would measure every "
                "line, and structures along the lines that are missing are blurred."
            )
        return f"{told} is a short scan: every line was measured once or twice."


def arc_of(views: Sequence[XrayView]) -> Arc:
    """The arc of a turn, whatever the order of its views.

    Views around a circle without a gap more than 2.5 times as large as any other are a full
    circle; else the largest gap lies outside the arc.

    Raises
    ------
    InvalidInputError
        If there are fewer than two angles.
    GeometryError
        If the views are not one turn about one isocenter in the axial plane.
    """
    _require_one_turn(views)
    return _arc_and_steps(views)[0]


def ray_weights(views: Sequence[XrayView]) -> npt.NDArray[np.float64]:
    """How much every ray counts of the line it lies on, so that a line's rays sum to 1.

    Half for a full circle. Else, after Noo et al. (2002, equations 32 to 34), with c falling from
    1 to 0 at the ends of the arc by a squared sine as Parker's weights do: ``c(b) / (c(b) + c(b
    + 180 + 2 g))`` for the ray of yaw b at g degrees from the central ray, whose line is measured
    again from yaw ``b + 180 + 2 g`` at ``-g``, where c is 0 outside the arc. It holds for arcs
    below half a turn and the fan, too.

    Parameters
    ----------
    views : sequence of XrayView
        One turn, as for `fdk`.

    Returns
    -------
    ndarray of float64, shape (views, cols)
        Between 0 and 1.
    """
    arc = arc_of(views)
    _, cols = views[0].detector_shape
    if arc.full:
        return np.full((len(views), cols), 0.5)
    yaw = np.array([view.yaw for view in views])[:, None]
    lateral = (np.arange(cols) - (cols - 1) / 2) * views[0].pixel_mm
    if views[0].flip_columns:
        lateral = -lateral
    fan = np.degrees(np.arctan2(lateral, views[0].source_to_detector_mm))[None]
    # the mean over the angles that a view stands for: at an arc's ends they jump from ray to ray
    cells = _arc_and_steps(views)[1][:, None]
    place = np.clip(_from_start(yaw, arc) - cells / 2, 0.0, arc.extent_deg - cells)
    weights = np.zeros((len(views), cols))
    for part in (np.arange(_PARTS) + 0.5) / _PARTS:
        angle = arc.start_deg + place + part * cells
        own, other = _feather(angle, arc), _feather(angle + 180.0 + 2.0 * fan, arc)
        weights += own / (own + other) / _PARTS
    return weights


def fdk(
    integrals: FloatArray,
    views: Sequence[XrayView],
    grid: Grid,
    *,
    window: FilterWindow = "hann",
    short_scan: bool = True,
    extend: bool = True,
    threads: int | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> FloatArray:
    """Attenuation of which a cone beam, turned in the axial plane, measured line integrals.

    Cosine weights, the ramp filter along detector rows, and distance-weighted backprojection
    (Feldkamp et al. 1984; Kak and Slaney 1988, section 3.6). Exact in the plane of the source's
    circle, and an approximation above and below. Every view stands for half of the angles to its
    neighbours, so that steps may differ.

    Parameters
    ----------
    integrals : ndarray of float32, shape (views, rows, cols)
        Line integrals, dimensionless.
    views : sequence of XrayView
        Two or more that differ in yaw alone, without pitch and roll.
    grid : Grid
        Of the result. What lies beside a view's detector gets nothing from that view.
    window : {"none", "hann", "cosine"}
        What the ramp is multiplied with up to half the pixels' frequency; none is Ram-Lak.
    short_scan : bool
        Weigh the rays of an arc by `ray_weights`; without, each counts half, as in a full circle.
    extend : bool
        Let a body that is wider than the detector end softly beside it instead of at its edge,
        where the filter would draw a bright rim.
    threads : int, optional
        Processors to use; all that the process may use when None.
    progress : callable, optional
        Told how far the work is.
    cancel : CancelToken, optional
        Looked at between blocks of voxels.

    Returns
    -------
    ndarray of float32, shape (I, P, L)
        Attenuation in 1/mm; below 0 where noise or missing lines make it so.

    Raises
    ------
    InvalidInputError
        If the integrals do not match the views, or the window is unknown.
    GeometryError
        If the views are not one turn about one isocenter in the axial plane.
    Cancelled
        If the token was cancelled.
    """
    from napari_cxr3d.workers import Workers, available_threads

    views = [view.resolved(grid) for view in views]
    images = _checked(integrals, views, window)
    weights = ray_weights(views) if short_scan else np.full((len(views), images.shape[2]), 0.5)
    weights *= np.radians(_arc_and_steps(views)[1])[:, None]
    with Workers(threads or available_threads(), cancel) as crew:
        filtered = np.empty((len(views), images.shape[2], images.shape[1]), np.float32)

        def prepare(k: int) -> None:
            filtered[k] = _filtered(images[k], weights[k], views[k], window, extend).T

        crew.run(prepare, len(views))
        return _backproject(filtered, views, grid, crew, progress)


def reconstruct_fdk(
    integrals: FloatArray,
    views: Sequence[XrayView],
    grid: Grid,
    *,
    energy_kev: float = DEFAULT_ENERGY_KEV,
    window: FilterWindow = "hann",
    name: str = "",
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Volume:
    """The volume of `fdk` in Hounsfield units, which says that no scanner measured it.

    Parameters
    ----------
    integrals, views, grid, window, progress, cancel
        As for `fdk`.
    energy_kev : float
        Photon energy of the line integrals.
    name : str
        What the volume is called behind SYNTHETIC CT; the number of views if empty.
    """
    mu = fdk(integrals, views, grid, window=window, progress=progress, cancel=cancel)
    hu = np.minimum(attenuation_to_hu(mu, energy_kev), np.float32(HU_MAX))
    told = name or f"FDK of {len(views)} views"
    return Volume(
        hu, grid.spacing_mm, grid.origin_lps, synthetic=True,
        source=SourceInfo(
            kind="reconstruction", description=f"SYNTHETIC CT · {told}",
            notes=(arc_of(views).sentence,),
        ),
    )  # fmt: skip


def _feather(yaw: npt.NDArray[np.float64], arc: Arc) -> npt.NDArray[np.float64]:
    """Noo's c: 1 inside the arc, falling to (nearly) 0 at its ends, 0 outside."""
    width = min(max(arc.extent_deg - 180.0, _FEATHER_DEG), arc.extent_deg / 2)
    from_start = _from_start(yaw, arc)
    inward = np.minimum(from_start, arc.extent_deg - from_start)
    rise = np.sin(np.pi / 2 * np.clip(inward / width, 0.0, 1.0)) ** 2
    return np.where(inward >= -_SAME, np.maximum(rise, _LEAST), 0.0)


def _from_start(yaw: npt.NDArray[np.float64], arc: Arc) -> npt.NDArray[np.float64]:
    """Degrees into the arc; the middle of what is outside of it is where angles wrap."""
    outside = (360.0 - arc.extent_deg) / 2
    inside: npt.NDArray[np.float64] = (yaw - arc.start_deg + outside) % 360.0 - outside
    return inside


def _arc_and_steps(views: Sequence[XrayView]) -> tuple[Arc, npt.NDArray[np.float64]]:
    """The arc, and the degrees that every view stands for."""
    view = views[0]
    half = view.detector_shape[1] * view.pixel_mm / 2
    fan = 2 * math.degrees(math.atan2(half, view.source_to_detector_mm))
    yaw = np.array([v.yaw for v in views], np.float64) % 360.0
    yaw[yaw > 360.0 - _SAME] = 0.0
    order = np.argsort(yaw, kind="stable")
    gaps = np.diff(yaw[order], append=yaw[order[0]] + 360.0)  # to the next view
    largest, second = np.sort(gaps)[::-1][:2]
    if second <= _SAME:
        raise InvalidInputError(
            "A turn needs two angles or more", why="all views have the same yaw"
        )
    if largest <= _CIRCLE * second:
        arc = Arc(float(yaw[order[0]]), 360.0, fan)
    else:
        last = int(np.argmax(gaps))
        arc = Arc(float(yaw[order[(last + 1) % len(views)]]), 360.0 - float(largest), fan)
        gaps[last] = 0.0
    steps = np.empty(len(views))
    steps[order] = (gaps + np.roll(gaps, 1)) / 2
    return arc, steps


def _filtered(
    image: FloatArray,
    weights: npt.NDArray[np.float64],
    view: XrayView,
    window: FilterWindow,
    extend: bool,
) -> FloatArray:
    """One view, weighted and filtered along its rows, columns growing as with `flip_columns` off.

    The ramp is the exact kernel of a band-limited one (Kak and Slaney 1988, equation 61), on
    pixels scaled to the isocenter, long enough that the rows do not wrap.
    """
    from scipy.fft import irfft, next_fast_len, rfft

    rows, cols = image.shape
    far, pitch = view.source_to_detector_mm, view.pixel_mm
    across = (np.arange(cols) - (cols - 1) / 2) * pitch
    down = (np.arange(rows) - (rows - 1) / 2)[:, None] * pitch
    weighted = image * (far / np.sqrt(far**2 + across**2 + down**2)) * weights
    beside = round(_EXTENSION * cols) if extend else 0
    weighted = _ended_softly(weighted, image, beside)
    width = cols + 2 * beside
    size = next_fast_len(2 * width, real=True)
    step = pitch / view.magnification
    lag = np.minimum(np.arange(size), size - np.arange(size))
    odd = lag % 2 == 1
    kernel = np.zeros(size)
    kernel[0] = 1 / (4 * step**2)
    kernel[odd] = -1 / (math.pi * lag[odd] * step) ** 2
    response = rfft(kernel).real * step
    frequency = np.linspace(0.0, 1.0, len(response))  # of the highest
    if window == "hann":
        response *= (1 + np.cos(np.pi * frequency)) / 2
    elif window == "cosine":
        response *= np.cos(np.pi / 2 * frequency)
    spectrum = rfft(weighted, size, axis=1) * response
    filtered = irfft(spectrum, size, axis=1)[:, beside : beside + cols]
    return np.asarray(filtered[:, ::-1] if view.flip_columns else filtered, np.float32)


def _ended_softly(weighted: npt.NDArray[Any], image: FloatArray, beside: int) -> Any:
    """The rows with their first and last values carried on beside them, falling to 0."""
    if not beside:
        return weighted
    fall = np.cos(np.pi / 2 * (np.arange(beside) + 1) / (beside + 1)) ** 2
    ends = [np.where(image[:, [k]] > 0, weighted[:, [k]], 0.0) for k in (0, -1)]
    return np.concatenate([ends[0] * fall[::-1], weighted, ends[1] * fall], axis=1)


def _backproject(
    filtered: FloatArray,
    views: Sequence[XrayView],
    grid: Grid,
    crew: Any,
    progress: ProgressCallback | None,
) -> FloatArray:
    from napari_cxr3d.progress import Progress
    from napari_cxr3d.xray.cpu.fdk_kernels import fdk_backproject

    view = views[0]
    assert view.isocenter_lps is not None  # resolved
    height, depth, width = grid.shape
    volume = np.zeros((depth, width, height), np.float32)
    yaw = np.radians([v.yaw for v in views])
    angles = np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
    camera = np.array([view.source_to_isocenter_mm, view.source_to_detector_mm, view.pixel_mm])
    first = np.subtract(grid.origin_lps, view.isocenter_lps)
    down, back, left = grid.spacing_mm
    step = np.array([left, back, -down])
    told = part_of(progress, 0.1, 1.0)
    blocks = -(-depth // _BLOCK)

    def fill(n: int) -> None:
        start, stop = n * _BLOCK, min((n + 1) * _BLOCK, depth)
        fdk_backproject(volume, filtered, angles, camera, first, step, start, stop)
        if told is not None:
            told(Progress(n + 1, blocks, "backprojecting"))

    crew.run(fill, blocks)
    return np.ascontiguousarray(volume.transpose(2, 0, 1))


def _checked(integrals: FloatArray, views: Sequence[XrayView], window: str) -> FloatArray:
    if window not in WINDOWS:
        raise InvalidInputError(
            f"There is no filter window called {window!r}",
            remedy=f"choose one of {', '.join(WINDOWS)}",
        )
    _require_one_turn(views)
    images = np.ascontiguousarray(integrals, np.float32)
    expected = (len(views), *views[0].detector_shape)
    if images.shape != expected or not np.isfinite(images).all():
        raise InvalidInputError(
            "The line integrals do not match their views",
            why=f"their shape is {images.shape}, and the views need {expected}, all finite",
        )
    return images


def _require_one_turn(views: Sequence[XrayView]) -> None:
    if len(views) < 2:
        raise InvalidInputError(
            "Filtered backprojection needs two views or more", why=f"there are {len(views)}"
        )
    if min(views[0].detector_shape) < 2:
        raise InvalidInputError("Filtered backprojection needs two detector rows and columns")
    if any(abs(view.pitch) > _SAME or abs(view.roll) > _SAME for view in views):
        raise GeometryError(
            "Filtered backprojection needs a turn in the axial plane",
            why="views have a pitch or a roll",
            remedy="leave them out, or solve by conjugate gradients",
        )
    distances = [
        (v.source_to_isocenter_mm, v.source_to_detector_mm, v.pixel_mm, *v.detector_shape,
         v.flip_columns, *(v.isocenter_lps or ()))
        for v in views
    ]  # fmt: skip
    if any(len(d) != len(distances[0]) or not np.allclose(d, distances[0]) for d in distances):
        raise GeometryError(
            "Filtered backprojection needs views that differ in yaw alone",
            why="distances, detectors or isocenters differ",
            remedy="solve by conjugate gradients",
        )
