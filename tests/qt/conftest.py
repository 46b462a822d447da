"""Fixtures of the tests that open windows."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest
from qtpy.QtCore import QCoreApplication, QEvent, QTimer
from qtpy.QtWidgets import QApplication

from napari_cxr3d.imaging import SourceInfo, Volume
from napari_cxr3d.jobs import job_runner


@pytest.fixture(autouse=True)
def nothing_left_behind(request):
    """Fail a test that leaves a window, a thread or a running timer behind."""
    threads = set(threading.enumerate())
    widgets = set(map(id, _windows()))
    yield
    if getattr(request.node, "rep_call", None) is None or request.node.rep_call.failed:
        return  # the test's own failure is the one to read
    assert job_runner().shutdown(timeout_s=5), "a job did not stop"
    _flush()
    left = [w for w in _windows() if id(w) not in widgets]
    assert not left, f"windows left behind: {left}"
    started = [t for t in threading.enumerate() if t not in threads and not t.daemon]
    assert not started, f"threads left behind: {started}"
    lanes = [t for t in threading.enumerate() if t.name.startswith("napari-cxr3d")]
    assert not lanes, f"lanes left running: {lanes}"
    timers = [t for t in _timers() if t.isActive()]
    assert not timers, f"timers left running: {timers}"


def _flush() -> None:
    if QApplication.instance() is not None:
        for _ in range(3):
            QApplication.processEvents()
            QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        gc.collect()


def _windows():
    application = QApplication.instance()
    return [] if application is None else application.topLevelWidgets()


def _timers():
    from qtpy.compat import isalive

    found = [o for o in gc.get_objects() if issubclass(type(o), QTimer)]
    return [timer for timer in found if isalive(timer)]


@pytest.fixture
def ct() -> Volume:
    """A small CT: soft tissue with a bright block at the patient's left, front and head."""
    hu = np.full((12, 16, 20), -1000, np.int16)
    hu[2:10, 3:13, 3:17] = 40
    hu[1:5, 2:6, 14:18] = 1000
    return Volume(
        hu,
        spacing_mm=(5.0, 2.0, 2.0),
        origin_lps=(-19.0, -15.0, 40.0),
        source=SourceInfo(kind="NIfTI", description="test", notes=("Nothing was mended.",)),
    )
