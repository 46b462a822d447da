"""Where a training runs: one device, several, several computers; Lightning Fabric does the work.

Processes that torchrun or Slurm started are recognised; without them Fabric starts its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from cxr3d_training.engine.errors import TrainingError
from napari_cxr3d.errors import InvalidInputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

__all__ = ["Control", "Hardware", "arithmetic", "make_fabric"]

Strategy = Literal["auto", "ddp", "fsdp"]


@dataclass(frozen=True)
class Hardware:
    """Devices and how the work is spread over them.

    Attributes
    ----------
    accelerator : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
    devices : int or None
        Devices of this computer; None takes what torchrun or Slurm gave, else one.
    nodes : int or None
        Computers; None takes what torchrun or Slurm gave, else one.
    strategy : {"auto", "ddp", "fsdp"}
        How several devices share the work: each has all weights (ddp) or a part (fsdp).
    """

    accelerator: str = "auto"
    devices: int | None = None
    nodes: int | None = None
    strategy: Strategy = "auto"

    def __post_init__(self) -> None:
        for name in ("devices", "nodes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InvalidInputError(f"The number of {name} must be positive", why=f"is {value}")
        if self.strategy not in ("auto", "ddp", "fsdp"):
            raise InvalidInputError(
                f"There is no strategy {self.strategy!r}", remedy="choose auto, ddp or fsdp"
            )


def make_fabric(
    hardware: Hardware,
    *,
    precision: str,
    shard: Callable[[nn.Module, Any], nn.Module],
    unused_parameters: bool = False,
    loggers: Iterable[Any] = (),
) -> Any:
    """A launched Fabric.

    Parameters
    ----------
    hardware : Hardware
        The devices.
    precision : str
        As Fabric spells it.
    shard : callable
        ``shard(module, mesh)`` splits a module's weights over the mesh, for fsdp.
    unused_parameters : bool
        Whether ddp must look for parameters that a step left out.
    loggers : iterable of Logger
        Fabric loggers.

    Raises
    ------
    TrainingError
        If the devices or their number are not to be had here.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.strategies import DDPStrategy, ModelParallelStrategy

    devices, nodes = _given_by_launcher()
    devices = hardware.devices or devices or 1
    nodes = hardware.nodes or nodes or 1
    world = devices * nodes
    strategy: Any = "auto"
    if hardware.strategy == "fsdp":
        strategy = ModelParallelStrategy(
            shard,
            data_parallel_size=world,
            tensor_parallel_size=1,
            timeout=timedelta(minutes=30),
        )
    elif world > 1 or hardware.strategy == "ddp":
        strategy = DDPStrategy(find_unused_parameters=unused_parameters)
    try:
        fabric = Fabric(
            accelerator=hardware.accelerator,
            devices=devices,
            num_nodes=nodes,
            strategy=strategy,
            precision=precision,
            loggers=list(loggers),
        )
        fabric.launch()
    except (RuntimeError, ValueError, TypeError) as error:
        raise TrainingError(
            "The training cannot start on these devices",
            why=" ".join(str(error).split()),
            remedy="choose another accelerator, fewer devices, or leave both to be found",
        ) from error
    return fabric


def _given_by_launcher() -> tuple[int | None, int | None]:
    """Devices a node and nodes that torchrun or Slurm started processes for."""
    env = os.environ
    if "TORCHELASTIC_RUN_ID" in env:
        local = int(env["LOCAL_WORLD_SIZE"])
        return local, int(env["WORLD_SIZE"]) // local
    if "SLURM_NTASKS" in env and env.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        nodes = int(env.get("SLURM_NNODES", "1"))
        return int(env["SLURM_NTASKS"]) // nodes, nodes
    return None, None


class Control:
    """Small agreements between the processes, which the accelerator need not wait for.

    Parameters
    ----------
    fabric : Fabric
        Launched.
    """

    def __init__(self, fabric: Any) -> None:
        self._group: Any = None
        self.world_size = int(fabric.world_size)
        self.rank = int(fabric.global_rank)
        if self.world_size > 1:
            import torch.distributed as dist

            self._group = dist.new_group(backend="gloo")

    def largest(self, value: int) -> int:
        """The largest of all processes' values."""
        if self._group is None:
            return value
        import torch
        import torch.distributed as dist

        tensor = torch.tensor([value])
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX, group=self._group)
        return int(tensor.item())

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean of all processes' tensors, on the CPU."""
        tensor = tensor.detach().cpu().clone()
        if self._group is not None:
            import torch.distributed as dist

            dist.all_reduce(tensor, group=self._group)
        return tensor / self.world_size

    def gather(self, thing: Any) -> list[Any]:
        """Every process's thing, by rank."""
        if self._group is None:
            return [thing]
        import torch.distributed as dist

        things: list[Any] = [None] * self.world_size
        dist.all_gather_object(things, thing, group=self._group)
        return things

    def from_first(self, thing: Any) -> Any:
        """What the first process has."""
        if self._group is None:
            return thing
        import torch.distributed as dist

        things = [thing]
        dist.broadcast_object_list(things, src=0, group=self._group)
        return things[0]

    def on_first(self, act: Callable[[], Any]) -> Any:
        """What `act` gives in the first process; where it fails there, all fail."""
        failure: Exception | None = None
        value = None
        try:
            value = act() if self.rank == 0 else None
        except Exception as error:  # noqa: BLE001 - raised again below, in all processes
            failure = error
        failures = [f for f in self.gather(None if failure is None else str(failure)) if f]
        if failure is not None:
            raise failure
        if failures:
            raise TrainingError("Another process of the run failed", why=failures[0])
        return self.from_first(value)


@contextmanager
def arithmetic(device: torch.device, deterministic: bool) -> Iterator[None]:
    """Fast kernels on CUDA, or those that give the same bits every time; as before afterwards."""
    import torch

    matmul = torch.get_float32_matmul_precision()
    benchmark = torch.backends.cudnn.benchmark
    strict = torch.are_deterministic_algorithms_enabled()
    try:
        if deterministic:
            # cuBLAS reads it when it is first used.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True, warn_only=True)
        elif device.type == "cuda":
            torch.set_float32_matmul_precision("high")
            torch.backends.cudnn.benchmark = True
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.benchmark = benchmark
        torch.use_deterministic_algorithms(strict)
