"""The part of the panel where the exposure's geometry is set."""

from __future__ import annotations

from dataclasses import replace

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_cxr3d.errors import Cxr3dError
from napari_cxr3d.imaging import PRESETS, XrayView, preset
from napari_cxr3d.widgets.common.panel import Section
from napari_cxr3d.widgets.common.status_card import disable_with_reason
from napari_cxr3d.widgets.xray.sliders import LabelledSlider

__all__ = ["PRESET_TITLES", "GeometryForm"]

PRESET_TITLES = {
    "pa": "PA · 1800 mm",
    "ap": "AP · 1800 mm",
    "ap-bedside": "AP bedside · 1000 mm",
    "left-lateral": "Left lateral · 1800 mm",
    "right-lateral": "Right lateral · 1800 mm",
    "x-win": "X-WIN · AP 1020 mm",
    "x-ray2ctpa": "X-ray2CTPA · AP 1200 mm",
}
_CUSTOM = "Own geometry"
_ONE_CLICK = (("PA", "pa"), ("AP", "ap"), ("L lat", "left-lateral"), ("R lat", "right-lateral"))
_LABEL_WIDTH = 42


class GeometryForm(QWidget):
    """Angles, presets, distances and detector; its value is an `XrayView`.

    Signals
    -------
    changed
        The view, after every change by the user.
    rejected
        The error that says why the figures make no view; `changed` is not emitted.
    camera_requested
        The user wants the 3D view's direction.
    """

    changed = Signal(object)
    rejected = Signal(object)
    camera_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._view = preset("pa")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._build_angles())
        layout.addWidget(self._build_detector())
        self._show(self._view)

    @property
    def view(self) -> XrayView:
        """The geometry that is shown."""
        return self._view

    def set_view(self, view: XrayView) -> None:
        """Show another geometry and announce it."""
        self._show(view)
        self._view = view
        self.changed.emit(view)

    def set_camera_reason(self, reason: str) -> None:
        """Why the 3D view's direction cannot be used now; ``""`` when it can."""
        disable_with_reason(
            self._camera, reason, "Put the tube where you look from in the 3D view."
        )

    def _build_angles(self) -> QWidget:
        section = Section("Direction of the beam")
        turn = "0 PA, 180 AP, 90 left lateral. "
        keys = "Arrow keys: 1°; Shift or Page: 10°."
        self._yaw = LabelledSlider("Yaw", -180, 180, drag_step=1.0, wraps=True, tooltip=turn + keys)
        self._pitch = LabelledSlider(
            "Pitch", -90, 90, drag_step=1.0, tooltip="Positive lifts the tube to the head. " + keys
        )
        self._roll = LabelledSlider(
            "Roll", -180, 180, drag_step=1.0, wraps=True, tooltip="Turns the detector. " + keys
        )
        for slider in (self._yaw, self._pitch, self._roll):
            slider.set_label_width(_LABEL_WIDTH)
            slider.changed.connect(self._on_edited)
            section.addWidget(slider)
        section.addWidget(self._build_shortcuts())
        return section

    def _build_shortcuts(self) -> QWidget:
        box = QWidget()
        grid = QGridLayout(box)
        grid.setContentsMargins(0, 0, 0, 0)
        for column, (title, name) in enumerate(_ONE_CLICK):
            button = QPushButton(title)
            button.setToolTip(PRESET_TITLES[name])
            button.clicked.connect(lambda _=False, name=name: self._turn_to(name))
            grid.addWidget(button, 0, column)
        self._camera = QPushButton("Use the 3D view's direction")
        self._camera.clicked.connect(self.camera_requested)
        grid.addWidget(self._camera, 1, 0, 1, len(_ONE_CLICK))
        return box

    def _build_detector(self) -> QWidget:
        section = Section("Distances and detector", expanded=False)
        box = QWidget()
        form = QFormLayout(box)
        form.setContentsMargins(0, 0, 0, 0)
        self._preset = QComboBox()
        _let_shrink(self._preset)
        self._preset.addItems([*(PRESET_TITLES.get(name, name) for name in PRESETS), _CUSTOM])
        self._preset.activated.connect(self._on_preset)
        self._sdd = _spin(100, 5000, 10, " mm", "From the focal spot to the detector.")
        self._sid = _spin(50, 5000, 10, " mm", "From the focal spot to the centre of the CT.")
        self._rows, self._cols = QSpinBox(), QSpinBox()
        size = QWidget()
        pair = QHBoxLayout(size)
        pair.setContentsMargins(0, 0, 0, 0)
        for side in (self._rows, self._cols):
            side.setRange(16, 4096)
            side.setSingleStep(64)
            side.setKeyboardTracking(False)
            pair.addWidget(side)
        self._pitch_mm = _spin(0.05, 10, 0.05, " mm", "Distance of pixel centres on the detector.")
        self._pitch_mm.setDecimals(3)
        self._flip = QCheckBox("Mirror left and right")
        self._flip.setToolTip("On for AP, so that the patient's left is on the image's right.")
        form.addRow("Preset", self._preset)
        form.addRow("Source to detector", self._sdd)
        form.addRow("Source to isocenter", self._sid)
        form.addRow("Rows, columns", size)
        form.addRow("Pixel pitch", self._pitch_mm)
        form.addRow(self._flip)
        for spin in (self._sdd, self._sid, self._pitch_mm, self._rows, self._cols):
            spin.valueChanged.connect(self._on_edited)
        self._flip.toggled.connect(self._on_edited)
        section.addWidget(box)
        return section

    def _on_edited(self) -> None:
        try:
            view = replace(
                self._view,
                yaw=self._yaw.value(),
                pitch=self._pitch.value(),
                roll=self._roll.value(),
                source_to_isocenter_mm=self._sid.value(),
                source_to_detector_mm=self._sdd.value(),
                detector_shape=(self._rows.value(), self._cols.value()),
                pixel_mm=self._pitch_mm.value(),
                flip_columns=self._flip.isChecked(),
            )
        except Cxr3dError as error:
            self.rejected.emit(error)
            return
        if view != self._view:
            self._view = view
            self._show_preset(view)
            self.changed.emit(view)

    def _on_preset(self, index: int) -> None:
        names = list(PRESETS)
        if index < len(names):
            self.set_view(preset(names[index]))

    def _turn_to(self, name: str) -> None:
        """A preset's direction, with the distances and the detector as they are."""
        wanted = preset(name)
        self.set_view(
            replace(
                self._view,
                yaw=wanted.yaw,
                pitch=wanted.pitch,
                roll=wanted.roll,
                flip_columns=wanted.flip_columns,
            )
        )

    def _show(self, view: XrayView) -> None:
        self._yaw.show_value(view.yaw)
        self._pitch.show_value(view.pitch)
        self._roll.show_value(view.roll)
        lengths = (
            (self._sdd, view.source_to_detector_mm),
            (self._sid, view.source_to_isocenter_mm),
            (self._pitch_mm, view.pixel_mm),
        )
        for spin, length in lengths:
            with signals_blocked(spin):
                spin.setValue(length)
        for side, count in zip((self._rows, self._cols), view.detector_shape, strict=True):
            with signals_blocked(side):
                side.setValue(count)
        with signals_blocked(self._flip):
            self._flip.setChecked(view.flip_columns)
        self._show_preset(view)

    def _show_preset(self, view: XrayView) -> None:
        matching = [index for index, name in enumerate(PRESETS) if PRESETS[name] == view]
        self._preset.setCurrentIndex(matching[0] if matching else self._preset.count() - 1)


def _let_shrink(combo: QComboBox) -> None:
    """Keep a long entry from widening the whole panel."""
    combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    combo.setMinimumContentsLength(12)


def _spin(low: float, high: float, step: float, suffix: str, tip: str) -> QDoubleSpinBox:
    spin = QDoubleSpinBox()
    spin.setRange(low, high)
    spin.setSingleStep(step)
    spin.setDecimals(1)
    spin.setSuffix(suffix)
    spin.setToolTip(tip)
    spin.setKeyboardTracking(False)
    return spin
