"""Views while a network trains: the feed beside a loop that renders with DiffDRR item by item.

Both train the same small network on the same views of the same volume, drawn from the same
generators. The loop does what published pipelines' loaders do: it takes a sample, renders its views
one at a time with DiffDRR in the training process, and steps when the batch is full. Prints views
per second and the part of the time in which the network waits for data. Type::

    python benchmarks/training_views.py                      # a minute or two on a laptop
    python benchmarks/training_views.py --device cuda        # both render on the GPU
    python benchmarks/training_views.py --out results/       # also training_views.md and .json

The first steps, in which kernels are compiled and the feed fills, are not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cxr3d_training.data import Feed
from cxr3d_training.data.feed import sample_rng
from cxr3d_training.data.poses import RandomPoses, pose_rows
from cxr3d_training.data.views import ViewRenderer
from napari_cxr3d.imaging import Volume
from napari_cxr3d.phantom import make_thorax
from napari_cxr3d.workers import available_threads
from napari_cxr3d.xray import available_backends
from napari_cxr3d.xray.diffdrr_backend import DiffdrrProjector

WARM_UP = 2


@dataclass(frozen=True)
class Row:
    """One way to make the views.

    Attributes
    ----------
    what : str
        Which.
    steps : int
        Measured steps.
    seconds : float
        They took.
    views : int
        Rendered in them.
    waiting_s : float
        Seconds of them in which the network had no batch.
    """

    what: str
    steps: int
    seconds: float
    views: int
    waiting_s: float

    @property
    def rate(self) -> float:
        """Views per second."""
        return self.views / self.seconds

    @property
    def waiting(self) -> float:
        """Part of the time spent waiting for data."""
        return self.waiting_s / self.seconds


class Net(torch.nn.Module):
    """A small convolutional encoder: enough of a step to have something to overlap with."""

    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = [1, width, 2 * width, 4 * width]
        self.layers = torch.nn.Sequential(
            *(
                torch.nn.Sequential(torch.nn.Conv2d(a, b, 3, stride=2, padding=1), torch.nn.GELU())
                for a, b in pairwise(sizes)
            ),
            torch.nn.AdaptiveAvgPool2d(1),
            torch.nn.Flatten(),
            torch.nn.Linear(sizes[-1], 9),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Nine numbers of each picture [N, 1, rows, cols]."""
        predicted: torch.Tensor = self.layers(x)
        return predicted


def trainer(width: int, device: str) -> Callable[[torch.Tensor, torch.Tensor], None]:
    """A training step on pictures [N, rows, cols] and what the network shall tell of them."""
    torch.manual_seed(0)
    net = Net(width).to(device)
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3)

    def step(pictures: torch.Tensor, wanted: torch.Tensor) -> None:
        loss = torch.nn.functional.smooth_l1_loss(net(pictures[:, None]), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if device != "cpu":
            torch.cuda.synchronize()

    return step


def measured(
    what: str,
    batches: Iterator[tuple[torch.Tensor, torch.Tensor]],
    step: Callable[[torch.Tensor, torch.Tensor], None],
    limits: tuple[int, float],
) -> Row:
    """Train until the steps or the seconds are over."""
    steps, seconds = limits
    for _ in range(WARM_UP):
        step(*next(batches))
    waiting, views, done = 0.0, 0, 0
    began = time.perf_counter()
    while done < steps and time.perf_counter() - began < seconds:
        asked = time.perf_counter()
        pictures, wanted = next(batches)
        waiting += time.perf_counter() - asked
        step(pictures, wanted)
        views += len(pictures)
        done += 1
    return Row(what, done, time.perf_counter() - began, views, waiting)


def of_feed(feed: Feed) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of the feed: views and poses of all samples."""
    for batch in feed:
        yield batch["integrals"].flatten(0, 1), batch["poses"].flatten(0, 1) / 100


def item_by_item(
    volume: Volume, poses: RandomPoses, renderer: Any, device: str, batch: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The loop: each view by a call of its own, in the training process."""
    engine = DiffdrrProjector(device=device, renderer=renderer)
    engine.prepare(volume)
    step = 0
    while True:
        pictures, wanted = [], []
        for j in range(batch):
            views = poses.draw(sample_rng(0, step, j), volume.grid)
            pictures += [engine.project(volume, [view])[0] for view in views]
            wanted.append(pose_rows(views, volume.grid))
        step += 1
        yield (
            torch.from_numpy(np.stack(pictures)).to(device),
            torch.from_numpy(np.concatenate(wanted)).to(device) / 100,
        )


def table(rows: list[Row]) -> str:
    """The rows as Markdown; ratios are to the first one."""
    lines = [
        "| views by | steps | views/s | ratio | waiting for data |",
        "|---|--:|--:|--:|--:|",
    ]
    for row in rows:
        ratio = row.rate / rows[0].rate
        lines.append(
            f"| {row.what} | {row.steps} | {row.rate:.1f} | {ratio:.1f} | {row.waiting:.0%} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--spacing", type=float, default=2.0, help="of the phantom, mm")
    parser.add_argument("--size", type=int, default=128, help="detector pixels a side")
    parser.add_argument("--views", type=int, default=4, help="of a sample")
    parser.add_argument("--batch", type=int, default=4, help="samples a step")
    parser.add_argument("--width", type=int, default=32, help="channels of the network")
    parser.add_argument("--workers", type=int, default=available_threads())
    parser.add_argument("--steps", type=int, default=40, help="measured at most")
    parser.add_argument("--seconds", type=float, default=20.0, help="measured at most, each way")
    parser.add_argument("--out", type=Path, help="folder for the table and its numbers")
    options = parser.parse_args()

    device = options.device
    volume = make_thorax(0, spacing_mm=options.spacing).volume
    poses = RandomPoses(
        count=options.views,
        detector_shape=(options.size, options.size),
        pixel_mm=410.0 / options.size,
    )
    limits = (options.steps, options.seconds)
    rows = []
    if available_backends()["diffdrr"]:
        print("DiffDRR is missing:", available_backends()["diffdrr"])
    else:
        for renderer in ("siddon", "trilinear"):
            loop = item_by_item(volume, poses, renderer, device, options.batch)
            what = f"loop, DiffDRR {version('diffdrr')} {renderer}"
            rows.append(measured(what, loop, trainer(options.width, device), limits))
    for workers in (0, options.workers):
        renderer = ViewRenderer(poses, device=device)

        def sample(rng: np.random.Generator, renderer: ViewRenderer = renderer) -> Any:
            return renderer.sample(volume, rng)

        with Feed(
            sample,
            batch_size=options.batch,
            seed=0,
            workers=workers,
            device=device,
            finish=renderer.finish,
        ) as feed:
            what = f"feed, {renderer.engine}, {workers or 'no'} threads ahead"
            rows.append(measured(what, of_feed(feed), trainer(options.width, device), limits))

    heading = (
        f"Volume {' x '.join(map(str, volume.shape))} at {options.spacing:g} mm, "
        f"{options.batch} samples of {options.views} views of {options.size} x {options.size} a "
        f"step, network of {sum(p.numel() for p in Net(options.width).parameters())} parameters, "
        f"{device}, {os.cpu_count()} processors, {platform.machine()}, torch {torch.__version__}."
    )
    print(heading, table(rows), sep="\n\n")
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "training_views.md").write_text(f"{heading}\n\n{table(rows)}\n")
        record = {"setting": heading, "rows": [asdict(row) for row in rows]}
        (options.out / "training_views.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
