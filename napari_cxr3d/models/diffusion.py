"""How noise enters a sample, and what a network's output says about both: the forward processes.

Time runs from 1, noise, to 0, the sample. At every time the state is ``x = a x0 + s noise`` with
the scales ``(a, s)`` of the process. A sampler (`napari_cxr3d.inference.sampler`) asks a process
for its times and scales, and to split a state into sample and noise by the network's output;
that is all it has to know.
"""

from __future__ import annotations

import math
from typing import Literal, Protocol, cast, get_args, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_cxr3d.errors import InvalidInputError

__all__ = ["GaussianDiffusion", "Objective", "Process", "RectifiedFlow", "Schedule"]

Objective = Literal["epsilon", "x0", "v"]
Schedule = Literal["cosine", "linear", "scaled_linear"]

_ROUNDING = 1e-3  # of a step: what a time in single precision may lie above its step


@runtime_checkable
class Process(Protocol):
    """What noise does to a sample, and how a network's output undoes it."""

    def times(self, steps: int, start: float = 1.0) -> list[float]:
        """Falling times from `start` to 0, one more than `steps`.

        Parameters
        ----------
        steps : int
            How many moves the sampler makes.
        start : float
            Above 0, at most 1.

        Raises
        ------
        InvalidInputError
            If the process has no such number of steps.
        """
        ...

    def scales(self, t: float) -> tuple[float, float]:
        """Scales of sample and noise at a time."""
        ...

    def add_noise(self, x0: Tensor, noise: Tensor, t: float | Tensor) -> Tensor:
        """The state at a time.

        Parameters
        ----------
        x0, noise : Tensor, shape (B, ...)
            A sample, and standard normal noise.
        t : float or Tensor, shape (B,)
            The time, or one for each sample.
        """
        ...

    def target(self, x0: Tensor, noise: Tensor, t: float | Tensor) -> Tensor:
        """What the network should put out at the state of `add_noise`."""
        ...

    def split(self, x: Tensor, output: Tensor, t: float | Tensor) -> tuple[Tensor, Tensor]:
        """Sample and noise of a state, by the network's output.

        Parameters
        ----------
        x, output : Tensor, shape (B, ...)
            The state, and what the network makes of it.
        t : float or Tensor, shape (B,)
            The time, or one for each sample; above 0.

        Returns
        -------
        x0, noise : Tensor, shape (B, ...)
            Their sum with the scales of the time is `x`.
        """
        ...


class RectifiedFlow:
    """The straight path between noise and sample: ``x = (1 - t) x0 + t noise``.

    The network's output is the velocity ``v = x0 - noise`` toward the sample (Liu et al., ICLR
    2023, arXiv 2209.03003), with the sign of MONAI's ``RFlowScheduler``.

    Parameters
    ----------
    shift : float
        How the sampler's steps are shared out: above 1 more of them lie near the noise, at
        ``shift u / (1 + (shift - 1) u)`` for evenly spread u (Esser et al., ICML 2024, arXiv
        2403.03206, eq. 23). The path itself does not change.

    Raises
    ------
    InvalidInputError
        If the shift is not positive.
    """

    def __init__(self, shift: float = 1.0) -> None:
        if not 0 < shift < math.inf:
            raise InvalidInputError("The shift of a flow's times must be positive", why=f"{shift}")
        self.shift = float(shift)

    def times(self, steps: int, start: float = 1.0) -> list[float]:
        """Falling times; see `Process.times`."""
        n, start = _require_steps(steps), _require_start(start)
        even = [start * (1 - k / n) for k in range(n)]
        return [self.shift * u / (1 + (self.shift - 1) * u) for u in even] + [0.0]

    def scales(self, t: float) -> tuple[float, float]:
        """``(1 - t, t)``."""
        return 1.0 - t, t

    def add_noise(self, x0: Tensor, noise: Tensor, t: float | Tensor) -> Tensor:
        """The state on the path; see `Process.add_noise`."""
        t = _spread_out(t, x0)
        return (1 - t) * x0 + t * noise

    def target(self, x0: Tensor, noise: Tensor, t: float | Tensor) -> Tensor:
        """The velocity, the same at all times."""
        return x0 - noise

    def split(self, x: Tensor, output: Tensor, t: float | Tensor) -> tuple[Tensor, Tensor]:
        """``x + t v`` and ``x - (1 - t) v``; see `Process.split`."""
        t = _spread_out(t, x)
        return x + t * output, x - (1 - t) * output


class GaussianDiffusion:
    """Denoising diffusion in discrete steps (Ho et al., NeurIPS 2020, arXiv 2006.11239).

    ``x = sqrt(abar_k) x0 + sqrt(1 - abar_k) noise`` at step k, where abar is the product of
    ``1 - beta``. Step k of `timesteps` lies at time ``k / timesteps``; step 0 is the sample.

    Parameters
    ----------
    timesteps : int
        Steps of the training, 1000 in the publications.
    schedule : {"cosine", "linear", "scaled_linear"}
        Of beta: ``cosine`` by Nichol and Dhariwal (ICML 2021, arXiv 2102.09672, s = 0.008),
        ``linear`` from 1e-4 to 0.02 by Ho et al., ``scaled_linear`` with its square root linear,
        from 0.00085 to 0.012 as in Stable Diffusion.
    objective : {"epsilon", "x0", "v"}
        What the network puts out: the noise, the sample, or ``sqrt(abar) noise -
        sqrt(1 - abar) x0`` (Salimans and Ho, ICLR 2022, arXiv 2202.00512).
    clip : float, optional
        Largest magnitude of the estimated sample, 1 in pixel-space publications. The noise is
        then the one that belongs to the clipped sample.
    largest_beta : float
        End of the cosine schedule: 0.999 by Nichol and Dhariwal, 0.9999 in the code that
        X-ray2CTPA was made with.

    Raises
    ------
    InvalidInputError
        If a setting cannot be used.
    """

    def __init__(
        self,
        timesteps: int = 1000,
        schedule: str = "cosine",
        objective: str = "epsilon",
        clip: float | None = None,
        largest_beta: float = 0.999,
    ) -> None:
        self.timesteps = _require_steps(timesteps)
        self.objective = cast(Objective, _one_of("objective", objective, get_args(Objective)))
        self.schedule = cast(Schedule, _one_of("schedule", schedule, get_args(Schedule)))
        if clip is not None and not 0 < clip < math.inf:
            raise InvalidInputError("The clip of a diffusion must be positive", why=f"it is {clip}")
        if not 0 < largest_beta < 1:
            raise InvalidInputError("The largest beta must lie between 0 and 1")
        self.clip = None if clip is None else float(clip)
        self.largest_beta = float(largest_beta)
        kept = np.cumprod(1 - _betas(self.schedule, self.timesteps, self.largest_beta))
        kept = np.concatenate([[1.0], kept])
        # NumPy: a network's constructor may run where torch makes tensors without values
        self._signal, self._noise = np.sqrt(kept), np.sqrt(1 - kept)

    def times(self, steps: int, start: float = 1.0) -> list[float]:
        """Times of evenly spread steps; `timesteps` of them are the published sampler's."""
        n, there = _require_steps(steps), round(_require_start(start) * self.timesteps)
        if n > there:
            raise InvalidInputError(
                f"The model cannot be sampled in {n} steps",
                why=f"it was trained with {self.timesteps}, of which {there} are left to undo",
                remedy=f"choose at most {there}" if there else "start nearer to the noise",
            )
        return [round(there * (1 - k / n)) / self.timesteps for k in range(n + 1)]

    def step(self, t: Tensor) -> Tensor:
        """The steps of times, int64 from 0, the sample, to `timesteps`, noise.

        A time between two steps counts as the noisier one, so that times drawn evenly from
        (0, 1] are steps drawn evenly. Publications number the steps from 0: one less.
        """
        steps = torch.ceil(t.float() * self.timesteps - _ROUNDING)
        return steps.long().clamp(0, self.timesteps)

    def scales(self, t: float) -> tuple[float, float]:
        """``sqrt(abar)`` and ``sqrt(1 - abar)``."""
        k = min(max(math.ceil(t * self.timesteps - _ROUNDING), 0), self.timesteps)
        return float(self._signal[k]), float(self._noise[k])

    def add_noise(self, x0: Tensor, noise: Tensor, t: float | Tensor) -> Tensor:
        """The noised sample; see `Process.add_noise`."""
        a, s = self._scales(t, x0)
        return a * x0 + s * noise

    def target(self, x0: Tensor, noise: Tensor, t: float | Tensor) -> Tensor:
        """Noise, sample or v, as `objective` says."""
        if self.objective == "epsilon":
            return noise
        if self.objective == "x0":
            return x0
        a, s = self._scales(t, x0)
        return a * noise - s * x0

    def split(self, x: Tensor, output: Tensor, t: float | Tensor) -> tuple[Tensor, Tensor]:
        """Sample, clipped if so set, and noise; see `Process.split`."""
        a, s = self._scales(t, x)
        if self.objective == "epsilon":
            x0, noise = (x - s * output) / a, output
        elif self.objective == "x0":
            x0, noise = output, (x - a * output) / s
        else:
            x0, noise = a * x - s * output, s * x + a * output
        if self.clip is None:
            return x0, noise
        x0 = x0.clamp(-self.clip, self.clip)
        return x0, (x - a * x0) / s

    def _scales(self, t: float | Tensor, like: Tensor) -> tuple[float | Tensor, float | Tensor]:
        if not isinstance(t, Tensor):
            return self.scales(t)
        k = self.step(t).to(like.device)
        signal, noise = (
            torch.as_tensor(table, dtype=torch.float32, device=like.device)[k]
            for table in (self._signal, self._noise)
        )
        return _spread_out(signal, like), _spread_out(noise, like)


def _betas(schedule: Schedule, steps: int, largest: float) -> npt.NDArray[np.float64]:
    """Variance that each step adds, shape (steps,)."""
    if schedule == "linear":
        return np.linspace(1e-4, 0.02, steps)
    if schedule == "scaled_linear":
        return np.square(np.linspace(math.sqrt(0.00085), math.sqrt(0.012), steps))
    s = 0.008
    kept = np.square(np.cos((np.arange(steps + 1) / steps + s) / (1 + s) * np.pi / 2))
    return np.minimum(1 - kept[1:] / kept[:-1], largest)


def _spread_out(t: float | Tensor, like: Tensor) -> float | Tensor:
    """Numbers of a batch so that they multiply its samples."""
    if not isinstance(t, Tensor) or t.ndim == 0:
        return t
    return t.to(like.device).reshape(-1, *([1] * (like.ndim - 1)))


def _require_steps(steps: int) -> int:
    if int(steps) != steps or steps < 1:
        raise InvalidInputError(
            "The number of steps must be a whole number of 1 or more", why=f"it is {steps}"
        )
    return int(steps)


def _require_start(start: float) -> float:
    if not 0 < start <= 1:
        raise InvalidInputError(
            "A sampler starts at a time above 0 and at most 1", why=f"it is {start:g}"
        )
    return float(start)


def _one_of(name: str, given: str, known: tuple[str, ...]) -> str:
    if given not in known:
        raise InvalidInputError(
            f"There is no {name} of a diffusion called {given!r}",
            remedy=f"choose one of {', '.join(known)}",
        )
    return given
