"""Published encoders and codecs: from files of yours, or downloaded with your consent.

Nothing is fetched by importing this module or by loading a model: without local files and
without consent, the error tells the licence, the size and the call that fetches. What is
fetched is one revision of one repository, safetensors and JSON only. No code of a repository
is ever run.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

from napari_cxr3d.errors import (
    BackendUnavailableError,
    ConsentRequiredError,
    ExportError,
    InvalidInputError,
    UnreadableFileError,
)
from napari_cxr3d.io.guard import existing_path
from napari_cxr3d.models.hu_window import HuWindow
from napari_cxr3d.models.zoo import models_folder

__all__ = [
    "HUB",
    "MAISI_WINDOW",
    "HubModel",
    "HubNetwork",
    "fetch",
    "hub_folder",
    "load_biomedclip",
    "load_maisi",
    "load_rad_dino",
    "load_sd_vae",
]

MAISI_WINDOW = HuWindow(-1000, 1000, 0, 1)  # what MAISI's networks were trained on
_RECORD = "source.json"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class HubModel:
    """A published model, and the terms on which it may be had.

    Attributes
    ----------
    name : str
        Its name here.
    what : str
        What it is.
    repository, revision : str
        On huggingface.co; the revision is a commit, so the files never change. Empty where
        nothing is fetched, since the authors publish no safetensors.
    files : tuple of str
        What is fetched.
    n_bytes : int
        About how much.
    licence : str
        Its licence, and what its authors ask for.
    page : str
        Where to read more, and to get the files by hand.
    """

    name: str
    what: str
    repository: str
    revision: str
    files: tuple[str, ...]
    n_bytes: int
    licence: str
    page: str


HUB: Mapping[str, HubModel] = MappingProxyType(
    {
        model.name: model
        for model in (
            HubModel(
                "rad-dino",
                "chest X-ray encoder, ViT-B/14 by DINOv2 (Pérez-García et al., Nature Machine "
                "Intelligence 2025)",
                "microsoft/rad-dino",
                "c3736a62544137a0450cc4fa02c9e37e55f28e32",
                ("config.json", "preprocessor_config.json", "model.safetensors"),
                346_000_000,
                "MIT; for research, not for clinical practice",
                "https://huggingface.co/microsoft/rad-dino",
            ),
            HubModel(
                "sd-vae-ft-mse",
                "the slice autoencoder of X-ray2CTPA, a fine-tuned decoder of Stable Diffusion's",
                "stabilityai/sd-vae-ft-mse",
                "c01e0282cf0708e7fdecf07fb5f9089f5bc61c79",
                ("config.json", "diffusion_pytorch_model.safetensors"),
                335_000_000,
                "MIT",
                "https://huggingface.co/stabilityai/sd-vae-ft-mse",
            ),
            HubModel(
                "biomedclip",
                "biomedical image and text encoder, ViT-B/16 (Zhang et al., 2023, arXiv "
                "2303.00915)",
                "",
                "",
                (),
                784_000_000,
                "MIT; for research, not for deployed or clinical use",
                "https://huggingface.co/microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
            ),
            HubModel(
                "maisi",
                "CT autoencoder of MAISI (Guo et al., WACV 2025, arXiv 2409.11169)",
                "",
                "",
                (),
                84_000_000,
                "NVIDIA Open Model License",
                "https://github.com/NVIDIA-Medtech/NV-Generate-CTMR",
            ),
        )
    }
)


@dataclass(frozen=True, eq=False)
class HubNetwork:
    """A loaded network and where it came from.

    Attributes
    ----------
    model : HubModel
        Which.
    network : torch.nn.Module
        In evaluation mode, without gradients; an `ImageTower` for encoders, diffusers'
        AutoencoderKL for ``sd-vae-ft-mse``, a `KLCodec` for ``maisi``.
    weights_sha256 : str
        Hash of the file of weights, for `Provenance`.
    """

    model: HubModel
    network: Any
    weights_sha256: str


def hub_folder() -> Path:
    """Where fetched files lie: beside the user's bundles."""
    return models_folder() / "hub"


def fetch(name: str, *, consent: bool = False) -> Path:
    """Download a model's files, unless they are here already.

    Parameters
    ----------
    name : str
        A key of `HUB`.
    consent : bool
        Whether the user accepts the licence and the download.

    Returns
    -------
    Path
        Folder of the files.

    Raises
    ------
    InvalidInputError
        If there is no such model, or it can only be had by hand.
    ConsentRequiredError
        If the files are not here and consent was not given.
    BackendUnavailableError
        If huggingface-hub is not installed.
    UnreadableFileError
        If the download fails; nothing is left behind.
    """
    model = _model(name)
    folder = hub_folder() / model.name
    if model.files and all((folder / file).is_file() for file in model.files):
        return folder
    if not model.repository:
        raise InvalidInputError(
            f"{model.name} is not downloaded by this program",
            why="its authors do not publish it as safetensors",
            remedy=f"get its file from {model.page} and give its path",
        )
    if not consent:
        raise ConsentRequiredError(
            f"{model.name} is not on this computer",
            consent="consent",
            why=f"it is about {model.n_bytes / 1e6:.0f} MB from {model.page}, under the licence "
            f"{model.licence}",
            remedy=f"type cxr3d models fetch {model.name} --consent, or give the folder of its "
            "files",
        )
    _download(model, folder)
    return folder


def _model(name: str) -> HubModel:
    if name not in HUB:
        raise InvalidInputError(
            f"There is no published model called {name!r}", remedy=f"choose one of {', '.join(HUB)}"
        )
    return HUB[name]


def _download(model: HubModel, folder: Path) -> None:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise BackendUnavailableError(
            "huggingface-hub is not installed",
            why="it does the download",
            remedy='type python -m pip install "napari-cxr3d[hub]"',
        ) from error
    temporary = hub_folder() / f".{uuid4().hex[:12]}"
    try:
        temporary.mkdir(parents=True)
        snapshot_download(
            model.repository,
            revision=model.revision,
            allow_patterns=list(model.files),
            local_dir=temporary,
            token=False,  # public files: whoever the user is stays unsaid
        )
        missing = [file for file in model.files if not (temporary / file).is_file()]
        if missing:
            raise FileNotFoundError(f"{missing[0]} did not come")
        shutil.rmtree(temporary / ".cache", ignore_errors=True)
        record = {
            "repository": model.repository,
            "revision": model.revision,
            "licence": model.licence,
            "files": {file: _digest(temporary / file) for file in model.files},
        }
        (temporary / _RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)  # an incomplete one
        os.replace(temporary, folder)
    except PermissionError as error:
        raise ExportError(
            "The files cannot be kept",
            why=error.strerror or "",
            remedy="mend its permissions",
            path=hub_folder(),
        ) from error
    except Exception as error:
        raise UnreadableFileError(
            f"{model.name} could not be downloaded",
            why=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}",
            remedy=f"check the connection, or get the files by hand from {model.page}",
        ) from error
    finally:
        with suppress(FileNotFoundError):
            shutil.rmtree(temporary)


def load_rad_dino(
    source: str | Path | None = None, *, consent: bool = False, device: str = "cpu"
) -> HubNetwork:
    """RAD-DINO, a frozen encoder of chest X-rays.

    Parameters
    ----------
    source : path-like, optional
        Folder with ``config.json``, ``preprocessor_config.json`` and ``model.safetensors``;
        the fetched one if None.
    consent : bool
        Whether it may be fetched if it is not here; see `fetch`.
    device : str
        Where the network shall be.

    Returns
    -------
    HubNetwork
        Its network is an `ImageTower`: the class token and the patch tokens, 768 wide.

    Raises
    ------
    ConsentRequiredError, UnreadableFileError, BackendUnavailableError
        As `fetch`; also if the folder holds another kind of model.
    """
    folder = _folder("rad-dino", source, consent)
    _require_kind(folder, "model_type", "dinov2")
    from napari_cxr3d.models.hub_networks import rad_dino

    return _loaded("rad-dino", rad_dino(folder), folder / "model.safetensors", device)


def load_sd_vae(
    source: str | Path | None = None, *, consent: bool = False, device: str = "cpu"
) -> HubNetwork:
    """sd-vae-ft-mse, the frozen autoencoder that X-ray2CTPA applies slice by slice.

    Parameters
    ----------
    source : path-like, optional
        Folder with ``config.json`` and ``diffusion_pytorch_model.safetensors``; the fetched
        one if None.
    consent : bool
        Whether it may be fetched if it is not here; see `fetch`.
    device : str
        Where the network shall be.

    Returns
    -------
    HubNetwork
        Its network is diffusers' ``AutoencoderKL``: pictures of 3 channels in -1 to 1, latents
        of 4 channels, 8 times smaller; ``config.scaling_factor`` is 0.18215.

    Raises
    ------
    ConsentRequiredError, UnreadableFileError, BackendUnavailableError
        As `fetch`; also if the folder holds another kind of model.
    """
    folder = _folder("sd-vae-ft-mse", source, consent)
    _require_kind(folder, "_class_name", "AutoencoderKL")
    from napari_cxr3d.models.hub_networks import sd_vae

    weights = folder / "diffusion_pytorch_model.safetensors"
    return _loaded("sd-vae-ft-mse", sd_vae(folder), weights, device)


def load_biomedclip(source: str | Path, *, device: str = "cpu") -> HubNetwork:
    """BiomedCLIP's image tower, from its authors' file.

    The tower is a ViT of timm with a linear head, so timm builds it: OpenCLIP would build the
    text tower too, and look for that on its hub.

    Parameters
    ----------
    source : path-like
        ``open_clip_pytorch_model.bin`` (read by torch's weights-only reader, which runs
        nothing) or the same weights as safetensors, or a folder with either.
    device : str
        Where the network shall be.

    Returns
    -------
    HubNetwork
        Its network is an `ImageTower`: a normalised vector of 512 numbers, and patch tokens.

    Raises
    ------
    UnreadableFileError
        If there is no such file, or it holds other weights.
    BackendUnavailableError
        If timm cannot be imported.
    """
    names = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    file = _file(existing_path(source), names)
    from napari_cxr3d.models.hub_networks import biomedclip

    return _loaded("biomedclip", biomedclip(file), file, device)


def load_maisi(source: str | Path, *, scale: float = 1.0, device: str = "cpu") -> HubNetwork:
    """MAISI's CT autoencoder as a `KLCodec` of the ``paper`` preset.

    Its volumes are in `MAISI_WINDOW`. The weights of ``AutoencoderKlMaisi`` are those of
    MONAI's plain ``AutoencoderKL`` under other names; the splitting of tensors, which saves
    memory there, is what `Codec.tiled_decode` is for here.

    Parameters
    ----------
    source : path-like
        The authors' ``.pt`` (read by torch's weights-only reader, which runs nothing) or the
        same weights as safetensors.
    scale : float
        What latents are multiplied by; MAISI keeps it beside its diffusion model's weights.
    device : str
        Where the network shall be.

    Returns
    -------
    HubNetwork
        Its network is a `KLCodec`.

    Raises
    ------
    UnreadableFileError
        If there is no such file, or it holds other weights.
    InvalidInputError
        If the scale is not positive.
    """
    file = _file(existing_path(source), ("autoencoder.safetensors", "autoencoder.pt"))
    from napari_cxr3d.models.hub_networks import maisi

    codec = maisi(file)
    codec.set_scale(scale)
    return _loaded("maisi", codec, file, device)


def _folder(name: str, source: str | Path | None, consent: bool) -> Path:
    """Folder of a model's files, each of them there."""
    if source is None:
        return fetch(name, consent=consent)
    folder = existing_path(source)
    if folder.is_file():
        folder = folder.parent
    for file in HUB[name].files:
        existing_path(folder / file)
    return folder


def _file(path: Path, names: tuple[str, ...]) -> Path:
    if path.is_file():
        return path
    for name in names:
        if (path / name).is_file():
            return path / name
    raise UnreadableFileError(
        "The folder holds no weights that are known",
        why=f"it has none of {', '.join(names)}",
        remedy="give the file itself",
        path=path,
    )


def _require_kind(folder: Path, key: str, kind: str) -> None:
    """Refuse another kind of model before a library builds what its configuration says."""
    path = folder / "config.json"
    try:
        if path.stat().st_size > _CHUNK:
            raise ValueError("it is too long")
        config = json.loads(path.read_text(encoding="utf-8"))
        found = config.get(key)
        runs_code = "auto_map" in config
    except (OSError, ValueError, AttributeError) as error:
        raise UnreadableFileError(
            "The model's configuration cannot be read",
            why=str(error)[:200],
            remedy="get the files again",
            path=path,
        ) from error
    if found != kind or runs_code:
        raise UnreadableFileError(
            "This is another kind of model",
            why=f"{key} is {found!r} and should be {kind!r}"
            if found != kind
            else "it asks for code of its own",
            remedy="choose the folder of the model that is named",
            path=path,
        )


def _loaded(name: str, network: Any, weights: Path, device: str) -> HubNetwork:
    network = network.to(device).eval().requires_grad_(False)
    return HubNetwork(HUB[name], network, _digest(weights))


def _digest(path: Path) -> str:
    state = sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            state.update(chunk)
    return state.hexdigest()
