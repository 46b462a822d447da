"""Making a viewer ready for chest images; everything in it is safe to repeat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_cxr3d.viewer.layers import configure_layer
from napari_cxr3d.viewer.overlays import mark_canvas
from napari_cxr3d.viewer.window_level import enable_window_drag

if TYPE_CHECKING:
    from napari.components import ViewerModel

__all__ = ["attach"]


def attach(viewer: ViewerModel) -> None:
    """Marks on the canvas, window by mouse, and our layers' settings, on one viewer.

    Panels and the reader call it; the first call does the work.
    """
    if mark_canvas(viewer) is None:
        return
    enable_window_drag(viewer)
    for layer in viewer.layers:
        configure_layer(layer)
    viewer.layers.events.inserted.connect(_configure_inserted)


def _configure_inserted(event: Any) -> None:
    configure_layer(event.value)
