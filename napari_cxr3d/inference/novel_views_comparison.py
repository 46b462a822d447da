"""Predicted views beside the true projections of a CT, where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Volume, XrayView
from napari_cxr3d.progress import CancelToken, Progress, ProgressCallback, part_of

if TYPE_CHECKING:
    from torch import Tensor

    from napari_cxr3d.inference.novel_views_types import NovelViewsResult
    from napari_cxr3d.inference.world_models import LoadedWorldModel
    from napari_cxr3d.models.orbit_model import OrbitModel

__all__ = ["VIEW_RANGE", "ViewComparison", "compare_views", "true_views"]

FloatImages = npt.NDArray[np.float32]

VIEW_RANGE = 8.0
"""Data range of PSNR and SSIM: line integrals from air to behind a thick chest."""

_SSIM_SIZE, _SSIM_SIGMA = 11, 1.5
_AT_ONCE = 8


@dataclass(frozen=True, eq=False)
class ViewComparison:
    """How near predicted views come to a CT's own projections.

    Attributes
    ----------
    views : tuple of XrayView
        Where from, in the frame of the CT.
    yaws : tuple of float
        Degrees from the given X-ray.
    truth : ndarray of float32, shape (K, rows, cols)
        Line integrals of the CT.
    difference : ndarray of float32, shape (K, rows, cols)
        Predicted less true.
    psnr : ndarray of float32, shape (K,)
        In dB, data range 8.
    ssim : ndarray of float32, shape (K,)
        With MONAI's Gaussian of 11 pixels and sigma 1.5, data range 8; NaN on smaller detectors.
    latent_error : ndarray of float32, shape (K,)
        1 - cosine of predicted tokens with those of the true projections by the model's target
        encoder, the mean over the patches; NaN where no model was given.
    copy_error : ndarray of float32, shape (K,)
        The same of the given X-ray's own tokens, unturned: what a prediction has to beat.
    notes : tuple of str
        What was assumed, one sentence each.
    """

    views: tuple[XrayView, ...]
    yaws: tuple[float, ...]
    truth: FloatImages
    difference: FloatImages
    psnr: FloatImages
    ssim: FloatImages
    latent_error: FloatImages
    copy_error: FloatImages
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The figures without the pictures, JSON-serialisable; None for what is not known."""
        figures: dict[str, Any] = {
            name: [_figure(v) for v in getattr(self, name)]
            for name in ("psnr", "ssim", "latent_error", "copy_error")
        }
        return {
            "conventions": {
                "psnr": f"dB of line integrals, data range {VIEW_RANGE:g}, whole detector",
                "ssim": f"Gaussian of {_SSIM_SIZE} pixels, sigma {_SSIM_SIGMA:g}, data range "
                f"{VIEW_RANGE:g}",
                "latent_error": "1 - cosine of patch tokens with those of the true projection",
                "copy_error": "latent_error of the given X-ray itself, unturned",
            },
            "yaws": list(self.yaws),
            **figures,
            "notes": list(self.notes),
        }


def true_views(
    result_views: Sequence[XrayView],
    volume: Volume,
    center_lps: tuple[float, float, float] | None,
) -> tuple[tuple[XrayView, ...], tuple[str, ...]]:
    """Views about LPS (0, 0, 0) in the frame of a CT, and what had to be assumed.

    Parameters
    ----------
    result_views : sequence of XrayView
        With isocenters.
    volume : Volume
        The CT.
    center_lps : tuple of 3 float or None
        Where their (0, 0, 0) lies in the CT's frame; the middle of the CT if None.
    """
    notes: tuple[str, ...] = ()
    if center_lps is None:
        center_lps = volume.grid.center_lps
        notes = (
            "The X-ray was not projected from this CT: they were laid on each other by their "
            "middles, and differences of posture, breath and exposure count as errors.",
        )
    moved = []
    for view in result_views:
        assert view.isocenter_lps is not None  # written out by the preparation
        x, y, z = (a + b for a, b in zip(view.isocenter_lps, center_lps, strict=True))
        moved.append(replace(view, isocenter_lps=(x, y, z)))
    return tuple(moved), notes


def compare_views(
    result: NovelViewsResult,
    volume: Volume,
    *,
    loaded: LoadedWorldModel | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> ViewComparison:
    """Project a CT from where views were predicted, and compare.

    Parameters
    ----------
    result : NovelViewsResult
        Predicted views.
    volume : Volume
        The CT that the X-ray was projected from, or of the same patient.
    loaded : LoadedWorldModel, optional
        The model that predicted them: for errors of its tokens.
    progress : callable, optional
        Told how far the work is.
    cancel : CancelToken, optional
        Looked at between views.

    Raises
    ------
    InvalidInputError
        If another model is given than the one that predicted.
    Cancelled
        If the token was cancelled.
    """
    from napari_cxr3d.xray.projector import projector

    if loaded is not None and loaded.sha256 != result.provenance.weights_sha256:
        raise InvalidInputError(
            "These views were predicted by another model",
            why=f"{loaded.name} has other weights",
            remedy="compare with the model that predicted them",
        )
    views, notes = true_views(result.views, volume, result.picture.center_lps)
    truth = projector("cpu").project(
        volume, views, progress=part_of(progress, 0.0, 0.6), cancel=cancel
    )
    difference = result.integrals - truth
    square = np.square(difference, dtype=np.float64).mean((1, 2))
    psnr = 10 * np.log10(VIEW_RANGE**2 / np.maximum(square, 1e-12))
    unknown = np.full(len(views), np.nan, np.float32)
    latent, copied = unknown, unknown
    if loaded is not None:
        latent, copied = _latent_errors(
            loaded.model, result, truth, part_of(progress, 0.6, 0.9), cancel
        )
    return ViewComparison(
        views, result.yaws, truth, difference, psnr.astype(np.float32),
        _ssim(result.integrals, truth), latent, copied, notes,
    )  # fmt: skip


def _latent_errors(
    model: OrbitModel,
    result: NovelViewsResult,
    truth: FloatImages,
    progress: ProgressCallback | None,
    cancel: CancelToken | None,
) -> tuple[FloatImages, FloatImages]:
    import torch

    device = next(model.parameters()).device
    latent, copied = [], []
    with torch.inference_mode():
        own = model.target(torch.from_numpy(result.picture.pixels.copy())[None].to(device))
        for start in range(0, len(truth), _AT_ONCE):
            if cancel is not None:
                cancel.raise_if_cancelled()
            part = slice(start, start + _AT_ONCE)
            target = model.target(torch.from_numpy(truth[part]).to(device)).float()
            latent.append(_distance(torch.from_numpy(result.latents[part]).to(device), target))
            copied.append(_distance(own.float().expand_as(target), target))
            if progress is not None:
                progress(Progress(min(start + _AT_ONCE, len(truth)), len(truth), "comparing"))
    return np.concatenate(latent), np.concatenate(copied)


def _distance(estimate: Tensor, target: Tensor) -> FloatImages:
    """1 - cosine of tokens (K, N, D), the mean over N."""
    from torch.nn.functional import cosine_similarity

    near = cosine_similarity(estimate, target, dim=-1).mean(-1)
    distance: FloatImages = (1 - near).cpu().numpy()
    return distance


def _ssim(estimate: FloatImages, truth: FloatImages) -> FloatImages:
    import torch
    from monai.metrics.regression import compute_ssim_and_cs

    if min(truth.shape[1:]) < _SSIM_SIZE:
        return np.full(len(truth), np.nan, np.float32)
    found = []
    with torch.inference_mode():
        for start in range(0, len(truth), _AT_ONCE):
            a, b = (
                torch.from_numpy(v[start : start + _AT_ONCE])[:, None] for v in (estimate, truth)
            )
            similarity, _ = compute_ssim_and_cs(
                a, b, spatial_dims=2, kernel_size=(_SSIM_SIZE,) * 2,
                kernel_sigma=(_SSIM_SIGMA,) * 2, data_range=VIEW_RANGE,
            )  # fmt: skip
            found.append(similarity.mean((1, 2, 3)).numpy())
    return np.asarray(np.concatenate(found), np.float32)


def _figure(value: float) -> float | None:
    return round(float(value), 5) if np.isfinite(value) else None
