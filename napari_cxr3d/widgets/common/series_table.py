"""A table of the series that a folder offers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTreeWidget, QTreeWidgetItem, QWidget

if TYPE_CHECKING:
    from napari_cxr3d.io import SeriesEntry

__all__ = ["SeriesTable"]

_COLUMNS = ("Series", "Kind", "Slices", "Spacing")


class SeriesTable(QTreeWidget):
    """Series with their modality, slices and spacing; those that cannot be opened are grey.

    Signals
    -------
    open_requested
        With the `SeriesEntry` that was double-clicked, or confirmed with Enter.
    """

    open_requested = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._entries: tuple[SeriesEntry, ...] = ()
        self.setColumnCount(len(_COLUMNS))
        self.setHeaderLabels(_COLUMNS)
        self.setRootIsDecorated(False)
        self.setUniformRowHeights(True)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        header = self.header()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.itemActivated.connect(self._on_activated)

    def show_entries(self, entries: Sequence[SeriesEntry]) -> None:
        """Show these series and select the first that can be opened."""
        self._entries = tuple(entries)
        self.clear()
        for entry in entries:
            item = QTreeWidgetItem(_cells(entry))
            for column in (2, 3):
                item.setTextAlignment(column, Qt.AlignmentFlag.AlignRight)
            item.setToolTip(0, entry.reason or _tool_tip(entry))
            item.setDisabled(entry.kind not in ("ct", "cxr"))
            self.addTopLevelItem(item)
        first = next((k for k, e in enumerate(entries) if e.kind in ("ct", "cxr")), None)
        if first is not None:
            self.setCurrentItem(self.topLevelItem(first))

    def selected_entry(self) -> SeriesEntry | None:
        """The selected series; None where there is none that can be opened."""
        item = self.currentItem()
        if item is None or item.isDisabled():
            return None
        return self._entries[self.indexOfTopLevelItem(item)]

    def _on_activated(self, item: QTreeWidgetItem) -> None:
        if not item.isDisabled():
            self.open_requested.emit(self._entries[self.indexOfTopLevelItem(item)])


def _tool_tip(entry: SeriesEntry) -> str:
    """The name of a volume file, which nothing else tells apart, or the series; its voxels."""
    name = entry.files[0].name if entry.uid.startswith("file:") else entry.label
    if entry.spacing_mm is None:
        return name
    return f"{name}\n{' × '.join(f'{s:.4g}' for s in entry.spacing_mm)} mm"


def _cells(entry: SeriesEntry) -> list[str]:
    number = "" if entry.number is None else f"{entry.number} · "
    kind = "scout" if entry.kind == "localizer" else entry.modality or "?"
    spacing = "" if entry.spacing_mm is None else f"{entry.spacing_mm[0]:.3g} mm"
    return [
        f"{number}{entry.description or 'unnamed'}",
        kind,
        str(entry.n_slices),
        spacing,
    ]
