"""What a detector's computer does with the reading before anyone sees it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.xray.appearance import AppearanceWindow
from napari_cxr3d.xray.simulator_exposure import detector_axes

__all__ = ["Border", "DisplayRange", "EdgeEnhancement", "ExposureIndex", "Vignette", "fade_air"]

FloatImage = npt.NDArray[np.float32]

DIRECT_EXPOSURE = 0.25  # line integrals below it, 13 mm of water, count as air
_SAMPLES = 1 << 14  # pixels that percentiles are taken of, about


@dataclass(frozen=True)
class ExposureIndex:
    """The readings shown darkest and brightest, found in the anatomical region.

    The region is what lies behind the patient in the open field, as a detector finds it
    before it computes the exposure index (IEC 62494-1).

    Attributes
    ----------
    low, high : float
        Percentiles of the readings in the region, shown as 0 and 1.
    latitude : float or None
        Width of the window in units of the reading. The window then keeps this width about
        the middle of the two percentiles, however thick the patient is; None lets it
        follow the percentiles.
    air : bool
        Whether the whole picture, air included, is the region: published pipelines' min-max
        is 0 and 100 percent of it.
    """

    low: float = 5.0
    high: float = 99.5
    latitude: float | None = None
    air: bool = False

    def __post_init__(self) -> None:
        if not (0 <= self.low < self.high <= 100) or (
            self.latitude is not None and not self.latitude > 0
        ):
            raise InvalidInputError(
                "The exposure index cannot be used",
                why=f"its percentiles are {self.low:g} and {self.high:g}, its latitude is "
                f"{self.latitude}",
                remedy="let the percentiles rise between 0 and 100, with a positive latitude",
            )

    def window(
        self,
        reading: FloatImage,
        integrals: FloatImage,
        field: npt.NDArray[np.bool_] | None = None,
    ) -> AppearanceWindow:
        """The window for one picture or for several of one sweep.

        Parameters
        ----------
        reading, integrals : ndarray of float32, one shape
            The detector's logarithmic reading, and the line integrals that tell air from
            patient.
        field : ndarray of bool, the same shape, optional
            The open field.
        """
        every = max(1, reading.size // _SAMPLES)
        values = reading.reshape(-1)[::every]
        if not self.air:
            region = integrals.reshape(-1)[::every] > DIRECT_EXPOSURE
            if field is not None:
                region &= field.reshape(-1)[::every]
            values = values[region]
        elif every > 1:
            values = reading.reshape(-1)  # a minimum of samples is no minimum
        if values.size == 0:
            return AppearanceWindow(0.0, 1.0)
        low, high = (float(v) for v in np.percentile(values, [self.low, self.high]))
        if self.latitude is not None:
            middle = (low + high) / 2
            low, high = middle - self.latitude / 2, middle + self.latitude / 2
        return AppearanceWindow(low, high if high - low > 1e-6 else low + 1.0)


@dataclass(frozen=True)
class EdgeEnhancement:
    """Unsharp masking, weaker where little dose arrived.

    ``x + gain * (1 - falloff * x) * (x - G x)`` with a Gaussian G and x within the window:
    dense parts, whose noise would be enhanced too, get less (density-dependent enhancement, as
    Prokop and Schaefer-Prokop, Eur. Radiol. 7 Suppl. 3, S73-S82, 1997, describe it).

    Attributes
    ----------
    gain : float
        Of what is finer than the mask, at the window's low end.
    radius_mm : float
        Standard deviation of the Gaussian on the detector in mm.
    falloff : float
        Part of the gain that is lost at the window's high end.
    """

    gain: float = 1.0
    radius_mm: float = 2.0
    falloff: float = 0.8

    def __post_init__(self) -> None:
        if not (self.gain >= 0 and self.radius_mm > 0 and 0 <= self.falloff <= 1):
            raise InvalidInputError(
                "The edge enhancement needs a gain of 0 or more, a positive radius and a falloff "
                "from 0 to 1",
                why=f"they are {self.gain:g}, {self.radius_mm:g} mm and {self.falloff:g}",
            )

    def apply(self, values: FloatImage, pixel_mm: float) -> FloatImage:
        """The enhanced picture."""
        mask = self._mask(values, pixel_mm)
        return np.asarray(values + self._gain(mask) * (values - mask), np.float32)

    def invert(self, values: FloatImage, pixel_mm: float, *, iterations: int = 24) -> FloatImage:
        """The picture before; what is coarse needs no correction, what is fine few."""
        estimate = values
        for _ in range(iterations):
            mask = self._mask(estimate, pixel_mm)
            gain = self._gain(mask)
            estimate = np.asarray((values + gain * mask) / (1 + gain), np.float32)
        return estimate

    def _mask(self, values: FloatImage, pixel_mm: float) -> FloatImage:
        from scipy.ndimage import gaussian_filter

        sigma = self.radius_mm / pixel_mm
        return np.asarray(gaussian_filter(values, sigma, mode="nearest", truncate=3.0), np.float32)

    def _gain(self, mask: FloatImage) -> FloatImage:
        gain = np.clip(mask, 0, 1)
        gain *= np.float32(-self.gain * self.falloff)
        gain += np.float32(self.gain)
        return gain


@dataclass(frozen=True)
class DisplayRange:
    """The part of the file's grey values that the anatomy takes up.

    Archived pictures are often cut from a wide stored range without their window: the chest
    then is a narrow band of middle greys, while letters reach the top of the range.

    Attributes
    ----------
    black, white : float
        Grey values between 0 and 1 that the processed picture's 0 and 1 are shown as.
    gamma : float
        Exponent on the processed picture before; above 1 darkens.
    """

    black: float = 0.0
    white: float = 1.0
    gamma: float = 1.0

    def __post_init__(self) -> None:
        if not (0 <= self.black < self.white <= 1 and self.gamma > 0):
            raise InvalidInputError(
                "The display range cannot be used",
                why=f"it reaches from {self.black:g} to {self.white:g}, its gamma is "
                f"{self.gamma:g}",
                remedy="let it rise within 0 to 1, with a positive gamma",
            )

    def apply(self, picture: FloatImage) -> FloatImage:
        """Grey values of a processed picture of 0 to 1."""
        if self.gamma != 1:
            picture = picture ** np.float32(self.gamma)
        return np.asarray(picture * np.float32(self.white - self.black) + np.float32(self.black))

    def invert(self, greys: FloatImage) -> FloatImage:
        """The processed picture of 0 to 1 behind grey values."""
        picture = (greys - np.float32(self.black)) * np.float32(1 / (self.white - self.black))
        picture = np.clip(picture, 0.0, 1.0)
        return np.asarray(picture ** np.float32(1 / self.gamma), np.float32)


def fade_air(picture: FloatImage, integrals: FloatImage, *, level: float = 0.0) -> FloatImage:
    """Bring direct exposure down to a grey level, whatever the steps before made of it.

    Parameters
    ----------
    picture, integrals : ndarray of float32, one shape
        Grey values, and the line integrals that tell air from patient.
    level : float
        Grey value of air.
    """
    share = np.clip(integrals * np.float32(1 / DIRECT_EXPOSURE), 0.0, 1.0)
    share *= share * (np.float32(3) - np.float32(2) * share)
    return np.asarray(np.float32(level) + (picture - np.float32(level)) * share, np.float32)


@dataclass(frozen=True)
class Vignette:
    """A slow fall of brightness toward the corners, as film digitisers and cameras leave.

    Attributes
    ----------
    corner : float
        Part of the brightness that the corner loses.
    row, column : float
        Where the middle lies, in parts of the picture's height and width.
    """

    corner: float = 0.1
    row: float = 0.5
    column: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.corner <= 1:
            raise InvalidInputError(
                "The vignette's loss must lie between 0 and 1", why=f"it is {self.corner:g}"
            )

    def apply(self, picture: FloatImage) -> FloatImage:
        """The darkened picture."""
        return picture * self._transmission(picture.shape)

    def invert(self, picture: FloatImage) -> FloatImage:
        """The picture before it was darkened."""
        transmission = np.maximum(self._transmission(picture.shape), np.float32(0.05))
        return np.asarray(picture / transmission, np.float32)

    def _transmission(self, shape: tuple[int, ...]) -> FloatImage:
        rows, cols = shape
        y, x = detector_axes((rows, cols), 1.0)
        y = y / np.float32(rows / 2) - np.float32(2 * self.row - 1)
        x = x / np.float32(cols / 2) - np.float32(2 * self.column - 1)
        return np.asarray(1 - np.float32(self.corner / 2) * (y * y + x * x), np.float32)


@dataclass(frozen=True)
class Border:
    """Margins without picture: shutters, or the padding of a portrait to a square.

    Attributes
    ----------
    top, bottom, left, right : float
        Widths in parts of the picture's height or width.
    level : float
        Their grey value.
    line : float or None
        Grey value of a thin line along the picture's edge.
    """

    top: float = 0.0
    bottom: float = 0.0
    left: float = 0.0
    right: float = 0.0
    level: float = 0.0
    line: float | None = None

    def __post_init__(self) -> None:
        widths = (self.top, self.bottom, self.left, self.right)
        if not (all(0 <= w < 0.5 for w in widths) and 0 <= self.level <= 1):
            raise InvalidInputError(
                "The border cannot be used",
                why=f"its widths are {', '.join(f'{w:g}' for w in widths)}, "
                f"its grey value is {self.level:g}",
                remedy="give widths below 0.5 and a grey value from 0 to 1",
            )

    def apply(self, picture: FloatImage) -> FloatImage:
        """The picture within its margins; the array is changed in place."""
        rows, cols = picture.shape
        first_row, last_row = round(self.top * rows), rows - round(self.bottom * rows)
        first_col, last_col = round(self.left * cols), cols - round(self.right * cols)
        if self.line is not None:
            picture[first_row, :] = picture[last_row - 1, :] = self.line
            picture[:, first_col] = picture[:, last_col - 1] = self.line
        picture[:first_row] = picture[last_row:] = self.level
        picture[:, :first_col] = picture[:, last_col:] = self.level
        return picture
