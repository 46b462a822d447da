"""A reconstruction small enough for a test: 16^3 voxels, its weights drawn from a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

RECONSTRUCTOR: dict[str, Any] = {
    "_target_": "napari_cxr3d.models.reconstructor.FlowReconstructor",
    "codec": {"_target_": "napari_cxr3d.models.codecs.HaarCodec", "levels": 1},
    "volume_shape": [16, 16, 16],
    "spacing_mm": [24.0, 24.0, 24.0],
    "detector_shape": [24, 24],
    "hu_window": [-1000, 1000],
    "lift": {"encoder_channels": [8, 8], "picture_features": 4, "features": 8},
    "coarse": {"channels": [8, 8], "num_head_channels": 8, "norm_num_groups": 8},
    "flow": {"channels": [8, 8], "num_head_channels": 8, "norm_num_groups": 8},
}
RECONSTRUCTOR_CARD: dict[str, Any] = {
    "name": "reconstruct-test",
    "version": "1.0.0",
    "kind": "reconstructor",
    "licence": "BSD-3-Clause",
    "intended_use": "Tests.",
    "limits": "Not for patients.",
    "synthetic_training": True,
    "preprocessing": {"hu_window": [-1000, 1000], "spacing_mm": [24.0] * 3, "field_mm": 440.0},
    "training": {"command": "none", "seed": 0, "data": []},
    "metrics": {},
    "sampler": {"steps": 3, "method": "euler"},
    "uncertainty": {"scale": 1.5},
}


@pytest.fixture(scope="session")
def write_reconstructor(tmp_path_factory) -> Callable[..., Path]:
    """Write a bundle of the small reconstruction, with changes to its card."""
    import torch

    from napari_cxr3d.models import write_bundle
    from napari_cxr3d.models.network import build_network

    torch.manual_seed(0)
    model = build_network(RECONSTRUCTOR)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.abs().sum():  # the last layers, which are made asleep
                parameter.normal_(0, 0.03)

    def write(**changes: Any) -> Path:
        path = tmp_path_factory.mktemp("reconstructor") / "bundle.zip"
        card = RECONSTRUCTOR_CARD | changes
        state = model.state_dict()
        return write_bundle(path, network=RECONSTRUCTOR, state=state, card=card, dtype="float32")

    return write


@pytest.fixture(scope="session")
def reconstructor(write_reconstructor) -> Path:
    """A bundle of the small reconstruction."""
    return write_reconstructor()


@pytest.fixture(scope="session")
def drr_files(tmp_path_factory) -> tuple[Path, Path]:
    """A frontal and a lateral projection of a phantom, as ``cxr3d drr`` writes them."""
    from napari_cxr3d.imaging import preset
    from napari_cxr3d.inference import DrrRequest, render_drr
    from napari_cxr3d.io import write_integrals
    from napari_cxr3d.phantom import make_thorax

    volume = make_thorax(3, (384, 384, 384), 8.0).volume
    views = [
        replace(preset(name), detector_shape=(110, 110), pixel_mm=4.0)
        for name in ("pa", "left-lateral")
    ]
    result = render_drr(DrrRequest(volume, tuple(views), appearance="integral"))
    folder = tmp_path_factory.mktemp("drr")
    paths = tuple(folder / f"{name}.npy" for name in ("pa", "lateral"))
    for path, image, view in zip(paths, result.integrals, result.views, strict=True):
        write_integrals(
            np.asarray(image), path, views=[view], provenance=result.provenance.to_dict()
        )
    return paths[0], paths[1]
