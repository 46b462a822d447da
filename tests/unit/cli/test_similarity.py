"""``cxr3d similarity`` and ``cxr3d embed``: maps, tables and vectors, or a sentence."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from napari_cxr3d.cli.embed import embed
from napari_cxr3d.cli.similarity import similarity
from napari_cxr3d.imaging import XrayView
from napari_cxr3d.io import write_integrals
from napari_cxr3d.terminal.application import application

YAWS = (-10.0, 0.0, 10.0)


def seen(yaw: float) -> np.ndarray:
    """A body with a spine and two dark lungs, shifted with the yaw; line integrals."""
    rows, cols = np.indices((110, 110), dtype=np.float32)
    across = (cols - 55 - 0.2 * yaw) / 40
    body = 6 * np.clip(1 - across**2, 0, 1)
    lungs = 3.5 * np.exp(-((np.abs(across) - 0.5) ** 2) / 0.06 - ((rows - 50) / 34) ** 4)
    return (body - lungs + 1.5 * np.exp(-((across / 0.15) ** 2))).clip(0).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_world_model) -> Path:
    """A model, a frontal projection, a sweep, and a picture whose values are greys."""
    folder = tmp_path_factory.mktemp("similarity")
    write_world_model(folder / "xwin.zip", network={"image_size": [64, 64], "renderer": None})
    views = [
        XrayView(yaw=yaw, detector_shape=(110, 110), pixel_mm=4.0, isocenter_lps=(0, 0, 0))
        for yaw in YAWS
    ]
    stack = np.stack([seen(yaw) for yaw in YAWS])
    write_integrals(stack, folder / "sweep.npy", views=views)
    write_integrals(stack[1], folder / "pa.npy", views=views[1:2])
    greys = np.clip(40 * stack[1], 0, 255).astype(np.uint8)
    Image.fromarray(np.kron(greys, np.ones((3, 3), np.uint8))).save(folder / "film.png")
    return folder


@pytest.fixture(scope="module")
def run(folder):
    app = application("cxr3d", "Test.", (similarity, embed))

    def run(*words: object):
        at = [str(folder / word) if word in NAMES else str(word) for word in words]
        at += ["--model", str(folder / "xwin.zip"), "--device", "cpu"]
        return CliRunner().invoke(app, at)

    return run


def lines_of(table: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))


NAMES = ("pa.npy", "sweep.npy", "film.png")
POINTS = ("--point", "160,100", "--point", "200,230.5", "--name", "right lung")


def test_a_picture_shows_both_and_says_what_it_is_not_for(run, tmp_path):
    out = tmp_path / "map.png"
    done = run("similarity", "film.png", "pa.npy", *POINTS, "--out", out)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.strip() == str(out)
    assert "right lung:" in done.stderr and "landmark 2:" in done.stderr
    assert "Research use only" in done.stderr
    with Image.open(out) as picture:
        assert picture.info["Title"].startswith("SYNTHETIC")
        assert picture.info["Warning"].startswith("Research use only")
        record = json.loads(picture.info["Matches"])
        pixels = np.asarray(picture)
    assert [match["name"] for match in record["matches"]] == ["right lung", "landmark 2"]
    assert pixels.shape[0] > 2 * 512 and pixels.shape[2] == 3
    assert (np.ptp(pixels.astype(int), axis=2) > 60).sum() > 500  # the map has colours
    assert str(tmp_path) not in json.dumps(record)


def test_maps_lie_on_the_second_picture_as_it_is_stored(run, tmp_path):
    out = tmp_path / "map.npy"
    done = run("similarity", "pa.npy", "film.png", "--point", "50,30", "--out", out, "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    maps = np.load(out)
    assert maps.shape == (1, 330, 330) and maps.dtype == np.float32
    match = told["matches"][0]
    peak = maps[0, round(match["match_row"]), round(match["match_column"])]
    assert peak == pytest.approx(np.nanmax(maps), abs=0.1)
    assert json.loads((tmp_path / "map.npy.json").read_text())["matches"] == told["matches"]


def test_reverse_searches_the_first_picture_for_points_of_the_second(run, tmp_path):
    tables = []
    for words in (("pa.npy", "film.png"), ("film.png", "pa.npy", "--reverse")):
        out = tmp_path / f"{len(tables)}.csv"
        done = run("similarity", *words, "--point", "50,30", "--out", out)
        assert done.exit_code == 0, done.stderr
        tables.append(lines_of(out))
    assert tables[0] == tables[1]
    assert tables[0][0]["synthetic"] == "True"


def test_a_point_of_one_ct_is_held_to_its_ray_and_found_in_itself(run, tmp_path):
    done = run("similarity", "pa.npy", "pa.npy", "--point", "51,37", "--same-ct", "--json")
    assert done.exit_code == 0, done.stderr
    match = json.loads(done.stdout)["matches"][0]
    assert np.hypot(match["match_row"] - 51, match["match_column"] - 37) < 10
    assert match["value"] > 0.9 and match["trusted"]


def test_a_point_is_followed_through_a_sweep(run, tmp_path):
    out = tmp_path / "track.csv"
    words = ("--point", "51,37", "--truth", "-60,0,10", "--out", out)
    done = run("similarity", "pa.npy", "sweep.npy", *words, "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    rows = lines_of(out)
    assert [float(row["yaw"]) for row in rows] == list(YAWS)
    assert [p["yaw"] for p in told["points"]] == list(YAWS)
    assert all(float(row["error_mm"]) >= 0 for row in rows)
    assert told["epipolar"] and told["landmark_lps"] is not None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("pa.npy", "pa.npy", "--point", "5", "--json"), "ROW,COL"),
        (("pa.npy", "pa.npy", "--point", "5,nan", "--json"), "ROW,COL"),
        (("pa.npy", "pa.npy", "--point", "5,5"), "it is needed"),
        (("pa.npy", "pa.npy", "--point", "5,5", "--out", "map.tif"), "choose one of"),
        (("pa.npy", "pa.npy", "--point", "500,5", "--json"), "not on the part"),
        (("pa.npy", "pa.npy", "--point", "5,5", "--truth", "1,2,3", "--json"), "belongs to a"),
        (("pa.npy", "film.png", "--point", "50,50", "--same-ct", "--json"), "no place in a CT"),
        (("sweep.npy", "pa.npy", "--point", "5,5", "--json"), "holds 3 views"),
        (("pa.npy", "sweep.npy", "--point", "5,5", "--out", "a.png"), "as .csv"),
        (("pa.npy", "sweep.npy", "--point", "5,5", "--point", "6,6", "--json"), "one point"),
        (("pa.npy", "pa.npy", "--point", "5,5", "--name", "a", "--name", "b", "--json"), "more na"),
    ],
)
def test_wrong_usage_is_told(run, words, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run("similarity", *words)
    assert done.exit_code == 2
    assert told in " ".join(done.stderr.replace("│", " ").split())
    assert not list(tmp_path.iterdir())


def test_a_source_and_an_existing_file_are_not_replaced(run, folder, tmp_path):
    before = (folder / "film.png").read_bytes()
    out = ("--point", "50,30", "--out", "film.png", "--overwrite")
    done = run("similarity", "pa.npy", "film.png", *out)
    assert done.exit_code == 1 and "source file is never" in done.stderr
    assert (folder / "film.png").read_bytes() == before
    mine = tmp_path / "mine.csv"
    mine.write_text("mine")
    done = run("similarity", "pa.npy", "film.png", "--point", "50,30", "--out", mine)
    assert done.exit_code == 1 and mine.read_text() == "mine"


@pytest.mark.parametrize(("pooling", "numbers"), [("mean", 32), ("orbit", 13 * 32)])
def test_vectors_of_files_and_of_all_views_of_a_sweep(run, tmp_path, pooling, numbers):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    out = tmp_path / "vectors.npz"
    words = ("--pooling", pooling, "--out", out, "--json")
    done = run("embed", "film.png", bad, "sweep.npy", *words)
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert len(told["failures"]) == 1 and "bad.png" in done.stderr
    with np.load(out) as read:
        assert read["vectors"].shape == (4, numbers)
        assert [name.rsplit("/")[-1] for name in read["names"]] == [
            "film.png", "sweep.npy#0", "sweep.npy#1", "sweep.npy#2",
        ]  # fmt: skip
        assert str(read["model"]) == "xwin-test" and len(str(read["weights_sha256"])) == 64
        assert list(read["projections"][1:]) == ["as-given"] * 3


def test_hashed_names_tell_nothing_of_the_files(run, tmp_path):
    bad = tmp_path / "Doe^John.png"
    bad.write_bytes(b"no picture")
    out = tmp_path / "vectors.npz"
    done = run("embed", "film.png", bad, "--hash-names", "--out", out, "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert len(told["names"][0]) == 16 and "film" not in told["names"][0]
    assert "Doe" not in json.dumps(told["failures"]) and "Doe" not in done.stderr


def test_nothing_is_written_where_no_file_gives_a_vector(run, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    done = run("embed", bad, "--out", tmp_path / "vectors.npz")
    assert done.exit_code == 1 and "None of the files gave a vector" in done.stderr
    assert not (tmp_path / "vectors.npz").exists()
    assert run("embed", "film.png", "--out", tmp_path / "vectors.csv").exit_code == 2
