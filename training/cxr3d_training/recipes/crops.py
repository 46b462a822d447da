"""Crops of CTs where there is something to see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cxr3d_training.data import CaseList, CohortCase
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import HU_MIN

__all__ = ["Crops", "centered_crop"]

Box = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


class Crops:
    """Random crops whose centre lies in the box of the body, or of the lungs.

    Parameters
    ----------
    cases : CaseList
        What to draw from.
    shape : sequence of 3 int
        Voxels along (I, P, L). Where a volume is smaller, air is put around it.
    lung_share : float
        Part of the crops, 0 to 1, that are centred within the lungs' box.
    """

    def __init__(self, cases: CaseList, shape: Sequence[int], *, lung_share: float = 0.5) -> None:
        if len(shape) != 3 or min(shape) < 1:
            raise InvalidInputError("A crop has three positive edges", why=f"it has {shape}")
        if not 0 <= lung_share <= 1:
            raise InvalidInputError(
                "The share of crops in the lungs lies between 0 and 1", why=f"it is {lung_share:g}"
            )
        self._cases = cases
        self._shape = np.array(shape, np.int64)
        self._lung_share = lung_share
        self._boxes: dict[tuple[str, str], Box] = {}

    def draw(self, rng: np.random.Generator) -> Mapping[str, Any]:
        """One crop: ``hu``, int16 [1, I, P, L], and the case that it is of."""
        case = self._cases.draw(rng)
        region = "lungs" if rng.random() < self._lung_share else "body"
        low, high = self._box(case, region)
        center = rng.integers(low, high, endpoint=True)
        return {"hu": _crop(case, center, self._shape)[None], "case": case}

    def _box(self, case: CohortCase, region: str) -> Box:
        """First and last voxel of a mask along each axis; of the volume if it is empty."""
        key = (case.id, region)
        if key not in self._boxes:
            mask = case.read(region)
            found = [np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
            if all(len(f) for f in found):
                box = (np.array([f[0] for f in found]), np.array([f[-1] for f in found]))
            else:
                box = (np.zeros(3, np.int64), np.array(mask.shape) - 1)
            self._boxes[key] = box
        return self._boxes[key]


def centered_crop(case: CohortCase, shape: Sequence[int]) -> npt.NDArray[np.int16]:
    """The middle of a case, int16 [I, P, L]: the same at every validation."""
    return _crop(case, np.array(case.shape) // 2, np.array(shape, np.int64))


def _crop(
    case: CohortCase, center: npt.NDArray[np.int64], shape: npt.NDArray[np.int64]
) -> npt.NDArray[np.int16]:
    """A crop that is kept within the volume as far as it fits, and filled up with air."""
    size = np.array(case.shape)
    start = np.where(size >= shape, np.clip(center - shape // 2, 0, size - shape), 0)
    stop = np.minimum(start + shape, size)
    i, p, ell = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    part = case.read("hu", (i, p, ell))
    if part.shape == tuple(shape):
        return np.array(part, np.int16)  # a copy: what a case gives must not be written to
    whole = np.full(tuple(shape), HU_MIN, np.int16)
    offset = (shape - np.array(part.shape)) // 2
    whole[tuple(slice(o, o + n) for o, n in zip(offset, part.shape, strict=True))] = part
    return whole
