"""Setting the display window with the mouse, as on a radiology workstation."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from napari_cxr3d.imaging import Window
from napari_cxr3d.viewer.layers import set_window
from napari_cxr3d.viewer.orientation import reference_layer

if TYPE_CHECKING:
    from napari.components import ViewerModel

__all__ = ["dragged_window", "enable_window_drag"]

_RIGHT_BUTTON, _LEFT_BUTTON = 2, 1  # as vispy numbers them
_WIDTHS_PER_PIXEL = 1 / 300
_LEAST_WIDTH_RATIO = 0.01


def enable_window_drag(viewer: ViewerModel) -> None:
    """Let a drag with the right button, or Shift and the left, set the window.

    Rightward widens it, downward raises its level. It acts on the layer that the canvas
    letters refer to. Safe to repeat.
    """
    if _drag_window not in viewer.mouse_drag_callbacks:
        viewer.mouse_drag_callbacks.append(_drag_window)


def dragged_window(start: Window, right: float, down: float) -> Window:
    """The window after a drag by so many canvas pixels."""
    step = start.width * _WIDTHS_PER_PIXEL
    width = max(start.width + right * step, start.width * _LEAST_WIDTH_RATIO)
    return Window(level=start.level + down * step, width=width)


def _drag_window(viewer: ViewerModel, event: Any) -> Generator[None, None, None]:
    shift_left = event.button == _LEFT_BUTTON and "Shift" in event.modifiers
    layer = reference_layer(viewer)
    if layer is None or not (event.button == _RIGHT_BUTTON or shift_left):
        return
    start = Window.from_limits(*(float(v) for v in layer.contrast_limits))
    x0, y0 = event.pos
    camera = viewer.scene.camera
    could_pan, could_zoom = camera.mouse_pan, camera.mouse_zoom
    camera.mouse_pan = camera.mouse_zoom = False  # or the canvas would zoom along
    yield
    try:
        while event.type == "mouse_move":
            x, y = event.pos
            set_window(layer, dragged_window(start, float(x - x0), float(y - y0)))
            yield
    finally:
        camera.mouse_pan, camera.mouse_zoom = could_pan, could_zoom
