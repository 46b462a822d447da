"""The gate before a reconstruction: what is unusual about an X-ray, and what is wrong with it.

A small statistical check of each picture as its user says that it is to be read, and plain checks
of its size, contrast, origin and scale. It finds what would make the result senseless; it does not
judge the quality of an exposure, and it knows no disease.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.inference.xray_input_guess import lung_size_mm
from napari_cxr3d.inference.xray_input_recognition import Recognition, best_turn, recognise
from napari_cxr3d.inference.xray_input_types import InputFinding, Severity, XrayInput

__all__ = ["FINDING_CODES", "examine"]

FINDING_CODES = (
    "tiny", "small", "huge", "empty", "inverted", "rotated", "ct-slice", "not-a-chest",
    "uncertain", "view", "mirrored", "cut-off", "pitch", "capture", "coloured", "same-view",
)  # fmt: skip
"""Everything that the gate can say."""

_TINY, _SMALL, _HUGE = 64, 160, 8192  # pixels
_CHEST, _CERTAIN = 0.5, 0.25  # chance of a chest: below the first uncertain, the second wrong
_CT_SLICE = 0.5
_VIEW, _SURE_VIEW = 0.6, 0.9  # chance of the other view, of a chest
_WRONG_SIDE = -2.0  # logarithm of the odds that the heart is where it belongs
_CUT = 0.1  # of the lungs' box that may lie beyond the picture: more than its error
_ODD_SIZE, _ABSURD_SIZE = (0.75, 1.3), (0.55, 1.7)  # of the usual size of the lungs
_STANDARD_DEGREES = 15.0  # from the front or the side: what the statistics know
_RADIOGRAPHY = ("CR", "DX", "DR", "RG")

_Maker = Callable[[str, Severity, str, str], InputFinding]


def examine(inputs: Sequence[XrayInput]) -> tuple[InputFinding, ...]:
    """Look for what is unusual or wrong about X-rays as they are to be used.

    Parameters
    ----------
    inputs : sequence of XrayInput
        With the projection, pitch and corrections that the user confirmed.

    Returns
    -------
    tuple of InputFinding
        What is wrong first; empty where nothing was found.

    Raises
    ------
    InvalidInputError
        If there is no X-ray.
    """
    inputs = tuple(inputs)
    if not inputs:
        raise InvalidInputError("There is no X-ray to examine", remedy="give one or more")
    found = [f for index, each in enumerate(inputs) for f in _of_one(each, index)]
    found += _of_all(inputs)
    return tuple(sorted(found, key=lambda finding: finding.severity != "wrong"))


def _of_one(each: XrayInput, index: int) -> Iterator[InputFinding]:
    def finding(code: str, severity: Severity, message: str, remedy: str) -> InputFinding:
        assert code in FINDING_CODES
        return InputFinding(code, severity, message, remedy, index)

    rows, cols = each.radiograph.shape
    if min(rows, cols) < _TINY:
        yield finding(
            "tiny", "wrong",
            f"The picture has only {rows} x {cols} pixels.",
            "Choose the full-size image.",
        )  # fmt: skip
    elif min(rows, cols) < _SMALL:
        yield finding(
            "small", "unusual",
            f"The picture has only {rows} x {cols} pixels: small findings cannot be in it.",
            "Choose the full-size image if there is one.",
        )  # fmt: skip
    elif max(rows, cols) > _HUGE:
        yield finding(
            "huge", "unusual",
            f"The picture has {rows} x {cols} pixels, more than detectors have.",
            "Check that it is one radiograph, not a page with several.",
        )  # fmt: skip
    picture = each.upright()
    spread = float(np.ptp(np.percentile(picture, [1, 99])))
    if spread <= 1e-3 * max(float(np.ptp(picture)), 1e-12):
        yield finding(
            "empty", "wrong",
            "The picture is nearly of one grey: it shows nothing.",
            "Choose another picture.",
        )  # fmt: skip
        return
    yield from _of_the_file(each, finding)
    expected = _expected(each)
    if expected is None:
        return
    look = recognise(picture)
    if each.projection == "as-given":
        # A whole scan's projection has more in it than a radiograph, and looks like a thick slice.
        if look.chest + look.chances["ct"] < _CERTAIN:
            yield finding(
                "uncertain", "unusual",
                "The projection does not look like a chest X-ray from the front or the side.",
                "Check that the CT shows a chest.",
            )  # fmt: skip
        return
    if look.chest < _CHEST:
        yield _no_chest(picture, look, finding)
        return
    yield from _of_a_chest(each, look, expected, finding)


def _of_the_file(each: XrayInput, finding: _Maker) -> Iterator[InputFinding]:
    source = each.radiograph.source
    if source is None:
        return
    if source.kind == "DICOM" and source.modality not in _RADIOGRAPHY:
        yield finding(
            "capture", "unusual",
            "The file does not say that it is a radiograph: it is a copy of a screen or a scan.",
            "Choose the original if there is one.",
        )  # fmt: skip
    if any("is coloured" in note for note in source.notes):
        yield finding(
            "coloured", "unusual",
            "The picture is coloured, which radiographs are not.",
            "Choose one without annotations or colour map.",
        )  # fmt: skip


def _no_chest(picture: npt.NDArray[Any], look: Recognition, finding: _Maker) -> InputFinding:
    """Why a picture is no upright chest with bone bright."""
    turn, _ = best_turn(picture)
    if turn.rotation:
        return finding(
            "rotated",
            "wrong",
            "The picture seems to lie on its side or upside down.",
            f"Turn it clockwise by {turn.rotation}°.",
        )
    if turn.inverted:
        return finding(
            "inverted",
            "wrong",
            "Bone seems to be dark: the picture looks inverted.",
            "Invert it.",
        )
    if look.chances["ct"] > _CT_SLICE:
        return finding(
            "ct-slice", "wrong",
            "The picture looks like a slice of a CT, not like a chest X-ray.",
            "Open the series as a CT, or choose a chest X-ray.",
        )  # fmt: skip
    if look.chest < _CERTAIN:
        return finding(
            "not-a-chest", "wrong",
            "The picture does not look like a chest X-ray.",
            "Choose a chest X-ray.",
        )  # fmt: skip
    return finding(
        "uncertain", "unusual",
        "The picture can hardly be recognised as a chest X-ray.",
        "Check view, turn and polarity.",
    )  # fmt: skip


def _of_a_chest(
    each: XrayInput, look: Recognition, expected: str, finding: _Maker
) -> Iterator[InputFinding]:
    frontal = expected == "frontal"
    other = (look.lateral if frontal else look.chances["frontal"]) / look.chest
    if other > _VIEW:
        said, seen = ("frontal", "lateral") if frontal else ("lateral", "frontal")
        yield finding(
            "view", "wrong" if other > _SURE_VIEW else "unusual",
            f"The picture is said to be {said} but looks {seen}.",
            f"Say that it is {seen}, if it is.",
        )  # fmt: skip
        return
    if frontal and look.heart < _WRONG_SIDE:
        yield finding(
            "mirrored", "unusual",
            "The heart seems to lie on the patient's right: the picture may be mirrored.",
            "Look for the side's letter and mirror the picture, if it is.",
        )  # fmt: skip
    if not frontal and look.kind != expected and look.chances[expected] < 1 - _SURE_VIEW:
        yield finding(
            "mirrored", "unusual",
            "This lateral faces the other way than such a view usually does.",
            "Choose the other side, or mirror the picture.",
        )  # fmt: skip
    cut = _cut_off(look)
    if cut:
        yield finding(
            "cut-off", "unusual",
            f"The lungs seem to be cut off at the {' and the '.join(cut)} of the picture.",
            "Choose a picture of the whole chest: what lies outside is made up.",
        )  # fmt: skip
    measured = lung_size_mm(each, look)
    if measured is not None:
        size, usual_size, word = measured
        ratio = size / usual_size
        if not _ODD_SIZE[0] < ratio < _ODD_SIZE[1]:
            absurd = not _ABSURD_SIZE[0] < ratio < _ABSURD_SIZE[1]
            yield finding(
                "pitch", "wrong" if absurd else "unusual",
                f"With this pixel pitch the lungs are {size:.0f} mm {word}, and usually about "
                f"{usual_size:.0f} mm.",
                "Correct the pixel pitch: the size of everything depends on it.",
            )  # fmt: skip


def _of_all(inputs: Sequence[XrayInput]) -> Iterator[InputFinding]:
    first: dict[str, int] = {}
    for index, each in enumerate(inputs):
        if each.projection == "as-given":
            continue
        kind = "lateral" if each.projection.startswith("lateral") else "frontal"
        if kind in first:
            yield InputFinding(
                "same-view",
                "unusual",
                f"X-ray {index + 1} is {kind}, as X-ray {first[kind] + 1} is.",
                "Give one frontal and one lateral X-ray.",
                index,
            )
        first.setdefault(kind, index)


def _expected(each: XrayInput) -> str | None:
    """What the statistics should see: a kind; None where they know nothing of such a view."""
    if each.projection != "as-given":
        return {"lateral-left": "lateral", "lateral-right": "facing-right"}.get(
            each.projection, "frontal"
        )
    view = each.radiograph.view
    assert view is not None  # XrayInput holds it
    if max(abs(view.pitch), abs(view.roll)) > _STANDARD_DEGREES:
        return None
    from_side = abs((view.yaw + 90.0) % 180.0 - 90.0)  # 0 from the front or the back, 90 aside
    if from_side <= _STANDARD_DEGREES:
        return "frontal"
    return "lateral" if from_side >= 90.0 - _STANDARD_DEGREES else None


def _cut_off(look: Recognition) -> list[str]:
    """Sides at which the lungs' box lies beyond the picture by more than its error."""
    assert look.lungs is not None  # a chest was recognised
    top, bottom, left, right = look.lungs
    first_row, end_row, first_col, end_col = look.content
    height, width = bottom - top, right - left
    beyond = {
        "top": (first_row - top) / height,
        "bottom": (bottom - end_row) / height,
        "left": (first_col - left) / width,
        "right": (right - end_col) / width,
    }
    return [side for side, part in beyond.items() if part > _CUT]
