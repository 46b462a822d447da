"""What was aimed at, compared with what was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cxr3d_training.evaluation.reconstruct_report import Target
from napari_cxr3d.metrics import Report
from napari_cxr3d.metrics.intervals import Interval

__all__ = ["Named", "targets"]

_ANCESTRAL_STEPS = 1000


@dataclass(frozen=True)
class Named:
    """Under which names the compared methods stand in the tables.

    Attributes
    ----------
    consistent, plain : str
        The default number of steps from one view, with and without the data step.
    longest : str
        The most steps, with the data step.
    coarse, mean_volume, back_projection : str
        What it is compared with.
    ancestral : str
        X-ray2CTPA's network by its published sampler.
    samples : str
        The mean of several draws.
    """

    consistent: str
    plain: str
    longest: str
    coarse: str
    mean_volume: str
    back_projection: str
    ancestral: str
    samples: str


def targets(main: Report, parts: Mapping[str, Report], names: Named) -> tuple[Target, ...]:
    """Every target with its figure.

    Differences in dB are means over patients of the paired differences, with their bootstrap
    interval; ratios are ratios of the means over patients. A target is met where the figure
    itself reaches it, whatever its interval.

    Parameters
    ----------
    main : Report
        On all cases.
    parts : mapping of str to Report
        ``steps``, ``peers``, ``uncertainty``: those that were measured.
    names : Named
        Where to look.
    """
    ours = names.consistent
    steps, peers, spread = (parts.get(name) for name in ("steps", "peers", "uncertainty"))
    return (
        _ratio(
            f"network evaluations, {_ANCESTRAL_STEPS} DDPM steps over ours", 125.0,
            peers, names.ancestral, ours, "evaluations",
        ),
        _ratio(
            f"wall time, {_ANCESTRAL_STEPS} DDPM steps over ours, same device", 50.0,
            peers, names.ancestral, ours, "seconds",
        ),
        _gap("PSNR3D lost to our own longest sampling", 0.3, steps, names.longest, ours),
        _ratio(
            "whole time over the time of the first picture", 10.0,
            main, ours, names.coarse, "seconds",
        ),
        _ratio(
            "re-projection error at the input, without consistency over with it", 20.0,
            main, names.plain, ours, "reprojection_input",
        ),
        _ratio(
            "re-projection error at held-out poses, without consistency over with it", 1.0,
            main, names.plain, ours, "reprojection_held_out",
        ),
        _gain("PSNR3D gained by consistency", 0.0, main, ours, names.plain),
        _gain("PSNR3D above back-projection", 4.0, main, ours, names.back_projection),
        _gain("PSNR3D above the mean training volume", 1.5, main, ours, names.mean_volume),
        _level(
            "rank correlation of uncertainty and error", ">= 0.4", lambda v: v >= 0.4,
            spread, names.samples, "rank_correlation",
        ),
        _level(
            "coverage of 2 standard deviations after calibration", "0.90 to 0.97",
            lambda v: 0.9 <= v <= 0.97, spread, names.samples, "coverage_calibrated",
        ),
        _level(
            "seconds of a volume, on the device of this report", "<= 10", lambda v: v <= 10,
            main, ours, "seconds",
        ),
    )  # fmt: skip


def _has(report: Report | None, *methods: str, metric: str) -> bool:
    return (
        report is not None
        and metric in report.conventions
        and all(method in report.methods for method in methods)
    )


def _ratio(
    claim: str, wanted: float, report: Report | None, upper: str, lower: str, metric: str
) -> Target:
    told = f">= {wanted:g} times" if wanted > 1 else "> 1 times"
    if not _has(report, upper, lower, metric=metric):
        return Target(claim, told)
    assert report is not None
    top, bottom = (report.intervals[method][metric].mean for method in (upper, lower))
    if bottom <= 0:
        return Target(claim, told)
    value = top / bottom
    met = value >= wanted if wanted > 1 else value > 1
    return Target(claim, told, f"{value:.4g} times ({top:.4g} / {bottom:.4g})", met)


def _gain(claim: str, wanted: float, report: Report | None, method: str, other: str) -> Target:
    told = f">= {wanted:g} dB"
    if not _has(report, method, other, metric="psnr3d"):
        return Target(claim, told)
    assert report is not None
    difference = report.difference(method, other, "psnr3d")
    return Target(claim, told, f"{_interval(difference)} dB", difference.mean >= wanted)


def _gap(claim: str, wanted: float, report: Report | None, method: str, other: str) -> Target:
    told = f"<= {wanted:g} dB"
    if not _has(report, method, other, metric="psnr3d"):
        return Target(claim, told)
    assert report is not None
    difference = report.difference(method, other, "psnr3d")
    return Target(claim, told, f"{_interval(difference)} dB", difference.mean <= wanted)


def _level(
    claim: str,
    told: str,
    reached: Callable[[float], bool],
    report: Report | None,
    method: str,
    metric: str,
) -> Target:
    if not _has(report, method, metric=metric):
        return Target(claim, told)
    assert report is not None
    interval = report.intervals[method][metric]
    return Target(claim, told, _interval(interval), reached(interval.mean))


def _interval(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return f"{interval.mean:.3g}"
    return f"{interval.mean:.3g} [{interval.low:.3g}, {interval.high:.3g}]"
