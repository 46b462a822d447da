"""Evaluate the bundle of a world model, beside other bundles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cxr3d_training.data import Cohort, open_cohort
from cxr3d_training.evaluation.preflight import (
    KEPT,
    Side,
    cases_of_side,
    device_in_words,
    open_network,
    require_place,
    require_unseen,
    told,
)
from cxr3d_training.evaluation.world_model_plan import WorldModelPlan
from napari_cxr3d.device import resolve_device
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.progress import CancelToken, ProgressCallback

if TYPE_CHECKING:
    from cxr3d_training.data.radiographs import RadiographCase
    from cxr3d_training.evaluation.world_model_report import WorldModelReport
    from napari_cxr3d.models.bundle import Bundle
    from napari_cxr3d.models.orbit_model import OrbitModel
    from napari_cxr3d.models.reconstruction import ReconstructionModel

__all__ = ["RECIPES", "evaluate_world_bundles", "open_world_model", "world_cohort"]

RECIPES = ("xwin", "xray2xray")
"""Whose bundles are world models."""

_SPACING_MM = 6.0
_EXTENT_MM = 384.0


def evaluate_world_bundles(
    bundle: str | Path,
    *,
    recipe: str,
    data: str,
    out: str | Path,
    peers: Mapping[str, str | Path] | None = None,
    train_data: str | None = None,
    radiographs: str | Path | None = None,
    side: Side = "test",
    cases: int | None = None,
    device: str = "auto",
    plan: WorldModelPlan | None = None,
    command: str = "",
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> tuple[WorldModelReport, tuple[Path, Path]]:
    """Measure a world model's bundle beside baselines and other bundles, and write the report.

    Tables that were measured are kept in the folder ``measured`` of `out`, and measured again
    only where weights, voxels, settings or the code behind them have changed.

    Parameters
    ----------
    bundle : str or path-like
        The bundle's path, or the name of a model that is installed.
    recipe : str
        Of `RECIPES`, for the record.
    data : str
        The cases, as `open_cohort` takes them; phantoms are made at 6 mm.
    out : path-like
        Folder of the report.
    peers : mapping of str to (str or path-like), optional
        Other bundles by the names under which they stand in the tables: world models, and those
        that make a CT of an X-ray.
    train_data : str, optional
        Data whose training side must not be among the cases; that of `data` if None.
    radiographs : path-like, optional
        Folder of real X-rays: those of its validation and test sides are compared, which no
        training on that folder sees.
    side : {"test", "validation", "train", "all"}
        The cases.
    cases : int, optional
        The first so many only.
    device : str
        ``"auto"`` or as torch spells it.
    plan : WorldModelPlan, optional
        What is measured; the landmarks held out are those that the bundle's card names.
    command : str
        For the record.
    overwrite : bool
        Whether a report that is there may be replaced.
    progress, cancel : optional
        Told of the work; looked at within it.

    Returns
    -------
    report, files
        The report, and the paths of report.json and report.md.

    Raises
    ------
    InvalidInputError
        If a bundle is no world model, there is no case, or one is of the training side.
    BundleError
        If a bundle is damaged.
    ExportError
        If the report cannot be written.
    """
    import torch

    from cxr3d_training.data.radiographs import open_radiographs
    from cxr3d_training.engine.records import cohort_sha256
    from cxr3d_training.evaluation.world_model import evaluate_world_model

    target = Path(out)
    require_place(target, overwrite=overwrite)
    chosen = torch.device(resolve_device(device))
    opened, model = open_world_model(bundle)
    others = {name: _open_peer(where) for name, where in (peers or {}).items()}
    cohort = world_cohort(data)
    held_out = cases_of_side(cohort, side)[:cases]
    if side != "train":
        require_unseen(held_out, cohort if train_data is None else world_cohort(train_data))
    plan = plan or WorldModelPlan()
    plan = replace(
        plan,
        held_out=plan.held_out or tuple(opened.card.get("landmarks_held_out") or ()),
        keep=plan.keep or target / KEPT,
    )
    real: list[RadiographCase] = []
    if radiographs is not None:
        found = open_radiographs(radiographs)
        real = [*found.split("validation"), *found.split("test")]
    report = evaluate_world_model(
        model,
        held_out,
        radiographs=real,
        device=chosen,
        peers={name: peer for name, (_, peer) in others.items()},
        plan=plan,
        progress=progress,
        cancel=cancel,
    )
    context = {
        "recipe": recipe,
        "model": report.methods[0],
        "bundle": told(opened),
        "checkpoint_sha256": str(opened.card["training"].get("checkpoint_sha256", "")),
        **{f"peer {name}": told(peer) for name, (peer, _) in others.items()},
        "command": command,
        "data": cohort.name,
        "data_sha256": cohort_sha256(cohort),
        "side": side,
        "cases": len(held_out),
        "radiographs": len(real),
        "realistic X-rays": f"developed of the same projections, domain {plan.domain!r}",
        "device": device_in_words(chosen),
    }
    report = replace(report, context=context)
    target.mkdir(parents=True, exist_ok=True)
    return report, report.write(target, overwrite=overwrite)


def open_world_model(where: str | Path) -> tuple[Bundle, OrbitModel]:
    """A bundle and its network.

    Parameters
    ----------
    where : str or path-like
        The bundle's path, or the name of a model that is installed.

    Raises
    ------
    InvalidInputError
        If there is none, or it is no world model.
    BundleError
        If it is damaged.
    """
    from napari_cxr3d.models.orbit_model import OrbitModel

    bundle, network = _open_peer(where)
    if not isinstance(network, OrbitModel):
        raise InvalidInputError(
            f"{bundle.name} does not say what an X-ray shows from elsewhere",
            why=f"it is a {bundle.kind}",
            remedy=f"give a bundle of the recipe {' or '.join(RECIPES)}",
        )
    return bundle, network


def _open_peer(where: str | Path) -> tuple[Bundle, OrbitModel | ReconstructionModel]:
    from napari_cxr3d.models.orbit_model import OrbitModel
    from napari_cxr3d.models.reconstruction import ReconstructionModel

    bundle, network = open_network(where)
    if not isinstance(network, OrbitModel | ReconstructionModel):
        raise InvalidInputError(
            f"{bundle.name} cannot stand beside a world model",
            why=f"it is a {bundle.kind}",
            remedy="give a world model, or a bundle that makes a CT from X-rays",
        )
    return bundle, network


def world_cohort(source: str) -> Cohort:
    """Data for a world model: phantoms are made at 6 mm."""
    spacing = (_SPACING_MM,) * 3
    return open_cohort(source, spacing_mm=spacing, size_mm=(_EXTENT_MM,) * 3)
