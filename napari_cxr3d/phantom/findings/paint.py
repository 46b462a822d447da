"""From plans to a body with disease: what changes the person, and what is painted afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from napari_cxr3d.phantom.anatomy.model import Anatomy
from napari_cxr3d.phantom.anatomy.person import Person
from napari_cxr3d.phantom.findings import (
    airspace,
    bronchi,
    chronic,
    devices,
    embolism,
    heart,
    mediastinum,
    nodules,
    pleura,
)
from napari_cxr3d.phantom.findings.canvas import Canvas, between
from napari_cxr3d.phantom.findings.finding import Finding
from napari_cxr3d.phantom.findings.planning import PlannedFinding

__all__ = ["modify_person", "paint_findings"]

Painter = Callable[[Canvas], None]


def _atelectasis(canvas: Canvas) -> None:
    {
        "plate-like": airspace.paint_plates,
        "lobar": airspace.paint_lobar_collapse,
        "compressive": pleura.paint_compressive_atelectasis,
    }[canvas.plan.style](canvas)


# In painting order: what lies in the lung, then what displaces it, then what is put in.
_PAINTERS: dict[str, Painter] = {
    "mosaic_attenuation": chronic.paint_mosaic,
    "emphysema": chronic.paint_emphysema,
    "fibrosis": chronic.paint_fibrosis,
    "interlobular_septal_thickening": chronic.paint_septa,
    "oedema": airspace.paint_oedema,
    "ground_glass": airspace.paint_ground_glass,
    "peribronchial_thickening": bronchi.paint_peribronchial,
    "bronchiectasis": bronchi.paint_bronchiectasis,
    "consolidation": airspace.paint_consolidation,
    "atelectasis": _atelectasis,
    "nodule": nodules.paint_nodules,
    "mass": nodules.paint_mass,
    "pulmonary_embolism": embolism.paint_embolism,
    "cardiomegaly": heart.mark_heart,
    "pericardial_effusion": heart.mark_pericardial_fluid,
    "coronary_calcification": heart.paint_coronary_calcification,
    "aortic_calcification": heart.paint_aortic_calcification,
    "lymphadenopathy": mediastinum.paint_nodes,
    "pneumothorax": pleura.paint_pneumothorax,
    "hiatal_hernia": mediastinum.paint_hernia,
    "pleural_effusion": pleura.paint_effusion,
    "central_line": devices.paint_line,
    "pacemaker": devices.paint_pacemaker,
    "endotracheal_tube": devices.paint_endotracheal_tube,
    "chest_drain": devices.paint_chest_drain,
    "sternal_wires": devices.paint_sternal_wires,
}


def _when(plan: PlannedFinding) -> int:
    # What fluid compresses is what it left of the lung.
    name = "pleural_effusion" if plan.style == "compressive" else plan.name
    return 2 * list(_PAINTERS).index(name) + (plan.style == "compressive")


def modify_person(person: Person, plans: Sequence[PlannedFinding]) -> Person:
    """What findings do to the whole body before it is built.

    Parameters
    ----------
    person : Person
        The healthy person.
    plans : sequence of PlannedFinding
        What the person has.

    Returns
    -------
    Person
        Pulmonary embolism is scanned in the phase ctpa; other changes multiply or add.
    """
    values = {
        name: getattr(person, name)
        for name in ("heart_scale", "right_heart_scale", "left_atrium_scale", "inspiration",
                     "pulmonary_trunk_scale", "azygos_scale", "vessel_scale", "upper_vessel_scale",
                     "barrel", "pericardial_fluid_mm", "mediastinal_shift_mm")
    }  # fmt: skip
    phase = person.phase
    raised = list(person.diaphragm_raise_mm)  # left, right
    for plan in plans:
        severity = plan.severity
        if plan.name == "pulmonary_embolism":
            phase = "ctpa"
            strain = max(severity - 0.6, 0.0) / 0.4
            values["right_heart_scale"] *= 1.0 + 0.2 * strain
            values["pulmonary_trunk_scale"] *= 1.0 + 0.22 * strain
        elif plan.name == "cardiomegaly":
            # From the person's own size up to a size that is large for everyone.
            values["heart_scale"] = max(values["heart_scale"], 0.97) * heart.heart_scale(severity)
        elif plan.name == "pericardial_effusion":
            values["pericardial_fluid_mm"] = heart.pericardial_fluid(severity)
        elif plan.name == "emphysema":
            values["inspiration"] *= between(1.0, 1.12, severity)
            values["barrel"] += 0.8 * severity
            raised = [value - 12.0 * severity for value in raised]
        elif plan.name == "fibrosis":
            values["inspiration"] *= between(0.97, 0.84, severity)
        elif plan.name == "oedema":
            values["upper_vessel_scale"] *= between(1.15, 1.6, severity)
            values["vessel_scale"] *= between(1.05, 1.2, severity)
            values["azygos_scale"] *= between(1.1, 1.6, severity)
            values["left_atrium_scale"] *= between(1.05, 1.15, severity)
        elif plan.name == "atelectasis" and plan.style == "lobar":
            left = plan.side == "left"
            raised[0 if left else 1] += between(6.0, 22.0, severity)
            values["mediastinal_shift_mm"] += (1 if left else -1) * between(3.0, 16.0, severity)
        elif plan.name == "atelectasis" and plan.style == "plate-like":
            raised[0 if plan.side == "left" else 1] += 5.0 * severity
        elif plan.name == "pneumothorax" and plan.side != "both":
            left = plan.side == "left"
            raised[0 if left else 1] -= 8.0 * severity
            values["mediastinal_shift_mm"] += (-1 if left else 1) * max(severity - 0.5, 0.0) * 24.0
        elif plan.name == "pleural_effusion" and plan.side != "both":
            left = plan.side == "left"
            values["mediastinal_shift_mm"] += (-1 if left else 1) * max(severity - 0.6, 0.0) * 20.0
    values["inspiration"] = min(max(values["inspiration"], 0.72), 1.2)
    values["barrel"] = min(values["barrel"], 1.0)
    values["heart_scale"] = min(values["heart_scale"], 1.7)
    return replace(person, phase=phase, diaphragm_raise_mm=(raised[0], raised[1]), **values)


def paint_findings(anatomy: Anatomy, plans: Sequence[PlannedFinding]) -> tuple[Finding, ...]:
    """Paint findings into a body, and say what was painted.

    Parameters
    ----------
    anatomy : Anatomy
        The body, built from the person that `modify_person` gave; its builder takes the shapes.
    plans : sequence of PlannedFinding
        What to paint.

    Returns
    -------
    tuple of Finding
        In the order of the plans; boxes are left to whoever has the voxels.
    """
    painted: dict[int, Finding] = {}
    for number in sorted(range(len(plans)), key=lambda n: (_when(plans[n]), n)):
        canvas = Canvas(anatomy, plans[number], tuple(plans))
        _PAINTERS[plans[number].name](canvas)
        painted[number] = canvas.finding()
    return tuple(painted[number] for number in range(len(plans)))
