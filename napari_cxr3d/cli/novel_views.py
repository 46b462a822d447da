"""``cxr3d novel-views``: what a chest X-ray would show from elsewhere, as a world model expects."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from napari_cxr3d.cli.folders import make_folder, require_folder, write_hu
from napari_cxr3d.cli.options import ReadingOptions, parse_range
from napari_cxr3d.cli.reconstruct_options import FrontalOptions
from napari_cxr3d.cli.states import last_result
from napari_cxr3d.terminal import console
from napari_cxr3d.terminal.command import usage_errors

if TYPE_CHECKING:
    from napari_cxr3d.imaging import Volume
    from napari_cxr3d.inference.novel_views import NovelViewsResult, ViewComparison
    from napari_cxr3d.inference.orbit_volume import OrbitVolumeResult
    from napari_cxr3d.inference.xray_input import XrayInput
    from napari_cxr3d.progress import CancelToken

__all__ = ["novel_views"]

_VIEWS, _TRUE = "predicted-views.nrrd", "true-views.nrrd"
_SHEET, _MOVIE, _REPORT, _PICTURE = "contact-sheet.png", "predicted.gif", "report.json", "predicted"
_VOLUME, _CEILING, _DICOM = "synthetic-ct.nii.gz", "synthetic-ct-ceiling.nii.gz", "dicom"

VolumeMethod = Literal["fdk", "consistency"]
StartName = Literal["air", "coarse"]


@dataclass(frozen=True)
class VolumeOptions:
    """Whether a volume is made of the views, and how."""

    volume: Annotated[
        VolumeMethod | None,
        typer.Option(
            show_default=False,
            help="Make a SYNTHETIC CT of the views too: fdk filters and backprojects them, "
            "consistency solves for the volume that agrees best with them and the X-ray.",
        ),
    ] = None
    start: Annotated[
        StartName,
        typer.Option(
            help="Where consistency begins: at air, or at the first picture of reconstruct-demo."
        ),
    ] = "air"
    dicom: Annotated[
        bool, typer.Option("--dicom", help="Write the volume as a DICOM series too.")
    ] = False


def novel_views(
    frontal: Annotated[
        Path,
        typer.Argument(
            metavar="X-RAY",
            show_default=False,
            help="A PNG, JPEG, TIFF or DICOM chest X-ray; or what cxr3d drr wrote as .npy, .nrrd, "
            ".nii.gz or .mha with its JSON file.",
        ),
    ],
    known: FrontalOptions,
    making: VolumeOptions,
    reading: ReadingOptions,
    out: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER", show_default=False, help="Where to write; made if it is missing."
        ),
    ],
    yaw: Annotated[
        str | None,
        typer.Option(
            metavar="A:B:STEP",
            show_default="all that the model was trained on",
            help="First angle, last angle and step in degrees from the X-ray.",
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(metavar="NAME|PATH", help="A world model of cxr3d models list, or a bundle."),
    ] = "xwin-demo",
    compare: Annotated[
        Path | None,
        typer.Option(
            metavar="CT",
            show_default=False,
            help="The CT that the X-ray was projected from: its true projections, the errors, and "
            "with --volume the same volume of those, which is the ceiling.",
        ),
    ] = None,
    movie: Annotated[bool, typer.Option("--movie", help="Write the turn as a GIF too.")] = False,
    accept: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CODE",
            show_default=False,
            help="Go on in spite of a finding; may be given several times.",
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1, mps; auto takes the fastest.")
    ] = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that are already there.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Predict SYNTHETIC X-rays of a patient from other angles, of one chest X-ray.

    What it makes is what chests usually look like from there, given the picture: never a basis
    for a diagnosis. The paths of the files written are printed, one a line.
    """
    yaws = None if yaw is None else _angles(yaw)
    if making.volume != "consistency" and making.start != "air":
        raise typer.BadParameter("it belongs to --volume consistency.", param_hint="--start")
    if making.volume is None and making.dicom:
        raise typer.BadParameter("it belongs to --volume.", param_hint="--dicom")
    inputs = known.inputs(frontal)
    if len(inputs) != 1:
        raise typer.BadParameter(f"{frontal.name} holds {len(inputs)} views; give one.")
    out = out.expanduser()
    _require_free(out, making, overwrite, [frontal, *([] if compare is None else [compare])])
    ct = None
    if compare is not None:
        from napari_cxr3d.cli.projection import read_volume

        ct = read_volume(compare, reading)
    asked = {"model": model, "yaws": yaws, "accepted": tuple(accept or ())}
    with console.interruptible() as cancel, console.progress_bar("Predicting") as progress:
        made = _run(inputs[0], asked, making, ct, device, cancel, progress)
    for told in made.notes:
        console.note(told)
    paths, report = _write(made, out, making, movie, overwrite)
    if as_json:
        console.result_json({**report, "files": [str(path) for path in paths]})
        return
    for path in paths:
        console.result(str(path))
    console.note(f"SYNTHETIC. {made.sentence}")


@dataclass(frozen=True, eq=False)
class _Made:
    """What a run gives."""

    prediction: NovelViewsResult
    comparison: ViewComparison | None
    volume: OrbitVolumeResult | None

    @property
    def notes(self) -> tuple[str, ...]:
        own = self.prediction.notes if self.volume is None else self.volume.notes
        told = [f"{f.message.rstrip('.')}. {f.remedy}" for f in self.prediction.findings]
        more = () if self.comparison is None else self.comparison.notes
        return tuple(dict.fromkeys((*told, *own, *more)))

    @property
    def sentence(self) -> str:
        count = len(self.prediction.yaws)
        told = f"{count} views were predicted"
        if self.comparison is not None:
            told += f", {float(self.comparison.psnr.mean()):.1f} dB from the true ones in the mean"
        if self.volume is not None and self.volume.figures:
            own, ceiling = (self.volume.figures[f"{w}_psnr3d"] for w in ("volume", "ceiling"))
            told += f"; the volume has {own:.1f} dB, the ceiling of true views {ceiling:.1f} dB"
        return told + "."


def _angles(text: str) -> tuple[float, ...]:
    from napari_cxr3d.imaging import XrayView
    from napari_cxr3d.inference import sweep_views

    with usage_errors("--yaw"):
        return tuple(view.yaw for view in sweep_views(XrayView(), *parse_range(text)))


def _run(
    given: XrayInput,
    asked: dict[str, Any],
    making: VolumeOptions,
    ct: Volume | None,
    device: str,
    cancel: CancelToken,
    progress: Any,
) -> _Made:
    """Predict, make the volume, compare; with a progress bar."""
    from napari_cxr3d.inference.novel_views import NovelViewsRequest, compare_views
    from napari_cxr3d.inference.novel_views import novel_views as predicted
    from napari_cxr3d.inference.orbit_volume import OrbitVolumeRequest, volume_from_orbit
    from napari_cxr3d.inference.world_models import load_world_model

    made = None
    with usage_errors("--yaw"):
        if making.volume is None:
            request = NovelViewsRequest(given, **asked)
        else:
            wanted = OrbitVolumeRequest(
                given, method=making.volume, start=making.start, ceiling_from=ct, **asked
            )
    if making.volume is None:
        prediction = last_result(predicted(request, device=device, cancel=cancel), progress)
    else:
        made = last_result(volume_from_orbit(wanted, device=device, cancel=cancel), progress)
        prediction = made.prediction
    comparison = None
    if ct is not None:
        loaded = load_world_model(asked["model"], device=device)
        comparison = compare_views(prediction, ct, loaded=loaded, cancel=cancel)
    return _Made(prediction, comparison, made)


def _require_free(
    folder: Path, making: VolumeOptions, overwrite: bool, sources: list[Path]
) -> None:
    """Refuse to replace anything unasked, before the work begins."""
    from napari_cxr3d.io.ct_series_export import require_series_folder
    from napari_cxr3d.io.destination import sidecar_path

    arrays = [_VIEWS, _TRUE, _VOLUME, _CEILING]
    names = [_SHEET, _MOVIE, _REPORT, *arrays, *(sidecar_path(Path(n)).name for n in arrays)]
    names += [path.name for path in folder.glob(f"{_PICTURE}_*.png")]
    require_folder(folder, names, overwrite=overwrite, sources=sources)
    if making.dicom and folder.is_dir():
        require_series_folder(folder / _DICOM, overwrite=overwrite)


def _write(
    made: _Made, folder: Path, making: VolumeOptions, movie: bool, overwrite: bool
) -> tuple[list[Path], dict[str, Any]]:
    """Write everything, all or none."""
    from napari_cxr3d.inference.novel_views_report import (
        contact_sheet,
        novel_views_report,
        orbit_volume_report,
        shown,
    )
    from napari_cxr3d.io import write_gif, write_integrals, write_png
    from napari_cxr3d.io.destination import all_or_none, write_json

    prediction, comparison, volume = made.prediction, made.comparison, made.volume
    provenance = prediction.provenance.to_dict()
    labels = [f"SYNTHETIC {yaw:+g}" for yaw in prediction.yaws]
    pictures = shown(prediction.integrals, prediction.white, labels)
    shape = (int(pictures.shape[1]), int(pictures.shape[2]))
    enlarged = [
        replace(v, detector_shape=shape, pixel_mm=v.pixel_mm * v.detector_shape[1] / shape[1])
        for v in prediction.views
    ]
    sheet = contact_sheet(prediction, comparison)
    sheet_view = replace(enlarged[0], detector_shape=(int(sheet.shape[0]), int(sheet.shape[1])))
    report = novel_views_report(prediction, comparison)
    make_folder(folder)
    with console.interruptible() as cancel, all_or_none() as written:
        written += write_integrals(
            prediction.integrals, folder / _VIEWS, views=prediction.views,
            provenance=provenance, overwrite=overwrite,
        )  # fmt: skip
        if comparison is not None:
            written += write_integrals(
                comparison.truth, folder / _TRUE, views=comparison.views, overwrite=overwrite
            )
        written += write_png(
            pictures, folder / f"{_PICTURE}.png" if len(pictures) > 1 else
            folder / f"{_PICTURE}_000.png", views=enlarged, provenance=provenance,
            burn_mark=False, overwrite=overwrite, cancel=cancel,
        )  # fmt: skip
        written += write_png(
            sheet, folder / _SHEET, views=[sheet_view], provenance=provenance, burn_mark=False,
            overwrite=overwrite,
        )  # fmt: skip
        if movie:
            turn = sorted(range(len(pictures)), key=lambda k: prediction.yaws[k])
            frames = pictures[[*turn, *turn[-2:0:-1]]]
            written.append(write_gif(frames, folder / _MOVIE, overwrite=overwrite, cancel=cancel))
        if volume is not None:
            report["volume"] = orbit_volume_report(volume)
            record = volume.provenance.to_dict()
            written += write_hu(volume.volume, folder / _VOLUME, record, overwrite=overwrite)
            if volume.ceiling is not None:
                written += write_hu(
                    volume.ceiling, folder / _CEILING,
                    {**record, "ceiling": "of the CT's true projections"}, overwrite=overwrite,
                )  # fmt: skip
        write_json(folder / _REPORT, report, overwrite=overwrite)
        written.append(folder / _REPORT)
        series = [] if volume is None or not making.dicom else [folder / _DICOM]
        for target in series:
            from napari_cxr3d.io.ct_series_export import write_ct_series

            assert volume is not None
            write_ct_series(
                volume.volume, target, name=f"{provenance['model']} {making.volume}",
                provenance=volume.provenance.to_dict(), overwrite=overwrite, cancel=cancel,
            )  # fmt: skip
    return [*written, *series], report
