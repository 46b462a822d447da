"""The window follows the mouse as on a radiology workstation."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_cxr3d.imaging import Volume, Window
from napari_cxr3d.viewer.layers import add_volume
from napari_cxr3d.viewer.window_level import dragged_window, enable_window_drag

START = Window(level=50, width=300)


def test_rightward_widens_and_downward_raises_the_level():
    assert dragged_window(START, 10, 0) == Window(level=50, width=310)
    assert dragged_window(START, 0, 10) == Window(level=60, width=300)


def test_the_window_never_collapses():
    assert dragged_window(START, -10_000, 0).width > 0


def _drag(viewer, button, modifiers=()):
    """Press at (100, 100), move to (130, 90), release."""
    event = SimpleNamespace(
        type="mouse_press", button=button, modifiers=modifiers, pos=np.array([100, 100])
    )
    drags = [callback(viewer, event) for callback in viewer.mouse_drag_callbacks]
    for drag in drags:
        next(drag, None)
    panned = viewer.scene.camera.mouse_pan
    event.type, event.pos = "mouse_move", np.array([130, 90])
    for drag in drags:
        next(drag, None)
    event.type = "mouse_release"
    for drag in drags:
        next(drag, None)
    return panned


@pytest.fixture
def viewer() -> ViewerModel:
    viewer = ViewerModel()
    enable_window_drag(viewer)
    add_volume(viewer, Volume(np.zeros((3, 4, 5), np.int16), (1.0, 1.0, 1.0)), START)
    return viewer


@pytest.mark.parametrize(("button", "modifiers"), [(2, ()), (1, ("Shift",))])
def test_a_drag_sets_the_window_and_the_canvas_stays(viewer, button, modifiers):
    panned = _drag(viewer, button, modifiers)
    low, high = viewer.layers[0].contrast_limits
    assert Window.from_limits(low, high) == Window(level=40, width=330)
    assert not panned
    assert viewer.scene.camera.mouse_pan
    assert viewer.scene.camera.mouse_zoom


def test_a_plain_left_drag_is_left_to_napari(viewer):
    assert _drag(viewer, 1)
    assert tuple(viewer.layers[0].contrast_limits) == START.limits


def test_enabling_twice_does_not_drag_twice(viewer):
    enable_window_drag(viewer)
    _drag(viewer, 2)
    low, high = viewer.layers[0].contrast_limits
    assert high - low == pytest.approx(330)
