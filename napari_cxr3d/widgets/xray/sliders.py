"""A slider for an angle, with its live value and keys for small and large steps."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, Qt, Signal
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QHBoxLayout, QLabel, QWidget
from superqt import QDoubleSlider, QLabeledDoubleSlider
from superqt.utils import signals_blocked

__all__ = ["LARGE_STEP", "SMALL_STEP", "LabelledSlider"]

SMALL_STEP = 1.0
LARGE_STEP = 10.0

_STEPS = {
    Qt.Key.Key_Left: -1,
    Qt.Key.Key_Down: -1,
    Qt.Key.Key_Right: 1,
    Qt.Key.Key_Up: 1,
}
_PAGES = {Qt.Key.Key_PageUp: 1, Qt.Key.Key_PageDown: -1}


class LabelledSlider(QWidget):
    """A named value on a slider that shows it in figures, which can be typed over.

    Arrow keys move by the small step; Page Up, Page Down and Shift with an arrow by the
    large one. A mouse drag stops at multiples of `drag_step`.

    Parameters
    ----------
    label : str
        Name, with the unit where there is one.
    minimum, maximum : float
        Ends of the range.
    value : float
        The first value.
    decimals : int
        Figures after the point.
    small_step, large_step : float
        What the keys move by.
    drag_step : float
        Where a mouse drag stops; 0 for anywhere.
    wraps : bool
        Whether the keys go on from one end to the other, as a full turn does.
    tooltip : str
        What the value means.
    """

    changed = Signal(float)

    def __init__(
        self,
        label: str,
        minimum: float,
        maximum: float,
        value: float = 0.0,
        *,
        decimals: int = 1,
        small_step: float = SMALL_STEP,
        large_step: float = LARGE_STEP,
        drag_step: float = 0.0,
        wraps: bool = False,
        tooltip: str = "",
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._small, self._large, self._drag_step = small_step, large_step, drag_step
        self._wraps = wraps
        self._label = QLabel(label)
        self._slider = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self._slider.setRange(minimum, maximum)
        self._slider.setDecimals(decimals)
        self._slider.setSingleStep(small_step)  # type: ignore[arg-type]  # superqt: double
        self._slider.setPageStep(large_step)  # type: ignore[arg-type]
        self._slider.setValue(value)
        self._slider.setMinimumWidth(120)
        self._handle: QDoubleSlider = self._slider.findChild(QDoubleSlider)
        self._handle.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._handle.setAccessibleName(label)
        self._handle.installEventFilter(self)
        self._slider.valueChanged.connect(self._on_moved)
        self.setToolTip(tooltip)
        self.setFocusProxy(self._handle)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._label)
        layout.addWidget(self._slider, stretch=1)

    @property
    def name(self) -> str:
        """The label's text."""
        return self._label.text()

    def set_label_width(self, width: int) -> None:
        """Align the sliders of a form."""
        self._label.setFixedWidth(width)

    def value(self) -> float:
        """The value shown."""
        return float(self._slider.value())

    def set_value(self, value: float) -> None:
        """Show a value, which counts as a change by the user."""
        self._slider.setValue(value)

    def show_value(self, value: float) -> None:
        """Show a value without telling anybody."""
        with signals_blocked(self._slider):
            self._slider.setValue(value)

    def set_range(self, minimum: float, maximum: float) -> None:
        """Change the ends of the range."""
        with signals_blocked(self._slider):
            self._slider.setRange(minimum, maximum)

    def step(self, by: float) -> None:
        """Move by an amount, around the end if the value wraps."""
        low, high = self._slider.minimum(), self._slider.maximum()
        value = self.value() + by
        if self._wraps:
            value = low + (value - low) % (high - low)
        self._slider.setValue(min(max(value, low), high))

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Take the keys before Qt's slider does: it knows no Shift and no wrapping."""
        if (
            watched is self._handle
            and isinstance(event, QKeyEvent)
            and event.type() == QEvent.Type.KeyPress
        ):
            key = Qt.Key(event.key())
            shift = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
            if key in _STEPS:
                self.step(_STEPS[key] * (self._large if shift else self._small))
                return True
            if key in _PAGES:
                self.step(_PAGES[key] * self._large)
                return True
        return super().eventFilter(watched, event)

    def _on_moved(self, value: float) -> None:
        if self._drag_step and self._handle.isSliderDown():
            snapped = round(value / self._drag_step) * self._drag_step
            if snapped != value:
                self._slider.setValue(snapped)
                return
        self.changed.emit(float(value))
