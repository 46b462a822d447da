"""``cxr3d reconstruct`` writes SYNTHETIC volumes whole, or nothing."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from napari_cxr3d.io import read_ct

ON_CPU = ("--device", "cpu")


@pytest.fixture(scope="module")
def made(reconstructor, drr_files, tmp_path_factory):
    """A run with two samples and everything that can be written, and its folder."""
    from typer.testing import CliRunner

    from napari_cxr3d.cli.app import app

    out = tmp_path_factory.mktemp("made") / "new" / "out"
    words = ["reconstruct", drr_files[0], "--also", drr_files[1], "--model", reconstructor]
    words += ["--samples", 2, "--seed", 4, "--dicom", "--out", out, *ON_CPU]
    return CliRunner().invoke(app, [str(word) for word in words]), out


def test_everything_is_written_and_its_paths_printed(made):
    done, out = made
    assert done.exit_code == 0, done.stderr
    volumes = ["synthetic-ct", "synthetic-ct-seed-5"]
    volumes += [f"synthetic-ct-{name}" for name in ("coarse", "mean", "sd")]
    expected = {f"{name}.nii.gz" for name in volumes} | {f"{name}.nii.gz.json" for name in volumes}
    expected |= {"reprojection_000.png", "reprojection_001.png", "report.json"}
    expected |= {"dicom-seed-4", "dicom-seed-5"}
    assert {path.name for path in out.iterdir()} == expected
    assert {line.rsplit("/")[-1] for line in done.stdout.splitlines()} == expected
    assert "SYNTHETIC" in done.stderr


def test_volumes_are_marked_and_dicom_holds_the_same(made):
    _, out = made
    first, second = (read_ct(out / f"{n}.nii.gz") for n in ("synthetic-ct", "synthetic-ct-seed-5"))
    assert first.synthetic and second.synthetic
    assert not np.array_equal(first.hu, second.hu)
    assert np.array_equal(read_ct(out / "dicom-seed-4").hu, first.hu)
    mean = read_ct(out / "synthetic-ct-mean.nii.gz")
    assert np.abs(mean.hu - (first.hu + second.hu) / 2).max() <= 1.0
    assert np.allclose(first.center_lps, 0, atol=1e-3)


def test_the_report_and_the_pictures_say_synthetic(made):
    _, out = made
    report = json.loads((out / "report.json").read_text())
    assert report["synthetic"] and report["provenance"]["parameters"]["seeds"] == [4, 5]
    assert report["samples"][0]["reprojection"]["relative_error"] < 0.05
    with Image.open(out / "reprojection_000.png") as picture:
        assert picture.info["Title"].startswith("SYNTHETIC")
        assert picture.size == (12 * 24 + 16, 4 * 24)


def test_the_same_command_writes_the_same_volume(made, run, reconstructor, drr_files, tmp_path):
    _, out = made
    words = ("--also", drr_files[1], "--model", reconstructor, "--seed", 4, *ON_CPU)
    done = run("reconstruct", drr_files[0], *words, "--out", tmp_path)
    assert done.exit_code == 0, done.stderr
    name = "synthetic-ct.nii.gz"
    assert np.array_equal(read_ct(tmp_path / name).hu, read_ct(out / name).hu)


def test_nothing_is_replaced_unasked_and_that_is_told_at_once(
    run, reconstructor, drr_files, tmp_path, monkeypatch
):
    (tmp_path / "report.json").write_text("mine")

    def never(*_, **__):
        raise AssertionError("the work began")

    monkeypatch.setattr("napari_cxr3d.inference.reconstruct.reconstruct", never)
    words = ("reconstruct", drr_files[0], "--model", reconstructor, "--out", tmp_path, *ON_CPU)
    refused = run(*words)
    assert refused.exit_code == 1
    assert "exists already" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_a_place_that_cannot_be_made_is_told_at_once(
    run, reconstructor, drr_files, tmp_path, monkeypatch
):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr("napari_cxr3d.inference.reconstruct.reconstruct", None)  # never called
    for out in (tmp_path / "file", tmp_path / "file" / "below" / "it"):
        refused = run("reconstruct", drr_files[0], "--model", reconstructor, "--out", out)
        assert refused.exit_code == 1
        assert "There is a file of this name" in refused.stderr


def test_the_x_ray_itself_is_never_replaced(run, reconstructor, drr_files, tmp_path):
    source = tmp_path / "synthetic-ct.nii.gz"
    from napari_cxr3d.io import read_xrays, write_integrals

    radiograph = read_xrays(drr_files[0])[0]
    write_integrals(radiograph.pixels, source, views=[radiograph.view])
    words = ("--model", reconstructor, "--out", tmp_path, "--overwrite", *ON_CPU)
    refused = run("reconstruct", source, *words)
    assert refused.exit_code == 1
    assert "never written over" in refused.stderr


def test_an_estimate_runs_nothing(run, reconstructor, drr_files):
    words = ("reconstruct", drr_files[0], "--model", reconstructor, "--estimate", *ON_CPU)
    told = run(*words)
    assert told.exit_code == 0, told.stderr
    assert "memory" in told.stdout and "3 evaluations" in told.stdout
    record = json.loads(run(*words, "--json").stdout)
    assert record["bytes"] > 0 and record["evaluations"] == 3


def test_json_is_the_report_alone(run, reconstructor, drr_files, tmp_path):
    words = ("--model", reconstructor, "--out", tmp_path / "out", "--json", *ON_CPU)
    done = run("reconstruct", drr_files[0], *words)
    assert done.exit_code == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["provenance"]["operation"] == "reconstruct"
    assert any(path.endswith("report.json") for path in record["files"])


def test_what_is_no_x_ray_needs_to_be_accepted_by_its_code(
    run, reconstructor, drr_files, tmp_path, monkeypatch
):
    from napari_cxr3d.inference.xray_input import InputFinding

    hand = InputFinding("not-a-chest", "wrong", "It is a hand.", "Choose a chest.")
    monkeypatch.setattr("napari_cxr3d.inference.xray_input.examine", lambda inputs: (hand,))
    out = tmp_path / "out"
    words = ("reconstruct", drr_files[0], "--model", reconstructor, "--out", out, *ON_CPU)
    refused = run(*words)
    assert refused.exit_code == 1
    assert not out.exists()
    assert "It is a hand" in refused.stderr and "--accept not-a-chest" in refused.stderr
    done = run(*words, "--accept", "not-a-chest")
    assert done.exit_code == 0, done.stderr
    assert "It is a hand (accepted)" in done.stderr
    assert (out / "synthetic-ct.nii.gz").exists()


def test_a_picture_from_elsewhere_needs_no_geometry(run, reconstructor, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_cxr3d.inference.xray_input.examine", lambda inputs: ())
    rows, cols = np.mgrid[-1:1:200j, -1:1:180j]
    grey = 200 - 120 * np.exp(-8 * ((np.abs(cols) - 0.45) ** 2 * 4 + rows**2 / 2))
    Image.fromarray(grey.astype(np.uint8)).save(tmp_path / "cxr.png")
    words = ("--projection", "pa", "--pitch-mm", "2", "--mirrored", "--rotate", "0")
    told = ("--model", reconstructor, "--out", tmp_path / "out", *ON_CPU)
    done = run("reconstruct", tmp_path / "cxr.png", *words, *told)
    assert done.exit_code == 0, done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    (given,) = report["provenance"]["parameters"]["inputs"]
    assert given["pitch_mm"] == [2.0, 2.0] and given["mirrored"] and given["projection"] == "pa"
    assert report["consistency"]["mode"] == "soft" and report["inputs"]["exact"] == [False]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--steps", "0"), "--steps"),
        (("--pitch-mm", "wide"), "--pitch-mm"),
        (("--lateral-side", "left"), "--lateral"),
        (("--sampler", "best"), "--sampler"),
        (("--inverted",), "inverted"),  # of line integrals
    ],
)
def test_wrong_usage_is_told_before_the_work(run, reconstructor, drr_files, tmp_path, words, told):
    given = ("reconstruct", drr_files[0], "--model", reconstructor, "--out", tmp_path / "out")
    refused = run(*given, *words)
    assert refused.exit_code == 2
    assert told in refused.stderr
    assert not (tmp_path / "out").exists()


def test_out_is_needed_to_write(run, drr_files):
    refused = run("reconstruct", drr_files[0])
    assert refused.exit_code == 2 and "--out" in refused.stderr


def test_a_failure_while_writing_leaves_nothing(
    run, reconstructor, drr_files, tmp_path, monkeypatch
):
    import napari_cxr3d.io as io
    from napari_cxr3d.errors import ExportError

    def broken(*_, **__):
        raise ExportError("The disk is full")

    monkeypatch.setattr(io, "write_png", broken)
    out = tmp_path / "out"
    words = ("--model", reconstructor, "--out", out, *ON_CPU)
    failed = run("reconstruct", drr_files[0], *words)
    assert failed.exit_code == 1 and "disk is full" in failed.stderr
    assert list(out.iterdir()) == []
    shutil.rmtree(out)
