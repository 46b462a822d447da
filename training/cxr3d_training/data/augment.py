"""Changes of a volume that leave it a chest: named, seeded, switchable.

There is no mirror among them: a chest mirrored left to right has its heart on the wrong side
(situs inversus), and one turned upside down is none at all. Published pipelines do both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import HU_MAX, HU_MIN, Grid, Volume

__all__ = [
    "AUGMENTATIONS",
    "Affine",
    "Augmented",
    "Calibration",
    "LungDensity",
    "Step",
    "augment",
    "augmentation",
]

Array = npt.NDArray[Any]

_AIR_HU = -1000.0
_STREAM = 0xA06


@dataclass(frozen=True, eq=False)
class Augmented:
    """A volume and the maps that lie on its grid.

    Attributes
    ----------
    volume : Volume
        The CT.
    maps : mapping of str to ndarray, shape (I, P, L)
        Masks and label maps: whole numbers or truth values, never interpolated.
    """

    volume: Volume
    maps: Mapping[str, Array]


class Step(Protocol):
    """One change of a volume."""

    def apply(self, item: Augmented, rng: np.random.Generator) -> Augmented:
        """The changed volume and maps, on the same grid; all that is random is of `rng`."""
        ...


@dataclass(frozen=True)
class Affine:
    """Turn, stretch and shift about the volume's centre; orientation is kept.

    Attributes
    ----------
    rotation : tuple of 3 float
        Largest turn about the axes I, P and L, degrees.
    stretch : tuple of 3 float
        Largest change of size along I, P and L, as a part: 0.1 is from 1/1.1 to 1.1.
    shift_mm : tuple of 3 float
        Largest shift along I, P and L.
    """

    rotation: tuple[float, float, float] = (4.0, 3.0, 3.0)
    stretch: tuple[float, float, float] = (0.06, 0.06, 0.06)
    shift_mm: tuple[float, float, float] = (10.0, 8.0, 8.0)

    def __post_init__(self) -> None:
        if max(map(abs, self.rotation)) > 45 or not 0 <= max(self.stretch) <= 0.5:
            raise InvalidInputError(
                "An augmentation turns by 45 degrees and stretches by a half at most",
                why=f"it is {self.rotation} degrees and {self.stretch}",
            )

    def matrix(self, rng: np.random.Generator) -> tuple[Array, Array]:
        """One draw: the 3 x 3 matrix on (I, P, L) mm, and the shift in mm."""
        a, b, c = np.radians(rng.uniform(-1, 1, 3) * self.rotation)
        stretch = (1.0 + np.array(self.stretch)) ** rng.uniform(-1, 1, 3)
        turns = [
            [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]],
            [[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]],
            [[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]],
        ]
        turn = np.array(turns[0]) @ np.array(turns[1]) @ np.array(turns[2])
        shift = rng.uniform(-1, 1, 3) * self.shift_mm
        return turn @ np.diag(stretch), shift

    def apply(self, item: Augmented, rng: np.random.Generator) -> Augmented:
        """Interpolated linearly, maps by the nearest voxel; air comes in from outside."""
        from scipy.ndimage import affine_transform

        grid = item.volume.grid
        matrix, shift = self.matrix(rng)
        spacing = np.array(grid.spacing_mm)
        back = np.linalg.inv(matrix) * spacing / spacing[:, None]  # from new voxels to old ones
        center = (np.array(grid.shape) - 1) / 2
        offset = center - back @ (center + shift / spacing)

        def moved(values: Array, order: int, outside: float) -> Array:
            return np.asarray(
                affine_transform(values, back, offset, order=order, cval=outside, mode="constant")
            )

        hu = np.asarray(item.volume.hu)
        turned = moved(hu.astype(np.float32), 1, _AIR_HU)
        maps = {
            name: moved(m.astype(np.uint8) if m.dtype == bool else m, 0, 0).astype(m.dtype)
            for name, m in item.maps.items()
        }
        return Augmented(item.volume.with_hu(_as(turned, hu)), maps)


@dataclass(frozen=True)
class Calibration:
    """What scanners disagree on: the HU scale, with air held at -1000 HU.

    Attributes
    ----------
    gain : float
        Largest change of ``HU + 1000``, as a part.
    offset_hu : float
        Largest shift of everything denser than air, HU.
    """

    gain: float = 0.02
    offset_hu: float = 8.0

    def apply(self, item: Augmented, rng: np.random.Generator) -> Augmented:
        """The scale changed; -1000 HU and below stay."""
        gain, offset = 1.0 + self.gain * rng.uniform(-1, 1), self.offset_hu * rng.uniform(-1, 1)
        hu = np.asarray(item.volume.hu)
        density = np.maximum(hu.astype(np.float32) - _AIR_HU, 0.0)
        share = np.minimum(density / 100.0, 1.0)  # the shift fades out towards air
        changed = np.where(hu > _AIR_HU, density * gain + offset * share + _AIR_HU, hu)
        return Augmented(item.volume.with_hu(_as(changed, hu)), item.maps)


@dataclass(frozen=True)
class LungDensity:
    """How full of air the lungs are: their density changes, vessels stay.

    Attributes
    ----------
    change : float
        Largest change of the lungs' density, as a part.

    Notes
    -----
    It needs the map ``lungs``; without it nothing happens.
    """

    change: float = 0.2

    def apply(self, item: Augmented, rng: np.random.Generator) -> Augmented:
        """Air-filled voxels of the lungs, below -500 HU, made denser or thinner."""
        factor = (1.0 + self.change) ** rng.uniform(-1, 1)
        lungs = item.maps.get("lungs")
        if lungs is None:
            return item
        hu = np.asarray(item.volume.hu)
        density = hu.astype(np.float32) - _AIR_HU
        aerated = lungs.astype(bool) & (density > 0)
        # Full below -700 HU, none above -500: parenchyma changes, vessels and walls do not.
        weight = np.clip((500.0 - density) / 200.0, 0.0, 1.0) * aerated
        changed = _AIR_HU + density * (1.0 + (factor - 1.0) * weight)
        return Augmented(item.volume.with_hu(_as(changed, hu)), item.maps)


AUGMENTATIONS: Mapping[str, tuple[Step, ...]] = {
    "none": (),
    "light": (Affine((2.0, 2.0, 2.0), (0.03, 0.03, 0.03), (6.0, 5.0, 5.0)), Calibration(0.01, 4.0)),
    "full": (Affine(), LungDensity(), Calibration()),
}
"""Steps by the name that a recipe's settings give them."""


def augmentation(name: str) -> tuple[Step, ...]:
    """Steps by name.

    Raises
    ------
    InvalidInputError
        If there are none of that name; the message lists those that exist.
    """
    try:
        return AUGMENTATIONS[name]
    except KeyError:
        raise InvalidInputError(
            f"There is no augmentation called {name!r}",
            remedy=f"choose one of {', '.join(AUGMENTATIONS)}",
        ) from None


def augment(
    volume: Volume,
    steps: Sequence[Step],
    rng: np.random.Generator,
    maps: Mapping[str, Array] | None = None,
) -> Augmented:
    """A volume changed by some steps, on the grid that it has.

    Each step gets a generator of its own, so that one which is switched off leaves the others as
    they were.

    Parameters
    ----------
    volume : Volume
        The CT.
    steps : sequence of Step
        In their order.
    rng : Generator
        The sample's.
    maps : mapping of str to ndarray, optional
        Masks and label maps on the volume's grid.

    Raises
    ------
    InvalidInputError
        If a map does not lie on the grid.
    """
    for name, values in (maps or {}).items():
        _require_on(volume.grid, name, values)
    seed = int(rng.integers(1 << 62))
    item = Augmented(volume, dict(maps or {}))
    for step in steps:
        kind = sum(type(step).__name__.encode())
        item = step.apply(item, np.random.default_rng([_STREAM, seed, kind]))
    return item


def _require_on(grid: Grid, name: str, values: Array) -> None:
    if values.shape != grid.shape:
        raise InvalidInputError(
            f"The map {name!r} does not lie on the volume's grid",
            why=f"their shapes are {values.shape} and {grid.shape}",
        )


def _as(values: Array, like: Array) -> Array:
    """HU of the same dtype as before, within the scale."""
    values = np.clip(values, HU_MIN, HU_MAX)
    if like.dtype == np.int16:
        return np.rint(values).astype(np.int16)
    return values.astype(np.float32)
