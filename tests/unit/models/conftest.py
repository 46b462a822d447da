"""A small bundle whose network needs torch alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

HAAR = {"_target_": "napari_cxr3d.models.codecs.HaarCodec", "levels": 1}


@pytest.fixture
def card() -> dict[str, Any]:
    """A complete card."""
    return {
        "name": "codec-test",
        "version": "1.2.0",
        "kind": "codec",
        "licence": "BSD-3-Clause",
        "intended_use": "Tests.",
        "limits": "Not for patients.",
        "synthetic_training": True,
        "preprocessing": {"hu_window": [-1000, 1000], "spacing_mm": [2.0, 2.0, 2.0]},
        "training": {"command": "cxr3d-train fit codec", "seed": 7, "data": ["phantom:200"]},
        "metrics": {"psnr3d": {"value": 31.5, "convention": "3D, data range 2000 HU"}},
    }


@pytest.fixture
def write(card: dict[str, Any], tmp_path: Path) -> Callable[..., Path]:
    """Write a bundle of a wavelet codec with a scale of 0.3."""
    from napari_cxr3d.models import write_bundle
    from napari_cxr3d.models.codecs import HaarCodec

    def write_one(name: str = "bundle", **changes: Any) -> Path:
        codec = HaarCodec(levels=1)
        codec.set_scale(0.3)
        arguments: dict[str, Any] = {
            "network": HAAR,
            "state": codec.state_dict(),
            "card": card | changes.pop("card", {}),
        }
        return write_bundle(tmp_path / name, **(arguments | changes))

    return write_one


@pytest.fixture
def edit() -> Callable[..., None]:
    """Change the description of a bundle's folder by hand."""

    def edit_one(folder: Path, **changes: Any) -> None:
        description = folder / "bundle.yaml"
        record = yaml.safe_load(description.read_text(encoding="utf-8")) | changes
        description.write_text(yaml.safe_dump(record), encoding="utf-8")

    return edit_one
