"""The form of the World model panel: it emits what is asked for and shows what it is told."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_cxr3d.viewer.world_model import SIDES
from napari_cxr3d.widgets.common.dialogs import ask_radiograph
from napari_cxr3d.widgets.common.docked import DockedPanel
from napari_cxr3d.widgets.common.findings_list import FindingsList
from napari_cxr3d.widgets.common.model_form import ModelForm
from napari_cxr3d.widgets.common.panel import ScrollPanel, Section
from napari_cxr3d.widgets.common.progress_row import ProgressRow
from napari_cxr3d.widgets.common.status_card import StatusCard
from napari_cxr3d.widgets.common.xray_form import XrayForm
from napari_cxr3d.widgets.world_model.controller import WorldModelController
from napari_cxr3d.widgets.world_model.landmark_form import LandmarkForm
from napari_cxr3d.widgets.world_model.map_form import MapForm
from napari_cxr3d.widgets.world_model.session import NO_MODEL
from napari_cxr3d.widgets.world_model.track_form import TrackForm
from napari_cxr3d.widgets.world_model.views_form import ViewsForm, VolumeForm

if TYPE_CHECKING:
    from napari import Viewer

    from napari_cxr3d.widgets.world_model.engine import WorldModelEngine

__all__ = ["WorldModelPanel"]

_NOTICE = (
    "For research only. Maps show what a model finds alike, and views and volumes are SYNTHETIC: "
    "nothing is to be diagnosed from them."
)


class WorldModelPanel(DockedPanel):
    """Find landmarks again on another picture, turn an X-ray, and make a volume of the views.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        The viewer whose pictures are used, and to which what is made of them goes.
    engine : WorldModelEngine, optional
        What does the work; the real one when None.
    own_process : bool, optional
        Whether the network runs in a process of its own; as the preferences say when None.

    Signals
    -------
    cancel_requested
        Stop what runs.
    pair_requested
        Show the two pictures again.
    """

    cancel_requested = Signal()
    pair_requested = Signal()

    def __init__(
        self,
        napari_viewer: Viewer,
        parent: QWidget | None = None,
        *,
        engine: WorldModelEngine | None = None,
        own_process: bool | None = None,
    ) -> None:
        super().__init__("napari_cxr3d_world_model", parent)
        self.model_form = ModelForm(nothing=NO_MODEL, tip="The network that looks at pictures.")
        self.picture_forms = {side: XrayForm(f"Picture {side}", optional=False) for side in SIDES}
        self.findings = FindingsList()
        self.landmark_form = LandmarkForm()
        self.track_form = TrackForm()
        self.views_form = ViewsForm()
        self.volume_form = VolumeForm()
        self.map_form = MapForm()
        self.progress = ProgressRow()
        self.progress.cancel_requested.connect(self.cancel_requested)
        self.status = StatusCard()
        self._pair = QPushButton("Show A and B")
        self._pair.setToolTip("Bring the two pictures back to the canvas, side by side.")
        self._pair.clicked.connect(self.pair_requested)

        scroll = ScrollPanel()
        self.sections = {}
        for title, part, expanded in (
            ("Model", self.model_form, True),
            ("Picture A", self._with_findings(), True),
            ("Picture B", self.picture_forms["B"], True),
            ("Landmarks", self.landmark_form, True),
            ("Track along a sweep", self.track_form, False),
            ("Views of picture A", self.views_form, False),
            ("Volume from picture A", self.volume_form, False),
            ("Map of pictures", self.map_form, False),
        ):
            section = Section(title, expanded=expanded)
            section.addWidget(part)
            scroll.column.addWidget(section)
            self.sections[title] = section
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(scroll, 1)
        layout.addWidget(self._build_foot())
        self.controller = WorldModelController(napari_viewer, self, engine, own_process=own_process)

    def _with_findings(self) -> QWidget:
        box = QWidget()
        column = QVBoxLayout(box)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.picture_forms["A"])
        column.addWidget(self.findings)
        return box

    def _build_foot(self) -> QWidget:
        """The foot of the panel: it stays in sight while the rest scrolls."""
        notice = QLabel(_NOTICE)
        notice.setWordWrap(True)
        notice.setStyleSheet("color: #ffb000;")
        box = QWidget()
        column = QVBoxLayout(box)
        column.setContentsMargins(8, 4, 8, 8)
        for part in (self._pair, self.progress, self.status, notice):
            column.addWidget(part)
        return box

    def unfold(self, *titles: str) -> None:
        """Open these sections and fold the others."""
        for title, section in self.sections.items():
            (section.expand if title in titles else section.collapse)(animate=False)

    def ask_open_path(self) -> str:
        """Which X-ray to open; ``""`` for none."""
        return ask_radiograph(self)

    def ask_save_path(self, title: str, suffix: str) -> str:
        """Where to save; ``""`` for nowhere."""
        path, _ = QFileDialog.getSaveFileName(self, title, "", f"*{suffix}")
        return path if not path or Path(path).suffix.lower() == suffix else f"{path}{suffix}"

    def ask_folder(self) -> str:
        """Which folder of X-rays to map; ``""`` for none."""
        return QFileDialog.getExistingDirectory(self, "Map the X-rays of a folder")
