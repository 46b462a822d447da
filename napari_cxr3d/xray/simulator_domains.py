"""Named looks: the clean DRR, and radiographs as varied as a hospital's archive."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.xray.appearance import CharacteristicCurve, MultiscaleContrast, Noise
from napari_cxr3d.xray.attenuation import DEFAULT_ENERGY_KEV
from napari_cxr3d.xray.simulator_exposure import (
    AntiscatterGrid,
    Beam,
    Collimation,
    DetectorBlur,
    FlatField,
    Heel,
    ScatterKernel,
)
from napari_cxr3d.xray.simulator_leads import draw_wires
from napari_cxr3d.xray.simulator_marks import BurntText, LeadMarker, Style
from napari_cxr3d.xray.simulator_processing import (
    Border,
    DisplayRange,
    EdgeEnhancement,
    ExposureIndex,
    Vignette,
)
from napari_cxr3d.xray.simulator_system import Simulator
from napari_cxr3d.xray.spectra import Filtration

__all__ = ["DOMAINS", "Domain", "domain"]

_STREAM = 0x5EED  # keeps a system's draw apart from other uses of the same seed


@dataclass(frozen=True)
class Domain:
    """A named family of systems.

    Attributes
    ----------
    name, description : str
        For people.
    deterministic : bool
        Whether every seed gives the same system.
    """

    name: str
    description: str
    deterministic: bool
    _draw: Callable[[np.random.Generator], Simulator]

    def sample(self, seed: int) -> Simulator:
        """One system with all its parameters fixed; one seed, one system.

        Parameters
        ----------
        seed : int
            0 or more.
        """
        if seed < 0:
            raise InvalidInputError("A seed must be 0 or more", why=f"it is {seed}")
        return self._draw(np.random.default_rng([_STREAM, seed]))


def domain(name: str) -> Domain:
    """A domain by its name.

    Raises
    ------
    InvalidInputError
        If there is no such domain; the message lists those that exist.
    """
    try:
        return DOMAINS[name]
    except KeyError:
        raise InvalidInputError(
            f"There is no domain of radiographs called {name!r}",
            remedy=f"choose one of {', '.join(DOMAINS)}",
        ) from None


def _clean(_: np.random.Generator) -> Simulator:
    """The simulated domain of the published pipelines: min-max of the line integrals."""
    return Simulator(
        beam=Beam(None, energy_kev=DEFAULT_ENERGY_KEV),
        exposure_index=ExposureIndex(0.0, 100.0, air=True),
    )


@dataclass(frozen=True)
class _Style:
    """What a manufacturer's processing makes of a chest: ranges of the parameters."""

    latitude: tuple[float, float]
    low: tuple[float, float]
    high: tuple[float, float]
    edges: tuple[float, float]
    detail: tuple[float, float]
    coarse: tuple[float, float]
    width: tuple[float, float]
    black: tuple[float, float]
    white: tuple[float, float]
    gamma: tuple[float, float]


# Three families that archives mix: strong multi-scale processing, plain processing, and
# pictures stored without their window.
_STYLES: Mapping[str, _Style] = MappingProxyType(
    {
        "crisp": _Style(
            latitude=(2.4, 3.2), low=(1, 5), high=(97, 99.5), edges=(2.0, 4.5), detail=(2.0, 3.0),
            coarse=(0.55, 0.8), width=(0.8, 1.1), black=(0.02, 0.16), white=(0.83, 0.98),
            gamma=(0.8, 1.1),
        ),
        "plain": _Style(
            latitude=(2.8, 4.0), low=(1, 6), high=(97, 99.8), edges=(2.0, 4.5), detail=(1.7, 2.8),
            coarse=(0.55, 0.8), width=(0.9, 1.4), black=(0.1, 0.3), white=(0.74, 0.95),
            gamma=(0.7, 1.0),
        ),
        "flat": _Style(
            latitude=(2.8, 3.8), low=(1, 6), high=(98, 99.8), edges=(2.0, 4.0), detail=(1.5, 2.4),
            coarse=(0.55, 0.8), width=(1.0, 1.5), black=(0.2, 0.32), white=(0.55, 0.68),
            gamma=(0.8, 1.0),
        ),
    }
)  # fmt: skip
_STYLE_SHARES = {"crisp": 0.3, "plain": 0.45, "flat": 0.25}


def _realistic(rng: np.random.Generator) -> Simulator:
    """A system drawn around clinical values (IAEA Human Health Campus; ACR-SPR-STR chest)."""
    bedside = rng.random() < 0.4
    # Steps of 5 kV: the readings' tables are found ready.
    kilovolt = 5.0 * (rng.integers(16, 23) if bedside else rng.integers(22, 27))
    style = str(rng.choice(list(_STYLE_SHARES), p=list(_STYLE_SHARES.values())))
    beam = Beam(float(kilovolt), Filtration(3.0, float(rng.choice([0.0, 0.1, 0.2]))))
    return Simulator(
        beam=beam,
        heel=Heel(rng.uniform(11, 16), rng.uniform(0.03, 0.07), str(rng.choice(["up", "down"]))),
        inverse_square=True,
        collimation=_collimation(rng),
        marker=_marker(rng),
        wires=draw_wires(rng) if rng.random() < (0.7 if bedside else 0.1) else (),
        scatter=ScatterKernel(
            rng.uniform(0.6, 1.0), rng.uniform(14, 26), rng.uniform(55, 90), rng.uniform(0.25, 0.45)
        ),
        grid=_grid(rng, bedside=bedside),
        noise=Noise(float(np.exp(rng.uniform(np.log(2e5), np.log(1.2e6)))), rng.uniform(5, 30)),
        blur=DetectorBlur(rng.uniform(0.3, 1.5), rng.uniform(0.6, 1.4)),
        flat_field=FlatField(rng.uniform(0.0, 0.4)),
        exposure_index=_exposure_index(rng, _STYLES[style]),
        edges=EdgeEnhancement(
            _between(rng, _STYLES[style].edges), rng.uniform(1.2, 2.5), rng.uniform(0.6, 0.9)
        ),
        contrast=_contrast(rng, _STYLES[style]),
        curve=CharacteristicCurve(rng.uniform(0.45, 0.62), _between(rng, _STYLES[style].width)),
        display=_display(rng, _STYLES[style]),
        black_air=bool(rng.random() < 0.4),
        vignette=Vignette(rng.uniform(0.03, 0.25), rng.uniform(0.35, 0.65), rng.uniform(0.35, 0.65))
        if rng.random() < 0.25
        else None,
        shutter=0.0 if rng.random() < 0.6 else None,
        texts=_texts(rng),
        border=_border(rng),
        bits=8,
    )


def _between(rng: np.random.Generator, ends: tuple[float, float]) -> float:
    return float(rng.uniform(*ends))


def _exposure_index(rng: np.random.Generator, style: _Style) -> ExposureIndex:
    low, high = _between(rng, style.low), _between(rng, style.high)
    return ExposureIndex(low, high, _between(rng, style.latitude) if rng.random() < 0.5 else None)


def _contrast(rng: np.random.Generator, style: _Style) -> MultiscaleContrast:
    detail, latitude = _between(rng, style.detail), _between(rng, style.coarse)
    return MultiscaleContrast(detail=detail, latitude=latitude, power=rng.uniform(0.75, 0.95))


def _display(rng: np.random.Generator, style: _Style) -> DisplayRange:
    return DisplayRange(*(_between(rng, r) for r in (style.black, style.white, style.gamma)))


def _grid(rng: np.random.Generator, *, bedside: bool) -> AntiscatterGrid | None:
    if bedside and rng.random() < 0.5:
        return None
    ratio = 8.0 if bedside else float(rng.choice([10.0, 12.0]))
    off = rng.normal(0.0, 15.0 if bedside else 4.0)
    return AntiscatterGrid(
        primary=rng.uniform(0.64, 0.74),
        scatter=rng.uniform(0.10, 0.18) if bedside else rng.uniform(0.08, 0.14),
        ratio=ratio,
        focus_mm=1100.0 if bedside else 1800.0,
        offset_mm=float(off),
    )


def _collimation(rng: np.random.Generator) -> Collimation:
    """Mostly the picture is cut to the field; now and then a blade is seen."""
    blades = np.where(rng.random(4) < 0.15, rng.uniform(2, 22, 4), -20.0)
    top, bottom, left, right = (float(blade) for blade in blades)
    turn, penumbra = rng.normal(0.0, 1.2), rng.uniform(2, 7)
    return Collimation(top, bottom, left, right, turn, penumbra)


def _marker(rng: np.random.Generator) -> LeadMarker | None:
    if rng.random() > 0.25:
        return None
    right = rng.random() < 0.5
    return LeadMarker(
        row=rng.uniform(0.06, 0.3),
        column=rng.uniform(0.04, 0.12) if right else rng.uniform(0.88, 0.96),
        height_mm=rng.uniform(9, 16),
        degrees=rng.normal(0.0, 8.0),
        ring=bool(rng.random() < 0.4),
        integral=rng.uniform(2.5, 6.0),
    )


def _texts(rng: np.random.Generator) -> tuple[BurntText, ...]:
    if rng.random() > 0.6:
        return ()
    right = rng.random() < 0.3
    side = BurntText(
        row=rng.uniform(0.03, 0.14),
        column=rng.uniform(0.05, 0.14) if right else rng.uniform(0.86, 0.96),
        height=rng.uniform(0.02, 0.045),
        style=_text_style(rng),
        level=rng.uniform(0.8, 1.0),
    )
    if rng.random() > 0.35:
        return (side,)
    label = BurntText(
        row=rng.uniform(0.03, 0.1) if rng.random() < 0.6 else rng.uniform(0.9, 0.97),
        column=rng.uniform(0.06, 0.2) if not right else rng.uniform(0.8, 0.94),
        height=rng.uniform(0.018, 0.03),
        text=str(rng.choice(["{view}", "{view} {side}", "CHEST {view}"])),
        level=rng.uniform(0.8, 1.0),
    )
    return (side, label)


def _text_style(rng: np.random.Generator) -> Style:
    chosen = rng.choice(3, p=[0.7, 0.15, 0.15])
    styles: tuple[Style, Style, Style] = ("plain", "boxed", "ring")
    return styles[int(chosen)]


def _border(rng: np.random.Generator) -> Border | None:
    kind = rng.random()
    if kind < 0.08:  # a portrait, padded to a square
        left = rng.uniform(0, 0.12)
        return Border(left=left, right=rng.uniform(0, 0.12))
    if kind < 0.2:
        top, bottom, left, right = (float(w) for w in rng.uniform(0, 0.015, 4))
        return Border(top, bottom, left, right, level=float(kind < 0.1))
    return None


DOMAINS: Mapping[str, Domain] = MappingProxyType(
    {
        "drr": Domain(
            "drr", "clean: the line integrals from their least to their greatest", True, _clean
        ),
        "realistic": Domain(
            "realistic",
            "radiographs as varied as an archive's, one for each seed",
            False,
            _realistic,
        ),
    }
)
"""The domains by name."""
