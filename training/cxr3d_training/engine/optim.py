"""Optimizers: made from settings, driven by pure functions of the step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from cxr3d_training.engine.recipe import OptimizerConfig
from cxr3d_training.engine.schedules import learning_rate_factor
from napari_cxr3d.errors import InvalidInputError

__all__ = ["make_optimizer", "set_step"]


def make_optimizer(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> Any:
    """The optimizer, with one group that decays and one that does not.

    Parameters with fewer than two axes (biases, norms) do not decay.
    """
    wanted = [p for p in parameters if p.requires_grad]
    if not wanted:
        raise InvalidInputError("The optimizer has nothing to train")
    groups = [
        {"params": [p for p in wanted if p.ndim >= 2], "decays": True},
        {"params": [p for p in wanted if p.ndim < 2], "decays": False},
    ]
    groups = [group for group in groups if group["params"]]
    if config.kind == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.betas[0])
    kind = torch.optim.AdamW if config.kind == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.lr, betas=config.betas, weight_decay=0.0)


def set_step(optimizer: Any, config: OptimizerConfig, step: int, steps: int, first: int) -> float:
    """Set the learning rate and weight decay of a step, and return the learning rate.

    Parameters
    ----------
    optimizer : Optimizer
        One that `make_optimizer` made.
    config : OptimizerConfig
        Its settings.
    step, steps : int
        The step and the steps of the whole training.
    first : int
        The first step at which the optimizer's player takes part.
    """
    lr = config.lr * learning_rate_factor(
        step, steps, warmup=config.warmup, final=config.final, first=first
    )
    decay = config.weight_decay.at(step, steps)
    for group in optimizer.param_groups:
        group["lr"] = lr
        group["weight_decay"] = decay if group["decays"] else 0.0
    return lr
