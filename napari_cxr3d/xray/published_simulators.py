"""The radiograph simulators of the published systems, by name.

Every picture is shown as a radiologist reads it, head up and the patient's left on the
image's right, whatever the publication's own array order was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Volume, XrayView

__all__ = [
    "PUBLISHED_SIMULATORS",
    "PublishedSimulator",
    "eight_bits",
    "mean_projection",
    "mean_projection_view",
    "published_radiograph",
]

FloatImage = npt.NDArray[np.float32]

_CLIP_HU = (-1000.0, 1000.0)
_PIXEL_MM = 1.0
_PARALLEL_MM = 1e6  # a source this far away casts shadows that differ by 0.04 % from front to back


@dataclass(frozen=True)
class PublishedSimulator:
    """A published way from CT to radiograph.

    Attributes
    ----------
    name, source : str
        Its name here, and where it was published.
    description : str
        What it does, and where its own picture differs from ours.
    """

    name: str
    source: str
    description: str


PUBLISHED_SIMULATORS: Mapping[str, PublishedSimulator] = MappingProxyType(
    {
        "x2ct-clip": PublishedSimulator(
            "x2ct-clip",
            "X2CT-CLIP, arXiv 2503.02162, its released preparation script",
            "HU clipped to [-1000, 1000], trilinear resampling to 1 mm, parallel mean along the "
            "AP axis, min-max to 8 bits. It turns its array by 90 degrees for storing; the "
            "picture here stands head up with the patient's left on the image's right.",
        ),
        "x-win": PublishedSimulator(
            "x-win",
            "X-WIN, arXiv 2511.14918, its released generation script",
            "DiffDRR, AP, source to detector 1020 mm, to isocenter 700 mm, 512 x 512 pixels of "
            "1 mm, DiffDRR's own density (nothing below -800 HU), min-max to 8 bits. The original "
            "stores JPEG, whose losses are left out.",
        ),
        "x-ray2ctpa": PublishedSimulator(
            "x-ray2ctpa",
            "X-ray2CTPA, npj Digit. Med. 8:439 (2025), its released generation script",
            "DiffDRR, AP, source to detector 1200 mm, to isocenter 850 mm, 512 x 512 pixels of "
            "1 mm, DiffDRR's own density. Not normalised: values are mm of relative density, "
            "where the other two are 0 to 1.",
        ),
    }
)
"""The published simulators by name."""


def published_radiograph(volume: Volume, name: str, *, size: int = 512) -> FloatImage:
    """The radiograph that a published system would have made of a CT.

    Parameters
    ----------
    volume : Volume
        A CT.
    name : {"x2ct-clip", "x-win", "x-ray2ctpa"}
        The system; see `PUBLISHED_SIMULATORS` for its steps.
    size : int
        Pixels a side of X-WIN's and X-ray2CTPA's pictures; the field stays 512 mm. X2CT-CLIP's
        have pixels of 1 mm, as many as the CT has mm.

    Returns
    -------
    ndarray of float32, shape (rows, cols)
        X2CT-CLIP and X-WIN: multiples of 1/255 from 0 to 1. X-ray2CTPA: mm of DiffDRR's
        relative density. Head up, the patient's left on the image's right.

    Raises
    ------
    InvalidInputError
        If there is no such system.
    BackendUnavailableError
        If the system needs DiffDRR and it is not installed.
    """
    if name not in PUBLISHED_SIMULATORS:
        raise InvalidInputError(
            f"There is no published simulator called {name!r}",
            remedy=f"choose one of {', '.join(PUBLISHED_SIMULATORS)}",
        )
    if name == "x2ct-clip":
        return eight_bits(mean_projection(volume))
    from napari_cxr3d.xray.diffdrr_backend import published_drr

    picture = published_drr(name, volume, size=size)
    return eight_bits(picture) if name == "x-win" else picture


def eight_bits(picture: FloatImage) -> FloatImage:
    """A picture from its minimum to its maximum in steps of 1/255, cut off as uint8 is."""
    exact = picture.astype(np.float64)
    low, high = exact.min(), exact.max()
    if low == high:
        return np.zeros(picture.shape, np.float32)
    stretched = (exact - low) / (high - low)
    return np.asarray(np.floor(stretched * 255 + 1e-9) / 255, np.float32)


def mean_projection(volume: Volume) -> FloatImage:
    """X2CT-CLIP's projection before it is stretched: the mean HU along parallel AP rays.

    Interpolation and mean are linear, so that the mean along P is taken with the weights of
    its interpolation, and only the picture is resampled.

    Parameters
    ----------
    volume : Volume
        A CT.

    Returns
    -------
    ndarray of float32, shape (I, L) in steps of 1 mm
        Mean of the HU clipped to [-1000, 1000].
    """
    clipped = np.clip(volume.hu, *_CLIP_HU).astype(np.float32)
    inferior, posterior, left = (
        _interpolation(n, spacing)
        for n, spacing in zip(volume.shape, volume.spacing_mm, strict=True)
    )
    along = posterior.mean(axis=0).astype(np.float32)
    flat = np.einsum("ipl,p->il", clipped, along).astype(np.float64)
    return np.asarray(inferior @ flat @ left.T, np.float32)


def _interpolation(count: int, spacing_mm: float) -> npt.NDArray[np.float64]:
    """Weights of linear interpolation at every mm, shape (new, count).

    The first sample is the first voxel's centre, and there are ``round(count * spacing)`` of
    them; beyond the last centre the last voxel counts.
    """
    new = max(1, round(count * spacing_mm / _PIXEL_MM))
    at = np.minimum(np.arange(new) * _PIXEL_MM / spacing_mm, count - 1)
    below = np.minimum(at.astype(int), max(count - 2, 0))
    share = at - below
    weights = np.zeros((new, count))
    weights[np.arange(new), below] = 1 - share
    weights[np.arange(new), np.minimum(below + 1, count - 1)] += share
    return weights


def mean_projection_view(volume: Volume) -> XrayView:
    """The geometry of `mean_projection` as a view, from a source a kilometre away."""
    rows, cols = (
        max(1, round(volume.shape[axis] * volume.spacing_mm[axis] / _PIXEL_MM)) for axis in (0, 2)
    )
    x, y, z = volume.origin_lps
    isocenter = (x + (cols - 1) / 2, y + volume.size_mm[1] / 2, z - (rows - 1) / 2)
    return XrayView(
        yaw=180.0,
        source_to_isocenter_mm=_PARALLEL_MM,
        source_to_detector_mm=_PARALLEL_MM + volume.size_mm[1],
        detector_shape=(rows, cols),
        pixel_mm=_PIXEL_MM,
        isocenter_lps=isocenter,
        flip_columns=True,
    )
