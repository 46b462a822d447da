"""The report that a radiologist would dictate: technique, findings by region, impression.

Sentences are drawn by the seed from a few wordings each; every sentence either states what is
there or denies what is not, so that a text's labels can be read back (`mentions`). Spelling is
American, as in the public report collections that language models were trained on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from napari_cxr3d.phantom.anatomy.person import Person
from napari_cxr3d.phantom.findings.finding import Finding
from napari_cxr3d.phantom.findings.vocabulary import FINDINGS
from napari_cxr3d.phantom.report_phrases import impression_of, sentences_of
from napari_cxr3d.phantom.report_regions import DENIALS, IMPRESSION_ORDER, NORMAL, REGIONS

__all__ = ["WORDS", "mentions", "write_report"]

_TECHNIQUE: Final = {
    "none": (
        "Non-contrast CT of the chest.",
        "CT of the chest without intravenous contrast.",
        "Unenhanced chest CT.",
    ),
    "venous": (
        "Contrast-enhanced CT of the chest in the portal venous phase.",
        "CT of the chest after intravenous contrast, venous phase.",
    ),
    "ctpa": (
        "CT pulmonary angiography with bolus triggering on the pulmonary trunk.",
        "CT pulmonary angiogram after intravenous contrast.",
    ),
}

WORDS: Final[dict[str, str]] = {
    "pulmonary_embolism": r"embol|filling defect",
    "nodule": r"\bnodules?\b",
    "mass": r"\bmass(es)?\b",
    "pleural_effusion": r"pleural effusion",
    "pneumothorax": r"pneumothora",
    "consolidation": r"consolidat",
    "ground_glass": r"ground-glass opaci",
    "atelectasis": r"atelecta|lobar collapse",
    "emphysema": r"emphysema",
    "cardiomegaly": r"cardiomegaly|heart is .*enlarged",
    "pericardial_effusion": r"pericardial effusion",
    "coronary_calcification": r"coronary artery calcif|calcif\w* of the coronary",
    "aortic_calcification": r"aortic (wall )?calcif|calcif\w* of the aort",
    "oedema": r"edema",
    "lymphadenopathy": r"lymphadenopathy|enlarged .*lymph node",
    "hiatal_hernia": r"hernia",
    "fibrosis": r"fibro",
    "bronchiectasis": r"bronchiectasis",
    "peribronchial_thickening": r"peribronchial thickening|bronchial wall thickening",
    "mosaic_attenuation": r"mosaic",
    "interlobular_septal_thickening": r"septal thickening",
    "central_line": r"central venous (line|catheter)",
    "pacemaker": r"pacemaker",
    "endotracheal_tube": r"endotracheal tube",
    "chest_drain": r"chest (drain|tube)",
    "sternal_wires": r"sternal wires|sternotomy",
}
"""What names each finding in a report, as regular expressions."""

_DENYING = re.compile(r"\b(no|not|without|free of|normal|unremarkable|patent)\b", re.IGNORECASE)


def write_report(
    person: Person,
    findings: Sequence[Finding],
    *,
    seed: int,
    cardiothoracic_ratio: float = 0.0,
) -> str:
    """Report a case.

    Parameters
    ----------
    person : Person
        Of whom the technique is told: contrast phase and position of the arms.
    findings : sequence of Finding
        What was painted.
    seed : int
        Chooses among wordings.
    cardiothoracic_ratio : float
        Told where the heart is enlarged; 0 for unknown.

    Returns
    -------
    str
        TECHNIQUE, FINDINGS with one line a region, and a numbered IMPRESSION. It names no
        person and no date.
    """
    rng = np.random.default_rng([seed, 8_111])
    phase = person.phase
    arms = "raised" if person.arms == "up" else "at the sides"
    present = frozenset(finding.name for finding in findings)
    lines = [
        "TECHNIQUE:",
        f"{_pick(rng, _TECHNIQUE[phase])} Supine, arms {arms}.",
        "",
        "FINDINGS:",
    ]
    for region, kinds in REGIONS.items():
        here = [f for name in kinds for f in findings if f.name == name]
        said = [text for f in here for text in sentences_of(f, rng, cardiothoracic_ratio)]
        absent = [name for name in kinds if name not in present]
        normal = NORMAL[region](rng, present, phase)
        denied = _denied(rng, region, absent, phase)
        sentences = [*said, *normal, *denied] if here else [*normal, *denied]
        if sentences:
            lines.append(f"{region}: {' '.join(sentences)}")
    lines += ["", "IMPRESSION:", *_impression(findings, rng, phase)]
    return "\n".join(lines) + "\n"


def mentions(report: str) -> dict[str, bool | None]:
    """For each finding, whether a report states it (True), denies it (False) or is silent (None).

    Reads what `write_report` writes, sentence by sentence.
    """
    said: dict[str, bool | None] = {kind.name: None for kind in FINDINGS}
    body = report.split("FINDINGS:", 1)[-1]
    for sentence in re.split(r"(?<=[.:])\s+", body):
        denies = bool(_DENYING.search(sentence))
        for name, words in WORDS.items():
            if re.search(words, sentence, re.IGNORECASE):
                said[name] = bool(said[name]) or not denies
    return said


def _denied(rng: np.random.Generator, region: str, absent: Iterable[str], phase: str) -> list[str]:
    """What is not there: the usual denials always, the rarer ones now and then."""
    always, sometimes = DENIALS.get(region, ((), ()))
    kept = [(name, text) for name, text in always if name in set(absent)]
    for name, text in sometimes:
        if name in set(absent) and rng.random() < 0.5:
            kept.append((name, text))
    if phase != "ctpa":  # clots cannot be denied without contrast in the arteries
        kept = [(name, text) for name, text in kept if name != "pulmonary_embolism"]
    texts = [text for _, text in kept]
    if not texts:
        return []
    if len(texts) > 3 and rng.random() < 0.6:
        middle = len(texts) // 2
        return [_no(rng, texts[:middle]), _no(rng, texts[middle:])]
    return [_no(rng, texts)]


def _no(rng: np.random.Generator, texts: Sequence[str]) -> str:
    items = texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} or {texts[-1]}"
    return _pick(rng, (f"No {items}.", f"There is no {items}.", f"No evidence of {items}."))


def _impression(findings: Sequence[Finding], rng: np.random.Generator, phase: str) -> list[str]:
    order = {name: place for place, name in enumerate(IMPRESSION_ORDER)}
    # What another finding brought along is told with it; devices are told only in the findings.
    told = sorted(
        (f for f in findings if not f.cause and not f.kind.device), key=lambda f: order[f.name]
    )
    lines = []
    for finding in told:
        brought = [f for f in findings if f.cause == finding.name and not f.kind.device]
        text = impression_of(finding, rng)
        if brought:
            text += " with " + " and ".join(_lower_first(impression_of(f, rng)) for f in brought)
        lines.append(f"{text}.")
    if not lines:
        lines = [
            _pick(
                rng,
                (
                    "No acute cardiopulmonary abnormality.",
                    "Unremarkable CT of the chest.",
                    "Normal chest CT.",
                ),
            )
        ]
    if phase == "ctpa" and all(f.name != "pulmonary_embolism" for f in findings):
        lines.insert(0, "No pulmonary embolism.")
    return [f"{number}. {line}" for number, line in enumerate(lines, 1)]


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.random() * len(options))]
