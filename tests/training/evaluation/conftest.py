"""A small cohort, and a network whose draws are known in closed form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from cxr3d_training.data import Cohort, cohort_of
from napari_cxr3d.models.diffusion import RectifiedFlow
from napari_cxr3d.models.reconstruction import Condition, ReconstructionModel, ViewBatch
from napari_cxr3d.phantom import make_thorax

GRID = (24, 24, 24)
SPACING = (16.0, 16.0, 16.0)
DETECTOR = (32, 32)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Networks this small gain nothing from a second one, and lose much on a busy computer."""
    torch.set_num_threads(1)


class Known(ReconstructionModel):
    """Draws ``base + spread * noise``, by however many steps; the coarse volume is the base.

    Parameters
    ----------
    base : ndarray, shape (I, P, L)
        In the network's range.
    spread : float
        Standard deviation of its draws.
    """

    default_steps = 2
    has_coarse = True

    def __init__(self, base: np.ndarray, spread: float = 0.05) -> None:
        super().__init__(
            volume_shape=GRID, spacing_mm=SPACING, detector_shape=DETECTOR,
            hu_window=(-1000, 1000),
        )  # fmt: skip
        self.process = RectifiedFlow()
        self.base = torch.nn.Parameter(torch.from_numpy(base.astype(np.float32))[None, None])
        self.spread = spread
        self.asked = 0
        self.seen: list[ViewBatch] = []

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        return (1, *GRID)

    def condition(self, views: ViewBatch) -> Condition:
        self.seen.append(views)
        base = self.base.expand(len(views.integrals), -1, -1, -1, -1)
        return Condition(base, base if self.has_coarse else None)

    def predict(
        self, x: Tensor, time: Tensor, condition: Condition, guidance: float = 1.0
    ) -> Tensor:
        self.asked += 1
        t = time.reshape(-1, 1, 1, 1, 1)
        base = condition.features
        noise = (x - (1 - t) * base) / ((1 - t) * self.spread + t)
        return base + self.spread * noise - noise

    def decode(self, x: Tensor, condition: Condition, *, tile=None, cancel=None) -> Tensor:
        return x.clamp(-1, 1)

    def encode(self, volume: Tensor, condition: Condition) -> Tensor:
        return volume


@pytest.fixture(scope="session")
def cohort() -> Cohort:
    """Seven phantoms on the grid of `Known`: three to train on, two to calibrate, two held out."""
    sides = ["train"] * 3 + ["validation"] * 2 + ["test"] * 2
    volumes = {
        f"p{k}": make_thorax(k, size_mm=(384.0, 384.0, 384.0), spacing_mm=16.0).volume
        for k in range(len(sides))
    }
    return cohort_of(volumes, sides={f"p{k}": s for k, s in enumerate(sides)})  # type: ignore[arg-type]


@pytest.fixture
def known(cohort: Cohort) -> Callable[..., Known]:
    """``known(spread=...)`` is a network that draws about a training patient."""
    hu = np.asarray(cohort.split("train")[0].hu, np.float32).clip(-1000, 1000)

    def make(spread: float = 0.05) -> Known:
        return Known(hu / 1000, spread)

    return make
