"""The part of the panel that says how far a result agrees with its X-rays, and goes on from it."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QGridLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_cxr3d.imaging import WINDOWS
from napari_cxr3d.widgets.common.status_card import disable_with_reason
from napari_cxr3d.widgets.reconstruct.pictures import Picture, PictureRow

__all__ = ["ResultForm"]

_NO_RESULT = "There is no result yet."
_ONE_SAMPLE = "One sample has no uncertainty: draw at least two."


class ResultForm(QWidget):
    """The re-projection beside the X-ray, its figures, and what can be done with the volume.

    Signals
    -------
    window_requested
        With the name of a CT window.
    uncertainty_toggled
        Whether the uncertainty lies over the volume.
    reprojection_requested
        Add the re-projection to the viewer.
    xray_panel_requested
        Turn the X-ray source around the synthetic volume.
    """

    window_requested = Signal(str)
    uncertainty_toggled = Signal(bool)
    reprojection_requested = Signal()
    xray_panel_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.pictures = PictureRow()
        self._figures = QLabel()
        self._figures.setWordWrap(True)
        self._figures.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._uncertainty = QCheckBox("Uncertainty over the volume")
        self._uncertainty.toggled.connect(self.uncertainty_toggled)
        self._reprojection = QPushButton("Add re-projection")
        self._reprojection.clicked.connect(self.reprojection_requested)
        self._xray = QPushButton("To X-ray panel")
        self._xray.clicked.connect(self.xray_panel_requested)
        self._windows = []
        grid = QGridLayout()
        grid.setSpacing(4)
        for k, name in enumerate(WINDOWS):
            button = QPushButton(name)
            button.clicked.connect(lambda _=False, name=name: self.window_requested.emit(name))
            self._windows.append(button)
            grid.addWidget(button, k // 3, k % 3)
        grid.addWidget(self._reprojection, 2, 0, 1, 2)
        grid.addWidget(self._xray, 2, 2)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.pictures)
        layout.addWidget(self._figures)
        layout.addWidget(self._uncertainty)
        layout.addLayout(grid)
        self.clear()

    @property
    def figures(self) -> str:
        """What is said of the agreement."""
        return self._figures.text()

    def clear(self) -> None:
        """There is no result."""
        self.pictures.show_pictures(())
        self._figures.setText(_NO_RESULT)
        self.set_reasons(_NO_RESULT, has_uncertainty=False)

    def show_agreement(self, pictures: Sequence[Picture], figures: str) -> None:
        """X-ray, re-projection and difference of each view, and what they amount to."""
        self.pictures.show_pictures(pictures)
        self._figures.setText(figures)

    def set_reasons(self, reason: str, *, has_uncertainty: bool) -> None:
        """Why nothing can be done with a result now; ``""`` when it can."""
        for button in self._windows:
            disable_with_reason(button, reason, "Show the synthetic volume through this window.")
        disable_with_reason(
            self._reprojection, reason, "Add the X-ray of the synthetic volume as a layer."
        )
        disable_with_reason(
            self._xray, reason, "Turn the X-ray source around the synthetic volume."
        )
        disable_with_reason(
            self._uncertainty,
            reason or ("" if has_uncertainty else _ONE_SAMPLE),
            "Where the samples differ, the X-ray does not say what is there.",
        )
        if not has_uncertainty:
            self.show_uncertainty(False)

    def show_uncertainty(self, shown: bool) -> None:
        """Tick the box, or not, as the viewer shows it; nothing is emitted."""
        self._uncertainty.blockSignals(True)
        self._uncertainty.setChecked(shown)
        self._uncertainty.blockSignals(False)
