"""The DiffDRR projector, and the published pipelines' own pictures."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("diffdrr")
from napari_cxr3d.errors import Cancelled, InvalidInputError
from napari_cxr3d.imaging import Volume, XrayView, preset
from napari_cxr3d.phantom import thorax_ellipsoids
from napari_cxr3d.progress import CancelToken, Progress
from napari_cxr3d.xray import Projector, diffdrr_backend
from napari_cxr3d.xray.diffdrr_backend import (
    PUBLISHED_PIPELINES,
    DiffdrrProjector,
    published_density,
    published_drr,
    published_view,
)

SMALL = {"detector_shape": (24, 20), "pixel_mm": 18.0}


@pytest.fixture(scope="module")
def volume() -> Volume:
    phantom = thorax_ellipsoids()
    return phantom.volume(phantom.grid((48, 40, 44)))


@pytest.mark.parametrize(
    ("quality", "renderer"),
    [("exact", "siddon"), ("full", "trilinear"), ("preview", "trilinear")],
)
def test_quality_chooses_the_renderer(quality: str, renderer: str) -> None:
    projector = DiffdrrProjector(quality, device="cpu")
    assert isinstance(projector, Projector)
    assert projector.renderer == renderer
    assert DiffdrrProjector(quality, device="cpu", renderer="siddon").renderer == "siddon"


def test_lung_is_kept_as_lung(volume: Volume) -> None:
    lung = Volume(np.full((40, 40, 40), -850, np.int16), (5.0, 5.0, 5.0))
    view = XrayView(detector_shape=(1, 1))
    integral = DiffdrrProjector("exact", device="cpu").project(lung, [view]).item()
    assert integral == pytest.approx(0.15 * 0.01929 * 200, rel=0.01)
    assert published_density(volume)[volume.hu <= -800].max() == published_density(volume).min()


@pytest.mark.parametrize("renderer", ["siddon", "trilinear"])
def test_rays_end_at_source_and_detector(renderer: str) -> None:
    water = Volume(np.zeros((60, 60, 60), np.int16), (5.0, 5.0, 5.0))
    view = XrayView(
        source_to_isocenter_mm=100, source_to_detector_mm=160, detector_shape=(1, 1), pixel_mm=1.0
    )
    projector = DiffdrrProjector("exact", device="cpu", renderer=renderer)
    assert projector.project(water, [view]).item() == pytest.approx(0.01929 * 160, rel=0.01)


@pytest.mark.parametrize("shape", [(1, 40, 44), (48, 1, 44), (48, 40, 1)])
def test_volume_of_a_single_slice_is_projected(shape: tuple[int, int, int]) -> None:
    phantom = thorax_ellipsoids()
    slab = phantom.volume(phantom.grid(shape, (8.0, 8.0, 8.0)))
    view = XrayView(yaw=30, pitch=15, **SMALL)
    siddon = DiffdrrProjector("exact", device="cpu").project(slab, [view])
    trilinear = DiffdrrProjector("full", device="cpu").project(slab, [view])
    assert siddon.max() > 0.05
    assert siddon.sum() == pytest.approx(trilinear.sum(), rel=0.1)


@pytest.mark.parametrize("quality", ["exact", "full"])
def test_blocks_of_rays_do_not_change_the_picture(
    quality: str, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    projector = DiffdrrProjector(quality, device="cpu")
    views = [XrayView(yaw=70, pitch=10, **SMALL)]
    whole = projector.project(volume, views)
    monkeypatch.setattr(diffdrr_backend, "_SAMPLES", 37 * (sum(volume.shape) + 3))
    parts = projector.project(volume, views)
    np.testing.assert_allclose(parts, whole, atol=1e-5)


def test_progress_is_told_and_cancel_is_heard(volume: Volume) -> None:
    views = [XrayView(yaw=yaw, **SMALL) for yaw in (0, 10, 20)]
    projector = DiffdrrProjector(device="cpu")
    seen: list[Progress] = []
    projector.project(volume, views, progress=seen.append)
    assert [(p.done, p.total) for p in seen] == [(1, 3), (2, 3), (3, 3)]
    cancel = CancelToken()
    with pytest.raises(Cancelled):
        projector.project(volume, views, progress=lambda _: cancel.cancel(), cancel=cancel)


def test_wrong_shapes_are_refused(volume: Volume) -> None:
    projector, view = DiffdrrProjector(device="cpu"), XrayView(**SMALL)
    with pytest.raises(InvalidInputError, match="share one detector shape"):
        projector.project(volume, [view, XrayView(detector_shape=(10, 10))])
    with pytest.raises(InvalidInputError, match="do not fit the views"):
        projector.backproject(np.zeros((1, 5, 5), np.float32), [view], volume)
    with pytest.raises(InvalidInputError, match="does not fit its grid"):
        projector.project_attenuation(np.zeros((2, 2, 2), np.float32), volume.grid, [view])


# The published pipelines -----------------------------------------------------------------


@pytest.mark.parametrize("pipeline", PUBLISHED_PIPELINES)
def test_published_view_at_rest_is_the_preset(pipeline: str) -> None:
    assert published_view(pipeline) == preset(pipeline)


@pytest.mark.parametrize(
    ("pipeline", "sdd", "isocenter"), [("x-win", 1020, 700), ("x-ray2ctpa", 1200, 850)]
)
def test_published_geometry_is_that_of_the_papers(
    pipeline: str, sdd: float, isocenter: float
) -> None:
    view = published_view(pipeline)
    assert (view.source_to_detector_mm, view.source_to_isocenter_mm) == (sdd, isocenter)
    assert view.detector_shape == (512, 512)
    assert view.pixel_mm == 1.0


def test_x_win_is_scaled_to_one_and_x_ray2ctpa_is_not(volume: Volume) -> None:
    x_win, x_ray2ctpa = (published_drr(p, volume, size=32) for p in ("x-win", "x-ray2ctpa"))
    assert (x_win.min(), x_win.max()) == (0, 1)
    assert x_ray2ctpa.max() > 50  # mm of relative density


def test_published_picture_is_head_up_with_the_patients_left_on_the_right(volume: Volume) -> None:
    image = published_drr("x-win", volume, size=64)
    frame = published_view("x-win", size=64)
    at = frame.frame(volume.grid).project(np.array([[50, -26, -34], [-50, -26, -34]]))
    (heart_row, heart_col), (lung_row, lung_col) = np.rint(at).astype(int)
    assert heart_col > 32 > lung_col
    assert heart_row > 32
    assert image[heart_row, heart_col] > 1.3 * image[lung_row, lung_col]


def test_patches_do_not_change_the_published_picture(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = published_drr("x-win", volume, yaw=20, pitch=5, roll=-10, size=32)
    monkeypatch.setattr(diffdrr_backend, "_SAMPLES", 100 * (sum(volume.shape) + 3))
    patched = published_drr("x-win", volume, yaw=20, pitch=5, roll=-10, size=32)
    np.testing.assert_allclose(patched, whole, atol=1e-6)


def test_unknown_pipeline_is_refused_with_the_list(volume: Volume) -> None:
    with pytest.raises(InvalidInputError, match="Choose one of x-win, x-ray2ctpa"):
        published_drr("x2ct-gan", volume)
