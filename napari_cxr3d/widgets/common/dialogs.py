"""Questions that only the user can answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qtpy.QtWidgets import (
    QApplication,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QLabel,
    QMessageBox,
    QVBoxLayout,
    QWidget,
)

from napari_cxr3d.errors import Cancelled, ConsentRequiredError
from napari_cxr3d.widgets.common.series_table import SeriesTable

if TYPE_CHECKING:
    from napari_cxr3d.io import SeriesEntry

__all__ = [
    "SeriesDialog",
    "ask_consent",
    "ask_radiograph",
    "can_ask",
    "choose_series",
    "consent_text",
]


def can_ask() -> bool:
    """Whether there is a window whose user could answer."""
    application = QApplication.instance()
    return isinstance(application, QApplication) and any(
        widget.isVisible() for widget in application.topLevelWidgets()
    )


def ask_radiograph(parent: QWidget) -> str:
    """Which X-ray to open; ``""`` for none."""
    path, _ = QFileDialog.getOpenFileName(
        parent,
        "Open a chest X-ray",
        "",
        "Radiographs (*.png *.jpg *.jpeg *.tif *.tiff *.dcm);;All files (*)",
    )
    return path


def consent_text(error: ConsentRequiredError) -> tuple[str, str]:
    """The question and its explanation, as the dialog puts them."""
    question = {
        "allow_gaps": "Fill the missing slices from their neighbours?",
        "allow_resampling": "Resample the slices to an even grid along the patient's axes?",
    }.get(error.consent, "Read on all the same?")
    why = f": {error.why}" if error.why else ""
    explanation = (
        f"{error.what}{why}. Reading on alters the voxels; the layer's notes will say so, and "
        "the files stay as they are."
    )
    return question, explanation


def ask_consent(error: ConsentRequiredError, parent: QWidget | None = None) -> bool:
    """Ask whether the data may be altered in order to be read; no is the default."""
    question, explanation = consent_text(error)
    box = QMessageBox(parent or QApplication.activeWindow())
    box.setIcon(QMessageBox.Icon.Question)
    box.setWindowTitle("This series needs mending")
    box.setText(question)
    box.setInformativeText(explanation)
    box.setStandardButtons(QMessageBox.StandardButton.Yes | QMessageBox.StandardButton.No)
    box.setDefaultButton(QMessageBox.StandardButton.No)
    return bool(box.exec() == QMessageBox.StandardButton.Yes)


def choose_series(entries: Sequence[SeriesEntry], parent: QWidget | None = None) -> SeriesEntry:
    """Ask which series of a folder to open.

    Raises
    ------
    Cancelled
        If the user wants none.
    """
    dialog = SeriesDialog(entries, parent or QApplication.activeWindow())
    chosen = dialog.exec() == QDialog.DialogCode.Accepted
    entry = dialog.entry()
    dialog.deleteLater()
    if not chosen or entry is None:
        raise Cancelled
    return entry


class SeriesDialog(QDialog):
    """A table of series, one of which can be opened."""

    def __init__(self, entries: Sequence[SeriesEntry], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Which series?")
        self.resize(560, 320)
        self._table = SeriesTable()
        self._table.show_entries(entries)
        buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Open | QDialogButtonBox.StandardButton.Cancel
        )
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        self._table.open_requested.connect(self.accept)
        layout = QVBoxLayout(self)
        layout.addWidget(QLabel(f"The folder holds {len(entries)} series. Open one of them:"))
        layout.addWidget(self._table)
        layout.addWidget(buttons)

    def entry(self) -> SeriesEntry | None:
        """The series that is selected."""
        return self._table.selected_entry()
