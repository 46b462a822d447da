"""Our CPU projector beside other people's, in one run on one machine.

Prints a table of median times, speed ratios and errors against exact line integrals, and
says which of the project's targets the run meets. Type::

    python benchmarks/projectors.py                    # all volumes, detectors and peers
    python benchmarks/projectors.py --quick            # 256^3, small detectors, minutes
    python benchmarks/projectors.py --out results/     # also projectors.md and projectors.json

Nothing here depends on the voxels' values: no empty space is skipped, so a phantom in clean
air takes as long as a noisy CT.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt
from projector_peers import PEERS

from napari_cxr3d.imaging import Grid, Volume, XrayView
from napari_cxr3d.phantom.ellipsoids import EllipsoidPhantom, thorax_ellipsoids
from napari_cxr3d.xray.attenuation import (
    DEFAULT_ENERGY_KEV,
    hu_to_attenuation,
    water_attenuation,
)
from napari_cxr3d.xray.cpu import CpuProjector
from napari_cxr3d.xray.cpu.copies import copies_of
from napari_cxr3d.xray.cpu.workers import Workers, available_threads

VOLUMES = {
    "256 x 256 x 256 at 1.4 mm": ((256, 256, 256), (1.4, 1.4, 1.4)),
    "512 x 512 x 400 at 0.7 x 0.7 x 0.9 mm": ((400, 512, 512), (0.9, 0.7, 0.7)),
}
DETECTORS = (128, 256, 512)
DETECTOR_MM = 430.0
REFERENCE = "DiffDRR siddon"
OURS = ("full", "exact", "preview")

_ENOUGH_S = 4.0  # repeat a projection for this long, but at least once and at most:
_REPEATS = 9


@dataclass
class Row:
    """One projector on one volume and detector."""

    volume: str
    detector: int
    name: str
    version: str
    milliseconds: float
    error: float
    repeats: int


def standard_view(detector: int) -> XrayView:
    """The benchmark's view: oblique in both angles, so that nothing falls on the grid."""
    return XrayView(
        yaw=20.0,
        pitch=8.0,
        source_to_isocenter_mm=1600.0,
        source_to_detector_mm=1800.0,
        detector_shape=(detector, detector),
        pixel_mm=DETECTOR_MM / detector,
    )


def error(image: npt.NDArray[np.float32], truth: npt.NDArray[np.float64]) -> float:
    """Root mean square error over the largest line integral."""
    return float(np.sqrt(np.mean((image - truth) ** 2)) / truth.max())


def measure(
    timed: Callable[[], tuple[float, npt.NDArray[np.float32]]],
) -> tuple[float, npt.NDArray[np.float32], int]:
    """Median seconds of warm repeats, the image, and how many repeats.

    The first call warms up and is not counted, unless it takes so long that what is set
    up once no longer matters.
    """
    seconds, image = timed()
    if seconds > _ENOUGH_S:
        return seconds, image, 1
    times: list[float] = []
    while len(times) < _REPEATS and (len(times) < 3 or sum(times) < _ENOUGH_S):
        seconds, image = timed()
        times.append(seconds)
    return median(times), image, len(times)


def read_once_seconds(volume: Volume, threads: int) -> float:
    """Fastest of ten: all threads read the int16 volume once and do nothing else."""
    words = np.zeros(volume.hu.size // 4, dtype=np.int64)
    part = -(-words.size // 64)
    best = np.inf
    with Workers(threads) as crew:
        for _ in range(10):
            start = time.perf_counter()
            crew.run(lambda n: np.bitwise_or.reduce(words[n * part : (n + 1) * part]), 64)
            best = min(best, time.perf_counter() - start)
    return float(best)


def working_memory_mb(projector: CpuProjector, volume: Volume, view: XrayView) -> float:
    """Peak of what one warm projection allocates beyond the copies, image included."""
    tracemalloc.start()
    projector.project(volume, [view])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def run_volume(
    name: str, phantom: EllipsoidPhantom, detectors: tuple[int, ...], threads: int
) -> tuple[list[Row], dict[str, float], list[str]]:
    """All projectors on one volume: rows, facts about memory, and who is missing."""
    shape, spacing = VOLUMES[name]
    grid = phantom.grid(shape, spacing)
    volume = phantom.volume(grid)
    water = water_attenuation(DEFAULT_ENERGY_KEV)
    rows: list[Row] = []

    def add(detector: int, projector: str, release: str, result: tuple[float, object, int]) -> None:
        seconds, image, repeats = result
        truth = phantom.line_integrals(standard_view(detector), grid, water_per_mm=water)
        row = Row(name, detector, projector, release, seconds * 1e3, error(image, truth), repeats)  # type: ignore[arg-type]
        rows.append(row)
        print(
            f"  {detector:4d}^2  {projector:18s} {row.milliseconds:10.1f} ms   "
            f"nrmse {row.error:.5f}   ({repeats} repeats)",
            flush=True,
        )

    for quality in OURS:
        projector = CpuProjector(quality, threads=threads)  # type: ignore[arg-type]
        for detector in detectors:
            view = standard_view(detector)

            def ours(projector: CpuProjector = projector, view: XrayView = view) -> tuple[
                float, npt.NDArray[np.float32]
            ]:
                start = time.perf_counter()
                image = projector.project(volume, [view])[0]
                return time.perf_counter() - start, image

            release = f"napari-cxr3d, numba {version('numba')}"
            add(detector, f"ours, {quality}", release, measure(ours))

    full = CpuProjector("full", threads=threads)
    view = standard_view(max(detectors))
    facts = {"working_mb": working_memory_mb(full, volume, view)}
    for angle in (0.0, 90.0):
        side = XrayView(yaw=angle, detector_shape=(256, 256), pixel_mm=DETECTOR_MM / 256)
        for quality in OURS:
            CpuProjector(quality, threads=threads).project(volume, [side])  # type: ignore[arg-type]
    facts["copies_mb"] = copies_of(volume).nbytes() / 1e6
    facts["float32_mb"] = volume.hu.size * 4 / 1e6
    facts["read_once_ms"] = read_once_seconds(volume, threads) * 1e3

    missing = []
    mu = hu_to_attenuation(volume.hu, DEFAULT_ENERGY_KEV)
    for peer in PEERS:
        if peer.missing:
            missing.append(f"{peer.name}: {peer.missing}")
            print(f"        {peer.name}: missing, {peer.missing}", flush=True)
            continue
        peer.load(mu, grid, threads)
        for detector in detectors:
            view = standard_view(detector)
            add(detector, peer.name, peer.version, measure(lambda p=peer, v=view: p.timed(v)))  # type: ignore[misc]
    return rows, facts, missing


def table(rows: list[Row], volume: str, missing: list[str]) -> str:
    """Markdown: milliseconds, speed over DiffDRR Siddon, error, for each detector."""
    mine = [row for row in rows if row.volume == volume]
    detectors = sorted({row.detector for row in mine})
    lines = [
        f"**{volume}**: milliseconds per view (speed over {REFERENCE}) [nrmse]",
        "",
        "| projector | " + " | ".join(f"{d} x {d}" for d in detectors) + " | version |",
        "|---" * (len(detectors) + 2) + "|",
    ]
    cell = {(row.name, row.detector): row for row in mine}
    for name in dict.fromkeys(row.name for row in mine):
        entries = []
        for detector in detectors:
            row, reference = cell.get((name, detector)), cell.get((REFERENCE, detector))
            if row is None:
                entries.append("-")
                continue
            ratio = f" ({reference.milliseconds / row.milliseconds:.3g}x)" if reference else ""
            entries.append(f"{row.milliseconds:.4g}{ratio} [{row.error:.4f}]")
        release = next(row.version for row in mine if row.name == name)
        lines.append(f"| {name} | " + " | ".join(entries) + f" | {release} |")
    lines += [f"| {entry} |" + " missing |" * (len(detectors) + 1) for entry in missing]
    return "\n".join(lines)


def targets(rows: list[Row], volume: str, facts: dict[str, float]) -> str:
    """Which targets this run meets, on the largest volume and detector."""
    time_of = {(r.name, r.detector): r.milliseconds for r in rows if r.volume == volume}
    error_of = {(r.name, r.detector): r.error for r in rows if r.volume == volume}
    size = max(detector for _, detector in time_of)
    lines = ["| target | wanted | measured | |", "|---|---|---|---|"]

    def line(what: str, wanted: str, value: float | None, met: bool, unit: str = "") -> None:
        shown = "not measured" if value is None else f"{value:.3g}{unit}"
        verdict = "-" if value is None else ("met" if met else "MISSED")
        lines.append(f"| {what} | {wanted} | {shown} | {verdict} |")

    def faster(ours: str, peer: str, factor: float) -> None:
        theirs = time_of.get((peer, size))
        ratio = None if theirs is None else theirs / time_of[ours, size]
        line(f"{ours} over {peer}, {size}^2", f">= {factor:g}x", ratio, (ratio or 0) >= factor, "x")

    faster("ours, full", "DiffDRR siddon", 200)
    faster("ours, full", "DiffDRR trilinear", 130)
    faster("ours, full", "plastimatch exact", 6)
    faster("ours, full", "RTK Joseph", 4.5)
    faster("ours, exact", "plastimatch exact", 2)
    faster("ours, exact", "RTK Joseph", 1.5)
    for detector in sorted({d for _, d in time_of}):
        worse = error_of["ours, full", detector] / error_of["ours, exact", detector]
        line(f"error of full over exact, {detector}^2", "<= 1.3", worse, worse <= 1.3)
    if ("ours, preview", 256) in time_of:
        rate = 1e3 / time_of["ours, preview", 256]
        line("preview, 256^2", ">= 20 frames/s", rate, rate >= 20, " frames/s")
    floor = 100 * facts["read_once_ms"] / time_of["ours, full", size]
    line(f"bandwidth floor (one int16 pass) over full, {size}^2", ">= 15 %", floor, floor >= 15, " %")
    line("working memory of a projection", "< 20 MB", facts["working_mb"], facts["working_mb"] < 20, " MB")
    ratio = facts["copies_mb"] / facts["float32_mb"]
    line("copies and pyramids over the float32 volume", "<= 2", ratio, ratio <= 2)
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="256^3 only, detectors to 256^2")
    parser.add_argument("--threads", type=int, default=available_threads())
    parser.add_argument("--out", type=Path, help="folder for projectors.md and projectors.json")
    arguments = parser.parse_args()

    names = list(VOLUMES)[:1] if arguments.quick else list(VOLUMES)
    detectors = DETECTORS[:2] if arguments.quick else DETECTORS
    machine = f"{platform.processor() or platform.machine()}, {platform.system()}"
    command = "python benchmarks/projectors.py" + (" --quick" if arguments.quick else "")
    text = [
        f"`{command}` with {arguments.threads} threads on {machine}, Python "
        f"{platform.python_version()}, numpy {np.__version__}. Thorax phantom of ellipsoids, yaw "
        f"20, pitch 8, 1600/1800 mm, detector {DETECTOR_MM:g} mm; nrmse: root mean square "
        "error against exact line integrals over the largest one. Other programs shared the "
        "machine: compare ratios, not times."
    ]
    phantom = thorax_ellipsoids()
    rows: list[Row] = []
    facts: dict[str, dict[str, float]] = {}
    for name in names:
        print(name, flush=True)
        part, facts[name], missing = run_volume(name, phantom, detectors, arguments.threads)
        rows += part
        text.append(table(rows, name, missing))
        text.append(
            f"Read once by all threads (int16): {facts[name]['read_once_ms']:.3g} ms. Copies and "
            f"pyramids of both orders: {facts[name]['copies_mb']:.4g} MB (volume as float32: "
            f"{facts[name]['float32_mb']:.4g} MB). Working memory of a full projection, image "
            f"included: {facts[name]['working_mb']:.3g} MB."
        )
    text.append(f"Targets on {names[-1]}:")
    text.append(targets(rows, names[-1], facts[names[-1]]))
    report = "\n\n".join(text)
    print("\n" + report)
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "projectors.md").write_text(report + "\n", encoding="utf-8")
        record = {"rows": [asdict(row) for row in rows], "facts": facts}
        (arguments.out / "projectors.json").write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
