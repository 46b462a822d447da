"""What a voxel of the thorax belongs to."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

__all__ = ["BONES", "LUNG", "Label", "label_mask"]


class Label(IntEnum):
    """Anatomical labels of the phantom's label map (uint8); at most 63, so that sets fit a mask."""

    AIR = 0
    TABLE = 1
    SKIN = 2
    FAT = 3
    MUSCLE = 4
    BREAST = 5
    RIB = 6
    COSTAL_CARTILAGE = 7
    STERNUM = 8
    CLAVICLE = 9
    SCAPULA = 10
    HUMERUS = 11
    VERTEBRA = 12
    DISC = 13
    SPINAL_CANAL = 14
    RIGHT_UPPER_LOBE = 15
    RIGHT_MIDDLE_LOBE = 16
    RIGHT_LOWER_LOBE = 17
    LEFT_UPPER_LOBE = 18
    LEFT_LOWER_LOBE = 19
    FISSURE = 20
    AIRWAY_WALL = 21
    AIRWAY = 22
    PULMONARY_ARTERY = 23
    PULMONARY_VEIN = 24
    MEDIASTINUM = 25
    PERICARDIUM = 26
    MYOCARDIUM = 27
    LEFT_ATRIUM = 28
    LEFT_VENTRICLE = 29
    RIGHT_ATRIUM = 30
    RIGHT_VENTRICLE = 31
    AORTA = 32
    SUPERIOR_VENA_CAVA = 33
    INFERIOR_VENA_CAVA = 34
    BRACHIOCEPHALIC_VESSEL = 35
    OESOPHAGUS = 36
    THYROID = 37
    LYMPH_NODE = 38
    DIAPHRAGM = 39
    ABDOMINAL_FAT = 40
    LIVER = 41
    STOMACH = 42
    STOMACH_GAS = 43
    SPLEEN = 44
    KIDNEY = 45
    BOWEL = 46
    BOWEL_GAS = 47
    PLEURAL_FLUID = 48
    PLEURAL_AIR = 49
    PERICARDIAL_FLUID = 50
    DEVICE = 51


LUNG = (
    Label.RIGHT_UPPER_LOBE,
    Label.RIGHT_MIDDLE_LOBE,
    Label.RIGHT_LOWER_LOBE,
    Label.LEFT_UPPER_LOBE,
    Label.LEFT_LOWER_LOBE,
    Label.FISSURE,
)
"""The lobes and the fissures between them."""

BONES = (
    Label.RIB,
    Label.STERNUM,
    Label.CLAVICLE,
    Label.SCAPULA,
    Label.HUMERUS,
    Label.VERTEBRA,
)


def label_mask(labels: Iterable[int]) -> int:
    """A set of labels as a bit mask: bit k stands for label k."""
    mask = 0
    for label in labels:
        mask |= 1 << int(label)
    return mask
