"""The feeds of a run: who gets which samples, in what parts, and how long they are waited for."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Literal

from cxr3d_training.data import Feed
from cxr3d_training.engine.hardware import Control
from cxr3d_training.engine.recipe import Batches, Recipe, Sampler
from napari_cxr3d.errors import InvalidInputError

__all__ = ["Clock", "batches_of", "open_feeds", "split_batches"]

_PURPOSES = ("training", "concluding")


def open_feeds(
    recipe: Recipe,
    samplers: Mapping[str, Sampler],
    control: Control,
    device: Any,
    stack: ExitStack,
    *,
    purpose: Literal["training", "concluding"],
    start: int = 0,
) -> dict[str, Feed]:
    """Open the feeds of this process until the stack is left.

    Parameters
    ----------
    recipe, samplers : Recipe, dict of str to Sampler
        What is sampled.
    control : Control
        Which process this is.
    device : torch.device
        Where the batches go.
    stack : ExitStack
        Closes the feeds.
    purpose : {"training", "concluding"}
        Feeds of another purpose deliver other samples.
    start : int
        The step of the first batch.

    Raises
    ------
    InvalidInputError
        If a batch cannot be shared out evenly.
    """
    run, world = recipe.config.run, control.world_size
    seeds = recipe.feed_seeds(list(samplers), _PURPOSES.index(purpose))
    feeds = {}
    for name, sampler in samplers.items():
        size = sampler.batch_size or run.batch_size
        if size % (world * run.accumulate):
            raise InvalidInputError(
                f"A batch of {size} cannot be shared out evenly",
                why=f"there are {world} processes with {run.accumulate} parts each",
                remedy="choose run.batch_size as a multiple of both",
            )
        feed = Feed(
            sampler.sample,
            batch_size=size // world,
            seed=seeds[name],
            rank=control.rank,
            world_size=world,
            start_step=start,
            workers=run.workers,
            device=str(device),
            finish=sampler.finish,
        )
        feeds[name] = stack.enter_context(feed)
    return feeds


def batches_of(feeds: Mapping[str, Feed]) -> Iterator[Batches]:
    """A step's batches of all feeds, again and again."""
    while True:
        yield {name: next(feed) for name, feed in feeds.items()}


def split_batches(batches: Batches, parts: int) -> list[Batches]:
    """A step's batches in equal parts, along the first axis."""
    if parts == 1:
        return [batches]
    chunks = {
        feed: {name: tensor.chunk(parts) for name, tensor in batch.items()}
        for feed, batch in batches.items()
    }
    return [
        {feed: {name: c[k] for name, c in batch.items()} for feed, batch in chunks.items()}
        for k in range(parts)
    ]


class Clock:
    """Speed between two lines of the log."""

    def __init__(self, feeds: Mapping[str, Feed]) -> None:
        self._feeds = feeds
        self._last = (time.monotonic(), 0.0, -1)

    def speeds(self, step: int) -> dict[str, float]:
        """Steps a second and the part of the time that data was waited for, since the last call."""
        before, waited_before, step_before = self._last
        now, waited = time.monotonic(), sum(f.waited_s for f in self._feeds.values())
        self._last = (now, waited, step)
        if step_before < 0:
            return {}
        elapsed = max(now - before, 1e-9)
        return {
            "speed/steps_per_second": (step - step_before) / elapsed,
            "speed/waiting_for_data": (waited - waited_before) / elapsed,
        }
