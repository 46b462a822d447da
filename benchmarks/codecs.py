"""What codecs lose on the way into a latent and back, and what decoding in tiles costs.

Prints a table. Type::

    python benchmarks/codecs.py --bundle A --bundle B --data FOLDER    # round trips, held-out cases
    python benchmarks/codecs.py --memory                               # tiles: memory, time, error
    python benchmarks/codecs.py --memory --bundle A --size 128 --out results/

*Round trips*: PSNR, SSIM and MAE in the body and the slices' mean PSNR, mean over patients with an
interval, of each codec, of Haar wavelets that keep as many numbers, of all of them, and of
resampling; beside each how many numbers it keeps. It is the table of X-ray2CTPA's codecs
(Table 4) without LPIPS and FVD, which only the networks that define them can give.

*Memory*: decoding at once, in tiles whose normalisations know the whole volume, and in tiles
that blend, each with its own statistics. *Tensors* are the most bytes that live in tensors at a
time; *process* is the largest resident memory less that before, with the buffers of the libraries
(on CUDA the largest allocation; on the CPU of a small volume it is mostly buffers). The error is
that against decoding at once, the largest and the mean, in percent of the range of the decoded
volume.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import platform
import sys
import tempfile
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# --- round trips ----------------------------------------------------------------------------


def round_trips(
    bundles: Sequence[str], data: str, side: str, limit: int, device: str
) -> tuple[Any, dict[str, float]]:
    """The report, and how many numbers each method keeps for a voxel."""
    import torch

    from cxr3d_training.data import open_cohort
    from cxr3d_training.evaluation.codecs import (
        as_a_cube,
        compare_codecs,
        haar_bands,
        resampling,
        whole_volume,
    )
    from napari_cxr3d.models import open_bundle
    from napari_cxr3d.models.codecs.base import Codec

    opened = [open_bundle(path) for path in bundles]
    windows = {bundle.hu_window for bundle in opened}
    if len(windows) != 1:
        raise SystemExit("Codecs are compared within one HU window; these have several.")
    methods: dict[str, Any] = {}
    numbers: dict[str, float] = {}
    budgets: set[tuple[int, int]] = set()
    for bundle in opened:
        codec = bundle.network(device=device)
        if not isinstance(codec, Codec):
            raise SystemExit(f"{bundle.name} is no codec.")
        methods[bundle.name] = whole_volume(codec, tile=24)
        numbers[bundle.name] = codec.numbers_per_voxel
        budgets.add(as_a_cube(codec))
    for factor, channels in sorted(budgets, key=lambda b: b[1] / b[0] ** 3):
        levels = factor.bit_length() - 1
        for name, method in (
            (f"Haar, {levels} levels, {channels} of {8**levels} bands", haar_bands),
            (f"area down by {factor / channels ** (1 / 3):.2f}, trilinear up", resampling),
        ):
            methods[name] = method(factor, channels)
            numbers[name] = channels / factor**3
    for levels in (1, 2):
        name = f"Haar, {levels} levels, all bands"
        methods[name] = haar_bands(2**levels, 8**levels)
        numbers[name] = 1.0
    cohort = open_cohort(data)
    cases = cohort.cases if side == "all" else cohort.split(side)  # type: ignore[arg-type]
    report = compare_codecs(
        "Codecs there and back",
        methods,
        list(cases)[: limit or None],
        next(iter(windows)),
        torch.device(device),
        progress=lambda p: print(f"\r{p.message}", end="", file=sys.stderr, flush=True),
    )
    print(file=sys.stderr)
    return report, numbers


def table_of(report: Any, numbers: Mapping[str, float]) -> str:
    """Markdown: a line a method, most compressed first."""
    names = list(report.conventions)
    lines = [
        f"| method | numbers a voxel | smaller by | {' | '.join(names)} |",
        f"|---|--:|--:|{'--:|' * len(names)}",
    ]
    for method in sorted(report.methods, key=lambda m: numbers[m]):
        cells = []
        for name in names:
            found = report.intervals[method][name]
            shown = "inf" if math.isinf(found.mean) else f"{found.mean:.4g}"
            if found.low is not None and found.high is not None:
                shown += f" [{found.low:.4g}, {found.high:.4g}]"
            cells.append(shown)
        kept = numbers[method]
        lines.append(f"| {method} | {kept:.4g} | {1 / kept:.3g} | {' | '.join(cells)} |")
    told = "\n".join(f"- `{name}`: {text}." for name, text in report.conventions.items())
    return "\n".join(lines) + f"\n\n{told}\n"


# --- memory -----------------------------------------------------------------------------------


def decoded(job: Mapping[str, Any]) -> None:
    """One way of decoding, in a process of its own; time, memory and volume go to files."""
    import torch

    from napari_cxr3d.models.codecs.tiling import run_in_tiles

    codec = _codec(job["bundle"], job["device"])
    z = torch.from_numpy(np.load(job["latent"])).to(job["device"])
    on_cuda = z.device.type == "cuda"

    def decode(latent: Any) -> Any:
        if job["way"] == "at once":
            return codec.decode(latent)
        if job["way"] == "tiles":
            return codec.tiled_decode(latent, tile=job["tile"])
        return run_in_tiles(
            codec.decode, latent, latent.shape[-3:], tile=job["tile"],
            overlap=job["tile"] // 3, device=latent.device,
        )  # fmt: skip

    living = _living()
    with torch.no_grad():
        decode(z[..., :2, :2, :2])  # whatever is loaded or compiled first
        before = _begin(on_cuda)
        start = time.perf_counter()
        with living:
            volume = decode(z).float().cpu()
        seconds = time.perf_counter() - start
        peak = _peak(on_cuda) - before
    np.save(job["volume"], volume.numpy())
    record = {"seconds": seconds, "bytes": peak, "tensors": living.peak}
    Path(job["record"]).write_text(json.dumps(record))


def _living() -> Any:
    """A mode in which torch counts the bytes of the tensors that live."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Living(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.now = self.peak = 0
            self.known: dict[int, Any] = {}

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
            out = func(*args, **(kwargs or {}))
            for made in out if isinstance(out, tuple | list) else (out,):
                if isinstance(made, torch.Tensor):
                    self.count(made.untyped_storage())
            return out

        def count(self, storage: Any) -> None:
            key, size = storage._cdata, storage.nbytes()
            if key not in self.known:
                self.known[key] = weakref.ref(storage, lambda _: self.gone(key, size))
                self.now += size
                self.peak = max(self.peak, self.now)

        def gone(self, key: int, size: int) -> None:
            self.known.pop(key, None)
            self.now -= size

    return Living()


def _codec(bundle: str | None, device: str) -> Any:
    import torch

    from napari_cxr3d.models import open_bundle
    from napari_cxr3d.models.codecs import PRESETS
    from napari_cxr3d.models.network import build_network

    if bundle:
        return open_bundle(bundle).network(device=device)
    torch.manual_seed(0)
    return build_network(PRESETS["demo"]).eval().to(device)


def _begin(on_cuda: bool) -> int:
    """Forget the largest memory so far; bytes in use."""
    if on_cuda:
        import torch

        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    try:  # Linux: the high-water mark becomes what is resident now
        Path("/proc/self/clear_refs").write_text("5")
    except OSError as error:
        raise SystemExit("Memory of the CPU is measured on Linux only.") from error
    return _status("VmRSS")


def _peak(on_cuda: bool) -> int:
    if on_cuda:
        import torch

        return torch.cuda.max_memory_allocated()
    return _status("VmHWM")


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"The system does not tell {key}.")


def memory(bundle: str | None, size: int, tiles: Sequence[int], device: str) -> str:
    """Markdown: a line a way of decoding."""
    import torch

    from napari_cxr3d.models.hu_window import HuWindow
    from napari_cxr3d.phantom import make_thorax

    codec = _codec(bundle, device)
    factor = max(codec.factors)
    size -= size % factor
    spacing = 384.0 / size
    hu = np.asarray(make_thorax(0, spacing_mm=spacing).volume.hu, np.float32)
    volume = torch.full((1, 1, size, size, size), -1.0)
    part = HuWindow().encode(hu)[:size, :size, :size]
    volume[0, 0, : part.shape[0], : part.shape[1], : part.shape[2]] = torch.from_numpy(part)
    with torch.no_grad():
        latent = codec.tiled_encode(volume, tile=8).cpu().numpy()
    ways = [("at once", 0), *(("tiles", t) for t in tiles), *(("blended", t) for t in tiles)]
    lines = [
        "| decoding | latent voxels a tile | tensors | of at once | process | time | of at once "
        "| largest error | mean error |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "latent.npy", latent)
        first: dict[str, Any] = {}
        for way, tile in ways:
            job = {
                "way": way, "tile": tile, "bundle": bundle, "device": device,
                **{n: str(Path(folder) / f"{n}.npy") for n in ("latent", "volume", "record")},
            }  # fmt: skip
            process = multiprocessing.get_context("spawn").Process(target=decoded, args=(job,))
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(f"Decoding {way} ended with {process.exitcode}.")
            record = json.loads(Path(job["record"]).read_text())
            result = np.load(job["volume"])
            first = first or {**record, "volume": result}
            error = np.abs(result - first["volume"]) / np.ptp(first["volume"]) * 100
            lines.append(
                f"| {way} | {tile or '-'} | {record['tensors'] / 2**20:.0f} MiB "
                f"| {record['tensors'] / first['tensors']:.2f} "
                f"| {record['bytes'] / 2**20:.0f} MiB | {record['seconds']:.1f} s "
                f"| {record['seconds'] / first['seconds']:.1f} "
                f"| {error.max():.2g} % | {error.mean():.2g} % |"
            )
            print(lines[-1], file=sys.stderr, flush=True)
    name = Path(bundle).name if bundle else "the untrained demo preset"
    head = f"A volume of {size} x {size} x {size} voxels, latent {latent.shape[1:]}, {name}."
    return f"{head}\n\n" + "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", action="append", default=[], help="a codec's bundle; repeat it")
    parser.add_argument("--data", help="cases: a prepared dataset, or phantom:N")
    parser.add_argument("--split", default="test", choices=["test", "validation", "train", "all"])
    parser.add_argument("--limit", type=int, default=0, help="cases at most")
    parser.add_argument("--memory", action="store_true", help="measure decoding in tiles")
    parser.add_argument("--size", type=int, default=96, help="voxels along an axis")
    parser.add_argument("--tile", type=int, nargs="+", default=[4, 8], help="latent voxels")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="folder for codecs.md and report.json")
    options = parser.parse_args()
    if not options.memory and not (options.bundle and options.data):
        parser.error("name codecs by --bundle and cases by --data, or say --memory")
    pages = []
    if options.bundle and options.data:
        report, numbers = round_trips(
            options.bundle, options.data, options.split, options.limit, options.device
        )
        pages.append(table_of(report, numbers))
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
            report.write(options.out, overwrite=True)
    if options.memory:
        bundle = options.bundle[0] if options.bundle else None
        pages.append(memory(bundle, options.size, options.tile, options.device))
    import torch

    pages.append(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}; "
        f"`python benchmarks/codecs.py {' '.join(sys.argv[1:])}`\n"
    )
    text = "\n".join(pages)
    print(text)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "codecs.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
