"""From a CT as it was read to what a network trains on: spacing, window, masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cxr3d_training.data.resample import resample, resampled_grid
from napari_cxr3d.errors import GeometryError, InvalidInputError, UnsupportedFileError
from napari_cxr3d.imaging import HU_MAX, HU_MIN, Grid, Volume
from napari_cxr3d.imaging.masks import body_mask, lung_mask

__all__ = ["Conditioning", "Prepared", "condition"]

Array = npt.NDArray[Any]

_AIR_HU = -1000


@dataclass(frozen=True)
class Conditioning:
    """What is done to every CT of a cohort.

    Attributes
    ----------
    spacing_mm : tuple of 3 float or None
        Spacing along (I, P, L); None keeps each volume's own.
    hu_range : tuple of 2 int
        HU below and above are clipped to it.
    crop_margin_mm : float or None
        Crop to the body's box with this margin; None keeps the whole field.
    remove_table : bool
        Put air (-1000 HU) in place of all that is not the patient.
    least_length_mm : float
        Volumes shorter than this along the patient are refused: they show no chest.
    """

    spacing_mm: tuple[float, float, float] | None = (2.0, 2.0, 2.0)
    hu_range: tuple[int, int] = (HU_MIN, HU_MAX)
    crop_margin_mm: float | None = None
    remove_table: bool = False
    least_length_mm: float = 100.0

    def __post_init__(self) -> None:
        if self.spacing_mm is not None:
            spacing = tuple(float(s) for s in self.spacing_mm)
            if len(spacing) != 3 or not all(0.1 <= s <= 50 for s in spacing):
                raise GeometryError(
                    "The spacing must be three numbers between 0.1 and 50 mm",
                    why=f"it is {self.spacing_mm}",
                )
            object.__setattr__(self, "spacing_mm", spacing)
        low, high = (int(v) for v in self.hu_range)
        if not -32768 <= low < high <= 32767:
            raise InvalidInputError(
                "The HU range needs a low end below its high end",
                why=f"it is {self.hu_range}",
                remedy=f"give two whole numbers within {HU_MIN} and {HU_MAX}",
            )
        object.__setattr__(self, "hu_range", (low, high))
        if self.crop_margin_mm is not None and not 0 <= self.crop_margin_mm <= 1000:
            raise InvalidInputError(
                "The margin of the crop must lie between 0 and 1000 mm",
                why=f"it is {self.crop_margin_mm}",
            )

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable form; it decides whether two runs make the same data."""
        record = asdict(self)
        record["spacing_mm"] = None if self.spacing_mm is None else list(self.spacing_mm)
        record["hu_range"] = list(self.hu_range)
        return record


@dataclass(frozen=True, eq=False)
class Prepared:
    """One case, ready to be stored or trained on.

    Attributes
    ----------
    arrays : mapping of str to ndarray, shape (I, P, L) each
        ``hu`` (int16), ``body`` and ``lungs`` (bool); for phantoms ``anatomy`` (uint8) and
        ``findings`` (uint32, one bit a kind).
    grid : Grid
        Where the voxels lie.
    facts : mapping
        JSON-serialisable: ``synthetic``, ``source``, ``notes``; for phantoms ``labels``,
        ``report``, ``findings``, ``landmarks``, ``measures``.
    """

    arrays: Mapping[str, Array]
    grid: Grid
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        volume = Volume(
            self.arrays["hu"],
            self.grid.spacing_mm,
            self.grid.origin_lps,
            synthetic=bool(self.facts.get("synthetic", False)),
        )
        for array in self.arrays.values():
            array.flags.writeable = False
        object.__setattr__(self, "_volume", volume)

    @property
    def nbytes(self) -> int:
        """Memory that the arrays take."""
        return sum(array.nbytes for array in self.arrays.values())

    def volume(self) -> Volume:
        """The voxels as a volume: one and the same object for every caller."""
        volume: Volume = self._volume  # type: ignore[attr-defined]
        return volume


def condition(
    volume: Volume, settings: Conditioning, extra: Mapping[str, Array] | None = None
) -> Prepared:
    """A CT on the cohort's spacing, in its HU range, with masks of body and lungs.

    Parameters
    ----------
    volume : Volume
        The CT as it was read.
    settings : Conditioning
        What is done to it.
    extra : mapping of str to ndarray, optional
        Label maps on the same grid, to be cropped alike; the spacing must stay as it is.

    Raises
    ------
    UnsupportedFileError
        If the volume is too short for a chest.
    InvalidInputError
        If table or air shall be cut off and there is no patient.
    """
    if volume.size_mm[0] < settings.least_length_mm:
        raise UnsupportedFileError(
            "The volume is too short for a chest",
            why=f"it covers {volume.size_mm[0]:.0f} mm along the patient, and "
            f"{settings.least_length_mm:.0f} mm are asked for",
        )
    grid = volume.grid
    if settings.spacing_mm is not None:
        grid = resampled_grid(grid, settings.spacing_mm)
    if extra and grid != volume.grid:
        raise InvalidInputError("Label maps are not resampled", remedy="keep the spacing")
    low, high = settings.hu_range
    values = volume.hu if grid == volume.grid else resample(volume.hu, volume.grid, grid)
    hu = np.clip(np.rint(values), low, high).astype(np.int16)
    prepared = Volume(hu, grid.spacing_mm, grid.origin_lps)
    body, lungs = body_mask(prepared), lung_mask(prepared)
    notes = list(volume.source.notes) if volume.source is not None else []
    if not body.any():
        if settings.remove_table or settings.crop_margin_mm is not None:
            raise InvalidInputError(
                "Body and surroundings cannot be told apart",
                why="no patient was found in the volume",
                remedy="check that the voxels are Hounsfield units, or keep table and field",
            )
        notes.append("No body was found.")
    if not lungs.any():
        notes.append("No aerated lung was found.")
    if settings.remove_table:
        hu = np.where(body, hu, np.int16(max(low, _AIR_HU)))
    arrays: dict[str, Array] = {"hu": hu, "body": body, "lungs": lungs, **(extra or {})}
    if settings.crop_margin_mm is not None:
        arrays, grid = _cropped(arrays, grid, settings.crop_margin_mm)
    facts = {
        "synthetic": volume.synthetic,
        "source": _source_facts(volume),
        "notes": notes,
        "lung_ml": round(float(arrays["lungs"].sum() * np.prod(grid.spacing_mm) / 1000), 1),
    }
    return Prepared(arrays, grid, facts)


def _source_facts(volume: Volume) -> dict[str, Any]:
    """What the volume was before; no path, no description that a hospital wrote."""
    return {
        "kind": volume.source.kind if volume.source is not None else "",
        "content_sha256": volume.content_sha256(),
        "shape": list(volume.shape),
        "spacing_mm": list(volume.spacing_mm),
    }


def _cropped(
    arrays: Mapping[str, Array], grid: Grid, margin_mm: float
) -> tuple[dict[str, Array], Grid]:
    """The arrays within the body's box, and where they lie."""
    places = np.argwhere(arrays["body"])
    margin = np.ceil(margin_mm / np.array(grid.spacing_mm) - 1e-6).astype(int)
    start = np.maximum(places.min(axis=0) - margin, 0)
    stop = np.minimum(places.max(axis=0) + 1 + margin, grid.shape)
    box = tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    x, y, z = (float(v) for v in grid.index_to_lps(start))
    i, p, ell = (int(n) for n in stop - start)
    cut = {name: np.ascontiguousarray(array[box]) for name, array in arrays.items()}
    return cut, replace(grid, shape=(i, p, ell), origin_lps=(x, y, z))
