"""Landmarks of a real X-ray are found on the projection of a real CT with the weights that ship."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_cxr3d.cli.app import app
from napari_cxr3d.errors import Cxr3dError
from napari_cxr3d.models.zoo import find

MODEL = "xwin-demo"
PIXEL_MM, MAGNIFICATION = 0.86, 1.125
# (row, column) as a reader clicked them: on the X-ray, which no training saw, and on the DRR.
LANDMARKS = {
    "aortic knob": ((573, 1133), (137, 277)),
    "carina": ((720, 1000), (165, 247)),
    "right costophrenic angle": ((1253, 195), (322, 108)),
    "left costophrenic angle": ((1333, 1888), (322, 413)),
    "heart apex": ((1270, 1600), (278, 365)),
}
FARTHEST_MM = 45.0  # of one landmark: a wrong organ is farther
MEAN_MM = 25.0  # of all; the same pixel is 30 mm away


@pytest.fixture(scope="module", autouse=True)
def model() -> None:
    """The weights that ship; skips where they are absent."""
    try:
        find(MODEL)
    except Cxr3dError as error:
        pytest.skip(f"no weights: {error}")


def run(*words: object) -> None:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.stderr


@pytest.fixture(scope="module")
def pictures(data_folder, tmp_path_factory) -> tuple[Path, Path]:
    """A real X-ray, and a real CT's frontal line integrals."""
    xray = data_folder / "cxr" / "frontal" / "5782ae15.jpg"
    ct = data_folder / "ct" / "lidc-0001_2mm.nii.gz"
    for path in (xray, ct):
        if not path.exists():
            pytest.skip(f"{path.name} is not here")
    drr = tmp_path_factory.mktemp("similarity") / "pa.npy"
    run("drr", ct, "--size", 512, "--pixel-mm", PIXEL_MM, "--remove-table", "--out", drr)
    return xray, drr


def test_landmarks_of_a_real_x_ray_are_found_on_a_real_ct(pictures, tmp_path):
    words: list[object] = ["similarity", *pictures, "--device", "cpu"]
    for name, ((row, col), _) in LANDMARKS.items():
        words += ["--point", f"{row},{col}", "--name", name]
    table = tmp_path / "matches.csv"
    run(*words, "--out", table)
    run(*words, "--out", tmp_path / "matches.png")
    errors = {}
    for found in csv.DictReader(table.read_text(encoding="utf-8").splitlines()):
        match = float(found["match_row"]), float(found["match_column"])
        apart = np.linalg.norm(np.subtract(match, LANDMARKS[found["name"]][1]))
        errors[found["name"]] = float(apart * PIXEL_MM / MAGNIFICATION)
    assert set(errors) == set(LANDMARKS)
    assert max(errors.values()) < FARTHEST_MM, errors
    assert np.mean(list(errors.values())) < MEAN_MM, errors
