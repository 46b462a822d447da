"""The npe2 manifest: one truth in two places, and every name in it exists."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
import yaml

PACKAGE = Path(__file__).resolve().parents[2] / "napari_cxr3d"
MANIFEST = yaml.safe_load((PACKAGE / "napari.yaml").read_text(encoding="utf-8"))
COMMANDS = {c["id"]: c["python_name"] for c in MANIFEST["contributions"]["commands"]}


def test_the_manifest_at_the_root_equals_the_one_in_the_package(repository: Path) -> None:
    assert (repository / "napari.yaml").read_bytes() == (PACKAGE / "napari.yaml").read_bytes()


def test_the_manifest_has_the_distribution_s_name() -> None:
    assert MANIFEST["name"] == "napari-cxr3d"


@pytest.mark.parametrize("python_name", sorted(set(COMMANDS.values())))
def test_every_command_of_the_manifest_exists(python_name: str) -> None:
    module, _, attribute = python_name.partition(":")
    assert callable(getattr(import_module(module), attribute))


def test_every_contribution_names_a_command_of_the_manifest() -> None:
    contributions = MANIFEST["contributions"]
    named = {
        entry["command"]
        for kind in ("widgets", "readers", "writers", "sample_data")
        for entry in contributions.get(kind, [])
        if "command" in entry
    }
    named |= {
        entry["command"] for menu in contributions.get("menus", {}).values() for entry in menu
    }
    assert named
    assert named <= set(COMMANDS)
