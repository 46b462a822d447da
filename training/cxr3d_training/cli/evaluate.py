"""``cxr3d-train evaluate``: measure a trained model on held-out patients."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cxr3d_training.cli.options import CheckpointName, DeviceName, command_line
from napari_cxr3d.terminal import console
from napari_cxr3d.terminal.command import usage_errors

if TYPE_CHECKING:
    from napari_cxr3d.metrics import Report

__all__ = ["evaluate"]

Side = Literal["test", "validation", "train", "all"]

_OF_BUNDLES = "reconstruct"  # the recipes whose bundles can be measured without their runs
_WORLD_MODELS = ("xwin", "xray2xray")
_SWEEP = "sweep.json"


@dataclass(frozen=True)
class BundleOptions:
    """A bundle in place of a run, what it is compared with, and how much is measured."""

    bundle: Annotated[
        str | None,
        typer.Option(
            metavar="BUNDLE",
            show_default=False,
            help="Measure this bundle, or the installed model of this name, in place of a run.",
        ),
    ] = None
    peer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=BUNDLE",
            show_default=False,
            help="Another bundle to measure beside it; can be given several times.",
        ),
    ] = None
    train_data: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            show_default="that of --data",
            help="Data whose training side gives the mean volume and whose validation side "
            "calibrates the uncertainty.",
        ),
    ] = None
    tables: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            show_default="all",
            help="Tables beside the main one: steps, samples, peers, pictures; of world models "
            "retrieval, views, landmarks, tracking, domains, volumes; or none.",
        ),
    ] = None
    cases: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, show_default="all", help="Measure the first N cases."),
    ] = None
    few: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, show_default="8; 16 with pictures",
            help="Cases of every table but the main one, and of the calibration; of world models "
            "those of tracking, volumes and clicks.",
        ),
    ] = None  # fmt: skip
    batch: Annotated[
        int, typer.Option(metavar="N", min=1, help="Volumes at a time; 1 times each by itself.")
    ] = 1

    radiographs: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            show_default=False,
            help="World models: real chest X-rays to compare domains by; those that a training on "
            "this folder would not see.",
        ),
    ] = None

    @property
    def given(self) -> bool:
        """Whether the user named anything that belongs to bundles."""
        return self != BundleOptions(bundle=self.bundle)

    def settings(self, recipe: str, data: str | None, out: Path | None) -> dict[str, Any]:
        """What `evaluate_bundles` is to do.

        Raises
        ------
        typer.BadParameter
            If an option is missing or cannot be used.
        """
        if recipe != _OF_BUNDLES and recipe not in _WORLD_MODELS:
            known = ", ".join((_OF_BUNDLES, *_WORLD_MODELS))
            raise typer.BadParameter(
                f"bundles are measured of the recipes {known}, not of {recipe!r}.",
                param_hint="RUN",
            )
        if data is None or out is None:
            raise typer.BadParameter(
                "a bundle's evaluation needs both.", param_hint="--data / --out"
            )
        pairs = [text.partition("=") for text in self.peer or ()]
        if not all(name and where for name, _, where in pairs):
            raise typer.BadParameter("give NAME=BUNDLE.", param_hint="--peer")

        common = {
            "data": data,
            "out": out,
            "peers": {name: where for name, _, where in pairs},
            "train_data": self.train_data,
            "cases": self.cases,
        }
        if recipe in _WORLD_MODELS:
            if self.batch != 1:
                raise typer.BadParameter("it belongs to reconstruct.", param_hint="--batch")
            return common | {
                "recipe": recipe, "radiographs": self.radiographs, "plan": self._world_plan()
            }  # fmt: skip
        if self.radiographs is not None:
            raise typer.BadParameter("it belongs to world models.", param_hint="--radiographs")

        from cxr3d_training.evaluation.reconstruct_tables import Plan

        changes: dict[str, Any] = {"batch": self.batch, **self._named_tables("main")}
        if self.few is not None:
            names = (
                "step_cases", "sample_cases", "peer_cases", "picture_cases", "calibration_cases"
            )  # fmt: skip
            changes |= dict.fromkeys(names, self.few)
        with usage_errors("--tables"):
            return common | {"plan": Plan(**changes)}

    def _world_plan(self) -> Any:
        from cxr3d_training.evaluation.world_model_plan import WorldModelPlan

        changes = self._named_tables("latents")
        if self.few is not None:
            names = ("track_cases", "volume_cases", "self_match_cases")
            changes |= dict.fromkeys(names, self.few)
        with usage_errors("--tables"):
            return WorldModelPlan(**changes)

    def _named_tables(self, main: str) -> dict[str, Any]:
        """The tables that were asked for, the main one always."""
        if self.tables is None:
            return {}
        words = () if self.tables == "none" else tuple(self.tables.split(","))
        return {"tables": (main, *words)}


def evaluate(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            show_default=False,
            help="The folder of a training run, or of a sweep; with --bundle the recipe: "
            "reconstruct, xwin, xray2xray.",
        ),
    ],
    of_bundle: BundleOptions,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            show_default="the run's own",
            help="Other data: a prepared dataset, a folder of CTs, phantom:N.",
        ),
    ] = None,
    split: Annotated[Side, typer.Option(help="Which side of the split of patients.")] = "test",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            show_default="RUN/evaluation",
            help="Where report.json and report.md go.",
        ),
    ] = None,
    checkpoint: CheckpointName = "best",
    device: DeviceName = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace reports that are already there.")
    ] = False,
) -> None:
    """Measure a run's model, or a bundle, beside its baselines, patient by patient.

    The report is printed as Markdown, with the convention of every number and a bootstrap
    interval over patients, and written as report.json and report.md. A bundle's evaluation that
    was stopped goes on where it was when the same command is given again. Of the folder of a
    sweep the figures of all its runs are printed as one table.
    """
    if of_bundle.bundle is None and of_bundle.given:
        raise typer.BadParameter(
            "--peer, --train-data, --tables, --cases, --few, --batch and --radiographs belong to "
            "it.",
            param_hint="--bundle",
        )
    if of_bundle.bundle is None and (Path(run) / _SWEEP).is_file():
        from cxr3d_training.evaluation.ablation import ablation_table

        console.result(ablation_table(run))
        return
    shared: dict[str, Any] = {
        "side": split,
        "device": device,
        "command": command_line(),
        "overwrite": overwrite,
    }
    if of_bundle.bundle is not None:
        shared |= of_bundle.settings(run, data, out)
    with console.interruptible() as cancel, console.progress_bar("Evaluating") as progress:
        report: Report
        if of_bundle.bundle is None:
            from cxr3d_training.evaluation.run import evaluate_run

            report, files = evaluate_run(
                run, data=data, out=out, which=checkpoint, **shared,
                progress=progress, cancel=cancel,
            )  # fmt: skip
        elif run in _WORLD_MODELS:
            from cxr3d_training.evaluation.world_model_bundles import evaluate_world_bundles

            report, files = evaluate_world_bundles(
                of_bundle.bundle, **shared, progress=progress, cancel=cancel
            )
        else:
            from cxr3d_training.evaluation.reconstruct_bundles import evaluate_bundles

            report, files = evaluate_bundles(
                of_bundle.bundle, **shared, progress=progress, cancel=cancel
            )
    if as_json:
        console.result_json(report.to_dict())
    else:
        console.result(report.to_markdown().rstrip())
    console.note(f"Written: {', '.join(map(str, files))}")
