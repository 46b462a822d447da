"""Filtered backprojection beside RTK's on the same exact line integrals, in one run.

A thorax of ellipsoids whose line integrals are known in closed form, measured over a full circle,
a short scan, and the 180 degrees that a world model predicts. Prints how far each volume is from
the voxel means, how far the two are from each other, and the time. Type::

    python benchmarks/fdk.py                          # RTK where this interpreter has it
    python benchmarks/fdk.py --rtk-python PYTHON      # or another one
    python benchmarks/fdk.py --quick

The error is that of the voxels 10 mm and more within the body, in the 60 mm about the plane of
the source's circle, where FDK is exact but for sampling; bias is its mean. Both use the ramp
without a window. RTK weighs a short scan after Parker (1982); its weights do not hold for less
than that, and it is left out there.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_cxr3d.imaging import Grid, XrayView
from napari_cxr3d.phantom.ellipsoids import thorax_ellipsoids
from napari_cxr3d.xray.attenuation import DEFAULT_ENERGY_KEV, water_attenuation
from napari_cxr3d.xray.fdk import arc_of, fdk

Array = npt.NDArray[np.float32]

FIELD_MM = 440.0
WATER = water_attenuation(DEFAULT_ENERGY_KEV)
SCANS = (("full circle", 0.0, 360.0), ("short scan", -104.0, 104.0), ("half a turn", -90.0, 90.0))
RTK_SCRIPT = Path(__file__).with_name("fdk_rtk.py")
_RIM_MM = 10.0
_SLAB_MM = 30.0


class Peer(NamedTuple):
    """What RTK made of a problem."""

    mu: Array
    seconds: float
    version: str


def views_of(first: float, last: float, step: float, detector: int) -> tuple[XrayView, ...]:
    """A turn on the clinical geometry, from one angle to another, degrees; 360 is not 0 again."""
    base = XrayView(
        detector_shape=(detector, detector),
        pixel_mm=FIELD_MM / detector,
        isocenter_lps=(0.0, 0.0, 0.0),
    )
    count = round((last - first) / step) + (last - first < 360.0)
    return tuple(replace(base, yaw=first + k * step) for k in range(count))


def rtk_interpreter(asked: str | None) -> str | None:
    """The Python that has RTK: the one that was named, or this one; None if it has none."""
    if asked is not None:
        return asked
    return sys.executable if find_spec("itk") and find_spec("itk.itkRTKBasePython") else None


def rtk_fdk(
    integrals: Array,
    views: Sequence[XrayView],
    grid: Grid,
    python: str,
    *,
    short_scan: bool,
    threads: int,
    repeats: int,
    hann: bool = False,
) -> Peer:
    """RTK's FDK in its own interpreter; reading and starting are not part of its time."""
    view = views[0]
    with tempfile.TemporaryDirectory() as folder:
        problem, result = Path(folder, "problem.npz"), Path(folder, "result.npz")
        np.savez(
            problem, integrals=integrals, yaws=[v.yaw for v in views], pitch=view.pixel_mm,
            near=view.source_to_isocenter_mm, far=view.source_to_detector_mm,
            shape=grid.shape, spacing=grid.spacing_mm, threads=threads, repeats=repeats,
            short_scan=short_scan, hann=hann,
        )  # fmt: skip
        subprocess.run([python, str(RTK_SCRIPT), str(problem), str(result)], check=True)
        made = np.load(result)
        return Peer(made["volume"], float(made["seconds"]), f"itk-rtk {made['version']}")


def ours(
    integrals: Array, views: Sequence[XrayView], grid: Grid, *, threads: int, repeats: int
) -> tuple[Array, float]:
    """Our volume, and the shortest of the times."""
    fdk(integrals[:, :8], _shorter(views), grid, threads=threads)  # compile
    best = np.inf
    for _ in range(repeats):
        began = time.perf_counter()
        mu = fdk(integrals, views, grid, window="none", threads=threads)
        best = min(best, time.perf_counter() - began)
    return mu, best


def _shorter(views: Sequence[XrayView]) -> list[XrayView]:
    return [replace(v, detector_shape=(8, v.detector_shape[1])) for v in views]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rtk-python", metavar="PYTHON", help="an interpreter that has itk-rtk")
    parser.add_argument("--voxels", type=int, default=128)
    parser.add_argument("--detector", type=int, default=256)
    parser.add_argument("--step", type=float, default=1.0, help="degrees between views")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="64 voxels, 128 pixels, 3 degrees")
    chosen = parser.parse_args(arguments)
    if chosen.quick:
        chosen.voxels, chosen.detector, chosen.step, chosen.repeats = 64, 128, 3.0, 1
    python = rtk_interpreter(chosen.rtk_python)
    phantom = thorax_ellipsoids()
    edge = 384.0 / chosen.voxels
    grid = Grid.centered((chosen.voxels,) * 3, (edge,) * 3)
    truth = phantom.relative_attenuation(grid)
    counted = inside(truth, grid)
    print(
        f"{chosen.voxels}^3 voxels of {edge:g} mm, {chosen.detector}^2 pixels, a view every "
        f"{chosen.step:g} degrees, {chosen.threads} thread(s), no window"
    )
    if python is None:
        print("RTK: itk-rtk is not installed; name an interpreter that has it by --rtk-python")
    head = f"{'scan':<12} {'views':>5} {'what':<22} {'seconds':>8} {'ratio':>6} "
    print(f"{head}{'rms error':>10} {'bias':>8} {'apart':>8}")
    for name, first, last in SCANS:
        views = views_of(first, last, chosen.step, chosen.detector)
        exact = [phantom.line_integrals(v, water_per_mm=WATER) for v in views]
        integrals = np.stack(exact).astype(np.float32)
        mu, seconds = ours(integrals, views, grid, threads=chosen.threads, repeats=chosen.repeats)
        rows: list[tuple[str, Array, float]] = [("ours", mu, seconds)]
        arc = arc_of(views)
        if python is not None and not arc.limited:
            peer = rtk_fdk(
                integrals, views, grid, python, short_scan=not arc.full,
                threads=chosen.threads, repeats=chosen.repeats,
            )  # fmt: skip
            rows.append((peer.version, peer.mu, peer.seconds))
        for what, volume, taken in rows:
            error = 1000 * (volume / WATER - truth)[counted]
            apart = 1000 * np.sqrt(np.mean(np.square((volume - mu) / WATER)[counted]))
            print(
                f"{name:<12} {len(views):>5} {what:<22} {taken:>8.3f} {taken / seconds:>6.2f} "
                f"{np.sqrt(np.mean(error**2)):>7.1f} HU {error.mean():>5.1f} HU {apart:>5.1f} HU"
            )


def inside(truth: npt.NDArray[Any], grid: Grid) -> npt.NDArray[np.bool_]:
    """Voxels well within the body, near the plane of the source's circle."""
    body = ndimage.binary_fill_holes(truth > 0.3)
    deep = ndimage.distance_transform_edt(body, grid.spacing_mm) > _RIM_MM
    heights = grid.index_to_lps(np.argwhere(deep))[:, 2]
    deep[tuple(np.argwhere(deep)[np.abs(heights) > _SLAB_MM].T)] = False
    return np.asarray(deep)


if __name__ == "__main__":
    main()
