"""What reports say of each finding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from napari_cxr3d.phantom.findings.finding import Finding
from napari_cxr3d.phantom.findings.vocabulary import severity_word

__all__ = ["impression_of", "sentences_of"]

Rng = np.random.Generator


def _pick(rng: Rng, *options: str) -> str:
    return options[int(rng.random() * len(options))]


def _grade(finding: Finding, *words: str) -> str:
    return severity_word(finding.severity, (words[0], words[1], words[2]))


def _sided(finding: Finding) -> str:
    return "bilateral" if finding.side == "both" else finding.side


def _listed(items: Sequence[str]) -> str:
    unique = list(dict.fromkeys(items))
    return unique[0] if len(unique) == 1 else f"{', '.join(unique[:-1])} and {unique[-1]}"


def _mm(value: float) -> str:
    return f"{value:.0f} mm"


def _measure(finding: Finding, name: str) -> float:
    return float(finding.measures[name])


# Each of the following gives the phrase for the impression (without a full stop) and the
# sentences of the findings.
Phrases = tuple[str, list[str]]


def _embolism(f: Finding, rng: Rng) -> Phrases:
    places = [part.place for part in f.parts]
    saddle = [p for p in places if "bifurcation" in p]
    others = [p for p in places if p not in saddle]
    told = []
    if saddle:
        told.append(
            _pick(
                rng,
                "Saddle embolus at the bifurcation of the pulmonary trunk, extending into both "
                "main pulmonary arteries.",
                "A filling defect straddles the pulmonary bifurcation (saddle embolus).",
            )
        )
    if others:
        told.append(
            _pick(
                rng,
                f"{'Further filling' if saddle else 'Filling'} defects in the {_listed(others)}.",
                f"{'More emboli' if saddle else 'Emboli'} in the {_listed(others)}.",
            )
        )
    told.append(
        f"About {100 * _measure(f, 'obstruction'):.0f} % of the pulmonary arterial bed lies "
        "behind emboli (Qanadli index)."
    )
    if f.severity >= 0.8:
        told.append("The right ventricle is dilated, in keeping with right heart strain.")
    burden = _grade(f, "small", "moderate", "large")
    level = {"saddle": "saddle", "main": "central", "lobar": "lobar", "segmental": "segmental"}
    side = {"both": "bilateral ", "right": "right ", "left": "left "}.get(f.side, "")
    return f"{side}{level[f.place]} pulmonary embolism, {burden} clot burden", told


def _nodule(f: Finding, rng: Rng) -> Phrases:
    largest = f.parts[0]
    size, look = _mm(_measure(f, "diameter_mm")), f.style
    note = ", consistent with a granuloma" if look == "calcified" else ""
    if len(f.parts) == 1:
        text = _pick(
            rng,
            f"A {size} {look} nodule in the {f.place}{note}.",
            f"{look.capitalize()} nodule of {size} in the {f.place}{note}.",
        )
        return f"{size} {look} nodule in the {f.place}", [text]
    others = _listed([part.place for part in f.parts if part is not largest])
    text = (
        f"{len(f.parts)} {look} nodules, the largest measuring {size} in the {f.place}, "
        f"others in the {others}{note}."
    )
    return f"multiple {look} nodules up to {size}, the largest in the {f.place}", [text]


def _mass(f: Finding, rng: Rng) -> Phrases:
    size = _mm(_measure(f, "diameter_mm"))
    text = _pick(
        rng,
        f"A {size} {f.style} mass in the {f.place}.",
        f"{f.style.capitalize()} mass measuring {size} in the {f.place}.",
    )
    if _measure(f, "diameter_mm") > 50:
        text += " Its center is of low attenuation."
    return f"{size} {f.style} mass in the {f.place}, suspicious for malignancy", [text]


def _effusion(f: Finding, rng: Rng) -> Phrases:
    grade = _grade(f, "small", "moderate", "large")
    depth = _mm(_measure(f, "depth_mm"))
    noun = "pleural effusions" if f.side == "both" else "pleural effusion"
    text = _pick(
        rng,
        f"{grade.capitalize()} {_sided(f)} {noun}, up to {depth} deep.",
        f"{_sided(f).capitalize()} {noun}, {grade}, layering posteriorly with a depth of {depth}.",
    )
    return f"{grade} {_sided(f)} {noun}", [text]


def _pneumothorax(f: Finding, rng: Rng) -> Phrases:
    grade = _grade(f, "small", "moderate", "large")
    rim = _mm(_measure(f, "rim_mm"))
    noun = "pneumothoraces" if f.side == "both" else "pneumothorax"
    text = _pick(
        rng,
        f"{grade.capitalize()} {_sided(f)} {noun} with the lung retracted by up to {rim}.",
        f"{_sided(f).capitalize()} {noun}, {grade}, with a rim of {rim} anteriorly.",
    )
    return f"{grade} {_sided(f)} {noun}", [text]


def _consolidation(f: Finding, rng: Rng) -> Phrases:
    extent = _grade(f, "focal", "segmental", "lobar")
    text = _pick(
        rng,
        f"{extent.capitalize()} consolidation in the {f.place} with air bronchograms.",
        f"Consolidation with air bronchograms in the {f.place}, {extent} in extent.",
    )
    return f"{extent} consolidation in the {f.place}, in keeping with pneumonia", [text]


def _ground_glass(f: Finding, rng: Rng) -> Phrases:
    grade = _grade(f, "faint", "moderate", "extensive")
    where = "both lungs" if f.side == "both" else f"the {f.side} lung"
    spread = "peripheral" if f.style == "peripheral" else "diffuse"
    text = _pick(
        rng,
        f"{grade.capitalize()} {spread} ground-glass opacities in {where}.",
        f"{spread.capitalize()} ground-glass opacities, {grade}, are present in {where}.",
    )
    return f"{grade} {spread} ground-glass opacities in {where}", [text]


def _oedema(f: Finding, rng: Rng) -> Phrases:
    grade = _grade(f, "mild", "moderate", "severe")
    text = [
        _pick(
            rng,
            "Septal lines at both bases, bronchial cuffing and wide upper lobe vessels, "
            f"in keeping with {grade} pulmonary edema.",
            f"{grade.capitalize()} pulmonary edema with septal lines and bronchial cuffing.",
        )
    ]
    if _measure(f, "haze_hu") > 0:
        text.append("Perihilar haze on both sides.")
    kind = "alveolar" if f.severity > 0.5 else "interstitial"
    return f"{grade} {kind} pulmonary edema", text


def _atelectasis(f: Finding, rng: Rng) -> Phrases:
    if f.style == "compressive":
        side = "both lower lobes" if f.side == "both" else f"the {f.side} lower lobe"
        text = _pick(
            rng,
            f"Compressive atelectasis of {side}.",
            f"Adjacent compressive atelectasis in {side}.",
        )
        return f"compressive atelectasis of {side}", [text]
    if f.style == "lobar":
        degree = "near-complete" if f.severity > 0.75 else "partial"
        text = _pick(
            rng,
            f"{degree.capitalize()} lobar collapse of the {f.place} with volume loss.",
            f"{degree.capitalize()} atelectasis of the {f.place} with shift of the mediastinum.",
        )
        return f"{degree} atelectasis of the {f.place}", [text]
    many = len(f.parts) > 1
    text = _pick(
        rng,
        f"{'Bands' if many else 'A band'} of plate-like atelectasis in the {f.place}.",
        f"Plate-like atelectasis in the {f.place}, up to {_mm(_measure(f, 'thickness_mm'))} thick.",
    )
    return f"plate-like atelectasis in the {f.place}", [text]


def _emphysema(f: Finding, rng: Rng) -> Phrases:
    grade = _grade(f, "mild", "moderate", "severe")
    where = "predominantly in the upper lobes" if f.place == "upper lobes" else "in all lobes"
    text = [
        _pick(
            rng,
            f"{grade.capitalize()} {f.style} emphysema {where}.",
            f"{f.style.capitalize()} emphysema, {grade}, {where}.",
        )
    ]
    if "bulla_mm" in f.measures:
        text.append(f"The largest bulla measures {_mm(_measure(f, 'bulla_mm'))}.")
    return f"{grade} {f.style} emphysema", text


def _fibrosis(f: Finding, rng: Rng) -> Phrases:
    grade = _grade(f, "mild", "moderate", "advanced")
    text = [
        _pick(
            rng,
            f"{grade.capitalize()} subpleural and basal reticulation in keeping with fibrosis.",
            f"Reticulation with a subpleural basal predominance, {grade} pulmonary fibrosis.",
        )
    ]
    if f.severity >= 0.4:
        text.append("Honeycombing at both bases.")
    pattern = "with honeycombing" if f.severity >= 0.4 else "of subpleural basal distribution"
    return f"{grade} pulmonary fibrosis {pattern}", text


def _mosaic(f: Finding, rng: Rng) -> Phrases:
    grade = _grade(f, "mild", "moderate", "marked")
    text = _pick(
        rng,
        f"{grade.capitalize()} mosaic attenuation of both lungs.",
        f"Mosaic attenuation pattern, {grade}.",
    )
    return f"{grade} mosaic attenuation, which may reflect small airway disease", [text]


def _septa(f: Finding, rng: Rng) -> Phrases:
    grade = _grade(f, "mild", "moderate", "marked")
    text = _pick(
        rng,
        f"{grade.capitalize()} interlobular septal thickening in {f.place}.",
        f"Interlobular septal thickening, {grade}, in {f.place}.",
    )
    return f"{grade} interlobular septal thickening", [text]


def _bronchiectasis(f: Finding, rng: Rng) -> Phrases:
    grade = _grade(f, "mild", "moderate", "severe")
    look = "traction" if f.cause == "fibrosis" else _grade(f, "cylindrical", "varicose", "cystic")
    where = _listed([part.place for part in f.parts]) if f.parts else f.place
    text = _pick(
        rng,
        f"{grade.capitalize()} {look} bronchiectasis in the {where}.",
        f"{look.capitalize()} bronchiectasis, {grade}, in the {where}.",
    )
    return f"{grade} {look} bronchiectasis", [text]


def _peribronchial(f: Finding, rng: Rng) -> Phrases:
    grade = _grade(f, "mild", "moderate", "marked")
    where = "all lobes" if f.place == "all lobes" else f"the {f.place}"
    text = _pick(
        rng,
        f"{grade.capitalize()} peribronchial thickening in {where}.",
        f"Bronchial wall thickening, {grade}, in {where}.",
    )
    return f"{grade} peribronchial thickening", [text]


def _cardiomegaly(f: Finding, rng: Rng) -> Phrases:
    grade = _grade(f, "mildly", "moderately", "markedly")
    noun = {"mildly": "mild", "moderately": "moderate", "markedly": "marked"}[grade]
    text = _pick(rng, f"The heart is {grade} enlarged.", f"{noun.capitalize()} cardiomegaly.")
    return f"{noun} cardiomegaly", [text]


def _pericardial(f: Finding, rng: Rng) -> Phrases:
    thick = _measure(f, "thickness_mm")
    grade = "small" if thick < 10 else "moderate" if thick <= 20 else "large"
    text = _pick(
        rng,
        f"{grade.capitalize()} pericardial effusion, up to {_mm(thick)}.",
        f"Pericardial effusion of {_mm(thick)}, {grade}.",
    )
    return f"{grade} pericardial effusion", [text]


def _coronary(f: Finding, rng: Rng) -> Phrases:
    score = _measure(f, "agatston")
    # The usual bands: up to 100 mild, up to 400 moderate.
    grade = "mild" if score < 100 else "moderate" if score < 400 else "severe"
    names = {"LM": "left main", "LAD": "left anterior descending", "LCx": "circumflex",
             "RCA": "right coronary"}  # fmt: skip
    where = _listed([names[part.place] for part in f.parts])
    text = _pick(
        rng,
        f"{grade.capitalize()} coronary artery calcification ({where}).",
        f"{grade.capitalize()} calcification of the coronary arteries, estimated Agatston score "
        f"{score:.0f}.",
    )
    return f"{grade} coronary artery calcification", [text]


def _aortic(f: Finding, rng: Rng) -> Phrases:
    grade = _grade(f, "mild", "moderate", "severe")
    where = f.parts[0].place
    text = _pick(
        rng,
        f"{grade.capitalize()} aortic wall calcification, {where}.",
        f"{grade.capitalize()} calcified plaque, aortic calcification of the {where}.",
    )
    return f"{grade} aortic calcification", [text]


def _lymph_nodes(f: Finding, rng: Rng) -> Phrases:
    where = _listed([part.place for part in f.parts])
    size = _mm(_measure(f, "short_axis_mm"))
    stations = "station" if len({part.place for part in f.parts}) == 1 else "stations"
    text = _pick(
        rng,
        f"Enlarged lymph nodes at the {where} {stations}, up to {size} in short axis.",
        f"Lymphadenopathy, {where}, the largest node with a short axis of {size}.",
    )
    return f"lymphadenopathy, short axis up to {size}", [text]


def _hernia(f: Finding, rng: Rng) -> Phrases:
    grade = _grade(f, "small", "moderate", "large")
    text = _pick(
        rng,
        f"{grade.capitalize()} hiatal hernia of {_mm(_measure(f, 'diameter_mm'))} with a gas-fluid "
        "level behind the heart.",
        f"{grade.capitalize()} sliding hiatal hernia.",
    )
    return f"{grade} hiatal hernia", [text]


def _line(f: Finding, rng: Rng) -> Phrases:
    below = _measure(f, "tip_below_junction_mm")
    tip = (
        "in the superior vena cava"
        if below < -12
        else "at the cavoatrial junction"
        if below < 12
        else "in the right atrium"
    )
    vein = "internal jugular" if f.place == "jugular" else "subclavian"
    text = _pick(
        rng,
        f"Central venous line via the {f.side} {vein} vein with its tip {tip}.",
        f"{f.side.capitalize()} {vein} central venous catheter, tip {tip}.",
    )
    return "central venous line", [text]


def _pacemaker(f: Finding, rng: Rng) -> Phrases:
    tips = _listed([part.place for part in f.parts if "chest wall" not in part.place])
    text = _pick(
        rng,
        f"{f.side.capitalize()} chest wall pacemaker, leads to the {tips}.",
        f"Pacemaker in the {f.side} chest wall with leads ending at the {tips}.",
    )
    return "pacemaker", [text]


def _endotracheal(f: Finding, rng: Rng) -> Phrases:
    tip = _mm(_measure(f, "tip_above_carina_mm"))
    return "endotracheal tube", [
        _pick(
            rng,
            f"Endotracheal tube with its tip {tip} above the carina.",
            f"The tip of the endotracheal tube lies {tip} above the carina.",
        )
    ]


def _drain(f: Finding, rng: Rng) -> Phrases:
    return "chest drain", [
        _pick(
            rng,
            f"{f.side.capitalize()} chest drain directed to the apex.",
            f"Chest tube in the {f.side} pleural space.",
        )
    ]


def _wires(f: Finding, rng: Rng) -> Phrases:
    return "sternal wires", [
        _pick(rng, "Sternal wires after sternotomy.", "Median sternotomy with intact wires.")
    ]


_PHRASES: Final[dict[str, Callable[[Finding, Rng], Phrases]]] = {
    "pulmonary_embolism": _embolism,
    "nodule": _nodule,
    "mass": _mass,
    "pleural_effusion": _effusion,
    "pneumothorax": _pneumothorax,
    "consolidation": _consolidation,
    "ground_glass": _ground_glass,
    "atelectasis": _atelectasis,
    "emphysema": _emphysema,
    "cardiomegaly": _cardiomegaly,
    "pericardial_effusion": _pericardial,
    "coronary_calcification": _coronary,
    "aortic_calcification": _aortic,
    "oedema": _oedema,
    "lymphadenopathy": _lymph_nodes,
    "hiatal_hernia": _hernia,
    "fibrosis": _fibrosis,
    "bronchiectasis": _bronchiectasis,
    "peribronchial_thickening": _peribronchial,
    "mosaic_attenuation": _mosaic,
    "interlobular_septal_thickening": _septa,
    "central_line": _line,
    "pacemaker": _pacemaker,
    "endotracheal_tube": _endotracheal,
    "chest_drain": _drain,
    "sternal_wires": _wires,
}


def sentences_of(finding: Finding, rng: Rng, cardiothoracic_ratio: float) -> list[str]:
    """What the findings section says of a finding."""
    sentences = _PHRASES[finding.name](finding, rng)[1]
    if finding.name == "cardiomegaly" and cardiothoracic_ratio > 0:
        sentences.append(f"Cardiothoracic ratio {cardiothoracic_ratio:.2f}.")
    return sentences


def impression_of(finding: Finding, rng: Rng) -> str:
    """What the impression says of it, without a full stop."""
    text = _PHRASES[finding.name](finding, rng)[0]
    return text[:1].upper() + text[1:]
