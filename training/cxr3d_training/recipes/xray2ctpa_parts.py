"""Where X-ray2CTPA's networks come from: bundles, and the run of the stage before."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from cxr3d_training.engine.folder import RunFolder
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.bundle import open_bundle
from napari_cxr3d.models.codecs.base import Codec
from napari_cxr3d.models.codecs.sd import sd_slice_codec
from napari_cxr3d.models.hub import load_biomedclip
from napari_cxr3d.models.latent_classifier import LatentClassifier
from napari_cxr3d.models.xray2ctpa.embedding import BiomedClipEncoder
from napari_cxr3d.models.xray2ctpa.model import Xray2Ctpa

__all__ = ["begin_from", "classifier_of", "codec_weights", "encoder_weights"]

_STABLE_DIFFUSION = "diffusion_pytorch_model.safetensors"


def begin_from(model: Xray2Ctpa, source: str) -> None:
    """Take over the weights of the stage before.

    Parameters
    ----------
    model : Xray2Ctpa
        Filled in place.
    source : str
        A run folder, whose last checkpoint's averages are taken, or a bundle.

    Raises
    ------
    InvalidInputError
        If it is of another model.
    UnreadableFileError, TrainingError, BundleError
        If it cannot be read.
    """
    path = Path(source).expanduser()
    is_run = (path / "config.yaml").is_file()
    state = _state_of_run(path) if is_run else open_bundle(path).state()
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise InvalidInputError(
            "The stage before is of another model",
            why=" ".join(str(error).split())[:300],
            remedy="train all stages with one setting 'model'",
        ) from error


def _state_of_run(path: Path) -> dict[str, torch.Tensor]:
    from cxr3d_training.engine.state import evaluation_networks
    from cxr3d_training.recipes import make

    folder = RunFolder(path)
    saved = folder.read()
    if saved.recipe != "xray2ctpa":
        raise InvalidInputError(
            "The stage before is of another model",
            why=f"the run is of the recipe {saved.recipe}",
            remedy="give the folder of a run of xray2ctpa",
        )
    recipe = make(saved.recipe, saved.settings)
    _, state = folder.checkpoint("last", higher_is_better=False)
    return dict(recipe.bundle(evaluation_networks(recipe, state, torch.device("cpu"))).state)


def codec_weights(codec: Codec, source: str | None) -> None:
    """Fill a codec from its bundle, or a slice codec from a folder of sd-vae-ft-mse.

    None leaves it as it is: one without weights, or one that `begin_from` will fill.

    Raises
    ------
    InvalidInputError
        If the bundle holds another codec.
    """
    if source is None:
        return
    if (Path(source).expanduser() / _STABLE_DIFFUSION).is_file():
        state = sd_slice_codec(source).state_dict()
    else:
        state = open_bundle(source).state()
    try:
        codec.load_state_dict(state)
    except RuntimeError as error:
        raise InvalidInputError(
            "There is another codec than the setting 'model' describes",
            why=" ".join(str(error).split())[:300],
        ) from error


def encoder_weights(encoder: nn.Module, path: str) -> None:
    """Fill BiomedCLIP's tower from its authors' file.

    Raises
    ------
    InvalidInputError
        If the model has another encoder.
    UnreadableFileError
        If the file holds other weights.
    """
    if not isinstance(encoder, BiomedClipEncoder):
        raise InvalidInputError(
            "Only BiomedCLIP's encoder is filled from a file",
            why=f"the model's is a {type(encoder).__name__}",
            remedy="leave the setting 'encoder_weights' out",
        )
    encoder.take(load_biomedclip(path).network)


def classifier_of(bundle: str, latent_shape: tuple[int, int, int, int]) -> LatentClassifier:
    """The frozen classifier of a bundle.

    Raises
    ------
    InvalidInputError
        If it is none of latents, or cannot look at these.
    """
    classifier = open_bundle(bundle).network("cpu")
    if not isinstance(classifier, LatentClassifier):
        raise InvalidInputError("The bundle holds no classifier of latents")
    try:
        classifier(torch.zeros(1, *latent_shape))
    except RuntimeError as error:
        raise InvalidInputError(
            "The classifier cannot look at these latents",
            why=" ".join(str(error).split())[:200],
        ) from error
    return classifier
