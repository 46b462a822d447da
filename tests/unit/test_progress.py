"""Progress adds up, and a cancelled token stops the work."""

from __future__ import annotations

import pytest

from napari_cxr3d.errors import Cancelled
from napari_cxr3d.progress import CancelToken, Progress, part_of


def test_an_unknown_total_is_no_progress_yet():
    assert Progress(3, 0).fraction == 0
    assert Progress(3, 4).fraction == 0.75


def test_a_part_tells_its_place_in_the_whole():
    told: list[Progress] = []
    part = part_of(told.append, 0.5, 0.75)
    assert part is not None
    for done in (0, 2, 4, 5):  # one step too many does not run past the part's end
        part(Progress(done, 4, "step"))
    assert [step.fraction for step in told] == [0.5, 0.625, 0.75, 0.75]
    assert {step.message for step in told} == {"step"}


def test_nobody_listens_to_a_part_of_nothing():
    assert part_of(None, 0.0, 1.0) is None


def test_a_cancelled_token_stops_the_work_at_its_next_look():
    token = CancelToken()
    token.raise_if_cancelled()
    token.cancel()
    assert token.cancelled
    with pytest.raises(Cancelled):
        token.raise_if_cancelled()
