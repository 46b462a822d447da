"""A landmark with its match, and the files that landmarks are written into."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_cxr3d.viewer.world_model import Side

if TYPE_CHECKING:
    from napari_cxr3d.inference.similarity import MutualMatch, SimilarityMap

__all__ = ["COLORS", "Landmark", "other_side", "write_table"]

# Okabe and Ito's colours, which the colour-blind tell apart.
COLORS = ("#56b4e9", "#009e73", "#f0e442", "#cc79a7", "#e69f00", "#0072b2", "#d55e00")


def other_side(side: Side) -> Side:
    """The picture on which a landmark is looked for."""
    return "B" if side == "A" else "A"


@dataclass(eq=False)
class Landmark:
    """A point on one picture, and where it was found on the other.

    Attributes
    ----------
    name, color : str
        Of its marks.
    side : {"A", "B"}
        Where it was placed.
    point : tuple of 2 float
        Row and column in that picture's pixels.
    pair : MutualMatch or None
        What was found on the other picture, and whether it leads back; None until it was
        looked for.
    """

    name: str
    color: str
    side: Side
    point: tuple[float, float]
    pair: MutualMatch | None = None

    @property
    def found(self) -> SimilarityMap | None:
        """The map on the other picture."""
        return None if self.pair is None else self.pair.forward

    @property
    def mutual(self) -> bool | None:
        """Whether the best match leads back to the landmark."""
        return None if self.pair is None else self.pair.trusted

    @property
    def match(self) -> tuple[float, float] | None:
        """Row and column of the best match, in the other picture's pixels."""
        if self.found is None:
            return None
        row, column = (float(v) for v in self.found.peak_source)
        return (row, column)


def write_table(landmarks: Sequence[Landmark], path: Path) -> None:
    """Write landmarks with their matches as comma-separated values."""
    columns = ("name", "placed_on", "row", "column", "match_on", "match_row", "match_column",
               "similarity", "contrast", "found_back", "back_mm", "synthetic")  # fmt: skip
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(columns)
        for x in landmarks:
            if x.pair is None or x.found is None or x.match is None:
                continue
            places = [f"{v:.2f}" for v in (*x.point, *x.match)]
            figures = [f"{float(v):.4f}" for v in (x.found.value, x.found.contrast)]
            table.writerow(
                [x.name, x.side, *places[:2], other_side(x.side), *places[2:], *figures,
                 x.mutual, f"{x.pair.distance_mm:.1f}", True]
            )  # fmt: skip
