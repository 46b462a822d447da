"""The runs of this session, to be shown again or repeated."""

from __future__ import annotations

from dataclasses import dataclass

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTreeWidget, QTreeWidgetItem, QWidget

from napari_cxr3d.viewer.reconstruction import ShownRun
from napari_cxr3d.widgets.reconstruct.settings_form import Settings

__all__ = ["HistoryTable", "RunRecord"]

_COLUMNS = ("Time", "X-ray", "Seed", "N", "Steps", "Error", "s", "Model")
_ROWS = 4


@dataclass(frozen=True, eq=False)
class RunRecord:
    """A finished run; it keeps no volume alive.

    Attributes
    ----------
    time : str
        Hours and minutes.
    xray : str
        Names of the layers that it started from.
    model : str
        Name and version.
    model_name : str
        Name alone, to choose it again.
    settings : Settings
        What was set.
    steps : int
        Steps that were made for each sample.
    relative_error : float or None
        Of the re-projection; None where there was none.
    seconds : float
        How long it took.
    shown : ShownRun
        Its layers.
    """

    time: str
    xray: str
    model: str
    model_name: str
    settings: Settings
    steps: int
    relative_error: float | None
    seconds: float
    shown: ShownRun


class HistoryTable(QTreeWidget):
    """One line a run, the newest first.

    Signals
    -------
    chosen
        With the `RunRecord` that was double-clicked, or confirmed with Enter.
    """

    chosen = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._records: list[RunRecord] = []
        self.setColumnCount(len(_COLUMNS))
        self.setHeaderLabels(_COLUMNS)
        self.setRootIsDecorated(False)
        self.setUniformRowHeights(True)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.header().setStretchLastSection(False)
        self.header().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.setToolTip("Double-click a run to see its layers again and to get its settings back.")
        self.setMinimumHeight((_ROWS + 1) * self.fontMetrics().lineSpacing())
        self.itemActivated.connect(self._on_activated)

    @property
    def records(self) -> tuple[RunRecord, ...]:
        """All runs, the newest first."""
        return tuple(self._records)

    def add(self, record: RunRecord) -> None:
        """A run has finished."""
        error = "–" if record.relative_error is None else f"{100 * record.relative_error:.1f} %"
        cells = [
            record.time,
            record.xray,
            str(record.settings.seed),
            str(record.settings.samples),
            str(record.steps),
            error,
            f"{record.seconds:.1f}",
            record.model,
        ]
        item = QTreeWidgetItem(cells)
        for column in range(2, 7):
            item.setTextAlignment(column, Qt.AlignmentFlag.AlignRight)
        item.setToolTip(
            0,
            f"{record.model}, consistency {record.settings.consistency}, start "
            f"{record.settings.start}, guidance {record.settings.guidance:g}",
        )
        self._records.insert(0, record)
        self.insertTopLevelItem(0, item)

    def _on_activated(self, item: QTreeWidgetItem) -> None:
        self.chosen.emit(self._records[self.indexOfTopLevelItem(item)])
