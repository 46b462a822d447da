"""Evaluate what a training run made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cxr3d_training.data import Cohort, open_cohort
from cxr3d_training.engine.folder import RunFolder
from cxr3d_training.evaluation.preflight import Side, cases_of_side, require_place, require_unseen
from cxr3d_training.recipes import find, make
from napari_cxr3d.device import resolve_device
from napari_cxr3d.progress import CancelToken, ProgressCallback

if TYPE_CHECKING:
    from napari_cxr3d.metrics import Report

__all__ = ["evaluate_run"]


def evaluate_run(
    run: str | Path,
    *,
    data: str | None = None,
    side: Side = "test",
    out: str | Path | None = None,
    which: Literal["best", "last"] = "best",
    device: str = "auto",
    command: str = "",
    cohort: Cohort | None = None,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> tuple[Report, tuple[Path, Path]]:
    """Measure a run's model beside its baselines, and write the report.

    Parameters
    ----------
    run : path-like
        The run's folder.
    data : str, optional
        Another source than the run's, as `open_cohort` takes it. Patients that the run trained on
        are refused on every side but ``"train"``.
    side : {"test", "validation", "train", "all"}
        The cases.
    out : path-like, optional
        Folder of the report; ``evaluation`` in the run's own if None.
    which : {"best", "last"}
        The checkpoint.
    device : str
        ``"auto"`` or as torch spells it.
    command : str
        For the record.
    cohort : Cohort, optional
        The data, already open.
    overwrite : bool
        Whether a report that is there may be replaced.
    progress, cancel : optional
        Told of every case; looked at between cases.

    Returns
    -------
    report, files
        The report, and the paths of report.json and report.md.

    Raises
    ------
    TrainingError
        If the run has no checkpoint.
    InvalidInputError
        If there is no case on that side, or the model has seen one of them in training.
    ExportError
        If the report cannot be written.
    """
    import torch

    from cxr3d_training.engine.records import cohort_sha256
    from cxr3d_training.engine.state import evaluation_networks

    folder = RunFolder(run)
    saved = folder.read()
    target = folder.path / "evaluation" if out is None else Path(out)
    require_place(target, overwrite=overwrite)
    settings = saved.settings if data is None else {**saved.settings, "data": data}
    recipe = make(saved.recipe, settings)
    checkpoint, state = folder.checkpoint(
        which, higher_is_better=find(saved.recipe).higher_is_better
    )
    chosen = torch.device(resolve_device(device))
    nets = evaluation_networks(recipe, state, chosen)
    opened = cohort if cohort is not None else recipe.cohort()
    cases = cases_of_side(opened, side)
    if data is not None and side != "train":
        require_unseen(cases, open_cohort(saved.settings["data"], **_options(saved.settings)))
    report: Report = recipe.evaluate(nets, cases, chosen, progress=progress, cancel=cancel)
    context = {
        "recipe": saved.recipe,
        "preset": saved.preset,
        "model": report.methods[0],
        "command": command,
        "steps": state["step"],
        "checkpoint_sha256": checkpoint.sha256,
        "data": opened.name,
        "data_sha256": cohort_sha256(opened),
        "side": side,
        "trained_on_sha256": state["data_sha256"],
        "device": str(chosen),
    }
    report = replace(report, context=context)
    target.mkdir(parents=True, exist_ok=True)
    return report, report.write(target, overwrite=overwrite)


def _options(settings: dict[str, Any]) -> dict[str, Any]:
    return dict(settings.get("data_options") or {})
