"""What happens to the beam between the focal spot and the detector's reading.

Each step is a dataclass of its own with the physics in its docstring; `simulator.expose` puts
them in order. All pictures are float32 [rows, cols], and signals are relative to the direct
exposure of the central ray.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.xray.attenuation import bone_attenuation, water_attenuation
from napari_cxr3d.xray.multiscale import wide_blur
from napari_cxr3d.xray.spectra import DEFAULT_FILTRATION, Filtration, polyenergetic_integrals

__all__ = [
    "AntiscatterGrid",
    "Beam",
    "Collimation",
    "DetectorBlur",
    "FlatField",
    "Heel",
    "ScatterKernel",
    "detector_axes",
    "inverse_square",
]

FloatImage = npt.NDArray[np.float32]

_LEAST_TAKE_OFF_DEGREES = 1.0  # below it the anode shades its own beam altogether
_PADDING = 8  # pixels of mirrored edge that keep the blur from wrapping around


def _require(name: str, valid: bool, values: str) -> None:
    if not valid:
        raise InvalidInputError(f"The {name} cannot be used", why=values)


def detector_axes(shape: tuple[int, int], pixel_mm: float) -> tuple[FloatImage, FloatImage]:
    """Millimetres from the detector's centre: rows [rows, 1] downward, columns [1, cols]."""
    y, x = ((np.arange(n, dtype=np.float32) - np.float32((n - 1) / 2)) for n in shape)
    return y[:, None] * np.float32(pixel_mm), x[None, :] * np.float32(pixel_mm)


@dataclass(frozen=True)
class Beam:
    """The energies that the path lengths of water and bone are read at.

    Attributes
    ----------
    kilovolt : float or None
        Tube voltage in kV, 60 to 140: a polyenergetic beam with its hardening.
    filtration : Filtration
        The tube's filter, where `kilovolt` is given.
    energy_kev : float or None
        Photon energy in keV of a monoenergetic beam, in place of `kilovolt`.
    """

    kilovolt: float | None = 120.0
    filtration: Filtration = field(default_factory=lambda: DEFAULT_FILTRATION)
    energy_kev: float | None = None

    def __post_init__(self) -> None:
        _require(
            "beam",
            (self.kilovolt is None) != (self.energy_kev is None),
            "it needs either a tube voltage or one photon energy",
        )

    def integrals(self, water_mm: FloatImage, bone_mm: FloatImage) -> FloatImage:
        """Logarithmic reading without scatter; see `spectra.polyenergetic_integrals`."""
        if self.kilovolt is not None:
            return polyenergetic_integrals(water_mm, bone_mm, self.kilovolt, self.filtration)
        assert self.energy_kev is not None
        water, bone = water_attenuation(self.energy_kev), bone_attenuation(self.energy_kev)
        return np.asarray(water_mm * np.float32(water) + bone_mm * np.float32(bone), np.float32)


@dataclass(frozen=True)
class Heel:
    """The anode's own shadow: the beam is weaker on the anode's side.

    A photon born at depth d in the anode and leaving at the take-off angle a passes
    ``d cot(a)`` of tungsten (Poludniowski and Evans, Med. Phys. 34, 2164-2174, 2007). Along
    the tube's axis the take-off angle is the target's angle plus the ray's own angle.

    Attributes
    ----------
    target_degrees : float
        Angle of the target against the central ray.
    depth : float
        Mean depth of production times the attenuation of tungsten, dimensionless. The
        default loses a fifth of the beam 6 degrees to the anode's side of a 12 degree target.
    anode : {"up", "down", "left", "right"}
        Where the anode's side lies in the picture.
    """

    target_degrees: float = 12.0
    depth: float = 0.05
    anode: str = "up"

    def __post_init__(self) -> None:
        _require(
            "heel effect",
            0 < self.target_degrees < 90
            and self.depth >= 0
            and self.anode in ("up", "down", "left", "right"),
            f"the target's angle is {self.target_degrees:g} degrees, the depth {self.depth:g}, "
            f"the anode {self.anode!r} (up, down, left or right)",
        )

    def fluence(
        self, shape: tuple[int, int], pixel_mm: float, source_to_detector_mm: float
    ) -> FloatImage:
        """Fluence relative to the central ray, [rows, 1] or [1, cols]."""
        y, x = detector_axes(shape, pixel_mm)
        toward_cathode = {"up": y, "down": -y, "left": x, "right": -x}[self.anode]
        ray = np.degrees(np.arctan2(toward_cathode, np.float32(source_to_detector_mm)))
        take_off = np.radians(np.maximum(self.target_degrees + ray, _LEAST_TAKE_OFF_DEGREES))
        excess = 1 / np.tan(take_off) - 1 / math.tan(math.radians(self.target_degrees))
        return np.asarray(np.exp(-self.depth * excess), np.float32)


def inverse_square(
    shape: tuple[int, int], pixel_mm: float, source_to_detector_mm: float
) -> FloatImage:
    """Fluence on a flat detector relative to the central ray: the cube of the ray's cosine.

    Two powers are the inverse square of the distance, one the slant of the surface.

    Returns
    -------
    ndarray of float32, shape (rows, cols)
    """
    y, x = detector_axes(shape, pixel_mm)
    tangent = (y * y + x * x) * np.float32(1 / source_to_detector_mm**2)
    return np.asarray((1 + tangent) ** np.float32(-1.5), np.float32)


@dataclass(frozen=True)
class Collimation:
    """Blades that shut the beam off around the field.

    Attributes
    ----------
    top, bottom, left, right : float
        How far each blade reaches into the detector in mm; negative: it stays outside.
    degrees : float
        Turn of the blades against the detector.
    penumbra_mm : float
        Width of the half-shadow on the detector: focal spot times magnification of the blades.
    leak : float
        Part of the beam that passes the blades.
    """

    top: float = 8.0
    bottom: float = 8.0
    left: float = 8.0
    right: float = 8.0
    degrees: float = 0.0
    penumbra_mm: float = 4.0
    leak: float = 0.002

    def __post_init__(self) -> None:
        _require(
            "collimation",
            abs(self.degrees) <= 45 and self.penumbra_mm > 0 and 0 <= self.leak < 1,
            f"it is turned by {self.degrees:g} degrees, its penumbra is {self.penumbra_mm:g} mm, "
            f"its leak {self.leak:g}",
        )

    def field(self, shape: tuple[int, int], pixel_mm: float) -> FloatImage:
        """Part of the beam that reaches each pixel, 1 in the open field, [rows, cols]."""
        y, x = detector_axes(shape, pixel_mm)
        half_y, half_x = (n * pixel_mm / 2 for n in shape)
        turn = math.radians(self.degrees)
        sine, cosine = np.float32(math.sin(turn)), np.float32(math.cos(turn))
        along, across = y * cosine - x * sine, x * cosine + y * sine
        inside = np.minimum(along + (half_y - self.top), (half_y - self.bottom) - along)
        np.minimum(inside, across + (half_x - self.left), out=inside)
        np.minimum(inside, (half_x - self.right) - across, out=inside)
        inside *= np.float32(1 / self.penumbra_mm)
        inside += np.float32(0.5)
        np.clip(inside, self.leak, 1.0, out=inside)
        return inside


@dataclass(frozen=True)
class ScatterKernel:
    """Scattered radiation by convolution, as much as the thickness at each point asks for.

    The potential to scatter is ``strength * p * exp(-p)`` for a line integral p (Ohnesorge et
    al., Eur. Radiol. 9, 563-569, 1999); it is spread by a narrow and a wide Gaussian (the form
    of Sun and Star-Lack, Phys. Med. Biol. 55, 6695-6720, 2010). Behind a wide slab the
    scatter-to-primary ratio is then ``strength * p``, and behind the mediastinum, which
    the lungs' scatter reaches, far more.

    Attributes
    ----------
    strength : float
        Scatter-to-primary ratio per unit of line integral behind a wide slab, without a grid.
        The default gives the mediastinum of a chest the 90 % of scattered radiation and more
        that Niklason et al. measured without a grid, and with one of 12:1 still more
        scattered than primary radiation (Med. Phys. 8, 677-681, 1981).
    near_mm, far_mm : float
        Standard deviations of the two Gaussians on the detector in mm.
    near_share : float
        Part that the narrow one has.
    """

    strength: float = 0.8
    near_mm: float = 20.0
    far_mm: float = 70.0
    near_share: float = 0.35

    def __post_init__(self) -> None:
        _require(
            "scatter kernel",
            self.strength >= 0 and 0 < self.near_mm <= self.far_mm and 0 <= self.near_share <= 1,
            f"its strength is {self.strength:g}, its widths {self.near_mm:g} and "
            f"{self.far_mm:g} mm, the narrow one's share {self.near_share:g}",
        )

    def signal(self, integrals: FloatImage, primary: FloatImage, pixel_mm: float) -> FloatImage:
        """Scattered signal without a grid.

        Parameters
        ----------
        integrals, primary : ndarray of float32, shape (rows, cols)
            Line integrals and the primary signal, fluence included.
        pixel_mm : float
            Pixel pitch on the detector in mm.
        """
        potential = integrals * primary
        near = wide_blur(potential, self.near_mm / pixel_mm)
        near *= np.float32(self.strength * self.near_share)
        far = wide_blur(potential, self.far_mm / pixel_mm)
        far *= np.float32(self.strength * (1 - self.near_share))
        near += far
        return near


@dataclass(frozen=True)
class AntiscatterGrid:
    """A focused grid of lead strips before the detector, strips running along the rows' axis.

    Attributes
    ----------
    primary, scatter : float
        Transmission of primary and of scattered radiation (IEC 60627).
    ratio : float
        Height of the strips over their distance, for the cut-off.
    focus_mm : float
        The distance that the strips point to; infinite for none.
    offset_mm : float
        How far the source stands beside the grid's middle.
    lines_per_mm : float
        Frequency of the strips.
    line_contrast : float
        Amplitude of the strips' shadow; 0 for a moving grid. The pixels' aperture takes off
        what they cannot resolve.
    """

    primary: float = 0.70
    scatter: float = 0.14
    ratio: float = 10.0
    focus_mm: float = math.inf
    offset_mm: float = 0.0
    lines_per_mm: float = 4.0
    line_contrast: float = 0.0

    def __post_init__(self) -> None:
        _require(
            "anti-scatter grid",
            0 < self.primary <= 1
            and 0 <= self.scatter <= 1
            and self.ratio > 0
            and self.focus_mm > 0
            and self.lines_per_mm > 0
            and 0 <= self.line_contrast < 1,
            f"it transmits {self.primary:g} of the primary and {self.scatter:g} of the scattered "
            f"radiation, its ratio is {self.ratio:g}, its focus {self.focus_mm:g} mm, with "
            f"{self.lines_per_mm:g} lines per mm of contrast {self.line_contrast:g}",
        )

    @property
    def scatter_left(self) -> float:
        """What remains of the scatter-to-primary ratio."""
        return self.scatter / self.primary

    def cutoff(
        self, shape: tuple[int, int], pixel_mm: float, source_to_detector_mm: float
    ) -> FloatImage:
        """Primary transmission relative to a grid in focus, [1, cols].

        A ray that meets the strips at an angle error e loses the part ``ratio * |e|`` to
        their shadow.
        """
        _, x = detector_axes(shape, pixel_mm)
        ray = (x - np.float32(self.offset_mm)) * np.float32(1 / source_to_detector_mm)
        error = ray - x * np.float32(1 / self.focus_mm) if math.isfinite(self.focus_mm) else 0 * x
        transmission = np.clip(1 - self.ratio * np.abs(error), 0.05, 1.0)
        if self.line_contrast > 0:
            seen = self.line_contrast * np.sinc(self.lines_per_mm * pixel_mm)
            transmission = transmission * (1 + seen * np.sin(2 * np.pi * self.lines_per_mm * x))
        return np.asarray(transmission, np.float32)


@dataclass(frozen=True)
class DetectorBlur:
    """The modulation transfer of focal spot, pixels and scintillator.

    ``MTF(u, v) = sinc(a u) sinc(a v) exp(-2 pi^2 s^2 f^2) / (1 + H f^2)`` with the pixel
    pitch a and the focal spot's penumbra s; the Lorentzian is the scintillator's (Siewerdsen
    et al., Med. Phys. 24, 71-89, 1997). Quantum noise is born in the scintillator: it passes
    the Lorentzian alone.

    Attributes
    ----------
    scintillator_mm2 : float
        H in mm2: the scintillator's MTF is one half at ``H**-0.5`` cycles per mm. The default
        is 1.3 cycles per mm, 0.6 mm of caesium iodide.
    focal_spot_mm : float
        Nominal size of the focal spot (full width at half maximum) in mm.
    """

    scintillator_mm2: float = 0.6
    focal_spot_mm: float = 1.0

    def __post_init__(self) -> None:
        _require(
            "detector's blur",
            self.scintillator_mm2 >= 0 and self.focal_spot_mm >= 0,
            f"H is {self.scintillator_mm2:g} mm2 and the focal spot {self.focal_spot_mm:g} mm",
        )

    def apply(
        self, signal: FloatImage, noise: FloatImage | None, pixel_mm: float, magnification: float
    ) -> FloatImage:
        """The blurred signal and noise, added up.

        Parameters
        ----------
        signal : ndarray of float32, shape (rows, cols)
            At the pixels' centres.
        noise : ndarray of float32, shape (rows, cols), or None
            Quantum noise of each pixel.
        pixel_mm, magnification : float
            Pixel pitch on the detector, and size there over size at the isocenter.
        """
        from scipy import fft

        rows, cols = signal.shape
        size = tuple(fft.next_fast_len(n + 2 * _PADDING, real=True) for n in (rows, cols))
        penumbra = self.focal_spot_mm / 2.355 * (magnification - 1)
        optics, scintillator = _transfer(
            size, float(pixel_mm), round(penumbra, 4), self.scintillator_mm2
        )
        spectrum = fft.rfft2(_mirrored(signal, size))
        spectrum *= optics
        if noise is not None:
            grain = fft.rfft2(_mirrored(noise, size))
            grain *= scintillator
            spectrum += grain
        blurred = fft.irfft2(spectrum, size)
        return np.ascontiguousarray(blurred[_PADDING : _PADDING + rows, _PADDING : _PADDING + cols])


def _mirrored(picture: FloatImage, size: tuple[int, ...]) -> FloatImage:
    rows, cols = picture.shape
    after = [(_PADDING, size[0] - rows - _PADDING), (_PADDING, size[1] - cols - _PADDING)]
    return np.pad(picture, after, mode="symmetric")


@lru_cache(maxsize=16)
def _transfer(
    size: tuple[int, int], pixel_mm: float, penumbra_mm: float, scintillator_mm2: float
) -> tuple[FloatImage, FloatImage]:
    """MTF of everything, and of the scintillator alone, on the half plane of a real FFT."""
    v = np.fft.fftfreq(size[0], pixel_mm)[:, None]
    u = np.fft.rfftfreq(size[1], pixel_mm)[None, :]
    square = u * u + v * v
    scintillator = 1 / (1 + scintillator_mm2 * square)
    optics = np.sinc(pixel_mm * u) * np.sinc(pixel_mm * v) * scintillator
    optics = optics * np.exp(-2 * (math.pi * penumbra_mm) ** 2 * square)
    return optics.astype(np.float32), scintillator.astype(np.float32)


@dataclass(frozen=True)
class FlatField:
    """The detector's gain calibration, which takes heel and distance out again.

    Attributes
    ----------
    residual : float
        Exponent of the shading that stays, since calibration and exposure differ in distance
        and tube: 0 for none, 1 for no calibration at all.
    """

    residual: float = 0.15

    def __post_init__(self) -> None:
        _require("flat field", 0 <= self.residual <= 1, f"its residual is {self.residual:g}")

    def apply(self, signal: FloatImage, shading: FloatImage) -> FloatImage:
        """The signal over the shading but for its residual."""
        return np.asarray(signal * shading ** np.float32(self.residual - 1), np.float32)
