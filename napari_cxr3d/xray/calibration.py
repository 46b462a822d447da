"""Back from a radiograph's grey values to approximate line integrals.

A picture in an archive has lost its scale. Its known or assumed processing is undone, and an
affine calibration, ``integral = gain * value + offset``, brings the values back to the scale
of line integrals: by robust regression against the projection of a candidate volume where
there is one, else from two anatomical anchors. The record says what was done and how
certain it is. Scatter, beam hardening and the detector's own shading are not undone: the
calibration takes up their mean, the residual tells the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Radiograph, XrayView
from napari_cxr3d.xray.attenuation import DEFAULT_ENERGY_KEV, water_attenuation
from napari_cxr3d.xray.simulator_system import Simulator

__all__ = [
    "ANATOMICAL_ANCHORS",
    "Anchor",
    "DisplayCalibration",
    "approximate_integrals",
    "polarity_score",
    "undo_processing",
]

FloatImage = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Polarity = Literal["check", "fix", "trust"]

_LEAST_PIXELS = 64
_LEAST_CORRELATION = 0.3  # below it the reference shows another patient or view
_INVERTED = 0.5  # polarity scores below minus this are those of inverted chests
_TUKEY = 4.685  # of Tukey's biweight: 95 % efficient for Gaussian errors
_ITERATIONS = 20
_BLOCKS = 8  # per side; neighbouring pixels are no independent samples
_RESAMPLES = 100
_CENTRAL = 0.125  # part of each side that lies outside the thorax's centre


@dataclass(frozen=True)
class Anchor:
    """A percentile of the central picture whose thickness of water is known.

    Attributes
    ----------
    percentile : float
        Of the values in the central three quarters of the picture, 0 to 100.
    water_mm, sd_mm : float
        Thickness of water in mm, and its standard deviation among patients.
    """

    percentile: float
    water_mm: float
    sd_mm: float


ANATOMICAL_ANCHORS = (Anchor(10.0, 94.0, 17.0), Anchor(90.0, 225.0, 26.0))
"""Lung, and mediastinum with upper abdomen: means of frontal projections of 8 CT patients."""


@dataclass(frozen=True)
class DisplayCalibration:
    """How grey values were turned into line integrals, and how certain that is.

    Attributes
    ----------
    gain, offset : float
        ``integral = gain * value + offset`` for values with the processing undone.
    gain_sd, offset_sd : float
        Standard deviations: by bootstrap over blocks of the picture with a reference, from
        the anchors' spread among patients without.
    residual_sd : float or None
        Robust standard deviation of reference minus calibrated picture; None without one.
    correlation : float or None
        With the reference.
    method : {"reference", "anchors"}
        Where the scale comes from.
    energy_kev : float
        Photon energy that the integrals belong to.
    inverted : bool
        Whether the picture was turned to bone bright first.
    polarity : float
        `polarity_score` of the picture as given; below 0 it looks inverted.
    pixels : int
        How many pixels took part.
    undone : tuple of str
        The processing steps that were undone.
    """

    gain: float
    offset: float
    gain_sd: float
    offset_sd: float
    residual_sd: float | None
    correlation: float | None
    method: Literal["reference", "anchors"]
    energy_kev: float
    inverted: bool
    polarity: float
    pixels: int
    undone: tuple[str, ...]

    def integrals(self, values: FloatImage) -> FloatImage:
        """Line integrals of values with the processing undone; never below 0."""
        scaled = np.float32(self.gain) * values + np.float32(self.offset)
        return np.asarray(np.maximum(scaled, 0), np.float32)

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable form, for provenance."""
        return {**asdict(self), "undone": list(self.undone)}


def approximate_integrals(
    radiograph: Radiograph | npt.NDArray[Any],
    *,
    reference: npt.NDArray[Any] | None = None,
    processing: Simulator | None = None,
    view: XrayView | None = None,
    region: Mask | None = None,
    anchors: Sequence[Anchor] = ANATOMICAL_ANCHORS,
    energy_kev: float = DEFAULT_ENERGY_KEV,
    polarity: Polarity = "check",
) -> tuple[FloatImage, DisplayCalibration]:
    """Approximate line integrals of a radiograph that was made for the eye.

    Parameters
    ----------
    radiograph : Radiograph or ndarray, shape (rows, cols)
        Grey values, bone bright. An array is taken as 0 to 1; a `Radiograph` is first brought
        there by its display range, or by its own extremes.
    reference : ndarray, shape (rows, cols), optional
        Line integrals of a candidate volume in the same view.
    processing : Simulator, optional
        The steps to undo, for example a guess of the detector's curve and contrast; the grey
        values are taken as they are if None.
    view : XrayView, optional
        The exposure; undoing edges, blades and letters needs it.
    region : ndarray of bool, shape (rows, cols), optional
        Pixels to calibrate on. Grey values at the very ends are left out in any case.
    anchors : sequence of 2 or more Anchor
        Used without a reference.
    energy_kev : float
        Photon energy of the integrals in keV, 30 to 150.
    polarity : {"check", "fix", "trust"}
        What to do with a picture that looks inverted: refuse it, turn it, or go on.

    Returns
    -------
    integrals : ndarray of float32, shape (rows, cols)
        Approximate line integrals; what was masked as black or white is extrapolated.
    record : DisplayCalibration
        The calibration and its uncertainty.

    Raises
    ------
    InvalidInputError
        If the picture looks inverted, holds no contrast, or shows something else than the
        reference.
    """
    if isinstance(radiograph, Radiograph) and radiograph.quantity != "display":
        raise InvalidInputError(
            "The radiograph needs no calibration", why="it holds line integrals already"
        )
    greys = _greys(radiograph)
    if polarity not in ("check", "fix", "trust"):
        raise InvalidInputError(
            f"There is no treatment of polarity called {polarity!r}",
            remedy="choose one of check, fix, trust",
        )
    _require_shapes(greys, reference, region)
    score = polarity_score(greys)
    looks_inverted = score < -_INVERTED
    if reference is not None:
        mask = _usable(greys, region)
        likeness = _correlation(greys[mask], np.asarray(reference)[mask])
        looks_inverted = likeness < -_LEAST_CORRELATION
    if looks_inverted and polarity == "check":
        raise InvalidInputError(
            "The radiograph looks inverted",
            why="what should be bright, spine and abdomen, is darker than the lungs"
            if reference is None
            else "it is dark where the reference attenuates",
            remedy='give it with bone bright, or polarity="fix" to have it turned',
        )
    inverted = looks_inverted and polarity == "fix"
    if inverted:
        greys = 1 - greys
    values, valid, undone = undo_processing(greys, processing, view)
    mask = _usable(greys, region) & valid
    if mask.sum() < _LEAST_PIXELS or np.ptp(values[mask]) < 1e-3:
        raise InvalidInputError(
            "The radiograph cannot be calibrated",
            why=f"only {int(mask.sum())} pixels are neither black nor white"
            if mask.sum() < _LEAST_PIXELS
            else "all its pixels have one grey value",
            remedy="give a picture whose window does not cut off the chest",
        )
    settings: dict[str, Any] = {
        "energy_kev": energy_kev,
        "inverted": inverted,
        "polarity": score,
        "undone": undone,
    }
    if reference is None:
        record = _by_anchors(values, mask, anchors, settings)
    else:
        record = _by_reference(values, mask, np.asarray(reference, np.float64), settings)
    return record.integrals(values), record


def undo_processing(
    greys: FloatImage, processing: Simulator | None, view: XrayView | None = None
) -> tuple[FloatImage, Mask, tuple[str, ...]]:
    """Undo the known steps after the logarithm, the last first.

    Parameters
    ----------
    greys : ndarray of float32, shape (rows, cols)
        0 to 1, bone bright.
    processing : Simulator or None
        The steps; those of the exposure are not touched.
    view : XrayView, optional
        The exposure; edges, blades and letters need it.

    Returns
    -------
    values : ndarray of float32, shape (rows, cols)
        In units of the window: an affine function of the logarithmic reading, but for
        what was clipped.
    valid : ndarray of bool, shape (rows, cols)
        False under borders, shutters and letters.
    undone : tuple of str
        The steps' names.
    """
    values, valid, undone = greys, np.ones(greys.shape, bool), []
    if processing is None:
        return values, valid, ()
    if processing.border is not None:
        valid &= processing.border.apply(np.full(greys.shape, -1, np.float32)) < 0
    if view is not None:
        for text in processing.texts:
            page = np.zeros(greys.shape, np.float32)
            text.draw_on(page, view)
            valid &= page <= 0
        if processing.collimation is not None:
            valid &= processing.collimation.field(greys.shape, view.pixel_mm) > 0.9
    for name in ("display", "vignette", "curve", "contrast"):
        step = getattr(processing, name)
        if step is not None:
            values = step.invert(values)
            undone.append(name)
    if processing.edges is not None:
        if view is None:
            raise InvalidInputError(
                "The edge enhancement cannot be undone without a scale", remedy="give the view"
            )
        values = processing.edges.invert(values, view.pixel_mm)
        undone.append("edges")
    return values, valid, tuple(undone)


def polarity_score(picture: npt.NDArray[Any]) -> float:
    """How much brighter than the lungs the mediastinum and the abdomen of a frontal chest are.

    In standard deviations of the picture. Positive for bone bright, negative for inverted
    pictures; near 0 nothing can be told.

    Parameters
    ----------
    picture : ndarray, shape (rows, cols)
        A frontal radiograph that the chest fills.
    """
    rows, cols = picture.shape

    def median(top: float, bottom: float, left: float, right: float) -> float:
        part = picture[
            int(top * rows) : max(int(bottom * rows), 1), int(left * cols) : int(right * cols)
        ]
        return float(np.median(part)) if part.size else 0.0

    lungs = (median(0.25, 0.6, 0.2, 0.38) + median(0.25, 0.6, 0.62, 0.8)) / 2
    dense = (median(0.35, 0.8, 0.44, 0.56) + median(0.85, 1.0, 0.3, 0.7)) / 2
    spread = float(np.std(picture))
    return (dense - lungs) / spread if spread > 1e-6 else 0.0


def _greys(radiograph: Radiograph | npt.NDArray[Any]) -> FloatImage:
    if isinstance(radiograph, Radiograph):
        pixels = radiograph.pixels
        low, high = radiograph.display_range or (float(pixels.min()), float(pixels.max()))
        return np.asarray((pixels - low) / max(high - low, 1e-6), np.float32).clip(0, 1)
    greys = np.asarray(radiograph, np.float32)
    if greys.ndim != 2 or greys.size == 0 or not np.isfinite(greys).all():
        raise InvalidInputError(
            "A radiograph to calibrate needs finite grey values in rows and columns",
            why=f"it got the shape {greys.shape}",
        )
    if greys.min() < -1e-3 or greys.max() > 1 + 1e-3:
        raise InvalidInputError(
            "Grey values must lie between 0 and 1",
            why=f"they reach from {greys.min():g} to {greys.max():g}",
            remedy="divide by the largest value that the file can hold",
        )
    return greys.clip(0, 1)


def _require_shapes(
    greys: FloatImage, reference: npt.NDArray[Any] | None, region: Mask | None
) -> None:
    for name, array in (("reference", reference), ("region", region)):
        if array is not None and np.shape(array) != greys.shape:
            raise InvalidInputError(
                f"The {name} does not fit the radiograph",
                why=f"it has the shape {np.shape(array)}, the radiograph {greys.shape}",
                remedy="project the candidate onto the radiograph's own pixels",
            )


def _usable(greys: FloatImage, region: Mask | None) -> Mask:
    """Pixels that are neither at the black nor at the white end."""
    low, high = greys.min() + 0.5 / 255, greys.max() - 0.5 / 255
    usable: Mask = (greys > low) & (greys < high)
    return usable if region is None else usable & region


def _correlation(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    if a.size < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def _by_anchors(
    values: FloatImage, mask: Mask, anchors: Sequence[Anchor], settings: dict[str, Any]
) -> DisplayCalibration:
    """Line through the anchors, each as heavy as it is certain."""
    if len(anchors) < 2:
        raise InvalidInputError("A calibration needs two anchors or more")
    rows, cols = (int(_CENTRAL * n) for n in values.shape)
    central = np.zeros(mask.shape, bool)
    central[rows : mask.shape[0] - rows, cols : mask.shape[1] - cols] = True
    inside = values[mask & central]
    if inside.size < _LEAST_PIXELS:
        raise InvalidInputError("The radiograph's centre is black or white: it has no anchors")
    x = np.percentile(inside, [a.percentile for a in anchors])
    mu = water_attenuation(settings["energy_kev"])
    y, sd = (mu * np.array([getattr(a, n) for a in anchors]) for n in ("water_mm", "sd_mm"))
    design = np.stack([x, np.ones_like(x)], axis=1) / sd[:, None]
    covariance = np.linalg.pinv(design.T @ design)
    gain, offset = covariance @ design.T @ (y / sd)
    gain_sd, offset_sd = np.sqrt(np.diag(covariance))
    return DisplayCalibration(
        float(gain), float(offset), float(gain_sd), float(offset_sd), None, None, "anchors",
        pixels=int(mask.sum()), **settings,
    )  # fmt: skip


def _by_reference(
    values: FloatImage, mask: Mask, reference: npt.NDArray[np.float64], settings: dict[str, Any]
) -> DisplayCalibration:
    """Robust regression of the reference on the values, with a bootstrap over blocks."""
    x, y = values[mask].astype(np.float64), reference[mask]
    gain, offset, weights = _robust_line(x, y)
    residual = y - gain * x - offset
    spread = 1.4826 * float(np.median(np.abs(residual - np.median(residual))))
    correlation = _weighted_correlation(x, y, weights)
    if abs(correlation) < _LEAST_CORRELATION:
        raise InvalidInputError(
            "The radiograph does not show what the reference shows",
            why=f"their correlation is {correlation:.2f}",
            remedy="register the view first, or calibrate without a reference",
        )
    rows, cols = np.nonzero(mask)
    block = rows * _BLOCKS // mask.shape[0] * _BLOCKS + cols * _BLOCKS // mask.shape[1]
    lines = _bootstrap(x, y, weights, block)
    gain_sd, offset_sd = lines.std(axis=0) * _efficiency(weights)
    return DisplayCalibration(
        float(gain), float(offset), float(gain_sd), float(offset_sd), spread, correlation,
        "reference", pixels=int(mask.sum()), **settings,
    )  # fmt: skip


def _robust_line(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
) -> tuple[float, float, npt.NDArray[np.float64]]:
    """Line by iteratively reweighted least squares with Tukey's biweight."""
    weights = np.ones_like(x)
    gain, offset = _line(x, y, weights)
    for _ in range(_ITERATIONS):
        residual = y - gain * x - offset
        scale = 1.4826 * np.median(np.abs(residual)) + 1e-9
        weights = np.clip(1 - (residual / (_TUKEY * scale)) ** 2, 0, None) ** 2
        previous = gain
        gain, offset = _line(x, y, weights)
        if abs(gain - previous) < 1e-6 * abs(gain):
            break
    return gain, offset, weights


def _line(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]
) -> tuple[float, float]:
    total = weights.sum() + 1e-12
    mean_x, mean_y = (weights @ x) / total, (weights @ y) / total
    spread = weights @ (x - mean_x) ** 2
    gain = float((weights @ ((x - mean_x) * (y - mean_y))) / max(spread, 1e-12))
    return gain, float(mean_y - gain * mean_x)


def _weighted_correlation(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]
) -> float:
    inliers = weights > 0
    return _correlation(x[inliers], y[inliers])


def _efficiency(weights: npt.NDArray[np.float64]) -> float:
    """How much more a robust line scatters than one whose weights were known beforehand.

    ``mean(w) / mean(psi')``; with Tukey's weights, ``psi' = sqrt(w) (5 sqrt(w) - 4)`` (Huber and
    Ronchetti, Robust Statistics, 2nd ed., 2009, section 7.6).
    """
    root = np.sqrt(weights)
    return float(weights.mean() / max((root * (5 * root - 4)).mean(), 0.1))


def _bootstrap(
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64],
    block: npt.NDArray[np.intp],
) -> npt.NDArray[np.float64]:
    """Lines (gain, offset) through blocks drawn with replacement, shape (resamples, 2)."""
    moments = np.stack([weights, weights * x, weights * y, weights * x * x, weights * x * y])
    count = int(block.max()) + 1
    sums = np.stack([np.bincount(block, moment, count) for moment in moments])
    sums = sums[:, sums[0] > 0]
    rng = np.random.default_rng(0)
    lines = np.empty((_RESAMPLES, 2))
    for k in range(_RESAMPLES):
        w, wx, wy, wxx, wxy = sums[:, rng.integers(0, sums.shape[1], sums.shape[1])].sum(axis=1)
        gain = (w * wxy - wx * wy) / max(w * wxx - wx * wx, 1e-12)
        lines[k] = gain, (wy - gain * wx) / w
    return lines
