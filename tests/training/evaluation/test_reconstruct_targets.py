"""A target is met, missed or not measured, and the table says which."""

from __future__ import annotations

import pytest

from cxr3d_training.evaluation.reconstruct_targets import Named, targets
from napari_cxr3d.metrics import Metric, Report, Row

NAMES = Named("ours", "plain", "long", "coarse", "mean", "back", "ddpm", "samples")


def report(**methods: dict[str, float]) -> Report:
    rows = [
        Row(
            f"c{k}",
            f"p{k}",
            method,
            tuple(Metric(n, v + 0.01 * k * (n == "psnr3d"), n) for n, v in given.items()),
        )
        for method, given in methods.items()
        for k in range(4)
    ]
    return Report("Made up", rows, resamples=200)


def figures(psnr: float = 20.0, seconds: float = 2.0, at_input: float = 1.0) -> dict[str, float]:
    return {
        "psnr3d": psnr,
        "seconds": seconds,
        "evaluations": 8.0,
        "reprojection_input": at_input,
        "reprojection_held_out": at_input,
    }


MAIN = {
    "ours": figures(20.0, 2.0, 0.1),
    "plain": figures(19.5, 1.0, 4.0),
    "coarse": figures(21.0, 0.1),
    "mean": figures(18.0),
    "back": figures(17.0),
}


def judged(main: dict, **parts: Report) -> dict[str, bool | None]:
    found = targets(report(**main), parts, NAMES)
    assert len({t.claim for t in found}) == len(found) == 12
    return {t.claim: t.met for t in found}


def find(verdicts: dict[str, bool | None], words: str) -> bool | None:
    (claim,) = [claim for claim in verdicts if words in claim]
    return verdicts[claim]


def test_figures_on_the_right_side_are_met_and_on_the_wrong_side_missed() -> None:
    verdicts = judged(MAIN)
    assert find(verdicts, "first picture") is True
    assert find(verdicts, "re-projection error at the input") is True
    assert find(verdicts, "held-out") is True
    assert find(verdicts, "gained by consistency") is True
    assert find(verdicts, "above the mean") is True
    assert find(verdicts, "above back-projection") is False  # 3 dB of 4
    assert find(verdicts, "seconds of a volume") is True
    worse = judged({**MAIN, "ours": figures(19.0, 30.0, 1.0)})
    assert find(worse, "gained by consistency") is False
    assert find(worse, "above the mean") is False
    assert find(worse, "seconds of a volume") is False
    assert find(worse, "re-projection error at the input") is False  # 4 times of 20
    assert find(worse, "held-out") is True


def test_what_was_not_measured_is_never_met() -> None:
    verdicts = judged(MAIN)
    for words in ("network evaluations", "wall time", "longest sampling", "rank", "coverage"):
        assert find(verdicts, words) is None


@pytest.mark.parametrize(("gap", "met"), [(0.2, True), (0.4, False), (-1.0, True)])
def test_fewer_steps_may_lose_little(gap: float, met: bool) -> None:
    steps = report(ours=figures(20.0), long=figures(20.0 + gap))
    assert find(judged(MAIN, steps=steps), "longest sampling") is met


@pytest.mark.parametrize(
    ("rank", "coverage", "met"), [(0.5, 0.93, (True, True)), (0.3, 0.98, (False, False))]
)
def test_uncertainty_must_rank_and_cover(rank: float, coverage: float, met: tuple) -> None:
    rows = report(samples={"rank_correlation": rank, "coverage_calibrated": coverage})
    verdicts = judged(MAIN, uncertainty=rows)
    assert (find(verdicts, "rank"), find(verdicts, "coverage")) == met


def test_the_published_sampler_is_beaten_by_ratio() -> None:
    fast = report(ours=figures(seconds=1.0), ddpm={**figures(seconds=60.0), "evaluations": 1000.0})
    verdicts = judged(MAIN, peers=fast)
    assert find(verdicts, "network evaluations") is True
    assert find(verdicts, "wall time") is True
    slow = report(ours=figures(seconds=2.0), ddpm={**figures(seconds=60.0), "evaluations": 900.0})
    verdicts = judged(MAIN, peers=slow)
    assert find(verdicts, "network evaluations") is False
    assert find(verdicts, "wall time") is False
