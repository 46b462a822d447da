"""The settings that every recipe has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from cxr3d_training.engine.schedules import Schedule
from napari_cxr3d.errors import InvalidInputError

__all__ = ["OptimizerConfig", "RecipeConfig", "RunConfig"]

NONE = Schedule(0.0)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """How long and in what portions a run trains.

    Attributes
    ----------
    steps : int
        Optimizer steps.
    batch_size : int
        Samples of one step, over all devices and all `accumulate` parts. A step sees the same
        samples however many processes and parts it is spread over.
    accumulate : int
        Parts that each process works a step off in, one after the other, to save memory.
    precision : str
        ``"32-true"``, ``"bf16-mixed"``, or another that Lightning Fabric knows.
    clip_norm : float or None
        Largest norm of a player's gradient; None leaves it alone.
    seed : int
        Seed of the weights, the samples and all that is random.
    workers : int
        Threads that make samples, a process.
    log_every, image_every, validate_every, checkpoint_every : int
        Steps between lines of the log, pictures, validations and checkpoints; 0 is never (the
        last step is validated and saved all the same).
    keep_last : int
        Checkpoints that are kept besides the best one.
    deterministic : bool
        On CUDA, only kernels that give the same bits every time, where there are such; slower. The
        CPU needs no such choice.
    """

    steps: int
    batch_size: int
    accumulate: int = 1
    precision: str = "32-true"
    clip_norm: float | None = 1.0
    seed: int = 0
    workers: int = 2
    log_every: int = 10
    image_every: int = 0
    validate_every: int = 0
    checkpoint_every: int = 500
    keep_last: int = 3
    deterministic: bool = False

    def __post_init__(self) -> None:
        for name, least in (
            ("steps", 1),
            ("batch_size", 1),
            ("accumulate", 1),
            ("seed", 0),
            ("workers", 0),
            ("log_every", 1),
            ("image_every", 0),
            ("validate_every", 0),
            ("checkpoint_every", 0),
            ("keep_last", 1),
        ):
            if getattr(self, name) < least:
                raise InvalidInputError(
                    f"{name} must be {least} or more", why=f"it is {getattr(self, name)}"
                )
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise InvalidInputError(
                "clip_norm must be positive", remedy="write null to leave the gradient alone"
            )
        if self.precision not in ("32-true", "64-true", "bf16-mixed", "16-mixed", "bf16-true"):
            raise InvalidInputError(
                f"There is no precision {self.precision!r}",
                remedy="choose 32-true, bf16-mixed, 16-mixed, bf16-true or 64-true",
            )


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """One player's optimizer.

    Attributes
    ----------
    kind : {"adamw", "adam", "sgd"}
        The method.
    lr : float
        Peak learning rate.
    betas : tuple of 2 float
        Adam's; the first is SGD's momentum.
    weight_decay : Schedule
        Decoupled for AdamW. Biases and norms (parameters with fewer than two axes) are spared.
    warmup : int
        Steps of linear warm-up.
    final : float
        Part of `lr` that the cosine ends at.
    """

    lr: float
    kind: Literal["adamw", "adam", "sgd"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: Schedule = NONE
    warmup: int = 0
    final: float = 0.0

    def __post_init__(self) -> None:
        if not (self.lr > 0 and self.warmup >= 0 and 0 <= self.final <= 1):
            raise InvalidInputError(
                "An optimizer needs a positive lr, a warmup of 0 or more and a final part of 0 to 1"
            )


@dataclass(frozen=True, kw_only=True)
class RecipeConfig:
    """The settings that every recipe has; a recipe's own dataclass adds to them.

    Attributes
    ----------
    data : str
        Where the cases come from, as `cxr3d_training.data.open_cohort` takes it:
        ``"phantom:200"``, a folder written by ``cxr3d-train prepare``, a folder of CTs, or
        ``"phantom:200 + 30% FOLDER"``, of which three in ten samples are of the folder.
    data_options : dict
        Further arguments of `open_cohort`.
    run : RunConfig
        Steps, batch, precision, seed.
    optimizers : dict of str to OptimizerConfig
        One a player.
    losses : dict of str to Schedule
        Weight of every loss term; 0 switches a term off, and it is then not computed.
    """

    data: str
    data_options: dict[str, Any] = field(default_factory=dict)
    run: RunConfig
    optimizers: dict[str, OptimizerConfig]
    losses: dict[str, Schedule]
