"""All that a step changes: networks, averages, optimizers; and its way to and from a checkpoint.

Each player's networks form one module, whose forward computes the player's losses. So the wrapper
that shares the work between devices sees every use of the weights, and a recipe may call any
method of its networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cxr3d_training.engine.errors import CheckpointError
from cxr3d_training.engine.optim import make_optimizer
from cxr3d_training.engine.recipe import Networks, Player, Recipe, Work

__all__ = ["Seat", "TrainingState", "evaluation_networks", "shard_networks"]


class _PlayerModule(nn.Module):
    """A player's networks, and as its forward the losses that move them."""

    def __init__(self, player: Player, networks: Networks, recipe: Recipe) -> None:
        super().__init__()
        self.networks = nn.ModuleDict({name: networks[name] for name in player.networks})
        self.forward_methods = recipe.forward_methods
        self._player = player.name
        self._call: tuple[Callable[..., Any], Networks] = (recipe.losses, networks)

    def forward(self, work: Work) -> dict[str, Tensor]:
        losses, networks = self._call
        return dict(losses(self._player, networks, work))


class Seat:
    """A player at work: its module as the devices share it, its optimizer, its first step.

    Attributes
    ----------
    player : Player
        Who.
    module : Module
        To be called with a `Work`.
    optimizer : Optimizer
        Its own.
    first_step : int
        The first step at which one of its terms is on.
    """

    def __init__(self, player: Player, module: Any, optimizer: Any, first_step: int) -> None:
        self.player = player
        self.module = module
        self.optimizer = optimizer
        self.first_step = first_step

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What the optimizer moves."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]


class TrainingState:
    """Networks, averages and optimizers on their devices.

    Parameters
    ----------
    recipe : Recipe
        Makes the networks.
    fabric : Fabric
        Launched; the generators seeded alike in all processes.

    Attributes
    ----------
    networks : dict of str to Module
        All networks by name, the averages among them, as recipes see them.
    seats : list of Seat
        The players in the order of a step.
    """

    def __init__(self, recipe: Recipe, fabric: Any) -> None:
        steps = recipe.config.run.steps
        networks = recipe.networks()
        self._trained = {name for player in recipe.players for name in player.networks}
        self._averages = {
            name: _Average(networks[average.of], average.momentum)
            for name, average in recipe.averages.items()
        }
        sharded = _shards(fabric)
        for name, average in self._averages.items():
            if sharded:
                methods = recipe.forward_methods.get(recipe.averages[name].of, ())
                shard_network(average.module, fabric.strategy.device_mesh, methods)
            fabric.to_device(average.model)
        self.networks: dict[str, nn.Module] = {
            **networks,
            **{name: average.module for name, average in self._averages.items()},
        }
        for name, network in networks.items():
            if name not in self._trained:
                fabric.to_device(network.eval().requires_grad_(False))
        self.seats = []
        for player in recipe.players:
            module = _PlayerModule(player, self.networks, recipe)
            schedules = [recipe.config.losses[term] for term in player.terms]
            running = [s for s in schedules if not s.never]
            first = min((s.first_step(steps) for s in running), default=steps)
            wrapped = fabric.setup_module(module)
            optimizer = make_optimizer(
                module.networks.parameters(), recipe.config.optimizers[player.name]
            )
            self.seats.append(Seat(player, wrapped, fabric.setup_optimizers(optimizer), first))
        self._sources = {name: networks[a.of] for name, a in recipe.averages.items()}
        self._recipe = recipe

    @contextmanager
    def only(self, seat: Seat) -> Iterator[None]:
        """Freeze the other players' networks, so that no gradient reaches them."""
        others = [
            parameter
            for other in self.seats
            if other is not seat
            for parameter in other.parameters
            if parameter.requires_grad
        ]
        for parameter in others:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in others:
                parameter.requires_grad_(True)

    def update_averages(self, step: int, steps: int) -> None:
        """Move every average toward its network."""
        for name, average in self._averages.items():
            average.update(self._sources[name], step, steps)

    @contextmanager
    def evaluating(self) -> Iterator[Networks]:
        """The networks as they are evaluated: averages in the place of what they follow."""
        names = self._recipe.network_averages()
        chosen = {
            name: self.networks[names.get(name, name)]
            for name in self.networks
            if name not in self._averages
        }
        training = [name for name in chosen if chosen[name].training]
        for network in chosen.values():
            network.eval()
        try:
            with torch.no_grad():
                yield chosen
        finally:
            for name in training:
                chosen[name].train()

    def state(self) -> dict[str, Any]:
        """Everything, in full and on the CPU; all processes must call it."""
        return {
            "networks": {
                name: _full(network.state_dict())
                for name, network in self.networks.items()
                if name not in self._averages
            },
            "averages": {
                name: _full(average.model.state_dict()) for name, average in self._averages.items()
            },
            "optimizers": {
                seat.player.name: _full(seat.optimizer.state_dict()) for seat in self.seats
            },
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up the state of a checkpoint.

        Raises
        ------
        CheckpointError
            If it is of other networks.
        """
        try:
            for name, network in self.networks.items():
                if name not in self._averages:
                    _load(network, state["networks"][name])
            for name, average in self._averages.items():
                _load(average.model, state["averages"][name])
            for seat in self.seats:
                _load_optimizer(seat, state["optimizers"][seat.player.name])
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(
                "The checkpoint does not fit the recipe",
                why=" ".join(str(error).split())[:300],
                remedy="go on with the version of the program that wrote it",
            ) from error


class _Average:
    """torch's `AveragedModel` with a momentum that may change from step to step."""

    def __init__(self, network: nn.Module, momentum: Any) -> None:
        self._schedule = momentum
        self._momentum = 0.0
        self.model = AveragedModel(network, multi_avg_fn=self._mean)
        self.model.eval().requires_grad_(False)

    @property
    def module(self) -> nn.Module:
        module: nn.Module = self.model.module
        return module

    def update(self, source: nn.Module, step: int, steps: int) -> None:
        self._momentum = self._schedule.at(step, steps)
        self.model.update_parameters(source)

    def _mean(self, averaged: Any, current: Any, count: Any) -> None:
        mean = get_ema_multi_avg_fn(self._momentum)  # type: ignore[no-untyped-call]
        mean(averaged, current, count)


def evaluation_networks(
    recipe: Recipe, state: Mapping[str, Any], device: torch.device
) -> dict[str, nn.Module]:
    """The networks of a checkpoint as they are evaluated and exported, without a Fabric.

    Raises
    ------
    CheckpointError
        If the checkpoint does not fit the recipe.
    """
    networks = recipe.networks()
    names = recipe.network_averages()
    try:
        for name, network in networks.items():
            average = names.get(name)
            if average is None:
                network.load_state_dict(state["networks"][name])
            else:
                holder = AveragedModel(network)
                holder.load_state_dict(state["averages"][average])
                networks[name] = holder.module
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(
            "The checkpoint does not fit the recipe", why=" ".join(str(error).split())[:300]
        ) from error
    return {
        name: network.to(device).eval().requires_grad_(False) for name, network in networks.items()
    }


def _shards(fabric: Any) -> bool:
    return type(fabric.strategy).__name__ == "ModelParallelStrategy"


def shard_networks(module: nn.Module, mesh: Any) -> nn.Module:
    """Split the weights of a player's networks over the mesh (FSDP2), network by network."""
    assert isinstance(module, _PlayerModule)
    for name, network in module.networks.items():
        shard_network(network, mesh, module.forward_methods.get(name, ()))
    return module


def shard_network(network: nn.Module, mesh: Any, methods: Iterable[str]) -> None:
    """Split one network's weights; its forward and the named methods gather them."""
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    if mesh.ndim > 1:
        mesh = mesh["data_parallel"]
    fully_shard(network, mesh=mesh)
    for method in methods:
        register_fsdp_forward_method(network, method)


def _full(state: Any) -> Any:
    """Copies on the CPU of all tensors in a state, put together where they are split."""
    if isinstance(state, Tensor):
        whole = state.full_tensor() if hasattr(state, "full_tensor") else state
        return whole.detach().to("cpu", copy=True)
    if isinstance(state, Mapping):
        return {key: _full(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_full(value) for value in state)
    return state


def _as(target: Any, whole: Tensor) -> Tensor:
    """A whole tensor, split as the target is."""
    if not hasattr(target, "full_tensor"):
        return whole
    from torch.distributed.tensor import distribute_tensor

    split: Tensor = distribute_tensor(
        whole.to(target.device), target.device_mesh, target.placements
    )
    return split


def _load(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    own = network.state_dict()
    network.load_state_dict({k: _as(own[k], v) if k in own else v for k, v in state.items()})


def _load_optimizer(seat: Seat, state: Mapping[str, Any]) -> None:
    parameters = seat.parameters
    moments = {
        index: {
            key: _as(parameters[index], value)
            if isinstance(value, Tensor) and value.shape == parameters[index].shape
            else value
            for key, value in entry.items()
        }
        for index, entry in state["state"].items()
    }
    seat.optimizer.load_state_dict({"state": moments, "param_groups": state["param_groups"]})
