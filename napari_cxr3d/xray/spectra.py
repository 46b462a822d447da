"""Polyenergetic readings: what a detector shows of a tube's spectrum behind a patient.

A volume is projected once into two path lengths, water and cortical bone. For any tube
voltage and filtration the reading is a function of these two numbers alone, tabulated once
and then looked up, so that turning the kilovolts needs no new projection.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import EnergyOutOfRangeError, InvalidInputError
from napari_cxr3d.xray.attenuation import BONE_DENSITY, mass_attenuation_table, read_table

__all__ = [
    "DEFAULT_FILTRATION",
    "KILOVOLT_RANGE",
    "Filtration",
    "Spectrum",
    "detected_spectrum",
    "direct_integrals",
    "half_value_layer",
    "polyenergetic_integrals",
    "tube_spectrum",
]

FloatArray = npt.NDArray[np.float64]
FloatImage = npt.NDArray[np.float32]

KILOVOLT_RANGE = (60.0, 140.0)

_ALUMINIUM_DENSITY = 2.699  # g/cm3
_COPPER_DENSITY = 8.96  # g/cm3
_SCINTILLATOR_MASS = 0.2  # g/cm2: 0.6 mm of columnar CsI(Tl) at three quarters packing

# The table reaches further than any patient; beyond it the reading goes on as a straight line.
_TABLE_SHAPE = (257, 513)
_TABLE_EXTENT_MM = (1024.0, 256.0)  # water, bone
_CHUNK = 1 << 14  # pixels read at a time: temporaries stay in the cache


@dataclass(frozen=True)
class Filtration:
    """Total filtration of the tube, its own included.

    Attributes
    ----------
    aluminium_mm, copper_mm : float
        Thickness in mm.
    """

    aluminium_mm: float = 3.0
    copper_mm: float = 0.0

    def __post_init__(self) -> None:
        for name in ("aluminium_mm", "copper_mm"):
            thickness = getattr(self, name)
            if not 0 <= thickness < 100:
                raise InvalidInputError(
                    f"The tube's {name.removesuffix('_mm')} filter cannot be used",
                    why=f"its thickness is {thickness:g} mm",
                    remedy="give a thickness of 0 mm or more",
                )


DEFAULT_FILTRATION = Filtration()


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Weights over photon energies.

    Attributes
    ----------
    energies_kev : ndarray, shape (E,)
        Photon energies, the centres of 1 keV bins.
    weights : ndarray, shape (E,)
        Fluence (photons per keV, cm2 and mAs at 1 m) or a detector's signal per bin.
    """

    energies_kev: FloatArray
    weights: FloatArray

    @property
    def mean_energy_kev(self) -> float:
        """Mean photon energy in keV."""
        return float(np.average(self.energies_kev, weights=self.weights))


@lru_cache(maxsize=64)
def tube_spectrum(kilovolt: float, filtration: Filtration = DEFAULT_FILTRATION) -> Spectrum:
    """Spectrum of a tungsten anode (12 degrees) behind its filter.

    Parameters
    ----------
    kilovolt : float
        Tube voltage in kV, 60 to 140.
    filtration : Filtration
        Aluminium and copper in the beam.

    Returns
    -------
    Spectrum
        Fluence at 1 m. The unfiltered spectra are SpekPy's (Poludniowski et al., Med. Phys.
        48, 3630-3637, 2021), tabulated every 2 kV and interpolated.

    Raises
    ------
    EnergyOutOfRangeError
        If the tube voltage lies outside the tabulated range.
    """
    low, high = KILOVOLT_RANGE
    if not low <= kilovolt <= high:
        raise EnergyOutOfRangeError(
            "The tube voltage lies outside the tabulated range",
            why=f"it is {kilovolt:g} kV",
            remedy=f"choose a voltage between {low:g} and {high:g} kV",
        )
    columns = dict(read_table("tube_spectra.csv"))
    energies = columns.pop("energy_kev")
    voltages = np.array([float(name.removesuffix("kV")) for name in columns])
    fluences = np.stack(list(columns.values()))
    upper = min(int(np.searchsorted(voltages, kilovolt, side="right")), len(voltages) - 1)
    share = (kilovolt - voltages[upper - 1]) / (voltages[upper] - voltages[upper - 1])
    fluence = (1 - share) * fluences[upper - 1] + share * fluences[upper]
    return Spectrum(energies, fluence * _transmission(energies, filtration))


def _transmission(energies_kev: FloatArray, filtration: Filtration) -> FloatArray:
    """Part of the photons of each energy that passes the filter."""
    aluminium = _mass_attenuation("aluminium", energies_kev) * _ALUMINIUM_DENSITY
    copper = _mass_attenuation("copper", energies_kev) * _COPPER_DENSITY
    depth = (aluminium * filtration.aluminium_mm + copper * filtration.copper_mm) / 10.0
    return np.asarray(np.exp(-depth))


def _mass_attenuation(column: str, energies_kev: FloatArray) -> FloatArray:
    table = mass_attenuation_table()
    return np.interp(energies_kev, table["energy_kev"], table[column])


def detected_spectrum(kilovolt: float, filtration: Filtration = DEFAULT_FILTRATION) -> Spectrum:
    """Signal per photon energy of an energy-integrating CsI detector without a patient.

    A photon that the scintillator stops gives a signal in proportion to its energy.

    Parameters
    ----------
    kilovolt : float
        Tube voltage in kV, 60 to 140.
    filtration : Filtration
        Aluminium and copper in the beam.

    Raises
    ------
    EnergyOutOfRangeError
        If the tube voltage lies outside the tabulated range.
    """
    beam = tube_spectrum(kilovolt, filtration)
    depth = _mass_attenuation("cesium_iodide", beam.energies_kev) * _SCINTILLATOR_MASS
    return Spectrum(beam.energies_kev, beam.weights * beam.energies_kev * -np.expm1(-depth))


def half_value_layer(kilovolt: float, filtration: Filtration = DEFAULT_FILTRATION) -> float:
    """Thickness of aluminium that halves the beam's air kerma, in mm.

    Parameters
    ----------
    kilovolt : float
        Tube voltage in kV, 60 to 140.
    filtration : Filtration
        Aluminium and copper in the beam.

    Raises
    ------
    EnergyOutOfRangeError
        If the tube voltage lies outside the tabulated range.
    """
    beam = tube_spectrum(kilovolt, filtration)
    energies = beam.energies_kev
    kerma = beam.weights * energies * _mass_attenuation("air_energy_absorption", energies)
    aluminium = _mass_attenuation("aluminium", energies) * _ALUMINIUM_DENSITY / 10.0
    thickness = np.linspace(0.0, 30.0, 3001)
    left = np.exp(-np.outer(thickness, aluminium)) @ kerma / kerma.sum()
    return float(np.interp(0.5, left[::-1], thickness[::-1]))


def direct_integrals(
    water_mm: npt.ArrayLike, bone_mm: npt.ArrayLike, spectrum: Spectrum
) -> FloatArray:
    """Logarithmic reading by summation over the whole spectrum: exact, and slow.

    Parameters
    ----------
    water_mm, bone_mm : array_like, one shape
        Path lengths through water and cortical bone in mm.
    spectrum : Spectrum
        Detector signal per photon energy without a patient.

    Returns
    -------
    ndarray of float64
        ``-ln(sum_E w exp(-water mu_w - bone mu_b) / sum_E w)``, dimensionless.
    """
    water, bone = np.asarray(water_mm, np.float64), np.asarray(bone_mm, np.float64)
    water_mu, bone_mu = _basis_attenuation(spectrum.energies_kev)
    signal = np.exp(-(water[..., None] * water_mu + bone[..., None] * bone_mu)) @ spectrum.weights
    return np.asarray(-np.log(signal / spectrum.weights.sum()))


def _basis_attenuation(energies_kev: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Attenuation of water and cortical bone at each energy, 1/mm."""
    water = _mass_attenuation("water", energies_kev) / 10.0
    bone = _mass_attenuation("cortical_bone", energies_kev) * BONE_DENSITY / 10.0
    return water, bone


def polyenergetic_integrals(
    water_mm: npt.NDArray[Any],
    bone_mm: npt.NDArray[Any],
    kilovolt: float,
    filtration: Filtration = DEFAULT_FILTRATION,
) -> FloatImage:
    """Logarithmic detector reading behind water and bone, by table look-up.

    Parameters
    ----------
    water_mm, bone_mm : ndarray, one shape, for example (V, rows, cols)
        Line integrals of the two fractions of `hu_to_basis`: path lengths in mm.
    kilovolt : float
        Tube voltage in kV, 60 to 140.
    filtration : Filtration
        Aluminium and copper in the beam.

    Returns
    -------
    ndarray of float32, the shape of `water_mm`
        Dimensionless; 0 where nothing attenuates. Within 0.001 of `direct_integrals` on
        `detected_spectrum`.

    Raises
    ------
    EnergyOutOfRangeError
        If the tube voltage lies outside the tabulated range.
    InvalidInputError
        If the two arrays differ in shape.
    """
    water, bone = np.asarray(water_mm), np.asarray(bone_mm)
    if water.shape != bone.shape:
        raise InvalidInputError(
            "The water and bone path lengths must have one shape",
            why=f"they have {water.shape} and {bone.shape}",
        )
    cells = _reading_cells(float(kilovolt), filtration)
    result = np.empty(water.shape, np.float32)
    flat_water, flat_bone, flat = water.reshape(-1), bone.reshape(-1), result.reshape(-1)
    for start in range(0, flat.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        flat[part] = _look_up(cells, flat_water[part], flat_bone[part])
    return result


@lru_cache(maxsize=32)
def _reading_cells(kilovolt: float, filtration: Filtration) -> FloatImage:
    """Coefficients (1, u, v, uv) of the bilinear reading within each cell of the table."""
    spectrum = detected_spectrum(kilovolt, filtration)
    water, bone = (
        np.linspace(0.0, extent, n)
        for extent, n in zip(_TABLE_EXTENT_MM, _TABLE_SHAPE, strict=True)
    )
    water_mu, bone_mu = _basis_attenuation(spectrum.energies_kev)
    share = spectrum.weights / spectrum.weights.sum()
    signal = (np.exp(-np.outer(water, water_mu)) * share) @ np.exp(-np.outer(bone_mu, bone))
    reading = -np.log(signal)
    corner, down, right = reading[:-1, :-1], reading[1:, :-1], reading[:-1, 1:]
    cells = np.stack(
        [corner, down - corner, right - corner, reading[1:, 1:] - down - right + corner], axis=-1
    )
    return np.ascontiguousarray(cells.reshape(-1, 4), dtype=np.float32)


def _look_up(cells: FloatImage, water: npt.NDArray[Any], bone: npt.NDArray[Any]) -> FloatImage:
    rows, cols = (n - 1 for n in _TABLE_SHAPE)
    u = np.multiply(water, rows / _TABLE_EXTENT_MM[0], dtype=np.float32)
    v = np.multiply(bone, cols / _TABLE_EXTENT_MM[1], dtype=np.float32)
    row = np.clip(u, 0, rows - 1).astype(np.int32)
    col = np.clip(v, 0, cols - 1).astype(np.int32)
    u -= row
    v -= col
    constant, along_water, along_bone, both = np.take(cells, row * cols + col, axis=0).T
    reading: FloatImage = constant + u * along_water + v * (along_bone + u * both)
    return reading
