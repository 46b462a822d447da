"""The nanodrr projector: its kernel report, its sampling, its caches, and nanodrr's own API."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from importlib.util import find_spec

import numpy as np
import pytest

pytest.importorskip("nanodrr")
import torch
from nanodrr.camera import make_k_inv, make_rt_inv
from nanodrr.data import Subject
from nanodrr.drr import backends as nanodrr_backends
from nanodrr.drr import render
from torchio import ScalarImage

from napari_cxr3d.errors import BackendUnavailableError, Cancelled, InvalidInputError
from napari_cxr3d.errors import OutOfMemoryError as OurOutOfMemoryError
from napari_cxr3d.imaging import Grid, Volume, XrayView
from napari_cxr3d.phantom import thorax_ellipsoids
from napari_cxr3d.progress import CancelToken, Progress
from napari_cxr3d.xray import Projector, nanodrr_backend
from napari_cxr3d.xray.attenuation import hu_to_attenuation
from napari_cxr3d.xray.nanodrr_backend import NanodrrProjector, rendering_kernel

SMALL = {"detector_shape": (24, 20), "pixel_mm": 18.0}


@pytest.fixture
def volume() -> Volume:
    phantom = thorax_ellipsoids()
    return phantom.volume(phantom.grid((48, 40, 44)))


@pytest.fixture
def on_cpu() -> NanodrrProjector:
    return NanodrrProjector(device="cpu")


def test_it_is_a_projector(on_cpu: NanodrrProjector) -> None:
    assert isinstance(on_cpu, Projector)
    assert (on_cpu.name, on_cpu.quality, on_cpu.energy_kev) == ("nanodrr", "full", 70.0)


@pytest.mark.parametrize(("yaw", "orientation", "side"), [(180.0, "AP", 1.0), (0.0, "PA", -1.0)])
def test_it_agrees_with_nanodrr_called_directly(
    yaw: float, orientation: str, side: float, volume: Volume, on_cpu: NanodrrProjector
) -> None:
    view = XrayView(yaw=yaw, flip_columns=yaw == 180, **SMALL)
    rows, cols = view.detector_shape
    mu = hu_to_attenuation(volume.hu, 70.0)
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.grid.affine_lps[:, [2, 1, 0, 3]]
    image = ScalarImage(tensor=torch.tensor(mu).permute(2, 1, 0)[None], affine=to_ras)
    subject = Subject.from_images(image, convert_to_mu=False)
    camera = make_rt_inv(
        torch.zeros(1, 3),
        torch.tensor([[0.0, side * view.source_to_isocenter_mm, 0.0]]),
        orientation=orientation,
        isocenter=subject.isocenter,
    )
    sdd = view.source_to_detector_mm
    k_inv = make_k_inv(sdd, view.pixel_mm, view.pixel_mm, 0.0, 0.0, rows, cols)
    direct = render(
        subject, k_inv, camera, torch.tensor([sdd]), rows, cols, on_cpu.samples(volume.grid)
    )
    ours = on_cpu.project(volume, [view])[0]
    assert ours.max() > 3
    np.testing.assert_allclose(ours, direct[0, 0], atol=2e-5 * ours.max())


@pytest.mark.parametrize(("quality", "voxels"), [("preview", 2.0), ("full", 1.0), ("exact", 0.5)])
def test_samples_follow_the_smallest_voxel_edge(quality: str, voxels: float) -> None:
    grid = Grid((10, 30, 40), (8.0, 4.0, 2.0), (0.0, 0.0, 0.0))
    samples = NanodrrProjector(quality, device="cpu").samples(grid)
    diagonal = np.linalg.norm([80.0, 120.0, 80.0])
    assert diagonal / samples <= voxels * 2.0
    assert diagonal / (samples - 1) > voxels * 2.0


def test_kernel_on_the_cpu_is_torch_and_says_so(on_cpu: NanodrrProjector) -> None:
    assert on_cpu.kernel == "torch"
    assert "CUDA and Apple GPUs only" in on_cpu.kernel_note


def test_fused_kernel_that_does_not_run_is_reported_and_replaced(
    monkeypatch: pytest.MonkeyPatch, volume: Volume
) -> None:
    view = XrayView(**SMALL)
    expected = NanodrrProjector(device="cpu").project(volume, [view])
    monkeypatch.setitem(nanodrr_backends.DEVICE_BACKENDS, "cpu", "triton")
    rendering_kernel.cache_clear()
    try:
        renderer = NanodrrProjector(device="cpu")
        assert renderer.kernel == "torch"
        assert "triton kernel does not run on cpu" in renderer.kernel_note
        assert "pip install triton" in renderer.kernel_note
        np.testing.assert_array_equal(renderer.project(volume, [view]), expected)
    finally:
        rendering_kernel.cache_clear()


def test_blocks_of_rays_do_not_change_the_picture(
    volume: Volume, on_cpu: NanodrrProjector, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = [XrayView(**SMALL), XrayView(yaw=70, pitch=10, **SMALL)]
    whole = on_cpu.project(volume, views), on_cpu.backproject(np.ones((2, 24, 20)), views, volume)
    monkeypatch.setattr(nanodrr_backend, "_TORCH_SAMPLES", 37 * on_cpu.samples(volume.grid))
    parts = on_cpu.project(volume, views), on_cpu.backproject(np.ones((2, 24, 20)), views, volume)
    for whole_array, parts_array in zip(whole, parts, strict=True):
        np.testing.assert_allclose(parts_array, whole_array, rtol=1e-4, atol=1e-4)


def test_views_with_different_detectors_keep_their_order(
    volume: Volume, on_cpu: NanodrrProjector
) -> None:
    views = [
        XrayView(yaw=yaw, detector_shape=(24, 20), pixel_mm=pixel, source_to_detector_mm=sdd)
        for yaw, pixel, sdd in [(0, 18, 1800), (30, 18, 1800), (60, 12, 1700), (90, 18, 1800)]
    ]
    together = on_cpu.project(volume, views)
    for image, view in zip(together, views, strict=True):
        np.testing.assert_array_equal(image, on_cpu.project(volume, [view])[0])


def test_volume_is_converted_once_and_let_go_with_it(
    volume: Volume, on_cpu: NanodrrProjector, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversions = []

    def counted(hu: np.ndarray, energy_kev: float) -> np.ndarray:
        conversions.append(energy_kev)
        return hu_to_attenuation(hu, energy_kev)

    monkeypatch.setattr(nanodrr_backend, "hu_to_attenuation", counted)
    on_cpu.prepare(volume)
    first = on_cpu.project(volume, [XrayView(**SMALL)])
    second = on_cpu.project(volume, [XrayView(**SMALL)])
    assert conversions == [70.0]
    np.testing.assert_array_equal(first, second)
    kept = weakref.ref(on_cpu._subject_of(volume))
    brighter = volume.with_hu(volume.hu + 50)
    assert on_cpu.project(brighter, [XrayView(**SMALL)]).max() > first.max()
    gc.collect()
    assert kept() is None
    kept = weakref.ref(on_cpu._subject_of(brighter))
    del brighter
    gc.collect()
    assert kept() is None


def test_progress_is_told_and_cancel_is_heard(volume: Volume, on_cpu: NanodrrProjector) -> None:
    views = [XrayView(yaw=yaw, **SMALL) for yaw in (0, 10, 20)]
    seen: list[Progress] = []
    on_cpu.project(volume, views, progress=seen.append)
    assert [(p.done, p.total) for p in seen] == [(1, 3), (2, 3), (3, 3)]
    cancel = CancelToken()
    with pytest.raises(Cancelled):
        on_cpu.project(volume, views, progress=lambda _: cancel.cancel(), cancel=cancel)


def test_out_of_memory_becomes_a_sentence(
    volume: Volume, on_cpu: NanodrrProjector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB.")

    monkeypatch.setattr(NanodrrProjector, "_render", full)
    with pytest.raises(OurOutOfMemoryError, match="Choose fewer detector pixels"):
        on_cpu.project(volume, [XrayView(**SMALL)])


def test_wrong_shapes_are_refused(volume: Volume, on_cpu: NanodrrProjector) -> None:
    view, other = XrayView(**SMALL), XrayView(detector_shape=(10, 10))
    with pytest.raises(InvalidInputError, match="share one detector shape"):
        on_cpu.project(volume, [view, other])
    with pytest.raises(InvalidInputError, match="no view"):
        on_cpu.project(volume, [])
    with pytest.raises(InvalidInputError, match="do not fit the views"):
        on_cpu.backproject(np.zeros((1, 5, 5), np.float32), [view], volume)
    with pytest.raises(InvalidInputError, match="does not fit its grid"):
        on_cpu.project_attenuation(np.zeros((2, 2, 2), np.float32), volume.grid, [view])


@pytest.mark.skipif(torch.cuda.is_available(), reason="this computer has the device")
def test_absent_gpu_is_refused() -> None:
    with pytest.raises(BackendUnavailableError, match="'cuda:0' is not available"):
        NanodrrProjector(device="cuda:0")


INTERPRETED = """
import numpy as np
from nanodrr.drr import backends
from napari_cxr3d.imaging import XrayView
from napari_cxr3d.phantom import thorax_ellipsoids
from napari_cxr3d.xray.differentiable import pose_gradient
from napari_cxr3d.xray.nanodrr_backend import NanodrrProjector, rendering_kernel

phantom = thorax_ellipsoids()
volume = phantom.volume(phantom.grid((5, 4, 6)))
views = [XrayView(yaw=y, pitch=7, detector_shape=(5, 6), pixel_mm=70.0) for y in (10, 80)]
weights = np.linspace(0, 1, 60, dtype=np.float32).reshape(2, 5, 6)


def results(projector):
    return (
        projector.kernel,
        projector.project(volume, views),
        projector.backproject(weights, views, volume),
        pose_gradient(weights[0], volume, views[0], projector),
    )


plain = results(NanodrrProjector("preview", device="cpu"))
backends.DEVICE_BACKENDS["cpu"] = "triton"
rendering_kernel.cache_clear()
fused = results(NanodrrProjector("preview", device="cpu"))
assert (plain[0], fused[0]) == ("torch", "triton")
for ours, expected in zip(fused[1:], plain[1:]):
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(ours, expected, rtol=1e-2, atol=1e-4 * np.abs(expected).max())
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_fused_path_agrees_with_the_torch_path_in_tritons_interpreter() -> None:
    """The whole CUDA path, kernel included, without a GPU: Triton interprets it on the CPU."""
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_triton_kernel_agrees_with_the_torch_path(volume: Volume, on_cpu: NanodrrProjector) -> None:
    on_gpu = NanodrrProjector(device="cuda:0")
    assert (on_gpu.kernel, on_gpu.kernel_note) == ("triton", "")
    views = [
        XrayView(yaw=yaw, pitch=7, roll=5, flip_columns=True, **SMALL) for yaw in range(0, 360, 30)
    ]
    expected = on_cpu.project(volume, views)
    images = on_gpu.project(volume, views)
    np.testing.assert_allclose(images, expected, atol=1e-4 * expected.max())
    back, expected_back = (p.backproject(images, views, volume) for p in (on_gpu, on_cpu))
    np.testing.assert_allclose(back, expected_back, atol=1e-3 * expected_back.max())
