"""What a reconstruction will take, known before it begins; and what to do when memory runs out."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING

from napari_cxr3d.errors import Cancelled, Cxr3dError, OutOfMemoryError
from napari_cxr3d.inference.reconstruct_cost import Cost, Plan, network_cost
from napari_cxr3d.inference.reconstruct_types import ReconstructionRequest, RunEstimate

if TYPE_CHECKING:
    from napari_cxr3d.models.bundle import Bundle
    from napari_cxr3d.models.reconstruction import ReconstructionModel

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
