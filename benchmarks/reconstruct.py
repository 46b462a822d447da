"""From an X-ray to a volume: how long, beside a thousand denoising steps, and what agreement costs.

One table, measured in one run on one machine: our model with its few steps beside a peer's network
with its published sampler, the time to the first picture, and the data step. Type::

    python benchmarks/reconstruct.py                                # the installed reconstruct-demo
    python benchmarks/reconstruct.py --bundle FOLDER --peer xray2ctpa=FOLDER --whole
    python benchmarks/reconstruct.py --device cuda --out results/

Without ``--whole`` the peer runs a few of its steps, and the time of all is computed from theirs:
the table says so. How good the volumes are is measured by ``cxr3d-train evaluate reconstruct``; the
memory of a tiled decoder by ``benchmarks/codecs.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from cxr3d_training.evaluation.reconstruct_bundles import open_reconstructor
from cxr3d_training.evaluation.reconstruct_figures import figures
from cxr3d_training.evaluation.reconstruct_methods import Estimate
from cxr3d_training.evaluation.reconstruct_network import Network
from cxr3d_training.evaluation.reconstruct_scenes import Scene, Stage
from napari_cxr3d.device import resolve_device
from napari_cxr3d.models.reconstruction import ReconstructionModel
from napari_cxr3d.phantom import make_thorax
from napari_cxr3d.progress import CancelToken

PUBLISHED_STEPS = 1000
MEASURED_STEPS = 20  # of the peer, where not all are run


@dataclass(frozen=True)
class Line:
    """One way, timed.

    Attributes
    ----------
    what : str
        Which.
    evaluations : int
        Of the denoising network.
    seconds : float
        Median over the volumes, each by itself.
    note : str
        How the time was found.
    psnr3d, at_input, held_out : float or None
        Mean over the volumes, where they were finished.
    """

    what: str
    evaluations: int
    seconds: float
    note: str = ""
    psnr3d: float | None = None
    at_input: float | None = None
    held_out: float | None = None


def timed(what: str, method: Network, scenes: Sequence[Scene], model: ReconstructionModel) -> Line:
    """Every scene by itself, after one that is not counted."""

    def once(scene: Scene) -> Estimate:
        method.shared.clear()
        return method([scene], CancelToken())[0]

    once(scenes[0])
    made = [(scene, once(scene)) for scene in scenes]
    measured = [
        {m.name: m.value for m in figures(e, s, model.window, method.given(s.stage))}
        for s, e in made
    ]

    def mean(name: str) -> float:
        return statistics.fmean(m[name] for m in measured)

    return Line(
        what,
        made[0][1].evaluations,
        statistics.median(e.seconds for _, e in made),
        f"median of {len(made)}",
        mean("psnr3d"),
        mean("reprojection_input"),
        mean("reprojection_held_out"),
    )


def published(name: str, peer: ReconstructionModel, scenes: Sequence[Scene], whole: bool) -> Line:
    """The peer's published sampler: all of its steps, or their time by that of a few."""
    what = f"{name}, {PUBLISHED_STEPS} DDPM steps"
    if whole:
        method = Network(peer, PUBLISHED_STEPS, sampler="ddpm")
        return timed(what, method, scenes[:1], peer)
    seconds = {}
    for steps in (MEASURED_STEPS, 1):
        method = Network(peer, steps, sampler="ddpm")
        seconds[steps] = timed("", method, scenes[:1], peer).seconds
    step = (seconds[MEASURED_STEPS] - seconds[1]) / (MEASURED_STEPS - 1)
    total = seconds[1] + (PUBLISHED_STEPS - 1) * step
    return Line(
        what, PUBLISHED_STEPS, total, f"computed from {MEASURED_STEPS} steps of {step:.3f} s"
    )


def table(lines: Sequence[Line]) -> str:
    """The lines as Markdown."""
    rows = [
        "| way | network evaluations | s | | PSNR3D (dB) | re-projection, input | held out |",
        "|---|--:|--:|---|--:|--:|--:|",
    ]
    for line in lines:
        measured = [
            "-" if value is None else f"{value:{form}}"
            for value, form in (
                (line.psnr3d, ".2f"), (line.at_input, ".3%"), (line.held_out, ".2%"),
            )
        ]  # fmt: skip
        cells = [line.what, str(line.evaluations), f"{line.seconds:.2f}", line.note, *measured]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def ratios(first: Line, plain: Line, agreed: Line, peer: Line | None) -> str:
    """What the issue's targets are about, in words."""
    told = [
        f"- first picture in 1/{plain.seconds / first.seconds:.1f} of the whole time without the "
        f"data step, 1/{agreed.seconds / first.seconds:.1f} with it (target: 1/10)",
        f"- a volume in {agreed.seconds:.1f} s (target on two CPU cores: 10 s)",
    ]
    if plain.at_input and agreed.at_input and plain.held_out and agreed.held_out:
        told.append(
            f"- the data step adds {agreed.seconds - plain.seconds:.2f} s; re-projection error "
            f"{plain.at_input / agreed.at_input:.1f} times lower at the input (target: 20), "
            f"{plain.held_out / agreed.held_out:.2f} times at held-out poses (target: above 1)"
        )
    if peer is None:
        told.append("- no peer: name its bundle by --peer NAME=BUNDLE")
    else:
        told.append(
            f"- {peer.evaluations / agreed.evaluations:.0f} times fewer network evaluations than "
            f"{peer.what} (target: 125), {peer.seconds / agreed.seconds:.0f} times less wall time "
            f"(target: 50), {peer.seconds / plain.seconds:.0f} times without the data step"
        )
    return "\n".join(told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--bundle", default="reconstruct-demo", help="path, or an installed name")
    parser.add_argument("--peer", metavar="NAME=BUNDLE", help="on the same grid")
    parser.add_argument("--whole", action="store_true", help="run all of the peer's steps")
    parser.add_argument("--volumes", type=int, default=5, help="phantoms to reconstruct")
    parser.add_argument("--seed", type=int, default=9_000_000, help="of the first phantom")
    parser.add_argument("--threads", type=int, help="of torch; all of the process if left out")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="folder for the table and its numbers")
    options = parser.parse_args()

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = torch.device(resolve_device(options.device))
    began = time.perf_counter()
    bundle, model = open_reconstructor(options.bundle)
    model.to(device)
    loaded = time.perf_counter() - began
    stage = Stage.of(model)
    scenes = [phantom(stage, options.seed + k) for k in range(options.volumes)]
    steps = model.default_steps
    first = timed("first picture (coarse)", Network(model, 0), scenes, model)
    plain = timed(f"ours, {steps} steps", Network(model, steps), scenes, model)
    method = Network(model, steps, consistency="hard")
    agreed = timed(f"ours, {steps} steps, consistent", method, scenes, model)
    lines = [first, plain, agreed]
    peer = None
    if options.peer is not None:
        name, _, where = options.peer.partition("=")
        _, network = open_reconstructor(where)
        peer = published(name, network.to(device), scenes, options.whole)
        lines.append(peer)

    threads = f"{torch.get_num_threads()} threads of {os.cpu_count()} processors"
    heading = (
        f"{bundle.name} {bundle.version} (loaded in {loaded:.1f} s), "
        f"{' x '.join(map(str, model.volume_shape))} voxels of {model.spacing_mm[0]:g} mm, "
        f"{len(scenes)} phantoms, one exact frontal view, "
        f"{torch.cuda.get_device_name(device) if device.type == 'cuda' else threads}, "
        f"{platform.machine()}, torch {torch.__version__}."
    )
    text = "\n\n".join([heading, table(lines), ratios(first, plain, agreed, peer)])
    print(text)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "reconstruct.md").write_text(f"{text}\n")
        record = {"setting": heading, "lines": [asdict(line) for line in lines]}
        (options.out / "reconstruct.json").write_text(json.dumps(record, indent=1) + "\n")


def phantom(stage: Stage, seed: int) -> Scene:
    """A phantom that no shipped model was trained on, on the model's grid."""
    from cxr3d_training.data import cohort_of

    size = [n * s for n, s in zip(stage.volume_shape, stage.spacing_mm, strict=True)]
    thorax = make_thorax(seed, size_mm=(size[0], size[1], size[2]), spacing_mm=stage.spacing_mm[0])
    (case,) = cohort_of({f"phantom-{seed}": thorax.volume}).cases
    return stage.scene(case)


if __name__ == "__main__":
    main()
