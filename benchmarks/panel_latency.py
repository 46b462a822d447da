"""How fast the X-ray panel follows the hand, beside a panel that projects every change in full.

Run it on a desktop, or headless:

    xvfb-run -a -s "-screen 0 1600x1000x24 +extension GLX" python benchmarks/panel_latency.py

It opens napari with the panel and a synthetic CT, turns the source as a hand would, and
prints milliseconds from the change of the slider to the picture in the canvas's layer
(drawing is up to OpenGL and not counted).
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import napari
import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from napari_cxr3d.imaging import Volume
from napari_cxr3d.inference import DrrRequest, render_drr
from napari_cxr3d.phantom import thorax_ellipsoids
from napari_cxr3d.viewer.layers import add_volume
from napari_cxr3d.widgets.xray import XrayPanel

DRAG_YAWS = [20.3 + 1.1 * k for k in range(24)]  # off the orbit that is projected ahead
SCRUB_YAWS = [float(yaw) for yaw in range(-90, 91, 5)]
PATIENCE_S = 300.0


class Heartbeat:
    """The longest time that the window did not answer."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self.longest = 0.0
        self._timer = QTimer()
        self._timer.timeout.connect(self._beat)
        self._timer.start(5)

    def _beat(self) -> None:
        now = time.perf_counter()
        self.longest = max(self.longest, now - self._last)
        self._last = now

    def reset(self) -> None:
        """Begin again."""
        self._last, self.longest = time.perf_counter(), 0.0


def wait(until: Callable[[], bool]) -> None:
    """Run the event loop until something is so."""
    end = time.perf_counter() + PATIENCE_S
    while not until():
        if time.perf_counter() > end:
            raise TimeoutError("the panel did not finish")
        QApplication.processEvents()
        time.sleep(0.0005)


def synthetic_ct(shape: tuple[int, int, int]) -> Volume:
    """The ellipsoid thorax on a clinical grid (512 x 512 x 400: 0.7 x 0.7 x 0.9 mm)."""
    phantom = thorax_ellipsoids()
    grid = phantom.grid(shape)
    volume = phantom.volume(grid, supersampling=1)
    return Volume(volume.hu.astype(np.int16), volume.spacing_mm, volume.origin_lps)


def measure(volume: Volume) -> dict[str, float]:
    """Seconds by what was timed."""
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1600, 1000)
    heart = Heartbeat()
    begin = time.perf_counter()
    panel = XrayPanel(viewer)
    viewer.window.add_dock_widget(panel, name="X-ray from CT", area="right")
    add_volume(viewer, volume)
    QApplication.processEvents()  # draws the CT, which is napari's own time
    heart.reset()
    session, form = panel.controller.session, panel.geometry_form
    wait(lambda: session.full is not None)
    times = {"first picture": time.perf_counter() - begin, "longest stall meanwhile": heart.longest}

    previews = []
    for yaw in DRAG_YAWS:
        start = time.perf_counter()
        form._yaw.set_value(yaw)
        wait(lambda yaw=yaw: session.frame is not None and session.frame.view.yaw == yaw)
        previews.append(time.perf_counter() - start)
    times["preview"] = statistics.median(previews)
    times["slowest preview"] = max(previews)

    start = time.perf_counter()
    form._yaw.set_value(DRAG_YAWS[0] - 7.0)
    wait(lambda: session.full is not None)
    times["full"] = time.perf_counter() - start

    wait(lambda: len(session.live.cache) >= 72 and not session.live.busy)
    scrubs = []
    for yaw in SCRUB_YAWS:
        start = time.perf_counter()
        form._yaw.set_value(yaw)
        scrubs.append(time.perf_counter() - start)
        assert session.frame is not None and session.frame.view.yaw == yaw
        QApplication.processEvents()
    times["scrub"] = statistics.median(scrubs)
    wait(lambda: session.full is not None)

    times["naive, own full quality"] = naive(volume, form.view, "cpu")
    if find_spec("diffdrr") is not None:
        times["naive, DiffDRR"] = naive(volume, form.view, "diffdrr")
    panel.controller.close()
    viewer.close()
    return times


def naive(volume: Volume, view: object, backend: str) -> float:
    """Seconds that a panel would need which projects every change in full."""
    request = DrrRequest(volume, (view,), backend=backend, kilovolt=120.0)  # type: ignore[arg-type]
    if backend == "cpu":
        render_drr(request)  # compiled and copied, as the panel's own is
    start = time.perf_counter()
    render_drr(request)
    return time.perf_counter() - start


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="400x512x512", help="I x P x L voxels")
    shape = tuple(int(n) for n in parser.parse_args().shape.split("x"))
    times = measure(synthetic_ct(shape))  # type: ignore[arg-type]
    preview = times["preview"]
    machine = f"{os.cpu_count()} processors, {platform.processor() or platform.machine()}"
    print(f"CT {' x '.join(map(str, shape))}, 512 x 512 detector")
    print(f"{machine}, napari {napari.__version__}")
    print(f"{'what':34s} {'ms':>9s} {'x preview':>10s}")
    for name, seconds in times.items():
        print(f"{name:34s} {1e3 * seconds:9.1f} {seconds / preview:10.2f}")
    if "naive, DiffDRR" not in times:
        print("naive, DiffDRR: missing, diffdrr is not installed")
    else:
        try:
            print(f"DiffDRR is {version('diffdrr')}")
        except PackageNotFoundError:
            print("DiffDRR has no version")


if __name__ == "__main__":
    main()
