"""The steps of one simulated radiographic system, as a record that JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.xray.appearance import CharacteristicCurve, MultiscaleContrast, Noise
from napari_cxr3d.xray.attenuation import DEFAULT_ENERGY_KEV
from napari_cxr3d.xray.simulator_exposure import (
    AntiscatterGrid,
    Beam,
    Collimation,
    DetectorBlur,
    FlatField,
    Heel,
    ScatterKernel,
)
from napari_cxr3d.xray.simulator_leads import Wire
from napari_cxr3d.xray.simulator_marks import BurntText, LeadMarker
from napari_cxr3d.xray.simulator_processing import (
    Border,
    DisplayRange,
    EdgeEnhancement,
    ExposureIndex,
    Vignette,
)
from napari_cxr3d.xray.spectra import Filtration

__all__ = ["Simulator"]


@dataclass(frozen=True)
class Simulator:
    """All steps of one radiographic system, in the order in which they happen.

    Attributes
    ----------
    beam : Beam
        Energies that water and bone are read at; plain line integrals have theirs already.
    heel : Heel or None
        The anode's shadow.
    inverse_square : bool
        The beam's fall toward the corners.
    collimation : Collimation or None
        The blades.
    marker : LeadMarker or None
        A lead letter on the detector.
    wires : tuple of Wire
        Leads and lines that lie on the patient.
    scatter : ScatterKernel or None
        Scattered radiation.
    grid : AntiscatterGrid or None
        What holds most of it back.
    noise : Noise or None
        Quantum and electronic noise.
    blur : DetectorBlur or None
        The modulation transfer of focal spot and detector.
    flat_field : FlatField or None
        The gain calibration, which takes heel and distance out of the picture.
    exposure_index : ExposureIndex
        The readings shown darkest and brightest.
    edges : EdgeEnhancement or None
        Unsharp masking.
    contrast : MultiscaleContrast or None
        Detail against latitude.
    curve : CharacteristicCurve or None
        The S-shaped response; linear without it.
    black_air : bool
        Keep direct exposure black.
    vignette : Vignette or None
        A fall of brightness toward the corners.
    display : DisplayRange or None
        The grey range that the picture takes up.
    shutter : float or None
        Grey value that the detector paints over what lies outside the field; unexposed and
        therefore bright if None.
    texts : tuple of BurntText
        Text in the pixels.
    border : Border or None
        Margins without picture.
    bits : int or None
        Depth that grey values are rounded to, 2 to 16.
    """

    beam: Beam = field(default_factory=lambda: Beam(None, energy_kev=DEFAULT_ENERGY_KEV))
    heel: Heel | None = None
    inverse_square: bool = False
    collimation: Collimation | None = None
    marker: LeadMarker | None = None
    wires: tuple[Wire, ...] = ()
    scatter: ScatterKernel | None = None
    grid: AntiscatterGrid | None = None
    noise: Noise | None = None
    blur: DetectorBlur | None = None
    flat_field: FlatField | None = None
    exposure_index: ExposureIndex = field(default_factory=ExposureIndex)
    edges: EdgeEnhancement | None = None
    contrast: MultiscaleContrast | None = None
    curve: CharacteristicCurve | None = None
    black_air: bool = False
    vignette: Vignette | None = None
    display: DisplayRange | None = None
    shutter: float | None = None
    texts: tuple[BurntText, ...] = ()
    border: Border | None = None
    bits: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "texts", tuple(self.texts))
        object.__setattr__(self, "wires", tuple(self.wires))
        if self.bits is not None and not 2 <= self.bits <= 16:
            raise InvalidInputError(
                "The simulator's pictures need 2 to 16 bits", why=f"it has {self.bits}"
            )
        if self.shutter is not None and not 0 <= self.shutter <= 1:
            raise InvalidInputError(
                "The shutter's grey value must lie between 0 and 1", why=f"it is {self.shutter:g}"
            )

    def without(self, *steps: str) -> Simulator:
        """The same system with the named steps switched off.

        Raises
        ------
        InvalidInputError
            If a name is no step that can be switched off.
        """
        off = {"inverse_square": False, "black_air": False, "texts": (), "wires": ()}
        unknown = set(steps) - {*_CLASSES, *off, "shutter", "bits"} | set(steps) & _NEEDED
        if unknown:
            raise InvalidInputError(
                f"There is no step {', '.join(sorted(unknown))} to switch off",
                remedy=f"choose among {', '.join(sorted({*_CLASSES, *off} - _NEEDED))}",
            )
        return replace(self, **{step: off.get(step) for step in steps})  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable form, for provenance; `from_dict` reads it back."""
        record = asdict(self)
        record["texts"] = [asdict(text) for text in self.texts]
        record["wires"] = [
            {**asdict(wire), "points": [list(point) for point in wire.points]}
            for wire in self.wires
        ]
        if self.grid is not None and not np.isfinite(self.grid.focus_mm):
            record["grid"]["focus_mm"] = None  # JSON has no infinity
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Simulator:
        """The simulator that `to_dict` wrote.

        Raises
        ------
        InvalidInputError
            If the record is none.
        """
        settings = dict(record)
        try:
            for name, step in _CLASSES.items():
                if settings.get(name) is not None:
                    settings[name] = _step(step, settings[name])
            settings["texts"] = tuple(BurntText(**text) for text in settings.get("texts", ()))
            settings["wires"] = tuple(Wire(**wire) for wire in settings.get("wires", ()))
            return cls(**settings)
        except TypeError as error:
            raise InvalidInputError("The record is none of a simulator", why=str(error)) from error


_CLASSES: Mapping[str, type[Any]] = {
    "beam": Beam,
    "heel": Heel,
    "collimation": Collimation,
    "marker": LeadMarker,
    "scatter": ScatterKernel,
    "grid": AntiscatterGrid,
    "noise": Noise,
    "blur": DetectorBlur,
    "flat_field": FlatField,
    "exposure_index": ExposureIndex,
    "edges": EdgeEnhancement,
    "contrast": MultiscaleContrast,
    "curve": CharacteristicCurve,
    "vignette": Vignette,
    "display": DisplayRange,
    "border": Border,
}
_NEEDED = {"beam", "exposure_index"}


def _step(step: type[Any], record: Mapping[str, Any]) -> Any:
    settings = dict(record)
    if step is Beam:
        settings["filtration"] = Filtration(**settings["filtration"])
    if step is AntiscatterGrid and settings.get("focus_mm") is None:
        settings["focus_mm"] = float("inf")
    return step(**settings)
