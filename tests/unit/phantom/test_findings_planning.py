"""What a request, or the cohort, turns into."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.phantom.anatomy.person import Person
from napari_cxr3d.phantom.findings import (
    BITS,
    CT_RATE_LABELS,
    FINDINGS,
    Finding,
    ct_rate_labels,
    kind_of,
    label_vector,
    modify_person,
    plan_findings,
)
from napari_cxr3d.phantom.findings.cohort import HEALTHY_SHARE, ODDS_FACTORS, draw_kinds


def only(request: Any, seed: int = 1, **settings: Any) -> Any:
    (plan,) = plan_findings(request, seed, **settings)
    return plan


def test_every_finding_has_a_bit_of_its_own_that_fits_a_map_of_32() -> None:
    bits = [kind.bit for kind in FINDINGS]
    assert bits == list(range(len(FINDINGS)))
    assert max(bits) < 32
    assert BITS["pulmonary_embolism"] == 0


def test_no_alias_stands_for_two_findings() -> None:
    names = [name for kind in FINDINGS for name in (kind.name, *kind.aliases)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("pe", "pulmonary_embolism"),
        ("PTX", "pneumothorax"),
        ("ground-glass opacity", "ground_glass"),
        ("edema", "oedema"),
        ("Pleural Effusion", "pleural_effusion"),
    ],
)
def test_radiologists_words_are_understood(word: str, name: str) -> None:
    assert kind_of(word).name == name


def test_an_unknown_finding_names_the_nearest() -> None:
    with pytest.raises(InvalidInputError, match="pneumothorax"):
        plan_findings("pneumotorax", 1)
    with pytest.raises(InvalidInputError, match="Choose among"):
        plan_findings("xyzzy", 1)


def test_nothing_asked_for_is_a_healthy_chest() -> None:
    assert plan_findings(None, 5) == ()
    assert plan_findings([], 5) == ()


def test_one_seed_one_plan_and_another_finding_does_not_reshuffle_it() -> None:
    nodule = only("nodule", 7)
    assert nodule == only("nodule", 7)
    assert nodule != only("nodule", 8)
    both = plan_findings(["nodule", "coronary_calcification", "pacemaker"], 7)
    assert nodule.severity == both[0].severity
    assert nodule.place == both[0].place


def test_a_wish_leaves_the_rest_as_it_was() -> None:
    free, wished = only("nodule", 3), only({"nodule": 0.9}, 3)
    assert wished.severity == 0.9
    assert wished.place == free.place


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ("nodule=0.5:left lower lobe", {"severity": 0.5, "place": "left lower lobe"}),
        (["ptx:left"], {"side": "left"}),
        ({"nodule": {"style": "calcified", "count": 3}}, {"style": "calcified", "count": 3}),
        ({"mass": {"severity": 1, "side": "right"}}, {"severity": 1.0, "side": "right"}),
        ({"ground_glass": "diffuse"}, {"style": "diffuse"}),
    ],
)
def test_severity_place_and_look_can_be_asked_for(request_: Any, expected: dict[str, Any]) -> None:
    plan = only(request_, 11)
    assert {name: getattr(plan, name) for name in expected} == expected


def test_the_side_follows_the_lobe() -> None:
    for seed in range(20):
        plan = only("consolidation", seed)
        assert plan.place.startswith(plan.side)


@pytest.mark.parametrize(
    "request_",
    [
        "nodule=1.5",
        "nodule=large",
        {"nodule": float("nan")},
        {"nodule": {"size": 3}},
        {"nodule": {"place": "left middle lobe"}},
        {"nodule": {"place": "left lower lobe", "side": "right"}},
        {"nodule": {"count": 0}},
        {"cardiomegaly": {"count": 2}},
        {"cardiomegaly": {"side": "left"}},
        ["consolidation:left"] * 2,
        [3],
        7,
    ],
)
def test_what_cannot_be_is_refused(request_: Any) -> None:
    with pytest.raises(InvalidInputError):
        plans = plan_findings(request_, 2)
        # Twice the same side may land in two lobes, which is no contradiction.
        if len({plan.place for plan in plans}) == 2:
            raise InvalidInputError("two lobes")


def test_findings_that_exclude_each_other_are_said() -> None:
    with pytest.raises(InvalidInputError, match="collapsed and consolidated"):
        plan_findings(
            {
                "consolidation": {"place": "right upper lobe"},
                "atelectasis": {"place": "right upper lobe", "style": "lobar"},
            },
            1,
        )
    with pytest.raises(InvalidInputError, match="survived"):
        plan_findings({"pneumothorax": {"severity": 0.9, "side": "both"}}, 1)
    with pytest.raises(InvalidInputError, match="needs a pleural effusion"):
        plan_findings({"atelectasis": {"style": "compressive"}}, 1)


def test_clots_need_contrast() -> None:
    with pytest.raises(InvalidInputError, match="ctpa"):
        plan_findings("pe", 1, phase="none")
    person = modify_person(Person(phase="none"), plan_findings("pe", 1))
    assert person.phase == "ctpa"
    names = {p.name for seed in range(80) for p in plan_findings("random", seed, phase="venous")}
    assert "pulmonary_embolism" not in names
    assert len(names) > 15


def test_severe_findings_bring_others_along_unless_they_are_ruled_out() -> None:
    names = {p.name: p for p in plan_findings({"oedema": 0.9}, 4)}
    assert names["pleural_effusion"].cause == "oedema"
    assert names["pleural_effusion"].side == "both"
    assert [p.name for p in plan_findings({"oedema": 0.9, "pleural_effusion": None}, 4)] == [
        "oedema"
    ]
    large = {p.name: p for p in plan_findings({"effusion": {"severity": 0.8, "side": "left"}}, 4)}
    assert large["atelectasis"].style == "compressive"
    assert large["atelectasis"].side == "left"
    assert [p.name for p in plan_findings({"effusion": 0.2}, 4)] == ["pleural_effusion"]


def test_a_severe_clot_burden_reaches_further_towards_the_trunk() -> None:
    places = [only({"pe": s}, 1).place for s in (0.2, 0.45, 0.7, 0.95)]
    assert places == ["segmental", "lobar", "main", "saddle"]


def test_what_changes_the_whole_body_changes_the_person() -> None:
    person = Person()

    def changed(request: Any) -> Person:
        return modify_person(person, plan_findings(request, 1))

    assert modify_person(person, ()) == person
    assert changed({"cardiomegaly": 0.9}).heart_scale > changed({"cardiomegaly": 0.1}).heart_scale
    assert changed({"cardiomegaly": 0.1}).heart_scale > 1.05
    assert changed({"pericardial_effusion": 1}).pericardial_fluid_mm == 30
    assert changed({"emphysema": 0.9}).inspiration > 1.05
    assert changed({"fibrosis": 0.9}).inspiration < 0.95
    collapsed = changed({"atelectasis": {"style": "lobar", "place": "left lower lobe"}})
    assert collapsed.mediastinal_shift_mm > 0
    assert collapsed.diaphragm_raise_mm[0] > 0 == collapsed.diaphragm_raise_mm[1]
    pushed = changed({"pneumothorax": {"severity": 1, "side": "left"}})
    assert pushed.mediastinal_shift_mm < 0


def test_changes_of_several_findings_stay_within_what_a_body_allows() -> None:
    for seed in range(60):
        plans = plan_findings("random", seed, age=85)
        modify_person(Person.sample(seed), plans)
    every = {kind.name: 1.0 for kind in FINDINGS if kind.name not in ("pneumothorax",)}
    modify_person(Person(heart_scale=1.12), plan_findings(every, 1))


# The cohort


def shares(age: float = 60.0, count: int = 4000) -> tuple[dict[str, float], list[set[str]]]:
    drawn = [set(draw_kinds(np.random.default_rng([k, 3]), age=age)) for k in range(count)]
    return {kind.name: np.mean([kind.name in d for d in drawn]) for kind in FINDINGS}, drawn


@pytest.fixture(scope="module")
def cohort() -> tuple[dict[str, float], list[set[str]]]:
    return shares()


def test_each_finding_is_about_as_common_as_stated_or_commoner(
    cohort: tuple[dict[str, float], list[set[str]]],
) -> None:
    share, _ = cohort
    for kind in FINDINGS:
        expected = kind.prevalence * (1 - HEALTHY_SHARE)
        # Findings that go together raise each other's share above the stated one.
        assert 0.65 * expected < share[kind.name] < 2.6 * expected, kind.name


def test_there_are_healthy_chests_and_most_have_a_few_findings(
    cohort: tuple[dict[str, float], list[set[str]]],
) -> None:
    counts = np.array([len(d) for d in cohort[1]])
    assert HEALTHY_SHARE < np.mean(counts == 0) < HEALTHY_SHARE + 0.1
    assert 2 < counts.mean() < 5


@pytest.mark.parametrize(
    ("cause", "effect"),
    [pair for pair, factor in ODDS_FACTORS.items() if factor >= 2.5],
)
def test_findings_that_go_together_do(
    cohort: tuple[dict[str, float], list[set[str]]], cause: str, effect: str
) -> None:
    ill = [d for d in cohort[1] if d]
    with_cause = np.mean([effect in d for d in ill if cause in d])
    without = np.mean([effect in d for d in ill if cause not in d])
    assert with_cause > 1.3 * without


def test_the_old_have_more_calcium_and_the_young_less(
    cohort: tuple[dict[str, float], list[set[str]]],
) -> None:
    old, young = shares(80, 1000)[0], shares(35, 1000)[0]
    for name in ("coronary_calcification", "aortic_calcification", "pacemaker"):
        assert old[name] > cohort[0][name] > young[name]


# Labels


def finding(name: str, severity: float = 0.5) -> Finding:
    return Finding(name, severity)


def test_the_label_vector_has_every_name() -> None:
    labels = label_vector((finding("nodule"),))
    assert list(labels) == [kind.name for kind in FINDINGS]
    assert [name for name, present in labels.items() if present] == ["nodule"]


def test_the_vocabulary_reaches_all_eighteen_labels_of_ct_rate() -> None:
    assert len(CT_RATE_LABELS) == 18
    assert all(ct_rate_labels([finding(kind.name) for kind in FINDINGS]).values())
    assert not any(ct_rate_labels([]).values())


def test_ct_rate_counts_devices_masses_and_opacities_as_its_readers_do() -> None:
    def labels(name: str, severity: float = 0.5) -> set[str]:
        found = ct_rate_labels([finding(name, severity)])
        return {label for label, present in found.items() if present}

    assert labels("pacemaker") == {"Medical material"}
    assert labels("mass") == {"Lung nodule"}
    assert labels("consolidation") == {"Consolidation", "Lung opacity"}
    assert labels("pneumothorax") == labels("pulmonary_embolism") == set()
    assert "Lung opacity" not in labels("oedema", 0.2)
    assert "Lung opacity" in labels("oedema", 0.8)
