"""Great vessels of the mediastinum, the azygos system and the oesophagus.

Calibres: aorta after Wolak et al., JACC Cardiovasc. Imaging 1, 200-209 (2008); pulmonary trunk
after Truong et al., Circ. Cardiovasc. Imaging 5, 147-154 (2012), 25.1 +- 2.8 mm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_cxr3d.imaging.frames import FloatArray
from napari_cxr3d.phantom.anatomy.bench import AERATED, Bench, curve
from napari_cxr3d.phantom.anatomy.heart import Heart
from napari_cxr3d.phantom.anatomy.model import Aorta
from napari_cxr3d.phantom.anatomy.person import normal
from napari_cxr3d.phantom.anatomy.sections import Sections
from napari_cxr3d.phantom.labels import Label, label_mask
from napari_cxr3d.phantom.tissues import Tissue

__all__ = [
    "GreatVessels",
    "great_vessels_of",
    "mediastinal_lofts",
    "paint_great_vessels",
    "paint_mediastinum",
    "paint_nodes",
    "paint_oesophagus",
]

VESSEL_BED = AERATED | label_mask(
    [
        Label.MEDIASTINUM,
        Label.FAT,
        Label.PERICARDIUM,
        Label.MUSCLE,
        Label.ABDOMINAL_FAT,
    ]
)


@dataclass(frozen=True, eq=False)
class GreatVessels:
    """Centrelines with radii, shape (N, 4): x, y, z, radius in mm.

    Attributes
    ----------
    aorta : Aorta
        The aorta.
    arch_branches, veins : dict of str to ndarray
        Of the arch; systemic veins.
    trunk, right_main, left_main : ndarray
        Pulmonary arteries up to the hila.
    trachea, right_bronchus, left_bronchus : ndarray
        Airways up to the hila.
    oesophagus : ndarray
        From above to the stomach.
    """

    aorta: Aorta
    arch_branches: dict[str, FloatArray]
    veins: dict[str, FloatArray]
    trunk: FloatArray
    right_main: FloatArray
    left_main: FloatArray
    trachea: FloatArray
    right_bronchus: FloatArray
    left_bronchus: FloatArray
    oesophagus: FloatArray


def great_vessels_of(bench: Bench, heart: Heart, spine: FloatArray) -> GreatVessels:
    """Lay out all large tubes of the mediastinum."""
    person, figure = bench.person, bench.figure
    rng = bench.rng(40)
    old = max(person.age - 40.0, 0.0) / 40.0
    shift = np.array([person.mediastinal_shift_mm / figure.scale[0], 0.0, 0.0])
    wobble = 1.6 * normal(rng, 3).clip(-2, 2)

    def line(points: list[tuple[float, ...]], count: int, pull: float = 0.7) -> FloatArray:
        table = np.asarray(points, np.float64)
        moved = table[:, :3] + wobble + pull * shift
        placed = np.concatenate([figure.at(moved), figure.size(table[:, 3:4])], axis=1)
        return curve(placed, count)

    calibre = person.aorta_scale * (1 + 0.10 * old) * (1 + 0.05 * normal(rng))
    wide = 7.0 * old * person.aorta_scale
    m = heart.move
    course = [
        (*m((6, -27, -12)), 12.0),
        (*m((3, -31, 0)), 16.5),
        (*(0.5 * m((-6, -36, 22)) + (-3, -18, 11)), 15.0),
        (-14 - wide * 0.8, -36, 44, 15.8),
        (-10 - 0.5 * wide, -30, 66, 15.4),
        (2, -18, 80 + 0.5 * wide, 14.6),
        (15, -4, 83 + 0.6 * wide, 13.6),
        (25 + 0.5 * wide, 12, 77 + 0.5 * wide, 13.0),
        (29 + 0.8 * wide, 24, 62, 12.6),
        (28 + wide, 31, 40, 12.4),
        (25 + wide, 34, 14, 12.2),
        (21 + 0.8 * wide, 34, -16, 12.0),
        (16 + 0.5 * wide, 31, -50, 11.6),
        (11, 24, -84, 11.3),
        (6, 15, -116, 11.0),
        (3, 6, -150, 10.4),
        (2, 2, -200, 9.8),
    ]
    table = line([(x, y, z, r * calibre) for x, y, z, r in course], 60, 0.6)
    stations = {}
    for name, at in (
        ("valve", 0),
        ("root", 1),
        ("ascending", 3),
        ("arch", 6),
        ("isthmus", 8),
        ("descending", 11),
        ("hiatus", 14),
    ):
        target = figure.at(np.array(course[at][:3]) + wobble + 0.6 * shift)
        stations[name] = int(((table[:, :3] - target) ** 2).sum(axis=1).argmin())
    flow = table[2, :3] - table[0, :3]
    aorta = Aorta(table[:, :3], table[:, 3], stations, table[0, :3], flow / np.sqrt(flow @ flow))
    lift = float(table[stations["arch"], 2] / figure.scale[2]) - 83.0
    w = wide * 0.4
    branches = {
        "brachiocephalic trunk": line(
            [(-1, -20, 82 + lift, 6.5), (-9, -20, 102, 6.0), (-18, -16, 120, 6.0)], 8
        ),
        "right subclavian artery": line(
            [
                (-18, -16, 120, 4.6),
                (-36, -8, 134, 4.4),
                (-62, -16, 130, 4.2),
                (-100, -18, 112, 4.0),
            ],
            10,
        ),
        "right common carotid artery": line(
            [(-18, -16, 120, 3.8), (-22, -14, 150, 3.6), (-26, -10, 230, 3.4)], 8
        ),
        "left common carotid artery": line(
            [
                (10, -10, 84 + lift, 4.0),
                (14, -10, 110, 3.7),
                (20, -12, 150, 3.6),
                (26, -10, 230, 3.4),
            ],
            10,
        ),
        "left subclavian artery": line(
            [
                (21 + w, 4, 82 + lift, 5.2),
                (26 + w, 8, 108, 5.0),
                (38, -2, 130, 4.6),
                (64, -16, 128, 4.3),
                (100, -18, 112, 4.0),
            ],
            12,
        ),
    }
    azygos = person.azygos_scale
    veins = {
        "superior vena cava": line(
            [
                (-24, -30, 86, 8.5),
                (-27, -27, 62, 9.5),
                (-28, -22, 34, 10.0),
                (*m((-24, -22, 2)), 10.5),
                (*m((-22, -26, -18)), 11.0),
            ],
            10,
        ),
        "right brachiocephalic vein": line(
            [(-24, -30, 88, 8.0), (-26, -34, 104, 7.6), (-34, -36, 118, 7.0)], 6
        ),
        "left brachiocephalic vein": line(
            [(-22, -32, 88, 7.6), (0, -44, 97, 7.4), (20, -42, 106, 7.0), (36, -36, 118, 6.8)], 10
        ),
        "right jugular vein": line(
            [(-34, -36, 118, 6.5), (-36, -26, 160, 6.2), (-38, -18, 230, 6.0)], 6
        ),
        "left jugular vein": line(
            [(36, -36, 118, 6.0), (37, -26, 160, 5.8), (38, -18, 230, 5.6)], 6
        ),
        "right subclavian vein": line(
            [(-34, -36, 118, 6.0), (-62, -32, 118, 5.6), (-104, -26, 106, 5.2)], 8
        ),
        "left subclavian vein": line(
            [(36, -36, 118, 6.0), (62, -32, 118, 5.6), (104, -26, 106, 5.2)], 8
        ),
        "inferior vena cava": line(
            [
                (*m((-20, -22, -52)), 11.5),
                (*m((-22, -14, -70)), 12.0),
                (-22, -6, -92, 12.0),
                (-20, 2, -120, 11.5),
                (-18, 6, -200, 11.0),
            ],
            12,
        ),
        "azygos vein": line(
            [
                (-27, -16, 52, 4.4 * azygos),
                (-24, 6, 60, 4.4 * azygos),
                (-14, 24, 58, 4.2 * azygos),
                (-9, 31, 44, 3.8 * azygos),
                (-7, 34, 0, 3.6 * azygos),
                (-5, 28, -80, 3.2),
                (-5, 16, -130, 2.8),
            ],
            20,
        ),
        "hemiazygos vein": line(
            [(-8, 36, -6, 2.4), (8, 40, -14, 2.4), (12, 38, -60, 2.4), (10, 26, -120, 2.2)], 10
        ),
    }
    t = person.pulmonary_trunk_scale * (1 + 0.06 * normal(rng))
    trunk = line(
        [
            (*m((18, -57, 4)), 14.0 * t),
            (*(0.5 * m((24, -50, 20)) + (12, -25, 10)), 13.4 * t),
            (25, -34, 32, 13.2 * t),
            (22, -17, 36, 13.0 * t),
        ],
        8,
    )
    right_main = line(
        [
            (18, -17, 35, 11.0 * t),
            (2, -10, 33, 10.4 * t),
            (-16, -5, 31, 10.0 * t),
            (-32, -2, 28, 9.4 * t),
            (-43, 3, 20, 8.4 * t),
        ],
        10,
    )
    left_main = line(
        [
            (22, -18, 37, 11.0 * t),
            (30, -6, 41, 10.6 * t),
            (38, 7, 41, 10.0 * t),
            (44, 16, 32, 9.0 * t),
            (46, 20, 20, 8.2 * t),
        ],
        10,
    )
    big = (1.0 if person.sex == "male" else 0.92) * (1 + 0.05 * normal(rng))
    trachea = line(
        [
            (0, -22, 230, 8.6),
            (0, -16, 170, 8.8 * big),
            (1, -8, 130, 9.0 * big),
            (2, -1, 96, 9.2 * big),
            (1, 6, 66, 9.6 * big),
            (-1, 8, 55, 9.8 * big),
        ],
        14,
    )
    right_bronchus = line(
        [
            (-1, 8, 55, 8.6 * big),
            (-12, 11, 44, 7.8 * big),
            (-24, 14, 33, 7.4 * big),
            (-33, 16, 20, 6.4 * big),
            (-37, 18, 6, 5.8 * big),
        ],
        10,
    )
    left_bronchus = line(
        [
            (-1, 8, 55, 8.2 * big),
            (14, 13, 43, 7.2 * big),
            (28, 18, 32, 6.6 * big),
            (40, 20, 24, 6.2 * big),
            (44, 23, 14, 5.4 * big),
        ],
        10,
    )
    oesophagus = line(
        [
            (2, -4, 230, 6.5),
            (4, 2, 150, 6.5),
            (5, 12, 110, 6.5),
            (6, 21, 70, 6.5),
            (6, 24, 40, 6.5),
            (5, 27, 0, 7.0),
            (8, 24, -40, 7.0),
            (14, 14, -76, 7.5),
            (22, 4, -96, 8.0),
            (32, -4, -106, 8.5),
        ],
        26,
    )
    del spine
    return GreatVessels(
        aorta,
        branches,
        veins,
        trunk,
        right_main,
        left_main,
        trachea,
        right_bronchus,
        left_bronchus,
        oesophagus,
    )


def mediastinal_lofts(bench: Bench) -> tuple[Sections, ...]:
    """The fat between the lungs: the middle compartment, and the thin one behind the sternum."""
    figure = bench.figure
    push = bench.person.mediastinal_shift_mm / figure.scale[0] * 0.7
    stout = {"slim": -2.0, "average": 0.0, "heavy": 6.0}[bench.person.habitus]
    wide = np.array(
        [  # z, centre, left, right, front, back, squareness
            (-120.0, 2.0, 28.0, -24.0, -30.0, 40.0, 0.3),
            (-60.0, 2.0, 28.0, -22.0, -30.0, 40.0, 0.3),
            (-10.0, 2.0, 28.0, -22.0, -36.0, 40.0, 0.3),
            (20.0, 2.0, 28.0, -24.0, -46.0, 40.0, 0.3),
            (50.0, 1.0, 27.0, -27.0, -48.0, 38.0, 0.3),
            (75.0, 1.0, 26.0, -29.0, -46.0, 36.0, 0.35),
            (95.0, 0.0, 22.0, -28.0, -46.0, 34.0, 0.35),
            (115.0, 0.0, 26.0, -30.0, -44.0, 32.0, 0.35),
            (140.0, 0.0, 40.0, -40.0, -40.0, 30.0, 0.3),
            (170.0, 0.0, 46.0, -46.0, -40.0, 30.0, 0.3),
        ]
    )
    thin = np.array(
        [
            (-110.0, 4.0, 22.0, -12.0, -103.0, -20.0, 0.5),
            (-60.0, 4.0, 18.0, -8.0, -101.0, -20.0, 0.5),
            (0.0, 1.0, 8.0, -6.0, -95.0, -20.0, 0.5),
            (50.0, -1.0, 7.0, -8.0, -81.0, -20.0, 0.5),
            (80.0, 0.0, 13.0, -13.0, -67.0, -20.0, 0.6),
            (110.0, 0.0, 26.0, -26.0, -53.0, -20.0, 0.5),
        ]
    )
    for table in (wide, thin):
        table[:, 1:4] += push
    wide[:, 2] += stout
    wide[:, 3] -= stout
    return figure.sections(wide), figure.sections(thin)


def paint_mediastinum(bench: Bench, lofts: tuple[Sections, ...]) -> None:
    """Paint mediastinal fat between the lungs, with wisps of thymus in the young."""
    over = AERATED | label_mask([Label.MUSCLE])
    fat = bench.rule(Label.MEDIASTINUM, Tissue.FAT, over=over, mottle_hu=12.0, mottle_mm=6.0)
    for loft in lofts:
        bench.builder.loft(loft.rows, fat)
    young = min(max((60.0 - bench.person.age) / 40.0, 0.0), 1.0)
    thymus = bench.rule(
        Label.MEDIASTINUM,
        35.0,
        over=label_mask([Label.MEDIASTINUM]),
        pattern_mm=8.0,
        pattern_above=0.7 - 0.9 * young,
        opacity=0.8,
    )
    bench.builder.ellipsoid(bench.figure.at((2.0, -56.0, 58.0)), (16.0, 14.0, 32.0), thymus)


def paint_great_vessels(bench: Bench, vessels: GreatVessels) -> None:
    """Paint all large tubes; walls of the aorta are 2 mm and a little denser than muscle."""
    builder, bolus = bench.builder, bench.bolus
    upper = 0.5 * (bolus.caval + bolus.right_heart) if bench.person.phase == "ctpa" else bolus.caval
    pale = bench.rule(
        Label.BRACHIOCEPHALIC_VESSEL, 0.7 * bolus.lower_caval + 0.3 * upper, over=VESSEL_BED
    )
    dense = bench.rule(Label.BRACHIOCEPHALIC_VESSEL, bolus.caval, over=VESSEL_BED)
    injected = "right" if bench.rng(41).random() < 0.5 else "left"
    for name, tube in vessels.veins.items():
        side = name.split()[0]
        if name in {"superior vena cava", "inferior vena cava"}:
            continue
        bright = side == injected or name == f"{injected} brachiocephalic vein"
        rule = dense if bright and "jugular" not in name and "azygos" not in name else pale
        builder.tube(tube[:, :3], tube[:, 3], rule)
    for tube in vessels.arch_branches.values():
        blood = bench.rule(Label.BRACHIOCEPHALIC_VESSEL, bolus.aorta, over=VESSEL_BED)
        builder.tube(tube[:, :3], tube[:, 3], blood)
    wall = bench.rule(Label.AORTA, Tissue.SOFT, over=VESSEL_BED | label_mask([Label.MYOCARDIUM]))
    aorta = vessels.aorta
    builder.tube(aorta.points, aorta.radii, wall)
    for vein, label, hu in (
        ("superior vena cava", Label.SUPERIOR_VENA_CAVA, bolus.caval),
        ("inferior vena cava", Label.INFERIOR_VENA_CAVA, bolus.lower_caval),
    ):
        tube = vessels.veins[vein]
        builder.tube(
            tube[:, :3],
            tube[:, 3],
            bench.rule(label, hu, over=VESSEL_BED | label_mask([Label.LIVER])),
        )
    blood = bench.rule(
        Label.AORTA, bolus.aorta, over=VESSEL_BED | label_mask([Label.AORTA, Label.MYOCARDIUM])
    )
    builder.tube(aorta.points, aorta.radii - 1.6, blood)
    artery = bench.rule(
        Label.PULMONARY_ARTERY,
        bolus.pulmonary_artery,
        over=VESSEL_BED | label_mask([Label.RIGHT_VENTRICLE]),
    )
    for tube in (vessels.trunk, vessels.right_main, vessels.left_main):
        builder.tube(tube[:, :3], tube[:, 3], artery)


def paint_oesophagus(bench: Bench, vessels: GreatVessels) -> None:
    """Paint the oesophagus, with a little swallowed air here and there."""
    tube = vessels.oesophagus
    wall = bench.rule(Label.OESOPHAGUS, Tissue.OESOPHAGUS, over=VESSEL_BED)
    bench.builder.tube(tube[:, :3], tube[:, 3], wall, flat=(0, 1, 0), flatness=1.35)
    rng = bench.rng(42)
    air = bench.rule(Label.OESOPHAGUS, Tissue.AIR, over=label_mask([Label.OESOPHAGUS]))
    for k in rng.integers(3, 18, int(rng.integers(1, 4))):
        bench.builder.cone(tube[k, :3], tube[k + 1, :3], (2.2, 1.6), air)


def paint_nodes(bench: Bench, vessels: GreatVessels) -> None:
    """Paint a few normal lymph nodes of 3 to 7 mm with fatty hila."""
    rng = bench.rng(43)
    over = label_mask([Label.MEDIASTINUM])
    node = bench.rule(Label.LYMPH_NODE, Tissue.LYMPH_NODE, over=over)
    carina = vessels.trachea[-1, :3]
    for place in (
        (-16, -6, 14),
        (14, 4, 4),
        (-4, 8, -16),
        (-14, -12, 30),
        (16, -14, 18),
        (4, -24, 30),
    ):
        if rng.random() < 0.75:
            center = carina + bench.figure.size(np.array(place, float)) + rng.uniform(-2, 2, 3)
            bench.builder.ellipsoid(center, rng.uniform(2.0, 4.0, 3) * (1.0, 1.3, 1.3), node)
