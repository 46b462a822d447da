"""Body and lungs, told apart from the CT table and the air by classical means."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging.volume import Volume

__all__ = ["body_mask", "lung_mask", "remove_table"]

Mask = npt.NDArray[np.bool_]
Spacing = tuple[float, float, float]

_AIR_HU = -1000
_TISSUE_HU = -400  # halfway between lung and soft tissue; the table's foam lies far below
_WORKING_MM = 3.0  # masks are found on a grid about this fine: seconds, not minutes
_SHELL_RADIUS_MM = 5.0  # the opening takes off what is thinner than twice this
_OWN_RIM = 0.65  # share of a cavity's rim that is the patient's own, not the table's
_SKIN_MM = 6.0  # margin that keeps the skin, whose edge the working grid only roughly knows
_VESSEL_RADIUS_MM = 6.0  # the closing that makes lung of its vessels
_LUNG_MINIMUM_ML = 100.0
_LUNG_SHARE = 0.2  # of the largest air space: the other lung, but no stomach bubble


def body_mask(volume: Volume) -> Mask:
    """Mask of the patient, lungs and airways included; no table, pads or lines.

    Tissue is what lies above -400 HU. In each axial slice an opening cuts off what is thin
    (the table's shell, also where the patient touches it), the largest piece of the volume
    is kept, and its cavities are filled, those too whose wall is as thin as a shell.

    Parameters
    ----------
    volume : Volume
        A CT of the chest.

    Returns
    -------
    ndarray of bool, shape (I, P, L)
        All False where there is no tissue.
    """
    hu, spacing = _coarse(volume)
    return _fine(_within(_body(hu, spacing), _SKIN_MM, spacing), volume)


def lung_mask(volume: Volume) -> Mask:
    """Mask of the aerated lungs with their vessels and airways.

    Air within the body: below -400 HU, in pieces of at least 100 ml, closed so that vessels
    count as lung. Consolidated lung is denser and is not found.

    Parameters
    ----------
    volume : Volume
        A CT of the chest.

    Returns
    -------
    ndarray of bool, shape (I, P, L)
        All False where there is no lung.
    """
    from scipy import ndimage

    hu, spacing = _coarse(volume)
    labels, count = ndimage.label(_body(hu, spacing) & (hu < _TISSUE_HU))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    if count == 0:
        return np.zeros(volume.shape, bool)
    smallest = max(_LUNG_MINIMUM_ML * 1000.0 / float(np.prod(spacing)), _LUNG_SHARE * sizes.max())
    air = np.concatenate([[False], sizes >= smallest])[labels]
    lungs = _within(air, _VESSEL_RADIUS_MM, spacing)
    return _fine(~_within(~lungs, _VESSEL_RADIUS_MM, spacing) | air, volume)


def remove_table(volume: Volume) -> Volume:
    """Put air (-1000 HU) in place of all that is not the patient.

    Parameters
    ----------
    volume : Volume
        A CT of the chest.

    Raises
    ------
    InvalidInputError
        If no body is found, so that everything would vanish.
    """
    body = body_mask(volume)
    if not body.any():
        raise InvalidInputError(
            "The CT table cannot be removed",
            why="no patient was found in the volume",
            remedy="check that the voxels are Hounsfield units, or keep the table",
        )
    hu = volume.hu.copy()
    hu[~body] = _AIR_HU
    return volume.with_hu(hu)


def _body(hu: npt.NDArray[Any], spacing: Spacing) -> Mask:
    """Body on the working grid: its outline filled, without a margin."""
    from scipy import ndimage

    tissue = hu > _TISSUE_HU
    core = ~_within(~tissue, _SHELL_RADIUS_MM, spacing, in_plane=True)
    labels, count = ndimage.label(core)
    if count == 0:
        return np.zeros(hu.shape, bool)
    largest = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    body = _within(largest, _SHELL_RADIUS_MM, spacing, in_plane=True) & tissue
    return np.stack(
        [
            ndimage.binary_fill_holes(own | _cavities(all_of_it, own))
            for all_of_it, own in zip(tissue, body, strict=True)
        ]
    )


def _cavities(tissue: Mask, body: Mask) -> Mask:
    """Holes in an axial slice of tissue that the body surrounds.

    The opening cuts chest walls that are thinner than its disc, so that a lung is open in the
    body; in the tissue it is still closed. The air between back and table is closed too, but
    by the table for half of its rim.
    """
    from scipy import ndimage

    holes: Mask = ndimage.binary_fill_holes(ndimage.binary_fill_holes(tissue) & ~tissue)
    labels, count = ndimage.label(holes)
    if count == 0:
        return holes
    rim = np.where(holes, 0, ndimage.grey_dilation(labels, size=3))
    whole = np.bincount(rim[tissue], minlength=count + 1)
    own = np.bincount(rim[body], minlength=count + 1)
    surrounded = own > _OWN_RIM * whole
    surrounded[0] = False
    cavities: Mask = surrounded[labels]
    return cavities


def _within(mask: Mask, distance_mm: float, spacing: Spacing, *, in_plane: bool = False) -> Mask:
    """Voxels within a distance of the mask: a dilation by a ball, or by discs in plane."""
    from scipy import ndimage

    if in_plane:
        return np.stack([_near(axial, distance_mm, spacing[1:], ndimage) for axial in mask])
    return _near(mask, distance_mm, spacing, ndimage)


def _near(mask: Mask, distance_mm: float, spacing: tuple[float, ...], ndimage: Any) -> Mask:
    if not mask.any():
        return mask
    near: Mask = ndimage.distance_transform_edt(~mask, sampling=spacing) <= distance_mm
    return near


def _coarse(volume: Volume) -> tuple[npt.NDArray[Any], Spacing]:
    """Every n-th voxel along each axis, and their spacing in mm."""
    i, p, ell = _steps(volume.spacing_mm)
    si, sp, sl = volume.spacing_mm
    return volume.hu[::i, ::p, ::ell], (si * i, sp * p, sl * ell)


def _steps(spacing_mm: Spacing) -> tuple[int, int, int]:
    i, p, ell = (max(1, round(_WORKING_MM / s)) for s in spacing_mm)
    return i, p, ell


def _fine(mask: Mask, volume: Volume) -> Mask:
    """Nearest-neighbour copy of a working-grid mask on the volume's own grid."""
    nearest = [
        np.minimum((np.arange(n) + step // 2) // step, k - 1)
        for n, step, k in zip(volume.shape, _steps(volume.spacing_mm), mask.shape, strict=True)
    ]
    return mask[np.ix_(*nearest)]
