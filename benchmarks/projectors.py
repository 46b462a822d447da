"""Our CPU projector beside other people's, in one run on one machine.

Prints a table of times, speed ratios and errors against exact line integrals, and
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
from projector_peers import PEERS, processor_seconds

from napari_cxr3d.imaging import Volume, XrayView
from napari_cxr3d.phantom.ellipsoids import EllipsoidPhantom, thorax_ellipsoids
from napari_cxr3d.workers import Workers, available_threads
from napari_cxr3d.xray.attenuation import (
    DEFAULT_ENERGY_KEV,
    hu_to_attenuation,
    water_attenuation,
)
from napari_cxr3d.xray.cpu import CpuProjector
from napari_cxr3d.xray.cpu.copies import copies_of
from napari_cxr3d.xray.projector import Quality

Image = npt.NDArray[np.float32]

VOLUMES = {
    "256 x 256 x 256 at 1.4 mm": ((256, 256, 256), (1.4, 1.4, 1.4)),
    "512 x 512 x 400 at 0.7 x 0.7 x 0.9 mm": ((400, 512, 512), (0.9, 0.7, 0.7)),
}
DETECTORS = (128, 256, 512)
DETECTOR_MM = 430.0
REFERENCE = "DiffDRR siddon"
OURS: tuple[Quality, ...] = ("full", "exact", "preview")

_ENOUGH_S = 4.0  # repeat a projection for this long, but at least once and at most:
_REPEATS = 15
_WARM_UP = 16  # detector of the projection that comes before, pixels a side


@dataclass
class Measured:
    """Seconds of the repeats of one projection (fastest, median, least processor time)."""

    fastest: float
    median: float
    processor: float
    repeats: int
    image: Image


@dataclass
class Row:
    """One projector on one volume and detector.

    `milliseconds` is the fastest repeat, which other programs on the machine disturb least;
    `processor_milliseconds` is the least time that all its threads took together.
    """

    volume: str
    detector: int
    name: str
    version: str
    milliseconds: float
    median_milliseconds: float
    processor_milliseconds: float
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
    timed: Callable[[XrayView], tuple[float, float, Image]], view: XrayView, most: int = _REPEATS
) -> Measured:
    """Repeat a projection, after a small one that loads, compiles and copies."""
    timed(standard_view(_WARM_UP))
    times: list[float] = []
    processor: list[float] = []
    while len(times) < most and sum(times) < _ENOUGH_S:
        seconds, used, image = timed(view)
        times.append(seconds)
        processor.append(used)
    return Measured(min(times), median(times), min(processor), len(times), image)


def read_once_seconds(volume: Volume, threads: int) -> float:
    """Fastest of ten: all threads read the int16 volume once and do nothing else."""
    words = np.ones(volume.hu.size // 4, dtype=np.int64)  # zeros would have no memory yet
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

    def add(detector: int, projector: str, release: str, result: Measured) -> None:
        truth = phantom.line_integrals(standard_view(detector), grid, water_per_mm=water)
        rows.append(
            Row(
                volume=name,
                detector=detector,
                name=projector,
                version=release,
                milliseconds=result.fastest * 1e3,
                median_milliseconds=result.median * 1e3,
                processor_milliseconds=result.processor * 1e3,
                error=error(result.image, truth),
                repeats=result.repeats,
            )
        )
        print(
            f"  {detector:4d}^2  {projector:18s} {result.fastest * 1e3:10.1f} ms   processor "
            f"{result.processor * 1e3:10.1f} ms   nrmse {rows[-1].error:.5f}   "
            f"({result.repeats} repeats)",
            flush=True,
        )

    release = f"napari-cxr3d, numba {version('numba')}"
    for quality in OURS:
        projector = CpuProjector(quality, threads=threads)

        def ours(view: XrayView, projector: CpuProjector = projector) -> tuple[float, float, Image]:
            start, used = time.perf_counter(), processor_seconds()
            image = projector.project(volume, [view])[0]
            return time.perf_counter() - start, processor_seconds() - used, image

        for detector in detectors:
            ours(standard_view(detector))  # the preview's copies differ with the detector
            add(detector, f"ours, {quality}", release, measure(ours, standard_view(detector)))

    full = CpuProjector("full", threads=threads)
    view = standard_view(max(detectors))
    facts = {"working_mb": working_memory_mb(full, volume, view)}
    for angle in (0.0, 90.0):
        side = XrayView(yaw=angle, detector_shape=(256, 256), pixel_mm=DETECTOR_MM / 256)
        for quality in OURS:
            CpuProjector(quality, threads=threads).project(volume, [side])
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
            measured = measure(peer.timed, standard_view(detector), peer.repeats)
            add(detector, peer.name, peer.version, measured)
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
    of = {(row.name, row.detector): row for row in rows if row.volume == volume}
    size = max(detector for _, detector in of)
    lines = ["| target | wanted | measured | by processor time | |", "|---|---|---|---|---|"]

    def line(what: str, wanted: str, measured: str, met: bool, processor: str = "") -> None:
        verdict = "met" if met else "MISSED"
        lines.append(f"| {what} | {wanted} | {measured} | {processor} | {verdict} |")

    def faster(ours: str, name: str, factor: float) -> None:
        what = f"{ours} over {name}, {size}^2"
        peer, mine = of.get((name, size)), of[ours, size]
        if peer is None:
            lines.append(f"| {what} | >= {factor:g}x | not measured | | - |")
            return
        ratio = peer.milliseconds / mine.milliseconds
        processor = peer.processor_milliseconds / mine.processor_milliseconds
        line(what, f">= {factor:g}x", f"{ratio:.3g}x", ratio >= factor, f"{processor:.3g}x")

    faster("ours, full", "DiffDRR siddon", 200)
    faster("ours, full", "DiffDRR trilinear", 130)
    faster("ours, full", "plastimatch exact", 6)
    faster("ours, full", "RTK Joseph", 4.5)
    faster("ours, exact", "plastimatch exact", 2)
    faster("ours, exact", "RTK Joseph", 1.5)
    for detector in sorted({d for _, d in of}):
        worse = of["ours, full", detector].error / of["ours, exact", detector].error
        line(f"error of full over exact, {detector}^2", "<= 1.3", f"{worse:.3g}", worse <= 1.3)
    rate = 1e3 / of["ours, preview", 256].milliseconds
    line("preview, 256^2", ">= 20 frames/s", f"{rate:.3g} frames/s", rate >= 20)
    floor = facts["read_once_ms"] / of["ours, full", size].milliseconds
    what = f"bandwidth floor (one int16 pass) over full, {size}^2"
    line(what, ">= 15 %", f"{floor:.3g}", floor >= 0.15)
    working, copies = facts["working_mb"], facts["copies_mb"] / facts["float32_mb"]
    line("working memory of a projection", "< 20 MB", f"{working:.3g} MB", working < 20)
    line("copies and pyramids over the float32 volume", "<= 2", f"{copies:.3g}", copies <= 2)
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
        "error against exact line integrals over the largest one. Times are those of the fastest "
        "repeat; other programs may share the machine, so compare ratios, not times."
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
