"""Processes mix sample and noise as published, and take them apart again exactly."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler, RFlowScheduler

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.diffusion import GaussianDiffusion, Process, RectifiedFlow

PROCESSES = [
    RectifiedFlow(),
    GaussianDiffusion(objective="epsilon"),
    GaussianDiffusion(objective="x0", schedule="linear"),
    GaussianDiffusion(objective="v", schedule="scaled_linear"),
]


def _pair(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    x0, noise = torch.randn(2, 3, 2, 4, 4, 4, generator=random)
    return x0, noise


@pytest.mark.parametrize("process", PROCESSES)
def test_a_perfect_network_takes_sample_and_noise_apart(process: Process) -> None:
    x0, noise = _pair()
    assert isinstance(process, Process)
    for t in (0.95, 0.5, 0.01, torch.tensor([0.9, 0.4, 0.05])):
        x = process.add_noise(x0, noise, t)
        sample, rest = process.split(x, process.target(x0, noise, t), t)
        torch.testing.assert_close(sample, x0, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(rest, noise, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("process", PROCESSES)
def test_times_of_a_batch_act_sample_by_sample(process: Process) -> None:
    x0, noise = _pair()
    times = torch.tensor([0.25, 0.5, 0.875])
    together = process.add_noise(x0, noise, times)
    for n, t in enumerate(times.tolist()):
        a, s = process.scales(t)
        torch.testing.assert_close(together[n], a * x0[n] + s * noise[n])
        alone = process.add_noise(x0[n : n + 1], noise[n : n + 1], t)
        torch.testing.assert_close(together[n : n + 1], alone)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("steps", [1, 3, 8, 50, 999])
def test_times_fall_from_start_to_sample(process: Process, steps: int) -> None:
    for start in (1.0, 0.999):
        times = process.times(steps, start)
        assert (len(times), times[0], times[-1]) == (steps + 1, start, 0.0)
        assert all(a > b for a, b in pairwise(times))
        scales = [process.scales(t) for t in times]
        assert scales[-1] == (1.0, 0.0)
        assert len(set(scales)) == steps + 1


def test_a_diffusion_of_a_thousand_steps_visits_each_once() -> None:
    process = GaussianDiffusion(1000)
    visited = process.step(torch.tensor(process.times(1000)))
    assert visited.tolist() == list(range(1000, -1, -1))


def test_steps_of_evenly_drawn_times_are_drawn_evenly() -> None:
    process = GaussianDiffusion(10)
    steps = process.step(torch.linspace(0.0005, 1, 2000))
    assert torch.bincount(steps, minlength=11).tolist() == [0, *[200] * 10]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (GaussianDiffusion(1000, "cosine"), DDPMScheduler(1000, schedule="cosine")),
        (
            GaussianDiffusion(1000, "linear"),
            DDPMScheduler(1000, schedule="linear_beta", beta_start=1e-4, beta_end=0.02),
        ),
        (
            GaussianDiffusion(1000, "scaled_linear"),
            DDPMScheduler(1000, schedule="scaled_linear_beta", beta_start=85e-5, beta_end=0.012),
        ),
    ],
)
def test_schedules_are_those_of_monai(ours: GaussianDiffusion, theirs: DDPMScheduler) -> None:
    x0, noise = _pair()
    for k in (0, 17, 500, 998, 999):
        steps = torch.full((3,), k)
        expected = theirs.add_noise(x0, noise, steps)
        torch.testing.assert_close(
            ours.add_noise(x0, noise, (k + 1) / 1000), expected, atol=2e-4, rtol=2e-4
        )


def test_velocity_and_path_are_those_of_monai() -> None:
    x0, noise = _pair()
    theirs = RFlowScheduler(1000)
    t = torch.tensor([1.0, 0.5, 0.25])
    torch.testing.assert_close(
        RectifiedFlow().add_noise(x0, noise, t), theirs.add_noise(x0, noise, t * 1000)
    )
    torch.testing.assert_close(RectifiedFlow().target(x0, noise, 0.3), x0 - noise)


def test_a_shift_moves_steps_toward_the_noise_but_not_the_path() -> None:
    x0, noise = _pair()
    plain, shifted = RectifiedFlow(), RectifiedFlow(3.0)
    assert all(b > a for a, b in zip(plain.times(8)[1:-1], shifted.times(8)[1:-1], strict=True))
    assert shifted.times(2)[1] == pytest.approx(3 * 0.5 / (1 + 2 * 0.5))
    assert torch.equal(plain.add_noise(x0, noise, 0.3), shifted.add_noise(x0, noise, 0.3))


def test_a_clipped_sample_still_makes_up_the_state() -> None:
    process = GaussianDiffusion(clip=1.0)
    x0, noise = _pair()
    x = process.add_noise(3 * x0, noise, 0.6)
    sample, rest = process.split(x, noise, 0.6)
    assert sample.abs().max() == 1
    a, s = process.scales(0.6)
    torch.testing.assert_close(a * sample + s * rest, x)


def test_processes_can_be_made_where_tensors_have_no_values() -> None:
    with torch.device("meta"):
        process = GaussianDiffusion(1000)
    x0, noise = _pair()
    expected = GaussianDiffusion(1000).add_noise(x0, noise, 0.4)
    assert torch.equal(process.add_noise(x0, noise, 0.4), expected)


def test_half_precision_outputs_leave_the_state_in_single() -> None:
    x0, noise = _pair()
    for process in PROCESSES:
        x = process.add_noise(x0, noise, 0.5)
        sample, rest = process.split(x, process.target(x0, noise, 0.5).bfloat16(), 0.5)
        assert rest.shape == sample.shape
        torch.testing.assert_close(sample.float(), x0, atol=0.1, rtol=0.1)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: GaussianDiffusion(0),
        lambda: GaussianDiffusion(schedule="sine"),
        lambda: GaussianDiffusion(objective="score"),
        lambda: GaussianDiffusion(clip=0.0),
        lambda: GaussianDiffusion(largest_beta=1.0),
        lambda: GaussianDiffusion(100).times(101),
        lambda: GaussianDiffusion(100).times(60, 0.5),
        lambda: RectifiedFlow(0.0),
        lambda: RectifiedFlow().times(0),
        lambda: RectifiedFlow().times(4, 1.5),
    ],
)
def test_settings_that_cannot_be_used_are_refused(wrong) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidInputError):
        wrong()
