"""From a training run to a bundle of weights that says how it was made."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from cxr3d_training.engine.folder import RunFolder
from cxr3d_training.engine.runlog import read_log
from cxr3d_training.engine.settings import differences, digest, preset_names, read_preset, to_plain
from cxr3d_training.recipes import find, make
from napari_cxr3d.errors import InvalidInputError, UnreadableFileError

__all__ = ["export_run"]

OPEN_LICENCE = "BSD-3-Clause"


def export_run(
    run: str | Path,
    out: str | Path,
    *,
    name: str | None = None,
    version: str = "1.0.0",
    licence: str | None = None,
    which: Literal["best", "last"] = "best",
    dtype: Literal["bfloat16", "float32"] = "bfloat16",
    report: str | Path | None = None,
    overwrite: bool = False,
    notify: Callable[[str], None] | None = None,
) -> Path:
    """Write a run's averaged weights and their card.

    No path of this computer goes into the bundle: data is named as its cohort names itself.

    Parameters
    ----------
    run : path-like
        The run's folder.
    out : path-like
        The bundle: a folder to be made, or a ``.zip``.
    name : str, optional
        Of the bundle; recipe and preset if None.
    version : str
        Of the bundle.
    licence : str, optional
        Of the weights. BSD-3-Clause if None, where no patient's data was used.
    which : {"best", "last"}
        The checkpoint.
    dtype : {"bfloat16", "float32"}
        Number format of the weights.
    report : path-like, optional
        A ``report.json`` of this very checkpoint, such as one that was measured on its bundle; that
        of the run's own folder if None.
    overwrite : bool
        Whether a bundle that is there may be replaced.
    notify : callable, optional
        Told what is missing from the card.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    TrainingError
        If the run has no checkpoint.
    InvalidInputError
        If patients' data was used and no licence is given, or the report is of other weights.
    UnreadableFileError
        If there is no report where it should be.
    ExportError
        If the bundle cannot be written.
    """
    import torch

    from cxr3d_training.engine.state import evaluation_networks
    from napari_cxr3d.models.bundle import write_bundle

    folder = RunFolder(run)
    saved, provenance = folder.read(), folder.read_provenance()
    synthetic = bool(provenance.get("synthetic", False))
    data = provenance.get("data", {})
    if licence is None and not synthetic:
        raise InvalidInputError(
            "The weights need a licence",
            why=f"they learned from patients' data (its licences: "
            f"{', '.join(data.get('licences', [])) or 'not stated'})",
            remedy="say by --licence under which one they may be used",
        )
    recipe = make(saved.recipe, saved.settings)
    settings = _without_folders(saved.settings, recipe.paths)
    checkpoint, state = folder.checkpoint(
        which, higher_is_better=find(saved.recipe).higher_is_better
    )
    parts = recipe.bundle(evaluation_networks(recipe, state, torch.device("cpu")))
    evaluation = _evaluation(folder, checkpoint.sha256, report)
    if evaluation is None and notify is not None:
        notify("The card has no metrics: cxr3d-train evaluate has not measured this checkpoint.")
    limits = str(parts.card.get("limits", ""))
    if synthetic:
        limits += "; it learned from phantoms alone"
    card = {
        **parts.card,
        "name": name or _slug(f"{saved.recipe}-{saved.preset}"),
        "version": version,
        "licence": licence or OPEN_LICENCE,
        "limits": limits,
        "synthetic_training": synthetic,
        "preprocessing": {**parts.card["preprocessing"], **_spacing(data)},
        "training": {
            "command": _command(saved.recipe, saved.preset, settings, data),
            "seed": saved.settings["run"]["seed"],
            "data": {**data, "sha256": state["data_sha256"]},
            "settings_sha256": digest(to_plain(recipe.config)),
            "steps": state["step"],
            "planned_steps": saved.settings["run"]["steps"],
            "checkpoint_sha256": checkpoint.sha256,
            "weights": "exponential moving average" if recipe.averages else "as trained",
            "validation": dict(state["figures"]),
            "versions": provenance.get("versions", {}),
            "seconds": round(sum(s["seconds"] for s in provenance.get("sessions", [])), 1),
        },
        "metrics": _metrics(evaluation),
    }
    if evaluation is not None and evaluation.get("uncertainty"):
        card["uncertainty"] = evaluation["uncertainty"]
    attachments = {
        "training-log.json": json.dumps(read_log(folder.log)),
        "training-settings.json": json.dumps({**settings, "data": data.get("name", "")}, indent=2),
    }
    if evaluation is not None:
        shown = {**evaluation, "context": {**evaluation["context"], "command": ""}}
        attachments["evaluation.json"] = json.dumps(shown, indent=2)
    return write_bundle(
        out,
        network=parts.network,
        state=parts.state,
        card=card,
        dtype=dtype,
        attachments=attachments,
        overwrite=overwrite,
    )


def _command(recipe: str, preset: str, settings: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """The command that trains the same, with the data by its cohort's name."""
    words = ["cxr3d-train", "fit", recipe]
    base: Mapping[str, Any] = {}
    if preset in preset_names(recipe):
        words += ["--preset", preset]
        base = to_plain(make(recipe, read_preset(recipe, preset)).config)
    differ = {key: new for key, (_, new) in differences(base, settings).items()}
    # A mapping that became a number differs in its keys too: the number says it all.
    changed = {k: v for k, v in differ.items() if not any(k.startswith(f"{p}.") for p in differ)}
    changed["data"] = data.get("name", "")
    return shlex.join([*words, *(f"{k}={_value(v)}" for k, v in sorted(changed.items()))])


def _without_folders(settings: Mapping[str, Any], paths: Sequence[str]) -> dict[str, Any]:
    """Settings in which files are named without the folders of this computer."""
    named = {key: Path(settings[key]).name for key in paths if settings.get(key)}
    return {**settings, **named}


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _evaluation(
    folder: RunFolder, checkpoint_sha256: str, report: str | Path | None
) -> dict[str, Any] | None:
    """The report of this very checkpoint: the named one, or the run's own if there is one."""
    path = folder.path / "evaluation" / "report.json" if report is None else Path(report)
    if not path.is_file():
        if report is None:
            return None
        raise UnreadableFileError("There is no such report", path=path)
    record = json.loads(path.read_text(encoding="utf-8"))
    if record["context"].get("checkpoint_sha256") == checkpoint_sha256:
        return dict(record)
    if report is None:
        return None
    raise InvalidInputError(
        "The report is of other weights",
        why=f"it does not name the checkpoint {checkpoint_sha256[:12]}",
        remedy="evaluate this run, or a bundle of it",
    )


def _metrics(evaluation: Mapping[str, Any] | None) -> dict[str, Any]:
    """The model's own numbers in a report, as a card states them."""
    if evaluation is None:
        return {}
    method = evaluation["context"]["model"]
    summary = evaluation["summary"][method]
    told = evaluation["metrics"]
    where = f"{evaluation['context']['data']}, side {evaluation['context']['side']}"
    return {
        name: {
            "value": entry["mean"],
            "interval": entry["interval"],
            "patients": entry["patients"],
            "unit": told[name]["unit"],
            "convention": f"{told[name]['convention']}; of {method} on {where}",
        }
        for name, entry in summary.items()
        if isinstance(entry["mean"], float)
    }


def _spacing(data: Mapping[str, Any]) -> dict[str, Any]:
    return {"spacing_mm": data["spacing_mm"]} if data.get("spacing_mm") else {}


def _slug(text: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in text.lower()).strip("-")
