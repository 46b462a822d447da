"""The regions of a report: what is told where, what is denied, what is normal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

__all__ = ["DENIALS", "IMPRESSION_ORDER", "NORMAL", "REGIONS"]

Rng = np.random.Generator

REGIONS: Final[dict[str, tuple[str, ...]]] = {
    "Airways": ("bronchiectasis", "peribronchial_thickening"),
    "Lungs": (
        "mass", "nodule", "consolidation", "ground_glass", "oedema", "atelectasis", "emphysema",
        "fibrosis", "mosaic_attenuation", "interlobular_septal_thickening",
    ),
    "Pleura": ("pleural_effusion", "pneumothorax"),
    "Heart and pericardium": ("cardiomegaly", "pericardial_effusion", "coronary_calcification"),
    "Vessels": ("pulmonary_embolism", "aortic_calcification"),
    "Mediastinum and hila": ("lymphadenopathy", "hiatal_hernia"),
    "Lines and devices": (
        "central_line", "pacemaker", "endotracheal_tube", "chest_drain", "sternal_wires",
    ),
    "Upper abdomen": (),
    "Bones and chest wall": (),
}  # fmt: skip
"""Regions in a report's order, and the findings told there."""

IMPRESSION_ORDER: Final = (
    "pulmonary_embolism", "pneumothorax", "mass", "oedema", "consolidation", "pleural_effusion",
    "pericardial_effusion", "atelectasis", "ground_glass", "nodule", "lymphadenopathy", "fibrosis",
    "emphysema", "bronchiectasis", "peribronchial_thickening", "interlobular_septal_thickening",
    "mosaic_attenuation", "cardiomegaly", "coronary_calcification", "aortic_calcification",
    "hiatal_hernia",
)  # fmt: skip
"""The most urgent first."""

_Denial = tuple[tuple[str, str], ...]

# region -> denied in every report that lacks it, denied now and then
DENIALS: Final[dict[str, tuple[_Denial, _Denial]]] = {
    "Airways": (
        (),
        (
            ("bronchiectasis", "bronchiectasis"),
            ("peribronchial_thickening", "peribronchial thickening"),
        ),
    ),
    "Lungs": (
        (
            ("mass", "pulmonary mass"),
            ("nodule", "suspicious nodule"),
            ("consolidation", "consolidation"),
            ("ground_glass", "ground-glass opacity"),
        ),
        (
            ("atelectasis", "atelectasis"),
            ("emphysema", "emphysema"),
            ("oedema", "pulmonary edema"),
            ("fibrosis", "fibrotic change"),
            ("interlobular_septal_thickening", "interlobular septal thickening"),
            ("mosaic_attenuation", "mosaic attenuation"),
        ),
    ),
    "Pleura": (
        (("pleural_effusion", "pleural effusion"), ("pneumothorax", "pneumothorax")),
        (),
    ),
    "Heart and pericardium": (
        (("pericardial_effusion", "pericardial effusion"),),
        (
            ("cardiomegaly", "cardiomegaly"),
            ("coronary_calcification", "coronary artery calcification"),
        ),
    ),
    "Vessels": (
        (("pulmonary_embolism", "filling defect in the pulmonary arteries to segmental level"),),
        (("aortic_calcification", "aortic wall calcification"),),
    ),
    "Mediastinum and hila": (
        (("lymphadenopathy", "mediastinal or hilar lymphadenopathy"),),
        (("hiatal_hernia", "hiatal hernia"),),
    ),
    "Lines and devices": (
        (),
        (("central_line", "central venous line"), ("pacemaker", "pacemaker")),
    ),
}


def _pick(rng: Rng, *options: str) -> str:
    return options[int(rng.random() * len(options))]


def _normal_airways(rng: Rng, present: frozenset[str], phase: str) -> list[str]:
    if "endotracheal_tube" in present:
        return [_pick(rng, "The main bronchi are patent.", "Main bronchi are open.")]
    return [
        _pick(
            rng,
            "The trachea and both main bronchi are patent.",
            "Trachea and central bronchi are patent.",
            "The central airways are patent to segmental level.",
        )
    ]


def _normal_lungs(rng: Rng, present: frozenset[str], phase: str) -> list[str]:
    if present & {*REGIONS["Lungs"], *REGIONS["Pleura"]}:
        return []
    return [_pick(rng, "Both lungs are well aerated.", "The lungs are normally expanded.")]


def _normal_heart(rng: Rng, present: frozenset[str], phase: str) -> list[str]:
    if "cardiomegaly" in present:
        return []
    return [_pick(rng, "Heart size is normal.", "The heart is normal in size.")]


def _normal_vessels(rng: Rng, present: frozenset[str], phase: str) -> list[str]:
    text = []
    if phase == "ctpa":
        text.append(
            _pick(
                rng,
                "Opacification of the pulmonary arteries is adequate.",
                "The pulmonary arteries are well opacified.",
            )
        )
    text.append(
        _pick(rng, "The thoracic aorta is normal in caliber.", "Normal caliber of the aorta.")
    )
    return text


def _normal_mediastinum(rng: Rng, present: frozenset[str], phase: str) -> list[str]:
    if present & {*REGIONS["Mediastinum and hila"]}:
        return []
    return [_pick(rng, "The mediastinum is unremarkable.", "Mediastinal contours are normal.")]


def _normal_abdomen(rng: Rng, present: frozenset[str], phase: str) -> list[str]:
    return [
        _pick(
            rng,
            "The included upper abdominal organs are unremarkable.",
            "Visualized upper abdomen is unremarkable.",
        )
    ]


def _normal_bones(rng: Rng, present: frozenset[str], phase: str) -> list[str]:
    return [
        _pick(
            rng,
            "No destructive bone lesion.",
            "No suspicious osseous lesion.",
            "Osseous structures are unremarkable.",
        )
    ]


def _silent(rng: Rng, present: frozenset[str], phase: str) -> list[str]:
    return []


NORMAL: Final[dict[str, Callable[[Rng, frozenset[str], str], list[str]]]] = {
    "Airways": _normal_airways,
    "Lungs": _normal_lungs,
    "Pleura": _silent,
    "Heart and pericardium": _normal_heart,
    "Vessels": _normal_vessels,
    "Mediastinum and hila": _normal_mediastinum,
    "Lines and devices": _silent,
    "Upper abdomen": _normal_abdomen,
    "Bones and chest wall": _normal_bones,
}
"""What is said of each region beside its findings and denials."""
