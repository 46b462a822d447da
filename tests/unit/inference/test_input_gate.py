"""The gate: what is wrong with an X-ray is found, a good one passes, and everything is told."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Radiograph, SourceInfo, Volume, preset
from napari_cxr3d.inference.xray_input import (
    FINDING_CODES,
    XrayInput,
    examine,
    guess_input,
)
from napari_cxr3d.inference.xray_input_recognition import KINDS, recognise, usual
from napari_cxr3d.phantom import make_thorax
from napari_cxr3d.xray import project_basis, projector
from napari_cxr3d.xray.simulator import simulate

SIDE, PITCH = 256, 1.6


@pytest.fixture(scope="session")
def chest() -> Volume:
    return make_thorax(7, size_mm=(360.0, 330.0, 384.0), spacing_mm=6.0, threads=1).volume


@pytest.fixture(scope="session")
def pictures(chest: Volume) -> dict[str, np.ndarray]:
    made = {}
    for name in ("pa", "left-lateral"):
        view = replace(preset(name), detector_shape=(SIDE, SIDE), pixel_mm=PITCH)
        view = view.resolved(chest.grid)
        water, bone = project_basis(projector("cpu"), chest, [view])
        made[name] = simulate((water[0], bone[0]), view, "realistic", 8)
    return made


def given(picture: np.ndarray, projection: str = "pa", **changes: object) -> XrayInput:
    radiograph = Radiograph(picture, (PITCH, PITCH), display_range=(0.0, 1.0))
    return replace(XrayInput(radiograph, projection), **changes)


def codes(*inputs: XrayInput) -> dict[str, str]:
    found = examine(inputs)
    assert all(f.code in FINDING_CODES for f in found)
    assert all(f.message.endswith(".") and f.remedy.endswith(".") for f in found)
    return {f.code: f.severity for f in found}


def hand() -> np.ndarray:
    """Five rays of bones from a wrist, in soft tissue."""
    y, x = np.mgrid[:256, :256] / 256
    page = np.zeros((256, 256))
    for k in range(5):
        angle = np.radians(-40 + 20 * k)
        for reach in (0.1, 0.27, 0.4):
            x0, y0 = 0.5 + reach * np.sin(angle), 0.75 - reach * np.cos(angle)
            x1, y1 = x0 + 0.13 * np.sin(angle), y0 - 0.13 * np.cos(angle)
            t = np.clip(((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / 0.13**2, 0, 1)
            d2 = (x - x0 - t * (x1 - x0)) ** 2 + (y - y0 - t * (y1 - y0)) ** 2
            page += 2 * np.sqrt(np.clip(0.02**2 - d2, 0, None))
            page = np.maximum(page, np.sqrt(np.clip(0.04**2 - d2, 0, None)))
    return np.asarray(page / page.max(), np.float32)


def test_good_frontal_and_lateral_pictures_pass(pictures) -> None:
    frontal, side = given(pictures["pa"]), given(pictures["left-lateral"], "lateral-left")
    assert codes(frontal) == {}
    assert codes(frontal, side) == {}


def test_a_lateral_declared_frontal_is_wrong_and_the_reverse(pictures) -> None:
    assert codes(given(pictures["left-lateral"], "pa")) == {"view": "wrong"}
    assert codes(given(pictures["pa"], "lateral-left")) == {"view": "wrong"}


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_lying_picture_is_found_with_the_turn_that_helps(pictures, rotation) -> None:
    stored = given(np.rot90(pictures["pa"], rotation // 90))
    found = examine([stored])
    assert [(f.code, f.severity) for f in found] == [("rotated", "wrong")]
    assert f"by {rotation}°" in found[0].remedy
    assert codes(replace(stored, rotation=rotation)) == {}, "corrected, it passes"


def test_an_inverted_picture_is_found(pictures) -> None:
    stored = given(1 - pictures["pa"])
    assert codes(stored) == {"inverted": "wrong"}
    assert codes(replace(stored, inverted=True)) == {}


def test_a_ct_slice_is_no_radiograph(chest) -> None:
    for index in (26, 30, 34):
        lung = np.clip((chest.hu[index].astype(np.float32) + 1000) / 1400, 0, 1)
        fine = np.kron(lung, np.ones((4, 4), np.float32))
        found = codes(given(fine))
        assert set(found) <= {"ct-slice", "not-a-chest"}
        assert set(found.values()) == {"wrong"}


def test_a_hand_and_other_pictures_are_no_chest() -> None:
    rng = np.random.default_rng(0)
    noise = rng.random((256, 256)).astype(np.float32)
    ramp = np.tile(np.linspace(0, 1, 256, dtype=np.float32), (256, 1))
    for picture in (hand(), np.rot90(hand()), noise, ramp):
        assert codes(given(np.ascontiguousarray(picture))) == {"not-a-chest": "wrong"}


def test_an_empty_picture_is_wrong() -> None:
    assert codes(given(np.full((256, 256), 0.4))) == {"empty": "wrong"}


def test_tiny_and_huge_pictures_are_told(pictures) -> None:
    tiny = pictures["pa"].reshape(51 + 13, 4, 64, 4).mean(axis=(1, 3))[:60, :60]
    assert codes(given(tiny, pitch_mm=(6.4, 6.4)))["tiny"] == "wrong"
    small = pictures["pa"].reshape(128, 2, 128, 2).mean(axis=(1, 3))
    assert codes(given(small, pitch_mm=(3.2, 3.2)))["small"] == "unusual"
    tall = np.repeat(pictures["pa"][:, 28:228], 33, axis=0)
    found = codes(given(tall, pitch_mm=(PITCH / 33, PITCH)))
    assert found["huge"] == "unusual"


def test_lungs_that_are_cut_off_are_told_with_the_side(pictures) -> None:
    told = {f.code: f for f in examine([given(pictures["pa"][:-75])])}
    assert told["cut-off"].severity == "unusual"
    assert "the bottom of" in told["cut-off"].message
    for much in (pictures["pa"][100:], pictures["pa"][:, 85:]):
        assert codes(given(much)), "half a lung less does not pass in silence"


def test_a_pitch_that_makes_a_giant_or_a_doll_is_told(pictures) -> None:
    odd = given(pictures["pa"], pitch_mm=(1.55 * PITCH, 1.55 * PITCH))
    absurd = given(pictures["pa"], pitch_mm=(0.4, 0.4))
    assert codes(odd) == {"pitch": "unusual"}
    assert codes(absurd) == {"pitch": "wrong"}


def test_a_mirrored_lateral_is_told(pictures) -> None:
    stored = given(pictures["left-lateral"][:, ::-1], "lateral-left")
    assert codes(stored) == {"mirrored": "unusual"}
    assert codes(replace(stored, mirrored=True)) == {}


def test_the_hearts_side_speaks_for_the_right_way_round(pictures) -> None:
    right, wrong = (recognise(p).heart for p in (pictures["pa"], pictures["pa"][:, ::-1]))
    assert right > 0
    assert wrong == pytest.approx(-right, abs=1e-3)


def test_captures_and_colour_are_told(pictures) -> None:
    source = SourceInfo(
        kind="DICOM", description="DICOM 0a1b2c", modality="OT",
        notes=("The picture is coloured (7% of its pixels plainly so) and was turned to grey.",),
    )  # fmt: skip
    stored = Radiograph(pictures["pa"], (PITCH, PITCH), display_range=(0, 1), source=source)
    assert codes(XrayInput(stored)) == {"capture": "unusual", "coloured": "unusual"}


def test_two_frontals_are_told_at_the_second(pictures) -> None:
    twice = [given(pictures["pa"]), given(pictures["pa"], "ap")]
    found = examine(twice)
    assert [(f.code, f.severity, f.index) for f in found] == [("same-view", "unusual", 1)]


def test_projections_from_any_angle_pass(chest) -> None:
    for yaw in (0.0, 40.0, 90.0):
        view = replace(preset("pa"), yaw=yaw, detector_shape=(192, 192), pixel_mm=2.1)
        view = view.resolved(chest.grid)
        integrals = projector("cpu").project(chest, [view])[0]
        drr = Radiograph(integrals, view=view, quantity="line_integral", synthetic=True)
        assert codes(XrayInput(drr, "as-given")) == {}


def test_what_is_wrong_comes_first_and_nothing_is_refused(pictures) -> None:
    found = examine([given(pictures["pa"], "ap"), given(pictures["left-lateral"], "pa")])
    assert found[0].severity == "wrong"
    assert found[0].index == 1
    with pytest.raises(InvalidInputError, match="no X-ray"):
        examine([])


def test_the_statistics_are_small_and_of_people() -> None:
    known = usual()
    height, depth, width = known.lung_size_mm
    assert 200 < height < 330
    assert 140 < depth < 220
    assert 210 < width < 290
    chances = recognise(hand()).chances
    assert tuple(chances) == KINDS
    assert sum(chances.values()) == pytest.approx(1)


def test_a_picture_is_examined_in_a_moment(pictures) -> None:
    large = given(np.kron(pictures["pa"], np.ones((8, 8), np.float32)), pitch_mm=(0.2, 0.2))
    examine([large])  # the statistics are read once
    start = time.process_time()
    examine([large])
    assert time.process_time() - start < 0.3


# Real radiographs, of patients that took no part in the fit


@pytest.fixture(scope="module")
def radiographs(data_folder: Path) -> Path:
    folder = data_folder / "cxr"
    if not folder.is_dir():
        pytest.skip("no real radiographs")
    return folder


def _guessed(path: Path) -> XrayInput:
    from napari_cxr3d.io import read_cxr

    return guess_input(read_cxr(path)).input


STATISTICAL = {"view", "not-a-chest", "uncertain", "ct-slice", "rotated", "inverted", "mirrored",
               "cut-off", "pitch"}  # fmt: skip


def test_real_frontal_radiographs_rarely_raise_an_alarm(radiographs) -> None:
    alarms = []
    for path in sorted((radiographs / "frontal").iterdir()):
        own = _guessed(path)
        assert (own.projection, own.inverted, own.rotation) == ("pa", False, 0), path.name
        found = set(codes(own)) & STATISTICAL
        if found:
            alarms.append((path.name, found))
    assert len(alarms) <= 1, alarms


def test_real_frontal_radiographs_are_caught_when_spoiled(radiographs) -> None:
    caught, tried = 0, 0
    for path in sorted((radiographs / "frontal").iterdir())[::4]:
        own = _guessed(path)
        for spoiled in (
            replace(own, rotation=90), replace(own, rotation=180), replace(own, inverted=True),
            replace(own, projection="lateral-left"),
        ):  # fmt: skip
            tried += 1
            caught += "wrong" in codes(spoiled).values()
    assert caught >= 0.9 * tried


def test_real_laterals_are_told_from_frontals(radiographs) -> None:
    guessed = [_guessed(path).projection for path in sorted((radiographs / "lateral").iterdir())]
    assert guessed.count("lateral-left") >= 4


def test_a_capture_of_a_ct_slice_is_stopped(radiographs) -> None:
    found = codes(_guessed(radiographs / "dicom" / "pl-lungct__0000.dcm"))
    assert "wrong" in found.values()
    assert found["capture"] == "unusual"
