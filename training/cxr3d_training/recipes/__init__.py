"""The recipes: one file a model, found by name.

Importing this package loads no torch; `find` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cxr3d_training.engine.settings import build
from napari_cxr3d.errors import InvalidInputError

if TYPE_CHECKING:
    from cxr3d_training.engine.recipe import Recipe

__all__ = ["RECIPES", "Entry", "find", "make"]


@dataclass(frozen=True)
class Entry:
    """Where a recipe lies, and what it makes in a line."""

    place: str
    summary: str


RECIPES: Mapping[str, Entry] = {
    "codec": Entry(
        "cxr3d_training.recipes.codec:CodecRecipe",
        "a KL autoencoder of CT volumes, the latent space of the generative models",
    ),
    "slice-codec": Entry(
        "cxr3d_training.recipes.slice_codec:SliceCodecRecipe",
        "a KL autoencoder of axial slices, the latent space of X-ray2CTPA",
    ),
    "vq-codec": Entry(
        "cxr3d_training.recipes.vq_codec:VQCodecRecipe",
        "a 3D VQ-GAN of CT volumes, the quantised alternative of the codec",
    ),
    "reconstruct": Entry(
        "cxr3d_training.recipes.reconstruct:ReconstructRecipe",
        "a CT from chest X-rays: a coarse volume in one pass, and a flow that draws the rest",
    ),
    "xray2ctpa": Entry(
        "cxr3d_training.recipes.xray2ctpa:Xray2CtpaRecipe",
        "a CT from one chest X-ray by the published X-ray2CTPA, in four stages",
    ),
    "xwin": Entry(
        "cxr3d_training.recipes.xwin:XWinRecipe",
        "X-WIN, a world model of the chest X-ray: what it would show from elsewhere",
    ),
    "xray2xray": Entry(
        "cxr3d_training.recipes.xray2xray:Xray2XrayRecipe",
        "Xray2Xray, a world model that turns about the patient step by step",
    ),
}


def find(name: str) -> type[Recipe]:
    """The class of a recipe.

    Raises
    ------
    InvalidInputError
        If there is none of this name.
    """
    if name not in RECIPES:
        raise InvalidInputError(
            f"There is no recipe {name!r}", remedy=f"choose {', '.join(sorted(RECIPES))}"
        )
    module, _, attribute = RECIPES[name].place.partition(":")
    recipe: type[Recipe] = getattr(import_module(module), attribute)
    return recipe


def make(
    name: str, settings: Mapping[str, Any], *, known: Mapping[str, Any] | None = None
) -> Recipe:
    """A recipe with its settings.

    Parameters
    ----------
    name : str
        One of `RECIPES`.
    settings : mapping
        Nested keys and values.
    known : mapping, optional
        The preset before it was changed: free mappings may hold its keys only.

    Raises
    ------
    InvalidInputError
        If there is no such recipe, or a setting cannot be used.
    """
    kind = find(name)
    return kind(build(kind.Config, settings, known=known))
