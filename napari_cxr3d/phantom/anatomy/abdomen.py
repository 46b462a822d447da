"""Diaphragm and upper abdomen: liver, stomach, spleen, kidneys, colon."""

from __future__ import annotations

import numpy as np

from napari_cxr3d.phantom.anatomy.bench import AERATED, Bench, curve
from napari_cxr3d.phantom.anatomy.figure import Figure
from napari_cxr3d.phantom.anatomy.model import Dome, Ellipsoidal
from napari_cxr3d.phantom.anatomy.person import normal
from napari_cxr3d.phantom.anatomy.sections import Sections
from napari_cxr3d.phantom.labels import Label, label_mask
from napari_cxr3d.phantom.scene import Clip
from napari_cxr3d.phantom.tissues import Tissue

__all__ = ["abdominal_organs", "domes_of", "paint_abdomen", "paint_cavity", "paint_diaphragm"]

_DOME_MM = 3.0


def domes_of(figure: Figure) -> dict[str, Dome]:
    """Both halves of the diaphragm."""
    domes = {}
    for side in ("left", "right"):
        apex = figure.dome_apex(side)
        dome = figure.dome(side)
        row = dome.rows[0]
        domes[side] = Dome(
            (float(apex[0]), float(apex[1]), float(apex[2])),
            (float(row[1]), float(row[2]), figure.lung_floor),
            dome,
        )
    return domes


def paint_cavity(bench: Bench, cages: dict[str, Sections]) -> None:
    """Paint the abdominal cavity below the costophrenic recesses, before the lungs."""
    floor = bench.figure.lung_floor
    fat = bench.rule(Label.ABDOMINAL_FAT, Tissue.FAT, mottle_hu=10.0)
    for sign, cage in ((1.0, cages["left"]), (-1.0, cages["right"])):
        rows = cage.rows[cage.rows[:, 0] < floor + 80.0].copy()
        inner = 4 if sign > 0 else 3
        rows[:, inner] += 14.0
        bench.builder.loft(rows, fat)


def paint_diaphragm(bench: Bench, domes: dict[str, Dome]) -> None:
    """Paint the muscle sheet over the lungs' bases, and fat beneath it."""
    muscle = bench.rule(Label.DIAPHRAGM, Tissue.MUSCLE, over=AERATED)
    fat = bench.rule(
        Label.ABDOMINAL_FAT,
        Tissue.FAT,
        over=AERATED | label_mask([Label.DIAPHRAGM]),
        mottle_hu=10.0,
    )
    for dome in domes.values():
        bench.builder.loft(dome.sections.rows, muscle)
    for side in domes:
        bench.builder.loft(bench.figure.dome(side, _DOME_MM).rows, fat)


def abdominal_organs(bench: Bench, domes: dict[str, Dome]) -> dict[str, Ellipsoidal]:
    """Place liver, stomach, spleen and kidneys under the domes."""
    figure, rng = bench.figure, bench.rng(60)
    right, left = domes["right"].apex, domes["left"].apex
    s = figure.scale
    wobble = 3.0 * normal(rng, 12)

    def below(apex: tuple[float, float, float], x: float, y: float, down: float) -> np.ndarray:
        middle = figure.at((x, y, 0.0))
        return np.array([middle[0], middle[1], apex[2] - down * s[2]])

    lower = 1.0 - bench.person.hernia
    return {
        "liver": Ellipsoidal(
            below(right, -68, 0, 62 + 0.3 * wobble[0]), np.array([82, 92, 64.0]) * s
        ),
        "left liver": Ellipsoidal(below(right, -4, -46, 46), np.array([84, 44, 40.0]) * s),
        "stomach": Ellipsoidal(
            below(left, 62, 8, 48 * lower + 6 + wobble[1]), np.array([46, 48, 46.0]) * s
        ),
        "spleen": Ellipsoidal(
            below(left, 104, 46, 62 + wobble[2]),
            np.array([24, 46, 48.0]) * s,
            _turned(0.5),
        ),
        "right kidney": Ellipsoidal(
            below(right, -58, 44, 118 + wobble[3]), np.array([27, 24, 52.0]) * s
        ),
        "left kidney": Ellipsoidal(
            below(left, 58, 46, 92 + wobble[4]), np.array([27, 24, 52.0]) * s
        ),
    }


def _turned(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def paint_abdomen(bench: Bench, organs: dict[str, Ellipsoidal]) -> None:
    """Paint the organs into the abdominal fat, the deepest first."""
    builder = bench.builder
    belly = label_mask([Label.ABDOMINAL_FAT, Label.MEDIASTINUM])
    rng = bench.rng(61)
    _spine_muscles(bench, belly)
    for name in ("right kidney", "left kidney"):
        _kidney(bench, organs[name], belly)
    spleen = organs["spleen"]
    builder.ellipsoid(
        spleen.center,
        spleen.semi_axes,
        bench.rule(
            Label.SPLEEN,
            Tissue.SPLEEN,
            over=belly,
            rough_mm=2.0,
            rough_scale_mm=30.0,
            mottle_hu=6.0,
        ),
        axes=spleen.axes,
    )
    _liver(bench, organs, belly)
    _stomach(bench, organs["stomach"], belly, rng)
    _colon(bench, organs, belly, rng)


def _liver(bench: Bench, organs: dict[str, Ellipsoidal], belly: int) -> None:
    builder = bench.builder
    tissue = bench.rule(
        Label.LIVER,
        bench.hu(Tissue.LIVER) + 5.0 * normal(bench.rng(62)),
        over=belly | label_mask([Label.KIDNEY]),
        mottle_hu=7.0,
        mottle_mm=6.0,
        rough_mm=2.0,
        rough_scale_mm=35.0,
    )
    liver, left = organs["liver"], organs["left liver"]
    below = Clip.through(liver.center + (0.0, 30.0, -40.0), (0.46, 0.36, -0.81))
    builder.loft(bench.figure.dome("right", _DOME_MM + 2.0).rows, tissue, clip=below)
    builder.ellipsoid(liver.center, liver.semi_axes, tissue, clip=below)
    builder.ellipsoid(
        left.center,
        left.semi_axes,
        tissue,
        clip=Clip.through(left.center + (0, 0, -22.0), (0.42, 0.3, -0.86)),
    )
    gain = 35.0 if bench.person.phase == "venous" else -8.0
    vein = bench.rule(Label.LIVER, bench.hu(Tissue.LIVER) + gain, over=label_mask([Label.LIVER]))
    meeting = liver.center + (38.0, 8.0, 34.0)
    for end in ((-42.0, 30.0, 4.0), (-30.0, -30.0, 8.0), (30.0, -52.0, 12.0)):
        path = np.stack(
            [meeting, liver.center + 0.55 * np.array(end), liver.center + np.array(end)]
        )
        builder.tube(curve(path, 6), np.linspace(4.5, 1.5, 6), vein)
    porta = liver.center + (36.0, -2.0, -22.0)
    for end in ((-34.0, 22.0, -14.0), (-28.0, -26.0, -10.0), (14.0, -48.0, -4.0)):
        path = np.stack([porta, liver.center + 0.5 * np.array(end), liver.center + np.array(end)])
        builder.tube(curve(path, 6), np.linspace(5.0, 1.5, 6), vein)


def _stomach(bench: Bench, stomach: Ellipsoidal, belly: int, rng: np.random.Generator) -> None:
    builder = bench.builder
    over = belly | label_mask([Label.SPLEEN])
    wall = bench.rule(Label.STOMACH, Tissue.STOMACH_WALL, over=over)
    food = bench.rule(
        Label.STOMACH, Tissue.STOMACH_CONTENT, over=label_mask([Label.STOMACH]), mottle_hu=22.0
    )
    size = bench.figure.size
    antrum = curve(
        np.stack(
            [
                stomach.center,
                stomach.center + size(np.array([-14.0, -34.0, -50.0])),
                stomach.center + size(np.array([-56.0, -44.0, -72.0])),
            ]
        ),
        7,
    )
    wide = size(np.linspace(32.0, 18.0, 7))
    builder.ellipsoid(stomach.center, stomach.semi_axes, wall)
    builder.tube(antrum, wide, wall)
    builder.ellipsoid(stomach.center, stomach.semi_axes - 4.0, food)
    builder.tube(antrum, wide - 4.0, food)
    gas = bench.rule(Label.STOMACH_GAS, Tissue.AIR, over=label_mask([Label.STOMACH]))
    share = float(rng.uniform(0.15, 0.6))
    if bench.person.arms == "up":
        # Lying: gas collects in front.
        point = stomach.center + (0.0, -stomach.semi_axes[1] * (1 - share), 0.0)
        cut = Clip.through(point, (0.0, 1.0, 0.0))
    else:
        point = stomach.center + (0.0, 0.0, stomach.semi_axes[2] * (0.9 - share))
        cut = Clip.through(point, (0.0, 0.0, -1.0))
    builder.ellipsoid(stomach.center, stomach.semi_axes - 4.0, gas, clip=cut)


def _colon(
    bench: Bench, organs: dict[str, Ellipsoidal], belly: int, rng: np.random.Generator
) -> None:
    """The splenic flexure and part of the transverse colon: haustra of gas and stool."""
    builder, size = bench.builder, bench.figure.size
    spleen, liver = organs["spleen"], organs["liver"]
    start = spleen.center + size(np.array([0.0, -62.0, -18.0]))
    path = curve(
        np.stack(
            [
                spleen.center + size(np.array([4.0, -10.0, -92.0])),
                spleen.center + size(np.array([6.0, -46.0, -50.0])),
                start,
                start + size(np.array([-34.0, -22.0, -30.0])),
                liver.center + size(np.array([60.0, -62.0, -64.0])),
                liver.center + size(np.array([0.0, -60.0, -80.0])),
            ]
        ),
        22,
    )
    over = belly
    wall = bench.rule(Label.BOWEL, Tissue.STOMACH_WALL, over=over)
    stool = bench.rule(
        Label.BOWEL,
        Tissue.BOWEL_CONTENT,
        over=label_mask([Label.BOWEL]),
        mottle_hu=60.0,
        mottle_mm=5.0,
    )
    gas = bench.rule(Label.BOWEL_GAS, Tissue.AIR, over=label_mask([Label.BOWEL]))
    radii = size(rng.uniform(15.0, 20.0, len(path)))
    for point, r in zip(path, radii, strict=True):
        builder.ellipsoid(point, (r, r, r), wall)
    for point, r in zip(path, radii, strict=True):
        builder.ellipsoid(point, (r - 2.5,) * 3, gas if rng.random() < 0.45 else stool)


def _kidney(bench: Bench, kidney: Ellipsoidal, belly: int) -> None:
    builder = bench.builder
    builder.ellipsoid(
        kidney.center, kidney.semi_axes, bench.rule(Label.KIDNEY, Tissue.KIDNEY, over=belly)
    )
    sinus = bench.rule(Label.ABDOMINAL_FAT, Tissue.FAT, over=label_mask([Label.KIDNEY]))
    inward = np.array([-np.sign(kidney.center[0]) * kidney.semi_axes[0] * 0.55, -4.0, 0.0])
    builder.ellipsoid(kidney.center + inward, kidney.semi_axes * (0.62, 0.4, 0.5), sinus)


def _spine_muscles(bench: Bench, belly: int) -> None:
    """Crura beside the aorta and psoas."""
    figure = bench.figure
    muscle = bench.rule(Label.MUSCLE, Tissue.MUSCLE, over=belly | label_mask([Label.MEDIASTINUM]))
    for sign in (-1.0, 1.0):
        crus = figure.at(
            np.array(
                [
                    (sign * 16.0, 4.0, -108.0),
                    (sign * 16.0, 12.0, -140.0),
                    (sign * 10.0, 8.0, -190.0),
                ]
            )
        )
        bench.builder.tube(crus, figure.size(np.array([5.0, 6.5, 5.0])), muscle)
        psoas = figure.at(np.array([(sign * 26.0, 28.0, -150.0), (sign * 34.0, 26.0, -200.0)]))
        bench.builder.tube(psoas, figure.size(np.array([8.0, 18.0])), muscle)
