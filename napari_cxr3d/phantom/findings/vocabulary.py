"""The findings that a phantom can have: names, bits, what severity means, where they occur."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.phantom.labels import Label

__all__ = [
    "BITS",
    "DEVICES",
    "FINDINGS",
    "LOBES",
    "STATIONS",
    "FindingKind",
    "kind_of",
    "severity_word",
]

LOBES = {
    "right upper lobe": Label.RIGHT_UPPER_LOBE,
    "right middle lobe": Label.RIGHT_MIDDLE_LOBE,
    "right lower lobe": Label.RIGHT_LOWER_LOBE,
    "left upper lobe": Label.LEFT_UPPER_LOBE,
    "left lower lobe": Label.LEFT_LOWER_LOBE,
}
"""The lobes by the names that reports use."""

STATIONS = ("2R", "4R", "4L", "5", "7", "8", "10R", "10L")
"""Lymph node stations of the IASLC map (Rusch et al., J. Thorac. Oncol. 4:568-577, 2009)."""

_ONE_SIDE = ("right", "left")
_SIDES = ("right", "left", "both")
_ZONES = ("upper lobes", "lower lobes", "all lobes")


@dataclass(frozen=True)
class FindingKind:
    """A kind of finding.

    Attributes
    ----------
    name : str
        How requests, label maps and tables call it.
    bit : int
        Its bit in the finding map, 0 to 31; never changes once published.
    title : str
        How text calls it.
    measure : str
        What a severity of 0 to 1 means.
    prevalence : float
        Its share of a random cohort at the age of 60, before other findings raise the odds.
    aliases : tuple of str
        Other names that requests may use.
    sides : tuple of str
        Sides that may be asked for; empty where it has none.
    places : tuple of str
        Places that may be asked for; empty where it has none.
    styles : tuple of str
        Looks that may be asked for, the commonest first; empty where it has one.
    several : bool
        Whether there may be several, and a request may name a count.
    device : bool
        Whether it is medical material and not a disease.
    """

    name: str
    bit: int
    title: str
    measure: str
    prevalence: float
    aliases: tuple[str, ...] = ()
    sides: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    styles: tuple[str, ...] = ()
    several: bool = False
    device: bool = False


_LOBE_NAMES = tuple(LOBES)

FINDINGS: tuple[FindingKind, ...] = (
    FindingKind(
        "pulmonary_embolism", 0, "pulmonary embolism",
        "How central and how many the clots are: below 0.35 segmental arteries, below 0.55 lobar "
        "ones too, below 0.8 a main artery too, from there on a saddle embolus; each level "
        "with more branches filled. Needs the phase ctpa.",
        0.12, ("pe", "embolism", "embolus", "emboli"), _SIDES,
        ("segmental", "lobar", "main", "saddle"),
    ),
    FindingKind(
        "nodule", 1, "lung nodule",
        "Diameter of the largest: 4 mm at 0 to 30 mm at 1.",
        0.28, ("lung_nodule", "pulmonary_nodule", "granuloma", "nodules"), _ONE_SIDE, _LOBE_NAMES,
        ("solid", "ground-glass", "part-solid", "calcified"), several=True,
    ),
    FindingKind(
        "mass", 2, "lung mass",
        "Diameter: 31 mm at 0 to 85 mm at 1.",
        0.06, ("tumour", "tumor", "lung_mass", "cancer"), _ONE_SIDE, _LOBE_NAMES,
        ("spiculated", "lobulated"),
    ),
    FindingKind(
        "pleural_effusion", 3, "pleural effusion",
        "Depth of the fluid behind the supine lung: 8 mm at 0 to 80 mm at 1.",
        0.13, ("effusion", "pleural_fluid", "hydrothorax"), _SIDES,
    ),
    FindingKind(
        "pneumothorax", 4, "pneumothorax",
        "How far the lung has retracted from the chest wall in front: 6 mm at 0 to 70 mm at 1.",
        0.05, ("ptx", "pnx"), _SIDES,
    ),
    FindingKind(
        "consolidation", 5, "consolidation",
        "Reach in the lobe: a quarter of its width at 0, the whole lobe at 1.",
        0.12, ("pneumonia", "airspace_consolidation"), _ONE_SIDE, _LOBE_NAMES,
    ),
    FindingKind(
        "ground_glass", 6, "ground-glass opacity",
        "Density and reach: 120 HU over a tenth of the lung at 0, 380 HU over two thirds at 1.",
        0.14, ("ggo", "ground_glass_opacity", "ground_glass_opacities"), _SIDES,
        (), ("peripheral", "diffuse"),
    ),
    FindingKind(
        "atelectasis", 7, "atelectasis",
        "Of plates, their number and thickness, one of 2 mm to four of 5 mm; of a lobe, how far "
        "it has collapsed; below an effusion, the thickness of the compressed layer.",
        0.16, ("collapse", "atelectases"), _ONE_SIDE, _LOBE_NAMES,
        ("plate-like", "lobar", "compressive"),
    ),
    FindingKind(
        "emphysema", 8, "emphysema",
        "Share of the affected lung below -950 HU, 3 % at 0 to 45 % at 1, and the inspiration.",
        0.14, ("copd",), (), ("upper lobes", "all lobes"),
        ("centrilobular", "paraseptal", "bullous"),
    ),
    FindingKind(
        "cardiomegaly", 9, "cardiomegaly",
        "Width of the heart over that of a healthy one: 1.12 at 0 to 1.45 at 1.",
        0.12, ("enlarged_heart", "heart_enlargement"),
    ),
    FindingKind(
        "pericardial_effusion", 10, "pericardial effusion",
        "Thickness of the fluid: 5 mm at 0 to 30 mm at 1.",
        0.05, ("pericardial_fluid",),
    ),
    FindingKind(
        "coronary_calcification", 11, "coronary artery calcification",
        "Agatston score of the deposits: 10 at 0 to 2000 at 1, even on a logarithmic scale.",
        0.30, ("coronary_calcium", "cac", "coronary_artery_calcification"),
    ),
    FindingKind(
        "aortic_calcification", 12, "aortic calcification",
        "Number and size of the plaques: 3 of 3 mm at 0 to 60 of 9 mm at 1.",
        0.28, ("aortic_calcium", "arterial_wall_calcification", "atherosclerosis"), (),
        ("arch", "descending", "arch and descending"),
    ),
    FindingKind(
        "oedema", 13, "pulmonary oedema",
        "Up to 0.35 septal lines, wide upper veins and cuffs alone; above, a perihilar haze of up "
        "to 420 HU.",
        0.07, ("edema", "pulmonary_oedema", "pulmonary_edema", "heart_failure"),
    ),
    FindingKind(
        "lymphadenopathy", 14, "lymphadenopathy",
        "Short axis of the largest node, 11 mm at 0 to 35 mm at 1, and stations, one to six.",
        0.12, ("adenopathy", "lymph_nodes", "enlarged_lymph_nodes"), (),
        ("mediastinal", "hilar", "mediastinal and hilar", *STATIONS),
    ),
    FindingKind(
        "hiatal_hernia", 15, "hiatal hernia",
        "Diameter of the pouch: 25 mm at 0 to 95 mm at 1.",
        0.08, ("hernia", "hiatus_hernia"),
    ),
    FindingKind(
        "fibrosis", 16, "pulmonary fibrosis",
        "Depth of the reticulation under the pleura, 8 mm at 0 to 35 mm at 1; honeycombing from "
        "0.4, volume loss throughout.",
        0.07, ("ild", "pulmonary_fibrosis", "fibrotic_sequela", "ipf"),
    ),
    FindingKind(
        "bronchiectasis", 17, "bronchiectasis",
        "Width of the bronchi over their own normal width: 1.6 at 0 to 3.5 at 1.",
        0.06, ("bronchiectases",), (), _ZONES,
    ),
    FindingKind(
        "peribronchial_thickening", 18, "peribronchial thickening",
        "Thickness of the bronchial wall: 1.5 mm at 0 to 3.5 mm at 1.",
        0.08, ("bronchial_wall_thickening", "peribronchial_cuffing"), (), _ZONES,
    ),
    FindingKind(
        "mosaic_attenuation", 19, "mosaic attenuation",
        "Difference between dark and bright lung: 60 HU at 0 to 200 HU at 1.",
        0.06, ("mosaic", "air_trapping"),
    ),
    FindingKind(
        "interlobular_septal_thickening", 20, "interlobular septal thickening",
        "Density of the lines and their reach: sparse at 0, throughout the lower lobes at 1.",
        0.05, ("septal_thickening", "septal_lines"), (), _ZONES,
    ),
    FindingKind(
        "central_line", 21, "central venous line",
        "Where its tip lies: at 0 in the upper superior vena cava, at 0.5 at the junction with the "
        "right atrium, at 1 deep in the right atrium.",
        0.06, ("line", "cvc", "catheter", "central_venous_catheter"), _ONE_SIDE,
        ("jugular", "subclavian"), device=True,
    ),
    FindingKind(
        "pacemaker", 22, "pacemaker",
        "Leads: below 0.34 one to the ventricle, then one to the atrium too, from 0.67 one along "
        "the left ventricle as well.",
        0.04, ("icd", "pacer"), _ONE_SIDE, device=True,
    ),
    FindingKind(
        "endotracheal_tube", 23, "endotracheal tube",
        "Where its tip lies: at 0 65 mm above the carina, at 0.5 40 mm, at 1 15 mm.",
        0.03, ("ett", "et_tube", "tube"), device=True,
    ),
    FindingKind(
        "chest_drain", 24, "chest drain",
        "How far it reaches up: at 0 half way, at 1 to the apex.",
        0.02, ("drain", "chest_tube"), _ONE_SIDE, device=True,
    ),
    FindingKind(
        "sternal_wires", 25, "sternal wires",
        "How many loops: 4 at 0 to 7 at 1.",
        0.04, ("sternotomy", "sternotomy_wires"), device=True,
    ),
)  # fmt: skip
"""The vocabulary, in the order of the bits."""

BITS = {kind.name: kind.bit for kind in FINDINGS}
"""Bit of the finding map by name."""

DEVICES = tuple(kind.name for kind in FINDINGS if kind.device)
"""The kinds that are medical material."""

_NAMES = {kind.name: kind for kind in FINDINGS} | {
    alias: kind for kind in FINDINGS for alias in kind.aliases
}


def kind_of(name: str) -> FindingKind:
    """The kind that a name or an alias stands for, in any case, with spaces or hyphens.

    Raises
    ------
    InvalidInputError
        If no finding is called so; the message names the nearest.
    """
    plain = re.sub(r"[\s-]+", "_", name.strip().lower())
    if plain in _NAMES:
        return _NAMES[plain]
    near = difflib.get_close_matches(plain, _NAMES, n=3, cutoff=0.55)
    nearest = list(dict.fromkeys(_NAMES[word].name for word in near))
    raise InvalidInputError(
        f"There is no finding called {name!r}",
        remedy=f"perhaps {_either(nearest)} is meant"
        if nearest
        else f"choose among {', '.join(kind.name for kind in FINDINGS)}",
    )


def severity_word(severity: float, words: tuple[str, str, str]) -> str:
    """The first word below a third, the second below two thirds, else the third."""
    return words[min(int(severity * 3.0), 2)]


def _either(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
