"""The form of the X-ray panel: it emits what the user asks for and shows what it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_cxr3d.widgets.common.dialogs import ask_radiograph
from napari_cxr3d.widgets.common.docked import DockedPanel
from napari_cxr3d.widgets.common.panel import ScrollPanel, Section
from napari_cxr3d.widgets.common.status_card import StatusCard, disable_with_reason
from napari_cxr3d.widgets.xray.compare_form import CompareForm
from napari_cxr3d.widgets.xray.controller import XrayController
from napari_cxr3d.widgets.xray.geometry_form import GeometryForm
from napari_cxr3d.widgets.xray.output_form import OutputForm
from napari_cxr3d.widgets.xray.picture_form import PictureForm
from napari_cxr3d.widgets.xray.sweep_form import SweepForm

if TYPE_CHECKING:
    from napari import Viewer

__all__ = ["XrayPanel"]


class XrayPanel(DockedPanel):
    """Turn the X-ray source around a CT and see the radiograph follow.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        The viewer whose CTs are projected.

    Signals
    -------
    ct_chosen
        With the name of the CT layer.
    geometry_toggled
        Whether tube, beam and detector are shown in 3D.
    canvas_requested
        Show the X-ray view again.
    """

    ct_chosen = Signal(str)
    geometry_toggled = Signal(bool)
    canvas_requested = Signal()

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__("napari_cxr3d_xray", parent)
        self.geometry_form = GeometryForm()
        self.picture_form = PictureForm()
        self.sweep_form = SweepForm()
        self.compare_form = CompareForm()
        self.output_form = OutputForm()
        self.status = StatusCard()
        scroll = ScrollPanel()
        scroll.column.addWidget(self._build_choice())
        scroll.column.addWidget(self.geometry_form)
        scroll.column.addWidget(self._build_geometry_toggle())
        scroll.column.addWidget(self.picture_form)
        for title, form in (
            ("Sweep and film", self.sweep_form),
            ("Compare with a chest X-ray", self.compare_form),
            ("Save", self.output_form),
        ):
            section = Section(title, expanded=False)
            section.addWidget(form)
            scroll.column.addWidget(section)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(scroll, 1)
        layout.addWidget(self.status)
        self.controller = XrayController(napari_viewer, self)

    def _build_choice(self) -> QWidget:
        box = QWidget()
        row = QHBoxLayout(box)
        row.setContentsMargins(0, 0, 0, 0)
        self._cts = QComboBox()
        self._cts.activated.connect(lambda _: self.ct_chosen.emit(self._cts.currentText()))
        self._canvas_button = QPushButton("Show the X-ray view")
        self._canvas_button.clicked.connect(self.canvas_requested)
        self._canvas_button.hide()
        row.addWidget(QLabel("CT"))
        row.addWidget(self._cts, 1)
        row.addWidget(self._canvas_button)
        return box

    def _build_geometry_toggle(self) -> QWidget:
        self._geometry = QCheckBox("Show tube, beam and detector in 3D")
        self._geometry.setToolTip("As layers of the main viewer; they appear in its 3D view.")
        self._geometry.toggled.connect(self.geometry_toggled)
        return self._geometry

    def show_cts(self, names: list[str], chosen: str, reason: str) -> None:
        """Offer these CT layers.

        Parameters
        ----------
        names : list of str
            Layers that can be projected.
        chosen : str
            The one that is.
        reason : str
            Why there is none; ``""`` when there is.
        """
        with signals_blocked(self._cts):
            self._cts.clear()
            self._cts.addItems(names)
            self._cts.setCurrentText(chosen)
        disable_with_reason(self._cts, reason, "The CT that is projected.")
        disable_with_reason(
            self._geometry, reason, "As layers of the main viewer; they appear in its 3D view."
        )
        for form in (self.geometry_form, self.picture_form):
            disable_with_reason(form, reason)

    @property
    def shows_geometry(self) -> bool:
        """Whether tube, beam and detector are wanted in 3D."""
        return self._geometry.isChecked()

    def show_canvas_button(self, shown: bool) -> None:
        """Offer to bring the X-ray view back."""
        self._canvas_button.setVisible(shown)

    def ask_save_path(self, title: str, suffix: str, pattern: str) -> str:
        """Where to save to; ``""`` when the user wants nothing saved."""
        path, _ = QFileDialog.getSaveFileName(self, title, f"drr{suffix}", pattern)
        if path and not path.lower().endswith(suffix):
            path += suffix
        return path

    def ask_folder(self, title: str) -> str:
        """Which folder to save to; ``""`` when the user wants nothing saved."""
        return QFileDialog.getExistingDirectory(self, title)

    def ask_open_path(self) -> str:
        """Which radiograph to open; ``""`` for none."""
        return ask_radiograph(self)
