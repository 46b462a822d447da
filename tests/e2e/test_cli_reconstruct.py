"""Real X-rays and projections of real CTs become SYNTHETIC volumes with the weights that ship."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_cxr3d.cli.app import app
from napari_cxr3d.errors import Cxr3dError
from napari_cxr3d.io import read_ct
from napari_cxr3d.models.zoo import find

MODEL = "reconstruct-demo"


@pytest.fixture(scope="module", autouse=True)
def model() -> None:
    """The weights that ship; skips where they are absent."""
    try:
        find(MODEL)
    except Cxr3dError as error:
        pytest.skip(f"no weights: {error}")


def run(*words: object) -> str:
    """What a successful command printed."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def projected(data_folder, tmp_path_factory) -> tuple[Path, Path]:
    """A real CT's frontal and lateral line integrals."""
    ct = data_folder / "ct" / "lidc-0001_2mm.nii.gz"
    if not ct.exists():
        pytest.skip("the CT lidc-0001 is not here")
    folder = tmp_path_factory.mktemp("projected")
    paths = folder / "pa.npy", folder / "lateral.npy"
    for path, preset in zip(paths, ("pa", "left-lateral"), strict=True):
        small = ("--size", 256, "--pixel-mm", 1.7)
        run("drr", ct, "--preset", preset, *small, "--remove-table", "--out", path)
    return paths


def test_a_projected_ct_becomes_a_chest_that_projects_back(projected, tmp_path):
    frontal, lateral = projected
    words = ("--also", lateral, "--device", "cpu", "--dicom", "--out", tmp_path)
    run("reconstruct", frontal, *words)
    report = json.loads((tmp_path / "report.json").read_text())
    first = report["first_picture"]["reprojection"]["relative_error"]
    sample = report["samples"][0]["reprojection"]["relative_error"]
    assert sample < 0.02 and sample < first / 4
    volume = read_ct(tmp_path / "synthetic-ct.nii.gz")
    assert volume.synthetic
    middle = volume.hu[32, 16:48, 16:48]
    assert (middle < -500).mean() > 0.1  # lungs
    assert (middle > -200).mean() > 0.2  # and what is around them
    assert np.array_equal(read_ct(tmp_path / "dicom").hu, volume.hu)


def test_a_real_x_ray_becomes_volumes_with_their_doubt(data_folder, tmp_path):
    frontal = data_folder / "cxr" / "frontal" / "f64132c8.jpg"
    if not frontal.exists():
        pytest.skip("the X-ray f64132c8 is not here")
    words = ("--samples", 2, "--steps", 4, "--device", "cpu", "--json", "--out", tmp_path)
    report = json.loads(run("reconstruct", frontal, *words))
    assert report["consistency"]["mode"] == "soft"
    assert report["samples"][0]["reprojection"]["relative_error"] < 0.3
    assert report["standard_deviation_hu"]["mean"] > 0
    assert frontal.stem not in json.dumps(report["provenance"])
