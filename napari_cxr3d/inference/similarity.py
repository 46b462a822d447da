"""The same anatomy on two pictures: where the patches of one are like a point of the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.inference.orbit_picture import OrbitPicture
from napari_cxr3d.inference.similarity_epipolar import EpipolarBand, epipolar_band
from napari_cxr3d.inference.similarity_features import (
    BRANCHES,
    RAW,
    Branch,
    PatchFeatures,
    features_from_tokens,
    patch_features,
    patch_features_of,
    raw_patches,
)

__all__ = [
    "BRANCHES",
    "RAW",
    "Branch",
    "EpipolarBand",
    "MutualMatch",
    "PatchFeatures",
    "SimilarityMap",
    "band_between",
    "epipolar_band",
    "features_from_tokens",
    "map_of_template",
    "mutual_match",
    "patch_features",
    "patch_features_of",
    "raw_patches",
    "similarity_map",
    "similarity_maps",
]

FloatImage = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Point = tuple[float, float]

_RIVAL_MM = 60.0  # on the detector: nearer, a high value belongs to the same peak
_FLAT = 1e-5  # of the cosine: rounding
_NEAR_PATCHES = 1.5  # from the click, at which a match that is mapped back is trusted


@dataclass(frozen=True, eq=False)
class SimilarityMap:
    """How much each place of a picture is like one point of another: cosines from -1 to 1.

    Attributes
    ----------
    grid : ndarray of float32, shape (rows, cols)
        Of the patches.
    detector : ndarray of float32, shape (rows, cols)
        Of the detector's pixels, by cubic splines through the patches' centres.
    allowed : ndarray of bool, shape (rows, cols)
        Patches at which the peak may lie: on the picture, and in the band.
    peak : tuple of 2 float
        Detector (row, column) of the best match.
    peak_source : tuple of 2 float
        The same on the picture as it is stored.
    value : float
        The cosine of the best patch.
    contrast : float
        `value` less the best one elsewhere (farther than 60 mm on the detector): about 0 where
        another place is as good.
    picture : OrbitPicture
        The picture that the map lies on.
    """

    grid: FloatImage
    detector: FloatImage
    allowed: Mask
    peak: Point
    peak_source: Point
    value: float
    contrast: float
    picture: OrbitPicture

    def on_source(self) -> FloatImage:
        """The map on the picture as it is stored, NaN where that is not on the detector.

        Returns
        -------
        ndarray of float32, shape `OrbitPicture.source_shape`
        """
        affine, shape = self.picture.affine, self.picture.source_shape
        lying = affine[0, 0] == 0  # the picture was turned by a quarter
        sizes = shape[::-1] if lying else shape
        places = [
            affine[axis, (1 - axis) if lying else axis] * np.arange(sizes[axis]) + affine[axis, 2]
            for axis in (0, 1)
        ]
        values = _linear(_linear(self.detector, places[0]).T, places[1]).T
        nearest = [np.rint(p).astype(np.intp) for p in places]
        inside = [
            (n >= 0) & (n < size) for n, size in zip(nearest, self.picture.shape, strict=True)
        ]
        clipped = [np.where(i, n, 0) for i, n in zip(inside, nearest, strict=True)]
        shown = self.picture.valid[np.ix_(*clipped)] & np.logical_and.outer(*inside)
        values[~shown] = np.nan
        return np.ascontiguousarray(values.T if lying else values)


@dataclass(frozen=True, eq=False)
class MutualMatch:
    """A match, and whether it is found back.

    Attributes
    ----------
    forward, back : SimilarityMap
        From the point to the other picture, and from the match to the first one.
    distance_mm : float
        At the isocenter, from the point to where its match is mapped back.
    trusted : bool
        Whether that is within one and a half patches. A match that is not found back should not
        be relied on; one that is may still be wrong.
    """

    forward: SimilarityMap
    back: SimilarityMap
    distance_mm: float
    trusted: bool


def similarity_map(
    query: PatchFeatures,
    point: npt.ArrayLike,
    target: PatchFeatures,
    *,
    band: EpipolarBand | None = None,
) -> SimilarityMap:
    """Where a picture is like one point of another.

    Parameters
    ----------
    query : PatchFeatures
        Of the picture with the point.
    point : array_like, shape (2,)
        (row, column) on the query's picture as it is stored.
    target : PatchFeatures
        Of the picture that is searched, made as the query's.
    band : EpipolarBand, optional
        Where the match must lie on the target's detector.

    Raises
    ------
    InvalidInputError
        If the features are of two kinds, the point is not on the picture as the model sees
        it, or no patch is left to match.
    """
    return similarity_maps(query, [point], target, bands=[band])[0]


def similarity_maps(
    query: PatchFeatures,
    points: Sequence[npt.ArrayLike],
    target: PatchFeatures,
    *,
    bands: Sequence[EpipolarBand | None] | None = None,
) -> tuple[SimilarityMap, ...]:
    """As `similarity_map`, for several points at once.

    Parameters
    ----------
    query, target : PatchFeatures
        As for `similarity_map`.
    points : sequence of array_like of shape (2,)
        On the query's picture as it is stored.
    bands : sequence, optional
        One for each point.

    Raises
    ------
    InvalidInputError
        As `similarity_map`.
    """
    if query.model != target.model:
        raise InvalidInputError(
            "Features of two kinds cannot be compared",
            why=f"they are of {query.model} and of {target.model}",
            remedy="make both with one model",
        )
    places = np.asarray(points, np.float64).reshape(-1, 2)
    for place in places[~query.picture.shows(places)]:
        raise InvalidInputError(
            f"The point ({place[0]:g}, {place[1]:g}) is not on the part of the picture that the "
            "model sees",
            why=f"the picture has {query.picture.source_shape[0]} x "
            f"{query.picture.source_shape[1]} pixels, and borders and letters are left out",
            remedy="choose another point",
        )
    templates = query.at(query.picture.to_detector(places))
    return tuple(
        map_of_template(template, target, band=band)
        for template, band in zip(templates, bands or [None] * len(places), strict=True)
    )


def map_of_template(
    template: FloatImage, target: PatchFeatures, *, band: EpipolarBand | None = None
) -> SimilarityMap:
    """Where a picture is like a unit vector.

    Parameters
    ----------
    template : ndarray of float32, shape (D,)
        From `PatchFeatures.at`.
    target : PatchFeatures
        What is searched.
    band : EpipolarBand, optional
        Where the match must lie on the target's detector.

    Raises
    ------
    InvalidInputError
        If no patch is left to match.
    """
    picture = target.picture
    grid = np.clip(target.tokens @ template, -1, 1)
    centers = (np.indices(target.grid).transpose(1, 2, 0) + 0.5) * target.step - 0.5
    allowed = target.valid()
    pixels = picture.valid
    if band is not None:
        in_band = band.contains(centers)
        if not (allowed & in_band).any():  # a band narrower than the patches are apart
            in_band = band.distance(centers) <= band.half_width + target.step.max() / 2
        allowed = allowed & in_band
        pixels = pixels & band.contains(np.indices(picture.shape).transpose(1, 2, 0))
    if not allowed.any():
        raise InvalidInputError(
            "There is no place on the picture where the match could lie",
            why="its patches are off the picture" + (" or the band" if band is not None else ""),
        )
    detector = _on_detector(grid, picture.shape)
    best = np.unravel_index(np.argmax(np.where(allowed, grid, -np.inf)), grid.shape)
    peak = _peak_in_patch(detector, pixels, (int(best[0]), int(best[1])), target.step)
    apart = np.linalg.norm(centers - centers[best], axis=-1) * picture.view.pixel_mm
    elsewhere = grid[allowed & (apart > _RIVAL_MM)]
    value = float(grid[best])
    source = picture.to_source(peak)
    return SimilarityMap(
        grid=np.asarray(grid, np.float32),
        detector=detector,
        allowed=allowed,
        peak=peak,
        peak_source=(float(source[0]), float(source[1])),
        value=value,
        contrast=value - float(elsewhere.max(initial=-1.0)),
        picture=picture,
    )


def band_between(query: OrbitPicture, point: npt.ArrayLike, target: OrbitPicture) -> EpipolarBand:
    """Where a point of one projection of a CT can lie on another projection of the same CT.

    Parameters
    ----------
    query : OrbitPicture
        The picture with the point.
    point : array_like, shape (2,)
        (row, column) on it as it is stored.
    target : OrbitPicture
        The other one. That both come from one CT is the caller's knowledge.

    Raises
    ------
    InvalidInputError
        If the geometry of one of them is not known.
    """
    return epipolar_band(query.in_ct(), query.to_detector(point), target.in_ct())


def mutual_match(
    query: PatchFeatures,
    point: npt.ArrayLike,
    target: PatchFeatures,
    *,
    band: EpipolarBand | None = None,
) -> MutualMatch:
    """A match, mapped back to the first picture.

    Parameters
    ----------
    query, point, target, band
        As for `similarity_map`; the way back is not restricted.

    Raises
    ------
    InvalidInputError
        As `similarity_map`.
    """
    forward = similarity_map(query, point, target, band=band)
    back = map_of_template(target.at(forward.peak), query)
    apart = np.linalg.norm(np.subtract(back.peak, query.picture.to_detector(point)))
    view = query.picture.view
    return MutualMatch(
        forward,
        back,
        float(apart * view.pixel_mm / view.magnification),
        bool(apart <= _NEAR_PATCHES * max(_patch_pixels(query), _patch_pixels(target))),
    )


def _patch_pixels(features: PatchFeatures) -> float:
    """Detector pixels of a patch; windows about every pixel are as wide as a demo patch."""
    return float(max(features.step.max(), features.picture.shape[0] / 16))


def _peak_in_patch(detector: FloatImage, pixels: Mask, patch: tuple[int, int],
                   step: FloatArray) -> Point:  # fmt: skip
    """Highest detector pixel of a patch, and between pixels by a parabola each way."""
    low = np.floor(np.multiply(patch, step)).astype(np.intp)
    high = np.maximum(np.ceil(np.multiply(np.add(patch, 1), step)).astype(np.intp), low + 1)
    inside = (slice(low[0], high[0]), slice(low[1], high[1]))
    values = detector[inside]
    usable = pixels[inside] if pixels[inside].any() else np.ones_like(values, bool)
    highest = np.argwhere(usable & (values >= values[usable].max() - _FLAT))
    # Beyond the outer patches' centres the map is flat: of equals the middle one.
    best = highest[np.argmin(np.linalg.norm(highest - (np.array(values.shape) - 1) / 2, axis=1))]
    row, col = (int(n) for n in best + low)
    found = [
        row + _vertex(detector[max(row - 1, 0) : row + 2, col]),
        col + _vertex(detector[row, max(col - 1, 0) : col + 2]),
    ]
    inner = np.clip(found, low - 0.5, high - 0.5)
    return float(inner[0]), float(inner[1])


def _vertex(three: FloatImage) -> float:
    """Where a parabola through three neighbouring values is highest, from the middle one."""
    if len(three) < 3:
        return 0.0
    before, here, after = (float(v) for v in three)
    bend = before - 2 * here + after
    if bend >= 0 or here < max(before, after):
        return 0.0
    return float(np.clip((before - after) / (2 * bend), -0.5, 0.5))


def _on_detector(grid: npt.NDArray[np.float32], shape: tuple[int, int]) -> FloatImage:
    if grid.shape == shape:
        return np.asarray(grid, np.float32)
    down, along = (_cubic(n, size) for n, size in zip(grid.shape, shape, strict=True))
    return np.clip(down @ grid @ along.T, -1, 1)


@lru_cache(maxsize=8)
def _cubic(count: int, size: int) -> FloatImage:
    """Weights of `count` patches for `size` pixels, shape (size, count).

    Catmull-Rom splines: they pass through the patches' values and, unlike smoother ones, do not
    swing beside a peak. Beyond the outer patches' centres the values are held.
    """
    from scipy.interpolate import CubicHermiteSpline

    if count == 1:
        return np.ones((size, 1), np.float32)
    knots, unit = np.arange(count), np.eye(count)
    place = np.clip((np.arange(size) + 0.5) * count / size - 0.5, 0, count - 1)
    spline = CubicHermiteSpline(knots, unit, np.gradient(unit, axis=0))
    return np.asarray(spline(place), np.float32)


def _linear(image: FloatImage, places: FloatArray) -> FloatImage:
    """Rows of an image between which is interpolated, shape (len(places), cols)."""
    place = np.clip(places, 0, len(image) - 1)
    low = np.minimum(place.astype(np.intp), max(len(image) - 2, 0))
    part = (place - low).astype(np.float32)[:, None]
    high = np.minimum(low + 1, len(image) - 1)
    return np.asarray(image[low] * (1 - part) + image[high] * part, np.float32)
