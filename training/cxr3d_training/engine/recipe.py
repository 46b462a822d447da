"""What a recipe is: networks, players that train them, named losses, data, evaluation.

A recipe is one file that reads from top to bottom. The engine knows none of them; it asks a
recipe for the parts below and does the rest: devices, precision, accumulation, clipping, averages,
schedules, logs, checkpoints.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from cxr3d_training.data import Cohort, CohortCase, open_cohort
from cxr3d_training.engine.config import OptimizerConfig, RecipeConfig, RunConfig
from cxr3d_training.engine.schedules import Schedule
from napari_cxr3d.errors import InvalidInputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from napari_cxr3d.progress import CancelToken, ProgressCallback

__all__ = [
    "Average",
    "Batches",
    "BundleParts",
    "Networks",
    "Now",
    "OptimizerConfig",
    "Player",
    "Recipe",
    "RecipeConfig",
    "RunConfig",
    "Sampler",
    "Work",
]

Batches = Mapping[str, Mapping[str, "Tensor"]]  # feed name -> name -> tensor [B, ...]
Networks = Mapping[str, "nn.Module"]


@dataclass(frozen=True)
class Player:
    """Networks that one optimizer trains, and the loss terms that it trains them with.

    Attributes
    ----------
    name : str
        Key of its optimizer in the settings.
    networks : tuple of str
        The networks that its terms move; all others are frozen meanwhile.
    terms : tuple of str
        Keys of the loss weights.
    """

    name: str
    networks: tuple[str, ...]
    terms: tuple[str, ...]


@dataclass(frozen=True)
class Average:
    """A running mean of a network's weights (EMA), itself a network of the recipe.

    Attributes
    ----------
    of : str
        The network that it follows.
    momentum : Schedule
        Part of the old mean that each step keeps.
    """

    of: str
    momentum: Schedule


@dataclass(frozen=True)
class Sampler:
    """Where one feed's samples come from.

    Attributes
    ----------
    sample : callable
        ``sample(rng) -> dict of ndarray``: one sample; see `cxr3d_training.data.Feed`.
    finish : callable, optional
        ``finish(batch, rngs) -> batch`` on the training device.
    batch_size : int, optional
        Samples of one step over all devices; that of the run if None.
    """

    sample: Any
    finish: Any = None
    batch_size: int | None = None


class Now:
    """Where in the training a step is, and what its terms weigh.

    Attributes
    ----------
    step, steps : int
        The step, counted from 0, and how many there are.
    weights : dict of str to float
        This step's loss weights.
    """

    def __init__(self, step: int, steps: int, weights: Mapping[str, float]) -> None:
        self.step = step
        self.steps = steps
        self.weights = dict(weights)

    def on(self, term: str) -> bool:
        """Whether a term is switched on at this step."""
        return self.weights.get(term, 0.0) != 0.0


class Work:
    """One part of a step for one player after the other.

    Deliberately no container that wrappers would look into or copy.

    Attributes
    ----------
    batches : dict
        Feed name -> name -> tensor.
    now : Now
        The step.
    scratch : dict
        What one player leaves for the next, such as a detached reconstruction.
    """

    def __init__(self, batches: Batches, now: Now) -> None:
        self.batches = batches
        self.now = now
        self.scratch: dict[str, Any] = {}


@dataclass(frozen=True)
class BundleParts:
    """What a recipe gives to a bundle; the engine adds how it was trained.

    Attributes
    ----------
    network : dict
        ``_target_`` mapping that makes the module.
    state : dict of str to Tensor
        Its weights.
    card : dict
        Name, kind, preprocessing, intended use and limits.
    """

    network: Mapping[str, Any]
    state: Mapping[str, Tensor]
    card: Mapping[str, Any]


class Recipe(ABC):
    """One model's training.

    Parameters
    ----------
    config : RecipeConfig
        The settings.

    Attributes
    ----------
    name : str
        As the command line and the folders of presets call it.
    Config : type
        The dataclass of its settings.
    monitor : str
        The validation figure that decides which checkpoint is the best.
    higher_is_better : bool
        Which way that figure is better.
    unused_parameters : bool
        Whether a step may leave some of a player's parameters out.
    forward_methods : dict of str to tuple of str
        Methods besides ``forward`` through which `losses` uses a network, for fsdp, which must
        gather the weights first.
    paths : tuple of str
        Settings that name files of this computer: an export keeps the names, not the folders.
    """

    name: ClassVar[str]
    Config: ClassVar[type[RecipeConfig]]
    monitor: ClassVar[str] = ""
    higher_is_better: ClassVar[bool] = False
    unused_parameters: ClassVar[bool] = False
    forward_methods: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    paths: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: RecipeConfig) -> None:
        self.config = config
        terms = [term for player in self.players for term in player.terms]
        given = set(config.losses)
        if given != set(terms):
            odd = sorted(given ^ set(terms))
            raise InvalidInputError(
                f"The losses of the recipe {self.name} are {', '.join(terms)}",
                why=f"{', '.join(odd)} {'is' if len(odd) == 1 else 'are'} missing or unknown",
                remedy="a weight of 0 switches a term off",
            )
        missing = [p.name for p in self.players if p.name not in config.optimizers]
        if missing:
            raise InvalidInputError(f"The setting 'optimizers.{missing[0]}' is missing")

    @property
    @abstractmethod
    def players(self) -> tuple[Player, ...]:
        """Who trains what, in the order of a step."""

    @abstractmethod
    def networks(self) -> dict[str, nn.Module]:
        """All networks, freshly initialised; those of no player stay frozen."""

    @property
    def averages(self) -> dict[str, Average]:
        """Running means by name; in evaluation they stand for the networks that they follow."""
        return {}

    @abstractmethod
    def samplers(self, cases: Sequence[CohortCase]) -> dict[str, Sampler]:
        """The feeds by name, from the training cases."""

    @abstractmethod
    def losses(self, player: str, nets: Networks, work: Work) -> dict[str, Tensor]:
        """The player's terms that are on, unweighted, each one number."""

    def after_step(self, nets: Networks, work: Work) -> None:  # noqa: B027 - few need it
        """What else a step changes; runs without gradients, after all players."""

    def images(self, nets: Networks, batches: Batches) -> dict[str, Tensor]:
        """Pictures for the log: [rows, cols] or [3, rows, cols], 0 to 1."""
        return {}

    def validate(
        self, nets: Networks, cases: Sequence[CohortCase], device: torch.device
    ) -> dict[str, float]:
        """Figures over the validation cases, `monitor` among them."""
        return {}

    def conclude(  # noqa: B027
        self, nets: Networks, batches: Iterator[Batches], mean: Callable[[Tensor], Tensor]
    ) -> None:
        """What remains to be done to the evaluation networks before they are saved.

        It runs before every checkpoint, so that each can be exported. It may change averages
        (which take up their network's buffers again at the next step), and of other networks
        only what no loss reads.

        Parameters
        ----------
        nets : dict
            The networks as they will be evaluated and exported.
        batches : iterator
            Batches that no step sees, without end, the same every time; each process has its own
            part of them.
        mean : callable
            The mean of a tensor over the processes, so that all measure the same.
        """

    @abstractmethod
    def evaluate(
        self,
        nets: Networks,
        cases: Sequence[CohortCase],
        device: torch.device,
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> Any:
        """All figures over held-out patients: the model first, then its baselines."""

    @abstractmethod
    def bundle(self, nets: Networks) -> BundleParts:
        """What goes into the model bundle."""

    def cohort(self) -> Cohort:
        """The cases that the settings name."""
        return open_cohort(self.config.data, **self.config.data_options)

    def network_averages(self) -> dict[str, str]:
        """Which average stands for a network in evaluation."""
        return {average.of: name for name, average in self.averages.items()}

    def feed_seeds(self, names: Sequence[str], purpose: int = 0) -> dict[str, int]:
        """A seed of its own for every feed, and another for every purpose."""
        seed = self.config.run.seed
        return {
            name: int(np.random.SeedSequence([seed, k, purpose]).generate_state(1)[0])
            for k, name in enumerate(names)
        }
