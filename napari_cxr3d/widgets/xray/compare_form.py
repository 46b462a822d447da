"""The part of the panel that lays a chest X-ray beside or over the DRR."""

from __future__ import annotations

from dataclasses import dataclass

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_cxr3d.viewer.compare import COMPARE_MODES, CompareMode
from napari_cxr3d.widgets.common.status_card import disable_with_reason
from napari_cxr3d.widgets.xray.sliders import LabelledSlider

__all__ = ["CompareForm", "Comparison"]

NO_CXR = "none"


@dataclass(frozen=True)
class Comparison:
    """How a radiograph is laid over the DRR.

    Attributes
    ----------
    mode : str
        One of `COMPARE_MODES`.
    fraction : float
        Share of the radiograph in a blend, 0 to 1.
    pitch_mm : float
        Pixel pitch of the radiograph in mm.
    shift_mm : tuple of 2 float
        How far it is moved (down, right) in mm.
    """

    mode: CompareMode
    fraction: float
    pitch_mm: float
    shift_mm: tuple[float, float]


class CompareForm(QWidget):
    """Which radiograph, how, and at what scale.

    Signals
    -------
    layer_chosen
        With the chosen layer's name; ``""`` for none.
    open_requested
        The user wants to open a file.
    changed
        With the `Comparison`.
    """

    layer_chosen = Signal(str)
    open_requested = Signal()
    changed = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._layers = QComboBox()
        self._layers.activated.connect(lambda _: self.layer_chosen.emit(self.layer_name()))
        self._open = QPushButton("Open…")
        self._open.setToolTip("Open a chest X-ray from a file.")
        self._open.clicked.connect(self.open_requested)
        self._mode = QComboBox()
        self._mode.addItems(COMPARE_MODES)
        self._fraction = LabelledSlider(
            "DRR … CXR", 0, 100, 50, decimals=0, small_step=5, large_step=25
        )
        self._pitch = QDoubleSpinBox()
        self._pitch.setDecimals(4)
        self._pitch.setRange(0.01, 10.0)
        self._pitch.setSingleStep(0.01)
        self._pitch.setSuffix(" mm")
        self._down, self._right = (_shift(tip) for tip in ("Move down", "Move right"))
        self._note = QLabel()
        self._note.setWordWrap(True)

        form = QFormLayout()
        choice = QHBoxLayout()
        choice.addWidget(self._layers, 1)
        choice.addWidget(self._open)
        form.addRow("Chest X-ray", choice)
        form.addRow("Show", self._mode)
        form.addRow(self._fraction)
        form.addRow("Its pixel pitch", self._pitch)
        shift = QHBoxLayout()
        shift.addWidget(self._down)
        shift.addWidget(self._right)
        form.addRow("Down, right", shift)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addWidget(self._note)
        self._mode.currentTextChanged.connect(self._on_edited)
        self._fraction.changed.connect(self._on_edited)
        for spin in (self._pitch, self._down, self._right):
            spin.valueChanged.connect(self._on_edited)
        self.show_layers([], "")
        self.set_reason("Choose a chest X-ray to compare with.")

    def layer_name(self) -> str:
        """Name of the chosen layer; ``""`` for none."""
        text = self._layers.currentText()
        return "" if self._layers.currentIndex() <= 0 else text

    def show_layers(self, names: list[str], chosen: str) -> None:
        """Offer these layers."""
        with signals_blocked(self._layers):
            self._layers.clear()
            self._layers.addItems([NO_CXR, *names])
            self._layers.setCurrentIndex(names.index(chosen) + 1 if chosen in names else 0)

    def comparison(self) -> Comparison:
        """What the fields say."""
        mode = COMPARE_MODES[self._mode.currentIndex()]
        return Comparison(
            mode,
            self._fraction.value() / 100,
            self._pitch.value(),
            (self._down.value(), self._right.value()),
        )

    def set_mode(self, mode: CompareMode) -> None:
        """Show another way of comparing."""
        self._mode.setCurrentText(mode)

    def show_pitch(self, pitch_mm: float, note: str) -> None:
        """The radiograph's pitch, and what is known of it; its place is centred again."""
        for spin, value in ((self._pitch, pitch_mm), (self._down, 0.0), (self._right, 0.0)):
            with signals_blocked(spin):
                spin.setValue(value)
        self._note.setText(note)

    def set_reason(self, reason: str) -> None:
        """Why nothing can be compared now; ``""`` when it can."""
        for field in (self._mode, self._pitch, self._down, self._right):
            disable_with_reason(field, reason)
        self._show_fraction(reason)
        if reason:
            self._note.setText(reason)

    def _on_edited(self) -> None:
        self._show_fraction("" if self._mode.isEnabled() else self._mode.toolTip())
        self.changed.emit(self.comparison())

    def _show_fraction(self, reason: str) -> None:
        blends = self._mode.currentText() == "blend"
        disable_with_reason(
            self._fraction, reason or ("" if blends else "Only a blend has a share of each.")
        )


def _shift(tip: str) -> QDoubleSpinBox:
    spin = QDoubleSpinBox()
    spin.setRange(-500.0, 500.0)
    spin.setDecimals(1)
    spin.setSuffix(" mm")
    spin.setToolTip(tip)
    return spin
