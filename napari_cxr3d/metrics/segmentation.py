"""Whether anatomy lies where it should: organs found alike in an estimate and in the truth."""

from __future__ import annotations

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Volume
from napari_cxr3d.imaging.masks import lung_mask
from napari_cxr3d.metrics.image_quality import Mask, Metric, dice

__all__ = ["lung_dice"]


def lung_dice(estimate: Volume, truth: Volume, *, lungs: Mask | None = None) -> Metric:
    """Dice overlap of the aerated lungs, which one classical segmentation finds in both volumes.

    `napari_cxr3d.imaging.masks.lung_mask` looks for air below -400 HU inside the body: a blurred
    volume without such air has no lungs, and gets 0.

    Parameters
    ----------
    estimate, truth : Volume
        On one grid, in HU.
    lungs : ndarray of bool, shape (I, P, L), optional
        The truth's lungs where they were found already, by the same function.

    Returns
    -------
    Metric
        From 0 to 1.

    Raises
    ------
    InvalidInputError
        If the volumes lie on different grids, or the mask has another shape.
    """
    if estimate.grid != truth.grid:
        raise InvalidInputError(
            "Lungs are compared on one grid",
            why=f"the volumes lie on {estimate.grid} and {truth.grid}",
            remedy="resample one onto the other's grid",
        )
    found = lung_mask(truth) if lungs is None else lungs
    overlap = dice(lung_mask(estimate), found)
    return Metric(
        "lung_dice",
        overlap.value,
        "Dice overlap of the aerated lungs as imaging.masks.lung_mask finds them in estimate and "
        "truth, 1 where both have none",
    )
