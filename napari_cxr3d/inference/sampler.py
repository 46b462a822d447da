"""From noise to a sample, step by step: every step can be seen, stopped, and taken up again.

All methods speak of a state by its sample and its noise, ``x = a x0 + s noise`` with the scales
of the process (`napari_cxr3d.models.diffusion`), so that one move serves the straight flow and
the published diffusion alike:

- ``euler`` of a flow, ``ddim`` of a diffusion: sample and noise, mixed anew for the next time
  (Song et al., ICLR 2021, arXiv 2010.02502; on the straight path it is Euler's step of the ODE);
- ``stochastic``, ``ddpm``: the same with a part of the noise drawn anew (Ho et al., NeurIPS 2020,
  arXiv 2006.11239, eq. 7, for any two times);
- ``heun``: the mean of the velocities at both ends of the step, two evaluations (Karras et al.,
  NeurIPS 2022, arXiv 2206.00364, algorithm 1);
- ``dpm++``: the sample extrapolated from this and the last step, one evaluation (DPM-Solver++ 2M;
  Lu et al., 2022, arXiv 2211.01095, algorithm 2).

A projection of the sample's estimate, for instance onto what the X-rays measured, comes between
the estimate and the move; these are the three parts of a step of FLOWER (2025). The noise of the
move is the one that makes up the state together with the projected estimate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.diffusion import GaussianDiffusion, Process
from napari_cxr3d.progress import CancelToken

__all__ = ["Decode", "Predict", "Project", "SamplerState", "sample", "samplers_for"]

Predict = Callable[[Tensor, Tensor], Tensor]
"""The network's output at a state, shape (B, ...), and its times, shape (B,)."""

Project = Callable[[Tensor, float, int, int], Tensor]
"""From the sample's estimate, its time, the step (from 1) and the steps to a better estimate."""

Decode = Callable[[Tensor], Tensor]

_FLOW_METHODS = ("euler", "heun", "dpm++", "stochastic")
_DIFFUSION_METHODS = ("dpm++", "ddim", "ddpm")
_ALWAYS_RANDOM = ("stochastic", "ddpm")


@dataclass(frozen=True, eq=False)
class SamplerState:
    """Where a sampler stands after a step; with it the sampler goes on, to the same bits.

    Attributes
    ----------
    step, steps : int
        Steps made, and steps in all.
    time : float
        The time of `x`: 0 after the last step.
    x : Tensor, shape (B, ...)
        The state; the sample after the last step.
    x0 : Tensor, shape (B, ...)
        The sample as this step estimated it.
    preview : Tensor or None
        `x0` decoded, where it was this step's turn; the decoded sample after the last step.
    n_evaluations : int
        Evaluations of the network so far, for each sample of the batch.
    method : str
        The method by its own name, never ``"auto"``.
    start_time : float
        Where the sampler started.
    previous : tuple of Tensor and float, or None
        The estimate of the step before and its time, which ``dpm++`` goes on from.
    generator_state : Tensor or None
        Of the random generator, after this step.
    """

    step: int
    steps: int
    time: float
    x: Tensor
    x0: Tensor
    preview: Tensor | None
    n_evaluations: int
    method: str
    start_time: float
    previous: tuple[Tensor, float] | None = None
    generator_state: Tensor | None = None

    @property
    def done(self) -> bool:
        """Whether `x` is the sample."""
        return self.step == self.steps


def samplers_for(process: Process) -> tuple[str, ...]:
    """The methods that suit a process, the one to begin with first."""
    return _DIFFUSION_METHODS if isinstance(process, GaussianDiffusion) else _FLOW_METHODS


@torch.no_grad()
def sample(
    predict: Predict,
    process: Process,
    noise: Tensor,
    *,
    steps: int,
    method: str = "auto",
    eta: float | None = None,
    generator: torch.Generator | None = None,
    start_from: Tensor | None = None,
    start_time: float = 1.0,
    decode: Decode | None = None,
    preview_every: int = 1,
    project: Project | None = None,
    cancel: CancelToken | None = None,
    resume: SamplerState | None = None,
) -> Iterator[SamplerState]:
    """Turn noise into samples, one state a step.

    Parameters
    ----------
    predict : callable
        The network, with its condition bound.
    process : Process
        What the network was trained to undo.
    noise : Tensor, shape (B, ...)
        Standard normal.
    steps : int
        Moves from `start_time` to 0.
    method : str
        One of `samplers_for`, or ``"auto"``: ``euler`` of a flow; of a diffusion ``ddpm`` in its
        own number of steps, ``dpm++`` in fewer.
    eta : float, optional
        Part of the noise that is drawn anew, 0 to 1: 1 for ``stochastic`` and ``ddpm``, 0 for
        ``euler`` and ``ddim`` if None. ``heun`` and ``dpm++`` draw none.
    generator : torch.Generator, optional
        Where that noise comes from; needed wherever `eta` is not 0.
    start_from : Tensor, shape (B, ...), optional
        A sample to start from, noised to `start_time`, in place of noise alone.
    start_time : float
        Above 0, at most 1; below 1 only with `start_from`.
    decode : callable, optional
        From a sample to what is shown.
    preview_every : int
        Decode after every so many steps, and after the last; 0 for the last alone.
    project : callable, optional
        Moves the estimate of the sample; one that gives back the very tensor leaves the step as
        it is. A projected step of ``heun`` costs one evaluation, as ``euler``.
    cancel : CancelToken, optional
        Looked at before every evaluation and every decoding.
    resume : SamplerState, optional
        Go on from here; `noise`, `start_from` and `start_time` are then not looked at, and the
        generator is set to where it was.

    Yields
    ------
    SamplerState
        After every step.

    Raises
    ------
    InvalidInputError
        If there is no such method, a setting cannot be used, or `resume` is of another run.
    Cancelled
        If the token was cancelled.
    """
    method = _method(method, process, steps)
    eta = _eta(eta, method)
    if preview_every < 0:
        raise InvalidInputError("Previews come every so many steps, 0 or more")
    if eta and generator is None:
        raise InvalidInputError(
            f"The sampler {method!r} draws noise", remedy="give a generator with a seed"
        )
    if resume is None:
        x, begin, evaluations, previous = _start(process, noise, start_from, start_time), 0, 0, None
    else:
        _require_same_run(resume, method, steps)
        x, begin, evaluations = resume.x, resume.step, resume.n_evaluations
        previous, start_time = resume.previous, resume.start_time
        if generator is not None and resume.generator_state is not None:
            generator.set_state(resume.generator_state)
    times = process.times(steps, start_time)

    def evaluate(state: Tensor, at: float) -> Tensor:
        nonlocal evaluations
        if cancel is not None:
            cancel.raise_if_cancelled()
        evaluations += 1
        return predict(state, torch.full((len(state),), at, device=state.device))

    for k in range(begin, steps):
        now, then = times[k], times[k + 1]
        output = evaluate(x, now)
        x0, eps = process.split(x, output, now)
        projected = x0 if project is None else project(x0, now, k + 1, steps)
        if projected is not x0:
            a, s = process.scales(now)
            x0, eps = projected, (x - a * projected) / s
        elif method == "heun" and then > 0:
            ahead = evaluate(_move(process, x0, eps, now, then), then)
            x0, eps = process.split(x, (output + ahead) / 2, now)
        if method == "dpm++":
            moved = _move_second_order(process, x, x0, now, then, previous)
            previous = (x0, now)
        else:
            moved = _move(process, x0, eps, now, then, eta, generator)
        x = moved
        preview = None
        if decode is not None and _previews(k + 1, steps, preview_every):
            if cancel is not None:
                cancel.raise_if_cancelled()
            preview = decode(x if k + 1 == steps else x0)
        yield SamplerState(
            k + 1, steps, then, x, x0, preview, evaluations, method, start_time, previous,
            None if generator is None else generator.get_state(),
        )  # fmt: skip


def _move(
    process: Process,
    x0: Tensor,
    noise: Tensor,
    now: float,
    then: float,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Sample and noise mixed for the next time, a part of the noise drawn anew.

    With ``eta`` 1 it is a draw from the posterior of the next state given this state and the
    sample; its variance is ``s'^2 (1 - (a s' / (a' s))^2)``.
    """
    (a, s), (a_then, s_then) = process.scales(now), process.scales(then)
    kept = a * s_then / (a_then * s)
    drawn = eta * s_then * max(1 - kept**2, 0.0) ** 0.5
    moved: Tensor = a_then * x0 + max(s_then**2 - drawn**2, 0.0) ** 0.5 * noise
    if drawn and generator is not None:
        fresh = torch.randn(x0.shape, generator=generator, device=generator.device, dtype=x0.dtype)
        moved = moved + drawn * fresh.to(x0.device)
    return moved


def _move_second_order(
    process: Process,
    x: Tensor,
    x0: Tensor,
    now: float,
    then: float,
    previous: tuple[Tensor, float] | None,
) -> Tensor:
    """DPM-Solver++ 2M, written without the logarithms that are infinite at both ends.

    There it is of the first order, as at the first and last step in the publication.
    """
    (a, s), (a_then, s_then) = process.scales(now), process.scales(then)
    estimate = x0
    if previous is not None and then > 0:
        before, at = previous
        ratio = _log_ratio(process, at, now) / _log_ratio(process, now, then)
        estimate = x0 + (x0 - before) / (2 * ratio)
    return s_then / s * x + (a_then - s_then * a / s) * estimate


def _log_ratio(process: Process, now: float, then: float) -> float:
    """How much the logarithm of sample over noise grows between two times."""
    (a, s), (a_then, s_then) = process.scales(now), process.scales(then)
    return math.inf if a == 0 else math.log(a_then / s_then) - math.log(a / s)


def _start(process: Process, noise: Tensor, start_from: Tensor | None, start_time: float) -> Tensor:
    if start_from is None:
        if start_time != 1.0:
            raise InvalidInputError(
                "A sampler that starts late needs something to start from",
                why=f"it starts at {start_time:g}",
                remedy="give the sample that is noised to that time, or start at 1",
            )
        return noise
    if start_from.shape != noise.shape:
        raise InvalidInputError(
            "The sample to start from does not fit the noise",
            why=f"their shapes are {tuple(start_from.shape)} and {tuple(noise.shape)}",
        )
    return process.add_noise(start_from, noise, process.times(1, start_time)[0])


def _method(method: str, process: Process, steps: int) -> str:
    known = samplers_for(process)
    if method == "auto":
        if isinstance(process, GaussianDiffusion):
            return "ddpm" if steps == process.timesteps else "dpm++"
        return known[0]
    if method not in known:
        raise InvalidInputError(
            f"There is no sampler called {method!r} for this model",
            remedy=f"choose one of auto, {', '.join(known)}",
        )
    return method


def _eta(eta: float | None, method: str) -> float:
    if eta is None:
        return float(method in _ALWAYS_RANDOM)
    if not 0 <= eta <= 1 or (eta and method in ("heun", "dpm++")):
        raise InvalidInputError(
            f"The sampler {method!r} cannot draw {eta:g} of its noise anew",
            remedy="give 0" if method in ("heun", "dpm++") else "give a number from 0 to 1",
        )
    return float(eta)


def _previews(step: int, steps: int, every: int) -> bool:
    return step == steps or (every > 0 and step % every == 0)


def _require_same_run(state: SamplerState, method: str, steps: int) -> None:
    if state.steps != steps or state.method != method:
        raise InvalidInputError(
            "The sampler cannot go on from this state",
            why=f"it was made by {state.method!r} in {state.steps} steps, and asked for are "
            f"{method!r} in {steps}",
            remedy="give the same method and steps",
        )
