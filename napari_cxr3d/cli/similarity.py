"""``cxr3d similarity``: where one picture shows what was pointed at on another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from napari_cxr3d.cli.reconstruct_options import FrontalOptions
from napari_cxr3d.terminal import console
from napari_cxr3d.terminal.command import usage_errors

if TYPE_CHECKING:
    from napari_cxr3d.inference.similarity import PatchFeatures
    from napari_cxr3d.inference.world_models import LoadedWorldModel
    from napari_cxr3d.inference.xray_input import XrayInput

__all__ = ["similarity"]

_SUFFIXES = (".png", ".npy", ".csv")
ProjectionName = Literal["pa", "ap", "lateral-left", "lateral-right", "as-given"]
Point = tuple[float, float]


@dataclass(frozen=True)
class PictureOptions:
    """What the user knows of the two pictures; what is not given is read or guessed."""

    projection_a: Annotated[
        ProjectionName | None,
        typer.Option(show_default="read or guessed", help="How the rays went in A."),
    ] = None
    projection_b: Annotated[
        ProjectionName | None,
        typer.Option(show_default="read or guessed", help="How the rays went in B."),
    ] = None
    same_ct: Annotated[
        bool,
        typer.Option(
            "--same-ct",
            help="Both were projected from one CT: the match is held to where the point's ray "
            "can be seen.",
        ),
    ] = False


def similarity(
    a: Annotated[
        Path,
        typer.Argument(
            metavar="A",
            show_default=False,
            help="A PNG, JPEG, TIFF or DICOM chest X-ray, or what cxr3d drr wrote.",
        ),
    ],
    b: Annotated[
        Path,
        typer.Argument(
            metavar="B",
            show_default=False,
            help="The other one; or a sweep as an array with its JSON file: the point is then "
            "followed through it.",
        ),
    ],
    pictures: PictureOptions,
    point: Annotated[
        list[str],
        typer.Option(
            metavar="ROW,COL",
            show_default=False,
            help="A pixel of A as it is stored, counted from 0; may be given several times.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help=f"Where to write: {', '.join(_SUFFIXES)}; a followed point as .csv alone. "
            "Needed unless --json.",
        ),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT", show_default=False, help="Of the landmarks, in the order of --point."
        ),
    ] = None,
    reverse: Annotated[
        bool, typer.Option("--reverse", help="The points lie on B, the maps on A.")
    ] = False,
    truth: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y,Z",
            show_default=False,
            help="Where the landmark lies in the CT of a sweep, LPS mm: for its errors.",
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(metavar="NAME|PATH", help="A world model of cxr3d models list, or a bundle."),
    ] = "xwin-demo",
    device: Annotated[
        str, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1, mps; auto takes the fastest.")
    ] = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that is already there.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the matches as JSON.")] = False,
) -> None:
    """Find on one picture what is pointed at on another.

    The place of the best match is printed, its cosine, and whether it is found back. A match is
    a likeness that a model sees: research use only.
    """
    points = [_parse_pixel(text) for text in point]
    if len(name or ()) > len(points):
        raise typer.BadParameter("there are more names than points.", param_hint="--name")
    _check_out(out, as_json, overwrite, (a, b))
    with usage_errors("--model"):
        loaded = _loaded(model, device)
    first = FrontalOptions(projection=pictures.projection_a).inputs(a)
    second = FrontalOptions(projection=pictures.projection_b).inputs(b)
    if reverse:
        a, b, first, second = b, a, second, first
    if len(first) > 1:
        raise typer.BadParameter(f"{a.name} holds {len(first)} views; point at one.")
    if len(second) > 1:
        if out is not None and out.suffix.lower() != ".csv":
            raise typer.BadParameter("a followed point is written as .csv.", param_hint="--out")
        if len(points) > 1:
            raise typer.BadParameter("one point is followed at a time.", param_hint="--point")
        place = None if truth is None else _parse_place(truth)
        _follow(first[0], second, points[0], loaded, place, out, overwrite, as_json)
        return
    if truth is not None:
        raise typer.BadParameter("it belongs to a sweep.", param_hint="--truth")
    _match(
        (a, first[0]), (b, second[0]), points, name or [], loaded, pictures.same_ct, out, overwrite,
        as_json,
    )  # fmt: skip


def _match(
    query: tuple[Path, XrayInput],
    target: tuple[Path, XrayInput],
    points: Sequence[Point],
    names: Sequence[str],
    loaded: LoadedWorldModel,
    same_ct: bool,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Match points of one picture on another, and write and tell what was found."""
    from napari_cxr3d.inference.similarity import band_between
    from napari_cxr3d.inference.similarity_report import (
        match_landmarks,
        similarity_record,
        write_similarity,
    )

    (left,), (right,) = _features([query[1]], loaded), _features([target[1]], loaded)
    with usage_errors("--point"):
        bands = None
        if same_ct:
            bands = [band_between(left.picture, p, right.picture) for p in points]
        matches = match_landmarks(left, points, right, names=names, bands=bands)
    paths: tuple[Path, ...] = ()
    if out is not None:
        paths = write_similarity(
            out, matches, (left, query[1].radiograph), (right, target[1].radiograph),
            overwrite=overwrite, sources=(query[0], target[0]),
        )  # fmt: skip
    if as_json:
        record = similarity_record(matches, left, right)
        console.result_json({**record, "files": [str(path) for path in paths]})
        return
    for path in paths:
        console.result(str(path))
    for match in matches:
        found = match.match
        row, col = found.forward.peak_source
        trust = "is found back" if found.trusted else "is NOT found back: do not rely on it"
        console.note(
            f"{match.name}: ({row:.0f}, {col:.0f}), cosine {found.forward.value:.2f}; the match "
            f"{trust} ({found.distance_mm:.0f} mm)."
        )
    console.note("Research use only. Not for diagnosis.")


def _follow(
    query: XrayInput,
    sweep: Sequence[XrayInput],
    point: Point,
    loaded: LoadedWorldModel,
    truth: tuple[float, float, float] | None,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Follow a point through a sweep, and write and tell its trajectory."""
    from napari_cxr3d.inference.tracking import track

    (left,) = _features([query], loaded)
    frames = _features(sweep, loaded)
    with usage_errors("--point"):
        found = track(left, point, frames, truth_lps=truth)
    if out is not None:
        found.write_csv(out, overwrite=overwrite)
    if as_json:
        files = [] if out is None else [str(out)]
        console.result_json({**found.to_dict(), "model": left.model, "files": files})
        return
    console.result(str(out))
    for told in found.notes:
        console.note(told)
    if found.landmark_lps is not None:
        place = ", ".join(f"{v:.0f}" for v in found.landmark_lps)
        console.note(f"The rays meet at ({place}) mm of the CT.")
    if found.median_error_mm is not None:
        console.note(
            f"The median error over {len(frames)} views is {found.median_error_mm:.1f} mm."
        )
    console.note("Research use only. Not for diagnosis.")


def _features(inputs: Sequence[XrayInput], loaded: LoadedWorldModel) -> tuple[PatchFeatures, ...]:
    """Put X-rays on the model's detector, tell what was assumed and is unusual, and encode them."""
    from napari_cxr3d.inference.orbit_picture import prepare_picture
    from napari_cxr3d.inference.similarity import patch_features_of
    from napari_cxr3d.inference.xray_input import examine

    if len(inputs) == 1:
        for finding in examine(inputs):
            console.note(f"{finding.message.rstrip('.')}. {finding.remedy}")
    pictures = [prepare_picture(given, loaded.model) for given in inputs]
    if len(inputs) == 1:
        for told in pictures[0].notes:
            console.note(told)
    with console.interruptible() as cancel, console.progress_bar("Looking") as progress:
        return patch_features_of(pictures, loaded, progress=progress, cancel=cancel)


def _loaded(model: str, device: str) -> LoadedWorldModel:
    from napari_cxr3d.inference.world_models import load_world_model

    return load_world_model(model, device=device)


def _numbers(text: str, count: int, form: str, option: str) -> list[float]:
    """Numbers between commas."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if len(found) != count or not all(math.isfinite(number) for number in found):
        raise typer.BadParameter(f"{text!r} is not of the form {form}.", param_hint=option)
    return found


def _parse_pixel(text: str) -> Point:
    row, col = _numbers(text, 2, "ROW,COL", "--point")
    return row, col


def _parse_place(text: str) -> tuple[float, float, float]:
    x, y, z = _numbers(text, 3, "X,Y,Z in mm", "--truth")
    return x, y, z


def _check_out(out: Path | None, as_json: bool, overwrite: bool, sources: Sequence[Path]) -> None:
    """Refuse a file that cannot be written, before the work begins."""
    from napari_cxr3d.io.destination import require_free

    if out is None:
        if not as_json:
            raise typer.BadParameter("it is needed.", param_hint="--out")
        return
    if out.suffix.lower() not in _SUFFIXES:
        raise typer.BadParameter(f"choose one of {', '.join(_SUFFIXES)}.", param_hint="--out")
    require_free(out.expanduser(), overwrite=overwrite, sources=sources)
