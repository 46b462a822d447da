"""X-rays that go into a reconstruction: guessed, confirmed, examined, prepared.

The way of an X-ray: `guess_input` says what it seems to be, its user confirms or edits the
`XrayInput`, `examine` tells what is unusual or wrong about it, and `prepare_inputs` brings it to
the model's detector.
"""

from napari_cxr3d.inference.input_gate import FINDING_CODES, examine
from napari_cxr3d.inference.xray_input_guess import guess_input
from napari_cxr3d.inference.xray_input_types import (
    PROJECTIONS,
    InputFinding,
    InputGuess,
    PreparedViews,
    Projection,
    XrayInput,
)
from napari_cxr3d.inference.xray_preparation import FIELD_MM, prepare_inputs

__all__ = [
    "FIELD_MM",
    "FINDING_CODES",
    "PROJECTIONS",
    "InputFinding",
    "InputGuess",
    "PreparedViews",
    "Projection",
    "XrayInput",
    "examine",
    "guess_input",
    "prepare_inputs",
]
