"""What the canvas says about the picture: letters, window, value, scale, SYNTHETIC.

All of it is drawn by napari on the canvas itself, so that it stands in screenshots too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cxr3d.imaging import Window, world_to_lps
from napari_cxr3d.viewer.layers import is_synthetic, kind_of_layer, volume_refusal
from napari_cxr3d.viewer.orientation import canvas_letters, reference_layer
from napari_cxr3d.viewer.preferences import shows_cursor_readout

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

__all__ = ["CanvasMarks", "mark_canvas", "readout", "set_caption"]

_PREFIX = "napari_cxr3d_"
_SYNTHETIC_COLOR = "#ffb000"  # told from grey anatomy, by the colour-blind too
_POSITIONS = {
    "top": "top_center",
    "bottom": "bottom_center",
    "left": "middle_left",
    "right": "middle_right",
    "synthetic": "top_left",
    "caption": "top_left",
    "window": "top_right",
    "readout": "bottom_left",
}
_FONT_SIZES = {"top": 15, "bottom": 15, "left": 15, "right": 15, "synthetic": 13}
_FONT_SIZE = 11


def mark_canvas(viewer: ViewerModel) -> CanvasMarks | None:
    """Put the marks on a viewer's canvas; None if it has them already.

    The viewer keeps the marks alive; nothing needs to hold the returned object.
    """
    if _PREFIX + "top" in viewer.canvas.overlays:
        return None
    return CanvasMarks(viewer)


def set_caption(viewer: ViewerModel, text: str, *, box: bool = True) -> None:
    """A line of text at the top left of a marked canvas; ``""`` takes it away.

    napari compiles a shader for the box behind the text whenever the text changes: a
    caption that changes with every frame of a drag does without.
    """
    mark_canvas(viewer)
    viewer.canvas.overlays[_PREFIX + "caption"].box = box
    _show(viewer, "caption", text)


def _show(viewer: ViewerModel, name: str, text: str) -> None:
    overlay = viewer.canvas.overlays[_PREFIX + name]
    if text and overlay.text != text:
        overlay.text = text
    if overlay.visible != bool(text):
        overlay.visible = bool(text)


def readout(layer: Layer, position: tuple[float, ...]) -> str:
    """Value and place under the cursor, as ``"HU -612 · LPS (12.3, -40.1, 110.0) mm"``.

    Parameters
    ----------
    layer : Layer
        A CT or a radiograph.
    position : tuple of float
        napari world coordinates of the cursor.

    Returns
    -------
    str
        ``""`` outside the image.
    """
    index = tuple(round(float(v)) for v in layer.world_to_data(position))
    data = layer.data
    if any(not 0 <= k < n for k, n in zip(index, data.shape, strict=True)):
        return ""
    value = float(data[index])
    uncertainty = kind_of_layer(layer) == "uncertainty"
    if uncertainty or not volume_refusal(layer):
        x, y, z = np.round(world_to_lps(position[-3:]), 1) + 0.0  # no "-0.0"
        shown = f"SD {value:.0f} HU" if uncertainty else f"HU {value:.0f}"
        return f"{shown} · LPS ({x:.1f}, {y:.1f}, {z:.1f}) mm"
    row, column = index[-2:]
    return f"value {value:.4g} · row {row}, column {column}"


class CanvasMarks:
    """Keeps the marks on one viewer's canvas true to what the canvas shows."""

    def __init__(self, viewer: ViewerModel) -> None:
        from napari.components.overlays import TextOverlay

        self._viewer = viewer
        self._windowed: Layer | None = None
        for name, position in _POSITIONS.items():
            viewer.canvas.overlays[_PREFIX + name] = TextOverlay(
                position=position,
                font_size=_FONT_SIZES.get(name, _FONT_SIZE),
                color=_SYNTHETIC_COLOR if name == "synthetic" else None,
            )
        viewer.canvas.overlays.scale_bar.visible = True
        viewer.canvas.overlay_tiling.top_left = "vertical"
        self._connect()
        self.refresh()

    def _connect(self) -> None:
        viewer = self._viewer
        dims, camera, layers = viewer.dims.events, viewer.scene.camera.events, viewer.layers.events
        for event in (dims.order, dims.ndisplay, dims.ndim, camera.angles, camera.orientation):
            event.connect(self._refresh_letters)
        dims.current_step.connect(self._refresh_letters)
        layers.inserted.connect(self._on_inserted)
        for event in (layers.removed, layers.reordered):
            event.connect(self.refresh)
        for layer in viewer.layers:
            layer.events.visible.connect(self.refresh)
        # napari holds methods connected to its events weakly, but the callbacks in this
        # list strongly: it is what keeps this object alive as long as the viewer.
        viewer.mouse_move_callbacks.append(self._on_mouse_move)

    def refresh(self, event: Any = None) -> None:
        """Bring every mark up to date."""
        shown = [layer for layer in self._viewer.layers if layer.visible]
        synthetic = any(is_synthetic(layer) for layer in shown)
        _show(self._viewer, "synthetic", "SYNTHETIC\nnot for diagnosis" if synthetic else "")
        self._refresh_letters()
        self._refresh_window()

    def _refresh_letters(self, event: Any = None) -> None:
        letters = canvas_letters(self._viewer)
        for edge in ("top", "bottom", "left", "right"):
            _show(self._viewer, edge, getattr(letters, edge))

    def _refresh_window(self, event: Any = None) -> None:
        layer = reference_layer(self._viewer)
        if layer is not self._windowed:
            if self._windowed is not None:
                self._windowed.events.contrast_limits.disconnect(self._refresh_window)
            if layer is not None:
                layer.events.contrast_limits.connect(self._refresh_window)
            self._windowed = layer
        if layer is None:
            _show(self._viewer, "window", "")
            return
        window = Window.from_limits(*(float(v) for v in layer.contrast_limits))
        _show(self._viewer, "window", window_text(window, layer))

    def _on_inserted(self, event: Any) -> None:
        event.value.events.visible.connect(self.refresh)
        self.refresh()

    def _on_mouse_move(self, viewer: ViewerModel, event: Any) -> None:
        layer = reference_layer(self._viewer)
        flat = self._viewer.dims.ndisplay == 2
        text = ""
        if layer is not None and flat and shows_cursor_readout():
            text = readout(layer, tuple(np.asarray(event.position, dtype=float)))
        _show(self._viewer, "readout", text)


def window_text(window: Window, layer: Layer) -> str:
    """A window as radiology workstations write it: ``"W 350 L 50"``.

    Empty for a projection that is shown over its whole range from 0 to 1: its own window
    was applied when it was developed.
    """
    if kind_of_layer(layer) == "drr" and window.limits == (0.0, 1.0):
        return ""
    if kind_of_layer(layer) == "ct" or window.width >= 10:
        return f"W {window.width:.0f} L {window.level:.0f}"
    return f"W {window.width:.3g} L {window.level:.3g}"
