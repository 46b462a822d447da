"""What is written about a reconstruction: figures and assumptions for people and programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.imaging import XrayView
from napari_cxr3d.inference.reconstruct_types import ReconstructionResult

__all__ = ["reconstruction_report", "reprojection_pictures"]

NOTE = (
    "SYNTHETIC: drawn by a network from X-rays, not measured by a scanner. Most of its depth is "
    "what chests usually look like. Not for diagnosis."
)

_CARD = ("name", "version", "kind", "licence", "intended_use", "limits", "synthetic_training")
_ENLARGED = 4  # times: the detectors of models are small
_GAP = 8  # columns between the pictures, after enlarging
_WHITE_PERCENTILE = 99.5
_RESIDUAL_LIMIT = 0.25  # of the white of the pictures: residuals beyond are black or white


def reconstruction_report(result: ReconstructionResult) -> dict[str, Any]:
    """Everything that was assumed, found and measured; JSON-serialisable.

    Parameters
    ----------
    result : ReconstructionResult
        A finished one.
    """
    parameters = result.provenance.parameters
    first = result.volume
    report: dict[str, Any] = {
        "note": NOTE,
        "synthetic": True,
        "model": {key: result.card[key] for key in _CARD if key in result.card},
        "grid": {
            "shape": list(first.shape),
            "spacing_mm": list(first.spacing_mm),
            "origin_lps": list(first.origin_lps),
        },
        "inputs": {
            "findings": [finding.to_dict() for finding in result.findings],
            "assumptions": list(result.prepared.notes),
            "views": [view.to_dict() for view in result.prepared.views],
            "exact": list(result.prepared.exact),
            "calibrations": list(result.prepared.calibrations),
        },
        "samples": [
            {"seed": seed, "reprojection": _figures(reprojection)}
            for seed, reprojection in zip(result.seeds, result.reprojections, strict=True)
        ],
        "consistency": {
            "mode": parameters["consistency"],
            "records": [_figures(record) for record in result.consistency],
        },
        "timings_s": {name: round(seconds, 3) for name, seconds in result.timings.items()},
        "provenance": result.provenance.to_dict(),
    }
    if result.coarse_reprojection is not None:
        report["first_picture"] = {"reprojection": _figures(result.coarse_reprojection)}
    if result.std is not None and result.mean_reprojection is not None:
        report["mean"] = {"reprojection": _figures(result.mean_reprojection)}
        report["standard_deviation_hu"] = {
            "scale": parameters["deviation_scale"],
            "mean": round(float(result.std.hu.mean()), 2),
            "largest": round(float(result.std.hu.max()), 2),
        }
    return report


def _figures(record: Any) -> Any:
    """The numbers of a record, without its pictures."""
    figures: Mapping[str, Any] = record.to_dict()
    return dict(figures)


def reprojection_pictures(
    result: ReconstructionResult,
) -> tuple[npt.NDArray[np.float32], tuple[XrayView, ...]]:
    """Side by side for each view: what was measured, what the volume projects to, the residual.

    The first two share one grey scale, linear in the line integrals from 0 (black); integrals
    that were read from greys are shown on the scale that was fitted to the volume. The residual,
    re-projection less measurement, is mid-grey where both agree, black or white where they
    differ by a quarter of that scale, and black where a ray does not count.

    Parameters
    ----------
    result : ReconstructionResult
        The first sample is shown.

    Returns
    -------
    pictures : ndarray of float32, shape (V, 4 rows, 12 cols + 16)
        From 0 to 1.
    views : tuple of XrayView
        For each picture, with the enlarged pixels' pitch.
    """
    prepared, projected = result.prepared, result.reprojection
    pictures = []
    for index, scale in enumerate(projected.per_view):
        measured = scale.gain * prepared.integrals[index] + scale.offset
        valid, counted = prepared.valid[index], projected.counted[index]
        greys = measured[valid]
        white = max(float(np.percentile(greys, _WHITE_PERCENTILE)) if greys.size else 1.0, 1e-6)
        difference = 0.5 + projected.residual[index] / (2 * _RESIDUAL_LIMIT * white)
        shown = (
            (measured / white, valid),
            (projected.integrals[index] / white, valid),
            (difference, counted),
        )
        panels = [_enlarged(np.where(mask, np.clip(grey, 0, 1), 0)) for grey, mask in shown]
        gap = np.zeros((len(panels[0]), _GAP))
        pictures.append(np.concatenate([panels[0], gap, panels[1], gap, panels[2]], axis=1))
    stack = np.stack(pictures).astype(np.float32)
    shape = (int(stack.shape[1]), int(stack.shape[2]))
    views = tuple(
        replace(view, detector_shape=shape, pixel_mm=view.pixel_mm / _ENLARGED)
        for view in prepared.views
    )
    return stack, views


def _enlarged(picture: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Every pixel as a square, so that nothing looks finer than it is."""
    return np.kron(picture, np.ones((_ENLARGED, _ENLARGED)))
