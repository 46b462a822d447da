"""The 18 labels of CT-RATE, as X2CT-CLIP learns and reports them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from napari_cxr3d.phantom.findings.finding import Finding

__all__ = ["CT_RATE_LABELS", "ct_rate_labels"]

CT_RATE_LABELS: Final = (
    "Medical material",
    "Arterial wall calcification",
    "Cardiomegaly",
    "Pericardial effusion",
    "Coronary artery wall calcification",
    "Hiatal hernia",
    "Lymphadenopathy",
    "Emphysema",
    "Atelectasis",
    "Lung nodule",
    "Lung opacity",
    "Pulmonary fibrotic sequela",
    "Pleural effusion",
    "Mosaic attenuation pattern",
    "Peribronchial thickening",
    "Consolidation",
    "Bronchiectasis",
    "Interlobular septal thickening",
)
"""Names and order of CT-RATE (Hamamci et al., arXiv:2403.17834)."""

_SAME: Final = {
    "aortic_calcification": "Arterial wall calcification",
    "cardiomegaly": "Cardiomegaly",
    "pericardial_effusion": "Pericardial effusion",
    "coronary_calcification": "Coronary artery wall calcification",
    "hiatal_hernia": "Hiatal hernia",
    "lymphadenopathy": "Lymphadenopathy",
    "emphysema": "Emphysema",
    "atelectasis": "Atelectasis",
    "nodule": "Lung nodule",
    "mass": "Lung nodule",
    "ground_glass": "Lung opacity",
    "fibrosis": "Pulmonary fibrotic sequela",
    "pleural_effusion": "Pleural effusion",
    "mosaic_attenuation": "Mosaic attenuation pattern",
    "peribronchial_thickening": "Peribronchial thickening",
    "bronchiectasis": "Bronchiectasis",
    "interlobular_septal_thickening": "Interlobular septal thickening",
}


def ct_rate_labels(findings: Iterable[Finding]) -> dict[str, bool]:
    """The findings in CT-RATE's terms.

    Every device is medical material. Consolidation and ground glass are lung opacities; so is
    oedema from where its haze begins, which also thickens septa and bronchial walls. A mass
    counts as a nodule: CT-RATE has no label of its own for it. Embolism and pneumothorax have
    no label there.

    Parameters
    ----------
    findings : iterable of Finding
        What a case has; `PhantomCase.findings`.
    """
    labels = dict.fromkeys(CT_RATE_LABELS, False)
    for finding in findings:
        if finding.kind.device:
            labels["Medical material"] = True
        if finding.name in _SAME:
            labels[_SAME[finding.name]] = True
        if finding.name == "consolidation":
            labels["Consolidation"] = labels["Lung opacity"] = True
        if finding.name == "oedema":
            labels["Interlobular septal thickening"] = labels["Peribronchial thickening"] = True
            labels["Lung opacity"] |= finding.severity > 0.35
    return labels
