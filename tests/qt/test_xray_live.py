"""The live radiograph: previews while the hand moves, the full picture when it rests."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Volume, XrayView
from napari_cxr3d.jobs import JobRunner
from napari_cxr3d.widgets.xray.frame_cache import (
    CachedFrame,
    FrameCache,
    orbit_views,
    preview_view,
)
from napari_cxr3d.widgets.xray.live import LiveRadiograph, Scene

from .xray_fakes import FakeRenderer, yaw_in  # noqa: TID252  (tests is no package)

VIEW = XrayView()


@pytest.fixture
def live(qtbot):
    runner = JobRunner()
    renderer = FakeRenderer()
    live = LiveRadiograph(runner, renderer)
    live.renderer, live.runner, live.frames = renderer, runner, []
    live.frame_ready.connect(live.frames.append)
    yield live
    live.close()
    assert runner.shutdown(5)


@pytest.fixture
def scene():
    return Scene(Volume(np.zeros((4, 4, 4), np.int16), (1, 1, 1)), "cpu")


def test_kernels_and_copies_are_prepared_off_the_gui_thread(live, scene, qtbot):
    with qtbot.waitSignal(live.prepared):
        live.set_scene(scene)
    assert live.renderer.prepared_on is not threading.main_thread()


def test_a_request_gives_a_preview_and_after_the_hand_rests_the_full_picture(live, scene, qtbot):
    live.set_scene(scene)
    live.show(replace(VIEW, yaw=30.0))
    qtbot.waitUntil(lambda: len(live.frames) == 2)
    preview, full = live.frames
    assert (preview.stage, preview.picture.shape, preview.view.yaw) == ("preview", (256, 256), 30)
    assert (full.stage, full.picture.shape, full.view.yaw) == ("full", (512, 512), 30)
    assert full.result.views[0].yaw == 30


def test_while_the_hand_moves_no_full_picture_is_rendered(live, scene, qtbot):
    live.set_scene(scene)
    for yaw in range(12):
        live.show(replace(VIEW, yaw=float(yaw)))
        qtbot.wait(25)
    assert live.renderer.full == []
    qtbot.waitUntil(lambda: live.renderer.full == [11.0])


def test_of_what_was_asked_during_a_render_only_the_newest_is_rendered(live, scene, qtbot):
    live.set_scene(scene)
    live.renderer.may_work.clear()
    live.show(replace(VIEW, yaw=1.0))
    assert live.renderer.working.wait(2)
    for yaw in (2.0, 3.0, 4.0):
        live.show(replace(VIEW, yaw=yaw))
    live.renderer.may_work.set()
    qtbot.waitUntil(lambda: bool(live.frames) and live.frames[-1].stage == "full")
    assert live.renderer.projected[:2] == [1.0, 4.0]
    assert [frame.view.yaw for frame in live.frames] == [1.0, 4.0, 4.0]


def test_the_orbit_is_projected_ahead_and_scrubbing_it_needs_no_projection(live, scene, qtbot):
    live.set_scene(scene)
    live.show(VIEW)
    qtbot.waitUntil(lambda: not live.runner.busy() and len(live.renderer.projected) > 72)
    assert {float(yaw) for yaw in range(-175, 181, 5)} <= set(live.renderer.projected)
    live.renderer.projected.clear()
    shown = len(live.frames)
    live.show(replace(VIEW, yaw=-135.0))
    assert live.frames[shown].view.yaw == -135.0  # at once, without the event loop
    assert yaw_in(live.frames[shown].picture) == pytest.approx(-135.0, abs=0.01)
    assert live.renderer.projected == []


def test_a_request_interrupts_the_orbit_which_goes_on_later(live, scene, qtbot):
    live.set_scene(scene)
    live.show(VIEW)
    qtbot.waitUntil(lambda: len(live.frames) == 2)
    live.renderer.may_work.clear()
    live.renderer.working.clear()
    qtbot.waitUntil(live.renderer.working.is_set)  # the orbit's next view is held up
    live.renderer.may_work.set()
    live.show(replace(VIEW, yaw=-123.4))
    qtbot.waitUntil(lambda: live.frames[-1].view.yaw == -123.4, timeout=2000)
    qtbot.waitUntil(lambda: len(live.cache) > 72 and not live.runner.busy())


def test_another_look_develops_again_but_projects_nothing(live, scene, qtbot):
    live.set_scene(scene)
    live.show(VIEW)
    qtbot.waitUntil(lambda: len(live.frames) == 2)
    live.renderer.projected.clear()
    live.set_look("inverted")
    qtbot.waitUntil(lambda: len(live.frames) == 3)
    assert (0.0, "inverted") in live.renderer.developed
    assert live.renderer.projected == []


def test_frames_of_another_volume_are_never_mixed_in(live, scene, qtbot):
    live.set_scene(scene)
    live.renderer.may_work.clear()
    live.show(replace(VIEW, yaw=7.0))
    assert live.renderer.working.wait(2)
    live.set_scene(Scene(Volume(np.ones((4, 4, 4), np.int16), (1, 1, 1)), "cpu"))
    live.renderer.may_work.set()
    qtbot.waitUntil(lambda: not live.runner.busy())
    assert live.frames == []
    assert len(live.cache) == 0


def test_an_error_is_reported_once_and_the_next_request_works(live, scene, qtbot):
    failures = []
    live.failed.connect(failures.append)
    live.set_scene(scene)
    live.renderer.error = InvalidInputError("No beam")
    live.show(VIEW)
    qtbot.waitUntil(lambda: bool(failures))
    qtbot.wait(200)
    assert [str(error) for error in failures] == ["No beam."]
    live.renderer.error = None
    live.show(VIEW)
    qtbot.waitUntil(lambda: len(live.frames) == 2)


def test_closing_during_a_render_delivers_nothing(live, scene, qtbot):
    live.set_scene(scene)
    live.renderer.may_work.clear()
    live.show(VIEW)
    assert live.renderer.working.wait(2)
    live.close()
    live.renderer.may_work.set()
    qtbot.waitUntil(lambda: not live.runner.busy())
    qtbot.wait(200)
    assert live.frames == []
    assert live.scene is None


@pytest.mark.parametrize("shape", [(512, 512), (1000, 700), (256, 200), (257, 64)])
def test_a_preview_covers_the_full_field_with_less_than_one_pixel_over(shape):
    view = replace(VIEW, detector_shape=shape)
    coarse = preview_view(view)
    assert max(coarse.detector_shape) <= 256
    for fine, rough in zip(shape, coarse.detector_shape, strict=True):
        excess = rough * coarse.pixel_mm - fine * view.pixel_mm
        assert 0 <= excess < coarse.pixel_mm


def test_the_orbit_begins_where_the_source_is():
    views = orbit_views(replace(VIEW, yaw=41.0, pitch=5.0))
    assert [view.yaw for view in views[:3]] == [40.0, 45.0, 35.0]
    assert {view.pitch for view in views} == {5.0}
    assert sorted(view.yaw for view in views[:72]) == [float(y) for y in range(-175, 181, 5)]


def test_the_cache_drops_the_least_recently_used_frame():
    def frame():
        return CachedFrame(np.zeros(100, np.float32), np.zeros(100, np.float32), None)

    cache = FrameCache(budget_bytes=2000)
    cache.put("a", frame())
    cache.put("b", frame())
    cache.get("a")
    cache.put("c", frame())
    assert "a" in cache and "c" in cache and "b" not in cache
    assert cache.nbytes == 1600
    cache.clear()
    assert cache.nbytes == 0
