"""A table of landmarks: what they are called, and how well they were found again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTreeWidget, QTreeWidgetItem, QWidget
from superqt.utils import signals_blocked

__all__ = ["LandmarkRow", "LandmarkTable"]

_COLUMNS = ("Landmark", "On", "Match", "Similarity", "Contrast", "Both ways")
_TIPS = (
    "Double-click to rename; the box shows its colour.",
    "The picture that it was placed on.",
    "Row and column of the best match on the other picture.",
    "Cosine similarity at the best match, -1 to 1.",
    "How far the best match stands out from the rest of the map.",
    "Whether the best match leads back to the landmark. Where it does not, do not trust it.",
)
_ROWS = 4


@dataclass(frozen=True)
class LandmarkRow:
    """A landmark as the table shows it.

    Attributes
    ----------
    name, color : str
        Of its marks.
    side : str
        Where it was placed.
    point : tuple of 2 float
        Row and column there.
    match : tuple of 2 float or None
        Row and column on the other picture.
    value, contrast : float or None
        Of the match.
    mutual : bool or None
        Whether the match leads back.
    """

    name: str
    color: str
    side: str
    point: tuple[float, float]
    match: tuple[float, float] | None
    value: float | None
    contrast: float | None
    mutual: bool | None

    def cells(self) -> list[str]:
        """What stands in the columns."""
        match = "–" if self.match is None else f"{self.match[0]:.0f}, {self.match[1]:.0f}"
        figures = ["–" if v is None else f"{v:.2f}" for v in (self.value, self.contrast)]
        both = {None: "–", True: "yes", False: "no"}[self.mutual]
        return [self.name, self.side, match, *figures, both]


class LandmarkTable(QTreeWidget):
    """One line a landmark.

    Signals
    -------
    selected
        With the row whose map is to be shown.
    renamed
        With the row and its new name.
    """

    selected = Signal(int)
    renamed = Signal(int, str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setColumnCount(len(_COLUMNS))
        self.setHeaderLabels(_COLUMNS)
        for column, tip in enumerate(_TIPS):
            self.headerItem().setToolTip(column, tip)
        self.setRootIsDecorated(False)
        self.setUniformRowHeights(True)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        header = self.header()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.setMinimumHeight((_ROWS + 1) * self.fontMetrics().lineSpacing() + 12)
        self.currentItemChanged.connect(self._on_current)
        self.itemDoubleClicked.connect(self._on_double_click)
        self.itemChanged.connect(self._on_changed)

    @property
    def current_row(self) -> int:
        """The selected row; -1 for none."""
        item = self.currentItem()
        return -1 if item is None else int(self.indexOfTopLevelItem(item))

    def show_rows(self, rows: Sequence[LandmarkRow], selected: int) -> None:
        """Show these landmarks; nothing is emitted."""
        with signals_blocked(self):
            while self.topLevelItemCount() > len(rows):
                self.takeTopLevelItem(self.topLevelItemCount() - 1)
            while self.topLevelItemCount() < len(rows):
                self.addTopLevelItem(QTreeWidgetItem())
            for k, row in enumerate(rows):
                item = self.topLevelItem(k)
                item.setFlags(item.flags() | Qt.ItemFlag.ItemIsEditable)
                for column, text in enumerate(row.cells()):
                    item.setText(column, text)
                item.setData(0, Qt.ItemDataRole.DecorationRole, QColor(row.color))
                doubt = QColor("#e0a030") if row.mutual is False else None
                item.setData(5, Qt.ItemDataRole.ForegroundRole, doubt)
            self.setCurrentItem(self.topLevelItem(selected) if 0 <= selected < len(rows) else None)

    def _on_current(self, item: QTreeWidgetItem | None, _: QTreeWidgetItem | None) -> None:
        if item is not None:
            self.selected.emit(self.indexOfTopLevelItem(item))

    def _on_double_click(self, item: QTreeWidgetItem, column: int) -> None:
        if column == 0:
            self.editItem(item, 0)

    def _on_changed(self, item: QTreeWidgetItem, column: int) -> None:
        if column == 0:
            self.renamed.emit(self.indexOfTopLevelItem(item), item.text(0))
