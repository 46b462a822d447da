"""All projectors agree with each other and with DiffDRR's own API, on a real CT."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest

from napari_cxr3d.imaging import Volume, XrayView
from napari_cxr3d.io import read_ct
from napari_cxr3d.xray import projector
from napari_cxr3d.xray.cpu import CpuProjector
from napari_cxr3d.xray.diffdrr_backend import (
    PUBLISHED_PIPELINES,
    published_density,
    published_drr,
    published_view,
)
from napari_cxr3d.xray.projector import available_backends

Image = npt.NDArray[np.float32]

SMALL = {"detector_shape": (80, 72), "pixel_mm": 6.0}
VIEWS = {
    "pa": XrayView(**SMALL),
    "ap": XrayView(yaw=180, flip_columns=True, **SMALL),
    "left lateral": XrayView(yaw=90, **SMALL),
    "yaw, pitch and roll": XrayView(yaw=33, pitch=12, roll=-20, **SMALL),
    "past 45 degrees, flipped": XrayView(yaw=-128, pitch=-9, roll=35, flip_columns=True, **SMALL),
    "own isocenter, bedside distances": XrayView(
        yaw=200,
        pitch=5,
        source_to_isocenter_mm=850,
        source_to_detector_mm=1000,
        isocenter_lps=(20, -160, -180),
        **SMALL,
    ),
}


@pytest.fixture
def real_ct(data_folder: Path) -> Volume:
    """The 4 mm chest CT."""
    return _read(data_folder / "ct" / "cip-ct64.nrrd")


@lru_cache(maxsize=1)
def _read(path: Path) -> Volume:
    return read_ct(path)


def require(backend: str) -> None:
    if reason := available_backends()[backend]:
        pytest.skip(reason)


def nrmse(image: Image, reference: Image) -> float:
    return float(np.sqrt(np.mean((image - reference) ** 2)) / reference.max())


def shift_in_pixels(image: Image, reference: Image) -> npt.NDArray[np.float64]:
    """The (row, column) shift that best explains the difference, by least squares."""
    slopes = np.stack([g.ravel() for g in np.gradient(reference.astype(np.float64))], axis=1)
    shift, *_ = np.linalg.lstsq(-slopes, (image - reference).ravel(), rcond=None)
    return shift


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())
@pytest.mark.parametrize(
    ("backend", "quality"),
    [("cpu", "full"), ("nanodrr", "full"), ("diffdrr", "full"), ("cpu", "exact")],
)
def test_backends_agree_on_a_real_ct(
    backend: str, quality: str, view: XrayView, real_ct: Volume
) -> None:
    require(backend)
    siddon = reference(real_ct, view)
    image = projector(backend, quality, device="cpu").project(real_ct, [view])[0]
    if quality == "exact":  # the same sums over the same voxels
        assert nrmse(image, siddon) < 1e-4
    else:
        assert nrmse(image, siddon) < 0.015
        assert np.abs(shift_in_pixels(image, siddon)).max() < 0.05


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())
@pytest.mark.parametrize("method", ["joseph", "shear-warp"])
def test_cpu_methods_agree_with_diffdrr_on_a_real_ct(
    method: Literal["joseph", "shear-warp"], view: XrayView, real_ct: Volume
) -> None:
    siddon = reference(real_ct, view)
    image = CpuProjector("full", method=method).project(real_ct, [view])[0]
    assert nrmse(image, siddon) < 0.02
    assert np.abs(shift_in_pixels(image, siddon)).max() < 0.05


def reference(volume: Volume, view: XrayView) -> Image:
    """DiffDRR's Siddon."""
    require("diffdrr")
    siddon = projector("diffdrr", "exact", device="cpu").project(volume, [view])[0]
    assert siddon.max() > 3
    return siddon


@pytest.mark.parametrize("angles", [(0, 0, 0), (30, 0, 0), (30, 12, -25), (-80, -10, 35)])
@pytest.mark.parametrize("pipeline", PUBLISHED_PIPELINES)
def test_exact_projectors_match_diffdrr_called_directly(
    pipeline: str, angles: tuple[float, float, float], real_ct: Volume
) -> None:
    require("diffdrr")
    settings = dict(zip(("yaw", "pitch", "roll"), angles, strict=True), size=64)
    reference = published_drr(pipeline, real_ct, **settings)
    view = published_view(pipeline, **settings)
    density = published_density(real_ct)
    for backend in ("diffdrr", "cpu"):
        image = projector(backend, "exact", device="cpu").project_attenuation(
            density, real_ct.grid, [view]
        )[0]
        if pipeline == "x-win":
            image = (image - image.min()) / (image.max() - image.min())
        assert nrmse(image, reference) < 1e-4, backend


def test_parity_measure_sees_a_tenth_of_a_pixel(real_ct: Volume) -> None:
    view = VIEWS["yaw, pitch and roll"]
    exact = projector("cpu", "exact")
    x, y, z = real_ct.center_lps
    moved = XrayView(yaw=33, pitch=12, roll=-20, isocenter_lps=(x, y, z + 0.55), **SMALL)
    image, reference = exact.project(real_ct, [moved, view.resolved(real_ct.grid)])
    assert np.hypot(*shift_in_pixels(image, reference)) == pytest.approx(0.1, abs=0.02)
