"""One step of a training: every player in its turn, then the averages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from cxr3d_training.engine.errors import TrainingError
from cxr3d_training.engine.feeding import split_batches
from cxr3d_training.engine.optim import set_step
from cxr3d_training.engine.recipe import Batches, Now, Recipe, Work
from cxr3d_training.engine.runlog import Tally
from cxr3d_training.engine.state import Seat, TrainingState

__all__ = ["Stepper"]


class Stepper:
    """Takes steps, and tells a tally of them.

    Parameters
    ----------
    recipe : Recipe
        Whose losses count.
    fabric : Fabric
        Launched.
    state : TrainingState
        What is moved.

    Attributes
    ----------
    tally : Tally
        Loss terms and gradient norms since the last line of the log.
    rates : dict of str to float
        Every player's learning rate at its last step.
    """

    def __init__(self, recipe: Recipe, fabric: Any, state: TrainingState) -> None:
        self.recipe = recipe
        self.config = recipe.config.run
        self.fabric = fabric
        self.state = state
        self.tally = Tally()
        self.rates: dict[str, float] = {}

    def take(self, step: int, batches: Batches) -> Work:
        """One step of all players; the last part's work is returned, for pictures."""
        run = self.config
        weights = {n: s.at(step, run.steps) for n, s in self.recipe.config.losses.items()}
        now = Now(step, run.steps, weights)
        parts = [Work(part, now) for part in split_batches(batches, run.accumulate)]
        for seat in self.state.seats:
            if any(now.on(term) for term in seat.player.terms):
                self._move(seat, parts, now)
        self.state.update_averages(step, run.steps)
        with torch.no_grad():
            self.recipe.after_step(self.state.networks, parts[-1])
        return parts[-1]

    def _move(self, seat: Seat, parts: list[Work], now: Now) -> None:
        """Let one player take its step."""
        name, optimizer = seat.player.name, seat.optimizer
        config = self.recipe.config.optimizers[name]
        lr = set_step(optimizer, config, now.step, now.steps, seat.first_step)
        optimizer.zero_grad()
        with self.state.only(seat):
            for index, work in enumerate(parts):
                last = index == len(parts) - 1
                with self.fabric.no_backward_sync(seat.module, enabled=not last):
                    terms = seat.module(work)
                    total = self._weigh(seat, terms, now, len(parts))
                    self.fabric.backward(total / len(parts), model=seat.module)
        for term in (*terms, "total"):
            self.tally.count(f"{name}/{term}")
        norm = torch.nn.utils.get_total_norm(
            [p.grad for p in seat.parameters if p.grad is not None]
        )
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        if self.config.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(seat.parameters, self.config.clip_norm, norm)
        self.tally.add(f"{name}/gradient_norm", norm)
        self.tally.count(f"{name}/gradient_norm")
        self.rates[f"{name}/lr"] = lr
        optimizer.step()

    def _weigh(
        self, seat: Seat, terms: Mapping[str, torch.Tensor], now: Now, parts: int
    ) -> torch.Tensor:
        """The weighted sum of a player's terms; each is told to the log as it is."""
        due = {term for term in seat.player.terms if now.on(term)}
        if set(terms) != due:
            raise TrainingError(
                f"The recipe {self.recipe.name} computed other terms than are switched on",
                why=f"{seat.player.name} gave {', '.join(sorted(terms)) or 'none'} "
                f"where {', '.join(sorted(due))} are due",
            )
        total = sum(
            (now.weights[term] * value for term, value in terms.items()),
            start=torch.zeros((), device=self.fabric.device),
        )
        for term, value in {**terms, "total": total}.items():
            self.tally.add(f"{seat.player.name}/{term}", value, parts)
        return total
