"""The form of the Reconstruct panel: it emits what is asked for and shows what it is told."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_cxr3d.widgets.common.dialogs import ask_radiograph
from napari_cxr3d.widgets.common.docked import DockedPanel
from napari_cxr3d.widgets.common.findings_list import FindingsList
from napari_cxr3d.widgets.common.model_form import ModelForm
from napari_cxr3d.widgets.common.panel import ScrollPanel, Section
from napari_cxr3d.widgets.common.progress_row import ProgressRow
from napari_cxr3d.widgets.common.status_card import StatusCard, disable_with_reason
from napari_cxr3d.widgets.common.xray_form import XrayForm
from napari_cxr3d.widgets.reconstruct.controller import ReconstructController
from napari_cxr3d.widgets.reconstruct.history import HistoryTable
from napari_cxr3d.widgets.reconstruct.pictures import Picture, PictureRow
from napari_cxr3d.widgets.reconstruct.result_form import ResultForm
from napari_cxr3d.widgets.reconstruct.settings_form import SettingsForm

if TYPE_CHECKING:
    from napari import Viewer

    from napari_cxr3d.widgets.reconstruct.engine import ReconstructionEngine

__all__ = ["ReconstructPanel"]

_NO_PICTURE = "What the model will see of the X-ray appears here."
_RUN_TIP = "Make a SYNTHETIC CT. It is a guess of a model and not for diagnosis."


class ReconstructPanel(DockedPanel):
    """Make a synthetic CT from one or two chest X-rays, and see how far it can be trusted.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        The viewer whose X-rays are used, and to which the volumes go.
    engine : ReconstructionEngine, optional
        What does the work; the real one when None.
    own_process : bool, optional
        Whether the network runs in a process of its own; as the preferences say when None.

    Signals
    -------
    run_requested, cancel_requested
        Start and stop.
    smaller_requested
        With the settings to change: run again after memory ran out.
    """

    run_requested = Signal()
    cancel_requested = Signal()
    smaller_requested = Signal(object)

    def __init__(
        self,
        napari_viewer: Viewer,
        parent: QWidget | None = None,
        *,
        engine: ReconstructionEngine | None = None,
        own_process: bool | None = None,
    ) -> None:
        super().__init__("napari_cxr3d_reconstruct", parent)
        self.frontal_form = XrayForm("X-ray", optional=False)
        self.lateral_form = XrayForm("X-ray", optional=True)
        self.findings = FindingsList()
        self.model_form = ModelForm()
        self.settings_form = SettingsForm()
        self.result_form = ResultForm()
        self.history = HistoryTable()
        self.progress = ProgressRow()
        self.progress.cancel_requested.connect(self.cancel_requested)
        self.status = StatusCard()

        scroll = ScrollPanel()
        self._sections = {}
        for title, part, expanded in (
            ("Frontal X-ray", self.frontal_form, True),
            ("Lateral X-ray (optional)", self.lateral_form, False),
            ("What the model sees", self._build_prepared(), True),
            ("Model and settings", self._build_model(), True),
            ("Agreement with the X-ray", self.result_form, False),
            ("History", self.history, False),
        ):
            section = Section(title, expanded=expanded)
            section.addWidget(part)
            scroll.column.addWidget(section)
            self._sections[title] = section
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(scroll, 1)
        layout.addWidget(self._build_run())
        self.controller = ReconstructController(
            napari_viewer, self, engine, own_process=own_process
        )

    def _build_prepared(self) -> QWidget:
        self.prepared = PictureRow(columns=2)
        self._notes = QLabel(_NO_PICTURE)
        self._notes.setWordWrap(True)
        self._notes.setEnabled(False)
        box = QWidget()
        column = QVBoxLayout(box)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.findings)
        column.addWidget(self.prepared)
        column.addWidget(self._notes)
        return box

    def _build_model(self) -> QWidget:
        box = QWidget()
        column = QVBoxLayout(box)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.model_form)
        column.addWidget(self.settings_form)
        return box

    def _build_run(self) -> QWidget:
        """The foot of the panel: it stays in sight while the rest scrolls."""
        self._estimate = QLabel()
        self._estimate.setWordWrap(True)
        self._estimate.hide()
        self._run = QPushButton("Reconstruct a SYNTHETIC CT")
        self._run.clicked.connect(self.run_requested)
        self._smaller = QWidget()
        self._smaller_row = QHBoxLayout(self._smaller)
        self._smaller_row.setContentsMargins(0, 0, 0, 0)
        self._smaller.hide()
        box = QWidget()
        column = QVBoxLayout(box)
        column.setContentsMargins(8, 4, 8, 8)
        for part in (self._estimate, self._run, self.progress, self.status, self._smaller):
            column.addWidget(part)
        return box

    def show_prepared(self, pictures: Sequence[Picture], notes: Sequence[str]) -> None:
        """Show what the model will see, and what was assumed."""
        self.prepared.show_pictures(pictures)
        text = "\n".join(f"• {note}" for note in notes)
        self._notes.setText(text if pictures else _NO_PICTURE)

    def set_run_reason(self, reason: str) -> None:
        """Why nothing can be run now; ``""`` when it can."""
        disable_with_reason(self._run, reason, _RUN_TIP)

    def set_inputs_enabled(self, enabled: bool) -> None:
        """Freeze the fields while a run is under way."""
        reason = "" if enabled else "A reconstruction is running: wait, or cancel it."
        for part in (self.frontal_form, self.lateral_form, self.model_form, self.settings_form):
            disable_with_reason(part, reason)

    def show_estimate(self, text: str, *, over: bool) -> None:
        """What a run will take; in a warning's colour where it is more than there is."""
        self._estimate.setText(text)
        self._estimate.setStyleSheet("color: #e0a030;" if over else "")
        self._estimate.setVisible(bool(text))

    @property
    def estimate(self) -> str:
        """What is said of time and memory."""
        return self._estimate.text()

    def offer_smaller(self, offers: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """Offer to run again with less: a title and the settings to change, each."""
        while (item := self._smaller_row.takeAt(0)) is not None:
            item.widget().deleteLater()
        for title, changes in offers:
            button = QPushButton(title)
            button.setToolTip("Run again with this changed.")
            button.clicked.connect(partial(self._on_offer, changes))
            self._smaller_row.addWidget(button)
        self._smaller.setVisible(bool(offers))

    def show_result_section(self) -> None:
        """Unfold what a finished run has to say."""
        for title in ("Agreement with the X-ray", "History"):
            self._sections[title].expand(animate=False)

    def ask_open_path(self) -> str:
        """Which X-ray to open; ``""`` for none."""
        return ask_radiograph(self)

    def _on_offer(self, changes: dict[str, Any], _: bool = False) -> None:
        self.smaller_requested.emit(changes)
