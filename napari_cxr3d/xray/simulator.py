"""From line integrals to a radiograph as a hospital's archive holds it.

A `Simulator` is a list of named steps in the order of the beam's way; None switches a step off.
`simulate` runs them: the exposure (energy, heel, distance, blades, lead and wires,
Beer-Lambert, scatter, grid, noise, blur, gain calibration), the detector's processing (logarithm,
exposure index, multi-scale contrast, characteristic curve), and what is done to the picture
afterwards (vignette, grey range, shutter, letters, border, bits). `simulator_domains` names
two looks, ``"drr"`` and ``"realistic"``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import XrayView
from napari_cxr3d.progress import CancelToken, Progress, ProgressCallback
from napari_cxr3d.xray.appearance import AppearanceWindow
from napari_cxr3d.xray.simulator_exposure import inverse_square
from napari_cxr3d.xray.simulator_leads import add_wires
from napari_cxr3d.xray.simulator_processing import fade_air
from napari_cxr3d.xray.simulator_system import Simulator

__all__ = ["Projection", "Simulator", "common_window", "expose", "process", "simulate"]

FloatImage = npt.NDArray[np.float32]
Projection = npt.NDArray[Any] | tuple[npt.NDArray[Any], npt.NDArray[Any]]
"""Line integrals, or the path lengths (water, bone) in mm: [V, rows, cols] or [rows, cols]."""

_HEADROOM = 0.3  # how far outside its window a value still shapes the contrast
_OPEN_FIELD = 0.5  # more of the beam than this, and a pixel lies in the field
_LEAST_SIGNAL = 1e-6


def simulate(
    projection: Projection,
    views: XrayView | Sequence[XrayView],
    domain: str | Simulator = "drr",
    seed: int | Sequence[int] = 0,
    *,
    one_window: bool = False,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> FloatImage:
    """Radiographs of projections, bone bright.

    Parameters
    ----------
    projection : ndarray or tuple of 2 ndarray, shape (rows, cols) or (V, rows, cols)
        Line integrals (dimensionless), or path lengths of water and bone in mm, from which
        the simulator's beam is read.
    views : XrayView or sequence of XrayView
        The exposure of each frame; its distances and pixel pitch shape scatter, heel, blur
        and noise, its angles the letters.
    domain : {"drr", "realistic"} or Simulator
        A named domain, of which the seed takes a sample, or one system.
    seed : int or sequence of int
        One seed for all views, which then share one system and differ in their noise, or
        one seed a view, each with a system of its own. One seed, one picture.
    one_window : bool
        Choose one window over all views, as a sweep that must not flicker needs; else each is
        exposed and normalised on its own, as a detector does.
    progress, cancel : optional
        Told after each view; looked at before each.

    Returns
    -------
    ndarray of float32, the shape of the projection
        Grey values, 0 (black) to 1 (white).

    Raises
    ------
    InvalidInputError
        If views and frames do not fit together, or there is no such domain.
    Cancelled
        If the token was cancelled.
    """
    basis = _as_stacks(projection)
    views = (views,) if isinstance(views, XrayView) else tuple(views)
    _require_views(basis[0], views)
    seeds = _seeds(seed, len(views))
    systems = _systems(domain, [first for first, *_ in seeds])
    pictures = np.empty(basis[0].shape, np.float32)
    window = common_window(projection, views, systems[0], cancel=cancel) if one_window else None
    for index, (view, system) in enumerate(zip(views, systems, strict=True)):
        if cancel is not None:
            cancel.raise_if_cancelled()
        integrals = _integrals(basis, index, system)
        reading, shade = expose(integrals, view, system, seeds[index])
        pictures[index] = process(reading, shade, view, system, window)
        if progress is not None:
            progress(Progress(index + 1, len(views), f"developing view {index + 1}"))
    shape = projection[0].shape if isinstance(projection, tuple) else projection.shape
    return pictures.reshape(shape)


def expose(
    integrals: FloatImage, view: XrayView, system: Simulator, seed: Sequence[int] = (0,)
) -> tuple[FloatImage, FloatImage]:
    """One exposure: the detector's logarithmic reading.

    Parameters
    ----------
    integrals : ndarray of float32, shape (rows, cols)
        Line integrals at the beam's energy.
    view : XrayView
        The exposure's geometry.
    system : Simulator
        Its steps from the tube to the gain calibration.
    seed : sequence of int
        Of the noise.

    Returns
    -------
    reading : ndarray of float32, shape (rows, cols)
        ``-ln`` of the signal over that of direct exposure: the line integrals where nothing
        disturbs them.
    shade : ndarray of float32, shape (rows, cols)
        Line integrals with lead and blades added: what tells air from patient.
    """
    pixel_mm, shape = view.pixel_mm, view.detector_shape
    shade, patient = integrals, integrals
    if system.collimation is not None or system.marker is not None or system.wires:
        shade = np.array(integrals, np.float32)
    if system.wires:
        add_wires(shade, system.wires, pixel_mm)
    if system.collimation is not None:
        shade -= np.log(system.collimation.field(shape, pixel_mm))
    if system.marker is not None:
        system.marker.add_to(shade, view, pixel_mm)
    steps = (system.heel, system.scatter, system.grid, system.noise, system.blur)
    if not system.inverse_square and all(step is None for step in steps):
        return shade, shade
    fluence = _fluence(view, system)
    primary = np.exp(-shade)
    if fluence is not None:
        primary *= fluence
    signal = primary
    if system.grid is not None:
        signal = primary * system.grid.cutoff(shape, pixel_mm, view.source_to_detector_mm)
    if system.scatter is not None:
        scattered = system.scatter.signal(np.maximum(patient, 0), primary, pixel_mm)
        if system.grid is not None:
            scattered *= np.float32(system.grid.scatter_left)
        signal = signal + scattered
    signal = _detect(signal, view, system, seed)
    if system.flat_field is not None and fluence is not None:
        signal = system.flat_field.apply(signal, fluence)
    np.maximum(signal, np.float32(_LEAST_SIGNAL), out=signal)
    return np.asarray(-np.log(signal), np.float32), shade


def _fluence(view: XrayView, system: Simulator) -> FloatImage | None:
    """Beam on the detector without patient and blades; None where it is 1."""
    shape, pixel_mm, distance = view.detector_shape, view.pixel_mm, view.source_to_detector_mm
    fluence = None
    if system.inverse_square:
        fluence = inverse_square(shape, pixel_mm, distance)
    if system.heel is not None:
        heel = system.heel.fluence(shape, pixel_mm, distance)
        fluence = heel if fluence is None else fluence * heel
    return fluence


def _detect(
    signal: FloatImage, view: XrayView, system: Simulator, seed: Sequence[int]
) -> FloatImage:
    """The signal with noise and blur.

    Photons are many per pixel, so that their Poisson law is a Gaussian of the same variance.
    """
    grain, read_out = None, None
    if system.noise is not None:
        noise = system.noise
        generator = np.random.default_rng([*(int(s) for s in seed), noise.seed])
        photons = noise.photons_per_mm2 * view.pixel_mm**2
        if system.grid is not None:
            photons *= system.grid.primary
        grain = generator.standard_normal(signal.shape, np.float32)
        grain *= np.sqrt(signal * np.float32(1 / photons))
        if noise.electronic > 0:
            read_out = generator.standard_normal(signal.shape, np.float32)
            read_out *= np.float32(noise.electronic / photons)
    if system.blur is not None:
        signal = system.blur.apply(signal, grain, view.pixel_mm, view.magnification)
    elif grain is not None:
        signal = signal + grain
    return signal if read_out is None else signal + read_out


def process(
    reading: FloatImage,
    shade: FloatImage,
    view: XrayView,
    system: Simulator,
    window: AppearanceWindow | None = None,
) -> FloatImage:
    """Grey values of one reading.

    Parameters
    ----------
    reading, shade : ndarray of float32, shape (rows, cols)
        What `expose` returned.
    view : XrayView
        The exposure; its angles decide the letters.
    system : Simulator
        Its steps from the exposure index on.
    window : AppearanceWindow, optional
        Overrides the exposure index.
    """
    open_field = None
    if system.collimation is not None:
        blades = system.collimation.field(view.detector_shape, view.pixel_mm)
        open_field = blades > _OPEN_FIELD
    if window is None:
        window = system.exposure_index.window(reading, shade, open_field)
    values = (reading - np.float32(window.low)) * np.float32(1 / (window.high - window.low))
    np.clip(values, -_HEADROOM, 1 + _HEADROOM, out=values)
    if system.edges is not None:
        values = system.edges.apply(values, view.pixel_mm)
    if system.contrast is not None:
        values = system.contrast.apply(values)
    if system.curve is not None:
        values = system.curve.apply(values)
    else:
        np.clip(values, 0.0, 1.0, out=values)
    if system.black_air:
        values = fade_air(values, shade)
    if system.vignette is not None:
        values = system.vignette.apply(values)
    if system.display is not None:
        values = system.display.apply(values)
    if system.shutter is not None and open_field is not None:
        values[~open_field] = system.shutter
    for text in system.texts:
        text.draw_on(values, view)
    if system.border is not None:
        values = system.border.apply(values)
    if system.bits is not None:
        steps = np.float32(2**system.bits - 1)
        values = np.rint(values * steps) / steps
    return values


def common_window(
    projection: Projection,
    views: Sequence[XrayView],
    system: Simulator,
    *,
    cancel: CancelToken | None = None,
) -> AppearanceWindow:
    """The window that one exposure index gives all views of a sweep.

    Parameters
    ----------
    projection, views
        As for `simulate`.
    system : Simulator
        The system that exposes them all.
    cancel : CancelToken, optional
        Looked at before each view.
    """
    basis, quiet = _as_stacks(projection), system.without("noise")
    _require_views(basis[0], tuple(views))
    exposed = []
    for index, view in enumerate(views):
        if cancel is not None:
            cancel.raise_if_cancelled()
        exposed.append(expose(_integrals(basis, index, quiet), view, quiet))
    readings, shades = (np.stack(parts) for parts in zip(*exposed, strict=True))
    blades = system.collimation
    if blades is None:
        return system.exposure_index.window(readings, shades)
    fields = [blades.field(view.detector_shape, view.pixel_mm) > _OPEN_FIELD for view in views]
    return system.exposure_index.window(readings, shades, np.stack(fields))


def _seeds(seed: int | Sequence[int], views: int) -> list[tuple[int, ...]]:
    """The seeds of each view's noise; the first of them is the system's."""
    if isinstance(seed, int | np.integer):
        given: list[tuple[int, ...]] = [(int(seed), index) for index in range(views)]
    else:
        given = [(int(own), 0) for own in seed]
    if len(given) != views or any(first < 0 for first, _ in given):
        raise InvalidInputError(
            "There must be one seed of 0 or more for all views, or one for each",
            why=f"the seeds are {seed} and there are {views} views",
        )
    return given


def _as_stacks(projection: Projection) -> tuple[FloatImage, ...]:
    """Line integrals, or water and bone, as [V, rows, cols]."""
    parts = projection if isinstance(projection, tuple) else (projection,)
    stacks = tuple(np.asarray(part, np.float32) for part in parts)
    shapes = {stack.shape for stack in stacks}
    if len(stacks) not in (1, 2) or len(shapes) != 1:
        raise InvalidInputError(
            "A projection is one array of line integrals, or water and bone of one shape",
            why=f"the shapes are {', '.join(str(stack.shape) for stack in stacks)}",
        )
    if stacks[0].ndim not in (2, 3) or stacks[0].size == 0:
        raise InvalidInputError(
            "Line integrals must have the axes (rows, columns) or (views, rows, columns)",
            why=f"the shape is {stacks[0].shape}",
        )
    if not all(np.isfinite(stack).all() for stack in stacks):
        raise InvalidInputError("The line integrals hold values that are not numbers")
    return tuple(stack.reshape(-1, *stack.shape[-2:]) for stack in stacks)


def _require_views(stack: FloatImage, views: tuple[XrayView, ...]) -> None:
    shapes = {view.detector_shape for view in views}
    if len(views) != len(stack) or shapes != {stack.shape[1:]}:
        raise InvalidInputError(
            "The views do not fit the line integrals",
            why=f"there are {len(views)} views with detectors of "
            f"{', '.join(f'{r} x {c}' for r, c in sorted(shapes))} pixels, and "
            f"{len(stack)} frames of {stack.shape[1]} x {stack.shape[2]}",
            remedy="give the views that were projected",
        )


def _systems(domain: str | Simulator, seeds: Sequence[int]) -> list[Simulator]:
    if isinstance(domain, Simulator):
        return [domain] * len(seeds)
    from napari_cxr3d.xray.simulator_domains import domain as named

    chosen = named(domain)
    known = {seed: chosen.sample(seed) for seed in set(seeds)}
    return [known[seed] for seed in seeds]


def _integrals(basis: tuple[FloatImage, ...], index: int, system: Simulator) -> FloatImage:
    if len(basis) == 1:
        integrals: FloatImage = basis[0][index]
        return integrals
    return system.beam.integrals(basis[0][index], basis[1][index])
