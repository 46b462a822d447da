"""The part of the panel with the angle slider and the volume."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from napari_cxr3d.widgets.common.status_card import disable_with_reason
from napari_cxr3d.widgets.world_model.engine import YAWS
from napari_cxr3d.widgets.world_model.plots import Curve, CurvePlot
from napari_cxr3d.widgets.world_model.track_form import LayerPicker

__all__ = ["METHODS", "METRICS", "ViewsForm", "VolumeForm"]

METRICS = {
    "latent_error": "error of the tokens (1 - cosine)",
    "psnr": "PSNR in dB",
    "ssim": "SSIM",
    "confidence": "steadiness to another exposure, 0 to 1",
}
METHODS = {
    "fdk": "FDK (filtered back-projection)",
    "consistency": "Consistency (least squares)",
}


class ViewsForm(QWidget):
    """What picture A would look like from elsewhere.

    Signals
    -------
    predict_requested
        Predict the whole orbit.
    yaw_changed
        With the slider's angle in degrees.
    ct_changed, metric_changed
        Another CT to compare with, or another figure to draw.
    """

    predict_requested = Signal()
    yaw_changed = Signal(float)
    ct_changed = Signal()
    metric_changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._predict = QPushButton("Predict the views of picture A")
        self._predict.clicked.connect(self.predict_requested)
        self._slider = QSlider(Qt.Orientation.Horizontal)
        self._slider.setRange(0, len(YAWS) - 1)
        self._slider.setValue(YAWS.index(0.0))
        self._slider.setToolTip("Degrees by which the source is turned about the patient.")
        self._slider.valueChanged.connect(self._on_slider)
        self._angle = QLabel("0°")
        self._angle.setMinimumWidth(self._angle.fontMetrics().horizontalAdvance("-90°"))
        self.ct = LayerPicker(optional=True)
        self.ct.setToolTip("A CT of the same patient: its true projection is shown beside.")
        self.ct.activated.connect(lambda _: self.ct_changed.emit())
        self._metric = QComboBox()
        self._metric.addItems(list(METRICS.values()))
        self._metric.currentIndexChanged.connect(lambda _: self.metric_changed.emit())
        self._figures = QLabel()
        self._figures.setWordWrap(True)
        self._figures.hide()
        self.plot = CurvePlot("angle in degrees", "")
        row = QHBoxLayout()
        row.addWidget(self._slider, 1)
        row.addWidget(self._angle)
        form = QFormLayout()
        form.addRow("True views from", self.ct)
        form.addRow("Angle", row)
        form.addRow("Curve", self._metric)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._predict)
        layout.addLayout(form)
        layout.addWidget(self._figures)
        layout.addWidget(self.plot)

    @property
    def yaw(self) -> float:
        """The slider's angle in degrees."""
        return YAWS[self._slider.value()]

    @property
    def figure(self) -> str:
        """Which figure is drawn over the angles, a key of `METRICS`."""
        return list(METRICS)[self._metric.currentIndex()]

    @property
    def figures(self) -> str:
        """What is said of the view that is shown."""
        return self._figures.text()

    def set_yaw(self, yaw: float) -> None:
        """Move the slider to the nearest angle."""
        self._slider.setValue(min(range(len(YAWS)), key=lambda k: abs(YAWS[k] - yaw)))

    def set_reason(self, predict: str, slider: str) -> None:
        """Why nothing can be predicted or shown; ``""`` when it can."""
        disable_with_reason(
            self._predict, predict, "The whole orbit, once; then the slider answers at once."
        )
        disable_with_reason(
            self._slider, slider, "Degrees by which the source is turned about the patient."
        )

    def show_figures(self, text: str) -> None:
        """What is said of the view that is shown."""
        self._figures.setText(text)
        self._figures.setVisible(bool(text))

    def show_curves(self, curves: Sequence[Curve]) -> None:
        """The chosen figure over the angles."""
        self.plot.y_label = METRICS[self.figure]
        self.plot.show_curves(curves)
        self.plot.show_cursor(self.yaw)

    def _on_slider(self, _: int) -> None:
        self._angle.setText(f"{self.yaw:g}°")
        self.plot.show_cursor(self.yaw)
        self.yaw_changed.emit(self.yaw)


class VolumeForm(QWidget):
    """A volume out of the predicted views of picture A.

    Signals
    -------
    volume_requested
        Make it.
    xray_panel_requested
        Turn the X-ray source around it.
    """

    volume_requested = Signal()
    xray_panel_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._method = QComboBox()
        self._method.addItems(list(METHODS.values()))
        self._method.setToolTip(
            "FDK is quick. Consistency lets the given X-ray count more than what was predicted."
        )
        self.ct = LayerPicker(optional=True)
        self.ct.setToolTip(
            "The same method on the true projections of this CT: no prediction can be better."
        )
        self._make = QPushButton("Volume from this X-ray (SYNTHETIC)")
        self._make.clicked.connect(self.volume_requested)
        self._xray = QPushButton("To X-ray panel")
        self._xray.clicked.connect(self.xray_panel_requested)
        note = QLabel(
            "Views of ±90° are limited-angle: the volume is blurred even where they are right. "
            "Choose the patient's CT to see the best that such views allow beside it."
        )
        note.setWordWrap(True)
        note.setEnabled(False)
        form = QFormLayout()
        form.addRow("Method", self._method)
        form.addRow("Ceiling from", self.ct)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addWidget(note)
        layout.addWidget(self._make)
        layout.addWidget(self._xray)

    @property
    def method(self) -> str:
        """A key of `METHODS`."""
        return list(METHODS)[self._method.currentIndex()]

    def set_method(self, method: str) -> None:
        """Choose one of `METHODS`."""
        self._method.setCurrentIndex(list(METHODS).index(method))

    def set_reason(self, make: str, xray: str) -> None:
        """Why nothing can be made, or handed over; ``""`` when it can."""
        disable_with_reason(self._make, make, "A guess of a model, and not for diagnosis.")
        disable_with_reason(self._xray, xray, "Turn the X-ray source around the volume.")
