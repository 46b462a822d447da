"""The state of every random generator, to save it, restore it, or leave it untouched."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

__all__ = ["capture", "isolated", "restore", "seed_all"]


def seed_all(seed: int, rank: int = 0) -> None:
    """Seed Python, NumPy and torch; each process of a run differs in its rank."""
    whole = np.random.SeedSequence([seed, rank]).generate_state(1)[0]
    random.seed(int(whole))
    np.random.seed(int(whole))  # noqa: NPY002 - libraries draw from it
    torch.manual_seed(int(whole))


def capture() -> dict[str, Any]:
    """The states, as values that ``torch.load(weights_only=True)`` reads."""
    name, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002
    states: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": {
            "name": str(name),
            "keys": torch.from_numpy(np.asarray(keys).astype(np.int64)),
            "rest": [int(position), int(has_gauss), float(gauss)],
        },
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def restore(states: dict[str, Any]) -> None:
    """Put every generator back to where `capture` found it."""
    version, internal, gauss_next = states["python"]
    random.setstate((version, tuple(internal), gauss_next))
    numpy = states["numpy"]
    keys = numpy["keys"].numpy().astype(np.uint32)
    np.random.set_state((numpy["name"], keys, *numpy["rest"]))  # noqa: NPY002
    torch.set_rng_state(states["torch"].cpu())
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"].cpu())


@contextmanager
def isolated(seed: int) -> Iterator[None]:
    """Random numbers from `seed` inside, and outside as if nothing had been drawn."""
    before = capture()
    seed_all(seed)
    try:
        yield
    finally:
        restore(before)
