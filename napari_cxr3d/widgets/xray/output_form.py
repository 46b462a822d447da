"""The part of the panel that saves the radiograph."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_cxr3d.widgets.common.status_card import disable_with_reason

__all__ = ["SAVE_KINDS", "OutputForm"]

# Title, the file dialog's filter, the suffix.
SAVE_KINDS = (
    ("PNG, 8 bit", "PNG (*.png)", ".png"),
    ("PNG, 16 bit", "PNG (*.png)", ".png"),
    ("DICOM, derived", "DICOM (*.dcm)", ".dcm"),
    ("Line integrals, NRRD", "NRRD (*.nrrd)", ".nrrd"),
    ("Line integrals, NIfTI", "NIfTI (*.nii.gz)", ".nii.gz"),
    ("Line integrals, NumPy", "NumPy (*.npy)", ".npy"),
)


class OutputForm(QWidget):
    """Save the full picture, or put it into the main viewer.

    Signals
    -------
    save_requested
        With the index into `SAVE_KINDS`.
    layer_requested
        Add the radiograph (or the sweep) to the main viewer.
    """

    save_requested = Signal(int)
    layer_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._kind = QComboBox()
        self._kind.addItems([title for title, _, _ in SAVE_KINDS])
        self._save = QPushButton("Save…")
        self._save.clicked.connect(lambda: self.save_requested.emit(self._kind.currentIndex()))
        self._add = QPushButton("Add to main viewer")
        self._add.clicked.connect(self.layer_requested)
        row = QHBoxLayout()
        row.addWidget(self._save)
        row.addWidget(self._kind, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self._add)

    def set_reason(self, reason: str) -> None:
        """Why nothing can be saved now; ``""`` when it can."""
        disable_with_reason(self._save, reason, "Write the picture at full resolution.")
        disable_with_reason(self._kind, reason)
        disable_with_reason(self._add, reason, "As a layer beside the CT.")
