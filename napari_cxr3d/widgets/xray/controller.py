"""What the X-ray panel does: it follows the source and keeps the views in step."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

from napari_cxr3d.errors import Cxr3dError
from napari_cxr3d.imaging import XrayView
from napari_cxr3d.viewer.attach import attach
from napari_cxr3d.viewer.layers import volume_refusal
from napari_cxr3d.viewer.xray_canvas import XrayCanvas
from napari_cxr3d.viewer.xray_geometry import LAYER_PREFIX, XrayGeometryLayers, angles_of_camera
from napari_cxr3d.widgets.xray.comparing import CompareController
from napari_cxr3d.widgets.xray.live import Frame, Scene
from napari_cxr3d.widgets.xray.output import OutputController
from napari_cxr3d.widgets.xray.rendering import Look, ProjectionSettings
from napari_cxr3d.widgets.xray.session import XraySession, image_layers
from napari_cxr3d.widgets.xray.sweeping import SweepController

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Image

    from napari_cxr3d.widgets.xray.widget import XrayPanel

__all__ = ["XrayController", "camera_view", "turned_view"]

_DEGREES_PER_PIXEL = 0.4
_GEOMETRY_MS = 40
_NO_CT = "Open a CT in the Study panel, or drop its file on the viewer."
_FLAT = "The viewer shows a slice: switch it to 3D first."


def turned_view(view: XrayView, right: float, down: float) -> XrayView:
    """The view after a drag on the picture by so many pixels.

    What is nearest to the reader follows the hand: a drag to the right turns the patient's
    near side to the right, a drag down tips the head toward the reader.
    """
    tilt = 1.0 if view.flip_columns else -1.0
    return _within_range(
        view,
        view.yaw - right * _DEGREES_PER_PIXEL,
        view.pitch + tilt * down * _DEGREES_PER_PIXEL,
    )


def camera_view(view: XrayView, yaw: float, pitch: float) -> XrayView:
    """The view from the 3D camera, mirrored where the tube stands before the patient.

    Seen from in front, the patient's left is on the reader's right, and the picture keeps
    it there.
    """
    turned = replace(_within_range(view, yaw, pitch), roll=0.0)
    return replace(turned, flip_columns=bool(turned.toward_source[1] < 0))


def _within_range(view: XrayView, yaw: float, pitch: float) -> XrayView:
    """The view at these angles, to a tenth of a degree: yaw in (-180, 180], pitch in [-90, 90]."""
    return replace(
        view,
        yaw=180.0 - (180.0 - round(yaw, 1)) % 360.0,
        pitch=max(-90.0, min(90.0, round(pitch, 1) + 0.0)),  # no -0.0
    )


class XrayController:
    """Connects the X-ray panel with the live radiograph, the canvas and the viewer."""

    def __init__(self, viewer: Viewer, panel: XrayPanel) -> None:
        self._viewer, self._panel = viewer, panel
        self.session = session = XraySession(viewer, panel)
        self.geometry = XrayGeometryLayers(viewer)
        self.sweeping = SweepController(session, panel.sweep_form)
        self.comparing = CompareController(session, panel.compare_form)
        self.output = OutputController(session, panel.output_form)
        self._closed = False
        self._watched: Image | None = None
        self._geometry_timer = QTimer(session)
        self._geometry_timer.setSingleShot(True)
        self._geometry_timer.setInterval(_GEOMETRY_MS)
        self._geometry_timer.timeout.connect(self._draw_geometry)
        self._layers_timer = QTimer(session)
        self._layers_timer.setSingleShot(True)
        self._layers_timer.timeout.connect(self.refresh)
        self._canvas_timer = QTimer(session)
        self._canvas_timer.setSingleShot(True)
        self._canvas_timer.timeout.connect(self._open_canvas_early)
        self._connect()
        attach(viewer)
        self._check_backends()
        session.runner.submit(
            session.renderer.warm_up, background=True, owner=session, on_error=session.report
        )
        self.refresh()
        self._follow_display()

    def _connect(self) -> None:
        panel, session = self._panel, self.session
        form = panel.geometry_form
        form.changed.connect(self._on_view)
        form.rejected.connect(session.report)
        form.camera_requested.connect(self.use_camera)
        panel.picture_form.projection_changed.connect(self._on_projection)
        panel.picture_form.look_changed.connect(session.live.set_look)
        panel.ct_chosen.connect(self.choose)
        panel.geometry_toggled.connect(self._on_geometry_toggled)
        panel.canvas_requested.connect(self.show_canvas)
        panel.docked.connect(self._canvas_timer.start)
        panel.window_closing.connect(self._on_window_closing)
        panel.detached.connect(self.close)
        panel.destroyed.connect(partial(_let_go, self))
        session.frame_changed.connect(self._show_frame)
        session.canvas_opened.connect(self._on_canvas_opened)
        session.state_changed.connect(self._on_state)
        layers = self._viewer.layers.events
        self._layer_events = (layers.inserted, layers.removed, layers.reordered, layers.renamed)
        for event in self._layer_events:
            event.connect(self._on_layers)
        self._viewer.dims.events.ndisplay.connect(self._follow_display)

    # The CT

    def choose(self, name: str) -> None:
        """Project the CT layer of this name."""
        layer = next((one for one in image_layers(self._viewer) if one.name == name), None)
        if layer is not self.session.layer:
            self._watch(layer)
            self.session.choose(layer)
            self._project()
            self._schedule_geometry()

    def refresh(self) -> None:
        """Bring the choice of CTs up to date with the viewer's layers."""
        if self._closed:
            return
        images = image_layers(self._viewer)
        usable = [layer for layer in images if not volume_refusal(layer)]
        chosen = self.session.layer
        if chosen not in usable:
            chosen = usable[0] if usable else None
        refused = [volume_refusal(layer) for layer in images if layer.ndim == 3]
        reason = "" if usable else (refused[0] if refused else _NO_CT)
        name = "" if chosen is None else chosen.name
        self._panel.show_cts([layer.name for layer in usable], name, reason)
        if chosen is not self.session.layer:
            self.choose(name)
        if reason:
            self._clear(reason)
        self.comparing.refresh()
        self.session.state_changed.emit()

    def _clear(self, reason: str) -> None:
        self.session.live.set_scene(None)
        if self.session.canvas is not None:
            self.session.canvas.clear()
        self.geometry.hide()
        self._panel.status.show_info(reason)

    def _project(self) -> None:
        """Start over with the CT as it is now."""
        session = self.session
        try:
            volume = session.volume()
        except Cxr3dError as error:
            session.live.set_scene(None)
            session.report(error)
            return
        if volume is None:
            session.live.set_scene(None)
            return
        self._panel.status.show_info("Preparing the CT for projection…")
        session.live.set_scene(Scene(volume, self._panel.picture_form.projection()))
        session.live.set_look(self._panel.picture_form.look())
        session.live.show(self._panel.geometry_form.view)

    def _watch(self, layer: Image | None) -> None:
        for one, method in ((self._watched, "disconnect"), (layer, "connect")):
            if one is not None:
                for event in (one.events.data, one.events.scale, one.events.translate):
                    getattr(event, method)(self._on_layer_edited)
        self._watched = layer

    def _on_layer_edited(self) -> None:
        self.session.forget_volume()
        self._project()
        self._schedule_geometry()

    def _on_layers(self, event: Any = None) -> None:
        """Follow the layers; a deleted CT is let go at once, the rest waits a moment."""
        ours = LAYER_PREFIX + "focal spot", LAYER_PREFIX + "beam"
        if getattr(getattr(event, "value", None), "name", "") in ours:
            return
        layer = self.session.layer
        if layer is not None and layer not in image_layers(self._viewer):
            self._watch(None)
            self.session.choose(None)
            self.session.live.set_scene(None)
            self.sweeping.forget()
        self._layers_timer.start()

    # The source

    def use_camera(self) -> None:
        """Put the tube where the 3D camera stands."""
        try:
            yaw, pitch = angles_of_camera(self._viewer)
        except Cxr3dError as error:
            self.session.report(error)
            return
        form = self._panel.geometry_form
        form.set_view(camera_view(form.view, yaw, pitch))

    def _on_view(self, view: XrayView) -> None:
        if self._panel.status.text:  # restyling it costs as much as showing a frame
            self._panel.status.clear()
        self.session.live.show(view)
        self._schedule_geometry()

    def _on_projection(self, settings: ProjectionSettings) -> None:
        session = self.session
        if session.live.scene is not None:
            session.live.set_scene(Scene(session.live.scene.volume, settings))
            session.live.show(self._panel.geometry_form.view)

    def _on_dragged(self, right: float, down: float) -> None:
        form = self._panel.geometry_form
        form.set_view(turned_view(form.view, right, down))

    def _on_stepped(self, yaw: float, pitch: float) -> None:
        form = self._panel.geometry_form
        form.set_view(_within_range(form.view, form.view.yaw + yaw, form.view.pitch + pitch))

    # What is shown

    def show_canvas(self) -> None:
        """Open the X-ray view again."""
        self.session.open_canvas()
        if self.session.frame is not None:
            self._show_frame(self.session.frame)

    def _show_frame(self, frame: Frame | None) -> None:
        session = self.session
        if frame is not None and (session.canvas is not None or session.canvas_wanted):
            session.open_canvas().show_live(self.comparing.compose(frame), frame.view)
        if frame is not None and frame.stage == "full":
            look = session.live.look
            assert isinstance(look, Look)
            self._panel.picture_form.show_window(look.window)
            if self._panel.status.text.startswith("Preparing"):
                self._panel.status.clear()

    def _open_canvas_early(self) -> None:
        """Make the canvas before the first picture, which would wait a second for it."""
        if self.session.canvas_wanted:
            self.session.open_canvas()

    def _on_canvas_opened(self, canvas: XrayCanvas) -> None:
        canvas.dragged.connect(self._on_dragged)
        canvas.stepped.connect(self._on_stepped)

    def _on_state(self) -> None:
        lost = self.session.canvas is None and not self.session.canvas_wanted
        self._panel.show_canvas_button(lost)

    def _on_geometry_toggled(self, shown: bool) -> None:
        if shown:
            self._draw_geometry()
        else:
            self.geometry.hide()

    def _schedule_geometry(self) -> None:
        if self._panel.shows_geometry and not self._geometry_timer.isActive():
            self._geometry_timer.start()

    def _draw_geometry(self) -> None:
        scene = self.session.live.scene
        if scene is None or not self._panel.shows_geometry:
            return
        view = self._panel.geometry_form.view
        self.geometry.show(view.frame(scene.volume.grid), view.detector_shape)

    def _follow_display(self) -> None:
        flat = self._viewer.dims.ndisplay != 3
        self._panel.geometry_form.set_camera_reason(_FLAT if flat else "")

    def _check_backends(self) -> None:
        from napari_cxr3d.xray import available_backends

        self._panel.picture_form.set_backend_reasons(available_backends())

    # The end

    def _on_window_closing(self, by_user: bool) -> None:
        """A window closed by a program is gone; the user may yet keep it open."""
        if by_user:
            self.session.live.stop()
        else:
            self.close()

    def close(self) -> None:
        """Leave nothing behind: no job, no timer, no layer, no dock; safe to repeat."""
        if self._closed:
            return
        self._closed = True
        for timer in (self._geometry_timer, self._layers_timer, self._canvas_timer):
            timer.stop()
        for event in self._layer_events:
            event.disconnect(self._on_layers)
        self._viewer.dims.events.ndisplay.disconnect(self._follow_display)
        self._watch(None)
        self.sweeping.close()
        self.geometry.close()
        self.session.close()


def _let_go(controller: XrayController, *_: Any) -> None:
    controller.close()
