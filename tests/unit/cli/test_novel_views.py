"""``cxr3d novel-views`` writes predicted views whole, marked, or nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_cxr3d.io import read_ct, read_xrays


@pytest.fixture(scope="module")
def world_model(tmp_path_factory, write_world_model) -> Path:
    path = tmp_path_factory.mktemp("world") / "bundle.zip"
    return write_world_model(path, name="world-test")


@pytest.fixture(scope="module")
def invoke():
    """Run the command, whatever else the program has."""
    from typer.testing import CliRunner

    from napari_cxr3d.cli.info import info
    from napari_cxr3d.cli.novel_views import novel_views
    from napari_cxr3d.terminal.application import application

    app = application("cxr3d", "Test.", (novel_views, info))
    return lambda *words: CliRunner().invoke(app, ["novel-views", *(str(w) for w in words)])


@pytest.fixture(scope="module")
def ct(tmp_path_factory) -> Path:
    """The phantom that `drr_files` shows, on disk."""
    from napari_cxr3d.io import write_volume
    from napari_cxr3d.phantom import make_thorax

    path = tmp_path_factory.mktemp("ct") / "ct.nii.gz"
    return write_volume(make_thorax(3, (384, 384, 384), 8.0).volume, path)


@pytest.fixture(scope="module")
def made(world_model, drr_files, ct, invoke, tmp_path_factory):
    """A run with everything that can be written, and its folder."""
    out = tmp_path_factory.mktemp("made") / "new" / "out"
    words = (drr_files[0], "--model", world_model, "--yaw", "-60:60:30", "--out", out)
    more = ("--volume", "fdk", "--compare", ct, "--movie", "--dicom", "--device", "cpu")
    return invoke(*words, *more), out


def test_everything_is_written_and_its_paths_printed(made):
    done, out = made
    assert done.exit_code == 0, done.stderr
    expected = {f"predicted_{k:03d}.png" for k in range(5)}
    expected |= {"contact-sheet.png", "predicted.gif", "report.json", "dicom"}
    arrays = ("predicted-views.nrrd", "true-views.nrrd", "synthetic-ct.nii.gz")
    for name in (*arrays, "synthetic-ct-ceiling.nii.gz"):
        expected |= {name, f"{name}.json"}
    assert {path.name for path in out.iterdir()} == expected
    assert {line.rsplit("/")[-1] for line in done.stdout.splitlines()} == expected
    assert "SYNTHETIC. 5 views" in done.stderr and "ceiling" in done.stderr
    assert "limited-angle" in done.stderr


def test_what_is_written_says_synthetic_and_is_read_back(made):
    _, out = made
    views = read_xrays(out / "predicted-views.nrrd")
    assert [r.view.yaw for r in views] == [-60.0, -30.0, 0.0, 30.0, 60.0]
    assert all(r.synthetic and r.quantity == "line_integral" for r in views)
    volume = read_ct(out / "synthetic-ct.nii.gz")
    assert volume.synthetic and np.allclose(volume.center_lps, 0, atol=1e-3)
    assert np.array_equal(read_ct(out / "dicom").hu, volume.hu)
    for name in ("predicted_000.png", "contact-sheet.png"):
        with Image.open(out / name) as picture:
            assert picture.info["Title"].startswith("SYNTHETIC")
    with Image.open(out / "predicted.gif") as film:
        assert film.n_frames == 8


def test_the_report_tells_errors_and_what_the_arc_lacks(made):
    _, out = made
    report = json.loads((out / "report.json").read_text())
    assert report["synthetic"] and [v["yaw"] for v in report["views"]] == [-60, -30, 0, 30, 60]
    assert len(report["comparison"]["latent_error"]) == 5
    volume = report["volume"]
    assert volume["arc"]["limited_angle"] and volume["arc"]["degrees"] == pytest.approx(120)
    against = volume["against_the_ct"]
    assert against["ceiling_psnr3d"] > against["volume_psnr3d"]
    assert report["provenance"]["weights_sha256"]
    assert str(out) not in (out / "report.json").read_text()


def test_json_is_the_report_and_nothing_else(world_model, drr_files, invoke, tmp_path):
    words = (drr_files[0], "--model", world_model, "--yaw", "0:15:15", "--out", tmp_path)
    done = invoke(*words, "--json", "--device", "cpu")
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    assert len(report["views"]) == 2 and "comparison" not in report
    assert all(0 <= view["confidence"] <= 1 for view in report["views"])


def test_nothing_is_replaced_unasked_and_that_is_told_at_once(
    world_model, drr_files, invoke, tmp_path, monkeypatch
):
    (tmp_path / "report.json").write_text("mine")
    monkeypatch.setattr("napari_cxr3d.inference.novel_views.novel_views", None)  # never called
    refused = invoke(drr_files[0], "--model", world_model, "--out", tmp_path)
    assert refused.exit_code == 1 and "exists already" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--yaw", "0:90"), "A:B:STEP"),
        (("--start", "coarse"), "--volume consistency"),
        (("--dicom",), "--volume"),
        (("--volume", "fdk", "--yaw", "0:0:1"), "two views"),
        (("--yaw", "0:120:30"), "-90 to 90"),
    ],
)
def test_wrong_usage_is_told(world_model, drr_files, invoke, tmp_path, words, told):
    refused = invoke(
        drr_files[0], "--model", world_model, "--out", tmp_path / "out", *words, "--device", "cpu"
    )
    assert refused.exit_code in (1, 2)
    assert told in " ".join(refused.stderr.replace("│", " ").split())
    assert not (tmp_path / "out").exists()
