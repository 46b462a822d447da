"""Hounsfield units to linear attenuation coefficients and back, at a stated energy.

The tissue model has three straight pieces. Up to 0 HU a voxel is water of density
``1 + HU/1000``; from there to `BONE_HU` its excess is cortical bone mixed into water; above
`BONE_HU` it is cortical bone of growing density. At 70 keV, the effective energy that the CT
scale is taken to be made with, the three lie on one line: the definition of the HU.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import EnergyOutOfRangeError
from napari_cxr3d.imaging.volume import HU_MAX, HU_MIN

__all__ = [
    "BONE_DENSITY",
    "BONE_HU",
    "CT_ENERGY_KEV",
    "DEFAULT_ENERGY_KEV",
    "ENERGY_RANGE_KEV",
    "attenuation_lookup",
    "attenuation_to_hu",
    "bone_attenuation",
    "hu_to_attenuation",
    "hu_to_basis",
    "mass_attenuation_table",
    "read_table",
    "water_attenuation",
]

FloatImage = npt.NDArray[np.float32]

DEFAULT_ENERGY_KEV = 70.0
CT_ENERGY_KEV = 70.0
"""Effective energy of the CT scale: a 120 kV beam behind a chest."""

ENERGY_RANGE_KEV = (30.0, 150.0)
BONE_DENSITY = 1.92
"""Density of cortical bone in g/cm3 (ICRU Report 44; NISTIR 5632, table 2)."""

_CHUNK = 1 << 20  # voxels converted at a time: temporaries stay near 8 MB
_FAR_HU = 1e6  # end of the last straight piece, beyond any image


@lru_cache(maxsize=1)
def mass_attenuation_table() -> dict[str, npt.NDArray[np.float64]]:
    """Mass attenuation coefficients of the materials that an exposure meets.

    Returns
    -------
    dict of str to ndarray
        ``"energy_kev"`` and, over these energies in cm2/g with coherent scattering,
        ``"water"``, ``"cortical_bone"`` (ICRU 44), ``"cesium_iodide"``, ``"aluminium"`` and
        ``"copper"``: NIST XCOM values.
    """
    return read_table("mass_attenuation.csv")


def read_table(name: str) -> dict[str, npt.NDArray[np.float64]]:
    """Columns of a table that ships with the package, by their heading."""
    with (files("napari_cxr3d.xray") / "tables" / name).open(encoding="ascii") as file:
        headings = file.readline().strip().split(",")
        columns = np.loadtxt(file, delimiter=",").T
    columns.flags.writeable = False
    return dict(zip(headings, columns, strict=True))


def _linear_attenuation(material: str, density: float, energy_kev: float) -> float:
    low, high = ENERGY_RANGE_KEV
    if not low <= energy_kev <= high:
        raise EnergyOutOfRangeError(
            "The photon energy lies outside the tabulated range",
            why=f"it is {energy_kev:g} keV",
            remedy=f"choose an energy between {low:g} and {high:g} keV",
        )
    table = mass_attenuation_table()
    log_value = np.interp(np.log(energy_kev), np.log(table["energy_kev"]), np.log(table[material]))
    return float(np.exp(log_value)) * density / 10.0


def water_attenuation(energy_kev: float) -> float:
    """Linear attenuation coefficient of water, in 1/mm.

    Parameters
    ----------
    energy_kev : float
        Photon energy in keV, 30 to 150. NIST XCOM, log-log interpolated.

    Raises
    ------
    EnergyOutOfRangeError
        If the energy lies outside the tabulated range.
    """
    return _linear_attenuation("water", 1.0, energy_kev)


def bone_attenuation(energy_kev: float) -> float:
    """Linear attenuation coefficient of cortical bone (ICRU 44, 1.92 g/cm3), in 1/mm.

    Parameters
    ----------
    energy_kev : float
        Photon energy in keV, 30 to 150. NIST XCOM, log-log interpolated.

    Raises
    ------
    EnergyOutOfRangeError
        If the energy lies outside the tabulated range.
    """
    return _linear_attenuation("cortical_bone", BONE_DENSITY, energy_kev)


BONE_HU = 1000.0 * (bone_attenuation(CT_ENERGY_KEV) / water_attenuation(CT_ENERGY_KEV) - 1.0)
"""HU of pure cortical bone at `CT_ENERGY_KEV`: 1559."""

_HU_KNOTS = np.array([-1000.0, 0.0, BONE_HU, _FAR_HU])
_WATER_KNOTS = np.array([0.0, 1.0, 0.0, 0.0])
_BONE_KNOTS = np.array([0.0, 0.0, 1.0, (1000.0 + _FAR_HU) / (1000.0 + BONE_HU)])


def _attenuation_knots(energy_kev: float) -> npt.NDArray[np.float64]:
    water, bone = water_attenuation(energy_kev), bone_attenuation(energy_kev)
    return _WATER_KNOTS * water + _BONE_KNOTS * bone


def hu_to_attenuation(hu: npt.ArrayLike, energy_kev: float) -> FloatImage:
    """Linear attenuation coefficient per voxel, in 1/mm.

    Water scales with the HU below 0 (none at -1000 HU and below); above 0 HU the excess is
    mixed with cortical bone. Continuous and monotone; `attenuation_to_hu` is its inverse.

    Parameters
    ----------
    hu : array_like of int16 or float, any shape
        Hounsfield units. int16 volumes take a table look-up, the fastest way.
    energy_kev : float
        Photon energy in keV, 30 to 150.

    Returns
    -------
    ndarray of float32, the shape of `hu`
        1/mm.

    Raises
    ------
    EnergyOutOfRangeError
        If the energy lies outside the tabulated range.
    """
    hu = np.asarray(hu)
    knots = _attenuation_knots(energy_kev)
    if hu.dtype == np.int16 and hu.size > 1 << 16:
        every_int16 = np.arange(1 << 16, dtype=np.uint16).view(np.int16)
        table = np.interp(every_int16, _HU_KNOTS, knots).astype(np.float32)
        return _by_chunks(hu, lambda part: table[part.view(np.uint16)])
    return _by_chunks(hu, lambda part: np.interp(part, _HU_KNOTS, knots))


def attenuation_to_hu(mu: npt.ArrayLike, energy_kev: float) -> FloatImage:
    """Hounsfield units per voxel: the inverse of `hu_to_attenuation`.

    Parameters
    ----------
    mu : array_like, any shape
        Linear attenuation coefficients in 1/mm; none and below read as -1000 HU.
    energy_kev : float
        The photon energy that `mu` belongs to, in keV, 30 to 150.

    Returns
    -------
    ndarray of float32, the shape of `mu`
        Hounsfield units.

    Raises
    ------
    EnergyOutOfRangeError
        If the energy lies outside the tabulated range.
    """
    knots = _attenuation_knots(energy_kev)
    return _by_chunks(np.asarray(mu), lambda part: np.interp(part, knots, _HU_KNOTS))


def hu_to_basis(hu: npt.ArrayLike) -> tuple[FloatImage, FloatImage]:
    """Water and bone fractions per voxel, which hold at every energy.

    ``water * water_attenuation(E) + bone * bone_attenuation(E)`` is
    ``hu_to_attenuation(hu, E)``.

    Parameters
    ----------
    hu : array_like, any shape
        Hounsfield units.

    Returns
    -------
    water, bone : ndarray of float32, the shape of `hu`
        Dimensionless fractions of full density; their line integrals are the path lengths
        in mm that a polyenergetic reading needs.
    """
    hu = np.asarray(hu)
    water = _by_chunks(hu, lambda part: np.interp(part, _HU_KNOTS, _WATER_KNOTS))
    bone = _by_chunks(hu, lambda part: np.interp(part, _HU_KNOTS, _BONE_KNOTS))
    return water, bone


def attenuation_lookup(energy_kev: float) -> FloatImage:
    """Attenuation of every whole HU from -1024 to 3071, for kernels that look it up.

    Parameters
    ----------
    energy_kev : float
        Photon energy in keV, 30 to 150.

    Returns
    -------
    ndarray of float32, shape (4096,)
        1/mm; entry ``k`` belongs to ``HU_MIN + k``.
    """
    return hu_to_attenuation(np.arange(HU_MIN, HU_MAX + 1), energy_kev)


def _by_chunks(array: npt.NDArray[Any], convert: Any) -> FloatImage:
    """Apply `convert` to blocks of the array, so that temporaries stay small."""
    result = np.empty(array.shape, dtype=np.float32)
    source, target = np.atleast_1d(array), np.atleast_1d(result)
    for block in _blocks(source.shape):
        target[block] = convert(np.ascontiguousarray(source[block]))
    return result


def _blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices along the first axis that hold about `_CHUNK` elements each."""
    row = max(1, int(np.prod(shape[1:])))
    step = max(1, _CHUNK // row)
    for start in range(0, shape[0], step):
        yield slice(start, start + step)
