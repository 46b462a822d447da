"""The part of the panel where one X-ray is chosen and what is known of it is confirmed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
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

from napari_cxr3d.widgets.common.status_card import disable_with_reason

if TYPE_CHECKING:
    from napari_cxr3d.inference.xray_input import InputGuess, Projection, XrayInput

__all__ = ["PROJECTION_NAMES", "XrayForm"]

PROJECTION_NAMES: Mapping[Projection, str] = MappingProxyType(
    {
        "pa": "PA (frontal, from behind)",
        "ap": "AP (frontal, from in front)",
        "lateral-left": "Left lateral",
        "lateral-right": "Right lateral",
        "as-given": "As the DRR was projected",
    }
)
_ROTATIONS = {0: "none", 90: "90° clockwise", 180: "180°", 270: "90° counter-clockwise"}
_NONE = "none"
_AS_GIVEN: Projection = "as-given"
_NO_XRAY = "Choose an X-ray first."
_KNOWN = "The geometry of this DRR is known exactly."
_INTEGRALS = "Line integrals have no polarity to correct."
_PITCH_TIP = "Size of a pixel at the detector; it sets the patient's size in the volume."


class XrayForm(QWidget):
    """Which X-ray, taken how, and what must be corrected.

    Parameters
    ----------
    label : str
        What the X-ray is called.
    optional : bool
        Whether there may be none.

    Signals
    -------
    layer_chosen
        With the layer's name; ``""`` for none.
    open_requested
        The user wants to open a file.
    edited
        What is known of the X-ray was changed.
    """

    layer_chosen = Signal(str)
    open_requested = Signal()
    edited = Signal()

    def __init__(self, label: str, *, optional: bool, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._optional = optional
        self._guess: InputGuess | None = None
        self._layers = QComboBox()
        self._layers.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self._layers.setMinimumContentsLength(10)
        self._layers.activated.connect(lambda _: self.layer_chosen.emit(self.layer_name()))
        self._open = QPushButton("Open…")
        self._open.setToolTip("Open a chest X-ray from a file and add it to the viewer.")
        self._open.clicked.connect(self.open_requested)
        self._projection = QComboBox()
        self._projection.addItems(list(PROJECTION_NAMES.values()))
        self._pitch = QDoubleSpinBox()
        self._pitch.setDecimals(4)
        self._pitch.setRange(0.005, 20.0)
        self._pitch.setSingleStep(0.01)
        self._pitch.setSuffix(" mm")
        self._pitch.setKeyboardTracking(False)
        self._inverted = QCheckBox("Inverted")
        self._inverted.setToolTip("Bones are dark in the picture as it is stored.")
        self._mirrored = QCheckBox("Mirrored")
        self._mirrored.setToolTip("The patient's left is on the picture's left.")
        self._rotation = QComboBox()
        self._rotation.addItems(list(_ROTATIONS.values()))
        self._rotation.setToolTip("How the picture must be turned for the head to be up.")
        self._reasons = QLabel()
        self._reasons.setWordWrap(True)
        self._reasons.setEnabled(False)

        form = QFormLayout()
        choice = QHBoxLayout()
        choice.addWidget(self._layers, 1)
        choice.addWidget(self._open)
        form.addRow(label, choice)
        form.addRow("View", self._projection)
        form.addRow("Pixel pitch", self._pitch)
        form.addRow("Turn", self._rotation)
        checks = QHBoxLayout()
        checks.addWidget(self._inverted)
        checks.addWidget(self._mirrored)
        checks.addStretch(1)
        form.addRow("Stored", checks)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addWidget(self._reasons)
        self._projection.currentIndexChanged.connect(self._on_edited)
        self._rotation.currentIndexChanged.connect(self._on_edited)
        self._pitch.valueChanged.connect(self._on_edited)
        for check in (self._inverted, self._mirrored):
            check.toggled.connect(self._on_edited)
        self.show_layers([], "")
        self.show_guess(None)

    def layer_name(self) -> str:
        """Name of the chosen layer; ``""`` for none."""
        text = self._layers.currentText()
        return "" if self._optional and self._layers.currentIndex() <= 0 else text

    def show_layers(self, names: list[str], chosen: str) -> None:
        """Offer these layers."""
        with signals_blocked(self._layers):
            self._layers.clear()
            self._layers.addItems([_NONE, *names] if self._optional else names)
            if chosen in names:
                self._layers.setCurrentText(chosen)
            elif not self._optional:
                self._layers.setCurrentIndex(-1)
        reason = "" if names else "No picture is open: open an X-ray here or in the Study panel."
        disable_with_reason(self._layers, reason, "A picture that is open in the viewer.")

    def show_guess(self, guess: InputGuess | None, note: str = "") -> None:
        """Show what an X-ray seems to be; None where none is chosen.

        Parameters
        ----------
        guess : InputGuess, optional
            The guess, which the fields then hold.
        note : str
            What to say where there is none.
        """
        self._guess = guess
        if guess is not None:
            self.set_input(guess.input)
            self._reasons.setText("\n".join(f"• {reason}" for reason in guess.reasons))
        else:
            self._reasons.setText(note)
        self._reasons.setVisible(bool(self._reasons.text()))
        self._show_reasons()

    def set_input(self, known: XrayInput) -> None:
        """Put what was confirmed before into the fields; nothing is emitted."""
        pitch = known.known_pitch_mm
        for widget in (self._projection, self._pitch, self._rotation):
            widget.blockSignals(True)
        self._projection.setCurrentIndex(list(PROJECTION_NAMES).index(known.projection))
        if pitch is not None:
            self._pitch.setValue(pitch[0])
        self._rotation.setCurrentIndex(list(_ROTATIONS).index(known.rotation))
        for widget in (self._projection, self._pitch, self._rotation):
            widget.blockSignals(False)
        for check, value in ((self._inverted, known.inverted), (self._mirrored, known.mirrored)):
            with signals_blocked(check):
                check.setChecked(value)
        self._show_reasons()

    def input(self) -> XrayInput | None:
        """The X-ray with what the fields say of it; None where none is chosen.

        Raises
        ------
        InvalidInputError
            If what they say cannot be.
        """
        if self._guess is None:
            return None
        guessed = self._guess.input
        projection = self._projection_name()
        pitch = guessed.known_pitch_mm
        # A pitch that nobody touched keeps all its digits, and the ratio of its two numbers.
        if pitch is None or round(pitch[0], self._pitch.decimals()) != self._pitch.value():
            ratio = 1.0 if pitch is None else pitch[1] / pitch[0]
            pitch = (self._pitch.value(), self._pitch.value() * ratio)
        return replace(
            guessed,
            projection=projection,
            pitch_mm=guessed.pitch_mm if projection == _AS_GIVEN else pitch,
            inverted=self._inverted.isChecked(),
            rotation=list(_ROTATIONS)[self._rotation.currentIndex()],
            mirrored=self._mirrored.isChecked(),
        )

    def _projection_name(self) -> Projection:
        return list(PROJECTION_NAMES)[self._projection.currentIndex()]

    def _on_edited(self) -> None:
        self._show_reasons()
        if self._guess is not None:
            self.edited.emit()

    def _show_reasons(self) -> None:
        none = "" if self._guess is not None else _NO_XRAY
        radiograph = None if self._guess is None else self._guess.input.radiograph
        item = self._projection.model().item(list(PROJECTION_NAMES).index(_AS_GIVEN))
        has_view = radiograph is not None and radiograph.view is not None
        item.setEnabled(has_view)
        item.setToolTip("" if has_view else "Only a DRR of this program knows its geometry.")
        as_given = not none and self._projection_name() == _AS_GIVEN
        known = none or (_KNOWN if as_given else "")
        integrals = radiograph is not None and radiograph.quantity == "line_integral"
        disable_with_reason(
            self._projection, none, "How the rays went through the patient: please confirm."
        )
        disable_with_reason(self._pitch, known, _PITCH_TIP)
        disable_with_reason(self._rotation, known, "Turns the picture until the head is up.")
        disable_with_reason(
            self._mirrored, known, "The patient's left is on the picture's left as it is stored."
        )
        disable_with_reason(
            self._inverted,
            none or (_INTEGRALS if integrals else ""),
            "Bones are dark in the picture as it is stored.",
        )
