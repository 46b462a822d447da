"""The models that a panel offers."""

from __future__ import annotations

from dataclasses import dataclass

from napari_cxr3d.errors import Cxr3dError

__all__ = ["ModelChoice", "models_of_kind"]

_DETECTOR = (96, 96)


@dataclass(frozen=True)
class ModelChoice:
    """A model that can be chosen.

    Attributes
    ----------
    name, version : str
        As its card says.
    limits : str
        What it must not be used for.
    card : str
        Its whole card, as text.
    detector_shape : tuple of 2 int
        Rows and columns on which it wants its X-rays.
    views : str
        What it was trained on, for people; ``""`` where its card does not say.
    """

    name: str
    version: str
    limits: str
    card: str
    detector_shape: tuple[int, int] = _DETECTOR
    views: str = ""


def models_of_kind(kind: str, default: str) -> tuple[ModelChoice, ...]:
    """The models of a kind that are here, the default first.

    Parameters
    ----------
    kind : str
        As their cards say it.
    default : str
        The name of the one that came with the program.
    """
    from napari_cxr3d.models.bundle import open_bundle
    from napari_cxr3d.models.zoo import listing

    choices = []
    for entry in listing():
        if entry.kind == kind and entry.used:
            try:
                bundle = open_bundle(entry.path, check_content=False)
            except Cxr3dError:  # gone since it was listed
                continue
            card = bundle.card
            rows, cols = bundle.description.get("detector_shape", _DETECTOR)
            choices.append(
                ModelChoice(
                    name=str(card["name"]),
                    version=str(card["version"]),
                    limits=str(card["limits"]),
                    card=bundle.describe(),
                    detector_shape=(int(rows), int(cols)),
                    views=str(card.get("views", "")),
                )
            )
    return tuple(sorted(choices, key=lambda each: (each.name != default, each.name)))
