"""What the controllers of the X-ray panel share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

from qtpy.QtCore import QObject, Qt, QTimer, Signal
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

from napari_cxr3d.imaging import Volume
from napari_cxr3d.jobs import job_runner
from napari_cxr3d.viewer.layers import volume_of_layer
from napari_cxr3d.viewer.xray_canvas import XrayCanvas
from napari_cxr3d.widgets.xray.live import Frame, LiveRadiograph
from napari_cxr3d.widgets.xray.rendering import DrrRenderer

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Image

    from napari_cxr3d.widgets.xray.widget import XrayPanel

__all__ = ["XraySession", "image_layers"]

CANVAS_TITLE = "X-ray view"
# A window keeps a dock's new width only once its layout has settled, some events later.
_RESIZES, _RESIZE_MS = 12, 100
_CLOSE_ENOUGH = 30  # pixels


def image_layers(viewer: Viewer) -> list[Image]:
    """The viewer's image layers themselves, the topmost first.

    Plugins are handed proxies; a weak reference must hold on to the layer behind one.
    """
    from napari.layers import Image

    layers = (getattr(layer, "__wrapped__", layer) for layer in reversed(viewer.layers))
    return [layer for layer in layers if isinstance(layer, Image)]


class XraySession(QObject):
    """The CT that is projected, the frames that came of it, and where they are shown.

    The CT is held weakly: deleting its layer frees its memory.

    Signals
    -------
    frame_changed
        With the newest `Frame`; None when there is none any more.
    canvas_opened
        With the new `XrayCanvas`.
    state_changed
        Something that decides which buttons can be used is different.
    """

    frame_changed = Signal(object)
    canvas_opened = Signal(object)
    state_changed = Signal()

    def __init__(self, viewer: Viewer, panel: XrayPanel) -> None:
        super().__init__()
        self.viewer, self.panel = viewer, panel
        self.runner = job_runner()
        self.renderer = DrrRenderer()
        self.live = LiveRadiograph(self.runner, self.renderer)
        self.frame: Frame | None = None
        self.full: Frame | None = None
        self.canvas: XrayCanvas | None = None
        self.canvas_wanted = True
        self._arranged = QTimer(self)
        self._arranged.setSingleShot(True)
        self._arranged.setInterval(_RESIZE_MS)
        self._resizes_left = 0
        self._arranged.timeout.connect(self._share_width)
        self._layer: ref[Image] | None = None
        self._volumes: WeakKeyDictionary[Image, Volume] = WeakKeyDictionary()
        self.live.frame_ready.connect(self._keep)
        self.live.failed.connect(self.report)

    @property
    def layer(self) -> Image | None:
        """The CT's layer; None when none is chosen or it was deleted."""
        return None if self._layer is None else self._layer()

    def choose(self, layer: Image | None) -> None:
        """Project this layer from now on."""
        self._layer = None if layer is None else ref(layer)
        self.frame = self.full = None
        self.frame_changed.emit(None)
        self.state_changed.emit()

    def volume(self) -> Volume | None:
        """The CT of the chosen layer.

        Raises
        ------
        InvalidInputError
            If its voxels cannot be used.
        """
        layer = self.layer
        if layer is None:
            return None
        if layer not in self._volumes:
            volume = volume_of_layer(layer)
            if volume is None:
                return None
            self._volumes[layer] = volume
        return self._volumes[layer]

    def forget_volume(self) -> None:
        """The layer's voxels or place changed: read them anew."""
        layer = self.layer
        if layer is not None:
            self._volumes.pop(layer, None)

    def report(self, error: Exception) -> None:
        """Say on the status line what went wrong."""
        self.panel.status.show_error(error)

    def open_canvas(self) -> XrayCanvas:
        """The X-ray view, docked beside the main canvas."""
        if self.canvas is None:
            self.canvas = XrayCanvas()
            self.canvas.removed.connect(self._on_canvas_removed)
            self.viewer.window.add_dock_widget(
                self.canvas, name=CANVAS_TITLE, area="right", add_vertical_stretch=False
            )
            self._arrange(self.canvas)
            self.panel.watch_window()
            self.canvas_wanted = True
            self.canvas_opened.emit(self.canvas)
            self.state_changed.emit()
        return self.canvas

    def close(self) -> None:
        """Stop everything, release the canvas and take its dock out of the window."""
        self._arranged.stop()
        self.live.close()
        self.runner.cancel_all(self)
        self.frame = self.full = None
        self._layer = None
        self._volumes.clear()
        canvas, self.canvas = self.canvas, None
        if canvas is not None:
            canvas.release()
            dock = _dock_of(canvas)
            if dock is not None:
                self.viewer.window.remove_dock_widget(canvas)
            canvas.deleteLater()

    def _keep(self, frame: Frame) -> None:
        self.frame = frame
        had_full, self.full = self.full is not None, frame if frame.stage == "full" else None
        self.frame_changed.emit(frame)
        if had_full != (self.full is not None):
            self.state_changed.emit()

    def _on_canvas_removed(self) -> None:
        canvas, self.canvas = self.canvas, None
        self.canvas_wanted = False
        if canvas is not None:
            canvas.deleteLater()
        self.state_changed.emit()

    def _arrange(self, canvas: XrayCanvas) -> None:
        """Put the X-ray view between the main canvas and the panel."""
        window, canvas_dock, panel_dock = canvas.window(), _dock_of(canvas), _dock_of(self.panel)
        if not isinstance(window, QMainWindow) or canvas_dock is None:
            return
        if panel_dock is not None and panel_dock.window() is window:
            animated = window.isAnimated()
            window.setAnimated(False)  # an animation would end in the sizes it began with
            window.splitDockWidget(canvas_dock, panel_dock, Qt.Orientation.Horizontal)
            window.setAnimated(animated)
        self._resizes_left = _RESIZES
        self._arranged.start()

    def _share_width(self) -> None:
        """Give the X-ray view as much width as the main canvas, and the panel what it needs."""
        canvas = self.canvas
        if canvas is None:
            return
        window, canvas_dock, panel_dock = canvas.window(), _dock_of(canvas), _dock_of(self.panel)
        if not isinstance(window, QMainWindow) or canvas_dock is None:
            return
        center = window.centralWidget()
        spare = window.width() - (0 if center is None else center.x())
        docks, widths = [canvas_dock], []
        if panel_dock is not None and panel_dock.window() is window:
            docks.append(panel_dock)
            widths.append(panel_dock.minimumSizeHint().width())
        widths.insert(0, (spare - sum(widths)) // 2)
        settled = abs(canvas_dock.width() - widths[0]) <= _CLOSE_ENOUGH
        self._resizes_left -= 1
        if self._resizes_left > 0 and not settled:
            window.resizeDocks(docks, widths, Qt.Orientation.Horizontal)
            self._arranged.start()
        canvas.fit()


def _dock_of(widget: QWidget) -> QDockWidget | None:
    parent: Any = widget.parent()
    while parent is not None and not isinstance(parent, QDockWidget):
        parent = parent.parent()
    return parent
