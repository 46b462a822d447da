"""A small cohort of phantoms, made once, and the tiny codec on it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from cxr3d_training.data import Cohort, cohort_of
from cxr3d_training.engine.settings import override, parse_override, read_preset
from cxr3d_training.recipes import make
from cxr3d_training.recipes.codec import CodecRecipe
from napari_cxr3d.phantom import make_thorax


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Networks this small gain nothing from a second one, and lose much on a busy computer."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def cohort() -> Cohort:
    """Five phantoms of coarse voxels: some to train on, some held out."""
    volumes = {f"p{seed}": make_thorax(seed, spacing_mm=8.0).volume for seed in range(5)}
    sides = {"p3": "validation", "p4": "test"} | {f"p{k}": "train" for k in range(3)}
    return cohort_of(volumes, sides=sides)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def tiny_codec() -> Callable[..., CodecRecipe]:
    """``tiny_codec("key=value", ...)`` makes the recipe of the tiny preset."""

    def tiny(*changes: str) -> CodecRecipe:
        preset = read_preset("codec", "tiny")
        settings = override(preset, dict(parse_override(c) for c in changes))
        recipe = make("codec", settings, known=preset)
        assert isinstance(recipe, CodecRecipe)
        return recipe

    return tiny
