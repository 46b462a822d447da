"""A panel that knows when its window ends: napari tells docked widgets nothing."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QEvent, QObject, Signal
from qtpy.QtWidgets import QWidget

__all__ = ["DockedPanel"]


class DockedPanel(QWidget):
    """The root of a panel with work to end.

    Signals
    -------
    docked
        The panel was put into a window.
    window_closing
        The window is about to close; it may still be kept open if the flag is True.
    detached
        The panel was taken out of its window and will not come back.
    """

    docked = Signal()
    window_closing = Signal(bool)
    detached = Signal()

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName(name)
        self._docked = False

    def event(self, event: QEvent | None) -> bool:
        """Notice being docked, and being taken out again: napari then drops the parent."""
        handled = bool(super().event(event))
        if event is not None and event.type() == QEvent.Type.ParentChange:
            if self.parent() is not None:
                self._docked = True
                self.docked.emit()
            elif self._docked:
                self.detached.emit()
                self.deleteLater()
        return handled

    def watch_window(self) -> None:
        """Hear of the window's end; called once the panel stands in it."""
        self.window().installEventFilter(self)

    def showEvent(self, event: Any) -> None:
        """Hear of the window's end from now on."""
        super().showEvent(event)
        self.watch_window()

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Pass the window's close event on."""
        if event is not None and event.type() == QEvent.Type.Close:
            self.window_closing.emit(bool(event.spontaneous()))
        return bool(super().eventFilter(watched, event))
