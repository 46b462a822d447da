"""The ``cxr3d`` command and its subcommands."""

from __future__ import annotations

from napari_cxr3d.cli.doctor import doctor
from napari_cxr3d.cli.drr import drr
from napari_cxr3d.cli.embed import embed
from napari_cxr3d.cli.info import info
from napari_cxr3d.cli.models import models
from napari_cxr3d.cli.novel_views import novel_views
from napari_cxr3d.cli.phantom import phantom
from napari_cxr3d.cli.reconstruct import reconstruct
from napari_cxr3d.cli.similarity import similarity
from napari_cxr3d.cli.sweep import sweep
from napari_cxr3d.terminal.application import application

__all__ = ["app", "main"]

app = application(
    "cxr3d",
    "Chest CT and chest X-ray as one: turn a CT into radiographs at any source angle, and X-rays "
    "into SYNTHETIC volumes.",
    (info, drr, sweep, reconstruct, novel_views, similarity, embed, phantom, doctor),
)
app.add_typer(models)


def main() -> None:
    """Run the command line; the process ends with its exit status."""
    app(prog_name="cxr3d")
