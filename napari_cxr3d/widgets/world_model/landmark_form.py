"""The part of the panel for landmarks: placing, the table, how the map is drawn, export."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QCheckBox,
    QColorDialog,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from napari_cxr3d.viewer.world_model import COLORMAPS, MapLook
from napari_cxr3d.widgets.common.status_card import disable_with_reason
from napari_cxr3d.widgets.world_model.landmark_table import LandmarkRow, LandmarkTable

__all__ = ["LandmarkForm"]

_PERCENT = 100
_EXPORTS = {
    "PNG": "The canvas as it is: both pictures, marks, map and colour bar.",
    "NPY": "The map's similarities on every pixel of its picture.",
    "CSV": "All landmarks with their best matches.",
}


class LandmarkForm(QWidget):
    """Landmarks on picture A or B, and where the other picture shows the same.

    Signals
    -------
    place_requested
        With the side to place on.
    look_changed
        With the `MapLook`.
    selected, deleted
        With a row of the table.
    renamed, recolored
        With a row and its new name or colour.
    all_toggled
        Whether the maps of all landmarks are shown at once.
    epipolar_toggled
        Whether matches keep to the ray through the landmark.
    export_requested
        With ``"PNG"``, ``"NPY"`` or ``"CSV"``.
    """

    place_requested = Signal(str)
    look_changed = Signal(object)
    selected = Signal(int)
    deleted = Signal(int)
    renamed = Signal(int, str)
    recolored = Signal(int, str)
    all_toggled = Signal(bool)
    epipolar_toggled = Signal(bool)
    export_requested = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._place = {side: QPushButton(f"Place on {side}") for side in ("A", "B")}
        for side, button in self._place.items():
            button.clicked.connect(lambda _=False, side=side: self.place_requested.emit(side))
        self.table = LandmarkTable()
        self.table.selected.connect(self.selected)
        self.table.renamed.connect(self.renamed)
        self._color = QPushButton("Colour…")
        self._color.clicked.connect(self._on_color)
        self._delete = QPushButton("Delete")
        self._delete.clicked.connect(self._on_delete)
        self._all = QCheckBox("All at once")
        self._all.setToolTip("Show the largest similarity to any landmark of that picture.")
        self._all.toggled.connect(self.all_toggled)
        self._epipolar = QCheckBox("On the ray")
        self._epipolar.toggled.connect(self.epipolar_toggled)
        self._colormap = QComboBox()
        self._colormap.addItems(COLORMAPS)
        self._colormap.currentIndexChanged.connect(self._on_look)
        look = MapLook()
        self._opacity = self._slider(look.opacity, "How much of the picture the map covers.")
        self._threshold = self._slider(
            look.threshold, "Below this part of the map's range nothing is drawn."
        )
        self._limits = QLabel()
        self._note = QLabel()
        self._note.setWordWrap(True)
        self._note.hide()
        self._exports = {kind: QPushButton(kind) for kind in _EXPORTS}
        for kind, button in self._exports.items():
            button.clicked.connect(lambda _=False, kind=kind: self.export_requested.emit(kind))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(_row(*self._place.values()))
        layout.addWidget(self._note)
        layout.addWidget(self.table)
        layout.addLayout(_row(self._all, self._epipolar, self._color, self._delete))
        form = QFormLayout()
        form.addRow("Map", self._colormap)
        form.addRow("Opacity", self._opacity)
        form.addRow("Threshold", self._threshold)
        form.addRow("Shown", self._limits)
        form.addRow("Export", _row(*self._exports.values()))
        layout.addLayout(form)

    @property
    def all_at_once(self) -> bool:
        """Whether the maps of all landmarks are shown at once."""
        return bool(self._all.isChecked())

    @property
    def epipolar(self) -> bool:
        """Whether matches keep to the ray through the landmark."""
        return bool(self._epipolar.isChecked())

    def set_epipolar_reason(self, reason: str) -> None:
        """Why the geometry cannot help; ``""`` when it can."""
        disable_with_reason(
            self._epipolar,
            reason,
            "Both are projections of one CT: keep the match to the landmark's ray through it.",
        )

    def look(self) -> MapLook:
        """How the map is to be drawn."""
        return MapLook(
            self._colormap.currentText(),
            self._opacity.value() / _PERCENT,
            self._threshold.value() / _PERCENT,
        )

    def show_rows(self, rows: Sequence[LandmarkRow], selected: int) -> None:
        """Show these landmarks."""
        self.table.show_rows(rows, selected)
        reason = "" if rows else "Place a landmark first."
        disable_with_reason(self._color, reason, "Another colour for the selected landmark.")
        disable_with_reason(self._delete, reason, "Take the selected landmark away.")

    def show_limits(self, low: float, high: float) -> None:
        """Between which cosine similarities the map is drawn."""
        self._limits.setText(f"cosine {low:.2f} to {high:.2f}")

    def show_note(self, text: str) -> None:
        """What is being waited for; ``""`` for nothing."""
        self._note.setText(text)
        self._note.setVisible(bool(text))

    def set_reasons(self, place_a: str, place_b: str, export: str) -> None:
        """Why landmarks cannot be placed, and nothing exported; ``""`` when they can."""
        tip = "Click on the picture; drag a landmark to move it. The map follows."
        disable_with_reason(self._place["A"], place_a, tip)
        disable_with_reason(
            self._place["B"], place_b, f"The reverse map: {tip[0].lower()}{tip[1:]}"
        )
        for kind, button in self._exports.items():
            disable_with_reason(button, export, _EXPORTS[kind])

    def _slider(self, value: float, tip: str) -> QSlider:
        slider = QSlider(Qt.Orientation.Horizontal)
        slider.setRange(0, _PERCENT)
        slider.setValue(round(_PERCENT * value))
        slider.setToolTip(tip)
        slider.valueChanged.connect(self._on_look)
        return slider

    def _on_look(self, _: int = 0) -> None:
        self.look_changed.emit(self.look())

    def _on_color(self) -> None:
        row = self.table.current_row
        if row >= 0:
            color = QColorDialog.getColor(QColor(), self)
            if color.isValid():
                self.recolored.emit(row, color.name())

    def _on_delete(self) -> None:
        if self.table.current_row >= 0:
            self.deleted.emit(self.table.current_row)


def _row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    for widget in widgets:
        row.addWidget(widget)
    return row
