"""``cxr3d embed``: vectors of X-rays by a world model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from napari_cxr3d.terminal import console
from napari_cxr3d.terminal.command import usage_errors

__all__ = ["embed"]

PoolingName = Literal["mean", "orbit"]
ProjectionName = Literal["pa", "ap", "lateral-left", "lateral-right", "as-given"]


def embed(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="X-RAY...",
            show_default=False,
            help="PNG, JPEG, TIFF or DICOM chest X-rays; or what cxr3d drr or sweep wrote as "
            ".npy, .nrrd, .nii.gz or .mha with its JSON file.",
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="FILE", show_default=False, help="Where to write; an .npz.")
    ],
    model: Annotated[
        str,
        typer.Option(metavar="NAME|PATH", help="A world model of cxr3d models list, or a bundle."),
    ] = "xwin-demo",
    pooling: Annotated[
        PoolingName,
        typer.Option(
            help="mean: of the picture's tokens; orbit: of those predicted for each of a dozen "
            "angles, one after the other."
        ),
    ] = "mean",
    projection: Annotated[
        ProjectionName | None,
        typer.Option(show_default="read or guessed", help="How the rays went, in all of them."),
    ] = None,
    hash_names: Annotated[
        bool,
        typer.Option("--hash-names", help="Name the X-rays by their pixels, not by their files."),
    ] = False,
    device: Annotated[
        str, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1, mps; auto takes the fastest.")
    ] = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that is already there.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print names, failures and the model as JSON.")
    ] = False,
) -> None:
    """Make one vector of each chest X-ray.

    The path of the file written is printed. A file that cannot be read is told and left out.
    """
    from napari_cxr3d.inference.embedding import embed_files
    from napari_cxr3d.inference.world_models import load_world_model
    from napari_cxr3d.io.destination import require_free

    if out.suffix.lower() != ".npz":
        raise typer.BadParameter("vectors are written as .npz.", param_hint="--out")
    require_free(out.expanduser(), overwrite=overwrite, sources=files)
    with usage_errors("--model"):
        loaded = load_world_model(model, device=device)
    with console.interruptible() as cancel, console.progress_bar("Embedding") as progress:
        made = embed_files(
            files, loaded, pooling=pooling, projection=projection, hash_names=hash_names,
            progress=progress, cancel=cancel,
        )  # fmt: skip
    for name, reason in made.failures:
        console.note(f"left out: {reason if not hash_names else f'{name}: {reason}'}")
    path = made.write(out, overwrite=overwrite, sources=files)
    if as_json:
        console.result_json({**made.to_dict(), "file": str(path)})
    else:
        console.result(str(path))
