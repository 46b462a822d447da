"""What is written about predicted views: a sheet for people, figures for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.inference.novel_views import NovelViewsResult, ViewComparison
from napari_cxr3d.inference.orbit_volume import OrbitVolumeResult
from napari_cxr3d.io.synthetic_mark import burn_in

__all__ = ["contact_sheet", "novel_views_report", "orbit_volume_report", "sheet_views", "shown"]

NOTE = (
    "SYNTHETIC: predicted by a network from one X-ray, not measured by a detector. What the X-ray "
    "does not show is what chests usually look like. Not for diagnosis."
)

_CARD = ("name", "version", "kind", "licence", "intended_use", "limits", "synthetic_training")
_ENLARGED = 2  # times: the detectors of models are small
_COLUMNS = 13  # views on a sheet, at most
_GAP = 4
_DIFFERENCE = 0.25  # of the white of the views: differences beyond are black or white

Pictures = npt.NDArray[np.float32]


def novel_views_report(
    result: NovelViewsResult, comparison: ViewComparison | None = None
) -> dict[str, Any]:
    """Everything that was assumed, found and measured; JSON-serialisable.

    Parameters
    ----------
    result : NovelViewsResult
        Predicted views.
    comparison : ViewComparison, optional
        With the true projections.
    """
    confidence = [None if np.isnan(c) else round(float(c), 4) for c in result.confidence]
    report: dict[str, Any] = {
        "note": NOTE,
        "synthetic": True,
        "model": {key: result.card[key] for key in _CARD if key in result.card},
        "input": {
            "findings": [finding.to_dict() for finding in result.findings],
            "view": result.picture.view.to_dict(),
            "exact": result.picture.exact,
        },
        "notes": list(result.notes),
        "views": [
            {"yaw": yaw, "confidence": sure, "view": view.to_dict()}
            for yaw, sure, view in zip(result.yaws, confidence, result.views, strict=True)
        ],
        "timings_s": {name: round(seconds, 3) for name, seconds in result.timings.items()},
        "provenance": result.provenance.to_dict(),
    }
    if comparison is not None:
        report["comparison"] = comparison.to_dict()
    return report


def orbit_volume_report(result: OrbitVolumeResult) -> dict[str, Any]:
    """The same of a volume of predicted views.

    Parameters
    ----------
    result : OrbitVolumeResult
        A finished one.
    """
    return {
        "method": result.provenance.parameters["method"],
        "grid": {
            "shape": list(result.volume.shape),
            "spacing_mm": list(result.volume.spacing_mm),
            "origin_lps": list(result.volume.origin_lps),
        },
        "arc": {
            "degrees": result.arc.extent_deg,
            "needed_degrees": result.arc.needed_deg,
            "limited_angle": result.arc.limited,
        },
        "reprojection": result.reprojection.to_dict(),
        "against_the_ct": {name: round(value, 3) for name, value in result.figures.items()},
        "notes": list(result.notes),
        "timings_s": {name: round(seconds, 3) for name, seconds in result.timings.items()},
        "provenance": result.provenance.to_dict(),
    }


def sheet_views(count: int) -> list[int]:
    """Which of so many views a sheet shows: both ends and the same distance between."""
    return sorted({round(k) for k in np.linspace(0, count - 1, min(count, _COLUMNS))})


def shown(integrals: Pictures, white: float, labels: Sequence[str]) -> Pictures:
    """Line integrals as pictures from 0 to 1 that say what they are, enlarged.

    Parameters
    ----------
    integrals : ndarray of float32, shape (K, rows, cols)
        Line integrals.
    white : float
        What is shown white.
    labels : sequence of str
        Burnt into the corner of each.

    Returns
    -------
    ndarray of float32, shape (K, 2 rows, 2 cols)
    """
    return np.stack(
        [
            _labelled(picture / white, label)
            for picture, label in zip(integrals, labels, strict=True)
        ]
    )


def contact_sheet(result: NovelViewsResult, comparison: ViewComparison | None = None) -> Pictures:
    """Views side by side, above their true projections and the differences where known.

    One grey scale for all, linear in the line integrals from 0 (black). The difference, predicted
    less true, is mid-grey where both agree, black or white where they differ by a quarter of it.

    Parameters
    ----------
    result : NovelViewsResult
        Predicted views; about a dozen are shown.
    comparison : ViewComparison, optional
        With the true projections.

    Returns
    -------
    ndarray of float32, shape (height, width)
        0 to 1.
    """
    chosen = sheet_views(len(result.yaws))
    white = result.white
    if comparison is not None:
        white = max(white, float(np.percentile(comparison.truth, 99.8)))
    angles = [f"{result.yaws[k]:+g}" for k in chosen]
    rows = [shown(result.integrals[chosen], white, [f"SYNTHETIC {a}" for a in angles])]
    if comparison is not None:
        rows.append(shown(comparison.truth[chosen], white, [f"DRR {a}" for a in angles]))
        unit = 0.5 + comparison.difference[chosen] / (2 * _DIFFERENCE * white)
        told = [f"difference {comparison.psnr[k]:.1f} dB" for k in chosen]
        rows.append(np.stack([_labelled(p, t) for p, t in zip(unit, told, strict=True)]))
    strips = [_beside(row) for row in rows]
    gap = np.ones((_GAP, strips[0].shape[1]), np.float32)
    stacked = [part for strip in strips for part in (strip, gap)][:-1]
    return np.concatenate(stacked)


def _beside(pictures: Pictures) -> Pictures:
    gap = np.ones((pictures.shape[1], _GAP), np.float32)
    return np.concatenate([part for p in pictures for part in (p, gap)][:-1], axis=1)


def _labelled(picture: npt.NDArray[Any], label: str) -> Pictures:
    """A picture from 0 to 1, every pixel a square, with a line of text in its corner."""
    large = np.kron(np.clip(picture, 0, 1), np.ones((_ENLARGED, _ENLARGED)))
    grey = np.rint(large * np.iinfo(np.uint16).max).astype(np.uint16)
    marked = burn_in(grey, label).astype(np.float32)
    return marked / np.float32(np.iinfo(np.uint16).max)
