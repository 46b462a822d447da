"""A progress bar with a button that stops the work."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QProgressBar, QPushButton, QWidget

from napari_cxr3d.progress import Progress

__all__ = ["ProgressRow"]

_STEPS = 1000


class ProgressRow(QWidget):
    """Hidden while nothing runs.

    Signals
    -------
    cancel_requested
        The user wants the work to stop.
    """

    cancel_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._bar = QProgressBar()
        self._cancel = QPushButton("Cancel")
        self._cancel.clicked.connect(self._on_cancel)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._bar, 1)
        layout.addWidget(self._cancel)
        self.hide()

    def start(self, message: str) -> None:
        """Work has begun; how much there is to do is not known yet."""
        self._cancel.setEnabled(True)
        self._cancel.setText("Cancel")
        self._bar.setRange(0, 0)
        self._bar.setFormat(message)
        self.show()

    def show_progress(self, progress: Progress) -> None:
        """How far the work has come."""
        if progress.total > 0:
            self._bar.setRange(0, _STEPS)
            self._bar.setValue(round(_STEPS * min(progress.fraction, 1.0)))
        text = progress.message or "working"
        counted = f"{text} · {progress.done}/{progress.total}" if progress.total > 0 else text
        self._bar.setFormat(counted)

    def show_part(self, fraction: float, message: str) -> None:
        """How far the work has come, 0 to 1, where its message says what it counts."""
        self._bar.setRange(0, _STEPS)
        self._bar.setValue(round(_STEPS * min(max(fraction, 0.0), 1.0)))
        self._bar.setFormat(message)

    def finish(self) -> None:
        """The work has ended, one way or another."""
        self.hide()

    def _on_cancel(self) -> None:
        self._cancel.setEnabled(False)
        self._cancel.setText("Cancelling…")
        self.cancel_requested.emit()
