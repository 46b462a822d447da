"""Reports: they say what was painted, deny what was not, and name nobody."""

from __future__ import annotations

import re

import pytest

from napari_cxr3d.phantom.anatomy import build_anatomy
from napari_cxr3d.phantom.anatomy.model import Anatomy
from napari_cxr3d.phantom.anatomy.person import Person
from napari_cxr3d.phantom.findings import FINDINGS, Finding, paint_findings, plan_findings
from napari_cxr3d.phantom.findings.planning import Request
from napari_cxr3d.phantom.report import WORDS, mentions, write_report
from napari_cxr3d.phantom.report_regions import IMPRESSION_ORDER, REGIONS

PERSON = Person(phase="ctpa")


@pytest.fixture(scope="module")
def anatomy() -> Anatomy:
    return build_anatomy(PERSON)


def painted(anatomy: Anatomy, request: Request, seed: int = 1) -> tuple[Finding, ...]:
    return paint_findings(anatomy, plan_findings(request, seed))


def section(report: str, name: str) -> str:
    return report.split(f"{name}:", 1)[1].split("\n\n", 1)[0]


def test_every_finding_has_words_and_a_region() -> None:
    names = {kind.name for kind in FINDINGS}
    told = [name for kinds in REGIONS.values() for name in kinds]
    assert set(WORDS) == names == set(told)
    assert len(told) == len(names)
    assert set(IMPRESSION_ORDER) == {kind.name for kind in FINDINGS if not kind.device}


def test_over_a_cohort_every_finding_is_stated_and_nothing_else(anatomy: Anatomy) -> None:
    denied = 0
    for seed in range(60):
        findings = painted(anatomy, "random", seed)
        present = {finding.name for finding in findings}
        report = write_report(PERSON, findings, seed=seed)
        said = mentions(report)
        for name, statement in said.items():
            if name in present:
                assert statement is True, (seed, name, report)
            else:
                assert statement is not True, (seed, name, report)
        denied += sum(statement is False for statement in said.values())
    assert denied > 5 * 60


@pytest.mark.parametrize("kind", FINDINGS, ids=lambda kind: kind.name)
def test_each_finding_alone_is_stated_in_all_its_wordings(anatomy: Anatomy, kind) -> None:
    for severity in (0.1, 0.45, 0.9):
        findings = painted(anatomy, {kind.name: severity}, seed=round(100 * severity))
        present = {finding.name for finding in findings}
        for seed in range(5):
            report = write_report(PERSON, findings, seed=seed)
            body = report.split("IMPRESSION:")[0]
            for text in (body, report):
                stated = {name for name, statement in mentions(text).items() if statement}
                assert stated == present, report
            if not kind.device:
                impression = section(report, "IMPRESSION")
                assert re.search(WORDS[kind.name], impression, re.IGNORECASE), report


def test_a_healthy_chest_reads_as_healthy() -> None:
    report = write_report(PERSON, (), seed=3)
    assert not any(mentions(report).values())
    assert mentions(report)["consolidation"] is False
    assert mentions(report)["pleural_effusion"] is False
    assert "No pulmonary embolism." in report


def test_clots_are_not_denied_where_they_could_not_be_seen() -> None:
    for seed in range(12):
        report = write_report(Person(phase="none"), (), seed=seed)
        assert mentions(report)["pulmonary_embolism"] is None
        assert re.search("contrast|Unenhanced", section(report, "TECHNIQUE"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pleural_effusion", ("small", "moderate", "large")),
        ("emphysema", ("mild", "moderate", "severe")),
        ("cardiomegaly", ("mild", "moderate", "marked")),
        ("oedema", ("mild", "moderate", "severe")),
    ],
)
def test_adjectives_follow_the_severity(anatomy: Anatomy, name: str, words) -> None:
    for severity, word in zip((0.1, 0.5, 0.95), words, strict=True):
        report = write_report(PERSON, painted(anatomy, {name: severity}), seed=2)
        line = next(
            line
            for line in section(report, "IMPRESSION").splitlines()
            if re.search(WORDS[name], line, re.IGNORECASE)
        )
        assert word in line.lower()
        assert not any(other in line.lower() for other in words if other != word)


@pytest.mark.parametrize(
    ("name", "measure"),
    [
        ("nodule", "diameter_mm"),
        ("mass", "diameter_mm"),
        ("pleural_effusion", "depth_mm"),
        ("pneumothorax", "rim_mm"),
        ("pericardial_effusion", "thickness_mm"),
        ("lymphadenopathy", "short_axis_mm"),
        ("endotracheal_tube", "tip_above_carina_mm"),
    ],
)
def test_sizes_are_those_that_were_painted(anatomy: Anatomy, name: str, measure: str) -> None:
    for severity in (0.2, 0.7):
        findings = painted(anatomy, {name: severity})
        size = next(f for f in findings if f.name == name).measures[measure]
        assert f"{size:.0f} mm" in section(write_report(PERSON, findings, seed=5), "FINDINGS")


def test_side_and_lobe_are_those_that_were_painted(anatomy: Anatomy) -> None:
    findings = painted(anatomy, {"nodule": {"place": "left lower lobe", "count": 1}})
    assert "left lower lobe" in write_report(PERSON, findings, seed=1)
    both = painted(anatomy, {"pleural_effusion": {"side": "both", "severity": 0.2}})
    report = write_report(PERSON, both, seed=1)
    assert "bilateral" in report.lower()


def test_the_cardiothoracic_ratio_is_told_of_a_large_heart(anatomy: Anatomy) -> None:
    findings = painted(anatomy, "cardiomegaly")
    report = write_report(PERSON, findings, seed=1, cardiothoracic_ratio=0.57)
    assert "0.57" in report
    assert "ratio" not in write_report(PERSON, findings, seed=1)


def test_wording_varies_with_the_seed_and_only_with_it(anatomy: Anatomy) -> None:
    findings = painted(anatomy, ["nodule", "effusion=0.2"])
    reports = [write_report(PERSON, findings, seed=seed) for seed in range(12)]
    assert len(set(reports)) > 8
    assert reports[3] == write_report(PERSON, findings, seed=3)


def test_the_most_urgent_comes_first(anatomy: Anatomy) -> None:
    findings = painted(anatomy, ["aortic_calcification", "pe", "nodule"])
    first = section(write_report(PERSON, findings, seed=1), "IMPRESSION").split("\n")[1]
    assert "embolism" in first


def test_it_has_the_sections_of_a_report_and_names_no_one_and_no_day(anatomy: Anatomy) -> None:
    for seed in range(10):
        report = write_report(PERSON, painted(anatomy, "random", seed), seed=seed)
        places = [report.index(name) for name in ("TECHNIQUE:", "FINDINGS:", "IMPRESSION:")]
        assert places == sorted(places)
        assert not re.search(r"\b(19|20)\d\d\b(?! HU)|\bDr\b|\bMrs?\b|\bpatient\b|year-old", report)
