"""The form of the Study panel: it emits what the user asks for and shows what it is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QMenu,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_cxr3d.errors import ConsentRequiredError
from napari_cxr3d.imaging import WINDOWS
from napari_cxr3d.viewer.planes import Plane
from napari_cxr3d.widgets.common.dialogs import ask_consent
from napari_cxr3d.widgets.common.panel import ScrollPanel, Section
from napari_cxr3d.widgets.common.progress_row import ProgressRow
from napari_cxr3d.widgets.common.series_table import SeriesTable
from napari_cxr3d.widgets.common.status_card import StatusCard, disable_with_reason
from napari_cxr3d.widgets.study.controller import StudyController

if TYPE_CHECKING:
    from napari import Viewer

    from napari_cxr3d.io import SeriesEntry

__all__ = ["StudyPanel"]

_FILES = (
    "Images (*.nii *.nii.gz *.nrrd *.nhdr *.mha *.mhd *.dcm *.png *.jpg *.jpeg *.tif *.tiff);;"
    "All files (*)"
)
_HINT = "Drag with the right button (or Shift and the left): right is wider, down is higher."


class StudyPanel(ScrollPanel):
    """Open CTs and chest X-rays; windows, planes and facts of what is shown.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        The viewer to which the images go.

    Signals
    -------
    folder_chosen, file_chosen
        With the path that the user picked.
    sample_requested
        With ``"chest_ct"``, ``"thorax_phantom"`` or ``"ellipsoid_thorax"``.
    series_requested
        With the `SeriesEntry` to open.
    window_requested
        With the name of a window.
    plane_requested
        With a `Plane`.
    cancel_requested
        The user wants the reading to stop.
    """

    folder_chosen = Signal(str)
    file_chosen = Signal(str)
    sample_requested = Signal(str)
    series_requested = Signal(object)
    window_requested = Signal(str)
    plane_requested = Signal(object)
    cancel_requested = Signal()

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("napari_cxr3d_study")
        self.progress = ProgressRow()
        self.status = StatusCard()
        self.progress.cancel_requested.connect(self.cancel_requested)
        self.column.addWidget(self._opening())
        self.column.addWidget(self.progress)
        self.column.addWidget(self.status)
        self._series_section = Section("Series", expanded=True)
        self._series_section.addWidget(self._series())
        self.column.addWidget(self._series_section)
        for title, part in (
            ("Plane", self._planes()),
            ("CT window", self._windows()),
            ("Layer", self._facts()),
        ):
            section = Section(title)
            section.addWidget(part)
            self.column.addWidget(section)
        self.show_series(())
        self.controller = StudyController(napari_viewer, self)

    def _opening(self) -> QWidget:
        folder = QPushButton("Open folder…")
        folder.setToolTip("A DICOM folder with its subfolders: CT series and radiographs.")
        folder.clicked.connect(self._pick_folder)
        file = QPushButton("Open file…")
        file.setToolTip("NIfTI, NRRD, MetaImage, DICOM; a radiograph also as PNG, JPEG or TIFF.")
        file.clicked.connect(self._pick_file)
        samples = QPushButton("Samples")
        menu = QMenu(samples)
        for title, key in (
            ("Chest CT (LIDC-IDRI-0001)", "chest_ct"),
            ("Patient with pulmonary embolism (SYNTHETIC)", "thorax_phantom"),
            ("Ellipsoid thorax (SYNTHETIC)", "ellipsoid_thorax"),
        ):
            action = menu.addAction(title)
            action.triggered.connect(lambda _=False, k=key: self.sample_requested.emit(k))
        samples.setMenu(menu)
        self._openers = (folder, file, samples)
        row = QWidget()
        layout = QHBoxLayout(row)
        layout.setContentsMargins(0, 0, 0, 0)
        for button in self._openers:
            layout.addWidget(button, 1)
        return row

    def _series(self) -> QWidget:
        self._table = SeriesTable()
        self._table.setMinimumHeight(110)
        self._table.open_requested.connect(self.series_requested)
        self._table.currentItemChanged.connect(lambda *_: self._update_open_button())
        self._open = QPushButton("Open series")
        self._open.clicked.connect(lambda: self.series_requested.emit(self._table.selected_entry()))
        part = QWidget()
        layout = QGridLayout(part)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._table, 0, 0)
        layout.addWidget(self._open, 1, 0)
        return part

    def _planes(self) -> QWidget:
        self._plane_buttons = {
            plane: QPushButton(str(plane)[0].upper() + str(plane)[1:]) for plane in Plane
        }
        return _exclusive_row(
            self._plane_buttons, self.plane_requested.emit, columns=len(self._plane_buttons)
        )

    def _windows(self) -> QWidget:
        self._window_buttons = {}
        for number, (name, window) in enumerate(WINDOWS.items(), start=1):
            button = QPushButton(f"{name}\nW {window.width:g}  L {window.level:g}")
            button.setProperty("tip", f"Alt+{number}")
            self._window_buttons[name] = button
        hint = QLabel(_HINT)
        hint.setWordWrap(True)
        hint.setEnabled(False)
        part = QWidget()
        column = QVBoxLayout(part)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(
            _exclusive_row(self._window_buttons, self.window_requested.emit, columns=3)
        )
        column.addWidget(hint)
        return part

    def _facts(self) -> QWidget:
        self._facts_label = QLabel()
        self._facts_label.setWordWrap(True)
        self._facts_label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        return self._facts_label

    def _pick_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Open a folder of images")
        if path:
            self.folder_chosen.emit(path)

    def _pick_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open a CT or a chest X-ray", "", _FILES)
        if path:
            self.file_chosen.emit(path)

    def show_series(self, entries: Sequence[SeriesEntry]) -> None:
        """Show the series of a folder; without any, the section goes away."""
        self._table.show_entries(entries)
        self._series_section.setVisible(bool(entries))
        self._update_open_button()

    def _update_open_button(self) -> None:
        entry = self._table.selected_entry()
        disable_with_reason(
            self._open, "" if entry is not None else "Choose a series that can be opened."
        )

    def show_busy(self, message: str) -> None:
        """Reading has begun: nothing else can be opened meanwhile."""
        self.progress.start(message)
        self._set_openers_enabled("An image is being read: wait, or cancel it.")

    def show_idle(self) -> None:
        """Reading has ended."""
        self.progress.finish()
        self._set_openers_enabled("")

    def _set_openers_enabled(self, reason: str) -> None:
        for opener in self._openers:
            opener.setEnabled(not reason)
        self._table.setEnabled(not reason)
        if reason:
            disable_with_reason(self._open, reason)
        else:
            self._update_open_button()

    def show_reading(
        self, *, plane: Plane | None, window: str | None, facts: str, reason: str
    ) -> None:
        """Show how the image is looked at.

        Parameters
        ----------
        plane : Plane or None
            The plane that is shown, if it is one of ours.
        window : str or None
            Name of the window in use, if it is one of ours.
        facts : str
            What is known of the layer.
        reason : str
            Why windows and planes cannot be chosen now; ``""`` when they can.
        """
        for buttons, chosen in ((self._plane_buttons, plane), (self._window_buttons, window)):
            for key, button in buttons.items():
                button.setChecked(key == chosen)
                disable_with_reason(button, reason, button.property("tip") or "")
        self._facts_label.setText(facts)

    def ask_consent(self, error: ConsentRequiredError) -> bool:
        """Ask whether the data may be altered in order to be read."""
        return ask_consent(error, self)


def _exclusive_row(
    buttons: Mapping[Any, QPushButton], emit: Callable[[Any], None], *, columns: int
) -> QWidget:
    """Buttons in a grid of which at most one is down; each emits its key."""
    part = QWidget()
    layout = QGridLayout(part)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(4)
    for k, (key, button) in enumerate(buttons.items()):
        button.setCheckable(True)
        button.clicked.connect(lambda _=False, key=key: emit(key))
        layout.addWidget(button, k // columns, k % columns)
    return part
