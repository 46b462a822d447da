"""X-rays on a model's detector: corrected, cut to what is picture, centred, in integrals.

A projected X-ray keeps its geometry exactly; its values are averaged over the detector's larger
pixels. A picture from a file has no geometry: the distances of the usual exposure are
assumed, and the thorax is put where the models are trained to see it. What was assumed is said
in the notes, what was done is recorded in the placements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import XrayView, preset
from napari_cxr3d.inference.xray_input_guess import PRESET_OF, guess_pitch, lung_size_mm
from napari_cxr3d.inference.xray_input_recognition import Recognition, recognise, usual
from napari_cxr3d.inference.xray_input_resampling import (
    Box,
    FloatImage,
    Mask,
    area_mean,
    content_box,
    footprints,
    letters,
)
from napari_cxr3d.inference.xray_input_types import PreparedViews, XrayInput

__all__ = ["FIELD_MM", "prepare_inputs"]

FIELD_MM = 440.0
"""Edge of the detector that the models of this program are trained for."""

_COVERED = 0.5  # part of a detector pixel that the picture must cover
_CENTER = (0.0, 0.0, 0.0)
_FARTHEST = 0.25  # of the picture's content: how far its middle may be moved
_MOST_DETECTOR = 4096
_SAME_HEIGHT = 0.4  # of the lungs in two views: more than twice the error of reading it
_LITTLE = 0.6  # of the detector that is covered: less is told


@dataclass(frozen=True, eq=False)
class _Prepared:
    """One X-ray on the detector."""

    view: XrayView
    integrals: FloatImage
    valid: Mask
    picture: FloatImage
    calibration: dict[str, Any] | None
    placement: dict[str, Any]
    notes: list[str]


def prepare_inputs(
    inputs: Sequence[XrayInput],
    *,
    detector_shape: tuple[int, int],
    field_mm: float = FIELD_MM,
) -> PreparedViews:
    """Bring X-rays to the detector of a model.

    Parameters
    ----------
    inputs : sequence of XrayInput
        One or more, as their user confirmed them. All that are ``"as-given"`` come from one
        CT: they share its frame.
    detector_shape : tuple of 2 int
        Rows and columns.
    field_mm : float
        Edge of the detector along its columns, mm.

    Returns
    -------
    PreparedViews
        The views about LPS (0, 0, 0), the centre of the model's grid: of exact views the
        volume's centre, or the isocenter where that is not known.

    Raises
    ------
    InvalidInputError
        If there is no X-ray, the detector cannot be used, a picture has no contrast, or
        nothing of it lies on the detector.
    """
    inputs = tuple(inputs)
    if not inputs:
        raise InvalidInputError("There is no X-ray to prepare", remedy="give one or more")
    rows, cols = (int(n) for n in detector_shape)
    if not (min(rows, cols) >= 2 and max(rows, cols) <= _MOST_DETECTOR and field_mm > 0):
        raise InvalidInputError(
            "The detector of the model cannot be used",
            why=f"it has {rows} x {cols} pixels on {field_mm:g} mm",
        )
    detector = XrayView(
        detector_shape=(rows, cols), pixel_mm=field_mm / cols, isocenter_lps=_CENTER
    )
    center = _common_center(inputs)
    seen = [recognise(each.upright()) for each in inputs]
    made = [
        _as_given(each, detector, center)
        if each.projection == "as-given"
        else _as_assumed(each, look, detector)
        for each, look in zip(inputs, seen, strict=True)
    ]
    many = len(inputs) > 1
    notes = [f"X-ray {k + 1}: {n}" if many else n for k, m in enumerate(made) for n in m.notes]
    if many:
        notes += _together(inputs, seen)
    return PreparedViews(
        views=tuple(m.view for m in made),
        integrals=np.stack([m.integrals for m in made]),
        valid=np.stack([m.valid for m in made]),
        exact=tuple(each.exact for each in inputs),
        pictures=np.stack([m.picture for m in made]),
        calibrations=tuple(m.calibration for m in made),
        notes=tuple(notes),
        placements=tuple(m.placement for m in made),
        center_lps=center,
    )


def _common_center(inputs: Sequence[XrayInput]) -> tuple[float, float, float] | None:
    """Where the grid's centre lies in the frame of the CT that was projected."""
    given = [each for each in inputs if each.projection == "as-given"]
    isocenters = [e.radiograph.view.isocenter_lps for e in given if e.radiograph.view is not None]
    known = [e.volume_center_lps for e in given] + isocenters
    return next((center for center in known if center is not None), None)


def _as_given(
    given: XrayInput, detector: XrayView, center: tuple[float, float, float] | None
) -> _Prepared:
    """A projection of a CT: the detector's plane stays, only its pixels change."""
    view, pitch = given.radiograph.view, given.upright_pitch_mm
    assert view is not None and pitch is not None  # XrayInput holds both
    offset = _CENTER
    if view.isocenter_lps is not None and center is not None:
        x, y, z = (a - b for a, b in zip(view.isocenter_lps, center, strict=True))
        offset = (x, y, z)
    moved = replace(
        view,
        detector_shape=detector.detector_shape,
        pixel_mm=detector.pixel_mm,
        isocenter_lps=offset,
    )
    picture = given.upright()
    rows, cols = picture.shape
    greys = given.radiograph.quantity == "display"
    box = content_box(picture) if greys else (0, rows, 0, cols)
    return _on_detector(given, picture, box, (rows / 2, cols / 2), pitch, moved, [])


def _as_assumed(each: XrayInput, found: Recognition, detector: XrayView) -> _Prepared:
    """A picture from a file: the usual distances, the thorax in the middle."""
    base = preset(PRESET_OF[each.projection])
    view = replace(
        base,
        detector_shape=detector.detector_shape,
        pixel_mm=detector.pixel_mm,
        isocenter_lps=_CENTER,
    )
    notes = [
        f"The source is assumed {view.source_to_detector_mm:.0f} mm from the detector and the "
        f"middle of the patient {view.source_to_detector_mm - view.source_to_isocenter_mm:.0f} mm "
        "before it."
    ]
    if each.known_pitch_mm is None:
        pitch, reason = guess_pitch(each, found)
        each = replace(each, pitch_mm=pitch)
        notes.append(reason)
    upright_pitch = each.upright_pitch_mm
    assert upright_pitch is not None
    middle = _middle(each, found, view, upright_pitch, notes)
    return _on_detector(each, each.upright(), found.content, middle, upright_pitch, view, notes)


def _middle(
    each: XrayInput,
    found: Recognition,
    view: XrayView,
    pitch: tuple[float, float],
    notes: list[str],
) -> tuple[float, float]:
    """Row and column of a picture that belong on the detector's centre."""
    top, bottom, left, right = found.content
    height, width = bottom - top, right - left
    middle = ((top + bottom) / 2, (left + right) / 2)
    if found.lungs is None:
        notes.append("No chest was recognised: the middle of the picture is taken for its middle.")
        return middle
    known = usual()
    inferior, posterior = (mm * view.magnification for mm in known.lung_offset_mm)
    across = float(view.image_axes[1][1]) * posterior  # toward posterior, on the detector
    row = (found.lungs[0] + found.lungs[1]) / 2 - inferior / pitch[0]
    col = (found.lungs[2] + found.lungs[3]) / 2 - across / pitch[1]
    limited = (
        float(np.clip(row, middle[0] - _FARTHEST * height, middle[0] + _FARTHEST * height)),
        float(np.clip(col, middle[1] - _FARTHEST * width, middle[1] + _FARTHEST * width)),
    )
    down, aside = ((a - b) * p for a, b, p in zip(limited, middle, pitch, strict=True))
    where = (f"{abs(down):.0f} mm {'below' if down > 0 else 'above'}",
             f"{abs(aside):.0f} mm {'right' if aside > 0 else 'left'}")  # fmt: skip
    notes.append(
        f"The thorax was centred by its lungs: {where[0]} and {where[1]} of the picture's middle, "
        f"certain to about {known.middle_sd_mm[0]:.0f} and {known.middle_sd_mm[1]:.0f} mm."
    )
    return limited


def _on_detector(
    each: XrayInput,
    picture: FloatImage,
    box: Box,
    middle: tuple[float, float],
    pitch: tuple[float, float],
    view: XrayView,
    notes: list[str],
) -> _Prepared:
    """Means over the detector's pixels, `middle` on the detector's centre."""
    (rows, cols), (n_rows, n_cols) = view.detector_shape, picture.shape
    down, along = view.pixel_mm / pitch[0], view.pixel_mm / pitch[1]
    down_parts = footprints(n_rows, middle[0] - rows / 2 * down, down, rows)
    along_parts = footprints(n_cols, middle[1] - cols / 2 * along, along, cols)
    greys = each.radiograph.quantity == "display"
    counted = _counted(picture, box, lettered=greys)
    if greys:
        picture = _unit_greys(each, picture, counted)
    values, covered = area_mean(picture, down_parts, along_parts, counted)
    valid = covered >= _COVERED
    if not valid.any():
        raise InvalidInputError(
            "Nothing of the X-ray lies on the detector of the model",
            why=f"its pixels of {pitch[0]:.3g} x {pitch[1]:.3g} mm make a picture of "
            f"{n_rows * pitch[0]:.0f} x {n_cols * pitch[1]:.0f} mm",
            remedy="check the pixel pitch",
        )
    values = np.where(valid, values, np.float32(0))
    calibration = None
    if greys:
        integrals, calibration = _calibrated(values, valid)
        shown = values
    else:
        integrals, shown = values, _stretched(values, valid)
    if valid.mean() < _LITTLE:
        notes.append(f"The picture covers {valid.mean():.0%} of the model's detector.")
    letters_part = 1 - float(counted[box[0] : box[1], box[2] : box[3]].mean())
    placement = {
        **each.to_dict(),
        "pitch_mm": list(pitch),
        "content": list(box),
        "letters_part": round(letters_part, 5),
        "center_pixel": [round(middle[0], 2), round(middle[1], 2)],
        "covered": round(float(valid.mean()), 4),
    }
    return _Prepared(view, integrals, valid, shown, calibration, placement, notes)


def _counted(picture: FloatImage, box: Box, *, lettered: bool) -> Mask:
    """The picture's content without burnt-in letters."""
    counted = np.zeros(picture.shape, bool)
    inside = (slice(box[0], box[1]), slice(box[2], box[3]))
    counted[inside] = True
    if lettered:
        content = picture[inside]
        low, high = float(content.min()), float(content.max())
        counted[inside] &= ~letters((content - low) / np.float32(max(high - low, 1e-6)))
    return counted


def _unit_greys(each: XrayInput, picture: FloatImage, counted: Mask) -> FloatImage:
    """0 to 1 by the window that the file asks for, or by the picture's own extremes."""
    content = picture[counted]
    low, high = each.radiograph.display_range or (float(content.min()), float(content.max()))
    if not high > low or float(np.ptp(content)) <= 0:
        raise InvalidInputError(
            "The X-ray has no contrast",
            why="all its pixels have one grey value",
            remedy="choose another picture",
        )
    return np.asarray(np.clip((picture - low) / np.float32(high - low), 0, 1), np.float32)


def _calibrated(greys: FloatImage, valid: Mask) -> tuple[FloatImage, dict[str, Any]]:
    """Integrals by anatomical anchors, within the rectangle that the picture covers.

    The same function reads the pictures that the models are trained with.
    """
    from napari_cxr3d.xray.calibration import approximate_integrals

    rows, cols = (np.flatnonzero(valid.any(axis=axis)) for axis in (1, 0))
    inside = (slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1))
    read, record = approximate_integrals(greys[inside], region=valid[inside], polarity="trust")
    integrals = np.zeros_like(greys)
    integrals[inside] = np.where(valid[inside], read, np.float32(0))
    return integrals, record.to_dict()


def _stretched(integrals: FloatImage, valid: Mask) -> FloatImage:
    low, high = (float(f(integrals[valid])) for f in (np.min, np.max))
    shown = (integrals - low) / np.float32(max(high - low, 1e-6))
    return np.asarray(np.where(valid, shown, 0), np.float32)


def _together(inputs: Sequence[XrayInput], seen: Sequence[Recognition]) -> list[str]:
    """What is assumed of several pictures of one patient."""
    notes = []
    if any(each.projection == "as-given" for each in inputs):
        if any(each.projection != "as-given" for each in inputs):
            notes.append(
                "A projection and a picture from a file are taken to show one patient, the "
                "thorax of the picture in the middle of the projected volume."
            )
        return notes
    notes.append(
        "The views are taken to be of one patient in one position and breath; each was centred on "
        f"its own lungs, so that they may lie {1.4 * usual().middle_sd_mm[0]:.0f} mm higher or "
        "lower in one than in another."
    )
    heights = []
    for each, found in zip(inputs, seen, strict=True):
        measured = lung_size_mm(each, found)
        pitch = each.upright_pitch_mm
        if measured is not None and found.lungs is not None and pitch is not None:
            magnification = preset(PRESET_OF[each.projection]).magnification
            heights.append((found.lungs[1] - found.lungs[0]) * pitch[0] / magnification)
    if len(heights) > 1 and max(heights) > (1 + _SAME_HEIGHT) * min(heights):
        notes.append(
            "The lungs differ in height between the views, "
            f"{' and '.join(f'{h:.0f} mm' for h in heights)}: check the pixel pitches."
        )
    return notes
