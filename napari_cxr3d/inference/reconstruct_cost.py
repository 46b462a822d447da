"""What a network takes, known without running it.

It is run once without numbers (torch's meta device): every array that it would make is counted
while it lives, and every multiplication. So the figures hold for any network, and cost neither
the memory nor the time that they are about.
"""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_cxr3d.models.reconstruction import Condition, ReconstructionModel, ViewBatch

__all__ = ["Cost", "Plan", "network_cost"]

_WORKSPACE = 3.0
"""Peak over counted arrays: what convolutions borrow. Measured 2.8 with the demo on a processor,
when it looks at its X-rays; drawing takes less."""


@dataclass(frozen=True)
class Plan:
    """How samples are drawn: how many at once, and in what tiles they are decoded."""

    batch: int = 1
    tile: int | None = None


@dataclass(frozen=True)
class Cost:
    """Peak memory and multiplications of a network's three parts.

    Attributes
    ----------
    weights : int
        Bytes of the weights in float32.
    condition, predict, decode : int
        Peak bytes of the arrays that each makes.
    condition_flops, predict_flops, decode_flops : int
        Floating-point operations of each.
    """

    weights: int
    condition: int
    predict: int
    decode: int
    condition_flops: int
    predict_flops: int
    decode_flops: int

    @property
    def peak(self) -> int:
        """Bytes at the worst moment."""
        return self.weights + int(_WORKSPACE * max(self.condition, self.predict, self.decode))


def network_cost(
    model: ReconstructionModel,
    n_views: int,
    plan: Plan,
    guidance: float = 1.0,
    *,
    device: str = "meta",
) -> Cost:
    """Run a network, usually without numbers, and count.

    Parameters
    ----------
    model : ReconstructionModel
        On that device; `napari_cxr3d.models.network.outline_network` makes one without numbers.
    n_views : int
        X-rays.
    plan : Plan
        Samples drawn at once, and the tile.
    guidance : float
        Of the run.
    device : str
        Any but the meta device computes.
    """
    import torch

    weights = sum(4 * p.numel() for p in (*model.parameters(), *model.buffers()))
    x = torch.zeros((plan.batch, *model.latent_shape), device=device)
    time = torch.ones(plan.batch, device=device)
    with torch.no_grad():
        condition, first, first_flops = _looked(model, n_views, device)
        shared = condition.repeat(plan.batch)
        _, step, step_flops = _counted(lambda: model.predict(x, time, shared, guidance))
        _, last, last_flops = _counted(lambda: model.decode(x, shared, tile=plan.tile))
    kept = sum(t.untyped_storage().nbytes() for t in shared if t is not None)
    kept += 4 * x.untyped_storage().nbytes()  # state, estimate, noise, the state before
    return Cost(weights, first, kept + step, kept + last, first_flops, step_flops, last_flops)


def _looked(model: ReconstructionModel, n_views: int, device: str) -> tuple[Condition, int, int]:
    """The condition of some picture, its peak bytes, and its operations."""
    views = _some_views(model, n_views, device)
    try:
        return _counted(lambda: model.condition(views))
    except (RuntimeError, NotImplementedError):
        if device != "meta":
            raise
    # What a model does with a picture may hang on its values: computed then, with the weights
    # left as the memory happens to be, which takes none for those that are not used.
    real = copy.deepcopy(model).to_empty(device="cpu")
    views = _some_views(model, n_views, "cpu")
    condition, peak, flops = _counted(lambda: real.condition(views))
    without = (None if t is None else t.to("meta") for t in condition)
    return type(condition)(*without), peak, flops


def _some_views(model: ReconstructionModel, n_views: int, device: str) -> ViewBatch:
    import torch

    from napari_cxr3d.models.reconstruction import ViewBatch

    def ones(*shape: int) -> torch.Tensor:
        return torch.ones((1, n_views, *shape), device=device)

    rows, cols = model.detector_shape
    ramp = torch.linspace(0, 5, cols, device=device) * ones(rows, cols)
    return ViewBatch(ramp, ones(rows, cols), ones(12), ones(), ones())


def _counted(work: Any) -> tuple[Any, int, int]:
    """What a piece of work returns, the peak bytes of its arrays, and its operations."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as flops, _live_bytes()() as memory:
        made = work()
    return made, int(memory.peak), int(flops.get_total_flops())


@functools.cache
def _live_bytes() -> Any:
    """The class that counts living arrays; made late, for torch is imported late."""
    import weakref

    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
        """Adds up the storages that operations make, for as long as they live."""

        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.now = self.peak = 0
            self._known: set[int] = set()

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            given = {
                leaf.untyped_storage()._cdata
                for leaf in tree_leaves((args, kwargs or {}))
                if isinstance(leaf, torch.Tensor)
            }
            out = func(*args, **(kwargs or {}))
            for leaf in tree_leaves(out):
                if isinstance(leaf, torch.Tensor):
                    self._count(leaf.untyped_storage(), given)
            return out

        def _count(self, storage: torch.UntypedStorage, given: set[int]) -> None:
            key = storage._cdata
            if key in given or key in self._known:
                return
            n_bytes = storage.nbytes()
            self._known.add(key)
            self.now += n_bytes
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, key, n_bytes)

        def _forget(self, key: int, n_bytes: int) -> None:
            self._known.discard(key)
            self.now -= n_bytes

    return LiveBytes
