"""An error says what happened, why, and what to do, in sentences."""

from __future__ import annotations

import pickle

import pytest

from napari_cxr3d import errors
from napari_cxr3d.errors import (
    ConsentRequiredError,
    Cxr3dError,
    InputRefusedError,
    InvalidInputError,
    OutOfMemoryError,
    UnreadableFileError,
)


def test_an_error_is_what_why_and_remedy():
    error = Cxr3dError(
        "The file cannot be read", why="it ends early", remedy="copy it again.", path="ct.nii"
    )
    assert str(error) == "ct.nii: The file cannot be read: it ends early. Copy it again."


def test_parts_that_are_missing_leave_no_trace():
    assert str(Cxr3dError("Nothing was chosen")) == "Nothing was chosen."


def test_builtin_kinds_are_caught_as_what_they_are():
    with pytest.raises(ValueError, match="too small"):
        raise InvalidInputError("The detector is too small")


def test_consent_names_the_keyword_that_gives_it():
    error = ConsentRequiredError("Slices are missing", consent="allow_gaps")
    assert error.consent == "allow_gaps"


def test_cancelling_is_not_an_error():
    assert not issubclass(errors.Cancelled, Cxr3dError)
    listed = {getattr(errors, name) for name in errors.__all__}
    assert {kind for kind in listed if not issubclass(kind, Cxr3dError)} == {errors.Cancelled}


@pytest.mark.parametrize(
    "error",
    [
        InvalidInputError("It is odd", why="it is 3", remedy="give 2"),
        ConsentRequiredError("It has gaps", consent="allow_gaps"),
        InputRefusedError("It is no chest", codes=("not-a-chest", "rotated")),
        UnreadableFileError("It is cut off", path="ct.nii"),
        OutOfMemoryError("It does not fit"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_reaches_another_process_whole(error):
    arrived = pickle.loads(pickle.dumps(error))
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert vars(arrived) == vars(error)
