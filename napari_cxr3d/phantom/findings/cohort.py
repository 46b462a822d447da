"""A cohort of patients: how often findings occur, and which occur together.

Prevalences are near those of labelled chest CT reports (CT-RATE: Hamamci et al.,
arXiv:2403.17834), with rare findings made commoner, so that a few hundred cases hold every
kind. Age and findings that go together multiply the odds; the factors are round numbers in the
direction and rough size that clinical experience gives, not estimates from data.
"""

from __future__ import annotations

import numpy as np

from napari_cxr3d.phantom.findings.vocabulary import FINDINGS

__all__ = ["AGE_FACTORS", "HEALTHY_SHARE", "ODDS_FACTORS", "draw_kinds"]

HEALTHY_SHARE = 0.15
"""Share of the cohort in which no finding at all is drawn."""

AGE_FACTORS = {
    "coronary_calcification": 2.0,
    "aortic_calcification": 2.2,
    "cardiomegaly": 1.4,
    "hiatal_hernia": 1.4,
    "emphysema": 1.3,
    "fibrosis": 1.4,
    "pacemaker": 1.8,
    "mass": 1.3,
    "nodule": 1.1,
    "oedema": 1.3,
    "sternal_wires": 1.3,
}
"""Factor on the odds for each decade above 60 (its inverse for each below)."""

ODDS_FACTORS = {
    ("coronary_calcification", "aortic_calcification"): 3.0,
    ("coronary_calcification", "cardiomegaly"): 1.6,
    ("coronary_calcification", "sternal_wires"): 4.0,
    ("cardiomegaly", "oedema"): 5.0,
    ("cardiomegaly", "pacemaker"): 4.0,
    ("cardiomegaly", "pleural_effusion"): 2.5,
    ("cardiomegaly", "pericardial_effusion"): 1.8,
    ("oedema", "pleural_effusion"): 8.0,
    ("oedema", "interlobular_septal_thickening"): 4.0,
    ("oedema", "ground_glass"): 0.5,
    ("pulmonary_embolism", "pleural_effusion"): 2.0,
    ("pulmonary_embolism", "atelectasis"): 1.6,
    ("mass", "lymphadenopathy"): 5.0,
    ("mass", "nodule"): 2.0,
    ("mass", "pleural_effusion"): 2.0,
    ("emphysema", "nodule"): 1.5,
    ("emphysema", "mass"): 2.0,
    ("emphysema", "peribronchial_thickening"): 2.5,
    ("emphysema", "pneumothorax"): 2.5,
    ("emphysema", "coronary_calcification"): 1.5,
    ("fibrosis", "lymphadenopathy"): 1.8,
    ("fibrosis", "ground_glass"): 1.8,
    ("bronchiectasis", "peribronchial_thickening"): 4.0,
    ("bronchiectasis", "mosaic_attenuation"): 3.0,
    ("consolidation", "pleural_effusion"): 2.5,
    ("consolidation", "ground_glass"): 2.5,
    ("pleural_effusion", "atelectasis"): 2.5,
    ("pneumothorax", "chest_drain"): 12.0,
    ("pleural_effusion", "chest_drain"): 4.0,
    ("endotracheal_tube", "central_line"): 12.0,
    ("endotracheal_tube", "consolidation"): 2.5,
    ("endotracheal_tube", "atelectasis"): 2.5,
}
"""Factor that the first finding, where present, puts on the odds of the second."""

# Causes before effects; a finding's odds see those drawn before it.
_ORDER = (
    "emphysema", "fibrosis", "bronchiectasis", "coronary_calcification", "aortic_calcification",
    "cardiomegaly", "pulmonary_embolism", "mass", "endotracheal_tube", "consolidation", "oedema",
    "pneumothorax", "pleural_effusion", "pericardial_effusion", "ground_glass", "atelectasis",
    "nodule", "lymphadenopathy", "hiatal_hernia", "peribronchial_thickening",
    "mosaic_attenuation", "interlobular_septal_thickening", "central_line", "pacemaker",
    "chest_drain", "sternal_wires",
)  # fmt: skip


def draw_kinds(
    rng: np.random.Generator, *, age: float = 60.0, phase: str | None = None
) -> tuple[str, ...]:
    """Names of the findings of one patient, in the order of the vocabulary.

    Each kind is present with probability o / (1 + o); its odds o are those of its prevalence,
    times `AGE_FACTORS` to the power of the decades beyond 60, times the `ODDS_FACTORS` of all
    kinds already present.

    Parameters
    ----------
    rng : Generator
        Draws; always the same number of them.
    age : float
        Years.
    phase : str, optional
        Contrast phase if it is settled: in any but ``"ctpa"`` no pulmonary embolism is drawn.
    """
    healthy = rng.random() < HEALTHY_SHARE
    draws = dict(zip(_ORDER, rng.random(len(_ORDER)), strict=True))
    if healthy:
        return ()
    prevalence = {kind.name: kind.prevalence for kind in FINDINGS}
    present: list[str] = []
    for name in _ORDER:
        if name == "pulmonary_embolism" and phase not in (None, "ctpa"):
            continue
        share = prevalence[name]
        odds = share / (1.0 - share) * AGE_FACTORS.get(name, 1.0) ** ((age - 60.0) / 10.0)
        for cause in present:
            odds *= ODDS_FACTORS.get((cause, name), 1.0)
        if draws[name] < odds / (1.0 + odds):
            present.append(name)
    return tuple(kind.name for kind in FINDINGS if kind.name in present)
