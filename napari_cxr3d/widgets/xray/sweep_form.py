"""The part of the panel that makes a run of radiographs and records it."""

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

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.progress import Progress
from napari_cxr3d.widgets.common.progress_row import ProgressRow
from napari_cxr3d.widgets.common.status_card import disable_with_reason

__all__ = ["SweepForm", "SweepRange"]

_MOST_VIEWS = 1440
_RECORDINGS = ("GIF", "MP4", "PNG sequence")


@dataclass(frozen=True)
class SweepRange:
    """Which radiographs a sweep is made of.

    Attributes
    ----------
    axis : str
        The angle that runs: ``"yaw"``, ``"pitch"`` or ``"roll"``.
    start, stop, step : float
        First and last angle and the positive angle between neighbours, in degrees.
    """

    axis: str
    start: float
    stop: float
    step: float

    def __post_init__(self) -> None:
        if not self.start < self.stop or self.step <= 0:
            raise InvalidInputError(
                "The sweep must run from a smaller to a larger angle in positive steps",
                why=f"it runs from {self.start:g}° to {self.stop:g}° by {self.step:g}°",
            )
        if self.count > _MOST_VIEWS:
            raise InvalidInputError(
                f"The sweep would have {self.count} views",
                remedy=f"choose a larger step: {_MOST_VIEWS} views are the most",
            )

    @property
    def count(self) -> int:
        """Number of views."""
        return int((self.stop - self.start) / self.step + 1e-6) + 1


class SweepForm(QWidget):
    """From, to and step; progress; what to do with the result.

    Signals
    -------
    sweep_requested
        With the `SweepRange`.
    cancel_requested
        Stop the sweep or the recording.
    live_requested
        Show the radiograph that follows the sliders again.
    record_requested
        With the kind of file: ``"GIF"``, ``"MP4"`` or ``"PNG sequence"``.
    rejected
        The error that says why the figures make no sweep.
    """

    sweep_requested = Signal(object)
    cancel_requested = Signal()
    live_requested = Signal()
    record_requested = Signal(str)
    rejected = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._axis = QComboBox()
        self._axis.addItems(["yaw", "pitch", "roll"])
        self._axis.currentTextChanged.connect(self._on_axis)
        self._start, self._stop, self._step = (_degrees(v) for v in (-90.0, 90.0, 5.0))
        self._step.setMinimum(0.1)
        for spin in (self._start, self._stop, self._step):
            spin.valueChanged.connect(self._show_count)
        self._count = QLabel()
        self._make = QPushButton("Make the sweep")
        self._make.clicked.connect(self._on_make)
        self._live = QPushButton("Back to live")
        self._live.clicked.connect(self.live_requested)
        self._kind = QComboBox()
        self._kind.addItems(_RECORDINGS)
        self._record = QPushButton("Record…")
        self._record.clicked.connect(lambda: self.record_requested.emit(self._kind.currentText()))
        self._progress = ProgressRow()
        self._progress.cancel_requested.connect(self.cancel_requested)

        form = QFormLayout()
        form.addRow("Angle", self._axis)
        form.addRow("From, to", _row(self._start, self._stop))
        form.addRow("Step", _row(self._step, self._count))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addWidget(_row(self._make, self._live))
        layout.addWidget(_row(self._record, self._kind))
        layout.addWidget(self._progress)
        self._show_count()

    def range(self) -> SweepRange:
        """What the figures say.

        Raises
        ------
        InvalidInputError
            If they make no sweep.
        """
        return SweepRange(
            self._axis.currentText(), self._start.value(), self._stop.value(), self._step.value()
        )

    def set_range(self, sweep: SweepRange) -> None:
        """Show another range."""
        self._axis.setCurrentText(sweep.axis)
        self._start.setValue(sweep.start)
        self._stop.setValue(sweep.stop)
        self._step.setValue(sweep.step)

    def set_reasons(self, *, make: str, live: str, record: str) -> None:
        """Why each button cannot be used now; ``""`` where it can."""
        disable_with_reason(self._make, make, "Project every angle at full resolution.")
        disable_with_reason(self._live, live, "Show the radiograph that follows the sliders.")
        disable_with_reason(self._record, record, "Write the sweep to a film or to pictures.")
        disable_with_reason(self._kind, record)

    def start_progress(self, message: str) -> None:
        """Work has begun."""
        self._progress.start(message)

    def show_progress(self, progress: Progress) -> None:
        """How far it has come."""
        self._progress.show_progress(progress)

    def finish_progress(self) -> None:
        """It has ended."""
        self._progress.finish()

    def _on_axis(self, axis: str) -> None:
        if axis == "pitch" and (self._start.value() < -90 or self._stop.value() > 90):
            self._start.setValue(max(-90.0, self._start.value()))
            self._stop.setValue(min(90.0, self._stop.value()))

    def _on_make(self) -> None:
        try:
            chosen = self.range()
        except InvalidInputError as error:
            self.rejected.emit(error)
            return
        self.sweep_requested.emit(chosen)

    def _show_count(self) -> None:
        try:
            self._count.setText(f"{self.range().count} views")
        except InvalidInputError as error:
            self._count.setText("no sweep")
            self._count.setToolTip(str(error))
        else:
            self._count.setToolTip("")


def _degrees(value: float) -> QDoubleSpinBox:
    spin = QDoubleSpinBox()
    spin.setRange(-360.0, 360.0)
    spin.setDecimals(1)
    spin.setSuffix("°")
    spin.setValue(value)
    return spin


def _row(*widgets: QWidget) -> QWidget:
    box = QWidget()
    layout = QHBoxLayout(box)
    layout.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        layout.addWidget(widget)
    return box
