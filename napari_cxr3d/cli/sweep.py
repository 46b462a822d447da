"""``cxr3d sweep``: radiographs of a CT while the source turns around the patient."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_cxr3d.cli.options import (
    CtPath,
    ReadingOptions,
    RenderingOptions,
    ViewOptions,
    WritingOptions,
    YawRange,
    parse_range,
)
from napari_cxr3d.cli.projection import (
    GEOMETRY_FILE,
    check_output,
    project,
    read_volume,
    save_result,
    suffix_of,
)
from napari_cxr3d.terminal import console
from napari_cxr3d.terminal.command import usage_errors

if TYPE_CHECKING:
    from napari_cxr3d.inference import DrrResult

__all__ = ["sweep"]

_SUFFIXES = (".npy", ".nrrd", ".nii", ".nii.gz", ".mha", ".gif", ".mp4", ".dcm", "")


def sweep(
    ct: CtPath,
    yaw: YawRange,
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE_OR_FOLDER",
            show_default=False,
            help="Where to write it: a folder for numbered PNG files and views.json, or a file "
            f"whose suffix decides the format: {', '.join(s for s in _SUFFIXES if s)}.",
        ),
    ],
    view: ViewOptions,
    rendering: RenderingOptions,
    reading: ReadingOptions,
    writing: WritingOptions,
    fps: Annotated[
        float, typer.Option(min=0.1, max=100.0, help="Frames per second of a GIF or MP4.")
    ] = 12.0,
) -> None:
    """Project a CT at every step of a turn.

    The paths of the files written are printed, one a line.
    """
    from napari_cxr3d.inference import sweep_views

    with usage_errors("--yaw"):
        views = sweep_views(view.view(), *parse_range(yaw))
    rendering.check()
    check_output(out, _SUFFIXES, writing)
    volume = read_volume(ct, reading)
    result = project(volume, views, rendering, out)
    paths = save_result(result, out, volume, writing, one_view=False, frames_per_second=fps)
    if not suffix_of(out):
        _write_geometry(result, out.expanduser(), paths, overwrite=writing.overwrite)


def _write_geometry(
    result: DrrResult, folder: Path, pictures: tuple[Path, ...], *, overwrite: bool
) -> None:
    """Write the view of every picture beside the pictures."""
    from napari_cxr3d.io.destination import write_json

    record = {
        "synthetic": True,
        "quantity": result.quantity,
        "views": [
            {"file": picture.name, **view.to_dict()}
            for picture, view in zip(pictures, result.views, strict=True)
        ],
        "provenance": result.provenance.to_dict(),
    }
    path = folder / GEOMETRY_FILE
    write_json(path, record, overwrite=overwrite)
    console.result(str(path))
