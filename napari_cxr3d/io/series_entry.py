"""What a folder offers to read: one entry a series."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["SeriesEntry", "SeriesKind"]

SeriesKind = Literal["ct", "cxr", "localizer", "other"]


@dataclass(frozen=True)
class SeriesEntry:
    """One series of a folder, or one volume file.

    Attributes
    ----------
    uid : str
        What `read_ct` takes as `series`: the DICOM series instance UID, with ``#2``,
        ``#3`` behind it for further stacks of slices within one series; ``file:`` and its
        place in the folder for a volume file.
    description : str
        Series description, or the kind of file.
    modality : str
        DICOM modality; ``"CT"`` for volume files.
    kind : {"ct", "cxr", "localizer", "other"}
        What it can be opened as; only ``"ct"`` entries are candidates for `read_ct`.
    n_slices : int
        Slices (frames) in it.
    shape : tuple of 3 int or None
        Slices, rows, columns.
    spacing_mm : tuple of 3 float or None
        Distance of slices, rows and columns in mm, where the headers tell.
    body_part : str
        Body part examined.
    number : int or None
        DICOM series number.
    reason : str
        Why it cannot be read as a CT; ``""`` for candidates.
    files : tuple of Path
        Its files.
    """

    uid: str
    description: str
    modality: str
    kind: SeriesKind
    n_slices: int
    shape: tuple[int, int, int] | None
    spacing_mm: tuple[float, float, float] | None
    body_part: str
    number: int | None
    reason: str
    files: tuple[Path, ...]

    @property
    def n_files(self) -> int:
        """Number of files."""
        return len(self.files)

    @property
    def label(self) -> str:
        """A line for lists: number, description, modality and size."""
        number = "" if self.number is None else f"{self.number} · "
        size = f"{self.n_slices} slice{'' if self.n_slices == 1 else 's'}"
        if self.spacing_mm is not None:
            size += f" of {self.spacing_mm[0]:.3g} mm"
        return f"{number}{self.description or 'unnamed'} · {self.modality or '?'} · {size}"
