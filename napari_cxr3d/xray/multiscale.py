"""Multi-scale contrast: show fine detail in dark lung and dense mediastinum at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError

__all__ = ["MultiscaleContrast", "expand", "reduce", "wide_blur"]

FloatImage = npt.NDArray[np.float32]

_COARSEST = 4  # pixels along the shorter side of the pyramid's top
# Structures larger than an eighth of the picture get the latitude's gain, those smaller than
# a 64th the detail's; in octaves of the picture's shorter side.
_COARSE_OCTAVE, _FINE_OCTAVE = 3.0, 6.0
_MIDDLE_GREY = 0.5
_BLUR_PIXELS = 4.0  # a wide blur is done on the pyramid's level where it is this wide
_FLOOR = 0.02  # keeps the gain of the faintest coefficients finite


@dataclass(frozen=True)
class MultiscaleContrast:
    """Gains over the scales of a Laplacian pyramid.

    Each coefficient ``c`` becomes ``gain * c * (|c| / reference)**(power - 1)``, which lifts
    faint structures over strong ones (Vuylsteke and Schoeters, Proc. SPIE 2167, 551-560,
    1994). The gain depends on the size of a structure relative to the picture, so a preview
    looks like the full picture.

    Attributes
    ----------
    detail : float
        Gain of fine structures: vessels, ribs, fissures.
    latitude : float
        Gain of coarse structures: below 1 brings lung and mediastinum nearer.
    power : float
        Exponent in (0, 1]; 1 is linear.
    reference : float
        The coefficient whose gain `power` leaves alone, in units of the window's width.
    """

    detail: float = 1.6
    latitude: float = 0.75
    power: float = 0.85
    reference: float = 0.25

    def __post_init__(self) -> None:
        if not (self.detail > 0 and self.latitude > 0 and self.reference > 0):
            raise InvalidInputError(
                "The gains of the multi-scale contrast must be positive",
                why=f"detail is {self.detail:g}, latitude {self.latitude:g}, "
                f"reference {self.reference:g}",
            )
        if not 0 < self.power <= 1:
            raise InvalidInputError(
                "The power of the multi-scale contrast must lie in (0, 1]",
                why=f"it is {self.power:g}",
            )

    def apply(self, picture: FloatImage) -> FloatImage:
        """Spread the contrast of a picture over the scales.

        Parameters
        ----------
        picture : ndarray of float32, shape (rows, cols)
            Values in units of the window: 0 at its low end, 1 at its high end.

        Returns
        -------
        ndarray of float32, shape (rows, cols)
            In the same units, about the same middle grey.
        """
        levels = [picture]
        while min(levels[-1].shape) > _COARSEST:
            levels.append(reduce(levels[-1]))
        result = np.float32(_MIDDLE_GREY) + np.float32(self.latitude) * (
            levels[-1] - np.float32(_MIDDLE_GREY)
        )
        for k in range(len(levels) - 2, -1, -1):
            fine = levels[k]
            detail = fine - expand(levels[k + 1], fine.shape)
            detail *= self._gain(np.log2(min(picture.shape) / 2**k))
            if self.power != 1:
                strength = np.abs(detail)
                strength *= np.float32(1 / self.reference)
                strength += np.float32(_FLOOR)
                detail *= strength ** np.float32(self.power - 1)
            detail += expand(result, fine.shape)
            result = detail
        return result

    def invert(self, picture: FloatImage, *, iterations: int = 24) -> FloatImage:
        """The picture that `apply` would turn into this one, approximately.

        Parameters
        ----------
        picture : ndarray of float32, shape (rows, cols)
            What `apply` returned.
        iterations : int
            Corrections by what `apply` still misses; they end when one does not help. With
            the default the error is below 0.001 of the window's width for a chest.

        Returns
        -------
        ndarray of float32, shape (rows, cols)
        """
        # Half of the largest gain's step: small coefficients have it, and no more.
        strongest = self.detail * _FLOOR ** (self.power - 1)
        step = np.float32(1 / max(1.0, strongest / 2, self.latitude))
        estimate = np.asarray(picture, np.float32)
        best, least = estimate, np.inf
        for _ in range(iterations + 1):
            missing = picture - self.apply(estimate)
            error = float(np.abs(missing).mean())
            if error >= least:
                break
            best, least = estimate, error
            estimate = estimate + step * missing
        return best

    def _gain(self, octave: float) -> np.float32:
        share = np.clip((octave - _COARSE_OCTAVE) / (_FINE_OCTAVE - _COARSE_OCTAVE), 0.0, 1.0)
        return np.float32(self.latitude * (self.detail / self.latitude) ** share)


def reduce(picture: FloatImage) -> FloatImage:
    """Half the rows and columns (rounded up), smoothed by (1, 3, 3, 1)/8 along each.

    Parameters
    ----------
    picture : ndarray of float32, shape (rows, cols)
        Any picture; its edge is continued by its outermost pixels.
    """
    return _halve(_halve(picture).T).T


def expand(picture: FloatImage, shape: tuple[int, ...]) -> FloatImage:
    """Twice the rows and columns by linear interpolation, cut to `shape`.

    Parameters
    ----------
    picture : ndarray of float32, shape (rows, cols)
        What `reduce` made.
    shape : tuple of 2 int
        The shape that `reduce` was given.
    """
    rows, cols = shape
    return _double(_double(picture.T, rows).T, cols)


def wide_blur(picture: FloatImage, sigma: float) -> FloatImage:
    """A Gaussian blur with nothing beyond the edge, on a coarser level where it is wide.

    Parameters
    ----------
    picture : ndarray of float32, shape (rows, cols)
        Any picture.
    sigma : float
        Standard deviation in pixels.
    """
    from scipy.ndimage import gaussian_filter

    shapes = []
    blurred = picture
    while sigma > _BLUR_PIXELS and min(blurred.shape) > 8:
        shapes.append(blurred.shape)
        blurred = reduce(blurred)
        sigma /= 2
    blurred = gaussian_filter(blurred, sigma, mode="constant")
    for shape in reversed(shapes):
        blurred = expand(blurred, shape)
    return blurred


def _halve(lines: FloatImage) -> FloatImage:
    """Smooth and drop every other sample along the last axis."""
    if lines.shape[-1] % 2:
        lines = np.concatenate([lines, lines[..., -1:]], axis=-1)
    even, odd = lines[..., 0::2], lines[..., 1::2]
    near = (even + odd) * np.float32(0.375)
    near[..., 1:] += odd[..., :-1] * np.float32(0.125)
    near[..., 0] += even[..., 0] * np.float32(0.125)
    near[..., :-1] += even[..., 1:] * np.float32(0.125)
    near[..., -1] += odd[..., -1] * np.float32(0.125)
    return near


def _double(lines: FloatImage, length: int) -> FloatImage:
    """Interpolate twice the samples along the last axis."""
    doubled = np.empty((*lines.shape[:-1], 2 * lines.shape[-1]), np.float32)
    own, neighbour = lines * np.float32(0.75), lines * np.float32(0.25)
    left, right = doubled[..., 0::2], doubled[..., 1::2]
    left[...] = own
    left[..., 1:] += neighbour[..., :-1]
    left[..., 0] += neighbour[..., 0]
    right[...] = own
    right[..., :-1] += neighbour[..., 1:]
    right[..., -1] += neighbour[..., -1]
    return doubled[..., :length]
