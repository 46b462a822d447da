"""What an X-ray seems to be, before its user has said anything: view, polarity, turn, pitch."""

from __future__ import annotations

import math
from dataclasses import replace

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Radiograph, preset
from napari_cxr3d.inference.xray_input_recognition import (
    Recognition,
    best_turn,
    recognise,
    usual,
)
from napari_cxr3d.inference.xray_input_types import (
    PROJECTIONS,
    InputGuess,
    Projection,
    XrayInput,
)
from napari_cxr3d.xray.calibration import polarity_score

__all__ = ["CASSETTE_MM", "PRESET_OF", "guess_input", "guess_pitch", "lung_size_mm"]

PRESET_OF: dict[Projection, str] = {
    "pa": "pa",
    "ap": "ap-bedside",
    "lateral-left": "left-lateral",
    "lateral-right": "right-lateral",
}
"""The distances that are assumed of an X-ray whose file tells none."""

CASSETTE_MM = 430.0
"""Longest side of the usual chest cassettes and detectors, 35 x 43 and 43 x 43 cm."""

_POSITIONS: dict[str, Projection] = {
    "PA": "pa",
    "AP": "ap",
    "LL": "lateral-left",
    "RL": "lateral-right",
}
_WORDS: dict[Projection, str] = {
    "pa": "frontal, from behind (PA)",
    "ap": "frontal, from in front (AP)",
    "lateral-left": "left lateral",
    "lateral-right": "right lateral",
    "as-given": "as it was projected",
}
_CASSETTE_SPREAD = 0.15  # of the logarithm: pictures are cropped, detectors differ
_SIZE_LIMITS = (0.65, 1.45)  # of the usual size: what a pitch may make of the lungs
_CLEAR_POLARITY = 0.5


def guess_input(radiograph: Radiograph, *, projection: Projection | None = None) -> InputGuess:
    """Guess everything that `XrayInput` asks for, with reasons.

    Parameters
    ----------
    radiograph : Radiograph
        An X-ray from a file, or one that was projected from a CT.
    projection : {"pa", "ap", "lateral-left", "lateral-right", "as-given"}, optional
        What the user said already; guessed when None.

    Returns
    -------
    InputGuess
        The input with its reasons, for the user to confirm or to edit.

    Raises
    ------
    InvalidInputError
        If the view is to be taken as given, and none is.
    """
    if projection is not None and projection not in PROJECTIONS:
        raise InvalidInputError(
            f"There is no projection called {projection!r}",
            remedy=f"choose one of {', '.join(PROJECTIONS)}",
        )
    if projection == "as-given" or (projection is None and radiograph.view is not None):
        return _of_a_projection(radiograph)
    reasons: list[str] = []
    turn = _guess_turn(radiograph, reasons)
    found = recognise(turn.upright())
    chosen = projection or _guess_projection(radiograph, found, reasons)
    if projection is not None:
        reasons.append(f"The view is {_WORDS[chosen]}, as you said.")
    mirrored = _guess_mirrored(chosen, found, reasons)
    guessed = replace(turn, projection=chosen, mirrored=mirrored)
    pitch, reason = _settled_pitch(guessed, found)
    reasons.append(reason)
    return InputGuess(replace(guessed, pitch_mm=pitch), tuple(reasons))


def guess_pitch(picture: XrayInput, found: Recognition) -> tuple[tuple[float, float], str]:
    """Pixel pitch of a picture as it is stored that tells none, and how it was guessed.

    Between the pitch that makes the longest side that of a cassette and the one that makes
    the lungs as large as usual, each as heavy as it is certain.

    Parameters
    ----------
    picture : XrayInput
        With its corrections.
    found : Recognition
        Of the upright picture.
    """
    top, bottom, left, right = found.content
    cassette = CASSETTE_MM / max(bottom - top, right - left)
    if found.lungs is None:
        return (cassette, cassette), (
            f"The file gives no pixel pitch: {cassette:.3g} mm was assumed, as if the longest "
            f"side were that of a {CASSETTE_MM:.0f} mm cassette. No chest was recognised to check "
            "it against."
        )
    size, expected, spread, word = _lungs_across(found, picture.projection)
    anatomical = expected / size
    weights = (1 / _CASSETTE_SPREAD**2, 1 / spread**2)
    logarithm = weights[0] * math.log(cassette) + weights[1] * math.log(anatomical)
    pitch = math.exp(logarithm / sum(weights))
    error = 1 / math.sqrt(sum(weights))
    return (pitch, pitch), (
        f"The file gives no pixel pitch: {pitch:.3g} mm was assumed, between that of a "
        f"{CASSETTE_MM:.0f} mm cassette ({cassette:.3g} mm) and that at which the lungs are as "
        f"{word} as usual ({anatomical:.3g} mm); it may be off by {100 * error:.0f}%."
    )


def lung_size_mm(picture: XrayInput, found: Recognition) -> tuple[float, float, str] | None:
    """Size of the lungs across the picture in the patient, what is usual, and the word for it.

    None where the lungs or the pitch are unknown.

    Parameters
    ----------
    picture : XrayInput
        With its corrections.
    found : Recognition
        Of the upright picture.
    """
    pitch = picture.upright_pitch_mm
    if found.lungs is None or pitch is None:
        return None
    size, expected, _, word = _lungs_across(found, picture.projection)
    magnification = _magnification(picture.projection)
    return size * pitch[1] / magnification, expected / magnification, word


def _of_a_projection(radiograph: Radiograph) -> InputGuess:
    given = XrayInput(radiograph, "as-given")
    view = radiograph.view
    assert view is not None  # XrayInput refuses it
    pitch = given.known_pitch_mm
    assert pitch is not None  # the view knows it
    reasons = [
        f"The X-ray was projected: its view (yaw {view.yaw:g}°, pitch {view.pitch:g}°) and pixel "
        f"pitch ({pitch[0]:.3g} mm) are known.",
        "Its values are line integrals and are taken as they are."
        if radiograph.quantity == "line_integral"
        else "Its values are greys: line integrals will be estimated from them.",
    ]
    return InputGuess(given, tuple(reasons))


def _guess_turn(radiograph: Radiograph, reasons: list[str]) -> XrayInput:
    """Polarity and quarter turns."""
    if radiograph.quantity != "display":
        return XrayInput(radiograph)
    turn, _ = best_turn(radiograph.pixels)
    polarity = polarity_score(radiograph.pixels)
    if turn.inverted:
        reasons.append("Bone seems to be dark: the picture will be inverted.")
    elif polarity > _CLEAR_POLARITY and not turn.rotation:
        reasons.append("Bone is bright, as it should be: spine and abdomen outshine the lungs.")
    else:
        reasons.append("Bone is taken to be bright; nothing in the picture speaks against it.")
    if turn.rotation:
        reasons.append(f"The picture lies: it will be turned clockwise by {turn.rotation}°.")
    return XrayInput(radiograph, inverted=turn.inverted, rotation=turn.rotation)


def _guess_projection(radiograph: Radiograph, found: Recognition, reasons: list[str]) -> Projection:
    if radiograph.view_position in _POSITIONS:
        chosen = _POSITIONS[radiograph.view_position]
        reasons.append(f"The file says that the view is {_WORDS[chosen]}.")
        return chosen
    if found.lungs is None:
        reasons.append("No chest was recognised; a frontal view (PA) is assumed.")
        return "pa"
    if found.lateral > 0.5:
        chosen = "lateral-left" if found.kind == "lateral" else "lateral-right"
        facing = "left" if chosen == "lateral-left" else "right"
        reasons.append(
            f"The picture looks like a lateral that faces the image's {facing}: {_WORDS[chosen]} "
            "is assumed."
        )
        return chosen
    reasons.append(
        "The picture looks frontal; from behind (PA) is assumed. A bedside picture is AP: the "
        "heart then looks larger."
    )
    return "pa"


def _guess_mirrored(chosen: Projection, found: Recognition, reasons: list[str]) -> bool:
    """A lateral's side is known and it faces the other way; never of a frontal picture."""
    usual_kind = {"lateral-left": "lateral", "lateral-right": "facing-right"}.get(chosen)
    if usual_kind is None or found.lateral < 0.5 or found.kind == usual_kind:
        return False
    reasons.append(f"A {_WORDS[chosen]} usually faces the other way: it will be mirrored.")
    return True


def _settled_pitch(picture: XrayInput, found: Recognition) -> tuple[tuple[float, float], str]:
    """The file's pitch where it can be true, else a guess."""
    stated = picture.known_pitch_mm
    guess, reason = guess_pitch(picture, found)
    if stated is None:
        return guess, reason
    measured = lung_size_mm(picture, found)
    if measured is None:
        return stated, f"The file gives a pixel pitch of {stated[0]:.3g} x {stated[1]:.3g} mm."
    size, expected, word = measured
    if _SIZE_LIMITS[0] < size / expected < _SIZE_LIMITS[1]:
        return stated, (
            f"The file gives a pixel pitch of {stated[0]:.3g} x {stated[1]:.3g} mm; the lungs then "
            f"are {size:.0f} mm {word}, which can be."
        )
    return guess, (
        f"The file gives a pixel pitch of {stated[0]:.3g} mm, but then the lungs would be "
        f"{size:.0f} mm {word}: the picture was scaled after the exposure. {guess[0]:.3g} mm was "
        f"assumed instead, at which they are about as {word} as usual."
    )


def _lungs_across(found: Recognition, projection: Projection) -> tuple[float, float, float, str]:
    """Extent in pixels, usual mm on the detector, spread of its logarithm, its word."""
    assert found.lungs is not None  # both callers looked
    axis = 1 if projection.startswith("lateral") else 2
    known = usual()
    return (
        max(found.lungs[3] - found.lungs[2], 1.0),
        known.lung_size_mm[axis] * _magnification(projection),
        known.lung_size_spread[axis],
        "deep" if axis == 1 else "wide",
    )


def _magnification(projection: Projection) -> float:
    return preset(PRESET_OF.get(projection, "pa")).magnification
