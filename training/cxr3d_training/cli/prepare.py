"""``cxr3d-train prepare`` and ``verify``: CTs or phantoms become a dataset on disk."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_cxr3d.terminal import console
from napari_cxr3d.terminal.command import FAILURE, usage_errors

if TYPE_CHECKING:
    from cxr3d_training.data.conditioning import Conditioning
    from cxr3d_training.data.identity import Identities
    from cxr3d_training.data.manifest import SplitSettings
    from cxr3d_training.data.prepare import Summary
    from cxr3d_training.data.runners import Runner
    from cxr3d_training.data.sources import Passed

__all__ = ["prepare", "verify"]

_MOST_WORKERS = 4  # by default: each holds a whole CT in memory


@dataclass(frozen=True)
class ConditioningOptions:
    """What is done to every case."""

    spacing_mm: Annotated[
        str, typer.Option(metavar="MM|I,P,L", help="Voxel spacing of the dataset.")
    ] = "2"
    hu_range: Annotated[
        str, typer.Option("--hu-range", metavar="LOW,HIGH", help="HU beyond are clipped to it.")
    ] = "-1024,3071"
    crop_margin_mm: Annotated[
        float | None,
        typer.Option(
            metavar="MM",
            show_default="the whole field",
            help="Crop to the body's box with this margin.",
        ),
    ] = None
    remove_table: Annotated[
        bool, typer.Option("--remove-table", help="Put air in place of all that is no patient.")
    ] = False
    min_length_mm: Annotated[
        float, typer.Option(metavar="MM", help="Pass over CTs shorter than this along the patient.")
    ] = 100.0
    phantom_size_mm: Annotated[
        str, typer.Option(metavar="I,P,L", help="Extent of phantoms in mm.")
    ] = "340,260,340"

    def conditioning(self) -> Conditioning:
        """The settings.

        Raises
        ------
        typer.BadParameter
            If one cannot be used.
        """
        from cxr3d_training.data.conditioning import Conditioning

        spacing = _numbers(self.spacing_mm, "--spacing-mm", (1, 3))
        low, high = _numbers(self.hu_range, "--hu-range", (2,))
        i, p, ell = spacing * 3 if len(spacing) == 1 else spacing
        with usage_errors():
            return Conditioning(
                spacing_mm=(i, p, ell),
                hu_range=(round(low), round(high)),
                crop_margin_mm=self.crop_margin_mm,
                remove_table=self.remove_table,
                least_length_mm=self.min_length_mm,
            )

    def size_mm(self) -> tuple[float, float, float]:
        """Extent of phantoms."""
        i, p, ell = _numbers(self.phantom_size_mm, "--phantom-size-mm", (3,))
        return (i, p, ell)


@dataclass(frozen=True)
class PatientOptions:
    """Who the scans are of, and on which side they go."""

    table: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help="CSV with the columns path, patient, split, licence, report; all others are "
            "labels.",
        ),
    ] = None
    split: Annotated[
        str,
        typer.Option(metavar="TRAIN,VALIDATION,TEST", help="Shares of the patients."),
    ] = "0.8,0.1,0.1"
    split_seed: Annotated[int, typer.Option(metavar="N", help="Another seed, another split.")] = 0
    stratify: Annotated[
        str,
        typer.Option(
            metavar="LABEL", show_default=False, help="Label to spread alike over the sides."
        ),
    ] = ""
    licence: Annotated[
        str,
        typer.Option(
            metavar="TEXT",
            show_default=False,
            help="Licence of all sources without one of their own.",
        ),
    ] = ""
    secret: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            show_default="one in your data folder",
            help="Secret that patients are hashed with; made if it is not there. Keep it: the same "
            "secret gives the same patient the same id.",
        ),
    ] = None
    public: Annotated[
        bool,
        typer.Option(
            "--public", help="The scans are public: hash without a secret, the same everywhere."
        ),
    ] = False

    def split_settings(self) -> SplitSettings:
        """How patients are split.

        Raises
        ------
        typer.BadParameter
            If the shares cannot be used.
        """
        from cxr3d_training.data.manifest import SplitSettings

        train, validation, test = _numbers(self.split, "--split", (3,))
        fractions = {"train": train, "validation": validation, "test": test}
        with usage_errors("--split"):
            return SplitSettings(fractions, self.split_seed, self.stratify)  # type: ignore[arg-type]

    def identities(self) -> Identities:
        """The secret.

        Raises
        ------
        typer.BadParameter
            If a secret is given for public scans.
        """
        from cxr3d_training.data.identity import PUBLIC, user_identities

        if self.public:
            if self.secret is not None:
                raise typer.BadParameter(
                    "public scans are hashed without a secret.", param_hint="--secret / --public"
                )
            return PUBLIC
        return user_identities(self.secret)


@dataclass(frozen=True)
class WorkOptions:
    """Where the work is done, and what is consented to."""

    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            show_default=f"the processors, {_MOST_WORKERS} at most",
            help="Processes on this machine; 0 works in the command's own.",
        ),
    ] = None
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            show_default=False,
            help="Work on a dask.distributed cluster that sees sources and dataset.",
        ),
    ] = None
    allow_gaps: Annotated[
        bool, typer.Option("--allow-gaps", help="Consent to interpolating missing slices.")
    ] = False
    allow_resampling: Annotated[
        bool,
        typer.Option(
            "--allow-resampling/--no-allow-resampling",
            help="Read oblique or gantry-tilted series, which takes one more interpolation.",
        ),
    ] = True

    def runner(self) -> Runner:
        """Where the work is done.

        Raises
        ------
        typer.BadParameter
            If both processes and a cluster are asked for.
        """
        from cxr3d_training.data.runners import here, in_processes, on_cluster

        if self.scheduler is not None:
            if self.workers is not None:
                raise typer.BadParameter(
                    "give either processes of this machine or a cluster.",
                    param_hint="--workers / --scheduler",
                )
            return on_cluster(self.scheduler)
        count = min(os.cpu_count() or 1, _MOST_WORKERS) if self.workers is None else self.workers
        return here if count == 0 else in_processes(count)


def prepare(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            show_default=False,
            help="A folder of CTs (searched with its subfolders), a volume file, a list (.txt, "
            ".csv), or phantom:N for N phantoms (phantom:N:S for those of stream S, "
            "phantom:N:S:random with findings).",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="FOLDER", show_default=False, help="The dataset's folder."),
    ],
    conditioning: ConditioningOptions,
    patients: PatientOptions,
    work: WorkOptions,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make a dataset to train on from CTs or phantoms, or go on making it.

    A run that was stopped, or killed, is continued by the same command: nothing is lost or
    doubled. Sources that cannot be read are told and passed over; only when there is no case at
    all does the command fail. The manifest's path is printed.
    """
    from cxr3d_training.data.prepare import prepare as run

    settings, split = conditioning.conditioning(), patients.split_settings()
    size_mm, runner = conditioning.size_mm(), work.runner()
    with usage_errors():
        identities = patients.identities()
    with console.interruptible() as cancel, console.progress_bar("Preparing") as progress:
        summary = run(
            source,
            out,
            settings=settings,
            split=split,
            identities=identities,
            table=patients.table,
            licence=patients.licence,
            size_mm=size_mm,
            allow_gaps=work.allow_gaps,
            allow_resampling=work.allow_resampling,
            runner=runner,
            progress=progress,
            cancel=cancel,
            tell=_tell,
        )
    _say(summary)
    if as_json:
        console.result_json(_record(summary))
    else:
        console.result(str(summary.manifest))
    if not sum(summary.cases.values()):
        console.error("Nothing could be read, so the dataset is empty.")
        raise typer.Exit(FAILURE)


def verify(
    dataset: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", show_default=False, help="A prepared dataset."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Hash every case of a dataset again and compare it with the manifest.

    Fails when a case is missing, damaged or changed, or when a patient is on two sides.
    """
    from cxr3d_training.data.verify import verify as check

    with console.interruptible() as cancel, console.progress_bar("Verifying") as progress:
        report = check(dataset, progress=progress, cancel=cancel)
    for fault in report.faults:
        console.error(fault)
    if as_json:
        console.result_json(
            {"cases": report.cases, "unlisted": report.unlisted, "faults": list(report.faults)}
        )
    elif not report.faults:
        console.result(f"{report.cases} cases are whole and as the manifest says.")
    if report.unlisted:
        console.note(f"{report.unlisted} cases on disk are not in the manifest.")
    if report.faults:
        raise typer.Exit(FAILURE)


def _numbers(text: str, option: str, counts: tuple[int, ...]) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in counts:
        wanted = " or ".join(map(str, counts))
        raise typer.BadParameter(
            f"{text!r} is not {wanted} number(s) with commas between.", param_hint=option
        )
    return numbers


def _tell(passed: Passed) -> None:
    if passed.broken:
        console.note(f"Passed over {passed.path}: {passed.reason}.")


def _say(summary: Summary) -> None:
    """What a user should know, one sentence each."""
    sides = ", ".join(f"{count} {side}" for side, count in summary.cases.items())
    console.note(f"{summary.made} cases made, {summary.kept} were there already: {sides}.")
    for count, text in (
        (summary.same, "sources hold the same voxels as another and were not stored again"),
        (summary.broken, "sources could not be used; manifest.json tells why"),
        (summary.other, "series are no CT (scout views, other modalities)"),
        (summary.rows_unused, "rows of the table name no source that was found"),
        (summary.unlisted, "cases on disk belong to no source any more and are not listed"),
    ):
        if count:
            console.note(f"{count} {text}.")


def _record(summary: Summary) -> dict[str, object]:
    return {
        "manifest": str(summary.manifest),
        "cases": dict(summary.cases),
        "made": summary.made,
        "kept": summary.kept,
        "same": summary.same,
        "broken": summary.broken,
        "other": summary.other,
    }
