"""Every projector against the exact line integrals of the ellipsoid thorax."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from napari_cxr3d.imaging import Grid, Volume, XrayView
from napari_cxr3d.phantom import thorax_ellipsoids
from napari_cxr3d.xray import projector
from napari_cxr3d.xray.attenuation import DEFAULT_ENERGY_KEV, water_attenuation
from napari_cxr3d.xray.projector import available_backends

SMALL = {"detector_shape": (52, 48), "pixel_mm": 9.0}
VIEWS = {
    "pa": XrayView(**SMALL),
    "oblique, flipped, off-centre": XrayView(
        yaw=-152, pitch=8, roll=-20, flip_columns=True, isocenter_lps=(15, -10, 25), **SMALL
    ),
    "lateral, detector inside the volume": XrayView(
        yaw=90, source_to_isocenter_mm=850, source_to_detector_mm=1000, **SMALL
    ),
}
WATER = water_attenuation(DEFAULT_ENERGY_KEV)


@lru_cache(maxsize=1)
def fine_volume() -> Volume:
    """The thorax at 256 cubed, away from the origin of patient space."""
    phantom = thorax_ellipsoids()
    return phantom.volume(Grid((256,) * 3, (1.4,) * 3, (-178.5, -178.5, 178.5)))


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())
@pytest.mark.parametrize(
    ("backend", "quality", "limit"),
    [
        ("cpu", "exact", 0.01),
        ("cpu", "full", 0.01),
        ("nanodrr", "full", 0.01),
        ("nanodrr", "exact", 0.01),
        ("diffdrr", "full", 0.01),
        ("diffdrr", "exact", 0.01),
        ("nanodrr", "preview", 0.01),
        ("diffdrr", "preview", 0.01),
        ("cpu", "preview", 0.03),
    ],
)
def test_line_integrals_agree_with_the_analytic_phantom(
    backend: str, quality: str, limit: float, view: XrayView
) -> None:
    if reason := available_backends()[backend]:
        pytest.skip(reason)
    volume = fine_volume()
    exact = thorax_ellipsoids().line_integrals(view, volume.grid, water_per_mm=WATER)
    projected = projector(backend, quality, device="cpu").project(volume, [view])[0]
    nrmse = np.sqrt(np.mean((projected - exact) ** 2)) / exact.max()
    assert exact.max() > 3
    assert nrmse <= limit


def test_line_integral_scales_with_water_at_the_energy() -> None:
    view = VIEWS["pa"]
    low, high = (
        projector("cpu", "exact", energy_kev=energy).project(soft_ball(), [view])[0].max()
        for energy in (50.0, 100.0)
    )
    assert low / high == pytest.approx(water_attenuation(50.0) / water_attenuation(100.0), rel=1e-4)


def soft_ball() -> Volume:
    """A ball of water in air."""
    distance = np.linalg.norm(np.indices((40, 40, 40)) - 19.5, axis=0)
    return Volume(np.where(distance < 15, 0, -1000).astype(np.int16), (5.0, 5.0, 5.0))
