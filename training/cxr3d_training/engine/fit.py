"""The training loop.

A step takes one batch from every feed, lets each player in turn compute its losses and move its
own networks, moves the averages, and tells the log. All that a step depends on is the state that
`TrainingState` holds, the step's number (which decides samples, learning rates and weights) and
the random generators; a checkpoint holds exactly these, so a run that was stopped goes on as if
nothing had happened, bit for bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from cxr3d_training.data import Cohort, Feed
from cxr3d_training.engine import rng
from cxr3d_training.engine.checkpoints import CheckpointFolder
from cxr3d_training.engine.errors import CheckpointError, TrainingError
from cxr3d_training.engine.folder import RunFolder, SavedRun
from cxr3d_training.engine.hardware import Control, Hardware, make_fabric
from cxr3d_training.engine.optim import set_step
from cxr3d_training.engine.recipe import Batches, Now, Recipe, Work
from cxr3d_training.engine.runlog import RunLog, Tally, require_all_finite
from cxr3d_training.engine.settings import differences, digest, to_plain
from cxr3d_training.engine.state import Seat, TrainingState, shard_networks
from cxr3d_training.engine.stopping import REASONS, Stop, StopReason, catch_signals
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.progress import CancelToken, Progress, ProgressCallback
from napari_cxr3d.provenance import Provenance

__all__ = ["FitResult", "cohort_sha256", "fit"]

# Settings that leave every number as it is; a run may go on with others.
FREE_SETTINGS = ("run.workers", "run.keep_last", "run.checkpoint_every", "run.image_every")
_FORMAT = 1
_VALIDATION_SEED = 20240917
_CONCLUSION_SEED = 20240918

Notify = Callable[[str], None]


@dataclass(frozen=True)
class FitResult:
    """How a call of `fit` ended.

    Attributes
    ----------
    folder : Path
        The run's folder.
    step, steps : int
        Steps done, and steps of the whole training.
    reason : {"done", "time", "terminated", "interrupted"}
        Why it ended.
    figures : dict
        The newest validation.
    first : bool
        Whether this is the process that reports (the first of several).
    """

    folder: Path
    step: int
    steps: int
    reason: StopReason
    figures: Mapping[str, float] = field(default_factory=dict)
    first: bool = True


def fit(
    recipe: Recipe,
    out: str | Path,
    *,
    preset: str = "",
    hardware: Hardware | None = None,
    resume: bool = False,
    max_minutes: float | None = None,
    cohort: Cohort | None = None,
    command: str = "",
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
    notify: Notify | None = None,
) -> FitResult:
    """Train a recipe, and leave all that came of it in a folder.

    Parameters
    ----------
    recipe : Recipe
        With its settings.
    out : path-like
        The run's folder; new or empty unless `resume`.
    preset : str
        Where the settings began, for the record.
    hardware : Hardware, optional
        The devices; one, the fastest kind that there is, if None.
    resume : bool
        Go on from the newest whole checkpoint of the folder; begin if there is none.
    max_minutes : float, optional
        Save and stop after so many minutes.
    cohort : Cohort, optional
        The data, instead of what the settings name.
    command : str
        The command line, for the record.
    progress, cancel : optional
        Told of every step; saves and stops.
    notify : callable, optional
        Told, in a sentence, of what was mended or chosen.

    Raises
    ------
    TrainingError
        If the run cannot begin or go on: no such devices, other settings than before, damaged
        checkpoints.
    DivergedError
        If a loss is no number any more.
    InvalidInputError
        If the settings and the devices or data do not fit.
    """
    stop = Stop(max_minutes, cancel)
    folder = RunFolder(out)
    config = recipe.config
    fabric = make_fabric(
        hardware or Hardware(),
        precision=config.run.precision,
        shard=shard_networks,
        unused_parameters=recipe.unused_parameters,
    )
    first = fabric.global_rank == 0
    control = Control(fabric)
    tell: Notify = notify if first and notify is not None else _silent
    settings = to_plain(config)
    saved = SavedRun(recipe.name, preset, settings)
    _together(control, lambda: _open_folder(folder, saved, resume=resume) if first else None)
    with fabric.rank_zero_first(local=True):
        cohort = cohort or recipe.cohort()
    run = _Run(recipe, fabric, control, cohort, folder, stop, tell, progress if first else None)
    try:
        return run.go(resume=resume, command=command)
    finally:
        run.log_close()


def cohort_sha256(cohort: Cohort) -> str:
    """One hash of all cases and of the side that each is on."""
    sides = {
        side: [case.id for case in cohort.split(side)] for side in ("train", "validation", "test")
    }
    return digest({"sides": sides, "shares": list(cohort.split("train").shares)})


class _Run:
    """One call of `fit`, from the checkpoint that it begins with to the one that it ends with."""

    def __init__(
        self,
        recipe: Recipe,
        fabric: Any,
        control: Control,
        cohort: Cohort,
        folder: RunFolder,
        stop: Stop,
        tell: Notify,
        progress: ProgressCallback | None,
    ) -> None:
        self.recipe = recipe
        self.config = recipe.config.run
        self.fabric = fabric
        self.control = control
        self.cohort = cohort
        self.folder = folder
        self.stop = stop
        self.tell = tell
        self.progress = progress
        self.first = fabric.global_rank == 0
        self.settings = to_plain(recipe.config)
        self.checkpoints = CheckpointFolder(
            folder.checkpoints,
            keep_last=self.config.keep_last,
            higher_is_better=recipe.higher_is_better,
        )
        self.tally = Tally()
        self.rates: dict[str, float] = {}
        self.figures: dict[str, float] = {}
        self.step = 0
        self.log: RunLog | None = None
        self.feeds: dict[str, Feed] = {}

    def go(self, *, resume: bool, command: str) -> FitResult:
        rng.seed_all(self.config.seed)
        self.state = TrainingState(self.recipe, self.fabric)
        rng.seed_all(self.config.seed, 1 + self.control.rank)
        if resume:
            self._restore()
        if self.step == self.config.steps:
            self.tell("The training is finished already.")
            return self._result("done")
        begun, began = self.step, time.monotonic()
        self._open_log()
        with ExitStack() as stack:
            self.feeds = self._open_feeds(stack)
            self._write_provenance(begun, command, None, began)
            reason: StopReason | None = None
            try:
                with catch_signals(self.stop):
                    ended = self._loop()
                    self._end(ended)
                reason = ended
            finally:
                self._write_provenance(begun, command, reason or "failed", began)
        return self._result(ended)

    def _result(self, reason: StopReason) -> FitResult:
        return FitResult(
            self.folder.path, self.step, self.config.steps, reason, dict(self.figures), self.first
        )

    def _loop(self) -> StopReason:
        steps = self.config.steps
        clock = _Clock(self.feeds)
        while self.step < steps:
            work = self._take_step()
            self.step += 1
            self._report(work, clock)
            reason = REASONS[self.control.largest(REASONS.index(self.stop.reason or "done"))]
            if reason != "done" and self.step < steps:
                return reason
            if self.step < steps:
                self._keep()
        return "done"

    def _take_step(self) -> Work:
        """One step of all players; the last part's work is returned, for pictures."""
        run, step = self.config, self.step
        weights = {n: s.at(step, run.steps) for n, s in self.recipe.config.losses.items()}
        now = Now(step, run.steps, weights)
        batches = {name: next(feed) for name, feed in self.feeds.items()}
        parts = [Work(part, now) for part in _split(batches, run.accumulate)]
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

    def _report(self, work: Work, clock: _Clock) -> None:
        """Log, pictures and validation, each at its time."""
        run, step = self.config, self.step
        if self.progress is not None:
            self.progress(Progress(step, run.steps, f"step {step}"))
        last = step == run.steps
        if step % run.log_every == 0 or last:
            means = self.tally.means(self.fabric)
            require_all_finite(means, step)
            if self.log is not None:
                changing = {
                    f"weight/{term}": work.now.weights[term]
                    for term, schedule in self.recipe.config.losses.items()
                    if isinstance(schedule.to_plain(), dict)
                }
                self.log.write(step, {**means, **self.rates, **changing}, **clock.speeds(step))
        if (run.image_every and step % run.image_every == 0) or (last and run.image_every):
            with rng.isolated(_VALIDATION_SEED), self.state.evaluating() as nets:
                pictures = self.recipe.images(nets, work.batches)
            if self.log is not None:
                self.log.images(step, pictures)
        if run.validate_every and step % run.validate_every == 0 and not last:
            self._validate()

    def _validate(self) -> None:
        cases = self.cohort.split("validation")
        self.figures = {}
        if len(cases):
            with rng.isolated(_VALIDATION_SEED), self.state.evaluating() as nets:
                self.figures = self.recipe.validate(nets, cases, self.fabric.device)
        if self.log is not None and self.figures:
            self.log.write(self.step, {f"validation/{k}": v for k, v in self.figures.items()})

    def _keep(self) -> None:
        """Save where it is time to, or where the validation has become better."""
        run, step = self.config, self.step
        due = bool(run.checkpoint_every) and step % run.checkpoint_every == 0
        validated = bool(run.validate_every) and step % run.validate_every == 0
        figure = self.figures.get(self.recipe.monitor) if validated else None
        better = figure is not None and self.control.from_first(self.checkpoints.improves(figure))
        if due or better:
            self._save(figure)

    def _end(self, reason: StopReason) -> None:
        """The last checkpoint of this call; of a whole training, concluded and validated."""
        figure = None
        if reason in ("done", "time"):
            with rng.isolated(_CONCLUSION_SEED), self.state.evaluating() as nets:
                self.recipe.conclude(nets, self._further(), self.control.mean)
        if reason == "done" and self.recipe.monitor:
            self._validate()
            figure = self.figures.get(self.recipe.monitor)
        self._save(figure)

    def _further(self) -> Iterator[Batches]:
        while True:
            yield {name: next(feed) for name, feed in self.feeds.items()}

    def _save(self, figure: float | None) -> None:
        self.tally.require_finite(self.step)
        state = self.state.state()
        ranks = self.control.gather({"rng": rng.capture(), "tally": self.tally.state()})
        if self.first:
            record = {
                "format": _FORMAT,
                "recipe": self.recipe.name,
                "config_sha256": digest(self.settings),
                "data_sha256": cohort_sha256(self.cohort),
                "step": self.step,
                "world_size": self.control.world_size,
                "figures": self.figures,
                "ranks": ranks,
                **state,
            }
            self.checkpoints.save(record, step=self.step, figure=figure)
        self.fabric.barrier()

    def _restore(self) -> None:
        found = _together(
            self.control, lambda: self.checkpoints.newest(self.tell) if self.first else None
        )
        found = self.control.from_first(found)
        if found is None:
            self.tell("There is no checkpoint yet; the training begins.")
            return
        checkpoint, record = found
        if record.get("format") != _FORMAT:
            raise CheckpointError(
                "The checkpoint is of another version of the program", path=checkpoint.path
            )
        if record["data_sha256"] != cohort_sha256(self.cohort):
            raise TrainingError(
                "The run cannot go on with other data",
                why="the cases, or the sides that they are on, are not those that it began with",
                remedy="give the same data, or begin a new run",
                path=self.folder.path,
            )
        self.state.restore(record)
        self.step = int(record["step"])
        self.figures = dict(record["figures"])
        ranks = record["ranks"]
        if record["world_size"] == self.control.world_size:
            mine = ranks[self.control.rank]
            rng.restore(mine["rng"])
            self.tally.restore(mine["tally"], self.fabric.device)
        else:
            rng.seed_all(self.config.seed + self.step, 1 + self.control.rank)
            self.tell(
                f"The run was on {record['world_size']} processes and goes on on "
                f"{self.control.world_size}: from here on it equals neither bit for bit."
            )
        if self.first:
            self.checkpoints.drop_after(self.step)
        self.tell(f"Going on from step {self.step} of {self.config.steps}.")

    def _open_feeds(self, stack: ExitStack) -> dict[str, Feed]:
        samplers = self.recipe.samplers(self.cohort.split("train"))
        seeds = self.recipe.feed_seeds(list(samplers))
        world = self.control.world_size
        feeds = {}
        for name, sampler in samplers.items():
            size = sampler.batch_size or self.config.batch_size
            if size % (world * self.config.accumulate):
                raise InvalidInputError(
                    f"A batch of {size} cannot be shared out evenly",
                    why=f"there are {world} processes with {self.config.accumulate} parts each",
                    remedy="choose run.batch_size as a multiple of both",
                )
            feed = Feed(
                sampler.sample,
                batch_size=size // world,
                seed=seeds[name],
                rank=self.control.rank,
                world_size=world,
                start_step=self.step,
                workers=self.config.workers,
                device=str(self.fabric.device),
                finish=sampler.finish,
            )
            feeds[name] = stack.enter_context(feed)
        return feeds

    def _open_log(self) -> None:
        if self.first:
            self.log = RunLog(self.folder.log, _board(self.folder, self.step), self.step)

    def log_close(self) -> None:
        """Flush what was logged, however the run ended."""
        if self.log is not None:
            self.log.close("done")

    def _write_provenance(self, begun: int, command: str, reason: str | None, began: float) -> None:
        """The record of the run; its last session is replaced when the session ends."""
        if not self.first:
            return
        seconds = time.monotonic() - began
        waited = sum(feed.waited_s for feed in self.feeds.values())
        session = {
            "command": command,
            "ended": datetime.now(UTC).isoformat(timespec="seconds"),
            "from_step": begun,
            "to_step": self.step,
            "reason": reason or "running",
            "seconds": round(seconds, 2),
            "waited_for_data": round(waited / seconds, 4) if seconds else 0.0,
            "device": str(self.fabric.device),
            "strategy": type(self.fabric.strategy).__name__,
            "processes": self.control.world_size,
        }
        record = self.folder.read_provenance()
        sessions = list(record.get("sessions", []))
        if reason is not None:
            sessions.pop()
        if not record:
            cases = self.cohort.cases
            made = Provenance(
                operation="fit",
                parameters={
                    "recipe": self.recipe.name,
                    "settings_sha256": digest(self.settings),
                    "command": command,
                },
                inputs=(cohort_sha256(self.cohort),),
                synthetic=all(case.synthetic for case in cases),
                backend="lightning-fabric",
                device=str(self.fabric.device),
                dtype=self.config.precision,
                seed=self.config.seed,
            ).to_dict()
            made["versions"]["lightning-fabric"] = version("lightning-fabric")
            spacing = list(next(iter(self.cohort.split("train"))).spacing_mm)
            record = {**made, "data": {**self.cohort.describe(), "spacing_mm": spacing}}
        self.folder.write_provenance({**record, "sessions": [*sessions, session]})


class _Clock:
    """Speed between two lines of the log."""

    def __init__(self, feeds: Mapping[str, Feed]) -> None:
        self._feeds = feeds
        self._last = (time.monotonic(), 0.0, -1)

    def speeds(self, step: int) -> dict[str, float]:
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


def _split(batches: Batches, parts: int) -> list[Batches]:
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


def _open_folder(folder: RunFolder, wanted: SavedRun, *, resume: bool) -> None:
    """Begin the folder, or see that it holds this very run."""
    if not (resume and folder.config.is_file()):
        folder.begin(wanted)
        return
    found = folder.read()
    if found.recipe != wanted.recipe:
        raise TrainingError(
            "The run cannot go on with another recipe",
            why=f"it is of {found.recipe}, not of {wanted.recipe}",
            path=folder.path,
        )
    changed = {
        key: pair
        for key, pair in differences(found.settings, wanted.settings).items()
        if key not in FREE_SETTINGS
    }
    if changed:
        told = [f"{key} was {old!r} and is {new!r}" for key, (old, new) in changed.items()]
        raise TrainingError(
            "The run cannot go on with other settings",
            why="; ".join(told[:5]) + (f"; and {len(told) - 5} more" if len(told) > 5 else ""),
            remedy="leave them as they were, or begin a new run in another folder",
            path=folder.path,
        )


def _together(control: Control, act: Callable[[], Any]) -> Any:
    """Run something that one process does, and fail in all if it fails there."""
    failure: Exception | None = None
    value = None
    try:
        value = act()
    except Exception as error:  # noqa: BLE001 - raised again below, in all processes
        failure = error
    failures = [f for f in control.gather(None if failure is None else str(failure)) if f]
    if failure is not None:
        raise failure
    if failures:
        raise TrainingError("Another process of the run failed", why=failures[0])
    return value


def _board(folder: RunFolder, step: int) -> Any:
    from lightning_fabric.loggers import TensorBoardLogger

    purge = {"purge_step": step + 1} if step else {}
    return TensorBoardLogger(
        folder.path,
        name="",
        version="",
        sub_dir=folder.board.name,
        default_hp_metric=False,
        **purge,
    )


def _silent(message: str) -> None:
    pass
