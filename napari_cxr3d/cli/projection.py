"""The way that ``drr`` and ``sweep`` share: read a CT, project it, write what was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from napari_cxr3d.terminal import console
from napari_cxr3d.terminal.command import usage_errors

if TYPE_CHECKING:
    from napari_cxr3d.cli.options import ReadingOptions, RenderingOptions, WritingOptions
    from napari_cxr3d.imaging import Volume, XrayView
    from napari_cxr3d.inference import DrrResult

__all__ = [
    "GEOMETRY_FILE",
    "check_output",
    "project",
    "read_volume",
    "save_result",
    "suffix_of",
]

# Formats that hold numbers for further computing rather than pictures for looking at.
_ARRAY_SUFFIXES = (".npy", ".nii", ".nii.gz", ".nrrd", ".mha")

GEOMETRY_FILE = "views.json"
"""What stands beside the pictures of a sweep's folder."""

_CROPPED = 0.75  # of the volume's extent: a smaller field of view is probably not meant


def suffix_of(path: Path) -> str:
    """The suffix that decides the format, ``".nii.gz"`` as one; empty for a folder."""
    from napari_cxr3d.io.destination import full_suffix

    return full_suffix(path)


def check_output(out: Path, allowed: Sequence[str], writing: WritingOptions) -> None:
    """Refuse an output before the work begins.

    Parameters
    ----------
    out : Path
        What ``--out`` names.
    allowed : sequence of str
        Suffixes that the command writes; ``""`` is a folder.
    writing : WritingOptions
        Whether existing files may be replaced.

    Raises
    ------
    typer.BadParameter
        If the suffix is none of those.
    ExportError
        If the file exists and may not be replaced, or its folder does not exist.
    """
    from napari_cxr3d.io.destination import require_free, sidecar_path

    suffix = suffix_of(out)
    if suffix not in allowed:
        names = ", ".join(s for s in allowed if s)
        raise typer.BadParameter(
            f"{out.name!r} does not end in one of {names}"
            f"{', and is no folder for numbered PNG files' if '' in allowed else ''}.",
            param_hint="--out",
        )
    out = out.expanduser()
    if suffix:
        files = [out, *([sidecar_path(out)] if suffix in _ARRAY_SUFFIXES else [])]
    else:
        files = [out / GEOMETRY_FILE] if out.is_dir() else []
    for file in files:
        require_free(file, overwrite=writing.overwrite)


def read_volume(path: Path, reading: ReadingOptions) -> Volume:
    """Read a CT, and tell on stderr which series it is and what was mended."""
    from napari_cxr3d.io import read_ct

    with console.interruptible() as cancel, console.progress_bar("Reading the CT") as progress:
        volume = read_ct(
            path,
            series=reading.series,
            allow_gaps=reading.allow_gaps,
            allow_resampling=reading.allow_resampling,
            progress=progress,
            cancel=cancel,
        )
    for told in volume.source.notes if volume.source else ():
        console.note(told)
    return volume


def project(
    volume: Volume, views: Sequence[XrayView], rendering: RenderingOptions, out: Path
) -> DrrResult:
    """Project the views and give them the appearance that the options or the file ask for.

    Raises
    ------
    typer.BadParameter
        If an option's value cannot be used.
    """
    from napari_cxr3d.inference import DrrRequest, render_drr

    if rendering.appearance == "x2ct-clip":
        console.note("X2CT-CLIP projects in parallel at 1 mm: the view's distances do not count.")
    else:
        _tell_if_cropped(volume, views[0])
    settings: dict[str, Any] = {
        "backend": rendering.backend,
        "quality": rendering.quality,
        "device": rendering.device,
        "kilovolt": rendering.kv,
        "remove_table": rendering.remove_table,
        "seed": rendering.seed or 0,
        "appearance": rendering.appearance
        or ("integral" if suffix_of(out) in _ARRAY_SUFFIXES else "radiograph"),
    }
    if rendering.energy is not None:
        settings["energy_kev"] = rendering.energy
    with (
        usage_errors(),
        console.interruptible() as cancel,
        console.progress_bar("Projecting") as progress,
    ):
        request = DrrRequest(volume, tuple(views), **settings)
        return render_drr(request, progress=progress, cancel=cancel)


def _tell_if_cropped(volume: Volume, view: XrayView) -> None:
    """Warn when the detector sees much less than the CT holds."""
    height, width = view.field_of_view_mm
    inferior, posterior, left = volume.size_mm
    across = max(posterior, left)
    if height < _CROPPED * inferior or width < _CROPPED * across:
        console.note(
            f"The detector covers {height:.0f} x {width:.0f} mm of a CT that is "
            f"{inferior:.0f} mm high and {across:.0f} mm wide; a larger --pixel-mm shows more."
        )


def save_result(
    result: DrrResult,
    out: Path,
    volume: Volume,
    writing: WritingOptions,
    *,
    one_view: bool,
    frames_per_second: float = 12.0,
) -> tuple[Path, ...]:
    """Write the pictures and print the paths of the files on stdout.

    Parameters
    ----------
    one_view : bool
        Write (rows, columns) instead of (views, rows, columns) where the format tells them
        apart.
    frames_per_second : float
        Of a film.

    Returns
    -------
    tuple of Path
        The files written.
    """
    from napari_cxr3d.io.export import save

    source = volume.source.path if volume.source else None
    with console.progress_bar("Writing") as progress:
        paths = save(
            result.pictures[0] if one_view else result.pictures,
            out,
            views=result.views,
            quantity=result.quantity,
            provenance=result.provenance.to_dict(),
            bits=writing.depth,
            burn_mark=writing.mark,
            frames_per_second=frames_per_second,
            overwrite=writing.overwrite,
            sources=() if source is None else (source,),
            progress=progress,
        )
    for path in paths:
        console.result(str(path))
    return paths
