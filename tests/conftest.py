"""Fixtures shared by the whole suite."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real images, named by ``CXR3D_TEST_DATA``; skips where it is absent."""
    folder = Path(os.environ.get("CXR3D_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real test data: set CXR3D_TEST_DATA (looked in {folder})")
    return folder
