"""Evaluate a bundle that makes CTs from X-rays, beside other bundles."""

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
from napari_cxr3d.device import resolve_device
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.progress import CancelToken, ProgressCallback

if TYPE_CHECKING:
    from cxr3d_training.evaluation.reconstruct_report import ReconstructionReport
    from cxr3d_training.evaluation.reconstruct_tables import Plan
    from napari_cxr3d.models.bundle import Bundle
    from napari_cxr3d.models.reconstruction import ReconstructionModel

__all__ = ["evaluate_bundles", "open_reconstructor"]


def evaluate_bundles(
    bundle: str | Path,
    *,
    data: str,
    out: str | Path,
    peers: Mapping[str, str | Path] | None = None,
    train_data: str | None = None,
    side: Side = "test",
    cases: int | None = None,
    device: str = "auto",
    plan: Plan | None = None,
    command: str = "",
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> tuple[ReconstructionReport, tuple[Path, Path]]:
    """Measure a bundle beside its baselines and other bundles, and write the report.

    What was measured is kept in the folder ``measured`` of `out`, and measured again only where
    weights, voxels, settings or the code behind a figure have changed.

    Parameters
    ----------
    bundle : str or path-like
        The bundle's path, or the name of a model that is installed.
    data : str
        The cases, as `open_cohort` takes them; phantoms are made on the model's grid.
    out : path-like
        Folder of the report.
    peers : mapping of str to (str or path-like), optional
        Other bundles by the names under which they stand in the tables.
    train_data : str, optional
        Data whose training side gives the mean volume, and whose validation side calibrates the
        uncertainty; that of `data` if None.
    side : {"test", "validation", "train", "all"}
        The cases.
    cases : int, optional
        The first so many only.
    device : str
        ``"auto"`` or as torch spells it.
    plan : Plan, optional
        What is measured.
    command : str
        For the record.
    overwrite : bool
        Whether a report that is there may be replaced.
    progress, cancel : optional
        Told of every case; looked at within every method.

    Returns
    -------
    report, files
        The report, and the paths of report.json and report.md.

    Raises
    ------
    InvalidInputError
        If a bundle makes no CT from X-rays, or there is no case, or one is of the training side.
    BundleError
        If a bundle is damaged.
    ExportError
        If the report cannot be written.
    """
    import torch

    from cxr3d_training.engine.records import cohort_sha256
    from cxr3d_training.evaluation.reconstruct import evaluate_reconstruction
    from cxr3d_training.evaluation.reconstruct_tables import Plan

    target = Path(out)
    require_place(target, overwrite=overwrite)
    chosen = torch.device(resolve_device(device))
    opened, model = open_reconstructor(bundle)
    others = {name: open_reconstructor(where) for name, where in (peers or {}).items()}
    cohort = _cohort(data, model)
    beside = cohort if train_data is None else _cohort(train_data, model)
    held_out = cases_of_side(cohort, side)[:cases]
    if side != "train":
        require_unseen(held_out, beside)
    if not len(beside.split("train")):
        raise InvalidInputError(
            "There is no training case whose mean could be a baseline",
            why=f"the data has {beside!r}",
            remedy="name the data that the model was trained on by --train-data",
        )
    plan = plan or Plan()
    report = evaluate_reconstruction(
        model,
        held_out,
        train_cases=beside.split("train"),
        validation_cases=beside.split("validation"),
        device=chosen,
        peers={name: peer for name, (_, peer) in others.items()},
        plan=plan if plan.keep is not None else replace(plan, keep=target / KEPT),
        progress=progress,
        cancel=cancel,
    )
    context = {
        "recipe": "reconstruct",
        "model": report.methods[0],
        "bundle": told(opened),
        "checkpoint_sha256": str(opened.card["training"].get("checkpoint_sha256", "")),
        **{f"peer {name}": told(peer) for name, (peer, _) in others.items()},
        "command": command,
        "data": cohort.name,
        "data_sha256": cohort_sha256(cohort),
        "side": side,
        "cases": len(held_out),
        "mean_and_calibration_from": beside.name,
        "X-rays": "line integrals of the very volumes that are looked for, by the projector of "
        "the data step (inverse crime)",
        "samples_seed": plan.seed,
        "batch": plan.batch,
        "device": device_in_words(chosen),
    }
    report = replace(report, context=context)
    target.mkdir(parents=True, exist_ok=True)
    return report, report.write(target, overwrite=overwrite)


def open_reconstructor(where: str | Path) -> tuple[Bundle, ReconstructionModel]:
    """A bundle and its network.

    Parameters
    ----------
    where : str or path-like
        The bundle's path, or the name of a model that is installed.

    Raises
    ------
    InvalidInputError
        If there is none, or it makes no CT from X-rays.
    BundleError
        If it is damaged.
    """
    from napari_cxr3d.models.reconstruction import ReconstructionModel

    bundle, network = open_network(where)
    if not isinstance(network, ReconstructionModel):
        raise InvalidInputError(
            f"{bundle.name} makes no CT from X-rays",
            why=f"it is a {bundle.kind}",
            remedy="give a bundle of the recipe reconstruct or xray2ctpa",
        )
    return bundle, network


def _cohort(source: str, model: ReconstructionModel) -> Cohort:
    """The data on the model's spacing; phantoms fill its grid."""
    i, p, ell = (n * s for n, s in zip(model.volume_shape, model.spacing_mm, strict=True))
    return open_cohort(source, spacing_mm=model.spacing_mm, size_mm=(i, p, ell))
