"""``cxr3d drr``: one radiograph of a CT."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_cxr3d.cli.options import (
    CtPath,
    ReadingOptions,
    RenderingOptions,
    ViewOptions,
    WritingOptions,
    Yaw,
)
from napari_cxr3d.cli.projection import check_output, project, read_volume, save_result

__all__ = ["drr"]

_SUFFIXES = (".png", ".dcm", ".npy", ".nrrd", ".nii", ".nii.gz", ".mha")


def drr(
    ct: CtPath,
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help=f"Where to write it; the suffix decides the format: {', '.join(_SUFFIXES)}.",
        ),
    ],
    view: ViewOptions,
    rendering: RenderingOptions,
    reading: ReadingOptions,
    writing: WritingOptions,
    yaw: Yaw = None,
) -> None:
    """Project a CT into one radiograph.

    The paths of the files written are printed, one a line.
    """
    chosen = view.view(yaw)
    rendering.check()
    check_output(out, _SUFFIXES, writing)
    volume = read_volume(ct, reading)
    result = project(volume, [chosen], rendering, out)
    save_result(result, out, volume, writing, one_view=True)
