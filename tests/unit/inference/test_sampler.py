"""The sampler makes the steps that were published, and can be watched, stopped and taken up."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler, RFlowScheduler

from napari_cxr3d.errors import Cancelled, InvalidInputError
from napari_cxr3d.inference.sampler import SamplerState, sample, samplers_for
from napari_cxr3d.models.diffusion import GaussianDiffusion, Process, RectifiedFlow
from napari_cxr3d.progress import CancelToken

MEAN, SD = 0.7, 0.4
FLOW, DIFFUSION = RectifiedFlow(), GaussianDiffusion(1000, "cosine")
METHODS = [(p, m) for p in (FLOW, DIFFUSION) for m in samplers_for(p)]


def _gaussian(process: Process, mean: float = MEAN, sd: float = SD) -> Callable[..., torch.Tensor]:
    """The best possible network where all samples are drawn from one Gaussian."""

    def predict(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        t = float(time[0])
        a, s = process.scales(t)
        x0 = mean + a * sd**2 / (a**2 * sd**2 + s**2) * (x - a * mean)
        noise = (x - a * x0) / s if s else torch.zeros_like(x)
        return process.target(x0, noise, t)

    return predict


def _noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _last(*args: Any, **settings: Any) -> SamplerState:
    *_, state = sample(*args, **settings)
    return state


def _curved(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
    """A network without any meaning, different at every time and place."""
    return torch.sin(3 * x) * (1 + time.reshape(-1, *[1] * (x.ndim - 1))) + 0.3 * x


def _error(process: Process, method: str, steps: int) -> float:
    """Distance from the ODE's end, which is known: the Gaussian's quantile of the noise."""
    noise = _noise(1, 64)
    state = _last(_gaussian(process), process, noise, steps=steps, method=method)
    a, s = process.scales(1.0)
    quantile = (noise - a * MEAN) / math.sqrt(a**2 * SD**2 + s**2)
    return float((state.x - (MEAN + SD * quantile)).abs().max())


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2), ("dpm++", 1.75)])
def test_flow_methods_reach_the_odes_end_in_their_order(method: str, order: float) -> None:
    """dpm++ comes near the second order late: it is of the first at both ends of the path."""
    errors = [_error(FLOW, method, n) for n in (32, 64, 128, 256)]
    assert errors[-1] < 0.01
    assert math.log2(errors[-2] / errors[-1]) == pytest.approx(order, abs=0.1)


def test_fast_diffusion_methods_reach_the_odes_end() -> None:
    errors = {n: _error(DIFFUSION, "dpm++", n) for n in (10, 20, 250)}
    assert errors[250] < errors[20] < errors[10] < 0.12
    assert errors[250] < 0.01
    assert errors[20] < _error(DIFFUSION, "ddim", 20)
    assert _error(DIFFUSION, "ddim", 500) < 0.01


@pytest.mark.parametrize(
    ("process", "method", "steps"),
    [(FLOW, "stochastic", 200), (DIFFUSION, "ddpm", 1000), (DIFFUSION, "ddpm", 200)],
)
def test_noise_drawn_anew_gives_the_right_distribution(
    process: Process, method: str, steps: int
) -> None:
    random = torch.Generator().manual_seed(3)
    state = _last(
        _gaussian(process), process, _noise(4000, 1),
        steps=steps, method=method, generator=random,
    )  # fmt: skip
    assert float(state.x.mean()) == pytest.approx(MEAN, abs=0.03)
    assert float(state.x.std()) == pytest.approx(SD, rel=0.06)


def test_euler_makes_monais_steps() -> None:
    steps, noise = 8, _noise(1, 2, 4, 4, 4).float()
    theirs, x = RFlowScheduler(1000), noise
    theirs.set_timesteps(steps)
    for state in sample(_curved, FLOW, noise, steps=steps, method="euler"):
        now = int(theirs.timesteps[state.step - 1])
        then = 0 if state.done else int(theirs.timesteps[state.step])
        x, x0 = theirs.step(_curved(x, torch.tensor([now / 1000])), now, x, then)
        torch.testing.assert_close(state.x, x, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(state.x0, x0, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("clip", [None, 1.0])
def test_ddpm_makes_monais_thousand_steps(clip: float | None) -> None:
    noise = _noise(1, 2, 3, 3, 3).float()
    ours = GaussianDiffusion(1000, "cosine", clip=clip)
    theirs, x = DDPMScheduler(1000, schedule="cosine", clip_sample=clip is not None), noise
    random, same = (torch.Generator().manual_seed(5) for _ in range(2))

    def network(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        return x * 0.9 + 0.05 * torch.sin(5 * x)

    for state in sample(network, ours, noise, steps=1000, method="auto", generator=random):
        k = 1000 - state.step
        x, _ = theirs.step(network(x, torch.tensor([0.0])), k, x, generator=same)
        if state.step in (1, 2, 500, 999, 1000):
            torch.testing.assert_close(state.x, x, atol=5e-3, rtol=5e-3)
        x = state.x  # each step from the same state: rounding does not pile up


@pytest.mark.parametrize("eta", [0.0, 0.6])
def test_ddim_makes_monais_steps(eta: float) -> None:
    steps, noise = 50, _noise(1, 2, 3, 3, 3).float()
    ours = GaussianDiffusion(1000, "linear")
    theirs, x = DDIMScheduler(1000, schedule="linear_beta", clip_sample=False, beta_end=0.02), noise
    theirs.set_timesteps(steps)
    random, same = (torch.Generator().manual_seed(5) for _ in range(2))
    states = sample(_curved, ours, noise, steps=steps, method="ddim", eta=eta, generator=random)
    for state in states:
        k = 1000 - 20 * (state.step - 1) - 1  # the steps of MONAI's formula; its own list is uneven
        output = _curved(x, torch.tensor([(k + 1) / 1000]))
        x, x0 = theirs.step(output, k, x, eta=eta, generator=same)
        torch.testing.assert_close(state.x, x, atol=2e-3, rtol=2e-3)
        torch.testing.assert_close(state.x0, x0, atol=2e-3, rtol=2e-3)
        x = state.x


@pytest.mark.parametrize(("process", "method"), METHODS)
def test_a_stopped_run_goes_on_to_the_same_bits(process: Process, method: str) -> None:
    def run(**settings: Any) -> list[SamplerState]:
        random = torch.Generator().manual_seed(11)
        settings |= {"steps": 7, "method": method, "generator": random}
        return list(sample(_curved, process, _noise(2, 8).float(), **settings))

    whole = run()
    for stop in (0, 3, 5):
        rest = run(resume=whole[stop])
        assert [s.step for s in rest] == list(range(stop + 2, 8))
        assert torch.equal(rest[-1].x, whole[-1].x)
        assert rest[-1].n_evaluations == whole[-1].n_evaluations


@pytest.mark.parametrize(("process", "method"), METHODS)
def test_states_say_how_far_the_run_is(process: Process, method: str) -> None:
    random = torch.Generator().manual_seed(1)
    states = list(sample(_curved, process, _noise(2, 8), steps=5, method=method, generator=random))
    assert [s.step for s in states] == [1, 2, 3, 4, 5]
    assert [s.time for s in states] == process.times(5)[1:]
    assert [s.done for s in states] == [False] * 4 + [True]
    expected = [2, 4, 6, 8, 9] if method == "heun" else [1, 2, 3, 4, 5]
    assert [s.n_evaluations for s in states] == expected
    assert {s.method for s in states} == {method}
    torch.testing.assert_close(states[-1].x, states[-1].x0)


def test_previews_come_at_their_turn_and_at_the_end() -> None:
    seen: list[torch.Tensor] = []

    def decode(x: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return 10 * x

    settings: dict[str, Any] = {"steps": 7, "decode": decode}
    for every, turns in ((3, [3, 6, 7]), (0, [7]), (1, [1, 2, 3, 4, 5, 6, 7])):
        states = list(sample(_curved, FLOW, _noise(1, 4), preview_every=every, **settings))
        assert [s.step for s in states if s.preview is not None] == turns
        assert states[-1].preview is not None
        assert torch.equal(states[-1].preview, 10 * states[-1].x)
        if every == 3:
            assert states[2].preview is not None
            assert torch.equal(states[2].preview, 10 * states[2].x0)


def test_cancelling_stops_before_the_next_evaluation() -> None:
    token, calls = CancelToken(), []

    def network(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        calls.append(float(time[0]))
        if len(calls) == 3:
            token.cancel()
        return x

    with pytest.raises(Cancelled):
        list(sample(network, FLOW, _noise(1, 4), steps=9, method="heun", cancel=token))
    assert len(calls) == 3  # in the middle of a step of two evaluations


@pytest.mark.parametrize("method", samplers_for(FLOW))
def test_a_projected_estimate_is_where_the_run_ends(method: str) -> None:
    told: list[tuple[float, int, int]] = []

    def project(x0: torch.Tensor, time: float, step: int, steps: int) -> torch.Tensor:
        told.append((time, step, steps))
        if step <= steps - 2:
            return x0
        held = x0.clone()
        held[:, :2] = 0.25
        return held

    random = torch.Generator().manual_seed(1)
    states = list(
        sample(
            _curved, FLOW, _noise(2, 6), steps=5, method=method, project=project, generator=random
        )
    )
    assert told == [(t, k + 1, 5) for k, t in enumerate(FLOW.times(5)[:-1])]
    assert torch.equal(states[-1].x[:, :2], torch.full((2, 2), 0.25, dtype=torch.float64))
    random = torch.Generator().manual_seed(1)
    free = list(sample(_curved, FLOW, _noise(2, 6), steps=5, method=method, generator=random))
    assert torch.equal(states[2].x, free[2].x)  # untouched until the hook acts
    assert not torch.equal(states[-2].x, free[-2].x)


def test_a_projected_state_keeps_its_place_between_sample_and_noise() -> None:
    """With a constant estimate the state must run straight from the noise to that estimate."""
    noise, aim = _noise(1, 8), torch.full((1, 8), 0.5, dtype=torch.float64)
    states = sample(_curved, FLOW, noise, steps=4, project=lambda *_: aim.clone())
    for state in states:
        torch.testing.assert_close(state.x, FLOW.add_noise(aim, noise, state.time))


def test_a_late_start_noises_what_it_starts_from() -> None:
    inputs: list[torch.Tensor] = []

    def network(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        inputs.append(x)
        return _curved(x, time)

    base, noise = _noise(2, 8, seed=4), _noise(2, 8)
    for process in (FLOW, DIFFUSION):
        inputs.clear()
        states = list(
            sample(
                network, process, noise, steps=4, method="dpm++", start_from=base, start_time=0.5
            )
        )
        torch.testing.assert_close(inputs[0], process.add_noise(base, noise, 0.5))
        assert len(states) == 4
        assert states[0].start_time == 0.5
        rest = list(sample(network, process, noise, steps=4, method="dpm++", resume=states[1]))
        assert torch.equal(rest[-1].x, states[-1].x)


def test_no_gradient_is_kept() -> None:
    weight = torch.ones(8, requires_grad=True)
    states = sample(lambda x, t: x * weight, FLOW, _noise(1, 8).float(), steps=2)
    assert not next(states).x.requires_grad
    assert (weight * 1).requires_grad  # between two steps, gradients are as before


def test_auto_is_the_published_sampler_in_its_own_steps_and_a_fast_one_in_fewer() -> None:
    def named(process: Process, steps: int) -> str:
        random = torch.Generator().manual_seed(0)
        return next(sample(_curved, process, _noise(1, 4), steps=steps, generator=random)).method

    assert (named(FLOW, 8), named(DIFFUSION, 1000), named(DIFFUSION, 20)) == (
        "euler", "ddpm", "dpm++",
    )  # fmt: skip


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "leapfrog"},
        {"method": "ddpm"},  # not of a flow
        {"method": "stochastic"},  # without a generator
        {"method": "heun", "eta": 0.5},
        {"eta": 1.5},
        {"steps": 0},
        {"start_time": 0.5},
        {"start_from": torch.zeros(1, 3)},
        {"preview_every": -1},
    ],
)
def test_what_cannot_be_done_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        list(sample(_curved, FLOW, _noise(1, 4), **{"steps": 4, **settings}))


def test_a_state_of_another_run_is_refused() -> None:
    state = next(sample(_curved, FLOW, _noise(1, 4), steps=4))
    for other in ({"steps": 5}, {"steps": 4, "method": "heun"}):
        with pytest.raises(InvalidInputError, match="go on"):
            list(sample(_curved, FLOW, _noise(1, 4), resume=state, **other))
