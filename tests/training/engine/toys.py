"""A recipe that trains in a blink: two networks, two players, an average, noise.

The noise is drawn from all global generators, so that a resumed run must restore them.

Also a program, for the tests that need processes of their own:
``python toys.py OUT key=value ... [--devices 2] [--strategy ddp] [--resume] [--signal-at STEP]``.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from cxr3d_training.data import Cohort, CohortCase
from cxr3d_training.engine.fit import FitResult, fit
from cxr3d_training.engine.hardware import Hardware
from cxr3d_training.engine.recipe import (
    Average,
    Batches,
    BundleParts,
    Networks,
    Player,
    Recipe,
    RecipeConfig,
    Sampler,
    Work,
)
from cxr3d_training.engine.schedules import Schedule
from cxr3d_training.engine.settings import build, override, parse_override

SETTINGS: dict[str, Any] = {
    "data": "toy",
    "momentum": 0.9,
    "noise": 0.1,
    "run": {
        "steps": 24,
        "batch_size": 8,
        "log_every": 2,
        "validate_every": 8,
        "checkpoint_every": 4,
        "image_every": 12,
        "workers": 1,
    },
    "optimizers": {
        "mapper": {"lr": 0.05, "warmup": 3, "weight_decay": 0.01},
        "critic": {"lr": 0.01, "kind": "sgd", "betas": [0.5, 0.9]},
    },
    "losses": {
        "distance": 1.0,
        "fool": {"value": 0.1, "start": 0.25, "ramp": 0.25},
        "tell_apart": {"value": 1.0, "start": 0.25},
    },
}


@dataclass(frozen=True, kw_only=True)
class ToyConfig(RecipeConfig):
    """The toy's settings."""

    momentum: Schedule
    noise: float = 0.0


class Doubling(nn.Module):
    """A map that is to learn y = 2 x, with a buffer that the training's end measures."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3))
        self.register_buffer("scale", torch.zeros(()))

    def double(self, x: Tensor) -> Tensor:
        """Not called forward, as the encoders and decoders of real networks are not."""
        return self.inner(x)


class ToyRecipe(Recipe):
    """Learn to double, and to fool a critic."""

    name: ClassVar[str] = "toy"
    Config = ToyConfig
    monitor = "distance"
    forward_methods: ClassVar[dict[str, tuple[str, ...]]] = {"mapper": ("double",)}
    config: ToyConfig

    @property
    def players(self) -> tuple[Player, ...]:
        return (
            Player("mapper", ("mapper",), ("distance", "fool")),
            Player("critic", ("critic",), ("tell_apart",)),
        )

    @property
    def averages(self) -> dict[str, Average]:
        return {"mapper_average": Average("mapper", self.config.momentum)}

    def networks(self) -> dict[str, nn.Module]:
        return {"mapper": Doubling(), "critic": nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))}

    def samplers(self, cases: Sequence[CohortCase]) -> dict[str, Sampler]:
        def sample(rng: np.random.Generator) -> dict[str, Any]:
            return {"x": rng.normal(size=3).astype(np.float32)}

        return {"points": Sampler(sample)}

    def losses(self, player: str, nets: Networks, work: Work) -> dict[str, Tensor]:
        x, now = work.batches["points"]["x"], work.now
        if player == "critic":
            return {
                "tell_apart": (nets["critic"](2 * x) - 1).square().mean()
                + nets["critic"](work.scratch["y"]).square().mean()
            }
        noise = self.config.noise * (torch.randn(()) + random.random() + np.random.rand())  # noqa: NPY002
        y = nets["mapper"].double(x + noise)
        work.scratch["y"] = y.detach()
        terms = {"distance": (y - 2 * x).abs().mean()}
        if now.on("fool"):
            terms["fool"] = (nets["critic"](y) - 1).square().mean()
        return terms

    def after_step(self, nets: Networks, work: Work) -> None:
        """Note which part of the weights this process holds: all of them, but for fsdp."""
        weight: Any = next(nets["mapper"].parameters())
        local = weight.to_local() if hasattr(weight, "to_local") else weight
        self.share = local.numel() / weight.numel()

    def images(self, nets: Networks, batches: Batches) -> dict[str, Tensor]:
        return {"x": batches["points"]["x"].sigmoid()}

    def validate(
        self, nets: Networks, cases: Sequence[CohortCase], device: torch.device
    ) -> dict[str, float]:
        x = torch.randn(64, 3, device=device)
        return {"distance": float((nets["mapper"].double(x) - 2 * x).abs().mean())}

    def conclude(self, nets: Networks, batches: Iterator[Batches], mean: Any) -> None:
        nets["mapper"].scale.copy_(mean(next(batches)["points"]["x"].square().mean()).sqrt())

    def evaluate(self, nets: Networks, cases: Any, device: Any, **options: Any) -> Any:
        return self.validate(nets, cases, device)

    def bundle(self, nets: Networks) -> BundleParts:
        return BundleParts({}, nets["mapper"].state_dict(), {})

    def cohort(self) -> Cohort:
        return toy_cohort()


def toy_cohort(n: int = 3) -> Cohort:
    """Cases without content: the toy makes its own."""
    content: Any = SimpleNamespace(
        facts={}, names=(), grid=SimpleNamespace(spacing_mm=(1.0, 2.0, 3.0))
    )
    sides: Any = ("train", "validation", "test")
    return Cohort(
        [(CohortCase(f"c{k}", f"p{k}", content, synthetic=True), sides[k % 3]) for k in range(n)]
    )


def toy(*changes: str) -> ToyRecipe:
    """The recipe with ``key=value`` changes."""
    settings = override(SETTINGS, dict(parse_override(c) for c in changes))
    return ToyRecipe(build(ToyConfig, settings, known=SETTINGS))


def fit_toy(out: Path, *changes: str, **options: Any) -> FitResult:
    """Train it on one CPU."""
    options.setdefault("hardware", Hardware(accelerator="cpu"))
    return fit(toy(*changes), out, **options)


def _main(arguments: list[str]) -> None:
    import argparse

    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("changes", nargs="*")
    parser.add_argument("--devices", type=int)
    parser.add_argument("--strategy", default="auto")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--signal-at", type=int)
    parser.add_argument("--signal", default="SIGTERM")
    given = parser.parse_args(arguments)

    def progress(at: Any) -> None:
        if at.done == given.signal_at:
            os.kill(os.getpid(), getattr(signal, given.signal))

    recipe = toy(*given.changes)
    result = fit(
        recipe,
        given.out,
        hardware=Hardware(accelerator="cpu", devices=given.devices, strategy=given.strategy),
        resume=given.resume,
        progress=progress,
    )
    if result.first:
        print(result.reason, result.step, recipe.share)


if __name__ == "__main__":
    torch.set_num_threads(1)
    _main(sys.argv[1:])
