"""Fixtures shared by the whole suite."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from pytest_socket import disable_socket

# Before anything imports napari: no slicing in threads, an error for whoever touches the
# viewer from one, and settings that are nobody's own.
os.environ["NAPARI_ASYNC"] = "0"
os.environ["NAPARI_ENSURE_PLUGIN_MAIN_THREAD"] = "1"
_SETTINGS_FOLDER = tempfile.TemporaryDirectory(prefix="napari-settings-")
os.environ["NAPARI_CONFIG"] = str(Path(_SETTINGS_FOLDER.name, "settings.yaml"))
# Phantoms that tests make, and models that they install, are nobody's own either.
os.environ["CXR3D_CACHE"] = str(Path(_SETTINGS_FOLDER.name, "cache"))
os.environ["CXR3D_MODELS"] = str(Path(_SETTINGS_FOLDER.name, "models"))

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real images, named by ``CXR3D_TEST_DATA``; skips where it is absent."""
    folder = Path(os.environ.get("CXR3D_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real test data: set CXR3D_TEST_DATA (looked in {folder})")
    return folder


@pytest.fixture(autouse=True)
def no_network() -> None:
    """No test reaches beyond this machine."""
    disable_socket(allow_unix_socket=True)
