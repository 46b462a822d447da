"""From line integrals to the picture of a radiograph, in named steps.

exposure (Beer-Lambert, scatter, quantum and electronic noise) -> logarithm -> window ->
multi-scale contrast -> characteristic curve -> polarity. Each can be switched off, and none
touches the line integrals, which stay what reconstruction and comparison need.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.progress import CancelToken, Progress, ProgressCallback
from napari_cxr3d.xray.multiscale import MultiscaleContrast, wide_blur

__all__ = [
    "Appearance",
    "AppearanceWindow",
    "CharacteristicCurve",
    "MultiscaleContrast",
    "Noise",
    "PercentileWindow",
    "Scatter",
    "choose_window",
    "minmax",
    "render",
]

FloatImage = npt.NDArray[np.float32]

_DIRECT_EXPOSURE = 0.25  # line integrals below it, 13 mm of water, count as air
_HEADROOM = 0.3  # how far outside its window a value still shapes the contrast
_SAMPLES = 1 << 22  # pixels that the percentiles are taken of, about


@dataclass(frozen=True)
class Scatter:
    """Scattered radiation as a wide, low veil.

    Attributes
    ----------
    ratio : float
        Scatter-to-primary ratio behind a wide patient; 0.2 to 1 behind a grid.
    sigma_mm : float
        Width of the veil on the detector in mm (standard deviation of a Gaussian; compare
        Seibert and Boone, Med. Phys. 15, 567-575, 1988).
    """

    ratio: float = 0.4
    sigma_mm: float = 60.0

    def __post_init__(self) -> None:
        if not (self.ratio >= 0 and self.sigma_mm > 0):
            raise InvalidInputError(
                "The scatter cannot be used",
                why=f"its ratio is {self.ratio:g} and its width {self.sigma_mm:g} mm",
                remedy="give a ratio of 0 or more and a positive width",
            )


@dataclass(frozen=True)
class Noise:
    """Quantum and electronic noise of one exposure.

    Attributes
    ----------
    photons_per_mm2 : float
        Photons on the detector without a patient. The default leaves behind the lung what a
        2.5 uGy exposure gives (30 000 photons per mm2 and uGy at RQA 5, IEC 62220-1).
    electronic : float
        Standard deviation of the read-out per pixel, in photons.
    seed : int
        Seed of the generator: one seed, one picture.
    """

    photons_per_mm2: float = 4e5
    electronic: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.photons_per_mm2 > 0 and self.electronic >= 0 and self.seed >= 0):
            raise InvalidInputError(
                "The noise cannot be used",
                why=f"it has {self.photons_per_mm2:g} photons per mm2, electronic noise "
                f"{self.electronic:g}, seed {self.seed}",
                remedy="give positive photons, and noise and seed of 0 or more",
            )


@dataclass(frozen=True)
class AppearanceWindow:
    """The readings shown darkest and brightest, the same for every frame of a sweep.

    Attributes
    ----------
    low, high : float
        Logarithmic readings (line integrals), dimensionless.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (np.isfinite([self.low, self.high]).all() and self.low < self.high):
            raise InvalidInputError(
                "The window's low end must lie below its high end",
                why=f"it reaches from {self.low:g} to {self.high:g}",
            )


@dataclass(frozen=True)
class PercentileWindow:
    """A window chosen from what lies behind the patient, air left out.

    Attributes
    ----------
    low, high : float
        Percentiles, 0 to 100.
    """

    low: float = 5.0
    high: float = 99.5

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 100:
            raise InvalidInputError(
                "The window's percentiles must rise between 0 and 100",
                why=f"they are {self.low:g} and {self.high:g}",
            )


@dataclass(frozen=True)
class CharacteristicCurve:
    """A film's S-shaped response: the sigmoid VOI LUT of DICOM PS3.3 C.11.2.1.3.1.

    Attributes
    ----------
    center : float
        The middle of the curve, in units of the window.
    width : float
        Its width, in units of the window; small is steep.
    gamma : float
        Exponent on the result; above 1 darkens the middle greys.
    """

    center: float = 0.48
    width: float = 1.0
    gamma: float = 1.0

    def __post_init__(self) -> None:
        if not (self.width > 0 and self.gamma > 0):
            raise InvalidInputError(
                "The characteristic curve needs a positive width and gamma",
                why=f"they are {self.width:g} and {self.gamma:g}",
            )

    def apply(self, values: FloatImage) -> FloatImage:
        """Brightness from 0 to 1 of values in units of the window."""
        toe, shoulder = (self._sigmoid(np.float32(end)) for end in (-0.2, 1.2))
        bright: FloatImage = self._sigmoid(values)
        bright -= toe
        bright *= np.float32(1.0) / (shoulder - toe)
        np.clip(bright, 0.0, 1.0, out=bright)
        if self.gamma != 1:
            bright **= np.float32(self.gamma)
        return bright

    def invert(self, bright: FloatImage) -> FloatImage:
        """Values in units of the window that `apply` showed at a brightness from 0 to 1.

        Where `apply` clipped, the ends of the curve, 0.2 outside the window, are returned.
        """
        toe, shoulder = (self._sigmoid(np.float32(end)) for end in (-0.2, 1.2))
        share = np.clip(np.asarray(bright, np.float32), 0.0, 1.0)
        if self.gamma != 1:
            share = share ** np.float32(1 / self.gamma)
        share = toe + share * (shoulder - toe)
        odds = np.log(share) - np.log1p(-share)
        return np.asarray(self.center + self.width / 4 * odds, np.float32)

    def _sigmoid(self, values: Any) -> Any:
        slope = np.float32(-4.0 / self.width)
        return np.float32(1.0) / (
            np.float32(1.0) + np.exp(slope * (values - np.float32(self.center)))
        )


@dataclass(frozen=True)
class Appearance:
    """How line integrals become a picture; the default looks like a read radiograph.

    Attributes
    ----------
    scatter : Scatter or None
        Scattered radiation.
    noise : Noise or None
        Quantum and electronic noise.
    logarithm : bool
        Show the logarithm of the detector's signal, as digital systems do; else the
        absorbed part of the beam.
    window : PercentileWindow or AppearanceWindow
        What is shown darkest and brightest.
    contrast : MultiscaleContrast or None
        Detail against latitude.
    curve : CharacteristicCurve or None
        The S-shaped response; linear without it.
    black_air : bool
        Keep direct exposure black, whatever the steps before made of it.
    as_film : bool
        Bone dark, air bright: the polarity of a fluoroscope (MONOCHROME1).
    """

    scatter: Scatter | None = None
    noise: Noise | None = None
    logarithm: bool = True
    window: PercentileWindow | AppearanceWindow = field(default_factory=PercentileWindow)
    contrast: MultiscaleContrast | None = field(default_factory=MultiscaleContrast)
    curve: CharacteristicCurve | None = field(default_factory=CharacteristicCurve)
    black_air: bool = True
    as_film: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable form, for provenance."""
        return asdict(self)


def minmax(integrals: npt.NDArray[Any]) -> FloatImage:
    """Each frame stretched from its minimum to its maximum, as published pipelines do.

    Parameters
    ----------
    integrals : ndarray, shape (rows, cols) or (V, rows, cols)
        Line integrals.

    Returns
    -------
    ndarray of float32, the shape of `integrals`
        0 to 1; 0 throughout in a frame of one value.
    """
    integrals = _as_frames(integrals)
    low = integrals.min(axis=(-2, -1), keepdims=True)
    span = integrals.max(axis=(-2, -1), keepdims=True) - low
    return np.asarray((integrals - low) / np.where(span > 0, span, 1), np.float32)


def choose_window(
    integrals: npt.NDArray[Any],
    appearance: Appearance | None = None,
    *,
    pixel_mm: float | None = None,
    region: npt.NDArray[np.bool_] | None = None,
) -> AppearanceWindow:
    """Choose the window that `render` would use for these frames, to hold it for others.

    Parameters
    ----------
    integrals : ndarray, shape (rows, cols) or (V, rows, cols)
        Line integrals: one frame, or all of a sweep.
    appearance : Appearance, optional
        Its window, scatter and logarithm count; the default appearance if None.
    pixel_mm : float, optional
        Pixel pitch on the detector in mm; scatter needs it.
    region : ndarray of bool, the shape of `integrals`, optional
        The pixels to take percentiles of, instead of all that lie behind the patient.
    """
    appearance = appearance or Appearance()
    if isinstance(appearance.window, AppearanceWindow):
        return appearance.window
    quiet = replace(appearance, noise=None)
    _require_scale(quiet, pixel_mm)
    frames = _as_frames(integrals)
    stack = frames.reshape(-1, *frames.shape[-2:])
    behind = (stack > _DIRECT_EXPOSURE) if region is None else region.reshape(stack.shape)
    every = max(1, -(-stack.size // _SAMPLES))
    readings = np.concatenate(
        [_read(stack[k], quiet, pixel_mm or 1.0, k)[behind[k]] for k in range(0, len(stack), every)]
    )
    if readings.size == 0:
        return AppearanceWindow(0.0, 1.0)
    low, high = np.percentile(readings, [appearance.window.low, appearance.window.high])
    if high - low < 1e-6:
        high = low + 1.0
    return AppearanceWindow(float(low), float(high))


def render(
    integrals: npt.NDArray[Any],
    appearance: Appearance | None = None,
    *,
    pixel_mm: float | None = None,
    window: AppearanceWindow | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> FloatImage:
    """Pictures of line integrals.

    Parameters
    ----------
    integrals : ndarray, shape (rows, cols) or (V, rows, cols)
        Line integrals, dimensionless. One window serves all frames of a call.
    appearance : Appearance, optional
        The steps; a read radiograph if None.
    pixel_mm : float, optional
        Pixel pitch on the detector in mm; scatter and noise need it.
    window : AppearanceWindow, optional
        Overrides the appearance's own window: one that `choose_window` gave for a full
        frame, held while others pass by.

    Returns
    -------
    ndarray of float32, the shape of `integrals`
        0 (black) to 1 (white).

    Raises
    ------
    InvalidInputError
        If scatter or noise is asked for without a pixel pitch, or the array is no picture.
    Cancelled
        If the token was cancelled between two frames.
    """
    appearance = appearance or Appearance()
    frames = _as_frames(integrals)
    _require_scale(appearance, pixel_mm)
    if window is None:
        window = choose_window(frames, appearance, pixel_mm=pixel_mm)
    stack = frames.reshape(-1, *frames.shape[-2:])
    pictures = np.empty(stack.shape, np.float32)
    for index, frame in enumerate(stack):
        if cancel is not None:
            cancel.raise_if_cancelled()
        pictures[index] = _render_frame(frame, appearance, pixel_mm or 1.0, window, index)
        if progress is not None:
            progress(Progress(index + 1, len(stack), f"developing view {index + 1}"))
    return pictures.reshape(frames.shape)


def _require_scale(appearance: Appearance, pixel_mm: float | None) -> None:
    if pixel_mm is None and (appearance.scatter or appearance.noise):
        raise InvalidInputError(
            "Scatter and noise need the detector's scale", remedy="give pixel_mm"
        )


def _as_frames(integrals: npt.NDArray[Any]) -> FloatImage:
    frames = np.asarray(integrals, dtype=np.float32)
    if frames.ndim not in (2, 3) or frames.size == 0:
        raise InvalidInputError(
            "Line integrals must have the axes (rows, columns) or (views, rows, columns)",
            why=f"the shape is {frames.shape}",
        )
    return frames


def _render_frame(
    frame: FloatImage,
    appearance: Appearance,
    pixel_mm: float,
    window: AppearanceWindow,
    index: int,
) -> FloatImage:
    reading = _read(frame, appearance, pixel_mm, index)
    values = (reading - np.float32(window.low)) * np.float32(1 / (window.high - window.low))
    np.clip(values, -_HEADROOM, 1 + _HEADROOM, out=values)
    if appearance.contrast is not None:
        values = appearance.contrast.apply(values)
    picture = (
        np.clip(values, 0.0, 1.0) if appearance.curve is None else appearance.curve.apply(values)
    )
    if appearance.black_air:
        share = np.clip(frame * np.float32(1 / _DIRECT_EXPOSURE), 0.0, 1.0)
        picture *= share * share * (np.float32(3) - np.float32(2) * share)
    return np.float32(1) - picture if appearance.as_film else picture


def _read(frame: FloatImage, appearance: Appearance, pixel_mm: float, index: int) -> FloatImage:
    """Detector reading that the window is laid over."""
    reading = _expose(frame, appearance, pixel_mm, index)
    return reading if appearance.logarithm else -np.expm1(-reading)


def _expose(frame: FloatImage, appearance: Appearance, pixel_mm: float, index: int) -> FloatImage:
    """Logarithmic reading of one exposure: the line integrals where nothing disturbs them."""
    if appearance.scatter is None and appearance.noise is None:
        return frame
    signal = np.exp(-frame)
    if appearance.scatter is not None:
        signal += _veil(np.where(frame > _DIRECT_EXPOSURE, signal, 0), appearance.scatter, pixel_mm)
    if appearance.noise is not None:
        noise = appearance.noise
        generator = np.random.default_rng([noise.seed, index])
        photons = noise.photons_per_mm2 * pixel_mm**2
        counts = generator.poisson(signal.astype(np.float64) * photons).astype(np.float64)
        counts += generator.normal(0.0, noise.electronic, signal.shape)
        # No detector reports less than one count; the logarithm needs as much.
        signal = (np.maximum(counts, 1.0) / photons).astype(np.float32)
    return np.asarray(-np.log(signal), np.float32)


def _veil(primary: FloatImage, scatter: Scatter, pixel_mm: float) -> FloatImage:
    """Scattered signal: the primary behind the patient, widely blurred."""
    return np.float32(scatter.ratio) * wide_blur(primary, scatter.sigma_mm / pixel_mm)
