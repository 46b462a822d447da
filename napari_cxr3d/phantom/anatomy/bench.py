"""What every organ is painted with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_cxr3d.imaging.frames import FloatArray
from napari_cxr3d.phantom.anatomy.figure import Figure
from napari_cxr3d.phantom.anatomy.person import Person, child_rng
from napari_cxr3d.phantom.labels import LUNG, Label, label_mask
from napari_cxr3d.phantom.scene import EVERYTHING, Rule, SceneBuilder
from napari_cxr3d.phantom.tissues import Bolus, Tissue, hu_of

__all__ = ["AERATED", "Bench", "curve"]

AERATED = label_mask(LUNG)
"""The lobes and fissures."""


@dataclass(frozen=True, eq=False)
class Bench:
    """The builder, the body's frame and the contrast at hand.

    Attributes
    ----------
    builder : SceneBuilder
        Collects the shapes.
    figure : Figure
        The person's frame.
    bolus : Bolus
        HU of the blood.
    """

    builder: SceneBuilder
    figure: Figure
    bolus: Bolus

    @property
    def person(self) -> Person:
        """Whose body it is."""
        return self.figure.person

    def rng(self, tag: int) -> np.random.Generator:
        """A generator for one organ."""
        return self.seeded(self.person, tag)

    @staticmethod
    def seeded(person: Person, tag: int) -> np.random.Generator:
        """The generator of one organ of a person."""
        return child_rng(person.seed, 100 + tag)

    def hu(self, tissue: Tissue) -> float:
        """HU of a tissue in the person's phase."""
        return hu_of(tissue, self.person.phase)

    def rule(self, label: Label | int, tissue: Tissue | float, **options: Any) -> Rule:
        """A painting rule, which may cover its own label; seeded by label and person."""
        hu = self.hu(tissue) if isinstance(tissue, Tissue) else float(tissue)
        options["over"] = int(options.get("over", EVERYTHING)) | label_mask(
            [label] if label >= 0 else []
        )
        options.setdefault("seed", (self.person.seed * 131 + int(label) * 17 + 5) % (1 << 30))
        return Rule(int(label), hu, **options)

    def line(self, points: Any, count: int = 12) -> FloatArray:
        """A smooth curve through reference points, in the person's frame, shape (count, 3)."""
        return curve(self.figure.at(np.asarray(points, np.float64)), count)


def curve(points: FloatArray, count: int) -> FloatArray:
    """A smooth curve through points (rows of any width), evenly parted, shape (count, M)."""
    p = np.asarray(points, np.float64)
    steps = np.sqrt((np.diff(p[:, :3], axis=0) ** 2).sum(axis=1))
    along = np.concatenate([[0.0], np.cumsum(np.maximum(steps, 1e-6))])
    if len(p) == 2:
        share = np.linspace(0.0, 1.0, count)[:, None]
        straight: FloatArray = p[0] + share * (p[1] - p[0])
        return straight
    where = np.linspace(0.0, along[-1], count)
    return _catmull_rom(along, p, where)


def _catmull_rom(keys: FloatArray, values: FloatArray, at: FloatArray) -> FloatArray:
    """Cubic Hermite interpolation with finite-difference tangents; no overshoot of note."""
    tangent = np.gradient(values, keys, axis=0)
    k = np.clip(np.searchsorted(keys, at, side="right") - 1, 0, len(keys) - 2)
    h = (keys[k + 1] - keys[k])[:, None]
    t = (at - keys[k])[:, None] / h
    found: FloatArray = (
        (1 + 2 * t) * (1 - t) ** 2 * values[k]
        + t * (1 - t) ** 2 * h * tangent[k]
        + t * t * (3 - 2 * t) * values[k + 1]
        + t * t * (t - 1) * h * tangent[k + 1]
    )
    return found
