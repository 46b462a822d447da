"""``cxr3d models``: the weights that are here, and how to bring others."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from napari_cxr3d.models import open_bundle, write_bundle, zoo

HAAR = {"_target_": "napari_cxr3d.models.codecs.HaarCodec", "levels": 1}


@pytest.fixture(autouse=True)
def mine(tmp_path, monkeypatch) -> Path:
    """The user's folder; nothing comes with the program."""
    folder = tmp_path / "mine"
    monkeypatch.setenv(zoo.ENVIRONMENT, str(folder))
    monkeypatch.setattr(zoo, "bundled_folder", lambda: tmp_path / "bundled")
    return folder


@pytest.fixture
def bundle(tmp_path):
    """A bundle's zip, by its version."""

    def write(version: str = "1.0", name: str = "codec-test") -> Path:
        from napari_cxr3d.models.codecs import HaarCodec

        card = {
            "name": name,
            "version": version,
            "kind": "codec",
            "licence": "BSD-3-Clause",
            "intended_use": "Tests.",
            "limits": "Not for patients.",
            "synthetic_training": True,
            "preprocessing": {"hu_window": [-1000, 1000]},
            "training": {"command": "cxr3d-train fit codec", "seed": 7, "data": ["phantom:8"]},
            "metrics": {"psnr3d": {"value": 31.5, "unit": "dB", "convention": "3D, 2000 HU"}},
        }
        path = tmp_path / f"{name}-{version}.zip"
        state = HaarCodec(levels=1).state_dict()
        return write_bundle(path, network=HAAR, state=state, card=card, overwrite=True)

    return write


def test_without_models_the_list_is_empty_and_says_where_they_would_lie(run, mine) -> None:
    result = run("models", "list")
    assert (result.exit_code, result.stdout) == (0, "")
    assert str(mine) in result.stderr
    record = json.loads(run("models", "list", "--json").stdout)
    assert record == {"folder": str(mine), "models": []}


def test_an_installed_model_is_listed_shown_and_verified(run, bundle, mine) -> None:
    path = bundle()
    installed = run("models", "install", path)
    assert installed.exit_code == 0
    assert installed.stdout == f"{mine / 'codec-test-1.0'}\n"
    listed = run("models", "list").stdout
    assert listed.split()[:3] == ["codec-test", "1.0", "codec,"]
    assert listed.split()[-2:] == ["installed", "used"]
    (record,) = json.loads(run("models", "list", "--json").stdout)["models"]
    assert record["sha256"] == open_bundle(path).sha256
    shown = run("models", "show", "codec-test").stdout
    for told in ("synthetic training: yes", "Not for patients.", "31.5 dB", "2000 HU"):
        assert told in shown
    verified = run("models", "verify", "codec-test")
    assert verified.exit_code == 0
    assert "codec-test 1.0 is whole" in verified.stdout


def test_a_file_is_shown_and_verified_without_installing_it(run, bundle, mine) -> None:
    path = bundle()
    record = json.loads(run("models", "show", path, "--json").stdout)
    assert record["card"]["name"] == "codec-test"
    assert record["network"] == HAAR
    assert record["sha256"] == open_bundle(path).sha256
    verified = json.loads(run("models", "verify", path, "--json").stdout)
    assert (verified["ok"], verified["files"], verified["parameters"]) == (True, 1, 1)
    assert not mine.exists()


def test_a_damaged_file_fails_with_a_sentence(run, bundle, mine) -> None:
    path = bundle()
    content = bytearray(path.read_bytes())
    content[content.index(b"F32")] ^= 1
    path.write_bytes(bytes(content))
    for command in ("verify", "install"):
        result = run("models", command, path)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith(f"Error: {path}: weights.safetensors")
    assert not mine.exists()


def test_the_published_hash_is_compared(run, bundle) -> None:
    path = bundle()
    good = open_bundle(path).sha256
    assert run("models", "verify", path, "--sha256", good).exit_code == 0
    assert run("models", "install", path, "--sha256", "0" * 64).exit_code == 1
    assert run("models", "install", path, "--sha256", good).exit_code == 0
    assert run("models", "verify", "codec-test", "--sha256", "0" * 64).exit_code == 1


def test_installing_twice_asks_for_overwrite(run, bundle) -> None:
    path = bundle()
    run("models", "install", path)
    again = run("models", "install", path)
    assert again.exit_code == 1
    assert "installed already" in again.stderr
    assert run("models", "install", path, "--overwrite").exit_code == 0


def test_of_several_versions_the_newest_is_used_and_that_is_said(run, bundle) -> None:
    run("models", "install", bundle("1.10"))
    older = run("models", "install", bundle("1.9"))
    assert "not used: version 1.10 is newer" in older.stderr
    shown = run("models", "show", "codec-test")
    assert "version: 1.10" in shown.stdout
    assert "version 1.9: not used" in shown.stderr
    assert "version: 1.9" in run("models", "show", "codec-test", "--version", "1.9").stdout


def test_removing_needs_a_yes(run, bundle, mine) -> None:
    run("models", "install", bundle())
    refused = run("models", "remove", "codec-test")
    assert refused.exit_code == 2
    assert "--yes" in refused.stderr
    removed = run("models", "remove", "codec-test", "--yes")
    assert removed.stdout == f"{mine / 'codec-test-1.0'}\n"
    assert list(mine.iterdir()) == []
    assert run("models", "remove", "codec-test", "--yes").exit_code == 1


@pytest.mark.parametrize(("answer", "status"), [("y\n", 0), ("n\n", 130)])
def test_removing_asks_on_a_terminal(bundle, mine, monkeypatch, answer, status) -> None:
    from typer.testing import CliRunner

    from napari_cxr3d.cli import models
    from napari_cxr3d.cli.app import app

    zoo.install(bundle())

    class Terminal:
        @staticmethod
        def isatty() -> bool:
            return True

    class System:
        stdin = Terminal()

    monkeypatch.setattr(models, "sys", System)
    result = CliRunner().invoke(app, ["models", "remove", "codec-test"], input=answer)
    assert result.exit_code == status
    assert bool(list(mine.iterdir())) == (status != 0)


def test_an_unknown_model_is_told_with_what_is_here(run, bundle) -> None:
    run("models", "install", bundle())
    result = run("models", "show", "codec-tset")
    assert result.exit_code == 1
    assert "these are here: codec-test" in result.stderr
    assert "no such file" in run("models", "show", "absent.zip").stderr


def test_a_damaged_installed_model_is_listed(run, bundle, mine) -> None:
    run("models", "install", bundle())
    (mine / "codec-test-1.0" / "weights.safetensors").unlink()
    result = run("models", "list")
    assert result.exit_code == 0
    assert result.stdout.split()[-1] == "damaged"
    assert "weights.safetensors is missing" in result.stderr


def test_the_doctor_names_the_models_and_no_home_folder(bundle, mine, monkeypatch) -> None:
    from napari_cxr3d.cli import checks

    monkeypatch.setattr(Path, "home", lambda: mine.parent)
    (none,) = checks.models()
    assert (none.state, none.detail) == ("ok", f"none; yours would lie in {Path('~/mine')}")
    zoo.install(bundle())
    zoo.install(bundle(name="other"))
    (mine / "other-1.0" / "weights.safetensors").unlink()
    whole, damaged = checks.models()
    assert (whole.name, whole.state, whole.detail) == ("codec-test", "ok", "codec 1.0, installed")
    assert (damaged.state, damaged.remedy) == ("limited", "cxr3d models list")
    assert str(mine.parent) not in f"{whole}{damaged}"


def test_nothing_is_fetched_without_consent(run, mine) -> None:
    result = run("models", "fetch", "rad-dino")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "346 MB" in result.stderr
    assert "Consent with --consent" in result.stderr
    assert run("models", "fetch", "absent").exit_code == 1
    assert not mine.exists()


@pytest.mark.parametrize("command", ["list", "show", "verify", "install", "remove", "fetch"])
def test_every_command_has_help(run, command) -> None:
    result = run("models", command, "--help")
    assert result.exit_code == 0
    assert "--debug" in result.stdout


def test_listing_loads_no_heavy_library(bundle) -> None:
    zoo.install(bundle())
    program = (
        "import sys\n"
        "from napari_cxr3d.cli.app import app\n"
        "app(['models', 'list'], standalone_mode=False)\n"
        "app(['models', 'show', 'codec-test'], standalone_mode=False)\n"
        "heavy = {'torch', 'monai', 'scipy', 'numba', 'SimpleITK'}\n"
        "sys.exit(','.join(heavy & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
