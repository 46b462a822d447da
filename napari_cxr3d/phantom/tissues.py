"""Hounsfield units of tissues: without contrast, venous phase, CT pulmonary angiography.

The figures are typical values at 120 kV. Sources, by the letter at each row:

a. Lamba et al., AJR 203, W80-W86 (2014): unenhanced soft tissues of the abdomen on two scanners.
b. Jang et al., Radiology 291, 360-367 (2019): trabecular bone of L1 by age, 226 HU below 30
   years, 2.5 HU less a year; Pickhardt et al., Ann. Intern. Med. 158, 588-595 (2013).
c. Modes of the histograms of real chest CTs as `benchmarks/phantom.py` prints them: fat -106 to
   -102, muscle and blood 38 to 70.
d. Parenchyma between the vessels, set so that the whole lung, vessels and weight included, has the
   median of the real CTs of `benchmarks/phantom.py` (-932 to -845 HU).
e. CT pulmonary angiography asks for 250 HU or more in the pulmonary trunk: Wittram, AJR 188,
   1255-1261 (2007); the left heart follows some seconds later.
f. Portal venous phase: Bae, Radiology 256, 32-61 (2010): liver about +50, aorta 140 to 170.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

import numpy as np

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.phantom.labels import Label

__all__ = ["PHASES", "Bolus", "Phase", "Tissue", "draw_bolus", "hu_of", "trabecular_hu"]

Phase = Literal["none", "venous", "ctpa"]
PHASES: Final[tuple[Phase, ...]] = ("none", "venous", "ctpa")


class Tissue(StrEnum):
    """What the phantom is made of."""

    AIR = "air"
    SKIN = "skin"
    FAT = "fat"
    MUSCLE = "muscle"
    BREAST_GLAND = "breast gland"
    LUNG = "lung"
    BLOOD = "blood"
    PULMONARY_BLOOD = "blood of the pulmonary arteries"
    PULMONARY_VENOUS_BLOOD = "blood of the pulmonary veins"
    LEFT_HEART_BLOOD = "blood of the left heart"
    RIGHT_HEART_BLOOD = "blood of the right heart"
    AORTIC_BLOOD = "blood of the aorta"
    CAVAL_BLOOD = "blood of the superior vena cava"
    LOWER_CAVAL_BLOOD = "blood of the inferior vena cava"
    MYOCARDIUM = "myocardium"
    SOFT = "soft tissue"
    AIRWAY_WALL = "airway wall"
    OESOPHAGUS = "oesophagus"
    THYROID = "thyroid"
    LYMPH_NODE = "lymph node"
    LIVER = "liver"
    SPLEEN = "spleen"
    KIDNEY = "kidney"
    STOMACH_WALL = "stomach wall"
    STOMACH_CONTENT = "stomach content"
    BOWEL_CONTENT = "bowel content"
    CARTILAGE = "costal cartilage"
    CORTICAL_BONE = "cortical bone"
    TRABECULAR_BONE = "trabecular bone"
    DISC = "intervertebral disc"
    SPINAL_CANAL = "spinal canal"
    FLUID = "simple fluid"
    EXUDATE = "exudate"
    CLOT = "clot"
    ATELECTATIC_LUNG = "collapsed lung"
    CONSOLIDATED_LUNG = "consolidated lung"
    CALCIFICATION = "calcification"
    SOFT_PLAQUE = "soft plaque"
    NODULE = "solid nodule"
    METAL = "metal"
    SILICONE = "silicone"
    TABLE_SHELL = "table shell"
    TABLE_CORE = "table core"


_HU: Final[dict[Tissue, tuple[float, float, float]]] = {
    # tissue: none, venous, CTPA
    Tissue.AIR: (-1000, -1000, -1000),
    Tissue.SKIN: (10, 20, 15),
    Tissue.FAT: (-105, -103, -105),  # a, c
    Tissue.MUSCLE: (50, 62, 53),  # a, c
    Tissue.BREAST_GLAND: (30, 45, 33),
    Tissue.LUNG: (-892, -886, -888),  # d
    Tissue.BLOOD: (42, 150, 120),
    Tissue.PULMONARY_BLOOD: (42, 150, 350),  # e
    Tissue.PULMONARY_VENOUS_BLOOD: (42, 152, 280),
    Tissue.LEFT_HEART_BLOOD: (42, 152, 240),
    Tissue.RIGHT_HEART_BLOOD: (42, 146, 330),
    Tissue.AORTIC_BLOOD: (42, 155, 200),  # a (none), f
    Tissue.CAVAL_BLOOD: (42, 150, 480),
    Tissue.LOWER_CAVAL_BLOOD: (42, 130, 70),
    Tissue.MYOCARDIUM: (48, 105, 85),
    Tissue.SOFT: (40, 55, 45),
    Tissue.AIRWAY_WALL: (25, 40, 30),
    Tissue.OESOPHAGUS: (35, 60, 42),
    Tissue.THYROID: (105, 150, 130),
    Tissue.LYMPH_NODE: (38, 75, 50),
    Tissue.LIVER: (56, 108, 62),  # a, f
    Tissue.SPLEEN: (48, 115, 75),  # a, f
    Tissue.KIDNEY: (32, 165, 90),  # a
    Tissue.STOMACH_WALL: (38, 75, 50),
    Tissue.STOMACH_CONTENT: (22, 24, 22),
    Tissue.BOWEL_CONTENT: (15, 20, 15),
    Tissue.CARTILAGE: (95, 98, 95),
    Tissue.CORTICAL_BONE: (950, 950, 950),
    Tissue.TRABECULAR_BONE: (160, 172, 163),  # b, at 55 years; see `trabecular_hu`
    Tissue.DISC: (75, 80, 75),
    Tissue.SPINAL_CANAL: (22, 26, 23),
    Tissue.FLUID: (6, 8, 6),
    Tissue.EXUDATE: (18, 22, 18),
    Tissue.CLOT: (58, 55, 55),
    Tissue.ATELECTATIC_LUNG: (42, 95, 80),
    Tissue.CONSOLIDATED_LUNG: (30, 60, 45),
    Tissue.CALCIFICATION: (650, 680, 680),
    Tissue.SOFT_PLAQUE: (45, 60, 55),
    Tissue.NODULE: (35, 65, 45),
    Tissue.METAL: (3000, 3000, 3000),
    Tissue.SILICONE: (250, 250, 250),
    Tissue.TABLE_SHELL: (-250, -250, -250),
    Tissue.TABLE_CORE: (-930, -930, -930),
}  # fmt: skip

_OF_LABEL: Final[dict[Label, Tissue]] = {
    Label.AIR: Tissue.AIR,
    Label.TABLE: Tissue.TABLE_SHELL,
    Label.SKIN: Tissue.SKIN,
    Label.FAT: Tissue.FAT,
    Label.MUSCLE: Tissue.MUSCLE,
    Label.BREAST: Tissue.BREAST_GLAND,
    Label.RIB: Tissue.CORTICAL_BONE,
    Label.COSTAL_CARTILAGE: Tissue.CARTILAGE,
    Label.STERNUM: Tissue.TRABECULAR_BONE,
    Label.CLAVICLE: Tissue.CORTICAL_BONE,
    Label.SCAPULA: Tissue.CORTICAL_BONE,
    Label.HUMERUS: Tissue.CORTICAL_BONE,
    Label.VERTEBRA: Tissue.TRABECULAR_BONE,
    Label.DISC: Tissue.DISC,
    Label.SPINAL_CANAL: Tissue.SPINAL_CANAL,
    Label.RIGHT_UPPER_LOBE: Tissue.LUNG,
    Label.RIGHT_MIDDLE_LOBE: Tissue.LUNG,
    Label.RIGHT_LOWER_LOBE: Tissue.LUNG,
    Label.LEFT_UPPER_LOBE: Tissue.LUNG,
    Label.LEFT_LOWER_LOBE: Tissue.LUNG,
    Label.FISSURE: Tissue.LUNG,
    Label.AIRWAY_WALL: Tissue.AIRWAY_WALL,
    Label.AIRWAY: Tissue.AIR,
    Label.PULMONARY_ARTERY: Tissue.PULMONARY_BLOOD,
    Label.PULMONARY_VEIN: Tissue.PULMONARY_VENOUS_BLOOD,
    Label.MEDIASTINUM: Tissue.FAT,
    Label.PERICARDIUM: Tissue.FAT,
    Label.MYOCARDIUM: Tissue.MYOCARDIUM,
    Label.LEFT_ATRIUM: Tissue.LEFT_HEART_BLOOD,
    Label.LEFT_VENTRICLE: Tissue.LEFT_HEART_BLOOD,
    Label.RIGHT_ATRIUM: Tissue.RIGHT_HEART_BLOOD,
    Label.RIGHT_VENTRICLE: Tissue.RIGHT_HEART_BLOOD,
    Label.AORTA: Tissue.AORTIC_BLOOD,
    Label.SUPERIOR_VENA_CAVA: Tissue.CAVAL_BLOOD,
    Label.INFERIOR_VENA_CAVA: Tissue.LOWER_CAVAL_BLOOD,
    Label.BRACHIOCEPHALIC_VESSEL: Tissue.BLOOD,
    Label.OESOPHAGUS: Tissue.OESOPHAGUS,
    Label.THYROID: Tissue.THYROID,
    Label.LYMPH_NODE: Tissue.LYMPH_NODE,
    Label.DIAPHRAGM: Tissue.MUSCLE,
    Label.ABDOMINAL_FAT: Tissue.FAT,
    Label.LIVER: Tissue.LIVER,
    Label.STOMACH: Tissue.STOMACH_CONTENT,
    Label.STOMACH_GAS: Tissue.AIR,
    Label.SPLEEN: Tissue.SPLEEN,
    Label.KIDNEY: Tissue.KIDNEY,
    Label.BOWEL: Tissue.BOWEL_CONTENT,
    Label.BOWEL_GAS: Tissue.AIR,
    Label.PLEURAL_FLUID: Tissue.FLUID,
    Label.PLEURAL_AIR: Tissue.AIR,
    Label.PERICARDIAL_FLUID: Tissue.FLUID,
    Label.DEVICE: Tissue.METAL,
}


def hu_of(tissue: Tissue | Label, phase: Phase) -> float:
    """Typical Hounsfield units of a tissue, or of what a label is mostly made of.

    Parameters
    ----------
    tissue : Tissue or Label
        What is asked for.
    phase : {"none", "venous", "ctpa"}
        Contrast phase.

    Raises
    ------
    InvalidInputError
        If the phase is unknown.
    """
    if phase not in PHASES:
        raise InvalidInputError(
            "This contrast phase is unknown",
            why=f"it is {phase!r}",
            remedy=f"choose one of {', '.join(PHASES)}",
        )
    kind = _OF_LABEL[tissue] if isinstance(tissue, Label) else tissue
    return float(_HU[kind][PHASES.index(phase)])


def trabecular_hu(age: float, sex: str) -> float:
    """Mean HU of vertebral trabecular bone at an age in years.

    226 HU until 30 years, then 2.5 HU less a year; women lose it faster after 50 (Jang et al.,
    Radiology 291, 360-367, 2019).
    """
    lost = 2.2 * max(age - 30.0, 0.0)
    if sex == "female":
        lost += 0.4 * max(age - 50.0, 0.0)
    return max(226.0 - lost, 60.0)


@dataclass(frozen=True)
class Bolus:
    """HU of the blood in each compartment of one person at the moment of the scan.

    Attributes
    ----------
    caval, right_heart, pulmonary_artery, pulmonary_vein, left_heart, aorta, lower_caval : float
        Superior vena cava, right heart, and so on downstream; inferior vena cava last.
    """

    caval: float
    right_heart: float
    pulmonary_artery: float
    pulmonary_vein: float
    left_heart: float
    aorta: float
    lower_caval: float


def draw_bolus(phase: Phase, rng: np.random.Generator) -> Bolus:
    """A bolus of contrast with its own strength and timing.

    Parameters
    ----------
    phase : {"none", "venous", "ctpa"}
        Contrast phase.
    rng : numpy.random.Generator
        Draws strength (0.8 to 1.2 of the enhancement) and, at CT pulmonary angiography, how
        far the bolus has come: late scans have a brighter left heart and a paler vena cava.
    """
    strength = float(rng.uniform(0.8, 1.2))
    late = float(rng.uniform(0.0, 1.0))
    base = hu_of(Tissue.BLOOD, "none")

    def enhanced(tissue: Tissue, early: float, later: float) -> float:
        gain = hu_of(tissue, phase) - base
        shift = early + late * (later - early) if phase == "ctpa" else 1.0
        return base + strength * shift * gain

    return Bolus(
        caval=enhanced(Tissue.CAVAL_BLOOD, 1.4, 0.7),
        right_heart=enhanced(Tissue.RIGHT_HEART_BLOOD, 1.1, 0.85),
        pulmonary_artery=enhanced(Tissue.PULMONARY_BLOOD, 1.0, 0.95),
        pulmonary_vein=enhanced(Tissue.PULMONARY_VENOUS_BLOOD, 0.65, 1.2),
        left_heart=enhanced(Tissue.LEFT_HEART_BLOOD, 0.5, 1.3),
        aorta=enhanced(Tissue.AORTIC_BLOOD, 0.3, 1.5),
        lower_caval=enhanced(Tissue.LOWER_CAVAL_BLOOD, 1.0, 1.0),
    )
