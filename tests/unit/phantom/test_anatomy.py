"""The body before the voxels: people differ as people do, and geometry says what was painted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.phantom import Label, make_thorax
from napari_cxr3d.phantom.anatomy import Person, build_anatomy
from napari_cxr3d.phantom.labels import LUNG
from napari_cxr3d.phantom.tissues import PHASES, Tissue, hu_of, trabecular_hu

MAN = Person(seed=3, sex="male", habitus="average", age=50.0)


@pytest.fixture(scope="module")
def man():
    return build_anatomy(MAN)


def test_one_person_one_scene(man):
    first, again = man.builder.build(), build_anatomy(MAN).builder.build()
    for name in ("reals", "whole", "profiles"):
        assert np.array_equal(getattr(first, name), getattr(again, name))


def test_a_given_attribute_does_not_change_what_is_drawn_for_the_rest():
    drawn = Person.sample(5)
    fixed = Person.sample(5, age=80.0, phase="ctpa")
    assert replace(fixed, age=drawn.age, phase=drawn.phase) == drawn


def test_many_seeds_are_many_people():
    people = [Person.sample(seed) for seed in range(200)]
    assert {p.sex for p in people} == {"female", "male"}
    assert {p.habitus for p in people} == {"slim", "average", "heavy"}
    assert {p.phase for p in people} == set(PHASES)
    assert {p.arms for p in people} == {"up", "down"}
    ages = [p.age for p in people]
    assert min(ages) < 35 and max(ages) > 75


def test_women_are_smaller_and_the_heavy_wider():
    women = build_anatomy(replace(MAN, sex="female"))
    heavy = build_anatomy(replace(MAN, habitus="heavy"))
    man = build_anatomy(MAN)
    assert np.ptp(women.spine[:, 2]) < np.ptp(man.spine[:, 2])
    assert heavy.half_width_mm > man.half_width_mm + 8


def test_the_old_stoop():
    def bow(age: float) -> float:
        spine = build_anatomy(replace(MAN, age=age)).spine
        return float(spine[:, 1].max() - spine[[2, 13], 1].mean())

    assert bow(90.0) > bow(30.0) + 3


def test_every_lobe_has_arteries_veins_and_bronchi(man):
    lobes = set(LUNG) - {Label.FISSURE}
    for tree in (man.arteries, man.veins, man.airways):
        assert {branch.lobe for branch in tree} >= lobes


def test_trees_hang_together_and_taper(man):
    for tree in (man.arteries, man.airways):
        for branch in tree:
            if branch.parent < 0:
                continue
            parent = tree[branch.parent]
            gap = np.linalg.norm(parent.points - branch.points[0], axis=1).min()
            assert gap < 12
            assert branch.radii[-1] <= parent.radii.max() + 1e-6


def test_the_aorta_arches_from_the_heart_to_the_left_of_the_spine(man):
    aorta = man.aorta
    root, arch, low = (aorta.points[aorta.stations[k]] for k in ("root", "arch", "hiatus"))
    assert arch[2] > root[2] + 30
    assert low[2] < root[2]
    assert 11 < aorta.radii[aorta.stations["ascending"]] < 21
    middle = aorta.points[aorta.stations["descending"]]
    assert middle[0] > 0 and middle[1] > root[1] + 20


def test_ribs_slope_down_and_forward(man):
    assert len(man.ribs) == 24
    for name, line in man.ribs.items():
        if name.split()[1] not in ("11", "12"):  # those float
            assert line[0, 1] > line[-1, 1], name  # from back to front
        assert line[0, 2] > line[-1, 2], name  # and down


def test_the_right_dome_stands_higher(man):
    assert man.domes["right"].apex[2] > man.domes["left"].apex[2] + 4


def test_a_deeper_breath_lowers_the_domes_and_enlarges_the_lungs():
    low = build_anatomy(replace(MAN, inspiration=0.85)).domes["right"].apex[2]
    high = build_anatomy(replace(MAN, inspiration=1.1)).domes["right"].apex[2]
    assert high < low - 10


def test_a_point_on_the_pleura_lies_between_lung_and_wall(man):
    point, normal = man.lung_surface_point("left", 0.5, 0.0)
    low, high = man.lung_bounds("left")
    assert normal[0] > 0.8
    assert np.all(point >= low - 1e-6) and np.all(point <= high + 1e-6)
    with pytest.raises(InvalidInputError, match="left or right"):
        man.lung_bounds("middle")


def test_hearts_of_the_healthy_are_no_wider_than_half_the_chest():
    ratios = [
        make_thorax(seed, spacing_mm=5.0).parameters["cardiothoracic_ratio"] for seed in range(6)
    ]
    assert 0.40 < np.mean(ratios) < 0.50
    assert max(ratios) < 0.53


def test_lungs_hold_as_much_as_lungs_hold():
    for sex, low, high in (("female", 2.5, 5.5), ("male", 3.5, 7.5)):
        case = make_thorax(8, spacing_mm=5.0, sex=sex, habitus="average")
        litres = np.isin(case.labels, [int(v) for v in LUNG]).sum() * 5.0**3 / 1e6
        assert low < litres < high


@pytest.mark.parametrize(
    "change", [{"sex": "x"}, {"age": 5.0}, {"phase": "late"}, {"heart_scale": 9.0}, {"seed": -1}]
)
def test_a_person_that_cannot_be_is_refused(change):
    with pytest.raises(InvalidInputError):
        replace(MAN, **change)


def test_an_unknown_attribute_is_named():
    with pytest.raises(InvalidInputError, match="shoe_size"):
        Person.sample(0, shoe_size=44)


def test_every_tissue_has_a_value_in_every_phase():
    for tissue in Tissue:
        for phase in PHASES:
            assert -1100 < hu_of(tissue, phase) <= 3071


def test_contrast_brightens_what_it_reaches():
    assert hu_of(Tissue.PULMONARY_BLOOD, "ctpa") > hu_of(Tissue.PULMONARY_BLOOD, "venous") + 100
    assert hu_of(Tissue.LIVER, "venous") > hu_of(Tissue.LIVER, "none") + 30
    assert hu_of(Tissue.FAT, "ctpa") == pytest.approx(hu_of(Tissue.FAT, "none"), abs=5)


def test_bones_thin_with_age():
    assert trabecular_hu(25, "male") > trabecular_hu(80, "male") + 60
