"""Real radiographs: of known patients, on one side each, at one size and scale."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr3d_training.data.radiographs import RadiographSet, open_radiographs, picture_of
from napari_cxr3d.errors import InvalidInputError, UnsupportedFileError
from napari_cxr3d.imaging import Radiograph


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cxr")
    rng = np.random.default_rng(0)
    for k in range(12):
        pixels = rng.integers(20, 230, (60, 40 + k)).astype(np.uint8)
        Image.fromarray(pixels).save(root / f"n{k}.png")
    rows = [f"n{k}.png,p{k // 2},{'PA' if k % 2 else 'AP Supine'},yes,CC0" for k in range(12)]
    (root / "table.csv").write_text("\n".join(["path,patient,view,sick,licence", *rows]))
    return root


@pytest.fixture(scope="module")
def pictures(folder: Path) -> RadiographSet:
    return open_radiographs(folder, table=folder / "table.csv")


def test_pictures_of_one_patient_share_a_side(pictures: RadiographSet) -> None:
    assert len(pictures) == 12
    sides = [{c.patient for c in pictures.split(s)} for s in ("train", "validation", "test")]
    assert [len(side) for side in sides] == [4, 1, 1]
    assert len(set.union(*sides)) == 6
    case = pictures.cases[0]
    assert case.labels == {"sick": True}
    assert case.licence == "CC0"


def test_views_can_be_chosen(folder: Path) -> None:
    frontal = open_radiographs(folder, table=folder / "table.csv", views=("pa",))
    assert {case.view for case in frontal.cases} == {"PA"}
    assert len(frontal) == 6
    with pytest.raises(UnsupportedFileError, match="no picture fits"):
        open_radiographs(folder, table=folder / "table.csv", views=("LL",))


def test_a_patient_with_many_pictures_is_drawn_as_often_as_one_with_few(tmp_path: Path) -> None:
    rows = ["path,patient,split"]
    for k in range(9):
        Image.fromarray(np.full((9, 9), k, np.uint8) + np.eye(9, dtype=np.uint8)).save(
            tmp_path / f"{k}.png"
        )
        rows.append(f"{k}.png,{'often' if k else 'once'},train")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    train = open_radiographs(tmp_path, table=tmp_path / "t.csv").split("train")
    rng = np.random.default_rng(0)
    drawn = [train.draw(rng) for _ in range(600)]
    once = next(c for c in train if [d.patient for d in train].count(c.patient) == 1)
    assert abs(np.mean([d.patient == once.patient for d in drawn]) - 0.5) < 0.07


def test_a_picture_keeps_its_proportions_and_its_scale() -> None:
    pixels = np.zeros((40, 20), np.float32)
    pixels[:, 10:] = 200.0
    radiograph = Radiograph(pixels)
    padded = picture_of(radiograph, 20)
    assert padded.shape == (20, 20)
    assert padded[:, :5].max() == 0
    assert padded[:, 15:].max() == 0
    np.testing.assert_allclose(padded[:, 10:15], 1.0)
    cropped = picture_of(radiograph, (10, 10), fit="crop")
    np.testing.assert_allclose(cropped[:, 5:], 1.0)
    np.testing.assert_allclose(cropped[:, :5], 0.0)
    windowed = picture_of(Radiograph(pixels, display_range=(0.0, 400.0)), (40, 20))
    assert windowed.max() == 0.5
    with pytest.raises(InvalidInputError, match="no way to fit"):
        picture_of(radiograph, 8, fit="stretch")


def test_coarse_pixels_are_means_of_fine_ones() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.random((64, 64)).astype(np.float32)
    picture = picture_of(Radiograph(pixels, display_range=(0.0, 1.0)), 16)
    np.testing.assert_allclose(picture, pixels.reshape(16, 4, 16, 4).mean((1, 3)), atol=1e-5)


def test_the_real_set_is_split_by_patient(data_folder: Path) -> None:
    found = open_radiographs(
        data_folder / "train" / "cxr", table=data_folder / "cxr_labels.csv", views=("PA", "AP")
    )
    assert len(found) == 64
    patients = {case.patient for case in found.cases}
    assert 30 < len(patients) < 64
    sides = [{c.patient for c in found.split(s)} for s in ("train", "validation", "test")]
    assert sum(map(len, sides)) == len(patients)
    assert all(case.licence.startswith("CC BY") for case in found.cases)
    picture = found.split("test")[0].picture(96)
    assert picture.shape == (96, 96)
    assert 0 <= picture.min() < 0.3 < picture.max() <= 1
    assert found.split("test")[0].picture(96) is picture
