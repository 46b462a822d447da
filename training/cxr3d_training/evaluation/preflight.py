"""What an evaluation makes sure of before its work begins, and how it tells what it used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cxr3d_training.data import Cohort, CohortCase
from napari_cxr3d.errors import ExportError, InvalidInputError

if TYPE_CHECKING:
    from torch import nn

    from napari_cxr3d.models.bundle import Bundle

__all__ = [
    "KEPT",
    "Side",
    "cases_of_side",
    "device_in_words",
    "open_network",
    "require_place",
    "require_unseen",
    "told",
]

Side = Literal["train", "validation", "test", "all"]

KEPT = "measured"
"""Folder beside the report with figures that were measured, from which a stopped one goes on."""


def cases_of_side(cohort: Cohort, side: Side) -> Sequence[CohortCase]:
    """The cases of a side, refused where there is none."""
    cases: Sequence[CohortCase] = cohort.cases if side == "all" else cohort.split(side)
    if not len(cases):
        raise InvalidInputError(
            f"There is no case on the side {side!r} of the data",
            why=f"it has {cohort!r}",
            remedy="choose another --split, or name data with more patients",
        )
    return cases


def require_unseen(cases: Sequence[CohortCase], trained: Cohort) -> None:
    """Refuse cases of patients that the model learned from."""
    learned = trained.split("train")
    patients, contents = {c.patient for c in learned}, {c.id for c in learned}
    seen = [c for c in cases if c.patient in patients or c.id in contents]
    if seen:
        raise InvalidInputError(
            f"The model has seen {len(seen)} of the {len(cases)} cases in training",
            why=f"the first is {seen[0].id}",
            remedy="evaluate on other patients, or say --split train to measure on seen ones",
        )


def require_place(target: Path, *, overwrite: bool) -> None:
    """Say before the work, not after it, that the report could not be written."""
    there = [name for name in ("report.json", "report.md") if (target / name).exists()]
    if there and not overwrite:
        raise ExportError(
            f"{there[0]} exists already",
            remedy="choose another --out or allow --overwrite",
            path=target,
        )


def open_network(where: str | Path) -> tuple[Bundle, nn.Module]:
    """A bundle and its network.

    Parameters
    ----------
    where : str or path-like
        The bundle's path, or the name of a model that is installed.

    Raises
    ------
    InvalidInputError
        If there is none.
    BundleError
        If it is damaged.
    """
    from napari_cxr3d.models import zoo
    from napari_cxr3d.models.bundle import open_bundle

    path = Path(where).expanduser()
    bundle = open_bundle(path) if path.exists() else zoo.find(str(where))
    return bundle, bundle.network()


def told(bundle: Bundle) -> str:
    """A bundle in a report's words."""
    return f"{bundle.name} {bundle.version}, sha256 {bundle.sha256[:12]}"


def device_in_words(device: Any) -> str:
    """The device, with its threads where it is the processor."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device}, {torch.get_num_threads()} threads"
