"""What is measured of a world model, and on how much."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from cxr3d_training.data import CohortCase
from napari_cxr3d.errors import InvalidInputError

__all__ = ["TABLES", "WorldModelPlan"]

TABLES = ("latents", "retrieval", "views", "landmarks", "tracking", "domains", "volumes")
"""What can be measured; ``latents`` always is."""


_EXTENT_MM = 384.0


@dataclass(frozen=True, kw_only=True)
class WorldModelPlan:
    """What is measured, and on how many cases.

    Attributes
    ----------
    tables : tuple of str
        Of `TABLES`.
    label : str
        What the model is called in the tables.
    domain : str
        Look of realistic X-rays; see `napari_cxr3d.xray.simulator`.
    volume_shape, spacing_mm : tuple of 3, optional
        The grid on which patients are rendered; when None, the cases' own spacing, and as many
        voxels of it as 384 mm have.
    queries : int
        Other patients on whose X-ray every landmark is clicked.
    tracked : int
        Angles at which a landmark is looked for in the patient's own other views.
    track_cases, volume_cases, self_match_cases : int
        How many of the cases, the first ones, the dear tables are measured on.
    held_out : tuple of str
        Landmarks that the training did not use; the bundle's card names them.
    hit_mm : float
        Within which a landmark counts as found, at the isocenter.
    keep : Path or None
        Folder where figures are kept, so that a stopped evaluation goes on.
    """

    tables: tuple[str, ...] = TABLES
    label: str = "ours"
    domain: str = "realistic"
    volume_shape: tuple[int, int, int] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    queries: int = 2
    tracked: int = 12
    track_cases: int = 16
    volume_cases: int = 4
    self_match_cases: int = 4
    held_out: tuple[str, ...] = ()
    hit_mm: float = 20.0
    keep: Path | None = None

    def on_grid_of(self, case: CohortCase) -> WorldModelPlan:
        """The plan with a grid: its own, or that of the case."""
        i, p, ell = self.spacing_mm or case.spacing_mm
        shape = self.volume_shape or (_across(i), _across(p), _across(ell))
        return replace(self, spacing_mm=(i, p, ell), volume_shape=shape)

    def __post_init__(self) -> None:
        unknown = set(self.tables) - set(TABLES)
        if unknown:
            raise InvalidInputError(
                f"There is no table called {', '.join(sorted(unknown))}",
                remedy=f"choose of {', '.join(TABLES)}",
            )
        counts = (self.queries, self.tracked, self.track_cases, self.volume_cases,
                  self.self_match_cases)  # fmt: skip
        if min(counts) < 1 or self.hit_mm <= 0:
            raise InvalidInputError(
                "An evaluation needs a case, a query and an angle or more",
                why=f"the plan is {self}",
            )


def _across(spacing_mm: float) -> int:
    return max(1, round(_EXTENT_MM / spacing_mm))
