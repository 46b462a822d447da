"""``cxr3d reconstruct``: SYNTHETIC volumes from one chest X-ray or more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_cxr3d.cli.folders import make_folder, require_folder, write_hu
from napari_cxr3d.cli.reconstruct_options import DrawingOptions, FrontalOptions, LateralOptions
from napari_cxr3d.cli.states import last_result
from napari_cxr3d.terminal import console

if TYPE_CHECKING:
    from napari_cxr3d.inference.reconstruct import (
        ReconstructionRequest,
        ReconstructionResult,
        RunEstimate,
    )

__all__ = ["reconstruct"]

_FIRST = "synthetic-ct.nii.gz"
_COARSE, _MEAN, _SD = (f"synthetic-ct-{name}.nii.gz" for name in ("coarse", "mean", "sd"))
_REPROJECTION = "reprojection.png"
_REPORT = "report.json"
_DICOM = "dicom"


def reconstruct(
    frontal: Annotated[
        Path,
        typer.Argument(
            metavar="X-RAY",
            show_default=False,
            help="A PNG, JPEG, TIFF or DICOM chest X-ray; or what cxr3d drr or sweep wrote as "
            ".npy, .nrrd, .nii.gz or .mha with its JSON file.",
        ),
    ],
    known: FrontalOptions,
    further: LateralOptions,
    drawing: DrawingOptions,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            show_default=False,
            help="Where to write; made if it is missing. Needed unless --estimate.",
        ),
    ] = None,
    dicom: Annotated[
        bool, typer.Option("--dicom", help="Write a DICOM series of every sample too.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that are already there.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report, or the estimate, as JSON.")
    ] = False,
    estimate_only: Annotated[
        bool, typer.Option("--estimate", help="Tell memory and time that a run takes; run nothing.")
    ] = False,
) -> None:
    """Draw SYNTHETIC CT volumes that agree with a chest X-ray.

    What it makes is a guess that agrees with the picture, not a CT: never a basis for a
    diagnosis. The paths of the files written are printed, one a line.
    """
    if out is None and not estimate_only:
        raise typer.BadParameter("it is needed.", param_hint="--out")
    inputs = (*known.inputs(frontal), *further.inputs())
    request = drawing.request(inputs)
    if estimate_only:
        _print_estimate(request, drawing.device, as_json)
        return
    assert out is not None
    out = out.expanduser()
    _require_free(out, request, dicom, overwrite)
    result = _run(request, drawing.device)
    from napari_cxr3d.inference.reconstruct_report import reconstruction_report

    report = reconstruction_report(result)
    paths = _write(result, report, out, dicom, overwrite)
    if as_json:
        console.result_json({**report, "files": [str(path) for path in paths]})
        return
    for path in paths:
        console.result(str(path))
    error = result.reprojection.relative_error
    console.note(f"SYNTHETIC. The first sample re-projects with an error of {100 * error:.2g}%.")


def _run(request: ReconstructionRequest, device: str) -> ReconstructionResult:
    """Carry the request out with a progress bar, and tell what is unusual."""
    from napari_cxr3d.inference.reconstruct import reconstruct as states

    with console.interruptible() as cancel, console.progress_bar("Reconstructing") as progress:
        result: ReconstructionResult | None = last_result(
            states(request, device=device, cancel=cancel), progress
        )
    assert result is not None  # the last state has it
    for finding in result.findings:
        accepted = " (accepted)" if finding.severity == "wrong" else ""
        console.note(f"{finding.message.rstrip('.')}{accepted}. {finding.remedy}")
    for told in result.prepared.notes:
        console.note(told)
    return result


def _print_estimate(request: ReconstructionRequest, device: str, as_json: bool) -> None:
    from dataclasses import asdict

    from napari_cxr3d.inference.reconstruct import estimate

    told = estimate(request, device=device)
    if as_json:
        console.result_json(asdict(told))
        return
    console.result(_estimate_text(told))


def _estimate_text(told: RunEstimate) -> str:
    rows = [
        ("memory", f"{told.bytes / 1e6:.0f} MB of {told.free_bytes / 1e6:.0f} MB that are free"),
        ("time", f"about {max(told.seconds, 0.1):.1f} s, {told.evaluations} evaluations"),
        *(("advice", line) for line in told.advice),
    ]
    return console.table(rows, indent="")


def _sample_names(seeds: Sequence[int]) -> list[str]:
    """File names of the samples, the first without its seed."""
    return [_FIRST, *(f"synthetic-ct-seed-{seed}.nii.gz" for seed in seeds[1:])]


def _series_names(seeds: Sequence[int]) -> list[str]:
    return [_DICOM if len(seeds) == 1 else f"{_DICOM}-seed-{seed}" for seed in seeds]


def _require_free(
    folder: Path, request: ReconstructionRequest, dicom: bool, overwrite: bool
) -> None:
    """Refuse to replace anything unasked, before the work begins."""
    from napari_cxr3d.io.ct_series_export import require_series_folder
    from napari_cxr3d.io.destination import sidecar_path
    from napari_cxr3d.io.image_stack import numbered

    volumes = [folder / name for name in (*_sample_names(request.seeds), _COARSE)]
    if request.samples > 1:
        volumes += [folder / _MEAN, folder / _SD]
    files = [*volumes, *(sidecar_path(path) for path in volumes), folder / _REPORT]
    files += numbered(folder / _REPROJECTION, len(request.inputs))
    sources = [
        x.radiograph.source.path
        for x in request.inputs
        if x.radiograph.source is not None and x.radiograph.source.path is not None
    ]
    names = [path.name for path in files]
    require_folder(folder, names, overwrite=overwrite, sources=sources)
    if not folder.exists():
        return
    for name in _series_names(request.seeds) if dicom else ():
        require_series_folder(folder / name, overwrite=overwrite)


def _write(
    result: ReconstructionResult,
    report: dict[str, Any],
    folder: Path,
    dicom: bool,
    overwrite: bool,
) -> list[Path]:
    """Write everything, all or none."""
    from napari_cxr3d.inference.reconstruct_report import reprojection_pictures
    from napari_cxr3d.io import write_png
    from napari_cxr3d.io.ct_series_export import write_ct_series
    from napari_cxr3d.io.destination import all_or_none, write_json

    make_folder(folder)
    provenance = result.provenance.to_dict()
    named = list(zip(_sample_names(result.seeds), result.samples, strict=True))
    extra = ((_COARSE, result.coarse), (_MEAN, result.mean), (_SD, result.std))
    named += [(name, volume) for name, volume in extra if volume is not None]
    with console.interruptible() as cancel, all_or_none() as written:
        for name, volume in named:
            written += write_hu(volume, folder / name, provenance, overwrite=overwrite)
        pictures, views = reprojection_pictures(result)
        written += write_png(
            pictures, folder / _REPROJECTION, views=views, provenance=provenance,
            overwrite=overwrite, cancel=cancel,
        )  # fmt: skip
        write_json(folder / _REPORT, report, overwrite=overwrite)
        written.append(folder / _REPORT)
        series = []
        if dicom:
            pairs = zip(_series_names(result.seeds), result.seeds, result.samples, strict=True)
            for name, seed, volume in pairs:
                target = folder / name
                write_ct_series(
                    volume, target, name=f"{provenance['model']} seed {seed}",
                    provenance=provenance, overwrite=overwrite, cancel=cancel,
                )  # fmt: skip
                series.append(target)
    return [*written, *series]
