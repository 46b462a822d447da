"""A renderer whose pictures carry the view's yaw, for tests of what surrounds it."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np

from napari_cxr3d.inference import DrrResult
from napari_cxr3d.provenance import Provenance
from napari_cxr3d.xray.appearance import AppearanceWindow


class FakeRenderer:
    """Stands in for `DrrRenderer`; it can be held up, and tells what it was asked."""

    def __init__(self):
        self.may_work = threading.Event()
        self.may_work.set()
        self.working = threading.Event()
        self.projected, self.developed, self.full, self.swept = [], [], [], []
        self.scenes = []
        self.error = None

    def warm_up(self, progress, cancel):
        self.warmed_on = threading.current_thread()

    def prepare(self, scene, views):
        self.prepared_on = threading.current_thread()

    def project(self, scene, view, cancel):
        self._wait(cancel)
        self.scenes.append(scene)
        self.projected.append(view.yaw)
        return _flat(view)

    def develop(self, projection, scene, view, look):
        self.developed.append((view.yaw, look))
        return projection

    def render_full(self, scene, view, look, cancel):
        self._wait(cancel)
        self.full.append(view.yaw)
        result = _result(scene, (view,))
        if hasattr(look, "window"):
            look = replace(look, window=AppearanceWindow(1.0, 5.0))
        return result.pictures[0], look, result

    def render_sweep(self, scene, views, look, progress, cancel):
        for view in views:
            self._wait(cancel)
            self.swept.append(view)
        result = _result(scene, tuple(views))
        return result.pictures, result

    def _wait(self, cancel):
        self.working.set()
        while not self.may_work.wait(0.005):
            cancel.raise_if_cancelled()
        cancel.raise_if_cancelled()
        if self.error is not None:
            raise self.error


def yaw_in(picture):
    """The yaw that a picture of the fake carries."""
    return float(picture[0, 0]) * 720.0 - 360.0


def _flat(view):
    return np.full(view.detector_shape, (view.yaw + 360.0) / 720.0, np.float32)


def _result(scene, views):
    views = tuple(view.resolved(scene.volume.grid) for view in views)
    pictures = np.stack([_flat(view) for view in views])
    return DrrResult(10 * pictures, pictures, views, Provenance("drr"), "fake")
