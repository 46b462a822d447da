"""Findings in the voxels: where they belong, as large as they say, and nothing else changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from napari_cxr3d.imaging import Grid
from napari_cxr3d.phantom.anatomy import build_anatomy
from napari_cxr3d.phantom.anatomy.model import Anatomy
from napari_cxr3d.phantom.anatomy.person import Person
from napari_cxr3d.phantom.case import cardiothoracic_ratio
from napari_cxr3d.phantom.findings import (
    BITS,
    FINDINGS,
    Finding,
    modify_person,
    paint_findings,
    plan_findings,
)
from napari_cxr3d.phantom.findings.heart import agatston_target, density_weight
from napari_cxr3d.phantom.labels import LUNG, Label
from napari_cxr3d.phantom.painting import paint

COARSE = Grid((76, 60, 78), (4.5, 4.0, 4.0), (-154.0, -118.0, 170.0))
RIGHT = [Label.RIGHT_UPPER_LOBE, Label.RIGHT_MIDDLE_LOBE, Label.RIGHT_LOWER_LOBE]


@dataclass(frozen=True, eq=False)
class Painted:
    """A body with its findings in the voxels of a grid."""

    anatomy: Anatomy
    findings: tuple[Finding, ...]
    grid: Grid
    hu: npt.NDArray[np.float32]
    labels: npt.NDArray[np.uint8]
    bits: npt.NDArray[np.uint32]

    def mask(self, name: str) -> npt.NDArray[np.bool_]:
        return (self.bits >> BITS[name]) & 1 == 1

    def where(self, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        """LPS of voxels, shape (N, 3)."""
        return self.grid.index_to_lps(np.argwhere(mask))

    def within(self, *labels: Label) -> npt.NDArray[np.bool_]:
        return np.isin(self.labels, labels)

    def finding(self, name: str) -> Finding:
        return next(f for f in self.findings if f.name == name)


def painted(request: Any, grid: Grid = COARSE, seed: int = 4, **person: Any) -> Painted:
    plans = plan_findings(request, seed)
    body = modify_person(Person(**{"seed": seed, "phase": "none", **person}), plans)
    anatomy = build_anatomy(body)
    findings = paint_findings(anatomy, plans)
    voxels = paint(anatomy.builder.build(), grid)
    return Painted(anatomy, findings, grid, voxels.hu, voxels.labels, voxels.findings)


@pytest.fixture(scope="module")
def body() -> Callable[..., Painted]:
    """`painted`, each body but once."""
    made: dict[str, Painted] = {}

    def get(request: Any, grid: Grid = COARSE, **person: Any) -> Painted:
        key = repr((request, grid, person))
        if key not in made:
            made[key] = painted(request, grid, **person)
        return made[key]

    return get


# Findings that do not cover each other, painted together to save time.
GROUPS: tuple[dict[str, Any], ...] = (
    {
        "pulmonary_embolism": 0.9, "nodule": 0.7, "coronary_calcification": 0.9,
        "aortic_calcification": 0.9, "lymphadenopathy": 0.7, "hiatal_hernia": 0.6,
        "central_line": 0.5, "pacemaker": 0.5, "endotracheal_tube": 0.5, "sternal_wires": 0.5,
    },
    {
        "mass": 0.5, "pleural_effusion": {"severity": 0.6, "side": "left"}, "cardiomegaly": 0.7,
        "atelectasis": {"style": "plate-like", "place": "right lower lobe", "severity": 0.9},
        "pericardial_effusion": 0.5, "emphysema": 0.5, "bronchiectasis": 0.6,
    },
    {
        "pneumothorax": {"severity": 0.5, "side": "right"}, "chest_drain": {"side": "right"},
        "consolidation": {"place": "left lower lobe", "severity": 0.5}, "fibrosis": 0.5,
        "ground_glass": {"side": "left", "severity": 0.6}, "mosaic_attenuation": 0.6,
        "peribronchial_thickening": 0.6,
    },
    {"oedema": 0.8, "interlobular_septal_thickening": 0.6},
)  # fmt: skip


def test_the_groups_hold_the_whole_vocabulary() -> None:
    assert {name for group in GROUPS for name in group} == {kind.name for kind in FINDINGS}


@pytest.mark.parametrize("number", range(len(GROUPS)))
def test_every_finding_asked_for_is_marked_and_no_other(
    body: Callable[..., Painted], number: int
) -> None:
    case = body(GROUPS[number])
    present = {finding.name for finding in case.findings}
    assert set(GROUPS[number]) <= present
    for kind in FINDINGS:
        count = int(case.mask(kind.name).sum())
        assert (count > 0) == (kind.name in present), (kind.name, count)


@pytest.mark.parametrize("number", range(len(GROUPS)))
def test_pieces_lie_inside_the_body(body: Callable[..., Painted], number: int) -> None:
    case = body(GROUPS[number])
    low, high = case.where(case.labels != Label.AIR).min(0), case.where(
        case.labels != Label.AIR
    ).max(0)  # fmt: skip
    for finding in case.findings:
        assert finding.parts, finding.name
        for part in finding.parts:
            assert (np.array(part.center_lps) > low - 5).all(), (finding.name, part)
            assert (np.array(part.center_lps) < high + 5).all(), (finding.name, part)


def test_a_nodule_changes_the_nodule_alone(body: Callable[..., Painted]) -> None:
    healthy, ill = body(None), body({"nodule": {"severity": 0.8, "count": 1}})
    center = np.array(ill.finding("nodule").parts[0].center_lps)
    changed = ill.where(np.abs(ill.hu - healthy.hu) > 1e-3)
    assert len(changed) > 0
    distances = np.sqrt(((changed - center) ** 2).sum(axis=1))
    assert distances.max() < 15 + 4 + 2.5 * 3**0.5  # radius, voxel, warp


def test_clots_lie_in_contrast_filled_arteries_and_spare_some_lumen(
    body: Callable[..., Painted],
) -> None:
    case = body({"pe": 0.9}, Grid((60, 60, 90), (1.5, 1.5, 1.5), (-66.0, -50.0, 80.0)))
    clot = case.mask("pulmonary_embolism")
    lumen = case.within(Label.PULMONARY_ARTERY) & ~clot
    assert (case.labels[clot] == Label.PULMONARY_ARTERY).all()
    assert 30 < np.median(case.hu[clot]) < 90
    assert np.median(case.hu[lumen]) > 220
    assert 0.03 < clot.sum() / case.within(Label.PULMONARY_ARTERY).sum() < 0.6
    # A saddle embolus crosses the midline.
    x = case.where(clot)[:, 0]
    assert x.min() < -10
    assert x.max() > 15


def test_the_obstruction_grows_with_the_severity() -> None:
    anatomy = build_anatomy(Person(phase="ctpa"))
    indices = [
        paint_findings(anatomy, plan_findings({"pe": severity}, 3))[0].measures["obstruction"]
        for severity in (0.1, 0.5, 0.75, 1.0)
    ]
    assert indices == sorted(indices)
    assert 0 < indices[0] < 0.3 < indices[-1] <= 1


def test_one_sided_clots_stay_on_their_side(body: Callable[..., Painted]) -> None:
    case = body({"pe": {"severity": 0.3, "side": "right"}})
    assert (case.where(case.mask("pulmonary_embolism"))[:, 0] < -20).all()


@pytest.mark.parametrize("severity", [0.15, 0.5, 1.0])
def test_a_nodule_is_as_wide_as_it_says(severity: float) -> None:
    request = {"nodule": {"severity": severity, "count": 1, "style": "solid"}}
    plans = plan_findings(request, 4)
    anatomy = build_anatomy(Person(seed=4))
    (finding,) = paint_findings(anatomy, plans)
    stated = finding.measures["diameter_mm"]
    assert stated == pytest.approx(4 + 26 * severity)
    x, y, z = finding.parts[0].center_lps
    reach = stated / 2 + 8
    count = int(2 * reach / 0.7) + 1
    grid = Grid((count,) * 3, (0.7,) * 3, (x - reach, y - reach, z + reach))
    mask = (paint(anatomy.builder.build(), grid).findings >> BITS["nodule"]) & 1
    points = np.argwhere(mask) * 0.7
    # The longest extent over many directions.
    rng = np.random.default_rng(1)
    directions = rng.normal(size=(300, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    longest = np.ptp(points @ directions.T, axis=0).max() + 0.7
    assert longest == pytest.approx(stated, abs=0.12 * stated + 0.8)


def test_a_calcified_nodule_is_denser_and_a_ground_glass_one_thinner_than_a_solid_one() -> None:
    def density(style: str) -> float:
        anatomy = build_anatomy(Person(seed=4))
        plans = plan_findings({"nodule": {"severity": 0.9, "style": style, "count": 1}}, 4)
        (finding,) = paint_findings(anatomy, plans)
        x, y, z = finding.parts[0].center_lps
        grid = Grid((20, 20, 20), (1.5, 1.5, 1.5), (x - 15, y - 15, z + 15))
        voxels = paint(anatomy.builder.build(), grid)
        return float(np.median(voxels.hu[(voxels.findings >> BITS["nodule"]) & 1 == 1]))

    ground_glass, solid, calcified = (density(s) for s in ("ground-glass", "solid", "calcified"))
    assert -750 < ground_glass < -400
    assert 0 < solid < 100
    assert calcified > 400


# Each with what keeps it in its place; a mask is set whatever is painted over it.
GRADED: dict[str, dict[str, Any]] = {
    "mass": {"place": "right upper lobe", "style": "lobulated"},
    "consolidation": {"place": "right lower lobe"},
    "ground_glass": {"side": "left", "style": "diffuse"},
    "atelectasis": {"place": "right middle lobe", "style": "plate-like"},
    "fibrosis": {},
    "hiatal_hernia": {},
    "pericardial_effusion": {},
    "bronchiectasis": {"place": "all lobes"},
    "peribronchial_thickening": {"place": "all lobes"},
    "lymphadenopathy": {"place": "7"},
    "aortic_calcification": {"place": "arch"},
}


@pytest.mark.parametrize("name", GRADED)
def test_more_severe_is_larger(body: Callable[..., Painted], name: str) -> None:
    sizes = [
        int(body({n: {"severity": s, **g} for n, g in GRADED.items()}).mask(name).sum())
        for s in (0.1, 0.5, 1.0)
    ]
    assert sizes[0] < sizes[1] < sizes[2], sizes


def test_an_effusion_lies_behind_and_is_as_deep_as_it_says(body: Callable[..., Painted]) -> None:
    depths = []
    for severity in (0.2, 0.7):
        case = body({"pleural_effusion": {"severity": severity, "side": "right"}})
        fluid = case.mask("pleural_effusion") & case.within(Label.PLEURAL_FLUID)
        assert (case.mask("pleural_effusion") == case.within(Label.PLEURAL_FLUID)).mean() > 0.999
        places, lung = case.where(fluid), case.where(case.within(*RIGHT))
        assert np.mean(places[:, 0] < 5) > 0.999
        assert places[:, 1].mean() > lung[:, 1].mean() + 20
        assert -10 < np.median(case.hu[fluid]) < 30
        middle = np.abs(places[:, 0] - np.median(lung[:, 0])) < 20
        low = places[:, 2] < lung[:, 2].min() + 100
        y = places[middle & low, 1]
        depths.append(y.max() - np.percentile(y, 1))
        assert depths[-1] == pytest.approx(case.findings[0].measures["depth_mm"], abs=8)
    assert depths[1] > 1.8 * depths[0]


def test_a_large_effusion_compresses_the_lung_in_front_of_it(body: Callable[..., Painted]) -> None:
    case = body({"pleural_effusion": {"severity": 0.7, "side": "right"}})
    layer = case.mask("atelectasis")
    assert layer.sum() > 500
    assert not (layer & case.mask("pleural_effusion")).any()
    assert (np.isin(case.labels[layer], [*RIGHT, Label.FISSURE])).mean() > 0.98
    assert np.median(case.hu[layer]) > -50
    assert case.where(layer)[:, 1].mean() < case.where(case.mask("pleural_effusion"))[:, 1].mean()


def test_a_pneumothorax_is_air_in_front_without_vessels(body: Callable[..., Painted]) -> None:
    case = body({"pneumothorax": {"severity": 0.6, "side": "left"}})
    air = case.within(Label.PLEURAL_AIR)
    assert air.sum() > 1000
    assert (air & case.mask("pneumothorax")).sum() == air.sum()
    assert np.median(case.hu[air]) < -980
    places = case.where(air)
    assert np.mean(places[:, 0] > -5) > 0.999
    lung = case.where(case.within(Label.LEFT_UPPER_LOBE, Label.LEFT_LOWER_LOBE))
    assert places[:, 1].mean() < lung[:, 1].mean() - 15
    assert places[:, 2].max() > lung[:, 2].max()
    # No vessel is left in the air, except at its border.
    from scipy.ndimage import binary_closing, binary_erosion

    filled = binary_erosion(binary_closing(air, iterations=2), iterations=2)
    vessels = case.within(Label.PULMONARY_ARTERY, Label.PULMONARY_VEIN)
    assert (filled & vessels).sum() < 0.004 * filled.sum()


def test_air_and_fluid_on_one_side_meet_in_a_level(body: Callable[..., Painted]) -> None:
    case = body(
        {
            "pneumothorax": {"severity": 0.7, "side": "left"},
            "pleural_effusion": {"severity": 0.35, "side": "left"},
        }
    )
    fluid, air = case.within(Label.PLEURAL_FLUID), case.within(Label.PLEURAL_AIR)
    step = fluid[:, 1:] & air[:, :-1]  # fluid directly behind air
    heights = case.where(np.pad(step, ((0, 0), (1, 0), (0, 0))))[:, 1]
    assert len(heights) > 20
    assert np.percentile(heights, 90) - np.percentile(heights, 10) < 12
    assert not (air[:, 1:] & fluid[:, :-1]).sum() > 0.2 * len(heights)


def test_a_consolidation_keeps_to_its_lobe_and_leaves_bronchi_open(
    body: Callable[..., Painted],
) -> None:
    case = body(
        {"consolidation": {"place": "right lower lobe", "severity": 0.9}},
        Grid((80, 70, 64), (2.5, 2.5, 2.0), (-140.0, -80.0, 70.0)),
    )
    mask = case.mask("consolidation")
    inside = np.isin(case.labels[mask], [Label.RIGHT_LOWER_LOBE, Label.AIRWAY])
    assert inside.mean() > 0.99
    assert np.median(case.hu[mask & case.within(Label.RIGHT_LOWER_LOBE)]) > -20
    open_bronchi = mask & case.within(Label.AIRWAY)
    assert open_bronchi.sum() > 30
    assert np.median(case.hu[open_bronchi]) < -500


@pytest.mark.parametrize("severity", [0.15, 0.5, 0.9])
def test_emphysema_has_the_stated_share_below_950(
    body: Callable[..., Painted], severity: float
) -> None:
    request = {"emphysema": {"severity": severity, "place": "all lobes", "style": "centrilobular"}}
    case = body(request, Grid((60, 70, 80), (3.0, 2.0, 2.0), (-150.0, -60.0, 110.0)))
    lung = case.within(*[label for label in LUNG if label != Label.FISSURE])
    share = float(np.mean(case.hu[lung] < -950))
    assert share == pytest.approx(case.findings[0].measures["share"], rel=0.35)


def test_a_large_heart_is_large_by_the_radiologists_rule(body: Callable[..., Painted]) -> None:
    ratios = [cardiothoracic_ratio(body(r).labels) for r in
              (None, {"cardiomegaly": 0.3}, {"cardiomegaly": 0.9})]  # fmt: skip
    assert ratios[0] + 0.03 < ratios[1] < ratios[2] - 0.03
    assert ratios[1] > 0.5
    case = body({"cardiomegaly": 0.9})
    heart = case.within(Label.MYOCARDIUM, Label.LEFT_VENTRICLE, Label.RIGHT_ATRIUM)
    assert (heart & case.mask("cardiomegaly")).sum() > 0.98 * heart.sum()


def test_pericardial_fluid_is_all_marked(body: Callable[..., Painted]) -> None:
    case = body({"pericardial_effusion": 0.6})
    fluid = case.within(Label.PERICARDIAL_FLUID)
    assert fluid.sum() > 300
    assert (fluid & case.mask("pericardial_effusion")).sum() == fluid.sum()


def test_a_deposits_weight_is_agatstons() -> None:
    assert [density_weight(hu) for hu in (129, 130, 200, 300, 400, 1000)] == [0, 1, 2, 3, 4, 4]
    assert agatston_target(0) == pytest.approx(10)
    assert agatston_target(1) == pytest.approx(2000)


@pytest.mark.parametrize("severity", [0.4, 0.8])
def test_calcium_scored_in_the_voxels_is_about_what_is_stated(severity: float) -> None:
    anatomy = build_anatomy(Person(seed=2, phase="none"))
    (finding,) = paint_findings(anatomy, plan_findings({"coronary_calcification": severity}, 2))
    stated = finding.measures["agatston"]
    assert stated == pytest.approx(agatston_target(severity), rel=0.01)
    points = np.concatenate(list(anatomy.coronaries.values()))
    low, high = points.min(axis=0) - 8, points.max(axis=0) + 8
    spacing = (1.0, 0.6, 0.6)
    shape = tuple(int(n) for n in ((high - low)[::-1] / spacing))
    grid = Grid(shape, spacing, (low[0], low[1], high[2]))  # type: ignore[arg-type]
    voxels = paint(anatomy.builder.build(), grid)
    hu = voxels.hu[(voxels.findings >> BITS["coronary_calcification"]) & 1 == 1]
    weights = np.select([hu >= 400, hu >= 300, hu >= 200, hu >= 130], [4, 3, 2, 1], 0)
    scored = float(weights.sum() * 0.6 * 0.6 * 1.0 / 3.0)
    assert scored == pytest.approx(stated, rel=0.4)


def test_plaques_lie_in_the_wall_of_the_aorta(body: Callable[..., Painted]) -> None:
    case = body({"aortic_calcification": {"severity": 0.8, "place": "arch and descending"}})
    aorta = case.anatomy.aorta
    places = case.where(case.mask("aortic_calcification"))
    distances = np.sqrt(((places[:, None] - aorta.points[None]) ** 2).sum(axis=2))
    nearest = distances.argmin(axis=1)
    gap = distances.min(axis=1) - aorta.radii[nearest]
    assert np.abs(gap).max() < 12
    assert np.abs(np.median(gap)) < 4
    assert np.median(case.hu[case.mask("aortic_calcification")]) > 200


def test_nodes_lie_beside_the_windpipe_and_not_in_it(body: Callable[..., Painted]) -> None:
    case = body({"lymphadenopathy": {"place": "4R", "severity": 0.5}})
    places = case.where(case.mask("lymphadenopathy"))
    carina = np.array(case.anatomy.landmarks["carina"])
    assert places[:, 0].mean() < carina[0] - 8
    assert 0 < places[:, 2].mean() - carina[2] < 45
    assert (case.labels[case.mask("lymphadenopathy")] == Label.LYMPH_NODE).mean() > 0.7
    assert not (case.within(Label.AIRWAY) & case.mask("lymphadenopathy")).any()


def test_a_hernia_has_its_gas_in_front_of_its_fluid_and_spares_heart_and_aorta(
    body: Callable[..., Painted],
) -> None:
    healthy, case = body(None), body({"hiatal_hernia": 0.8})
    pouch = case.mask("hiatal_hernia")
    gas = case.where(pouch & case.within(Label.STOMACH_GAS))
    fluid = case.where(pouch & case.within(Label.STOMACH))
    assert len(gas) > 20
    assert gas[:, 1].mean() < fluid[:, 1].mean() - 5
    for organ in (Label.AORTA, Label.LEFT_ATRIUM, Label.VERTEBRA):
        assert case.within(organ).sum() == healthy.within(organ).sum()


def test_fibrosis_lies_under_the_pleura_at_the_bases(body: Callable[..., Painted]) -> None:
    case = body({"fibrosis": 0.8, "bronchiectasis": None})
    mask = case.mask("fibrosis")
    lung = case.within(*LUNG)
    upper = case.grid.index_to_lps(np.argwhere(lung))[:, 2] > 60
    share = mask[lung]
    assert share[~upper].mean() > 3 * share[upper].mean()
    x = np.abs(case.where(mask)[:, 0])
    assert np.median(x) > np.median(np.abs(case.where(lung & ~mask)[:, 0]))


def test_mosaic_attenuation_differs_by_what_it_says(body: Callable[..., Painted]) -> None:
    case = body({"mosaic_attenuation": 0.8})
    lung = case.within(*[label for label in LUNG if label != Label.FISSURE])
    dark = case.mask("mosaic_attenuation") & lung
    bright = lung & ~case.mask("mosaic_attenuation")
    assert 0.25 < dark.sum() / lung.sum() < 0.7
    difference = np.median(case.hu[bright]) - np.median(case.hu[dark])
    assert difference == pytest.approx(case.findings[0].measures["difference_hu"], rel=0.25)


def test_a_collapsed_lobe_loses_volume_to_its_neighbour(body: Callable[..., Painted]) -> None:
    healthy = body(None)
    case = body({"atelectasis": {"style": "lobar", "place": "right upper lobe", "severity": 0.8}})
    lobe = case.within(Label.RIGHT_UPPER_LOBE)
    assert lobe.sum() < 0.5 * healthy.within(Label.RIGHT_UPPER_LOBE).sum()
    assert np.median(case.hu[lobe & case.mask("atelectasis")]) > 0


def test_bronchiectasis_widens_the_airways(body: Callable[..., Painted]) -> None:
    grid = Grid((60, 80, 70), (2.0, 1.5, 2.0), (-140.0, -50.0, 40.0))
    healthy = body(None, grid)
    case = body({"bronchiectasis": {"severity": 0.7, "place": "all lobes"}}, grid)
    assert case.within(Label.AIRWAY).sum() > 2 * healthy.within(Label.AIRWAY).sum()


def test_thick_bronchial_walls_leave_the_lumen_open(body: Callable[..., Painted]) -> None:
    grid = Grid((60, 80, 70), (2.0, 1.5, 2.0), (-140.0, -50.0, 40.0))
    healthy = body(None, grid)
    case = body({"peribronchial_thickening": {"severity": 0.8, "place": "all lobes"}}, grid)
    assert case.within(Label.AIRWAY_WALL).sum() > 2 * healthy.within(Label.AIRWAY_WALL).sum()
    assert case.within(Label.AIRWAY).sum() > 0.9 * healthy.within(Label.AIRWAY).sum()


@cache
def _devices() -> Painted:
    return painted(
        {"central_line": {"severity": 0.5, "side": "right"}, "pacemaker": {"severity": 0.5,
         "side": "left"}, "endotracheal_tube": 0.5}
    )  # fmt: skip


def test_devices_are_dense_and_where_they_should_be() -> None:
    case = _devices()
    assert case.hu[case.mask("pacemaker")].max() > 2000
    line, tube, pacer = (
        case.finding(n) for n in ("central_line", "endotracheal_tube", "pacemaker")
    )
    marks = case.anatomy.landmarks
    junction = np.array(marks["cavoatrial_junction"])
    assert np.abs(np.array(line.parts[0].center_lps) - junction).max() < 6
    assert tube.measures["tip_above_carina_mm"] == pytest.approx(40, abs=4)
    assert tube.parts[0].center_lps[2] > marks["carina"][2]
    generator = next(p for p in pacer.parts if "chest wall" in p.place)
    assert generator.center_lps[0] > 40
    assert pacer.measures["leads"] == 2
    apex = next(p for p in pacer.parts if "ventricular apex" in p.place)
    ventricle = case.anatomy.organs["right ventricle"]
    local = ventricle.axes.T @ (np.array(apex.center_lps) - ventricle.center)
    assert ((local / ventricle.semi_axes) ** 2).sum() < 1


def test_a_tip_moves_with_the_severity() -> None:
    anatomy = build_anatomy(Person(seed=3))
    tips = [
        paint_findings(anatomy, plan_findings({"central_line": s}, 3))[0].parts[0].center_lps[2]
        for s in (0.05, 0.5, 1.0)
    ]
    assert tips[0] > tips[1] + 20 > tips[2] + 40
