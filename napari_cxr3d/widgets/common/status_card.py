"""What a panel has to say: what it did, what was mended, what went wrong."""

from __future__ import annotations

import platform
import traceback
from collections.abc import Sequence
from pathlib import Path

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QFrame, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_cxr3d.errors import Cxr3dError

__all__ = ["StatusCard", "disable_with_reason"]

_COLORS = {"info": "#5a9bd5", "note": "#e0a030", "error": "#d9534f"}


def disable_with_reason(widget: QWidget, reason: str, tip: str = "") -> None:
    """Enable a widget when there is no reason against it, else disable it and say why.

    Parameters
    ----------
    widget : QWidget
        A button or a field.
    reason : str
        Why it cannot be used now, as a sentence; ``""`` enables it.
    tip : str
        Its tool tip while it can be used.
    """
    widget.setEnabled(not reason)
    widget.setToolTip(reason or tip)


class StatusCard(QFrame):
    """A line or two under the buttons; unlike a toast it stays until it is out of date."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._report = ""
        self._text = QLabel()
        self._text.setWordWrap(True)
        self._text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._copy = QPushButton("Copy report")
        self._copy.setToolTip("Copy the error, where it arose and the versions; no patient data.")
        self._copy.clicked.connect(self._copy_report)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 4, 4, 4)
        layout.addWidget(self._text)
        layout.addWidget(self._copy, alignment=Qt.AlignmentFlag.AlignLeft)
        self.clear()

    @property
    def text(self) -> str:
        """What the card says now."""
        return self._text.text()

    @property
    def report(self) -> str:
        """What "Copy report" copies; ``""`` unless an unexpected error is shown."""
        return self._report

    def clear(self) -> None:
        """Say nothing."""
        self._show("info", "")
        self.hide()

    def show_info(self, text: str) -> None:
        """Say what was done, or what to do."""
        self._show("info", text)

    def show_notes(self, text: str, notes: Sequence[str]) -> None:
        """Say what was done, and below it what was mended or assumed."""
        self._show("note" if notes else "info", "\n".join([text, *(f"• {note}" for note in notes)]))

    def show_error(self, error: Exception) -> None:
        """Say what went wrong: our own errors as they are, others with a report to copy."""
        if isinstance(error, Cxr3dError):
            self._show("error", str(error))
            return
        kind = type(error).__name__
        self._show("error", f"Something unexpected went wrong ({kind}: {error}).", _report(error))

    def _show(self, tone: str, text: str, report: str = "") -> None:
        self._report = report
        self._text.setText(text)
        self._copy.setVisible(bool(report))
        self.setStyleSheet(
            f"StatusCard {{ border: none; border-left: 3px solid {_COLORS[tone]}; }}"
        )
        self.show()

    def _copy_report(self) -> None:
        QApplication.clipboard().setText(self._report)


def _report(error: Exception) -> str:
    from napari_cxr3d.provenance import library_versions

    frames = traceback.extract_tb(error.__traceback__)
    where = [f"  {frame.name} ({Path(frame.filename).name}:{frame.lineno})" for frame in frames]
    notes = getattr(error, "__notes__", ())  # where it arose in a worker process
    versions = [f"  {name} {version}" for name, version in library_versions().items()]
    return "\n".join(
        [type(error).__name__, *where, *notes, "versions", *versions, f"  {platform.platform()}"]
    )
