"""What a scanner makes of a painted body: blur, noise, streaks; importing it imports numba.

The blur is a separable kernel in the slice and the slice profile along I. The noise is that
of a reconstruction kernel: white noise, smoothed by a soft kernel or sharpened by a lung
kernel, stronger in slices that attenuate more, with horizontal streaks through shoulders.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import HU_MAX, HU_MIN
from napari_cxr3d.phantom.painting_kernels import exact, hashed
from napari_cxr3d.progress import CancelToken
from napari_cxr3d.workers import Workers, available_threads

__all__ = ["Scanner", "scan"]

_WATER_PER_MM = 0.0193  # 70 keV, NIST XCOM
_REFERENCE_MM = 220.0  # water that gives the stated noise: the thorax at the heart
_STREAKS_FROM_MM = 270.0  # of water: shoulders, and heavy patients
_DIGITS = 6  # filter taps are rounded, so that no machine's exp shows in the voxels
_STREAK_REACH = 8  # voxels to each side over which a streak is smeared


@dataclass(frozen=True)
class Scanner:
    """A scanner and its reconstruction.

    Attributes
    ----------
    fwhm_mm : float
        In-plane resolution (full width at half maximum of the point spread).
    slice_mm : float
        Slice thickness; its profile is a box.
    kernel : {"soft", "sharp"}
        Reconstruction kernel: a soft one has coarse, low noise; a sharp one fine, high noise.
    noise_hu : float
        Standard deviation in slices that attenuate like 220 mm of water; 0 for none.
    streaks : float
        Share of the noise that is smeared sideways in the most attenuating slices, 0 to 1.
    """

    fwhm_mm: float = 1.2
    slice_mm: float = 2.0
    kernel: Literal["soft", "sharp"] = "soft"
    noise_hu: float = 12.0
    streaks: float = 0.6

    def __post_init__(self) -> None:
        if not (
            self.fwhm_mm >= 0
            and self.slice_mm >= 0
            and self.noise_hu >= 0
            and 0 <= self.streaks <= 1
            and self.kernel in ("soft", "sharp")
        ):
            raise InvalidInputError(
                "The scanner cannot be used",
                why=f"its settings are {asdict(self)}",
                remedy="give lengths and noise of 0 or more, streaks between 0 and 1, and the "
                "kernel soft or sharp",
            )

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable form, for provenance."""
        return asdict(self)


def scan(
    hu: npt.NDArray[np.float32],
    spacing_mm: tuple[float, float, float],
    scanner: Scanner,
    seed: int,
    *,
    threads: int | None = None,
    cancel: CancelToken | None = None,
) -> npt.NDArray[np.int16]:
    """Scan a painted body.

    Parameters
    ----------
    hu : ndarray of float32, shape (I, P, L)
        Free of noise and blur.
    spacing_mm : tuple of 3 float
        Voxel spacing along (I, P, L) in mm.
    scanner : Scanner
        Resolution and noise.
    seed : int
        Seed of the noise.
    threads : int, optional
        Processors to use; the result does not depend on it.
    cancel : CancelToken, optional
        Looked at between slices.

    Returns
    -------
    ndarray of int16, shape (I, P, L)
        HU from -1024 to 3071.
    """
    across_rows = _gaussian(scanner.fwhm_mm / spacing_mm[1])
    across_columns = _gaussian(scanner.fwhm_mm / spacing_mm[2])
    along = _box(scanner.slice_mm / spacing_mm[0])
    noise_taps = _noise_taps(scanner.kernel)
    sigma, streaks = _noise_of_slices(hu, spacing_mm, scanner)
    blurred = np.empty_like(hu)
    result = np.empty(hu.shape, np.int16)
    with Workers(threads or available_threads(), cancel) as crew:
        crew.run(lambda i: _blur_slice(hu[i], across_rows, across_columns, blurred[i]), hu.shape[0])
        crew.run(
            lambda i: _finish_slice(
                blurred, i, along, noise_taps, float(sigma[i]), float(streaks[i]), seed, result[i]
            ),
            hu.shape[0],
        )
    return result


def _gaussian(fwhm_voxels: float) -> npt.NDArray[np.float64]:
    """Taps of a Gaussian, symmetric, of sum 1."""
    sigma = fwhm_voxels / math.sqrt(8 * math.log(2))
    reach = max(0, math.ceil(3 * sigma - 0.5))
    taps = [
        math.erf((k + 0.5) / (sigma * math.sqrt(2))) - math.erf((k - 0.5) / (sigma * math.sqrt(2)))
        if sigma > 0
        else float(k == 0)
        for k in range(-reach, reach + 1)
    ]
    return _of_sum_one(taps)


def _box(width_voxels: float) -> npt.NDArray[np.float64]:
    """Taps of a box that is `width_voxels` wide, one voxel at the least."""
    half = max(width_voxels, 1.0) / 2
    reach = math.ceil(half - 0.5)
    return _of_sum_one([min(1.0, max(0.0, half + 0.5 - abs(k))) for k in range(-reach, reach + 1)])


def _of_sum_one(taps: list[float]) -> npt.NDArray[np.float64]:
    weights = np.round(np.array(taps) / math.fsum(taps), _DIGITS)
    weights[len(weights) // 2] += 1.0 - math.fsum(weights)
    return weights


def _noise_taps(kernel: str) -> npt.NDArray[np.float64]:
    """In-plane filter of the white noise, 3 x 3, of unit gain in standard deviation."""
    taps = (
        np.array([[1.0, 2.0, 1.0], [2.0, 5.0, 2.0], [1.0, 2.0, 1.0]])
        if kernel == "soft"
        else np.array([[0.0, -1.0, 0.0], [-1.0, 6.0, -1.0], [0.0, -1.0, 0.0]])
    )
    return np.round(taps / math.sqrt(float((taps * taps).sum())), _DIGITS)


def _noise_of_slices(
    hu: npt.NDArray[np.float32], spacing_mm: tuple[float, float, float], scanner: Scanner
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Standard deviation and share of streaks in each slice.

    Quantum noise grows with the square root of the attenuation along the path: the diameter
    of the disc of water that attenuates like the slice.
    """
    tissue = np.count_nonzero(hu > -400, axis=(1, 2)).astype(np.float64)
    lung = np.count_nonzero((hu > -980) & (hu <= -400), axis=(1, 2))
    area = (tissue + 0.2 * lung) * spacing_mm[1] * spacing_mm[2]
    water = np.sqrt(4 * area / math.pi)
    growth = np.exp(0.5 * _WATER_PER_MM * (water - _REFERENCE_MM))
    sigma = np.round(scanner.noise_hu * growth.clip(0.2, 3.0), 2)
    streaks = np.round(scanner.streaks * ((water - _STREAKS_FROM_MM) / 100.0).clip(0.0, 1.0), 3)
    return sigma, streaks


@exact
def _blur_slice(source: Any, rows: Any, columns: Any, target: Any) -> None:
    height, width = source.shape
    reach_p, reach_l = len(rows) // 2, len(columns) // 2
    between = np.empty((height, width), np.float64)
    for p in range(height):
        for ell in range(width):
            total = 0.0
            for k in range(-reach_l, reach_l + 1):
                at = min(max(ell + k, 0), width - 1)
                total += columns[k + reach_l] * source[p, at]
            between[p, ell] = total
    for p in range(height):
        for ell in range(width):
            total = 0.0
            for k in range(-reach_p, reach_p + 1):
                at = min(max(p + k, 0), height - 1)
                total += rows[k + reach_p] * between[at, ell]
            target[p, ell] = total


@exact
def _finish_slice(
    blurred: Any, i: int, along: Any, taps: Any, sigma: float, streaks: float, seed: int,
    target: Any,
) -> None:  # fmt: skip
    """Slice profile, noise, and rounding to whole HU."""
    depth, height, width = blurred.shape
    reach = len(along) // 2
    white = np.empty((height + 2, width + 2 + 2 * _STREAK_REACH), np.float64)
    if sigma > 0.0:
        for p in range(height + 2):
            for ell in range(width + 2 + 2 * _STREAK_REACH):
                white[p, ell] = _white(i, p, ell, seed)
    plain = 1.0 - streaks
    smear = streaks / math.sqrt(2.0 * _STREAK_REACH + 1.0)
    # Both are made of the same white noise: the row of taps is what they share.
    shared = (taps[1, 0] + taps[1, 1] + taps[1, 2]) / math.sqrt(2.0 * _STREAK_REACH + 1.0)
    gain = sigma / math.sqrt(plain * plain + streaks * streaks + 2.0 * plain * streaks * shared)
    for p in range(height):
        smeared = 0.0
        for k in range(2 * _STREAK_REACH + 1):
            smeared += white[p + 1, k + 1]
        for ell in range(width):
            total = 0.0
            for k in range(-reach, reach + 1):
                at = min(max(i + k, 0), depth - 1)
                total += along[k + reach] * blurred[at, p, ell]
            if sigma > 0.0:
                here = ell + _STREAK_REACH
                noise = 0.0
                for a in range(3):
                    for b in range(3):
                        noise += taps[a, b] * white[p + a, here + b]
                total += gain * (plain * noise + smear * smeared)
                smeared += white[p + 1, ell + 2 * _STREAK_REACH + 2]
                smeared -= white[p + 1, ell + 1]
            whole = math.floor(total + 0.5)
            target[p, ell] = min(max(whole, HU_MIN), HU_MAX)


@exact
def _white(i: int, p: int, ell: int, seed: int) -> float:
    """Nearly normal white noise of variance 1: the sum of four uniform numbers."""
    first, second = hashed(i, p, ell, seed), hashed(i, p, ell, seed + 7919)
    total = (first & 0xFFFF) + (first >> 16) + (second & 0xFFFF) + (second >> 16)
    return (total / 65536.0 - 2.0) * 1.7320508075688772
