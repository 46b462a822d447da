"""Numbers that change in the course of a training: loss weights, momentum, weight decay.

A schedule is a pure function of the step, so a run that goes on needs the step alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from napari_cxr3d.errors import InvalidInputError

__all__ = ["Schedule", "learning_rate_factor"]

Shape = Literal["linear", "cosine"]


@dataclass(frozen=True)
class Schedule:
    """A value that starts at some part of a training and may move to another value.

    In YAML a plain number is a constant; ``{value: 0.1, start: 0.6}`` is 0 for the first 60 % of
    the steps; ``{value: 0.996, to: 1.0, shape: linear}`` moves over the whole training.

    Attributes
    ----------
    value : float
        The value, or the first one where `to` is given.
    to : float or None
        The value at the last step.
    shape : {"cosine", "linear"}
        The way from `value` to `to`.
    start : float
        Part of the training, 0 to 1, before which the value is `before`.
    before : float
        The value before `start`.
    ramp : float
        Part of the training over which the value grows from `before` once it has started.
    """

    value: float
    to: float | None = None
    shape: Shape = "cosine"
    start: float = 0.0
    before: float = 0.0
    ramp: float = 0.0

    def __post_init__(self) -> None:
        numbers = (self.value, self.start, self.before, self.ramp, self.to or 0.0)
        if not all(math.isfinite(number) for number in numbers):
            raise InvalidInputError("A schedule's numbers must be finite", why=str(asdict(self)))
        if not (0 <= self.start <= 1 and 0 <= self.ramp <= 1):
            raise InvalidInputError(
                "A schedule's start and ramp are parts of the training, 0 to 1",
                why=f"they are {self.start:g} and {self.ramp:g}",
            )
        if self.shape not in ("linear", "cosine"):
            raise InvalidInputError(
                f"There is no schedule of the shape {self.shape!r}",
                remedy="choose linear or cosine",
            )

    @classmethod
    def parse(cls, given: float | Mapping[str, Any]) -> Schedule:
        """A schedule from a number or from its mapping in YAML."""
        if isinstance(given, Mapping):
            try:
                return cls(**given)
            except TypeError as error:
                raise InvalidInputError(
                    "A schedule has the keys value, to, shape, start, before and ramp",
                    why=f"it got {', '.join(map(str, given))}",
                ) from error
        return cls(float(given))

    def to_plain(self) -> float | dict[str, Any]:
        """The form that YAML holds: the number of a constant, a mapping of what differs."""
        if self == Schedule(self.value):
            return self.value
        constant = asdict(Schedule(self.value))
        return {k: v for k, v in asdict(self).items() if k == "value" or v != constant[k]}

    @property
    def never(self) -> bool:
        """Whether it is 0 at every step: what it weighs is switched off."""
        return self.value == 0 and not self.to and self.before == 0

    def first_step(self, steps: int) -> int:
        """The first step at which it is in force."""
        return 0 if self.before != 0 else math.ceil(self.start * steps)

    def at(self, step: int, steps: int) -> float:
        """The value at `step` of `steps`, counted from 0."""
        begin = math.ceil(self.start * steps)
        if step < begin:
            return self.before
        value = self.value
        if self.to is not None:
            done = (step - begin) / max(1, steps - 1 - begin)
            value = _between(self.value, self.to, min(1.0, done), self.shape)
        ramp = self.ramp * steps
        if step - begin < ramp:
            # The first step already counts: a weight of 0 would switch its term off.
            value = self.before + (value - self.before) * (step - begin + 1) / (ramp + 1)
        return value


def _between(a: float, b: float, done: float, shape: Shape) -> float:
    share = done if shape == "linear" else 0.5 * (1 - math.cos(math.pi * done))
    return a + (b - a) * share


def learning_rate_factor(
    step: int, steps: int, *, warmup: int, final: float, first: int = 0
) -> float:
    """Part of the peak learning rate: a linear warm-up, then half a cosine.

    Loshchilov and Hutter, SGDR, ICLR 2017, without restarts.

    Parameters
    ----------
    step, steps : int
        The step, counted from 0, and the steps of the whole training.
    warmup : int
        Steps of the warm-up; its first step already has ``1 / warmup``.
    final : float
        Part of the peak at the last step.
    first : int
        The first step that counts, for an optimizer that starts later than the training.
    """
    done = step - first
    if done < warmup:
        return (done + 1) / warmup
    span = max(1, steps - 1 - first - warmup)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, (done - warmup) / span)))
