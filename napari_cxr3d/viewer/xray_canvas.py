"""The linked second viewer that shows the radiograph.

It is a napari viewer of its own, because a radiograph lives in the detector plane and a
CT in the patient: in one viewer their axes would be taken for each other, and stepping
through a sweep would step through the CT.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QEvent, QTimer, Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_cxr3d.imaging import XrayView
from napari_cxr3d.viewer.layers import METADATA_KEY, LayerRecord
from napari_cxr3d.viewer.overlays import mark_canvas, set_caption
from napari_cxr3d.viewer.window_level import enable_window_drag

if TYPE_CHECKING:
    from napari.layers import Image

__all__ = ["XrayCanvas", "view_caption"]

Picture = npt.NDArray[np.float32]

LIVE_NAME = "SYNTHETIC DRR"
CXR_NAME = "CXR"
_Grid = tuple[tuple[int, int], float]
_GAP_MM = 10.0  # between the pictures side by side
_KEYS = {
    "Left": (-1.0, 0.0),
    "Right": (1.0, 0.0),
    "Up": (0.0, 1.0),
    "Down": (0.0, -1.0),
    "Shift-Left": (-10.0, 0.0),
    "Shift-Right": (10.0, 0.0),
    "Shift-Up": (0.0, 10.0),
    "Shift-Down": (0.0, -10.0),
}


def view_caption(view: XrayView) -> str:
    """What the canvas writes about an exposure, in two short lines."""
    angles = f"DRR · yaw {view.yaw:.4g}° pitch {view.pitch:.4g}° roll {view.roll:.4g}°"
    mirrored = " · mirrored" if view.flip_columns else ""
    return f"{angles}\nSDD {view.source_to_detector_mm:g} mm{mirrored}"


def _settings(view: XrayView) -> dict[str, Any]:
    """Scale and place of a picture in the detector plane, its centre at the origin, in mm."""
    pixel = view.pixel_mm
    return {
        "scale": (pixel, pixel),
        "translate": tuple(-(n - 1) / 2 * pixel for n in view.detector_shape),
        "units": ("mm", "mm"),
        "axis_labels": ("row", "column"),
        "colormap": "gray",
        "contrast_limits": (0.0, 1.0),
        "interpolation2d": "linear",
    }


@dataclass(frozen=True, eq=False)
class Sweep:
    """A run of radiographs along one angle.

    Attributes
    ----------
    pictures : ndarray of float32, shape (views, rows, columns)
        Display pictures, 0 to 1.
    views : tuple of XrayView
        Their geometries, evenly spaced along `axis`.
    axis : str
        The angle that runs: ``"yaw"``, ``"pitch"`` or ``"roll"``.
    derivation : dict
        `Provenance.to_dict` of the work that made it.
    """

    pictures: Picture
    views: tuple[XrayView, ...]
    axis: str
    derivation: dict[str, Any]

    @property
    def step_deg(self) -> float:
        """Angle between neighbours in degrees; 1 for a single view."""
        if len(self.views) < 2:
            return 1.0
        return float(getattr(self.views[1], self.axis) - getattr(self.views[0], self.axis))

    def layer_settings(self) -> dict[str, Any]:
        """How napari shows it: (angle, row, column) in degrees and mm."""
        flat = _settings(self.views[0])
        start = float(getattr(self.views[0], self.axis))
        record = LayerRecord(
            kind="drr",
            geometry={"views": [view.to_dict() for view in self.views], "sweep": self.axis},
            derivation=self.derivation,
            synthetic=True,
        )
        return {
            **flat,
            "name": f"SYNTHETIC DRR · {self.axis} {start:g}° to "
            f"{getattr(self.views[-1], self.axis):g}°",
            "scale": (self.step_deg, *flat["scale"]),
            "translate": (start, *flat["translate"]),
            "units": ("deg", "mm", "mm"),
            "axis_labels": (self.axis, "row", "column"),
            "metadata": {METADATA_KEY: record.to_dict()},
        }


class XrayCanvas(QWidget):
    """A napari viewer for one radiograph that follows the source, or for a sweep.

    Dragging on the picture and the arrow keys turn the source: the canvas only says so,
    the panel acts on it.
    """

    dragged = Signal(float, float)
    """Pixels right and down that the mouse moved with its left button held."""
    stepped = Signal(float, float)
    """Degrees of yaw and pitch that a key asked for."""
    removed = Signal()
    """The user took the canvas out of the window."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        from napari.components import ViewerModel
        from napari.qt import QtViewer

        self.model = ViewerModel(title="X-ray view")
        self._qt_viewer = QtViewer(self.model)
        self._qt_viewer.setAcceptDrops(False)  # files belong in the main viewer
        self._live: dict[_Grid, Image] = {}  # the preview's and the full picture's
        self._shown: Image | None = None
        self._sweep_layer: Image | None = None
        self._sweep: Sweep | None = None
        self._cxr: Image | None = None
        self._field_mm = (0.0, 0.0)
        self._fitting = QTimer(self)
        self._fitting.setSingleShot(True)
        self._fitting.timeout.connect(self._reset_view)
        self._docked = self._closed = False
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._qt_viewer)
        self.setMinimumSize(240, 240)
        self._marks = mark_canvas(self.model)
        enable_window_drag(self.model)
        self.model.mouse_drag_callbacks.append(self._on_drag)
        for key, (yaw, pitch) in _KEYS.items():
            self.model.bind_key(key, self._stepper(yaw, pitch))
        self.model.dims.events.current_step.connect(self._caption_sweep)

    @property
    def live_layer(self) -> Image | None:
        """The layer of the radiograph that follows the source."""
        return self._shown

    @property
    def sweep(self) -> Sweep | None:
        """The sweep that is shown or was shown last."""
        return self._sweep

    @property
    def shows_sweep(self) -> bool:
        """Whether a sweep is shown instead of the live radiograph."""
        return self._sweep_layer is not None

    def show_live(self, picture: Picture, view: XrayView) -> None:
        """Show a radiograph.

        Parameters
        ----------
        picture : ndarray of float32, shape (rows, columns)
            Display picture, 0 to 1, of the view's whole detector.
        view : XrayView
            Its geometry.
        """
        self._remove_sweep()
        grid = (view.detector_shape, view.pixel_mm)
        layer = self._live.get(grid)
        if layer is None:
            layer = self._live[grid] = self._new_layer(picture, LIVE_NAME, _settings(view))
        else:
            # In place: napari's data setter would rebuild extents and sliders every frame.
            np.copyto(layer.data, picture)
            layer.refresh(thumbnail=False, highlight=False, extent=False)
        record = LayerRecord(kind="drr", geometry={"view": view.to_dict()}, synthetic=True)
        layer.metadata[METADATA_KEY] = record.to_dict()
        self._bring_forward(layer)
        self._fit(view)
        self._caption(view)

    def show_sweep(self, sweep: Sweep) -> None:
        """Show a run of radiographs to scrub and play; the live one steps aside."""
        self._remove_sweep()
        self._sweep = sweep
        self.show_cxr(None)
        for layer in self._live.values():
            layer.visible = False
        self._sweep_layer = self.model.add_image(sweep.pictures, **sweep.layer_settings())
        self.model.dims.set_current_step(0, 0)
        self._caption_sweep()

    def show_cxr(self, picture: Picture | None, view: XrayView | None = None) -> None:
        """Show a radiograph on a detector grid, to the right; None takes it away."""
        if self._cxr is not None:
            self.model.layers.remove(self._cxr)
            self._cxr = None
            self.model.reset_view()
        if picture is None or view is None:
            return
        settings = _settings(view)
        top, left = settings["translate"]
        width = view.detector_shape[1] * view.pixel_mm
        settings["translate"] = (top, left + width + _GAP_MM)
        self._cxr = self._new_layer(np.nan_to_num(picture), CXR_NAME, settings)
        self.model.reset_view()

    def fit(self) -> None:
        """Fit the canvas to what it shows, once its new size is known."""
        self._fitting.start()

    def _reset_view(self) -> None:
        if not self._closed and self.model.layers:
            self.model.reset_view()

    def clear(self) -> None:
        """Show nothing."""
        self._remove_sweep()
        self._live.clear()
        self._shown = self._sweep = self._cxr = None
        self.model.layers.clear()
        set_caption(self.model, "")

    def release(self) -> None:
        """Stop playing, drop the pictures and give the OpenGL canvas back; safe to repeat."""
        if self._closed:
            return
        self._closed = True
        self._fitting.stop()
        self.model.dims.events.current_step.disconnect(self._caption_sweep)
        self.clear()
        self._qt_viewer.close()

    def event(self, event: QEvent | None) -> bool:
        """Notice that the dock was closed: napari then leaves its content without a parent."""
        handled = bool(super().event(event))
        if event is not None and event.type() == QEvent.Type.ParentChange:
            if self.parent() is not None:
                self._docked = True
            elif self._docked and not self._closed:
                self.release()
                self.removed.emit()
        return handled

    def _new_layer(self, picture: Picture, name: str, settings: dict[str, Any]) -> Image:
        layer = self.model.add_image(picture.copy(), name=name, **settings)
        layer.contrast_limits_range = (0.0, 1.0)
        layer.mouse_pan = False  # the mouse turns the source
        return layer

    def _bring_forward(self, layer: Image) -> None:
        """Show one of the live layers, through the window of the one that was shown."""
        if layer is self._shown:
            return
        previous, self._shown = self._shown, layer
        if previous is not None:
            layer.contrast_limits = previous.contrast_limits
        layer.visible = True
        for grid, other in list(self._live.items()):
            if other is layer:
                continue
            other.visible = False
            if other is not previous:  # of a detector that is no longer set
                self.model.layers.remove(other)
                del self._live[grid]

    def _fit(self, view: XrayView) -> None:
        """Fit the canvas to the field, when another field than before is shown."""
        rows, cols = view.detector_shape
        field = (rows * view.pixel_mm, cols * view.pixel_mm)
        if any(abs(a - b) > 0.03 * a for a, b in zip(field, self._field_mm, strict=True)):
            self._field_mm = field
            self.model.reset_view()

    def _remove_sweep(self) -> None:
        if self._sweep_layer is None:
            return
        self._qt_viewer.dims.stop()
        self.model.layers.remove(self._sweep_layer)
        self._sweep_layer = None
        if self._shown is not None:
            self._shown.visible = True

    def _caption_sweep(self) -> None:
        if self._sweep_layer is None or self._sweep is None:
            return
        step = min(self.model.dims.current_step[0], len(self._sweep.views) - 1)
        self._caption(self._sweep.views[step])

    def _caption(self, view: XrayView) -> None:
        set_caption(self.model, view_caption(view), box=False)
        if self._marks is not None:
            self._marks.refresh()

    def _on_drag(self, model: Any, event: Any) -> Iterator[None]:
        if event.button != 1 or event.modifiers or self.shows_sweep:
            return
        last = np.array(event.pos, dtype=float)
        yield
        while event.type == "mouse_move":
            now = np.array(event.pos, dtype=float)
            self.dragged.emit(float(now[0] - last[0]), float(now[1] - last[1]))
            last = now
            yield

    def _stepper(self, yaw: float, pitch: float) -> Callable[[Any], None]:
        def step(model: Any) -> None:
            if self.shows_sweep:
                forward = yaw if yaw else pitch
                current = self.model.dims.current_step[0]
                self.model.dims.set_current_step(0, current + int(forward))
            else:
                self.stepped.emit(yaw, pitch)

        return step
