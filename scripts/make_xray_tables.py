"""Write the X-ray tables that the package ships, from published physics libraries.

Needed only when the tables change: ``pip install xraylib spekpy`` and run this script.

- ``mass_attenuation.csv``: total mass attenuation coefficients with coherent scattering,
  cm2/g, from xraylib (the elemental data behind NIST XCOM). Water and cortical bone have
  the compositions of ICRU Report 44, as in NISTIR 5632, table 2. The column
  ``air_energy_absorption`` is the mass energy-absorption coefficient of dry air (NISTIR
  5632, table 4, interpolated), which turns fluence into air kerma.
- ``tube_spectra.csv``: fluence of a tungsten anode (12 degrees) without added filtration,
  photons per keV, cm2 and mAs at 1 m, from SpekPy (Poludniowski et al., Med. Phys. 48,
  3630-3637, 2021), one column per tube voltage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import spekpy
import xraylib
from scipy.interpolate import CubicSpline

FloatArray = npt.NDArray[np.float64]

TABLES = Path(__file__).resolve().parents[1] / "napari_cxr3d" / "xray" / "tables"
ENERGIES_KEV = np.arange(10, 151)
KILOVOLTS = np.arange(60, 141, 2)
ANODE_ANGLE_DEGREES = 12.0

# Mass fractions by atomic number.
MATERIALS: Mapping[str, Mapping[int, float]] = {
    "water": {1: 0.111898, 8: 0.888102},
    "cortical_bone": {
        1: 0.034,
        6: 0.155,
        7: 0.042,
        8: 0.435,
        11: 0.001,
        12: 0.002,
        15: 0.103,
        16: 0.003,
        20: 0.225,
    },
    "cesium_iodide": {53: 0.488451, 55: 0.511549},
    "aluminium": {13: 1.0},
    "copper": {29: 1.0},
}
# NISTIR 5632, table 4: mass energy-absorption coefficient of dry air, cm2/g, by keV.
AIR_ENERGY_ABSORPTION: Mapping[int, float] = {
    10: 4.742,
    15: 1.334,
    20: 0.5389,
    30: 0.1537,
    40: 0.06833,
    50: 0.04098,
    60: 0.03041,
    80: 0.02407,
    100: 0.02325,
    150: 0.02496,
}


def write_mass_attenuation() -> None:
    """Tabulate each material's mass attenuation coefficient over `ENERGIES_KEV`."""
    columns = [
        np.array(
            [
                sum(share * xraylib.CS_Total(z, float(energy)) for z, share in fractions.items())
                for energy in ENERGIES_KEV
            ]
        )
        for fractions in MATERIALS.values()
    ]
    knots, values = (
        np.log(list(numbers)) for numbers in zip(*AIR_ENERGY_ABSORPTION.items(), strict=True)
    )
    columns.append(np.exp(CubicSpline(knots, values)(np.log(ENERGIES_KEV))))
    _write("mass_attenuation.csv", [*MATERIALS, "air_energy_absorption"], columns)


def write_tube_spectra() -> None:
    """Tabulate the unfiltered spectrum of each tube voltage over `ENERGIES_KEV`."""
    columns = []
    for kilovolt in KILOVOLTS:
        tube = spekpy.Spek(
            kvp=float(kilovolt), th=ANODE_ANGLE_DEGREES, dk=1.0, z=100.0, mas=1.0, shift=0.5
        )
        energies, fluence = tube.get_spectrum(edges=False)
        spectrum = np.zeros(len(ENERGIES_KEV))
        index = np.rint(energies).astype(int) - ENERGIES_KEV[0]
        inside = (index >= 0) & (index < len(spectrum))
        np.add.at(spectrum, index[inside], fluence[inside])
        columns.append(spectrum)
    _write("tube_spectra.csv", [f"{kv}kV" for kv in KILOVOLTS], columns)


def _write(name: str, headings: Sequence[str], columns: Sequence[FloatArray]) -> None:
    np.savetxt(
        TABLES / name,
        np.column_stack([ENERGIES_KEV, *columns]),
        fmt="%.5g",
        delimiter=",",
        header=",".join(["energy_kev", *headings]),
        comments="",
    )


if __name__ == "__main__":
    TABLES.mkdir(parents=True, exist_ok=True)
    write_mass_attenuation()
    write_tube_spectra()
