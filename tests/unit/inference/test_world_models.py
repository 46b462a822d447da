"""World models are loaded once, by name or path, and refused with a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from napari_cxr3d.errors import BundleError, InvalidInputError, UnreadableFileError
from napari_cxr3d.inference import world_models
from napari_cxr3d.inference.world_models import load_world_model, world_model_names


@pytest.fixture
def write(tmp_path, write_world_model):
    """Write a bundle into the user's folder."""

    def make(network: dict[str, Any] | None = None, **card: Any) -> Path:
        told = {"version": "1.2.0", "name": "xwin-test"} | card
        return write_world_model(tmp_path / f"{told['name']}.zip", network=network, **told)

    return make


@pytest.fixture(autouse=True)
def empty(tmp_path, monkeypatch):
    """No model in memory, the user's folder a new one, and none that came with the program."""
    monkeypatch.setattr(world_models, "_kept", type(world_models._kept)())
    monkeypatch.setenv("CXR3D_MODELS", str(tmp_path))
    nowhere = tmp_path / "none"
    monkeypatch.setattr("napari_cxr3d.models.zoo.bundled_folder", lambda: nowhere)


def test_a_model_is_found_by_name_and_path_and_kept(write):
    path = write()
    loaded = load_world_model("xwin-test")
    assert (loaded.name, loaded.version, loaded.device) == ("xwin-test", "1.2.0", "cpu")
    assert len(loaded.sha256) == 64 and loaded.card["kind"] == "world-model"
    assert load_world_model(path) is loaded
    assert not loaded.model.training
    assert not any(p.requires_grad for p in loaded.model.parameters())
    assert world_model_names() == ("xwin-test",)


def test_the_least_used_model_leaves_memory(write):
    names = ["xwin-a", "xwin-b", "xwin-c"]
    first, _, _ = [load_world_model(write(name=name)) for name in names]
    assert load_world_model("xwin-a") is not first


def test_what_is_missing_is_told_with_what_is_here(write):
    with pytest.raises(InvalidInputError, match="no world model is installed"):
        load_world_model("xwin-demo")
    write()
    with pytest.raises(InvalidInputError, match="that are installed are xwin-test"):
        load_world_model("xwin-demo")
    with pytest.raises(UnreadableFileError):
        load_world_model("nowhere/bundle.zip")


def test_other_models_are_refused(write):
    with pytest.raises(InvalidInputError, match="is no world model of the chest X-ray: it is a co"):
        load_world_model(write(kind="codec"))
    other = {"_target_": "napari_cxr3d.models.codecs.HaarCodec", "levels": 1}
    with pytest.raises(BundleError, match="its network is a HaarCodec"):
        load_world_model(write(other, name="haar"))
