"""The bundles that are here, and which of several is used."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from napari_cxr3d.errors import BundleError, ExportError, InvalidInputError
from napari_cxr3d.models import open_bundle, zoo


@pytest.fixture
def mine(tmp_path, monkeypatch) -> Path:
    """The user's folder, which does not exist yet."""
    folder = tmp_path / "data" / "models"
    monkeypatch.setenv(zoo.ENVIRONMENT, str(folder))
    return folder


@pytest.fixture
def bundled(tmp_path, monkeypatch) -> Path:
    """A folder in place of the one that comes with the program."""
    folder = tmp_path / "bundled"
    folder.mkdir()
    monkeypatch.setattr(zoo, "bundled_folder", lambda: folder)
    return folder


def test_the_bundled_folder_lies_in_the_package() -> None:
    assert zoo.bundled_folder().parts[-3:] == ("napari_cxr3d", "models", "weights")


def test_every_bundled_model_is_whole() -> None:
    for entry in zoo.listing():
        if entry.place == "bundled":
            open_bundle(entry.path).network()


def test_the_users_folder_is_the_platforms_unless_named(monkeypatch, mine) -> None:
    assert zoo.models_folder() == mine
    monkeypatch.delenv(zoo.ENVIRONMENT)
    assert zoo.models_folder().parts[-2:] == ("napari-cxr3d", "models")


def test_a_missing_folder_is_an_empty_one(mine, bundled) -> None:
    assert zoo.listing() == ()
    with pytest.raises(InvalidInputError, match=r"no model is here.*models install"):
        zoo.find("codec-test")
    assert not mine.exists()


@pytest.mark.parametrize("source", ["source", "source.zip"])
def test_an_installed_model_is_found_by_its_name(write, mine, bundled, source) -> None:
    path = write(source)
    installed = zoo.install(path)
    assert installed.path == mine / "codec-test-1.2.0"
    assert installed.sha256 == open_bundle(path).sha256
    assert zoo.find("codec-test").path == installed.path
    (entry,) = zoo.listing()
    assert (entry.name, entry.version, entry.kind) == ("codec-test", "1.2.0", "codec")
    assert (entry.place, entry.used, entry.note) == ("installed", True, "")
    assert entry.synthetic_training
    assert entry.to_dict()["path"] == str(installed.path)


def test_a_model_that_came_with_the_program_is_found(write, mine, bundled) -> None:
    write("bundled/codec-test")
    write("bundled/other.zip", card={"name": "other"})
    assert zoo.find("codec-test").path == bundled / "codec-test"
    assert [(e.name, e.place) for e in zoo.listing()] == [
        ("codec-test", "bundled"),
        ("other", "bundled"),
    ]


def test_the_newest_version_is_used_and_the_bundled_of_one_version(write, mine, bundled) -> None:
    write("bundled/codec", card={"version": "1.9"})
    zoo.install(write("new", card={"version": "1.10"}))
    assert zoo.find("codec-test").version == "1.10"
    assert zoo.find("codec-test", "1.9").path == bundled / "codec"
    newest, older = zoo.listing()
    assert (newest.used, newest.note) == (True, "")
    assert (older.used, older.note) == (False, "not used: version 1.10 is newer")

    write("bundled/codec2", card={"version": "1.10"})
    assert zoo.find("codec-test").path == bundled / "codec2"
    installed = next(e for e in zoo.listing() if e.place == "installed")
    assert installed.note == "not used: the bundled one comes first, and is the same"


def test_nothing_is_installed_over_without_being_asked(write, mine, bundled) -> None:
    first = zoo.install(write("first"))
    with pytest.raises(ExportError, match="installed already: it is the same"):
        zoo.install(first.path)
    other = write("other", card={"limits": "Others."})
    with pytest.raises(ExportError, match="it is another one"):
        zoo.install(other)
    assert zoo.find("codec-test").sha256 == first.sha256
    zoo.install(other, overwrite=True)
    assert zoo.find("codec-test").card["limits"] == "Others."
    assert [p.name for p in mine.iterdir()] == ["codec-test-1.2.0"]


def test_a_zip_put_there_by_hand_is_found_and_replaced(write, mine, bundled) -> None:
    mine.mkdir(parents=True)
    write("data/models/by-hand.zip")
    assert zoo.find("codec-test").path == mine / "by-hand.zip"
    zoo.install(write("new"), overwrite=True)
    assert [p.name for p in mine.iterdir()] == ["codec-test-1.2.0"]


def test_damaged_models_are_not_installed(write, mine, bundled) -> None:
    path = write("source")
    with pytest.raises(BundleError, match="another bundle"):
        zoo.install(path, sha256="0" * 64)
    (path / "weights.safetensors").write_bytes(b"")
    with pytest.raises(BundleError, match="cut off"):
        zoo.install(path)
    assert not mine.exists()


def test_weights_that_are_not_the_networks_are_not_installed(write, edit, mine, bundled) -> None:
    path = write("source")
    edit(path, network={"_target_": "napari_cxr3d.models.codecs.HaarCodec", "levels": 99})
    with pytest.raises(BundleError, match="levels"):
        zoo.install(path)
    assert not mine.exists()


def test_a_damaged_model_is_listed_with_the_reason(write, mine, bundled) -> None:
    broken = write("bundled/broken", card={"name": "broken"})
    (broken / "weights.safetensors").unlink()
    write("bundled/whole")
    (bundled / "README.md").write_text("not a bundle")
    (bundled / "hub").mkdir()
    whole, damaged = zoo.listing()
    assert whole.name == "codec-test"
    assert damaged.name == "broken"
    assert "weights.safetensors is missing" in damaged.note
    with pytest.raises(BundleError, match=r"cannot be used.*missing"):
        zoo.find("broken")
    with pytest.raises(InvalidInputError, match="these are here: broken, codec-test"):
        zoo.find("absent")


def test_altered_weights_are_noticed_when_a_model_is_found(write, mine, bundled) -> None:
    path = write("bundled/codec")
    content = (path / "weights.safetensors").read_bytes()
    (path / "weights.safetensors").write_bytes(content[:-1] + b"\x99")
    assert zoo.listing()[0].used  # the listing reads descriptions only
    with pytest.raises(BundleError, match="altered"):
        zoo.find("codec-test")


def test_only_own_models_are_removed(write, mine, bundled) -> None:
    write("bundled/codec")
    with pytest.raises(InvalidInputError, match="came with the program"):
        zoo.remove("codec-test")
    zoo.install(write("new", card={"version": "2.0"}))
    zoo.install(write("newer", card={"version": "3.0"}))
    with pytest.raises(InvalidInputError, match=r"versions 3\.0, 2\.0"):
        zoo.remove("codec-test")
    assert zoo.remove("codec-test", "2.0") == mine / "codec-test-2.0"
    assert zoo.remove("codec-test") == mine / "codec-test-3.0"
    assert list(mine.iterdir()) == []
    with pytest.raises(InvalidInputError, match="not in your folder"):
        zoo.remove("absent")
    assert zoo.find("codec-test").version == "1.2.0"


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_removing_a_link_leaves_what_it_leads_to(write, mine, bundled) -> None:
    elsewhere = write("elsewhere")
    mine.mkdir(parents=True)
    (mine / "linked").symlink_to(elsewhere, target_is_directory=True)
    zoo.remove("codec-test")
    assert (elsewhere / "bundle.yaml").is_file()
    assert list(mine.iterdir()) == []
