"""Findings: a fixed vocabulary, plans, and the shapes that paint them into a body."""

from napari_cxr3d.phantom.findings.ct_rate import CT_RATE_LABELS, ct_rate_labels
from napari_cxr3d.phantom.findings.finding import Finding, Part
from napari_cxr3d.phantom.findings.paint import modify_person, paint_findings
from napari_cxr3d.phantom.findings.planning import PlannedFinding, plan_findings
from napari_cxr3d.phantom.findings.vocabulary import BITS, FINDINGS, FindingKind, kind_of

__all__ = [
    "BITS",
    "CT_RATE_LABELS",
    "FINDINGS",
    "Finding",
    "FindingKind",
    "Part",
    "PlannedFinding",
    "ct_rate_labels",
    "kind_of",
    "label_vector",
    "modify_person",
    "paint_findings",
    "plan_findings",
]


def label_vector(findings: tuple[Finding, ...]) -> dict[str, bool]:
    """For every name of the vocabulary, whether it is among the findings."""
    present = {finding.name for finding in findings}
    return {kind.name: kind.name in present for kind in FINDINGS}
