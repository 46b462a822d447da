"""Fixtures shared by the whole suite."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


@pytest.fixture(scope="session")
def write_world_model() -> Callable[..., Path]:
    """Write the bundle of a tiny world model with random weights, seeded.

    `network` changes its description, or replaces it where it names another target.
    """

    def write(path: Path, *, network: dict[str, Any] | None = None, **card: Any) -> Path:
        import torch

        from napari_cxr3d.models import write_bundle
        from napari_cxr3d.models.network import build_network

        description = {
            "_target_": "napari_cxr3d.models.world_model.XWin",
            "image_size": [32, 32],
            "field_mm": 440.0,
            "source_to_isocenter_mm": 1600.0,
            "source_to_detector_mm": 1800.0,
            "encoder": {"patch_size": 8, "dim": 32, "depth": 1, "heads": 2},
            "predictor": {"dim": 32, "depth": 1, "heads": 2},
            "renderer": {"channels": [16, 16, 16, 16]},
            **(network or {}),
        }
        if network is not None and "_target_" in network:
            description = network
        description = {key: value for key, value in description.items() if value is not None}
        told = {
            "name": "xwin-test",
            "version": "1.0.0",
            "kind": "world-model",
            "licence": "BSD-3-Clause",
            "intended_use": "Tests.",
            "limits": "Not for patients.",
            "synthetic_training": True,
            "preprocessing": {"field_mm": 440.0},
            "training": {"command": "none", "seed": 0, "data": []},
            "metrics": {},
            **card,
        }
        torch.manual_seed(0)
        state = build_network(description).state_dict()
        return write_bundle(path, network=description, state=state, card=told, dtype="float32")

    return write
