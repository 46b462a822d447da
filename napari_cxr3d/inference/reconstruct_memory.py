"""What a reconstruction will take, known before it begins; and what to do when memory runs out.

The networks are run once without numbers (torch's meta device): every array that they would make
is counted while it lives, and every multiplication. So the estimate holds for any network, and
costs neither the memory nor the time that it is about.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

from napari_cxr3d.errors import Cancelled, Cxr3dError, OutOfMemoryError
from napari_cxr3d.inference.reconstruct_types import ReconstructionRequest, RunEstimate

if TYPE_CHECKING:
    from napari_cxr3d.models.bundle import Bundle
    from napari_cxr3d.models.reconstruction import ReconstructionModel, ViewBatch

__all__ = [
    "Cost",
    "Plan",
    "estimate_run",
    "fitting_plan",
    "free_bytes",
    "is_out_of_memory",
    "network_cost",
    "plan_samples",
    "refused",
    "release",
    "smaller",
]

WORKSPACE = 1.5
"""Measured peak over counted arrays: what convolutions borrow; see the tests."""

_SLOWER = 1.2  # measured time over that of the same multiplications in one convolution alone
_PROJECTION_S = 0.35  # of making one 64^3 volume consistent with two views on one core
_PROJECTION_VOXELS = 64**3
_MEMORY_FRACTION = 0.8  # of the free memory that one run may take
_LONG_S = 600.0
_BATCH_MOST = 8
_WITH_GUIDANCE = 2  # the network runs on twice the batch
_SECOND_ORDER = ("heun",)
_costs: dict[tuple[str, int, Plan, bool], Cost] = {}  # of the bundles that this session used
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


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
        return self.weights + int(WORKSPACE * max(self.condition, self.predict, self.decode))


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
    views = _empty_views(model, n_views, device)
    x = torch.zeros((plan.batch, *model.latent_shape), device=device)
    time = torch.ones(plan.batch, device=device)
    with torch.no_grad():
        condition, first, first_flops = _counted(lambda: model.condition(views))
        shared = condition.repeat(plan.batch)
        _, step, step_flops = _counted(lambda: model.predict(x, time, shared, guidance))
        _, last, last_flops = _counted(lambda: model.decode(x, shared, tile=plan.tile))
    kept = sum(t.untyped_storage().nbytes() for t in shared if t is not None)
    kept += 4 * x.untyped_storage().nbytes()  # state, estimate, noise, the state before
    return Cost(weights, first, kept + step, kept + last, first_flops, step_flops, last_flops)


def _empty_views(model: ReconstructionModel, n_views: int, device: str) -> ViewBatch:
    import torch

    from napari_cxr3d.models.reconstruction import ViewBatch

    def empty(*shape: int) -> torch.Tensor:
        return torch.ones((1, n_views, *shape), device=device)

    picture = model.detector_shape
    return ViewBatch(empty(*picture), empty(*picture), empty(12), empty(), empty())


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


def estimate_run(request: ReconstructionRequest, bundle: Bundle, device: str) -> RunEstimate:
    """What a request takes with an opened bundle; no weights are read.

    Parameters
    ----------
    request : ReconstructionRequest
        What is asked.
    bundle : Bundle
        The model.
    device : str
        As torch spells it.
    """
    from napari_cxr3d.inference.reconstruct_stages import outline, sampler_settings

    model = outline(bundle)
    steps, method = sampler_settings(request, bundle, model)
    free = free_bytes(device)
    plan, cost = fitting_plan(request, method, bundle, model, device)
    each = steps * (2 if method in _SECOND_ORDER else 1)
    previews = steps // request.preview_every if request.preview_every else 1
    flops = cost.condition_flops
    rounds = request.samples / plan.batch
    flops += int(rounds * (each * cost.predict_flops + previews * cost.decode_flops))
    seconds = _SLOWER * flops / operations_per_second(device)
    if request.consistency != "off":
        i, p, ell = model.volume_shape
        size = i * p * ell * len(request.inputs) / (2 * _PROJECTION_VOXELS)
        seconds += request.samples * _PROJECTION_S * size
    advice = _advice(request, plan, cost, free, seconds, device)
    evaluations = request.samples * each
    if request.guidance not in (0.0, 1.0):
        evaluations *= _WITH_GUIDANCE
    return RunEstimate(cost.peak, free, seconds, advice, evaluations)


def _advice(
    request: ReconstructionRequest, plan: Plan, cost: Cost, free: int, seconds: float, device: str
) -> tuple[str, ...]:
    advice = []
    if cost.peak > _MEMORY_FRACTION * free:
        if cost.decode >= max(cost.predict, cost.condition) and request.tile is None:
            advice.append("It may not fit into memory: decode in tiles, or let auto choose.")
        elif request.tile is None or isinstance(request.tile, int):
            advice.append("It may not fit into memory: choose a smaller model.")
        else:
            advice.append(
                "It may not fit into memory: close other programs, or choose a smaller model."
            )
        if device != "cpu":
            advice.append("The processor (device cpu) is slower but may have more memory.")
    if seconds > _LONG_S:
        fewer = "fewer samples" if request.samples > 1 else "fewer steps"
        advice.append(f"It will take about {seconds / 60:.0f} minutes: choose {fewer}.")
    return tuple(advice)


def plan_samples(request: ReconstructionRequest, method: str, device: str) -> Plan:
    """How samples are drawn when memory is no concern.

    Several at once only on an accelerator: elsewhere it gains little, and sample k is the same
    to the last bit however many are drawn. So are those of a sampler that draws fresh noise.
    """
    alone = device == "cpu" or method in ("stochastic", "ddpm")
    batch = 1 if alone else min(request.samples, _BATCH_MOST)
    return Plan(batch, request.tile if isinstance(request.tile, int) else None)


def fitting_plan(
    request: ReconstructionRequest,
    method: str,
    bundle: Bundle,
    model: ReconstructionModel,
    device: str,
) -> tuple[Plan, Cost]:
    """The largest plan that is expected to fit, or else the smallest there is, and its cost.

    Parameters
    ----------
    request : ReconstructionRequest
        What is asked.
    method : str
        The sampler.
    bundle : Bundle
        The model; its costs are kept for the session.
    model : ReconstructionModel
        Its outline, on the meta device.
    device : str
        As torch spells it.
    """
    plan: Plan | None = plan_samples(request, method, device)
    free = free_bytes(device)
    fitting = None
    while plan is not None:
        key = (bundle.sha256, len(request.inputs), plan, request.guidance in (0.0, 1.0))
        if key not in _costs:
            _costs[key] = network_cost(model, len(request.inputs), plan, request.guidance)
        fitting = plan, _costs[key]
        if _costs[key].peak <= _MEMORY_FRACTION * free:
            break
        plan = smaller(plan, request.tile, model.latent_shape[1:])
    assert fitting is not None  # there is at least one plan
    return fitting


def smaller(plan: Plan, tile: int | str | None, latent: Sequence[int]) -> Plan | None:
    """The next plan after memory ran out: fewer samples at once, then tiles; None if none is left.

    Parameters
    ----------
    plan : Plan
        The one that failed.
    tile : int, "auto" or None
        As the request says: only auto allows tiles that were not asked for.
    latent : sequence of int
        Axes of a latent.
    """
    if plan.batch > 1:
        return replace(plan, batch=plan.batch // 2)
    if tile != "auto":
        return None
    edge = (plan.tile or max(latent)) // 2
    return replace(plan, tile=edge) if edge >= 4 else None


def free_bytes(device: str) -> int:
    """Free memory of a device; the computer's for the CPU and for what shares it."""
    import torch

    if device.startswith("cuda"):
        free, _ = torch.cuda.mem_get_info(torch.device(device))
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + cached)

    import psutil

    return int(psutil.virtual_memory().available)


@functools.lru_cache(maxsize=4)
def operations_per_second(device: str) -> float:
    """What the device makes of a convolution in three dimensions, measured once a session."""
    import torch

    channels, edge = (64, 64) if device.startswith("cuda") else (64, 16)
    x = torch.ones((1, channels, edge, edge, edge), device=device)
    kernel = torch.ones((channels, channels, 3, 3, 3), device=device)
    flops = 2 * 27 * channels**2 * edge**3
    best = float("inf")
    with torch.no_grad():
        for _ in range(3):
            began = perf_counter()
            torch.nn.functional.conv3d(x, kernel, padding=1).flatten()[0].item()
            best = min(best, perf_counter() - began)
    return flops / best


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, of whatever library, says that memory ran out."""
    if isinstance(error, Cancelled):
        return False
    if isinstance(error, MemoryError):  # the package's own among them
        return True
    if isinstance(error, Cxr3dError) or not isinstance(error, RuntimeError):
        return False
    words = str(error).lower()
    return type(error).__name__ == "OutOfMemoryError" or any(w in words for w in _OUT_OF_MEMORY)


def release(device: str) -> None:
    """Give back what a failed attempt held."""
    import gc

    import torch

    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()


def refused(plan: Plan, request: ReconstructionRequest, device: str) -> OutOfMemoryError:
    """The error for a run that does not fit, whatever was tried."""
    tried = f"sample by sample{f', in tiles of {plan.tile}' if plan.tile else ''}"
    remedy = "close other programs, choose a smaller model"
    if request.tile is None:
        remedy += ", allow tiles (auto)"
    if device != "cpu":
        remedy += ", or the device cpu"
    return OutOfMemoryError(
        "The reconstruction does not fit into memory", why=f"it ran out {tried}", remedy=remedy
    )
