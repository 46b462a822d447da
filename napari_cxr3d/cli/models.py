"""``cxr3d models``: the weights that are here, and how to bring others."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_cxr3d.errors import Cancelled
from napari_cxr3d.terminal import console
from napari_cxr3d.terminal.command import as_command

if TYPE_CHECKING:
    from napari_cxr3d.models import Bundle
    from napari_cxr3d.models.zoo import Entry

__all__ = ["models"]

models = typer.Typer(
    name="models",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List, check, install and remove the weights of models.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Name = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", show_default=False, help="A model's name, or a bundle's file or folder."
    ),
]
Version = Annotated[
    str | None,
    typer.Option(metavar="VERSION", show_default="the newest", help="Which version of a name."),
]
Hash = Annotated[
    str | None,
    typer.Option(
        "--sha256",
        metavar="HASH",
        show_default=False,
        help="The bundle's published hash; any other bundle is refused.",
    ),
]


def list_models(as_json: AsJson = False) -> None:
    """List the models that are here.

    Those that came with the program come first; of several versions the newest is used.
    """
    from napari_cxr3d.models.zoo import listing, models_folder

    entries = listing()
    if as_json:
        console.result_json(
            {"folder": str(models_folder()), "models": [entry.to_dict() for entry in entries]}
        )
        return
    if entries:
        console.result(console.table([_row(entry) for entry in entries], indent=""))
    else:
        console.note(f"no model is here; yours would lie in {models_folder()}.")
    for entry in entries:
        if not entry.sha256:
            console.note(entry.note)


def _row(entry: Entry) -> tuple[str, ...]:
    size = f"{entry.n_bytes / 2**20:.1f} MiB" if entry.sha256 else ""
    state = "used" if entry.used else entry.note if entry.sha256 else "damaged"
    kind = f"{entry.kind}, synthetic training" if entry.synthetic_training else entry.kind
    return entry.name, entry.version, kind, size, entry.place, state


def show(name: Name, version: Version = None, as_json: AsJson = False) -> None:
    """Show a model's card: what it is for, how it was made and measured, its limits."""
    bundle = _opened(name, version)
    if as_json:
        console.result_json(
            {
                "card": bundle.card,
                "network": bundle.description,
                "weights": bundle.weights,
                "files": [
                    {"name": f.name, "bytes": f.n_bytes, "sha256": f.sha256} for f in bundle.files
                ],
                "sha256": bundle.sha256,
                "path": str(bundle.path),
            }
        )
    else:
        console.result(bundle.describe())


def verify(
    name: Name, version: Version = None, sha256: Hash = None, as_json: AsJson = False
) -> None:
    """Check a model: every file's hash, and that the weights are those of its network.

    The exit status is 0 when it is whole, 1 when it is not.
    """
    bundle = _opened(name, version, sha256)
    with console.progress_bar("Building the network"):
        network = bundle.network()
    numbers = sum(tensor.numel() for tensor in network.state_dict().values())
    if as_json:
        console.result_json(
            {
                "ok": True,
                "name": bundle.name,
                "version": bundle.version,
                "sha256": bundle.sha256,
                "files": len(bundle.files),
                "parameters": numbers,
            }
        )
    else:
        console.result(f"{bundle.name} {bundle.version} is whole: {numbers:,} numbers")
        console.result(f"sha256 {bundle.sha256}")


def install(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", show_default=False, help="A bundle's zip or folder, on this computer."
        ),
    ],
    sha256: Hash = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace the same name and version."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check a bundle and copy it into your folder of models.

    Nothing of a bundle is ever run. Its folder is printed.
    """
    from napari_cxr3d.models import zoo

    with console.progress_bar("Checking the bundle"):
        bundle = zoo.install(file, sha256=sha256, overwrite=overwrite)
    if as_json:
        console.result_json(
            {
                "name": bundle.name,
                "version": bundle.version,
                "sha256": bundle.sha256,
                "path": str(bundle.path),
            }
        )
    else:
        console.result(str(bundle.path))
    entry = next(e for e in zoo.listing() if e.path == bundle.path)
    if not entry.used:
        console.note(f"{bundle.name} {bundle.version} is {entry.note}.")


def remove(
    name: Annotated[str, typer.Argument(metavar="MODEL", show_default=False, help="Its name.")],
    version: Annotated[
        str | None,
        typer.Option(metavar="VERSION", show_default=False, help="Which version, of several."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a model that you installed; those that came with the program stay."""
    from napari_cxr3d.models import zoo

    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("say yes to deleting it.", param_hint="--yes")
        shown = name if version is None else f"{name} {version}"
        if not typer.confirm(f"Delete {shown}?", err=True):
            raise Cancelled
    console.result(str(zoo.remove(name, version)))


def fetch(
    name: Annotated[
        str,
        typer.Argument(metavar="MODEL", show_default=False, help="A published encoder or codec."),
    ],
    consent: Annotated[
        bool,
        typer.Option("--consent", help="Accept its licence and download it from its hub."),
    ] = False,
) -> None:
    """Download a published model from its hub, with your consent.

    Without --consent its licence and size are told and nothing is fetched. The folder of the
    files is printed.
    """
    from napari_cxr3d.models.hub import fetch as fetch_model

    with console.progress_bar("Downloading"):
        folder = fetch_model(name, consent=consent)
    console.result(str(folder))


def _opened(name: str, version: str | None, sha256: str | None = None) -> Bundle:
    """A model of the zoo by its name; else a bundle by its path."""
    from napari_cxr3d.models import open_bundle, zoo

    entries = zoo.listing()
    if version is None and not any(entry.name == name for entry in entries):
        path = Path(name).expanduser()
        if path.exists() or len(path.parts) > 1 or path.suffix:
            return open_bundle(path, sha256=sha256)
    bundle = zoo.find(name, version)
    others = [e for e in entries if e.name == name and e.path != bundle.path and e.note]
    for other in others:
        console.note(f"{other.place} version {other.version or 'unknown'}: {other.note}.")
    return open_bundle(bundle.path, sha256=sha256) if sha256 else bundle


for _name, _command in (
    ("list", list_models),
    ("show", show),
    ("verify", verify),
    ("install", install),
    ("remove", remove),
    ("fetch", fetch),
):
    models.command(_name)(as_command(_command))
