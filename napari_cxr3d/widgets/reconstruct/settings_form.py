"""The part of the panel where it is set how the volume is drawn."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_cxr3d.widgets.common.panel import Section

if TYPE_CHECKING:
    from napari_cxr3d.device import Device

__all__ = ["Settings", "SettingsForm"]

_MOST_SAMPLES, _MOST_STEPS, _MOST_SEED = 64, 1000, 2**31 - 1
_STARTS = {"noise": "Noise", "coarse": "The coarse volume"}
_CONSISTENCIES = {
    "auto": "Automatic",
    "off": "Off",
    "soft": "Soft (real X-rays)",
    "hard": "Hard (DRRs)",
}
_SAMPLERS = {
    "auto": "The model's own",
    "euler": "Euler",
    "heun": "Heun (2nd order)",
    "dpm++": "DPM-Solver++",
    "stochastic": "Stochastic",
    "ddim": "DDIM",
    "ddpm": "DDPM (as published)",
}
_TILES: dict[int | str | None, str] = {
    "auto": "Only if memory runs out",
    None: "Never",
    8: "Tiles of 8",
    16: "Tiles of 16",
}


@dataclass(frozen=True)
class Settings:
    """What the fields say; names and values are those of `ReconstructionRequest`.

    Attributes
    ----------
    device : str
        Where it is computed; no part of the request.
    """

    samples: int = 1
    steps: int | None = None
    seed: int = 0
    start: str = "noise"
    guidance: float = 1.0
    consistency: str = "auto"
    sampler: str = "auto"
    tile: int | str | None = "auto"
    device: str = "auto"

    def for_request(self) -> dict[str, Any]:
        """The keywords of a `ReconstructionRequest`."""
        settings = asdict(self)
        del settings["device"]
        return settings


class SettingsForm(QWidget):
    """How many volumes, from which seed, in how many steps; the rest folded away.

    Signals
    -------
    changed
        A field was edited.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._devices = ["auto"]
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(self._build_first())
        layout.addWidget(self._build_more())
        for spin in (self._samples, self._steps, self._seed, self._guidance):
            spin.valueChanged.connect(self.changed)
        for box in (self._start, self._consistency, self._sampler, self._tile, self._device):
            box.currentIndexChanged.connect(self.changed)

    def settings(self) -> Settings:
        """What the fields say."""
        return Settings(
            samples=self._samples.value(),
            steps=self._steps.value() or None,
            seed=self._seed.value(),
            start=_key(_STARTS, self._start),
            guidance=self._guidance.value(),
            consistency=_key(_CONSISTENCIES, self._consistency),
            sampler=_key(_SAMPLERS, self._sampler),
            tile=_key(_TILES, self._tile),
            device=self._devices[self._device.currentIndex()],
        )

    def set_settings(self, settings: Settings) -> None:
        """Put settings into the fields; a device that is not here becomes automatic."""
        self._samples.setValue(settings.samples)
        self._steps.setValue(settings.steps or 0)
        self._seed.setValue(settings.seed)
        self._guidance.setValue(settings.guidance)
        for names, box, value in (
            (_STARTS, self._start, settings.start),
            (_CONSISTENCIES, self._consistency, settings.consistency),
            (_SAMPLERS, self._sampler, settings.sampler),
            (_TILES, self._tile, settings.tile),
        ):
            box.setCurrentIndex(list(names).index(value))  # type: ignore[call-overload]
        known = settings.device in self._devices
        self._device.setCurrentIndex(self._devices.index(settings.device) if known else 0)

    def show_devices(self, devices: Sequence[Device]) -> None:
        """Offer these beside the automatic choice."""
        chosen = self.settings().device
        self._devices = ["auto", *(device.name for device in devices)]
        self._device.blockSignals(True)
        self._device.clear()
        self._device.addItems(["Automatic", *(str(device) for device in devices)])
        self._device.setCurrentIndex(self._devices.index(chosen) if chosen in self._devices else 0)
        self._device.blockSignals(False)

    def _build_first(self) -> QFormLayout:
        self._samples = _whole(1, _MOST_SAMPLES, 1)
        self._samples.setToolTip(
            "How many volumes are drawn. An X-ray allows many: from 3 on, their standard "
            "deviation shows what it leaves open."
        )
        self._steps = _whole(0, _MOST_STEPS, 0)
        self._steps.setSpecialValueText("model's own")
        self._steps.setToolTip("Steps of the sampler; more are slower and finer.")
        self._seed = _whole(0, _MOST_SEED, 0)
        self._seed.setToolTip("The same seed gives the same volume; further samples count on.")
        dice = QPushButton("New")
        dice.setToolTip("Another seed.")
        dice.clicked.connect(lambda: self._seed.setValue(random.randrange(10_000)))
        seed = QHBoxLayout()
        seed.addWidget(self._seed, 1)
        seed.addWidget(dice)
        form = QFormLayout()
        form.addRow("Samples", self._samples)
        form.addRow("Seed", seed)
        return form

    def _build_more(self) -> QWidget:
        self._start, self._consistency, self._sampler, self._tile, self._device = (
            _choice(names)
            for names in (_STARTS, _CONSISTENCIES, _SAMPLERS, _TILES, {"auto": "Automatic"})
        )
        self._guidance = QDoubleSpinBox()
        self._guidance.setRange(0.0, 20.0)
        self._guidance.setSingleStep(0.5)
        self._guidance.setDecimals(2)
        self._guidance.setValue(1.0)
        self._guidance.setToolTip("How strongly the X-ray pulls; 1 is none beyond the model's.")
        self._start.setToolTip("The coarse volume is faster and varies less between seeds.")
        self._consistency.setToolTip(
            "Whether the volume is made to agree with the X-ray when it is projected back. "
            "Automatic is hard for exact DRRs and soft for real X-rays."
        )
        self._sampler.setToolTip("How a step is made.")
        self._tile.setToolTip("Decoding in tiles takes less memory and more time.")
        self._device.setToolTip("Where the network is computed.")
        box = QWidget()
        form = QFormLayout(box)
        form.setContentsMargins(0, 0, 0, 0)
        for title, field in (
            ("Steps", self._steps),
            ("Consistency", self._consistency),
            ("Start from", self._start),
            ("Guidance", self._guidance),
            ("Sampler", self._sampler),
            ("Decode in tiles", self._tile),
            ("Device", self._device),
        ):
            form.addRow(title, field)
        section = Section("More", expanded=False)
        section.addWidget(box)
        return section


def _whole(low: int, high: int, value: int) -> QSpinBox:
    spin = QSpinBox()
    spin.setRange(low, high)
    spin.setValue(value)
    spin.setKeyboardTracking(False)
    return spin


def _choice(names: dict[Any, str]) -> QComboBox:
    box = QComboBox()
    box.addItems(list(names.values()))
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(12)
    return box


def _key(names: dict[Any, str], box: QComboBox) -> Any:
    return list(names)[box.currentIndex()]
