"""The part of the panel that follows a landmark through a sweep."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QLabel,
    QPushButton,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_cxr3d.widgets.common.status_card import disable_with_reason
from napari_cxr3d.widgets.world_model.plots import CurvePlot

__all__ = ["NO_CT", "LayerPicker", "TrackForm"]

NO_CT = "none"
_COLUMNS = ("Angle", "Row, column", "Similarity", "Error")
_ROWS = 5


class LayerPicker(QComboBox):
    """A list of layers by name, with or without none of them."""

    def __init__(self, *, optional: bool, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._optional = optional
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(10)

    @property
    def chosen(self) -> str:
        """The name that is chosen; ``""`` for none."""
        text = str(self.currentText())
        return "" if self._optional and self.currentIndex() <= 0 else text

    def offer(self, names: Sequence[str]) -> None:
        """Offer these; what was chosen stays chosen if it is among them."""
        chosen = self.chosen
        with signals_blocked(self):
            self.clear()
            self.addItems([NO_CT, *names] if self._optional else list(names))
            if chosen in names:
                self.setCurrentText(chosen)


class TrackForm(QWidget):
    """Which sweep, how it is searched, and what came of it.

    Signals
    -------
    track_requested
        Follow the selected landmark.
    point_requested
        Take the crosshair of the chosen CT as the landmark's true place.
    frame_chosen
        With the frame of a line of the table.
    """

    track_requested = Signal()
    point_requested = Signal()
    frame_chosen = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.sweeps = LayerPicker(optional=False)
        self.ct = LayerPicker(optional=True)
        self.ct.setToolTip("The CT that the sweep was projected from: it knows the true place.")
        self._point = QPushButton("Take its crosshair")
        self._point.setToolTip(
            "The point where the CT's planes meet is the landmark's true place. A DRR of the CT "
            "gets a landmark there; the error in mm is measured against it."
        )
        self._point.clicked.connect(self.point_requested)
        self._truth = QLabel()
        self._truth.hide()
        self._epipolar = QCheckBox("Only along the landmark's ray")
        self._epipolar.setChecked(True)
        self._epipolar.setToolTip(
            "Picture A and the sweep are of one CT: the landmark can only move along its ray."
        )
        self._track = QPushButton("Track along the sweep")
        self._track.clicked.connect(self.track_requested)
        self._figures = QLabel()
        self._figures.setWordWrap(True)
        self._figures.hide()
        self.plot = CurvePlot("angle in degrees", "error in mm")
        self.table = QTreeWidget()
        self.table.setHeaderLabels(_COLUMNS)
        self.table.setRootIsDecorated(False)
        self.table.setUniformRowHeights(True)
        self.table.setMinimumHeight((_ROWS + 1) * self.fontMetrics().lineSpacing() + 12)
        self.table.hide()
        self.table.currentItemChanged.connect(self._on_current)
        form = QFormLayout()
        form.addRow("Sweep", self.sweeps)
        form.addRow("True place in", self.ct)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        for part in (
            self._point,
            self._truth,
            self._epipolar,
            self._track,
            self._figures,
            self.plot,
            self.table,
        ):
            layout.addWidget(part)

    @property
    def epipolar(self) -> bool:
        """Whether the landmark keeps to its ray."""
        return bool(self._epipolar.isChecked())

    @property
    def figures(self) -> str:
        """What is said of the trajectory."""
        return self._figures.text()

    def set_reason(self, reason: str, epipolar: str) -> None:
        """Why nothing can be tracked, and why no ray is known; ``""`` when there is no reason."""
        disable_with_reason(
            self._track, reason, "Find the selected landmark on every frame of the sweep."
        )
        disable_with_reason(self._epipolar, epipolar, self._epipolar.toolTip())

    def show_point(self, text: str) -> None:
        """What the true place is; ``""`` where none is known."""
        self._truth.setText(text)
        self._truth.setVisible(bool(text))

    def show_rows(self, rows: Sequence[Sequence[str]], figures: str) -> None:
        """One line a frame, and what they amount to."""
        self.table.clear()
        for cells in rows:
            item = QTreeWidgetItem(list(cells))
            for column in range(len(_COLUMNS)):
                item.setTextAlignment(column, Qt.AlignmentFlag.AlignRight)
            self.table.addTopLevelItem(item)
        self.table.setVisible(bool(rows))
        self._figures.setText(figures)
        self._figures.setVisible(bool(figures))

    def _on_current(self, item: QTreeWidgetItem | None, _: QTreeWidgetItem | None) -> None:
        if item is not None:
            self.frame_chosen.emit(self.table.indexOfTopLevelItem(item))
