"""A synthetic patient: whole, labelled, the same for the same seed, seen at any voxel size."""

from __future__ import annotations

import json
from hashlib import sha256

import numpy as np
import pytest
from scipy import ndimage

from napari_cxr3d.errors import Cancelled, InvalidInputError
from napari_cxr3d.phantom import FINDINGS, Label, make_thoraces, make_thorax
from napari_cxr3d.phantom.labels import BONES, LUNG
from napari_cxr3d.phantom.measures import HEART
from napari_cxr3d.progress import CancelToken

COARSE = 6.0  # mm: 120 000 voxels
FOV = (340.0, 260.0, 340.0)


@pytest.fixture(scope="module")
def healthy():
    return make_thorax(11, FOV, COARSE, "male", "average", age=50, phase="ctpa", arms="up")


@pytest.fixture(scope="module")
def ill():
    findings = {
        "pulmonary_embolism": 0.9,
        "nodule": {"severity": 0.8, "place": "right upper lobe", "style": "solid"},
        "pleural_effusion": {"severity": 0.6, "side": "left"},
    }
    return make_thorax(12, FOV, 3.0, findings=findings)


def centre(case, labels) -> np.ndarray:
    """LPS centre of a set of labels."""
    mask = np.isin(case.labels, [int(v) for v in np.atleast_1d(labels)])
    return case.volume.grid.index_to_lps(ndimage.center_of_mass(mask))


def test_the_heart_lies_left_the_liver_right_the_spine_behind_the_head_above(healthy):
    assert centre(healthy, HEART)[0] > 5
    assert centre(healthy, Label.LIVER)[0] < -20
    assert centre(healthy, Label.SPLEEN)[0] > 20
    assert centre(healthy, Label.VERTEBRA)[1] > centre(healthy, HEART)[1] + 40
    assert centre(healthy, Label.STERNUM)[1] < centre(healthy, HEART)[1] - 20
    assert centre(healthy, Label.CLAVICLE)[2] > centre(healthy, HEART)[2] + 60
    assert centre(healthy, Label.LIVER)[2] < centre(healthy, LUNG)[2] - 40
    assert centre(healthy, Label.AORTA)[0] > -5


def test_all_organs_are_there(healthy):
    present = {Label(v) for v in np.unique(healthy.labels)}
    expected = {*LUNG, *BONES, *HEART[:5], Label.FAT, Label.MUSCLE, Label.AORTA, Label.LIVER,
                Label.AIRWAY, Label.PULMONARY_ARTERY, Label.PULMONARY_VEIN, Label.STOMACH,
                Label.SUPERIOR_VENA_CAVA, Label.OESOPHAGUS, Label.COSTAL_CARTILAGE}  # fmt: skip
    assert expected - present - {Label.FISSURE, Label.HUMERUS} == set()


def test_tissues_have_the_hu_of_tissues(healthy):
    hu = healthy.volume.hu
    assert hu.dtype == np.int16

    def median(*labels: Label) -> float:
        mask = ndimage.binary_erosion(np.isin(healthy.labels, [int(v) for v in labels]))
        return float(np.median(hu[mask]))

    assert median(*LUNG) == pytest.approx(-830, abs=60)
    assert median(Label.FAT) == pytest.approx(-100, abs=25)
    assert median(Label.MUSCLE) == pytest.approx(55, abs=25)
    assert median(Label.LIVER) == pytest.approx(60, abs=40)
    assert median(Label.AIR) == pytest.approx(-1000, abs=10)
    assert hu[np.isin(healthy.labels, [int(b) for b in BONES])].max() > 400


def test_contrast_fills_the_pulmonary_arteries_at_ctpa_only():
    def artery(phase: str) -> float:
        case = make_thorax(3, (120.0, 160.0, 160.0), 3.0, phase=phase)
        mask = ndimage.binary_erosion(case.labels == Label.PULMONARY_ARTERY)
        return float(np.median(case.volume.hu[mask]))

    assert artery("ctpa") > 200 > 70 > artery("none")


def test_one_seed_gives_the_same_bytes_whatever_the_threads(healthy):
    again = make_thorax(
        11, FOV, COARSE, "male", "average", age=50, phase="ctpa", arms="up", threads=1
    )
    assert np.array_equal(healthy.volume.hu, again.volume.hu)
    assert np.array_equal(healthy.labels, again.labels)
    assert healthy.report == again.report
    assert healthy.to_dict()["landmarks_lps"] == again.to_dict()["landmarks_lps"]


def test_another_seed_is_another_patient(healthy):
    other = make_thorax(10, FOV, COARSE, "male", "average", age=50, phase="ctpa", arms="up")
    assert (other.labels != healthy.labels).mean() > 0.02


def test_the_bytes_of_a_seed_are_known(ill):
    """Other bytes on any machine, or after any change, mean another cohort for every seed."""
    digest = sha256(ill.volume.hu.tobytes() + ill.labels.tobytes() + ill.finding_bits.tobytes())
    assert digest.hexdigest()[:16] == "ed2dcbea9807f37c"


def test_a_finding_leaves_the_anatomy_of_the_seed_alone():
    options = {"phase": "none", "age": 60}
    without = make_thorax(5, FOV, COARSE, **options)
    with_nodule = make_thorax(5, FOV, COARSE, findings={"nodule": 0.5}, **options)
    elsewhere = ~ndimage.binary_dilation(with_nodule.mask("nodule"), iterations=3)
    assert np.array_equal(without.labels[elsewhere], with_nodule.labels[elsewhere])


def test_the_voxel_size_does_not_change_the_patient():
    finer = make_thorax(12, FOV, 2.5)
    coarser = make_thorax(12, FOV, 4.0)
    for name, point in finer.landmarks.items():
        assert point == pytest.approx(coarser.landmarks[name], abs=0.01)
    for labels in (HEART, LUNG, [Label.LIVER]):
        assert centre(finer, labels) == pytest.approx(centre(coarser, labels), abs=2.0)


def test_every_finding_has_voxels_a_box_words_and_a_label(ill):
    names = {finding.name for finding in ill.findings}
    assert {"pulmonary_embolism", "nodule", "pleural_effusion"} <= names
    for finding in ill.findings:
        mask = ill.mask(finding.name)
        assert mask.any()
        assert ill.label_vector[finding.name]
        boxes = [box for box in ill.boxes if box.finding == finding.name]
        assert boxes
        points = ill.volume.grid.index_to_lps(np.argwhere(mask))
        inside = np.zeros(len(points), bool)
        for box in boxes:
            inside |= np.all((points > box.low_lps) & (points < box.high_lps), axis=1)
        assert inside.mean() > 0.5
    assert not ill.label_vector["emphysema"]
    assert set(ill.label_vector) == {kind.name for kind in FINDINGS}


def test_findings_lie_where_they_were_asked_for(ill):
    grid = ill.volume.grid
    nodule = grid.index_to_lps(ndimage.center_of_mass(ill.mask("nodule")))
    effusion = grid.index_to_lps(ndimage.center_of_mass(ill.mask("pleural_effusion")))
    assert nodule[0] < -20
    assert nodule[2] > ill.landmarks["carina"][2] - 60
    assert effusion[0] > 20
    assert effusion[1] > centre(ill, LUNG)[1]  # behind: the patient lies on the back


def test_clots_are_darker_than_the_blood_around_them(ill):
    clots = ill.mask("pulmonary_embolism")
    blood = (ill.labels == Label.PULMONARY_ARTERY) & ~ndimage.binary_dilation(clots)
    hu = ill.volume.hu
    core = ndimage.binary_erosion(blood)
    assert np.median(hu[clots]) < np.median(hu[core]) - 100


def test_landmarks_lie_at_what_they_name(ill):
    grid = ill.volume.grid
    airway = grid.index_to_lps(np.argwhere(np.isin(ill.labels, [Label.AIRWAY, Label.AIRWAY_WALL])))
    heart = grid.index_to_lps(np.argwhere(np.isin(ill.labels, [int(v) for v in HEART])))
    nearest = np.linalg.norm(airway - np.array(ill.landmarks["carina"]), axis=1).min()
    assert nearest < 8
    assert np.linalg.norm(heart - np.array(ill.landmarks["heart_apex"]), axis=1).min() < 12
    for side, sign in (("right", -1), ("left", 1)):
        assert np.sign(ill.landmarks[f"{side}_costophrenic_angle"][0]) == sign


def test_the_record_is_plain_json_and_says_synthetic(ill):
    record = json.loads(json.dumps(ill.to_dict()))
    assert record["synthetic"] is True
    assert record["provenance"]["synthetic"] is True
    assert ill.volume.synthetic
    assert 0 <= record["cardiovascular_risk"] <= 1


def test_random_cohorts_have_varied_findings():
    cases = list(make_thoraces(range(8), (60.0, 60.0, 60.0), 6.0))
    assert len({tuple(f.name for f in case.findings) for case in cases}) >= 5
    assert [case.seed for case in cases] == list(range(8))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"seed": -1}, "seed"),
        ({"size_mm": (0, 1, 1)}, "field of view"),
        ({"spacing_mm": -2}, "spacing"),
        ({"spacing_mm": 0.05}, "memory"),
        ({"sex": "other"}, "sex"),
        ({"age": 7}, "18"),
        ({"phase": "arterial"}, "phase"),
        ({"findings": ["pnumothorax"]}, "pneumothorax"),
        ({"device": "tpu"}, "cpu"),
        ({"findings": {"pulmonary_embolism": 1.0}, "phase": "none"}, "phase"),
    ],
)
def test_what_cannot_be_made_is_refused_with_a_reason(arguments, words):
    with pytest.raises(InvalidInputError, match=words):
        make_thorax(**{"seed": 0, "size_mm": (60, 60, 60), "spacing_mm": 6.0, **arguments})


def test_making_can_be_cancelled():
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        make_thorax(0, FOV, COARSE, cancel=token)
