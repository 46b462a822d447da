"""``cxr3d sweep``: one view a step, in one array, film or folder."""

from __future__ import annotations

import json

import imageio.v3 as imageio
import numpy as np
import pytest

SMALL = ("--size", "40", "--pixel-mm", "9")


@pytest.mark.parametrize("spelling", [["--yaw", "-90:90:45"], ["--yaw=-90:90:45"]])
def test_negative_angles_and_both_ends_are_kept(run, ct_file, tmp_path, spelling):
    out = tmp_path / "sweep.npy"
    result = run("sweep", ct_file, *spelling, *SMALL, "--out", out)
    assert result.exit_code == 0, result.stderr
    array = np.load(out)
    assert (array.shape, array.dtype) == ((5, 40, 40), np.float32)
    views = json.loads((tmp_path / "sweep.npy.json").read_text())["views"]
    assert [view["yaw"] for view in views] == [-90.0, -45.0, 0.0, 45.0, 90.0]


def test_each_view_is_what_drr_gives(run, ct_file, tmp_path):
    run(
        "sweep", ct_file, "--yaw", "10:-10:-20", "--pitch", "5", *SMALL, "--out", tmp_path / "s.npy"
    )
    for index, yaw in enumerate(("10", "-10")):
        out = tmp_path / f"{index}.npy"
        run("drr", ct_file, "--yaw", yaw, "--pitch", "5", *SMALL, "--out", out)
        np.testing.assert_allclose(np.load(tmp_path / "s.npy")[index], np.load(out), rtol=1e-5)


def test_an_end_off_the_steps_is_left_out(run, ct_file, tmp_path):
    out = tmp_path / "s.npy"
    assert run("sweep", ct_file, "--yaw", "0:50:20", *SMALL, "--out", out).exit_code == 0
    assert len(np.load(out)) == 3


def test_a_sweep_of_one_view_keeps_its_axis(run, ct_file, tmp_path):
    out = tmp_path / "s.npy"
    assert run("sweep", ct_file, "--yaw", "30:30:5", *SMALL, "--out", out).exit_code == 0
    assert np.load(out).shape == (1, 40, 40)


def test_the_flip_of_a_preset_does_not_change_within_a_sweep(run, ct_file, tmp_path):
    out = tmp_path / "s.npy"
    run("sweep", ct_file, "--preset", "ap", "--yaw", "0:180:90", *SMALL, "--out", out)
    views = json.loads((tmp_path / "s.npy.json").read_text())["views"]
    assert [view["flip_columns"] for view in views] == [True, True, True]


def test_a_folder_gets_numbered_pictures_and_their_geometry(run, ct_file, tmp_path):
    out = tmp_path / "sweep"
    result = run("sweep", ct_file, "--yaw", "-30:30:30", *SMALL, "--out", out)
    assert result.exit_code == 0, result.stderr
    record = json.loads((out / "views.json").read_text())
    assert record["synthetic"] is True
    assert [(v["file"], v["yaw"]) for v in record["views"]] == [
        ("0000.png", -30.0),
        ("0001.png", 0.0),
        ("0002.png", 30.0),
    ]
    assert imageio.imread(out / "0001.png").shape == (40, 40)
    assert sorted(result.stdout.splitlines()) == sorted(str(p) for p in out.iterdir())


def test_a_folder_with_a_sweep_is_kept_unless_overwriting_is_asked_for(run, ct_file, tmp_path):
    out = tmp_path / "sweep"
    arguments = ("sweep", ct_file, "--yaw", "0:30:30", *SMALL, "--out", out)
    assert run(*arguments).exit_code == 0
    before = (out / "0000.png").read_bytes()
    assert run(*arguments, "--appearance", "minmax").exit_code == 1
    assert (out / "0000.png").read_bytes() == before
    assert run(*arguments, "--appearance", "minmax", "--overwrite").exit_code == 0
    assert (out / "0000.png").read_bytes() != before


def test_a_gif_has_one_frame_a_view(run, ct_file, tmp_path):
    from PIL import Image

    out = tmp_path / "sweep.gif"
    result = run("sweep", ct_file, "--yaw", "0:90:30", *SMALL, "--fps", "5", "--out", out)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{out}\n"
    with Image.open(out) as film:
        assert (film.n_frames, film.size, film.info["duration"]) == (4, (40, 40), 200)


def test_an_mp4_has_one_frame_a_view(run, ct_file, tmp_path):
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="films need imageio-ffmpeg")
    out = tmp_path / "sweep.mp4"
    result = run("sweep", ct_file, "--yaw", "0:90:30", *SMALL, "--fps", "5", "--out", out)
    assert result.exit_code == 0, result.stderr
    frames, seconds = ffmpeg.count_frames_and_secs(str(out))
    assert frames == 4
    assert seconds == pytest.approx(0.8, abs=0.05)


def test_an_interrupted_folder_leaves_no_picture(run, ct_file, tmp_path, monkeypatch):
    from napari_cxr3d.io import png_export

    marks = []

    def burn_in(picture, text):
        marks.append(text)
        if len(marks) == 2:
            raise KeyboardInterrupt
        return picture

    monkeypatch.setattr(png_export, "burn_in", burn_in)
    out = tmp_path / "sweep"
    result = run("sweep", ct_file, "--yaw", "0:90:30", *SMALL, "--out", out)
    assert result.exit_code == 130
    assert not list(out.iterdir())


@pytest.mark.parametrize(
    "options",
    [
        ["--yaw", "0:90", "--out", "s.npy"],
        ["--yaw", "0:90:0", "--out", "s.npy"],
        ["--yaw", "0:90:-5", "--out", "s.npy"],
        ["--yaw", "0:9000000:0.001", "--out", "s.npy"],
        ["--yaw", "0:90:5", "--out", "s.bmp"],
        ["--yaw", "0:90:5", "--fps", "0", "--out", "s.gif"],
        ["--out", "s.npy"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_status_2_and_writes_nothing(
    run, ct_file, tmp_path, monkeypatch, options
):
    monkeypatch.chdir(tmp_path)
    result = run("sweep", ct_file, *options)
    assert result.exit_code == 2
    assert not list(tmp_path.iterdir())
