"""What a process of its own is asked to do with pictures, by a tiny world model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_cxr3d.errors import Cancelled
from napari_cxr3d.imaging import Radiograph, Volume, XrayView
from napari_cxr3d.inference import world_models
from napari_cxr3d.inference.tracking import track
from napari_cxr3d.inference.world_model_tasks import (
    CtSlice,
    features_of,
    features_of_sweep,
    vectors_of,
)
from napari_cxr3d.inference.world_models import LoadedWorldModel
from napari_cxr3d.inference.xray_input import XrayInput
from napari_cxr3d.progress import CancelToken

SHAPE = (48, 48)
VIEW = XrayView(
    detector_shape=SHAPE,
    pixel_mm=440.0 / 48,
    source_to_isocenter_mm=1600.0,
    source_to_detector_mm=1800.0,
    isocenter_lps=(5.0, 10.0, -20.0),
)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    torch = pytest.importorskip("torch")
    from napari_cxr3d.models.world_model import XWin

    torch.manual_seed(0)
    model = XWin(
        image_size=(32, 32),
        field_mm=440,
        source_to_isocenter_mm=1600,
        source_to_detector_mm=1800,
        encoder={"patch_size": 8, "dim": 32, "depth": 1, "heads": 2},
        predictor={"dim": 32, "depth": 1, "heads": 2},
        renderer={"channels": (16, 16, 16, 16)},
    ).eval()
    loaded = LoadedWorldModel(model, "tiny", "1.0.0", "0" * 64, {})
    monkeypatch.setattr(world_models, "load_world_model", lambda *_, **__: loaded)


@pytest.fixture
def pixels():
    return np.random.default_rng(0).random(SHAPE, np.float32)


def frame(pixels, yaw=0.0):
    """A display picture of known geometry, as the X-ray panel's sweeps hold them."""
    return XrayInput(Radiograph(pixels, view=replace(VIEW, yaw=yaw), synthetic=True), "as-given")


def test_a_slice_of_a_ct_travels_alone_and_keeps_its_place():
    hu = np.random.default_rng(0).integers(-1000, 1000, (6, 40, 50)).astype(np.int16)
    volume = Volume(hu, (5.0, 4.0, 4.0), (-98.0, -78.0, 40.0))
    cut = CtSlice.cut(volume, "axial", 4)
    assert cut.volume.hu.shape == (1, 40, 50)
    assert cut.volume.origin_lps == (-98.0, -78.0, 20.0)
    found = features_of(cut, "tiny", name="slice")
    assert found.tokens.shape == (4, 4, 32)
    assert found.picture.source_shape == (40, 50)
    assert found.picture.name == "slice"


def test_the_frames_of_a_display_sweep_can_be_tracked(pixels):
    frames = tuple(frame(pixels, yaw) for yaw in (-10.0, 0.0, 10.0))
    *told, last = features_of_sweep(frames, "tiny")
    assert [state.index for state in told] == [1, 2, 3]
    query = features_of(frames[1], "tiny")
    found = track(query, (24.0, 24.0), last.result, truth_lps=VIEW.isocenter_lps)
    assert [each.yaw for each in found.points] == [-10.0, 0.0, 10.0]
    assert found.points[1].error_mm < 60  # the isocenter lies in the middle, where the click was
    assert found.points[1].value == pytest.approx(1.0, abs=0.2)


def test_a_sweep_can_be_cancelled_between_frames(pixels):
    cancel = CancelToken()
    states = features_of_sweep((frame(pixels),) * 3, "tiny", cancel=cancel)
    next(states)
    cancel.cancel()
    with pytest.raises(Cancelled):
        next(states)


def test_a_picture_s_vector_is_the_mean_of_its_patches(pixels):
    sources = (frame(pixels), frame(pixels[::-1].copy()))
    *_, last = vectors_of(sources, "tiny")
    assert last.vectors.shape == (2, 32)
    expected = features_of(sources[1], "tiny").tokens.reshape(-1, 32).mean(0)
    assert last.vectors[1] == pytest.approx(expected, abs=1e-6)
    assert not np.allclose(last.vectors[0], last.vectors[1])
