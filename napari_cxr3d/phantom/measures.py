"""What is measured in a painted body: the heart's width, and where findings lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_cxr3d.imaging import Grid
from napari_cxr3d.phantom.findings.vocabulary import kind_of
from napari_cxr3d.phantom.labels import LUNG, Label

__all__ = ["CHEST", "HEART", "Box", "boxes_of", "cardiothoracic_ratio"]

Vec = tuple[float, float, float]

HEART = (
    Label.MYOCARDIUM,
    Label.LEFT_ATRIUM,
    Label.LEFT_VENTRICLE,
    Label.RIGHT_ATRIUM,
    Label.RIGHT_VENTRICLE,
    Label.PERICARDIAL_FLUID,
)
"""What the heart's shadow is measured on; fat pads are left out, as a reader does."""

CHEST = (
    *LUNG,
    *HEART,
    Label.PERICARDIUM,
    Label.PLEURAL_AIR,
    Label.PLEURAL_FLUID,
    Label.MEDIASTINUM,
)
"""What lies within the ribs."""

_SMALLEST_BOX = 2  # voxels that a piece of a finding needs for a box of its own
_MOST_BOXES = 24  # pieces of one kind that are boxed, the largest first


@dataclass(frozen=True)
class Box:
    """Where a piece of a finding lies.

    Attributes
    ----------
    finding : str
        Name of the finding.
    low_lps, high_lps : tuple of 3 float
        Corners of the box around its voxels, LPS mm.
    volume_ml : float
        Volume of its voxels.
    """

    finding: str
    low_lps: Vec
    high_lps: Vec
    volume_ml: float


def cardiothoracic_ratio(labels: npt.NDArray[np.uint8]) -> float:
    """Width of the heart over the inner width of the chest, seen from the front.

    Both are the widest extents (Danzer, Am. J. Med. Sci. 157:513-521, 1919).

    Parameters
    ----------
    labels : ndarray of uint8, shape (I, P, L)
        Anatomical labels.

    Returns
    -------
    float
        0 where heart or chest are out of the field of view.
    """
    heart = np.any(np.isin(labels, HEART), axis=(0, 1))
    chest: npt.NDArray[np.bool_] = np.any(np.isin(labels, CHEST), axis=1)
    if not (heart.any() and chest.any()):
        return 0.0
    widths = [_width(row) for row in chest if row.any()]
    return _width(heart) / max(widths)


def _width(row: npt.NDArray[np.bool_]) -> int:
    """From the first to the last voxel that is set."""
    return int(np.ptp(np.flatnonzero(row))) + 1


def boxes_of(bits: npt.NDArray[np.uint32], grid: Grid, names: Sequence[str]) -> Iterator[Box]:
    """The connected pieces of each finding, the largest first."""
    from scipy import ndimage

    voxel_ml = float(np.prod(grid.spacing_mm)) / 1000.0
    for name in dict.fromkeys(names):
        mask = (bits >> kind_of(name).bit) & 1
        pieces, count = ndimage.label(mask, structure=np.ones((3, 3, 3)))
        sizes = np.bincount(pieces.ravel(), minlength=count + 1)
        places = ndimage.find_objects(pieces)
        order = sorted(range(1, count + 1), key=lambda k: (-int(sizes[k]), k))
        kept = [k for k in order if sizes[k] >= _SMALLEST_BOX] or order[:1]
        for piece in kept[:_MOST_BOXES]:
            where = places[piece - 1]
            first = grid.index_to_lps([s.start - 0.5 for s in where])
            last = grid.index_to_lps([s.stop - 0.5 for s in where])
            low, high = np.minimum(first, last), np.maximum(first, last)
            yield Box(
                name,
                (float(low[0]), float(low[1]), float(low[2])),
                (float(high[0]), float(high[1]), float(high[2])),
                round(int(sizes[piece]) * voxel_ml, 3),
            )
