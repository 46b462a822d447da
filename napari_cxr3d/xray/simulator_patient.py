"""How a patient stands before the detector: position, field and depth of breath."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Volume, XrayView
from napari_cxr3d.imaging.masks import lung_mask

__all__ = ["PatientSetup", "chest_field", "continue_ends", "inspire"]

Mask = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]
FloatProfile = npt.NDArray[np.floating[Any]]

_STREAM = 0x5E7  # keeps a set-up's draw apart from other uses of the same seed
_LUNG_HU, _TISSUE_HU = -700.0, -300.0  # all lung below the first, none above the second
_WALL_MM = 12.0  # over which the chest wall follows what moves inside
_STILL = 0.35  # upper part of the lungs that breathing does not move
_BELOW_MM = 120.0  # below the lungs' lower end, where the abdomen is at rest again
_SOFTENED_MM = 8.0  # slices beyond the CT's end that share one blur
_SOFTENING = 0.3  # standard deviation of that blur over the distance from the end
_STEEPEST = 0.6  # largest stretch or squeeze that keeps the anatomy whole


@dataclass(frozen=True)
class PatientSetup:
    """What differs from one exposure of a patient to the next.

    Attributes
    ----------
    yaw, pitch, roll : float
        Turn of the patient in degrees, added to the view's angles.
    left_mm, up_mm : float
        How far the beam is centred too far to the patient's left and head.
    distance_mm : float
        What the source stands further away.
    inspiration_mm : float
        How far the diaphragm lies lower than in the CT; negative for a shallower breath.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    left_mm: float = 0.0
    up_mm: float = 0.0
    distance_mm: float = 0.0
    inspiration_mm: float = 0.0

    @classmethod
    def sample(cls, seed: int, *, strength: float = 1.0) -> PatientSetup:
        """A set-up drawn around the intended one; one seed, one set-up.

        Parameters
        ----------
        seed : int
            0 or more.
        strength : float
            Factor on all ranges. At 1 the standard deviations are 3 degrees of yaw, 3 of
            pitch and 2 of roll, 8 mm of position and 40 mm of distance, and the
            diaphragm lies up to 25 mm higher or 10 mm lower: CTs are taken in deep inspiration.
        """
        if seed < 0 or strength < 0:
            raise InvalidInputError(
                "A set-up's seed and strength must be 0 or more",
                why=f"they are {seed} and {strength:g}",
            )
        rng = np.random.default_rng([_STREAM, seed])
        scales = strength * np.array([3.0, 3.0, 2.0, 8.0, 8.0, 40.0])
        drawn = np.clip(rng.standard_normal(6), -2.5, 2.5) * scales
        breath = strength * rng.uniform(-25.0, 10.0)
        return cls(*(round(float(value), 3) for value in (*drawn, breath)))

    def view(self, view: XrayView) -> XrayView:
        """The view that this set-up makes of the intended one.

        Parameters
        ----------
        view : XrayView
            With its isocenter written out (`XrayView.resolved`).

        Raises
        ------
        InvalidInputError
            If the view has no isocenter, or a distance is no longer possible.
        """
        if view.isocenter_lps is None:
            raise InvalidInputError(
                "The view has no isocenter to move",
                remedy="resolve it with the volume's grid first",
            )
        x, y, z = view.isocenter_lps
        return replace(
            view,
            yaw=view.yaw + self.yaw,
            pitch=float(np.clip(view.pitch + self.pitch, -90.0, 90.0)),
            roll=view.roll + self.roll,
            isocenter_lps=(x + self.left_mm, y, z + self.up_mm),
            source_to_isocenter_mm=view.source_to_isocenter_mm + self.distance_mm,
            source_to_detector_mm=view.source_to_detector_mm + self.distance_mm,
        )

    def volume(self, volume: Volume, *, lungs: Mask | None = None) -> Volume:
        """The volume in this depth of breath; see `inspire`."""
        if abs(self.inspiration_mm) < 1e-6:
            return volume
        return inspire(volume, self.inspiration_mm, lungs=lungs)

    def to_dict(self) -> dict[str, float]:
        """JSON-serialisable form, for provenance."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> PatientSetup:
        """The set-up that `to_dict` wrote."""
        return cls(**record)


def inspire(volume: Volume, diaphragm_mm: float, *, lungs: Mask | None = None) -> Volume:
    """Move the diaphragm down (or up), as a deeper (or shallower) breath does.

    Within the rib cage the lower thorax is stretched along the patient's axis: nothing moves
    in the upper third of the lungs, everything by `diaphragm_mm` at their lower end, and
    the abdomen below takes the shift up again. Ribs, spine and skin stay. Lung keeps its
    mass: its density falls as its volume grows; soft tissue keeps its HU.

    Parameters
    ----------
    volume : Volume
        A CT of the chest.
    diaphragm_mm : float
        Positive for inspiration. At most about half of what the lungs' lower part measures.
    lungs : ndarray of bool, shape (I, P, L), optional
        The lungs, if they are known already (`lung_mask`).

    Returns
    -------
    Volume
        The same grid and dtype, marked synthetic.

    Raises
    ------
    InvalidInputError
        If no lungs are found, or the shift would tear or fold the anatomy.
    """
    lungs = _require_lungs(volume, lungs)
    shift = _shift_profile(volume, lungs, diaphragm_mm)
    inside = _cavity_weight(volume, lungs)
    spacing = volume.spacing_mm[0]
    if np.abs(np.diff(shift)).max() > _STEEPEST * spacing:
        raise InvalidInputError(
            "The diaphragm cannot be moved that far",
            why=f"{diaphragm_mm:g} mm would stretch the lung by more than {_STEEPEST:.0%}",
            remedy="choose a smaller shift",
        )
    hu = _pull(volume.hu, shift, inside, spacing)
    # Lung of density rho becomes rho times the squeeze: (HU + 1000) scales with it.
    squeeze = 1 - np.gradient(shift, spacing)[:, None, None] * inside
    aerated = np.clip((_TISSUE_HU - hu) / np.float32(_TISSUE_HU - _LUNG_HU), 0, 1)
    aerated *= _pull(lungs.astype(np.float32), shift, inside, spacing)
    hu += aerated * (squeeze.astype(np.float32) - 1) * (hu + np.float32(1000))
    if volume.hu.dtype == np.int16:
        hu = np.rint(hu).astype(np.int16)
    return volume.with_hu(hu, synthetic=True)


def _require_lungs(volume: Volume, lungs: Mask | None) -> Mask:
    found = lung_mask(volume) if lungs is None else lungs
    if found.shape != volume.shape or not found.any():
        raise InvalidInputError(
            "The lungs are not known",
            why="no lung was found in the volume"
            if found.shape == volume.shape
            else f"the mask has the shape {found.shape}, the volume {volume.shape}",
            remedy="give a CT of the chest in Hounsfield units, or a mask of its lungs",
        )
    return found


def _shift_profile(volume: Volume, lungs: Mask, diaphragm_mm: float) -> FloatProfile:
    """Shift toward inferior in mm for each slice of the new volume, shape (I,)."""
    # Where half of the largest section is left: the domes, not the deep posterior sulcus.
    section = lungs.sum(axis=(1, 2))
    present = np.flatnonzero(section)
    dome = int(np.flatnonzero(section > 0.5 * section.max())[-1])
    spacing = volume.spacing_mm[0]
    top = float(present[0]) * spacing
    still = top + _STILL * (dome * spacing - top)
    lower = dome * spacing + diaphragm_mm
    z = np.arange(volume.shape[0]) * spacing
    rise = _smooth_step((z - still) / max(lower - still, spacing))
    fall = _smooth_step((z - lower) / (max(_BELOW_MM, 4 * abs(diaphragm_mm))))
    return np.asarray(diaphragm_mm * rise * (1 - fall))


def _smooth_step(t: FloatProfile) -> FloatProfile:
    t = np.clip(t, 0.0, 1.0)
    return np.asarray(t * t * (3 - 2 * t))


def _cavity_weight(volume: Volume, lungs: Mask) -> FloatArray:
    """1 within the rib cage, 0 in the chest wall, shape (1, P, L).

    The rib cage's section is that of both lungs in all slices, the mediastinum between them
    included.
    """
    from scipy import ndimage

    footprint: Mask = np.any(lungs, axis=0)
    columns = np.arange(footprint.shape[1])
    between = np.zeros_like(footprint)
    for row in np.flatnonzero(np.any(footprint, axis=1)):
        ends = np.flatnonzero(footprint[row])
        between[row] = (columns >= ends[0]) & (columns <= ends[-1])
    depth = ndimage.distance_transform_edt(between, sampling=volume.spacing_mm[1:])
    return np.asarray(np.clip(depth / _WALL_MM, 0, 1), np.float32)[None]


def _pull(
    values: npt.NDArray[Any],
    shift: FloatProfile,
    inside: FloatArray,
    spacing: float,
) -> FloatArray:
    """Values moved along the first axis, interpolated linearly, float32."""
    source = values.astype(np.float32, copy=False)
    last = source.shape[0] - 1
    moved = np.empty(source.shape, np.float32)
    rows, cols = np.ogrid[: source.shape[1], : source.shape[2]]
    for k, amount in enumerate(shift):
        if abs(amount) < 1e-9:
            moved[k] = source[k]
            continue
        at = np.clip(k - np.float32(amount / spacing) * inside[0], 0, last)
        below = np.minimum(at.astype(np.intp), max(last - 1, 0))
        share = at - below.astype(np.float32)
        upper = source[np.minimum(below + 1, last), rows, cols]
        moved[k] = source[below, rows, cols] * (1 - share) + upper * share
    return moved


def continue_ends(volume: Volume, top_mm: float, bottom_mm: float) -> Volume:
    """Go on beyond the first and last slice, where a radiograph's field is longer than the CT.

    What is added is no anatomy: it keeps the picture from ending in a black edge. The end
    slice is repeated, the softer the further away.

    Parameters
    ----------
    volume : Volume
        A CT.
    top_mm, bottom_mm : float
        Height to add at the head's and the feet's end in mm; 0 or less adds nothing.
    """
    above, below = (max(0, math.ceil(mm / volume.spacing_mm[0])) for mm in (top_mm, bottom_mm))
    if not (above or below):
        return volume
    hu = np.pad(volume.hu, ((above, below), (0, 0), (0, 0)), mode="edge")
    for slices in (hu[:above][::-1], hu[hu.shape[0] - below :]):
        _soften(slices, volume.spacing_mm)
    x, y, z = volume.origin_lps
    origin = (x, y, z + above * volume.spacing_mm[0])
    return volume.with_hu(hu, origin_lps=origin, synthetic=True)


def _soften(slices: npt.NDArray[Any], spacing_mm: tuple[float, float, float]) -> None:
    """Blur repeated slices in place, the more the further they lie from the first."""
    from scipy import ndimage

    every = max(1, round(_SOFTENED_MM / spacing_mm[0]))
    for start in range(0, len(slices), every):
        width = _SOFTENING * (start + every / 2) * spacing_mm[0]
        sigma = [width / s for s in spacing_mm[1:]]
        blurred = ndimage.gaussian_filter(slices[start].astype(np.float32), sigma, mode="nearest")
        slices[start : start + every] = blurred.astype(slices.dtype)


def chest_field(
    volume: Volume,
    view: XrayView,
    *,
    margin_mm: float = 30.0,
    lungs: Mask | None = None,
) -> tuple[Volume, XrayView]:
    """Centre a view on the lungs and open the field as wide as a chest radiograph's.

    Parameters
    ----------
    volume : Volume
        A CT of the chest.
    view : XrayView
        Gives distances, angles and the detector's pixels; the pixel pitch is chosen.
    margin_mm : float
        What the field shows beyond the lungs on each side, at the isocenter.
    lungs : ndarray of bool, shape (I, P, L), optional
        The lungs, if they are known already.

    Returns
    -------
    volume : Volume
        With its ends continued where the field is longer than the CT.
    view : XrayView
        With isocenter and pixel pitch written out.

    Raises
    ------
    InvalidInputError
        If no lungs are found.
    """
    lungs = _require_lungs(volume, lungs)
    places = [np.flatnonzero(lungs.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    spacing = volume.spacing_mm
    low, high = (
        np.array([p[k] * s for p, s in zip(places, spacing, strict=True)]) for k in (0, -1)
    )
    middle, size = (low + high) / 2, high - low + np.array(spacing)
    x, y, z = volume.origin_lps
    isocenter = (x + float(middle[2]), y + float(middle[1]), z - float(middle[0]))
    across = abs(math.cos(math.radians(view.yaw))) * size[2] + (
        abs(math.sin(math.radians(view.yaw))) * size[1]
    )
    rows, cols = view.detector_shape
    pitch = max((size[0] + 2 * margin_mm) / rows, (across + 2 * margin_mm) / cols)
    opened = replace(view, isocenter_lps=isocenter, pixel_mm=float(pitch * view.magnification))
    # Rays spread: at the far side of the patient the field is this much longer.
    reach = rows * pitch / 2 * (1 + max(volume.size_mm[1:]) / 2 / view.source_to_isocenter_mm)
    tilt = max(volume.size_mm[1:]) / 2 * abs(math.tan(math.radians(view.pitch)))
    above = reach + tilt - float(middle[0])
    below = reach + tilt - (volume.size_mm[0] - float(middle[0]))
    return continue_ends(volume, above, below), opened
