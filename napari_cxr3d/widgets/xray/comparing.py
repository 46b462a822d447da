"""A chest X-ray beside or over the frames of the live radiograph."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import ref

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import Cxr3dError
from napari_cxr3d.imaging import Radiograph, XrayView
from napari_cxr3d.progress import CancelToken, ProgressCallback
from napari_cxr3d.viewer.compare import (
    Alignment,
    composite,
    display_picture,
    fitting_pitch,
    to_detector,
)
from napari_cxr3d.viewer.layers import (
    kind_of_layer,
    radiograph_layer_data,
    radiograph_of_layer,
    radiograph_refusal,
)
from napari_cxr3d.widgets.xray.compare_form import CompareForm, Comparison
from napari_cxr3d.widgets.xray.live import Frame
from napari_cxr3d.widgets.xray.session import XraySession, image_layers

if TYPE_CHECKING:
    from napari.layers import Image

__all__ = ["CompareController", "CxrOverlay"]

Picture = npt.NDArray[np.float32]

_SQUARES = 12  # of the checkerboard, across the picture
_NO_CXR = "Choose a chest X-ray to compare with, or open one."
_NO_DRR = "There is no DRR to compare with: choose a CT first."


class CxrOverlay:
    """The chosen radiograph, on whatever detector grid a frame has.

    Parameters
    ----------
    radiograph : Radiograph
        What is laid over.
    """

    def __init__(self, radiograph: Radiograph) -> None:
        self._picture = display_picture(radiograph)
        self._pitch = radiograph.pitch_mm
        self._on_grid: dict[tuple[tuple[int, int], float], Picture] = {}
        self._comparison: Comparison | None = None

    @property
    def comparison(self) -> Comparison | None:
        """How it is laid over; None until `compare` was called."""
        return self._comparison

    def known_pitch(self, view: XrayView) -> tuple[float, str]:
        """The pitch to start with, in mm, and where it comes from."""
        if self._pitch is not None:
            return self._pitch[0], "Scaled by the pixel pitch that its file gives."
        rows, _ = view.detector_shape
        field = (rows * view.pixel_mm, view.detector_shape[1] * view.pixel_mm)
        guess = fitting_pitch(self._picture.shape, field)
        return guess, (
            "Its file gives no pixel pitch: it is scaled to fill the detector's height. "
            "Enter the pitch if you know it."
        )

    def compare(self, comparison: Comparison) -> None:
        """Lay it over in another way from now on."""
        before = self._comparison
        if before is None or (before.pitch_mm, before.shift_mm) != (
            comparison.pitch_mm,
            comparison.shift_mm,
        ):
            self._on_grid.clear()
        self._comparison = comparison

    def compose(self, frame: Frame) -> Picture:
        """The frame's picture with the radiograph over it."""
        assert self._comparison is not None
        return composite(
            self._comparison.mode,
            frame.picture,
            self.on_detector(frame.view),
            fraction=self._comparison.fraction,
            square=max(1, max(frame.view.detector_shape) // _SQUARES),
        )

    def on_detector(self, view: XrayView) -> Picture:
        """The radiograph on a view's pixels; NaN where it does not reach."""
        assert self._comparison is not None
        grid = (view.detector_shape, view.pixel_mm)
        if grid not in self._on_grid:
            if len(self._on_grid) > 1:  # the preview's and the full picture's are enough
                self._on_grid.clear()
            ratio = 1.0 if self._pitch is None else self._pitch[1] / self._pitch[0]
            pitch = self._comparison.pitch_mm
            self._on_grid[grid] = to_detector(
                self._picture,
                Alignment((pitch, pitch * ratio), self._comparison.shift_mm),
                *grid,
            )
        return self._on_grid[grid]


class CompareController:
    """Connects the comparison section with radiographs: the viewer's, and opened files.

    A file that is opened here is not added to the viewer: there it would cover the CT, and
    its pixels, often of unknown size, would take the scale bar its millimetres.
    """

    def __init__(self, session: XraySession, form: CompareForm) -> None:
        self._session, self._form = session, form
        self._overlay: CxrOverlay | None = None
        self._chosen = ""
        self._layer: ref[Image] | None = None  # of the chosen radiograph, if it has one
        self._opened: dict[str, Radiograph] = {}
        form.layer_chosen.connect(self.choose)
        form.open_requested.connect(self.ask_and_open)
        form.changed.connect(self._on_changed)
        session.state_changed.connect(self.show_reasons)

    def refresh(self) -> None:
        """Bring the choice of radiographs up to date with the viewer's layers."""
        layers = self._radiograph_layers()
        layer = None if self._layer is None else self._layer()
        if self._layer is not None and layer not in layers:
            self._drop()
        elif layer is not None:
            self._chosen = layer.name  # it may have been renamed
        names = [one.name for one in layers]
        self._form.show_layers([*names, *self._opened], self._chosen)

    def show_reasons(self) -> None:
        """Say why nothing can be compared, if so."""
        if self._session.layer is None:
            self._form.set_reason(_NO_DRR)
        else:
            self._form.set_reason("" if self._overlay is not None else _NO_CXR)

    def choose(self, name: str) -> None:
        """Compare with the radiograph of this name; ``""`` for none."""
        self._drop()
        layer = next((one for one in self._radiograph_layers() if one.name == name), None)
        try:
            radiograph = self._opened.get(name) if layer is None else radiograph_of_layer(layer)
        except Cxr3dError as error:
            self._session.report(error)
            radiograph = None
        if radiograph is not None:
            self._chosen = name
            self._layer = None if layer is None else ref(layer)
            self._overlay = CxrOverlay(radiograph)
            self._form.show_pitch(*self._overlay.known_pitch(self._view()))
            self._overlay.compare(self._form.comparison())
        self.refresh()
        self._session.state_changed.emit()
        self._show_again()

    def ask_and_open(self) -> None:
        """Ask for a file and compare with it."""
        path = self._session.panel.ask_open_path()
        if path:
            self.open(path)

    def open(self, path: str) -> None:
        """Read a radiograph and compare with it."""

        def work(progress: ProgressCallback, cancel: CancelToken) -> Radiograph:
            from napari_cxr3d.io import read_cxr

            return read_cxr(path)

        self._session.runner.submit(
            work,
            lane="io",
            owner=self._session,
            on_done=self._on_opened,
            on_error=self._session.report,
        )

    def compose(self, frame: Frame) -> Picture:
        """What is shown of a frame."""
        if self._overlay is None:
            return frame.picture
        return self._overlay.compose(frame)

    def _on_opened(self, radiograph: Radiograph) -> None:
        name = f"File · {radiograph_layer_data(radiograph)[1]['name']}"
        self._opened[name] = radiograph
        self.choose(name)

    def _on_changed(self, comparison: Comparison) -> None:
        if self._overlay is not None:
            self._overlay.compare(comparison)
            self._show_again()

    def _show_again(self) -> None:
        """Show the last frame in the new way, and the radiograph beside it if asked."""
        session = self._session
        if session.frame is not None:
            session.frame_changed.emit(session.frame)
        if session.canvas is None:
            return
        overlay, view = self._overlay, self._view()
        comparison = None if overlay is None else overlay.comparison
        if overlay is None or comparison is None or comparison.mode != "side by side":
            session.canvas.show_cxr(None)
        else:
            session.canvas.show_cxr(overlay.on_detector(view), view)

    def _drop(self) -> None:
        self._layer, self._chosen = None, ""
        if self._overlay is not None:
            self._overlay = None
            if self._session.canvas is not None:
                self._session.canvas.show_cxr(None)

    def _view(self) -> XrayView:
        return self._session.panel.geometry_form.view

    def _radiograph_layers(self) -> list[Image]:
        return [
            layer
            for layer in image_layers(self._session.viewer)
            if not radiograph_refusal(layer) and kind_of_layer(layer) != "drr"
        ]
