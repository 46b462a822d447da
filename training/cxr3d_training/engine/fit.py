"""The training loop.

A step takes one batch from every feed, lets each player in turn compute its losses and move its
own networks, moves the averages, and tells the log. All that a step depends on is the state that
`TrainingState` holds, the step's number (which decides samples, learning rates and weights) and
the random generators; a checkpoint holds exactly these, so a run that was stopped goes on as if
nothing had happened, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cxr3d_training.data import Cohort, Feed
from cxr3d_training.engine import rng
from cxr3d_training.engine.checkpoints import CheckpointFolder
from cxr3d_training.engine.errors import CheckpointError, TrainingError
from cxr3d_training.engine.feeding import Clock, batches_of, open_feeds
from cxr3d_training.engine.folder import RunFolder, SavedRun
from cxr3d_training.engine.hardware import Control, Hardware, arithmetic, make_fabric
from cxr3d_training.engine.recipe import Recipe, Sampler, Work
from cxr3d_training.engine.records import SessionRecord, cohort_sha256
from cxr3d_training.engine.runlog import RunLog, open_board, require_all_finite
from cxr3d_training.engine.settings import digest, to_plain
from cxr3d_training.engine.state import TrainingState, shard_networks
from cxr3d_training.engine.step import Stepper
from cxr3d_training.engine.stopping import REASONS, Stop, StopReason, catch_signals
from napari_cxr3d.progress import CancelToken, Progress, ProgressCallback

__all__ = ["FitResult", "fit"]

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
    control.on_first(lambda: folder.open_for(saved, resume=resume))
    with fabric.rank_zero_first(local=True):
        cohort = cohort or recipe.cohort()
    run = _Run(recipe, fabric, control, cohort, folder, stop, tell, progress if first else None)
    try:
        return run.go(resume=resume, command=command)
    finally:
        run.log_close()


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
        self.figures: dict[str, float] = {}
        self.step = 0
        self.log: RunLog | None = None
        self.samplers: dict[str, Sampler] = {}
        self.feeds: dict[str, Feed] = {}

    def go(self, *, resume: bool, command: str) -> FitResult:
        rng.seed_all(self.config.seed)
        self.state = TrainingState(self.recipe, self.fabric)
        self.stepper = Stepper(self.recipe, self.fabric, self.state)
        rng.seed_all(self.config.seed, 1 + self.control.rank)
        if resume:
            self._restore()
        if self.step == self.config.steps:
            self.tell("The training is finished already.")
            return self._result("done")
        if self.first:
            self.log = RunLog(self.folder.log, open_board(self.folder.board, self.step), self.step)
        with ExitStack() as stack:
            self.samplers = self.recipe.samplers(self.cohort.split("train"))
            self.feeds = self._open_feeds(stack, "training", start=self.step)
            stack.enter_context(arithmetic(self.fabric.device, self.config.deterministic))
            record = self._begin_record(command)
            reason: StopReason | None = None
            try:
                with catch_signals(self.stop):
                    ended = self._loop()
                    self._end(ended)
                reason = ended
            finally:
                if record is not None:
                    waited = sum(feed.waited_s for feed in self.feeds.values())
                    record.write(reason or "failed", self.step, waited)
        return self._result(ended)

    def _begin_record(self, command: str) -> SessionRecord | None:
        """The entry of this call in the provenance, by the first process."""
        if not self.first:
            return None
        session = {
            "command": command,
            "device": str(self.fabric.device),
            "strategy": type(self.fabric.strategy).__name__,
            "processes": self.control.world_size,
        }
        return SessionRecord(self.folder, self.recipe, self.cohort, session, self.step)

    def _open_feeds(
        self, stack: ExitStack, purpose: Literal["training", "concluding"], start: int = 0
    ) -> dict[str, Feed]:
        return open_feeds(
            self.recipe,
            self.samplers,
            self.control,
            self.fabric.device,
            stack,
            purpose=purpose,
            start=start,
        )

    def _result(self, reason: StopReason) -> FitResult:
        return FitResult(
            self.folder.path, self.step, self.config.steps, reason, dict(self.figures), self.first
        )

    def _loop(self) -> StopReason:
        steps = self.config.steps
        clock, batches = Clock(self.feeds), batches_of(self.feeds)
        while self.step < steps:
            work = self.stepper.take(self.step, next(batches))
            self.step += 1
            self._report(work, clock)
            reason = REASONS[self.control.largest(REASONS.index(self.stop.reason or "done"))]
            if reason != "done" and self.step < steps:
                return reason
            if self.step < steps:
                self._keep()
        return "done"

    def _report(self, work: Work, clock: Clock) -> None:
        """Log, pictures and validation, each at its time."""
        run, step = self.config, self.step
        if self.progress is not None:
            self.progress(Progress(step, run.steps, f"step {step}"))
        last = step == run.steps
        if step % run.log_every == 0 or last:
            means = self.stepper.tally.means(self.fabric)
            require_all_finite(means, step)
            if self.log is not None:
                changing = {
                    f"weight/{term}": work.now.weights[term]
                    for term, schedule in self.recipe.config.losses.items()
                    if isinstance(schedule.to_plain(), dict)
                }
                self.log.write(
                    step, {**means, **self.stepper.rates, **changing}, **clock.speeds(step)
                )
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
        """The last checkpoint of this call; of a whole training, validated."""
        figure = None
        if reason == "done" and self.recipe.monitor:
            self._validate()
            figure = self.figures.get(self.recipe.monitor)
        self._save(figure)

    def _conclude(self) -> None:
        """Let the recipe finish the evaluation networks, on samples that no step sees."""
        with ExitStack() as stack:
            stack.enter_context(rng.isolated(_CONCLUSION_SEED))
            nets = stack.enter_context(self.state.evaluating())
            feeds = self._open_feeds(stack, "concluding")
            self.recipe.conclude(nets, batches_of(feeds), self.control.mean)

    def _save(self, figure: float | None) -> None:
        self.stepper.tally.require_finite(self.step)
        self._conclude()
        state = self.state.state()
        ranks = self.control.gather({"rng": rng.capture(), "tally": self.stepper.tally.state()})
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
        found = self.control.on_first(lambda: self.checkpoints.newest(self.tell))
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
            self.stepper.tally.restore(mine["tally"], self.fabric.device)
        else:
            rng.seed_all(self.config.seed + self.step, 1 + self.control.rank)
            self.tell(
                f"The run was on {record['world_size']} processes and goes on on "
                f"{self.control.world_size}: from here on it equals neither bit for bit."
            )
        if self.first:
            self.checkpoints.drop_after(self.step)
        self.tell(f"Going on from step {self.step} of {self.config.steps}.")

    def log_close(self) -> None:
        """Flush what was logged, however the run ended."""
        if self.log is not None:
            self.log.close("done")


def _silent(message: str) -> None:
    pass
