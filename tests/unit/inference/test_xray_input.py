"""The X-ray that goes in: guessed with reasons, corrected, and put on the model's detector."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Radiograph, SourceInfo, Volume, XrayView, preset
from napari_cxr3d.inference.xray_input import (
    FIELD_MM,
    XrayInput,
    guess_input,
    prepare_inputs,
)
from napari_cxr3d.inference.xray_input_recognition import recognise
from napari_cxr3d.inference.xray_input_resampling import (
    area_mean,
    content_box,
    footprints,
    letters,
    turned,
)
from napari_cxr3d.phantom import make_thorax
from napari_cxr3d.xray import project_basis, projector
from napari_cxr3d.xray.simulator import simulate

DETECTOR = (48, 48)
SIDE, PITCH = 256, 1.6  # of the projected pictures: 410 mm


@pytest.fixture(scope="session")
def chest() -> Volume:
    """A patient of 6 mm about a centre that is not the origin."""
    made = make_thorax(3, size_mm=(360.0, 330.0, 384.0), spacing_mm=6.0, threads=1).volume
    x, y, z = made.center_lps
    a, b, c = made.origin_lps
    return replace(made, origin_lps=(a - x + 20.0, b - y - 150.0, c - z + 400.0))


def seen(chest: Volume, name: str, **changes: object) -> XrayView:
    base = replace(preset(name), detector_shape=(SIDE, SIDE), pixel_mm=PITCH)
    return replace(base, isocenter_lps=chest.center_lps, **changes)


def projected(chest: Volume, view: XrayView) -> Radiograph:
    """Line integrals, as a DRR layer holds them."""
    integrals = projector("cpu").project(chest, [view])[0]
    pitch = (view.pixel_mm,) * 2
    return Radiograph(integrals, pitch, view=view, quantity="line_integral", synthetic=True)


@pytest.fixture(scope="session")
def pictures(chest: Volume) -> dict[str, np.ndarray]:
    """Realistic greys by preset, as a file would hold them."""
    made = {}
    for name in ("pa", "ap-bedside", "left-lateral", "right-lateral"):
        view = seen(chest, name)
        water, bone = project_basis(projector("cpu"), chest, [view])
        made[name] = simulate((water[0], bone[0]), view, "realistic", 4)
    return made


def greys(picture: np.ndarray, pitch: float | None = PITCH, **changes: object) -> Radiograph:
    known = None if pitch is None else (pitch, pitch)
    return Radiograph(picture, known, display_range=(0.0, 1.0), **changes)


@pytest.mark.parametrize(
    ("name", "changes"),
    [("pa", {}), ("ap-bedside", {}), ("left-lateral", {}), ("pa", {"yaw": 25.0, "roll": 8.0})],
)
def test_a_projection_becomes_what_the_models_detector_sees(chest, name, changes) -> None:
    view = seen(chest, name, **changes)
    made = prepare_inputs([XrayInput(projected(chest, view), "as-given")], detector_shape=(96, 96))
    assert made.exact == (True,)
    assert made.calibrations == (None,)
    around = replace(chest, origin_lps=tuple(np.array(chest.origin_lps) - chest.center_lps))
    truth = projector("cpu").project(around, made.views)
    valid = made.valid
    assert valid.mean() > 0.8
    error = np.abs(made.integrals - truth)[valid].sum() / truth[valid].sum()
    assert error < 0.02
    assert not made.integrals[~valid].any()
    assert made.views[0].pixel_mm == pytest.approx(FIELD_MM / 96)


def test_an_exact_view_keeps_its_place_about_the_volumes_center(chest) -> None:
    x, y, z = chest.center_lps
    moved = seen(chest, "pa")
    moved = replace(moved, isocenter_lps=(x + 18.0, y, z - 31.0))
    given = XrayInput(projected(chest, moved), "as-given", volume_center_lps=(x, y, z))
    made = prepare_inputs([given], detector_shape=(96, 96))
    np.testing.assert_allclose(made.views[0].isocenter_lps, (18.0, 0.0, -31.0))
    assert made.center_lps == (x, y, z)
    around = replace(chest, origin_lps=tuple(np.array(chest.origin_lps) - chest.center_lps))
    truth = projector("cpu").project(around, made.views)
    assert np.abs(made.integrals - truth)[made.valid].sum() < 0.02 * truth[made.valid].sum()
    unknown = prepare_inputs([replace(given, volume_center_lps=None)], detector_shape=(96, 96))
    assert unknown.views[0].isocenter_lps == (0.0, 0.0, 0.0)
    assert unknown.center_lps == moved.isocenter_lps


def test_two_projections_of_one_ct_share_its_frame(chest) -> None:
    x, y, z = chest.center_lps
    frontal, side = seen(chest, "pa"), seen(chest, "left-lateral")
    side = replace(side, isocenter_lps=(x, y + 12.0, z + 7.0))
    inputs = [XrayInput(projected(chest, view), "as-given") for view in (frontal, side)]
    made = prepare_inputs(inputs, detector_shape=DETECTOR)
    np.testing.assert_allclose(made.views[0].isocenter_lps, (0, 0, 0))
    np.testing.assert_allclose(made.views[1].isocenter_lps, (0, 12, 7))


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_corrections_bring_back_the_same_prepared_picture(pictures, rotation, mirrored) -> None:
    upright = pictures["pa"][:240]
    truth = prepare_inputs([XrayInput(greys(upright))], detector_shape=DETECTOR)
    spoiled = upright[:, ::-1] if mirrored else upright
    spoiled = np.rot90(spoiled, rotation // 90)  # counter-clockwise: what a clockwise turn undoes
    inverted = rotation == 90
    stored = greys(1 - spoiled if inverted else spoiled)
    back = XrayInput(stored, rotation=rotation, mirrored=mirrored, inverted=inverted)
    made = prepare_inputs([back], detector_shape=DETECTOR)
    np.testing.assert_array_equal(made.valid, truth.valid)
    np.testing.assert_allclose(made.pictures, truth.pictures, atol=1e-5)
    np.testing.assert_allclose(made.integrals, truth.integrals, atol=1e-3)


def test_the_pitch_is_the_scale_whatever_the_pixels(pictures) -> None:
    fine = np.kron(pictures["pa"], np.ones((2, 2), np.float32))
    coarse = prepare_inputs([XrayInput(greys(pictures["pa"]))], detector_shape=DETECTOR)
    made = prepare_inputs([XrayInput(greys(fine, PITCH / 2))], detector_shape=DETECTOR)
    np.testing.assert_allclose(made.pictures, coarse.pictures, atol=0.02)
    wide = prepare_inputs([XrayInput(greys(fine), pitch_mm=(PITCH / 2, PITCH / 2))],
                          detector_shape=DETECTOR)  # fmt: skip
    np.testing.assert_allclose(wide.pictures, made.pictures, atol=1e-6)


def test_pixels_that_are_not_square_keep_their_own_pitch_when_turned(pictures) -> None:
    flat = pictures["pa"].reshape(SIDE // 2, 2, SIDE).mean(axis=1)
    truth = prepare_inputs([XrayInput(greys(pictures["pa"]))], detector_shape=DETECTOR)
    lying = replace(greys(np.rot90(flat)), pitch_mm=(PITCH, 2 * PITCH))
    made = prepare_inputs([XrayInput(lying, rotation=90)], detector_shape=DETECTOR)
    both = made.valid & truth.valid
    assert both.mean() > 0.8
    np.testing.assert_allclose(made.pictures[both], truth.pictures[both], atol=0.08)


@pytest.mark.parametrize(
    ("name", "projection"), [("pa", "pa"), ("ap-bedside", "ap"), ("left-lateral", "lateral-left")]
)
def test_the_thorax_is_centred_wherever_the_picture_was_cut(
    chest, pictures, name, projection
) -> None:
    middle = np.array([SIDE / 2, SIDE / 2])  # the isocenter is the volume's centre
    for rows, cols in (((0, 236), (20, 256)), ((30, 256), (0, 240))):
        cut = pictures[name][rows[0] : rows[1], cols[0] : cols[1]]
        made = prepare_inputs([XrayInput(greys(cut), projection)], detector_shape=DETECTOR)
        at = np.array(made.placements[0]["center_pixel"]) + np.array([rows[0], cols[0]])
        down, aside = (at - middle) * PITCH
        assert abs(down) < 35, "mm on the detector"
        assert abs(aside) < 20
        assert made.views[0].isocenter_lps == (0.0, 0.0, 0.0)
        assert any("centred by its lungs" in note for note in made.notes)


def test_pa_and_ap_show_the_patients_left_on_the_right(pictures) -> None:
    frontal, bedside = (
        prepare_inputs([XrayInput(greys(pictures[name]), projection)], detector_shape=DETECTOR)
        for name, projection in (("pa", "pa"), ("ap-bedside", "ap"))
    )
    for made in (frontal, bedside):
        across = made.views[0].frame().column_step
        assert across[0] > 0, "columns grow toward the patient's left"
    both = frontal.valid & bedside.valid
    a, b = frontal.integrals[both], bedside.integrals[both]
    flipped = bedside.integrals[..., ::-1][both]
    assert np.corrcoef(a, b)[0, 1] > 0.65
    assert np.corrcoef(a, b)[0, 1] > np.corrcoef(a, flipped)[0, 1]
    assert bedside.views[0].source_to_detector_mm < frontal.views[0].source_to_detector_mm


def test_a_right_lateral_looks_from_the_other_side(pictures) -> None:
    views = [
        prepare_inputs([XrayInput(greys(pictures[name]), side)], detector_shape=DETECTOR).views[0]
        for name, side in (("left-lateral", "lateral-left"), ("right-lateral", "lateral-right"))
    ]
    assert views[0].toward_source[0] < -0.9, "the source on the patient's right"
    assert views[1].toward_source[0] > 0.9


def test_borders_and_letters_are_no_measurement(pictures) -> None:
    inner = pictures["pa"][10:-10, 10:-10].clip(0.05, 0.8)
    framed = np.pad(inner, ((0, 0), (60, 60)))
    lettered = framed.copy()
    lettered[14:20, 76:79] = 1.0  # an L
    lettered[18:20, 76:82] = 1.0
    assert content_box(framed) == (0, inner.shape[0], 60, 60 + inner.shape[1])
    mask = letters(lettered[:, 60:-60])
    assert mask[14:20, 16:19].mean() > 0.9
    assert mask.mean() < 0.01
    unlettered = letters(framed[:, 60:-60])
    assert not unlettered[10:24, 12:26].any()
    assert unlettered.mean() < 0.005
    made = prepare_inputs([XrayInput(greys(lettered))], detector_shape=DETECTOR)
    covered = made.valid.mean() * FIELD_MM**2
    assert covered == pytest.approx(inner.size * PITCH**2, rel=0.1)
    assert not made.integrals[~made.valid].any()
    assert made.placements[0]["content"] == [0, inner.shape[0], 60, 60 + inner.shape[1]]
    assert made.placements[0]["letters_part"] > 0


def test_greys_become_integrals_of_the_right_size_with_a_record(chest, pictures) -> None:
    made = prepare_inputs([XrayInput(greys(pictures["pa"]))], detector_shape=DETECTOR)
    assert made.exact == (False,)
    record = made.calibrations[0]
    assert record["method"] == "anchors"
    assert record["gain"] > 0
    assert record["gain_sd"] > 0
    truth = projector("cpu").project(chest, [seen(chest, "pa")])[0]
    low, high = np.percentile(truth[60:-60, 60:-60], [10, 90])
    a, b = np.percentile(made.integrals[made.valid], [15, 85])
    assert 0.4 < a / low < 2.5
    assert 0.6 < b / high < 1.6
    json.dumps(made.to_dict())


def test_known_integrals_with_an_assumed_view_are_not_called_exact(chest) -> None:
    radiograph = projected(chest, seen(chest, "pa"))
    made = prepare_inputs([XrayInput(radiograph, "pa")], detector_shape=DETECTOR)
    assert made.exact == (False,)
    assert made.calibrations == (None,)
    with pytest.raises(InvalidInputError, match="inverted"):
        XrayInput(radiograph, "pa", inverted=True)


def test_two_views_say_what_is_assumed_of_them(pictures) -> None:
    frontal = XrayInput(greys(pictures["pa"]), "pa")
    side = XrayInput(greys(pictures["left-lateral"], 2 * PITCH), "lateral-left")
    made = prepare_inputs([frontal, side], detector_shape=DETECTOR)
    text = " ".join(made.notes)
    assert "one patient in one position" in text
    assert "differ in height" in text, "the lateral's pitch is twice what it should be"
    assert made.integrals.shape == (2, *DETECTOR)
    agreeing = replace(side, radiograph=greys(pictures["left-lateral"]))
    text = " ".join(prepare_inputs([frontal, agreeing], detector_shape=DETECTOR).notes)
    assert "differ in height" not in text


def test_the_batch_has_the_views_cameras_about_the_grids_center(chest, pictures) -> None:
    inputs = [
        XrayInput(projected(chest, seen(chest, "left-lateral")), "as-given"),
        XrayInput(greys(pictures["pa"])),
    ]
    made = prepare_inputs(inputs, detector_shape=DETECTOR)
    batch = made.to_batch()
    assert tuple(batch.integrals.shape) == (1, 2, *DETECTOR)
    assert batch.exact.tolist() == [[1.0, 0.0]]
    assert batch.known.tolist() == [[1.0, 1.0]]
    point = np.array([40.0, -30.0, 55.0])
    for view, camera in zip(made.views, batch.cameras[0].numpy(), strict=True):
        source, first, row, column = camera.reshape(4, 3)
        r, c = view.frame().project(point)
        toward = first + r * row + c * column - source
        np.testing.assert_allclose(np.cross(toward, point - source), 0, atol=0.5)


def test_what_cannot_be_prepared_is_refused_with_a_reason(pictures) -> None:
    with pytest.raises(InvalidInputError, match="no X-ray"):
        prepare_inputs([], detector_shape=DETECTOR)
    with pytest.raises(InvalidInputError, match="not known"):
        XrayInput(greys(pictures["pa"]), "as-given")
    with pytest.raises(InvalidInputError, match="projection called"):
        XrayInput(greys(pictures["pa"]), "oblique")
    with pytest.raises(InvalidInputError, match="turned by"):
        XrayInput(greys(pictures["pa"]), rotation=45)
    with pytest.raises(InvalidInputError, match="pixel pitch"):
        XrayInput(greys(pictures["pa"]), pitch_mm=(0.0, 1.0))
    with pytest.raises(InvalidInputError, match="no contrast"):
        prepare_inputs([XrayInput(greys(np.full((100, 100), 0.5)))], detector_shape=DETECTOR)


# Guesses


def test_the_files_view_position_wins_and_is_told(pictures) -> None:
    for position, expected in (("AP", "ap"), ("PA", "pa")):
        guess = guess_input(greys(pictures["pa"], view_position=position))
        assert guess.input.projection == expected
        assert any("The file says" in reason for reason in guess.reasons)
    assert guess_input(greys(pictures["pa"]), projection="ap").input.projection == "ap"


def test_a_lateral_is_recognised_and_the_way_it_faces(pictures) -> None:
    left = guess_input(greys(pictures["left-lateral"])).input
    assert (left.projection, left.mirrored) == ("lateral-left", False)
    right = guess_input(greys(pictures["right-lateral"])).input
    assert (right.projection, right.mirrored) == ("lateral-right", False)
    shown = guess_input(greys(pictures["left-lateral"][:, ::-1], view_position="LL")).input
    assert (shown.projection, shown.mirrored) == ("lateral-left", True)


@pytest.mark.parametrize(
    ("inverted", "rotation"), [(True, 0), (False, 90), (False, 180), (False, 270)]
)
def test_a_lying_or_inverted_picture_is_set_right_and_told(pictures, inverted, rotation) -> None:
    stored = np.rot90(pictures["pa"], rotation // 90)
    stored = 1 - stored if inverted else stored
    guess = guess_input(greys(stored))
    assert (guess.input.inverted, guess.input.rotation) == (inverted, rotation)
    np.testing.assert_allclose(guess.input.upright(), pictures["pa"], atol=1e-6)
    text = " ".join(guess.reasons)
    assert ("dark" in text) == inverted
    assert ("clockwise" in text) == bool(rotation)


def test_an_unknown_pitch_is_guessed_from_cassette_and_lungs(pictures) -> None:
    whole, cut = pictures["pa"], pictures["pa"][:, 28:-28]
    for picture in (whole, cut):
        guess = guess_input(greys(picture, None))
        assert guess.input.pitch_mm is not None
        assert guess.input.pitch_mm[0] == pytest.approx(PITCH, rel=0.2)
        assert any("gives no pixel pitch" in reason for reason in guess.reasons)
    prepared = prepare_inputs([XrayInput(greys(cut, None))], detector_shape=DETECTOR)
    assert any("gives no pixel pitch" in note for note in prepared.notes)


def test_a_stated_pitch_is_kept_unless_it_cannot_be_true(pictures) -> None:
    kept = guess_input(greys(pictures["pa"]))
    assert kept.input.pitch_mm == (PITCH, PITCH)
    assert any("which can be" in reason for reason in kept.reasons)
    scaled = guess_input(greys(pictures["pa"], 0.4))
    assert scaled.input.pitch_mm[0] == pytest.approx(PITCH, rel=0.25)
    assert any("scaled after the exposure" in reason for reason in scaled.reasons)


def test_a_projections_view_is_trusted(chest) -> None:
    guess = guess_input(projected(chest, seen(chest, "pa", yaw=40.0)))
    assert guess.input.projection == "as-given"
    assert guess.input.exact
    assert any("yaw 40" in reason for reason in guess.reasons)
    with pytest.raises(InvalidInputError, match="not known"):
        guess_input(greys(np.zeros((80, 80)) + np.arange(80) / 80), projection="as-given")


def test_the_record_of_an_input_holds_no_path(pictures) -> None:
    source = SourceInfo(kind="PNG", description="PNG 0a1b2c", content_sha256="0a" * 32)
    record = XrayInput(greys(pictures["pa"], source=source)).to_dict()
    assert record["content_sha256"] == "0a" * 32
    assert "path" not in json.dumps(record)


# Resampling


def test_footprints_average_exactly() -> None:
    parts = footprints(10, -1.0, 2.5, 4)
    ramp = np.arange(10, dtype=np.float32)[:, None] + 0.5
    mean, covered = area_mean(ramp, parts, np.ones((1, 1), np.float32))
    np.testing.assert_allclose(covered[:, 0], [0.6, 1, 1, 1], rtol=1e-6)
    np.testing.assert_allclose(mean[:, 0], [2.5 / 3, 2.7, 5.3, 7.7], rtol=1e-5)
    hidden = np.ones((10, 1), bool)
    hidden[4] = False
    mean, _ = area_mean(ramp, parts, np.ones((1, 1), np.float32), hidden)
    assert mean[2, 0] == pytest.approx((5.5 + 0.5 * 6.5) / 1.5)


def test_turns_are_clockwise() -> None:
    picture = np.array([[1, 2], [3, 4]])
    np.testing.assert_array_equal(turned(picture, 90, mirrored=False), [[3, 1], [4, 2]])
    np.testing.assert_array_equal(turned(picture, 90, mirrored=True), [[1, 3], [2, 4]])


def test_the_lungs_box_of_a_phantom_is_found(chest, pictures) -> None:
    from napari_cxr3d.imaging.masks import lung_mask

    lungs = lung_mask(chest)
    i, p, ell = np.nonzero(lungs)
    x, y, z = chest.origin_lps
    di, dp, dl = chest.spacing_mm
    points = np.stack([x + ell * dl, y + p * dp, z - i * di], axis=-1)
    rows, cols = np.moveaxis(seen(chest, "pa").frame().project(points), -1, 0)
    truth = (*np.percentile(rows, [1, 99]), *np.percentile(cols, [0.3, 99.7]))
    found = recognise(pictures["pa"]).lungs
    assert found is not None
    np.testing.assert_allclose(np.array(found) * PITCH, np.array(truth) * PITCH, atol=40)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_caption_on_a_border_belongs_to_the_border(value: float) -> None:
    rng = np.random.default_rng(0)
    picture = np.full((120, 100), value, np.float32)
    picture[20:90, 10:95] = rng.uniform(0.2, 0.8, (70, 85))
    picture[105:112, 5:15] = 1 - value  # letters
    assert content_box(picture) == (20, 90, 10, 95)


def test_a_picture_with_much_black_keeps_its_edge() -> None:
    picture = np.zeros((100, 100), np.float32)
    picture[30:, :] = 0.5
    picture[10:30, 45:55] = 0.7  # a neck, with nothing between it and the chest
    picture[50, 50] = 1.0
    assert content_box(picture) == (10, 100, 0, 100)
