"""Who the phantom is: the few numbers that shape a body."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Final, Literal

import numpy as np

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.phantom.tissues import PHASES, Phase

__all__ = ["HABITUS", "SEXES", "Arms", "Habitus", "Person", "Sex", "child_rng", "normal"]

Sex = Literal["female", "male"]
Habitus = Literal["slim", "average", "heavy"]
Arms = Literal["up", "down"]
SEXES: Final[tuple[Sex, ...]] = ("female", "male")
HABITUS: Final[tuple[Habitus, ...]] = ("slim", "average", "heavy")
_ARMS: Final[tuple[Arms, ...]] = ("up", "down")


def normal(rng: np.random.Generator, count: int | None = None) -> Any:
    """Nearly normal numbers of mean 0 and deviation 1 without libm: 12 uniforms less 6."""
    if count is None:
        return float(rng.random(12).sum() - 6.0)
    return rng.random((count, 12)).sum(axis=1) - 6.0


def child_rng(seed: int, *tags: int) -> np.random.Generator:
    """A generator for one organ, so that drawing for another leaves it as it is."""
    return np.random.default_rng([int(seed), *tags])


@dataclass(frozen=True)
class Person:
    """A person, and what a finding does to the whole body before it is built.

    Attributes
    ----------
    seed : int
        Seed of every shape and pose, 0 or more.
    sex : {"female", "male"}
        Size of the chest, breasts, shape of the shoulders.
    age : float
        Years, 18 to 100: kyphosis, calcified cartilage, unfolded aorta, bone density.
    habitus : {"slim", "average", "heavy"}
        Fat, and with it the diaphragm's height.
    phase : {"none", "venous", "ctpa"}
        Contrast phase.
    arms : {"up", "down"}
        Beside the head (CT) or beside the body (radiograph).
    table : bool
        Whether the CT table lies under the back.
    heart_scale : float
        1 is a cardiothoracic ratio of about 0.45; 1.35 is cardiomegaly.
    left_ventricle_scale, left_atrium_scale, right_heart_scale : float
        Of single chambers, times `heart_scale`.
    inspiration : float
        Height of the lungs: 1.1 hyperinflated, 0.85 poorly inspired.
    pulmonary_trunk_scale, aorta_scale, azygos_scale, vessel_scale : float
        Of the radii of the pulmonary trunk and main arteries, of the aorta, of the azygos vein,
        and of the lungs' vessels.
    upper_vessel_scale : float
        Of the vessels of the lungs' upper halves (cephalization).
    bronchus_scale : float
        Of the bronchi's lumens (bronchiectasis).
    pericardial_fluid_mm : float
        Width of the fluid around the heart.
    hernia : float
        Share of the stomach above the diaphragm, 0 to 1.
    diaphragm_raise_mm : tuple of 2 float
        By which the left and right dome stand higher, in mm.
    mediastinal_shift_mm : float
        Shift of heart and mediastinum to the left, in mm.
    kyphosis : float
        Extra kyphosis, 0 for the age's own.
    barrel : float
        How much deeper the chest is from front to back, 0 to 1.
    """

    seed: int = 0
    sex: Sex = "male"
    age: float = 55.0
    habitus: Habitus = "average"
    phase: Phase = "none"
    arms: Arms = "up"
    table: bool = True
    heart_scale: float = 1.0
    left_ventricle_scale: float = 1.0
    left_atrium_scale: float = 1.0
    right_heart_scale: float = 1.0
    inspiration: float = 1.0
    pulmonary_trunk_scale: float = 1.0
    aorta_scale: float = 1.0
    azygos_scale: float = 1.0
    vessel_scale: float = 1.0
    upper_vessel_scale: float = 1.0
    bronchus_scale: float = 1.0
    pericardial_fluid_mm: float = 0.0
    hernia: float = 0.0
    diaphragm_raise_mm: tuple[float, float] = (0.0, 0.0)
    mediastinal_shift_mm: float = 0.0
    kyphosis: float = 0.0
    barrel: float = 0.0

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("sex", self.sex, SEXES),
            ("habitus", self.habitus, HABITUS),
            ("phase", self.phase, PHASES),
            ("arms", self.arms, _ARMS),
        ):
            if value not in allowed:
                raise InvalidInputError(
                    f"The phantom's {name} is unknown",
                    why=f"it is {value!r}",
                    remedy=f"choose one of {', '.join(allowed)}",
                )
        if self.seed < 0:
            raise InvalidInputError("A phantom's seed is 0 or more", why=f"it is {self.seed}")
        if not 18.0 <= self.age <= 100.0:
            raise InvalidInputError(
                "The phantom is an adult of 18 to 100 years", why=f"the age is {self.age:g}"
            )
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if not low <= value <= high:
                raise InvalidInputError(
                    f"The phantom's {name} cannot be used",
                    why=f"it is {value:g}",
                    remedy=f"give {low:g} to {high:g}",
                )

    @classmethod
    def sample(cls, seed: int, **fixed: Any) -> Person:
        """Draw what is not given.

        Parameters
        ----------
        seed : int
            One seed, one person. What is given does not change what is drawn for the rest.
        **fixed
            Attributes by name; None leaves one to be drawn.

        Raises
        ------
        InvalidInputError
            If a name or a value is unknown.
        """
        known = {f.name for f in fields(cls)}
        given = {name: value for name, value in fixed.items() if value is not None}
        unknown = sorted(set(given) - known)
        if unknown:
            raise InvalidInputError(
                "A phantom's person has no such attribute", why=f"given: {', '.join(unknown)}"
            )
        if seed < 0:
            raise InvalidInputError("A phantom's seed is 0 or more", why=f"it is {seed}")
        rng = child_rng(seed, 1)
        drawn = cls(
            seed=seed,
            sex=SEXES[int(rng.random() < 0.5)],
            age=float(round(22 + 66 * rng.random())),
            habitus=HABITUS[int(np.searchsorted([0.25, 0.75], rng.random()))],
            phase=PHASES[int(np.searchsorted([0.45, 0.7], rng.random()))],
            arms=_ARMS[int(rng.random() < 0.15)],
            heart_scale=_clamped(1.0 + 0.04 * normal(rng), 0.88, 1.12),
            inspiration=_clamped(1.0 + 0.03 * normal(rng), 0.9, 1.08),
        )
        return replace(drawn, **given)


_RANGES: Final[tuple[tuple[str, float, float], ...]] = (
    ("heart_scale", 0.5, 2.0),
    ("left_ventricle_scale", 0.5, 2.0),
    ("left_atrium_scale", 0.5, 2.0),
    ("right_heart_scale", 0.5, 2.0),
    ("inspiration", 0.6, 1.3),
    ("pulmonary_trunk_scale", 0.5, 2.0),
    ("aorta_scale", 0.5, 2.5),
    ("azygos_scale", 0.5, 3.0),
    ("vessel_scale", 0.5, 2.0),
    ("upper_vessel_scale", 0.5, 2.0),
    ("bronchus_scale", 0.5, 4.0),
    ("pericardial_fluid_mm", 0.0, 50.0),
    ("hernia", 0.0, 1.0),
    ("mediastinal_shift_mm", -60.0, 60.0),
    ("kyphosis", -1.0, 2.0),
    ("barrel", -0.5, 1.0),
)


def _clamped(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
