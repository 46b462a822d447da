"""Figures of one reconstruction against its truth, each with its convention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cxr3d_training.evaluation.reconstruct_methods import Estimate
from cxr3d_training.evaluation.reconstruct_scenes import HELD_OUT, Scene
from cxr3d_training.losses.features import RandomFeatures, feature_distance
from napari_cxr3d.imaging import XrayView
from napari_cxr3d.metrics import Metric, mae_hu, psnr3d, slice_psnr, ssim3d
from napari_cxr3d.metrics.feature_distances import SELF
from napari_cxr3d.metrics.image_quality import SSIM_SIZE
from napari_cxr3d.metrics.projection import reprojection_error
from napari_cxr3d.metrics.segmentation import lung_dice
from napari_cxr3d.metrics.uncertainty import coverage, crps, rank_correlation
from napari_cxr3d.models.hu_window import HuWindow

__all__ = ["UNCERTAINTY", "figures", "spread_of", "uncertainty_figures"]

UNCERTAINTY = ("rank_correlation", "coverage", "coverage_calibrated", "crps", "spread")
"""The names of what `uncertainty_figures` measures."""

_SIGMAS = 2.0
_SEED = 0  # of the frozen encoder of `SELF`


def figures(
    estimate: Estimate,
    scene: Scene,
    window: HuWindow,
    given: Sequence[XrayView],
    device: str = "cpu",
) -> tuple[Metric, ...]:
    """All figures of a volume but those of its uncertainty.

    Parameters
    ----------
    estimate : Estimate
        What a method made of the scene.
    scene : Scene
        The truth.
    window : HuWindow
        HU within which errors are counted; its width is the data range.
    given : sequence of XrayView
        The poses of the X-rays that the method was shown, of one detector shape.
    device : str
        Where SSIM is computed.
    """
    hu, truth, body = estimate.hu, scene.truth.hu, scene.body
    near = _about(body)
    volume = scene.truth.with_hu(hu, synthetic=True)
    shown = scene.stage.renderer
    at_input = reprojection_error(
        shown.render(volume, given).integrals, shown.render(scene.truth, given).integrals
    )
    held_out = reprojection_error(
        shown.render(volume, scene.stage.held_out).integrals, scene.held_out
    )
    poses = ", ".join(f"yaw {yaw:g} pitch {pitch:g}" for yaw, pitch in HELD_OUT)
    return (
        psnr3d(hu, truth, window.limits, mask=body),
        ssim3d(hu[near], truth[near], window.limits, mask=body[near], device=device),
        mae_hu(hu, truth, window.limits, mask=body),
        lung_dice(volume, scene.truth, lungs=scene.lungs),
        replace(
            at_input,
            name="reprojection_input",
            convention=f"{at_input.convention}, at the poses of the X-rays that were given",
        ),
        replace(
            held_out,
            name="reprojection_held_out",
            convention=f"{held_out.convention}, at poses that no method is shown: {poses}",
        ),
        slice_psnr(hu, truth, window.limits),
        _self_feature(hu[near], truth[near], window),
        Metric(
            "seconds",
            estimate.seconds,
            "wall time from the X-rays to the volume, a batch's time over its volumes",
            "s",
            higher_is_better=False,
        ),
        Metric(
            "evaluations",
            float(estimate.evaluations),
            "evaluations of the denoising network for one volume; the single pass that looks at "
            "the X-rays is not counted",
            higher_is_better=False,
        ),
    )


def uncertainty_figures(
    estimate: Estimate, scene: Scene, window: HuWindow, scale: float | None
) -> tuple[Metric, ...]:
    """How honest the spread of the samples is, in the body.

    Parameters
    ----------
    estimate : Estimate
        With samples.
    scene : Scene
        The truth.
    window : HuWindow
        To which samples and truth are clipped.
    scale : float or None
        From `napari_cxr3d.metrics.uncertainty.fit_scale` on other patients; where there is none,
        the calibrated coverage is that of the samples as drawn.
    """
    samples, mean, spread, truth = spread_of(estimate, scene, window)
    body = scene.body
    calibrated = coverage(mean, spread, truth, mask=body, scale=scale or 1.0, sigmas=_SIGMAS)
    return (
        rank_correlation(spread, mean - truth, mask=body),
        coverage(mean, spread, truth, mask=body, sigmas=_SIGMAS),
        replace(calibrated, name="coverage_calibrated"),
        crps(samples, truth, mask=body),
        Metric(
            "spread",
            float(spread[body].mean()),
            "mean of the samples' standard deviation, voxels of the mask",
            "HU",
        ),
    )


def spread_of(
    estimate: Estimate, scene: Scene, window: HuWindow
) -> tuple[npt.NDArray[np.float32], ...]:
    """Samples, their mean, their standard deviation (of N - 1), and the truth, in the window."""
    assert estimate.samples is not None  # only draws have a spread
    samples = estimate.samples.clip(*window.limits)
    truth = scene.truth.hu.astype(np.float32).clip(*window.limits)
    return samples, samples.mean(0), samples.std(0, ddof=1), truth


def _self_feature(hu: npt.NDArray[np.float32], truth: npt.NDArray[Any], window: HuWindow) -> Metric:
    a, b = (
        _features()(torch.from_numpy(np.array(window.encode(v), np.float32))[None, None])
        for v in (hu, truth)
    )
    return Metric(
        SELF,
        float(feature_distance(a, b)),
        f"distance in the form of LPIPS, but of a frozen encoder with random weights (seed "
        f"{_SEED}), which judges nothing as people do: neither LPIPS nor FVD, the box of the mask",
        higher_is_better=False,
    )


@cache
def _features() -> RandomFeatures:
    return RandomFeatures((16, 32, 64), seed=_SEED)


def _about(mask: npt.NDArray[np.bool_]) -> tuple[slice, ...]:
    """The mask's box with the reach of SSIM's window: the same figure from fewer voxels."""
    box = []
    for axis, n in enumerate(mask.shape):
        there = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        low, high = max(0, there[0] - SSIM_SIZE // 2), min(n, there[-1] + 1 + SSIM_SIZE // 2)
        box.append(slice(int(low), int(high)))
    return tuple(box)
