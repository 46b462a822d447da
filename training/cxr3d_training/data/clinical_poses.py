"""Poses as they come in a clinic: frontal with or without a lateral, and now and then any other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cxr3d_training.data.poses import Range
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Grid, XrayView

__all__ = ["ClinicalPoses"]

_AP_DISTANCES: Range = (900.0, 1300.0)  # bedside; PA and lateral are taken from farther away


@dataclass(frozen=True)
class ClinicalPoses:
    """Views of a sample, the most usual ones first.

    The first view is PA, AP, a lateral, or from anywhere; every further one a lateral, or from
    anywhere. AP pictures, from in front of the patient, are mirrored as they are shown.

    Attributes
    ----------
    count : int
        Views of a sample.
    ap, lateral_first, anywhere : float
        Part of the samples whose first view is AP, a lateral, or of any yaw; the others are PA.
    lateral : float
        Part of the further views that are laterals.
    tilt : float
        Largest deviation of yaw, pitch and roll from the nominal pose, degrees.
    source_to_isocenter_mm, isocenter_to_detector_mm : tuple of 2 float
        Distances of PA and lateral views.
    jitter_mm : tuple of 3 float
        How far the isocenter may lie from the volume's centre, along L, P and S.
    detector_shape : tuple of 2 int
        Rows and columns.
    field_mm : float
        Edge of the detector, along its columns.
    """

    count: int = 2
    ap: float = 0.2
    lateral_first: float = 0.1
    anywhere: float = 0.1
    lateral: float = 0.75
    tilt: float = 5.0
    source_to_isocenter_mm: Range = (1350.0, 1800.0)
    isocenter_to_detector_mm: Range = (120.0, 250.0)
    jitter_mm: tuple[float, float, float] = (12.0, 12.0, 24.0)
    detector_shape: tuple[int, int] = (96, 96)
    field_mm: float = 440.0

    def __post_init__(self) -> None:
        shares = (self.ap, self.lateral_first, self.anywhere, self.lateral)
        if self.count < 1 or min(shares) < 0 or max(sum(shares[:3]), self.lateral) > 1:
            raise InvalidInputError(
                "Clinical poses need a view or more, and shares that sum to 1 at most",
                why=f"they are {self.count} views and {shares}",
            )
        object.__setattr__(self, "detector_shape", tuple(int(n) for n in self.detector_shape))

    @property
    def pixel_mm(self) -> float:
        """Pixel pitch on the detector."""
        return self.field_mm / self.detector_shape[1]

    def draw(self, rng: np.random.Generator, grid: Grid) -> tuple[XrayView, ...]:
        """`count` views of a volume on this grid."""
        return tuple(self._view(rng, grid, self._yaw(rng, k)) for k in range(self.count))

    def _yaw(self, rng: np.random.Generator, index: int) -> float:
        side, where, chance = rng.choice([-90.0, 90.0]), rng.uniform(-180, 180), rng.random()
        if index:
            return float(side if chance < self.lateral else where)
        edges = np.cumsum([self.ap, self.lateral_first, self.anywhere])
        return float([180.0, side, where, 0.0][int(np.searchsorted(edges, chance, "right"))])

    def _view(self, rng: np.random.Generator, grid: Grid, yaw: float) -> XrayView:
        from_front = abs(yaw) > 90.0
        near = rng.uniform(*(_AP_DISTANCES if from_front else self.source_to_isocenter_mm))
        turn, pitch, roll = rng.uniform(-1, 1, 3) * (self.tilt, self.tilt, self.tilt / 2)
        shift = rng.uniform(-1, 1, 3) * np.array(self.jitter_mm)
        x, y, z = (np.array(grid.center_lps) + shift).tolist()
        return XrayView(
            yaw=yaw + float(turn),
            pitch=float(pitch),
            roll=float(roll),
            source_to_isocenter_mm=float(near),
            source_to_detector_mm=float(near + rng.uniform(*self.isocenter_to_detector_mm)),
            detector_shape=self.detector_shape,
            pixel_mm=self.pixel_mm,
            isocenter_lps=(x, y, z),
            flip_columns=from_front,
        )
