"""The part of the panel that lays pictures out by what the model makes of them."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_cxr3d.widgets.common.status_card import disable_with_reason
from napari_cxr3d.widgets.world_model.plots import ScatterPlot

__all__ = ["MapForm"]


class MapForm(QWidget):
    """Pictures as points; near ones look alike to the model.

    Signals
    -------
    open_ones_requested
        Map the X-rays that are open in the viewer.
    folder_requested
        Map the X-rays of a folder.
    """

    open_ones_requested = Signal()
    folder_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._open_ones = QPushButton("Map open pictures")
        self._open_ones.clicked.connect(self.open_ones_requested)
        self._folder = QPushButton("Map a folder…")
        self._folder.clicked.connect(self.folder_requested)
        self._note = QLabel()
        self._note.setWordWrap(True)
        self._note.hide()
        self.plot = ScatterPlot()
        row = QHBoxLayout()
        row.addWidget(self._open_ones)
        row.addWidget(self._folder)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self._note)
        layout.addWidget(self.plot)

    def set_reason(self, reason: str) -> None:
        """Why nothing can be mapped; ``""`` when it can."""
        disable_with_reason(self._open_ones, reason, "The X-rays that are open in the viewer.")
        disable_with_reason(self._folder, reason, "The X-rays of a folder, without its subfolders.")

    def show_note(self, text: str) -> None:
        """What is said of the map."""
        self._note.setText(text)
        self._note.setVisible(bool(text))
