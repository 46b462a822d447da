"""How far a result agrees with its X-rays, in pictures and in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_cxr3d.widgets.reconstruct.pictures import Picture, difference_colors, grey

if TYPE_CHECKING:
    from napari_cxr3d.inference.reconstruct import ReconstructionResult

__all__ = ["agreement_pictures", "agreement_text"]

_DIFFERENCE_PERCENTILE = 99.0
_WINDOW_PERCENTILES = (0.5, 99.5)
_LEAST_DIFFERENCE = 0.02  # of the picture's range: below it, differences stay dark
_BODY_HU = -900.0


def agreement_pictures(result: ReconstructionResult) -> list[Picture]:
    """X-ray, re-projection and difference of each view, through one window each."""
    agreement = result.reprojection
    pictures = []
    for k in range(len(result.prepared.views)):
        valid = agreement.counted[k]
        again, difference = agreement.integrals[k], agreement.residual[k]
        given = again - difference  # as it was compared: after the fit of its unknown scale
        inside = valid if valid.any() else np.ones_like(valid)
        low, high = (float(v) for v in np.percentile(given[inside], _WINDOW_PERCENTILES))
        span = max(high - low, 1e-6)
        largest = float(np.percentile(np.abs(difference[inside]), _DIFFERENCE_PERCENTILE))
        limit = max(largest, _LEAST_DIFFERENCE * span)
        pictures += [
            Picture(grey(given, (low, high), valid), "X-ray", "What went in, as attenuation."),
            Picture(
                grey(again, (low, high)),
                "projected back",
                "X-ray of the synthetic volume, through the same window.",
            ),
            Picture(
                difference_colors(difference, limit, valid),
                f"difference (±{100 * limit / span:.0f} %)",
                "Amber: the volume attenuates more than the X-ray says; blue: less. In percent of "
                "the X-ray's range from air to spine.",
            ),
        ]
    return pictures


def agreement_text(result: ReconstructionResult) -> str:
    """How far the volume agrees with the X-ray, in figures."""
    agreement = result.reprojection
    lines = [
        f"Projected back, it differs from the X-ray by {100 * agreement.relative_error:.2g} % and "
        f"explains {100 * agreement.explained:.1f} % of it."
    ]
    coarse = result.coarse_reprojection
    if coarse is not None:
        lines.append(f"The coarse volume differs by {100 * coarse.relative_error:.2g} %.")
    if not all(result.prepared.exact):
        lines.append("The X-ray's own scale is not known; it was fitted.")
    lines.append("Agreement does not make it true: many volumes give the same X-ray.")
    if result.std is not None:
        inside = result.volume.hu > _BODY_HU
        spread = float(result.std.hu[inside].mean()) if inside.any() else 0.0
        lines.append(
            f"{len(result.samples)} samples differ by {spread:.0f} HU on average within the body."
        )
    return "\n".join(lines)
