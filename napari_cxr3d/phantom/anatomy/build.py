"""One body from a person: every organ in painting order."""

from __future__ import annotations

import numpy as np

from napari_cxr3d.imaging.frames import FloatArray
from napari_cxr3d.phantom.anatomy.abdomen import (
    abdominal_organs,
    domes_of,
    paint_abdomen,
    paint_cavity,
    paint_diaphragm,
)
from napari_cxr3d.phantom.anatomy.bench import Bench
from napari_cxr3d.phantom.anatomy.body import (
    paint_breasts,
    paint_muscles,
    paint_table,
    paint_trunk,
)
from napari_cxr3d.phantom.anatomy.chest_wall import (
    Shoulder,
    paint_ribs,
    paint_sternum,
    rib_lines,
    shoulder_of,
)
from napari_cxr3d.phantom.anatomy.figure import VERTEBRAE, Figure
from napari_cxr3d.phantom.anatomy.heart import (
    Heart,
    heart_of,
    paint_coronaries,
    paint_heart,
    paint_pericardium,
)
from napari_cxr3d.phantom.anatomy.hilum import (
    grow_trees,
    paint_airways,
    paint_lung_vessels,
)
from napari_cxr3d.phantom.anatomy.lungs import (
    LungSpace,
    fissures_of,
    paint_fissures,
    paint_lungs,
)
from napari_cxr3d.phantom.anatomy.model import Anatomy, Dome, Vec
from napari_cxr3d.phantom.anatomy.person import Person
from napari_cxr3d.phantom.anatomy.sections import Sections
from napari_cxr3d.phantom.anatomy.shoulder import paint_shoulder_bones, paint_shoulder_muscles
from napari_cxr3d.phantom.anatomy.spine import paint_spine
from napari_cxr3d.phantom.anatomy.vessels import (
    GreatVessels,
    great_vessels_of,
    mediastinal_lofts,
    paint_great_vessels,
    paint_mediastinum,
    paint_nodes,
    paint_oesophagus,
)
from napari_cxr3d.phantom.scene import SceneBuilder
from napari_cxr3d.phantom.tissues import draw_bolus

__all__ = ["build_anatomy"]


def build_anatomy(person: Person) -> Anatomy:
    """Paint a whole healthy thorax, and say where everything lies.

    Parameters
    ----------
    person : Person
        Whose body, and what a finding does to all of it.

    Returns
    -------
    Anatomy
        The shapes painted so far, for findings to paint on, with the geometry.
    """
    figure = Figure.of(person)
    builder = SceneBuilder(seed=person.seed % (1 << 30), warp_mm=2.5, warp_scale_mm=70.0)
    bench = Bench(builder, figure, draw_bolus(person.phase, Bench.seeded(person, 70)))
    body, cages = figure.body(), {s: figure.cage(s) for s in ("left", "right")}
    lungs = {side: figure.lung(side) for side in cages}
    domes = domes_of(figure)
    fissures = fissures_of(bench)
    spine = figure.spine()
    heart = heart_of(bench)
    vessels = great_vessels_of(bench, heart, spine)
    lofts = mediastinal_lofts(bench)
    shoulders = {side: shoulder_of(bench, side) for side in cages}
    ribs = rib_lines(bench, spine)
    chambers = ("left ventricle", "right ventricle", "right atrium", "outflow tract", "left atrium")
    solids = tuple(heart.parts[name] for name in chambers)
    space = LungSpace(lungs, domes, solids, lofts, spine, fissures)
    trees = grow_trees(bench, space, vessels, heart)
    organs = abdominal_organs(bench, domes)

    if person.table:
        paint_table(bench, body)
    paint_trunk(bench, body)
    for shoulder in shoulders.values():
        paint_shoulder_muscles(bench, shoulder)
    paint_breasts(bench, cages)
    paint_muscles(bench, spine, cages)
    paint_cavity(bench, cages)
    paint_lungs(bench, lungs, fissures)
    paint_fissures(bench, fissures)
    paint_mediastinum(bench, lofts)
    paint_diaphragm(bench, domes)
    paint_pericardium(bench, heart)
    paint_oesophagus(bench, vessels)
    paint_heart(bench, heart)
    paint_abdomen(bench, organs)
    paint_great_vessels(bench, vessels)
    paint_lung_vessels(bench, trees, space)
    paint_coronaries(bench, heart)
    paint_airways(bench, trees)
    paint_nodes(bench, vessels)
    paint_spine(bench)
    paint_ribs(bench, ribs)
    sternum = paint_sternum(bench)
    for shoulder in shoulders.values():
        paint_shoulder_bones(bench, shoulder)

    row = body.at(0.0)[0]
    return Anatomy(
        builder=builder,
        person=person,
        bolus=bench.bolus,
        arteries=trees.arteries,
        veins=trees.veins,
        airways=trees.airways,
        aorta=vessels.aorta,
        arch_branches=vessels.arch_branches,
        systemic_veins=vessels.veins,
        coronaries=heart.coronaries,
        organs={**heart.parts, **organs},
        lungs=lungs,
        fissures=fissures,
        domes=domes,
        lobes=trees.targets,
        oesophagus=vessels.oesophagus[:, :3],
        spine=spine,
        vertebrae=VERTEBRAE,
        ribs=ribs,
        landmarks=_landmarks(spine, heart, vessels, lungs, domes, shoulders, sternum),
        half_width_mm=float(0.5 * (row[3] + row[4])),
        half_depth_mm=float(0.5 * (row[5] + row[6])),
    )


def _landmarks(
    spine: FloatArray,
    heart: Heart,
    vessels: GreatVessels,
    lungs: dict[str, Sections],
    domes: dict[str, Dome],
    shoulders: dict[str, Shoulder],
    sternum: FloatArray,
) -> dict[str, Vec]:
    aorta = vessels.aorta
    arch = slice(aorta.stations["arch"], aorta.stations["descending"])
    leftmost = arch.start + int((aorta.points[arch, 0] + aorta.radii[arch]).argmax())
    knob = aorta.points[leftmost] + (aorta.radii[leftmost], 0.0, 0.0)
    places: dict[str, FloatArray] = {
        "carina": vessels.trachea[-1, :3],
        "trachea_inlet": vessels.trachea[
            int(np.abs(vessels.trachea[:, 2] - spine[2, 2]).argmin()), :3
        ],
        "aortic_knob": knob,
        "aortic_valve": aorta.valve_center,
        "pulmonary_trunk": vessels.trunk[4, :3],
        "pulmonary_bifurcation": vessels.trunk[-1, :3],
        "heart_apex": heart.apex,
        "cavoatrial_junction": vessels.veins["superior vena cava"][-1, :3],
        "sternal_angle": sternum[3],
        "jugular_notch": sternum[0],
        "xiphoid_tip": sternum[-1],
    }
    for side in ("left", "right"):
        main = vessels.left_main if side == "left" else vessels.right_main
        lung = lungs[side]
        places[f"{side}_hilum"] = main[-1, :3]
        places[f"{side}_lung_apex"] = np.array(
            [*lung.at(lung.rows[-1, 0])[0, 1:3], lung.rows[-1, 0]]
        )
        places[f"{side}_dome"] = np.array(domes[side].apex)
        places[f"{side}_costophrenic_angle"] = lung.surface_point(0.12, 0.0, side)[0]
        places[f"{side}_posterior_costophrenic_angle"] = lung.surface_point(0.03, 90.0, side)[0]
        shoulder = shoulders[side]
        places[f"{side}_clavicle_medial_end"] = shoulder.clavicle[0]
        places[f"{side}_acromion"] = shoulder.acromion
        places[f"{side}_humeral_head"] = shoulder.head
    for name, center in zip(VERTEBRAE, spine, strict=True):
        places[name] = center
    return {name: (float(p[0]), float(p[1]), float(p[2])) for name, p in places.items()}
