"""X-rays of a training step as a reconstruction will be given them: exact, or read from greys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cxr3d_training.data.views import RenderedViews
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import XrayView, preset
from napari_cxr3d.models.reconstruction import ViewBatch
from napari_cxr3d.xray.calibration import approximate_integrals

__all__ = ["XrayAppearance", "clinical_batch", "rendered_batch", "validation_views"]


@dataclass(frozen=True)
class XrayAppearance:
    """How the X-rays of a sample differ from its projections.

    Attributes
    ----------
    domain : str
        Look of the pictures that are read back from greys; see `napari_cxr3d.xray.simulator`.
    exact : float
        Part of the views that are given as true line integrals.
    further : float
        Chance of every view after the first to be there at all.
    collimated : float
        Part of the views that do not cover the detector.
    blades : float
        Largest part of the detector that is cut from each side of these.
    """

    domain: str = "realistic"
    exact: float = 0.5
    further: float = 0.5
    collimated: float = 0.5
    blades: float = 0.15

    def __post_init__(self) -> None:
        shares = (self.exact, self.further, self.collimated)
        if min(shares) < 0 or max(shares) > 1 or not 0 <= self.blades < 0.5:
            raise InvalidInputError(
                "The shares of an appearance lie between 0 and 1, blades below a half",
                why=f"they are {(*shares, self.blades)}",
            )

    def draw(
        self, rng: np.random.Generator, count: int, shape: tuple[int, int]
    ) -> dict[str, npt.NDArray[Any]]:
        """``exact`` and ``known`` [V], ``valid`` [V, rows, cols] of one sample, float32."""
        known = np.concatenate([[1.0], rng.random(count - 1) < self.further])
        exact = rng.random(count) < self.exact
        valid = np.zeros((count, *shape), np.float32)
        for view in valid:
            cut = rng.uniform(0, self.blades, 4) * (rng.random() < self.collimated)
            top, bottom, left, right = np.rint(cut * np.repeat(shape, 2)).astype(int)
            view[top : shape[0] - bottom, left : shape[1] - right] = 1
        return {
            "exact": exact.astype(np.float32),
            "known": known.astype(np.float32),
            "valid": valid,
        }


def clinical_batch(batch: Mapping[str, Tensor]) -> ViewBatch:
    """The views of a batch as the model shall see them.

    Views that are not exact get the line integrals that are read from their grey pictures by
    anatomical anchors, just as an X-ray from a file will be.

    Parameters
    ----------
    batch : mapping of str to Tensor
        ``integrals`` and ``pictures`` of a `ViewRenderer`, ``cameras``, and what
        `XrayAppearance.draw` gave.
    """
    integrals = batch["integrals"].clone()
    pictures, exact = batch["pictures"].cpu().numpy(), batch["exact"].cpu().numpy()
    valid = batch["valid"]
    for b, v in np.argwhere(exact < 0.5).tolist():
        seen = valid[b, v].cpu().numpy() > 0.5
        rows, cols = (np.flatnonzero(seen.any(axis=k)) for k in (1, 0))
        inside = (slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1))
        read, _ = approximate_integrals(pictures[b, v][inside], polarity="trust")
        integrals[b, v][inside] = torch.from_numpy(read).to(integrals)
    shown = valid * batch["known"][..., None, None]
    return ViewBatch(integrals * shown, shown, batch["cameras"], batch["exact"], batch["known"])


def validation_views(detector_shape: tuple[int, int], field_mm: float) -> tuple[XrayView, ...]:
    """A PA view and the left lateral of the same distances, on the model's detector."""
    pixel = field_mm / detector_shape[1]
    frontal = replace(preset("pa"), detector_shape=detector_shape, pixel_mm=pixel)
    return frontal, replace(frontal, yaw=90.0)


def rendered_batch(rendered: RenderedViews, count: int) -> ViewBatch:
    """The first `count` of some rendered views, exact and whole, as a batch of one sample."""
    integrals = torch.from_numpy(rendered.integrals[:count])[None]
    here = torch.ones(1, count)
    cameras = torch.from_numpy(rendered.cameras[:count])[None]
    return ViewBatch(integrals, torch.ones_like(integrals), cameras, here, here.clone())
