"""Which methods stand in which table of a reconstruction's evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxr3d_training.evaluation.reconstruct_methods import (
    BackProjection,
    ConjugateGradients,
    MeanVolume,
    Method,
)
from cxr3d_training.evaluation.reconstruct_network import Network, Shared
from cxr3d_training.evaluation.reconstruct_targets import Named
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.reconstruction import ReconstructionModel

__all__ = ["TABLES", "Plan", "Table", "named", "tables_of"]

TABLES = ("main", "steps", "samples", "peers", "pictures")
"""What can be measured; ``main`` always is."""

_VIEWS = ("1 view", "2 views")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured, and on how many cases.

    Attributes
    ----------
    tables : tuple of str
        Of `TABLES`.
    steps : tuple of int
        Of the sampler, in the table of steps; the model's default is always measured.
    samples : int
        Draws whose mean and spread are measured.
    step_cases, sample_cases, peer_cases, picture_cases : int
        How many of the cases, the first ones, the dear tables are measured on.
    calibration_cases : int
        Validation cases on which the spread is calibrated.
    peer_samplers : tuple of (str, int)
        Samplers and steps of the peers; the first is the published one.
    label : str
        What the model is called in the tables.
    batch : int
        Volumes at a time, of methods that take several.
    field_mm : float
        Edge of the detector.
    seed : int
        Of the noise.
    keep : Path or None
        Folder where figures are kept, so that a stopped evaluation goes on.
    """

    tables: tuple[str, ...] = TABLES
    steps: tuple[int, ...] = (1, 2, 4, 8, 16, 64)
    samples: int = 8
    step_cases: int = 8
    sample_cases: int = 8
    peer_cases: int = 8
    picture_cases: int = 16
    calibration_cases: int = 8
    peer_samplers: tuple[tuple[str, int], ...] = (("ddpm", 1000), ("ddim", 50), ("dpm++", 20))
    label: str = "ours"
    batch: int = 1
    field_mm: float = 440.0
    seed: int = 0
    keep: Path | None = None

    def __post_init__(self) -> None:
        unknown = set(self.tables) - set(TABLES)
        if unknown:
            raise InvalidInputError(
                f"There is no table called {', '.join(sorted(unknown))}",
                remedy=f"choose of {', '.join(TABLES)}",
            )
        counts = (*self.steps, self.batch, self.step_cases, self.sample_cases,
                  self.peer_cases, self.picture_cases, self.calibration_cases)  # fmt: skip
        if min(counts) < 1 or self.samples < 2:
            raise InvalidInputError(
                "An evaluation needs a step, a case and two samples or more",
                why=f"the plan is {self}",
            )


@dataclass(frozen=True, eq=False)
class Table:
    """Methods that are compared on the same cases.

    Attributes
    ----------
    title : str
        Of the table.
    methods : mapping of str to Method
        By their names.
    cases : int
        How many, the first ones.
    uncertainty : bool
        Whether the figures are those of the uncertainty.
    """

    title: str
    methods: Mapping[str, Method]
    cases: int
    uncertainty: bool = False


def tables_of(
    model: ReconstructionModel,
    peers: Mapping[str, ReconstructionModel],
    mean: MeanVolume,
    plan: Plan,
    *,
    cases: int,
    coarse_stage: bool,
    shared: Shared,
) -> dict[str, Table]:
    """The tables by name, in the order in which they are measured.

    Parameters
    ----------
    model, peers
        See `evaluate_reconstruction`.
    mean : MeanVolume
        Of the training cases.
    plan : Plan
        What is measured.
    cases : int
        How many there are.
    coarse_stage : bool
        Whether the model's one pass gives a volume.
    shared : Shared
        What methods have in common.
    """
    label, usual = plan.label, model.default_steps

    def ours(steps: int, views: int = 1, **settings: Any) -> dict[str, Method]:
        network = Network(model, steps, views=views, seed=plan.seed, shared=shared, **settings)
        return {_name(label, network): network}

    both = [(views, mode) for views in (1, 2) for mode in ("hard", "off")]
    coarse: dict[int, dict[str, Method]] = {1: {}, 2: {}}
    if coarse_stage:
        coarse = {views: ours(0, views) for views in (1, 2)}
    main: dict[str, Method] = {}
    for views in (1, 2):
        for mode in ("hard", "off"):
            main |= ours(usual, views, consistency=mode)
        main |= coarse[views]
        main[f"CG only, {_VIEWS[views - 1]}"] = ConjugateGradients(views)
        main[f"back-projection, {_VIEWS[views - 1]}"] = BackProjection(views)
    main["mean training volume"] = mean
    tables = {"main": Table("All cases", main, cases)}
    if "steps" in plan.tables:
        ladder: dict[str, Method] = {}
        for views, mode in both:
            for steps in sorted({*plan.steps, usual}):
                ladder |= ours(steps, views, consistency=mode)
        tables["steps"] = Table("Steps of the sampler", ladder, plan.step_cases)
    if "samples" in plan.tables:
        several: dict[str, Method] = {}
        for mode in ("hard", "off"):
            several |= ours(usual, consistency=mode, samples=plan.samples)
        single = ours(usual, consistency="hard") | ours(usual, consistency="off") | coarse[1]
        title = f"Mean of {plan.samples} samples"
        tables["samples"] = Table(title, several | single, plan.sample_cases)
        tables["uncertainty"] = Table(
            f"Uncertainty of {plan.samples} samples", several, plan.sample_cases, uncertainty=True
        )
    if "peers" in plan.tables and peers:
        others: dict[str, Method] = {}
        for name, peer in peers.items():
            for sampler, steps in plan.peer_samplers:
                network = Network(peer, steps, sampler=sampler, seed=plan.seed, shared=shared)
                others[_name(name, network)] = network
        own = ours(usual, consistency="hard") | ours(usual, consistency="off")
        tables["peers"] = Table("Beside other models", others | own, plan.peer_cases)
    if "pictures" in plan.tables:
        shown: dict[str, Method] = {}
        for views in (1, 2):
            for mode in ("soft", "off"):
                shown |= ours(usual, views, consistency=mode, look="pictures")
        for mode in ("soft", "off"):
            shown |= ours(usual, consistency=mode, look="files")
        if coarse[1]:
            shown |= ours(0, look="pictures") | ours(0, look="files")
        exact = ours(usual, consistency="hard")
        tables["pictures"] = Table(
            "Realistic pictures in place of exact X-rays", shown | exact, plan.picture_cases
        )
    return tables


def _name(label: str, network: Network) -> str:
    """What a network's method is called in the tables."""
    words = [label]
    if network.samples > 1:
        words.append(f"mean of {network.samples}")
    if network.steps == 0:
        words.append("coarse only")
    else:
        sampler = "" if network.sampler == "auto" else f" {network.sampler}"
        words.append(f"{network.steps} step{'s' if network.steps > 1 else ''}{sampler}")
    if network.consistency != "off":
        words.append("consistent" if network.consistency == "hard" else "softly consistent")
    words.append(_VIEWS[network.views - 1])
    if network.look != "exact":
        words.append("realistic" if network.look == "pictures" else "realistic, as files")
    return ", ".join(words)


def named(
    model: ReconstructionModel, peers: Mapping[str, ReconstructionModel], plan: Plan
) -> Named:
    """Under which names the methods of the targets stand in the tables."""

    def ours(steps: int, **settings: Any) -> str:
        return _name(plan.label, Network(model, steps, **settings))

    sampler, steps = plan.peer_samplers[0]
    first = next(iter(peers.items()), None)
    return Named(
        consistent=ours(model.default_steps, consistency="hard"),
        plain=ours(model.default_steps),
        longest=ours(max(*plan.steps, model.default_steps), consistency="hard"),
        coarse=ours(0),
        mean_volume="mean training volume",
        back_projection="back-projection, 1 view",
        ancestral=""
        if first is None
        else _name(first[0], Network(first[1], steps, sampler=sampler)),
        samples=ours(model.default_steps, consistency="hard", samples=plan.samples),
    )
