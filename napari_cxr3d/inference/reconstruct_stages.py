"""The pieces of a reconstruction: the model, its precision, its noise, and volumes in space."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import BundleError, InputRefusedError, InvalidInputError
from napari_cxr3d.imaging import SourceInfo, Volume
from napari_cxr3d.imaging.frames import Grid
from napari_cxr3d.inference.reconstruct_types import ReconstructionRequest
from napari_cxr3d.inference.xray_input_types import InputFinding
from napari_cxr3d.models.hu_window import HuWindow

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from napari_cxr3d.models.bundle import Bundle
    from napari_cxr3d.models.reconstruction import ReconstructionModel

__all__ = [
    "COARSE_START",
    "KIND",
    "consistency_mode",
    "field_mm",
    "gate",
    "generator_of",
    "load_model",
    "noise_of",
    "open_model",
    "outline",
    "precision",
    "sampler_settings",
    "stepwise",
    "synthetic_volume",
]

KIND = "reconstructor"
"""What the card of a model that reconstructs says of its kind."""

COARSE_START = 0.5
"""The time at which a run that starts at the first picture begins."""

_FIELD_MM = 440.0
_LEAST_AIR_HU = -900.0  # a window that begins above it holds no air
_outlines: dict[str, ReconstructionModel] = {}
T = TypeVar("T")


def gate(request: ReconstructionRequest) -> tuple[InputFinding, ...]:
    """What is unusual about the X-rays; a refusal of what is wrong and was not accepted.

    Raises
    ------
    InputRefusedError
        If something is wrong that the user did not accept.
    """
    from napari_cxr3d.inference.xray_input import examine

    findings = tuple(examine(request.inputs))
    wrong = [f for f in findings if f.severity == "wrong" and f.code not in request.accepted]
    if wrong:
        many = len(request.inputs) > 1
        told = [
            f"{f'X-ray {f.index + 1}: ' if many else ''}{f.message.rstrip('.')} "
            f"({f.remedy.rstrip('.')}; code {f.code})"
            for f in wrong
        ]
        codes = tuple(dict.fromkeys(f.code for f in wrong))
        raise InputRefusedError(
            "This is probably not a picture to make a volume from",
            why="; ".join(told),
            remedy="mend it, or accept it by the code if you know that it is right",
            codes=codes,
        )
    return findings


def open_model(name: str) -> Bundle:
    """The bundle of a name, or at a path.

    Raises
    ------
    InvalidInputError
        If there is no such model, or it does not reconstruct.
    UnreadableFileError, BundleError
        If there is nothing at the path, or no whole bundle.
    """
    from napari_cxr3d.models.bundle import open_bundle
    from napari_cxr3d.models.zoo import find

    path = Path(name).expanduser()
    named = path.name == name and not path.suffix and not (path / "bundle.yaml").is_file()
    bundle = find(name) if named else open_bundle(path)
    if bundle.kind != KIND:
        raise InvalidInputError(
            f"The model {bundle.name} does not make volumes from X-rays",
            why=f"it is a {bundle.kind}",
            remedy="choose a reconstructor; see cxr3d models list",
        )
    return bundle


def load_model(bundle: Bundle, device: str) -> ReconstructionModel:
    """The network with its weights on a device, laid out as the device likes it.

    Raises
    ------
    BundleError
        If it is no `ReconstructionModel`, or damaged.
    OutOfMemoryError
        If it does not fit.
    """
    import torch

    network = _require_model(bundle.network(device), bundle)
    if device.startswith("cuda"):
        for module in network.modules():
            if isinstance(module, torch.nn.Conv3d | torch.nn.ConvTranspose3d):
                module.to(memory_format=torch.channels_last_3d)
    return network


def outline(bundle: Bundle) -> ReconstructionModel:
    """The network without numbers, for estimates; kept for the session."""
    from napari_cxr3d.models.network import outline_network

    if bundle.sha256 not in _outlines:
        network = outline_network(bundle.description).eval()
        _outlines[bundle.sha256] = _require_model(network, bundle)
    return _outlines[bundle.sha256]


def _require_model(network: torch.nn.Module, bundle: Bundle) -> ReconstructionModel:
    from napari_cxr3d.models.reconstruction import ReconstructionModel

    if not isinstance(network, ReconstructionModel):
        raise BundleError(
            f"The model {bundle.name} cannot be run",
            why=f"its card says {KIND}, and its network is a {type(network).__name__}",
            remedy="get the bundle again from where it came",
            path=bundle.path,
        )
    return network


def field_mm(bundle: Bundle) -> float:
    """Edge of the square detector that the model was trained with, in mm."""
    return float(bundle.card["preprocessing"].get("field_mm", _FIELD_MM))


def sampler_settings(
    request: ReconstructionRequest, bundle: Bundle, model: ReconstructionModel
) -> tuple[int, str]:
    """Steps and method: the request's, else the card's, else the model's own.

    Raises
    ------
    InvalidInputError
        If the model has no such method or number of steps.
    """
    from napari_cxr3d.inference.sampler import samplers_for

    card = bundle.card.get("sampler")
    own: dict[str, Any] = card if isinstance(card, dict) else {}
    known = samplers_for(model.process)
    steps = request.steps or int(own.get("steps", model.default_steps))
    model.process.times(steps)
    method = request.sampler
    if method == "auto":
        # a model whose steps are not its own takes the sampler's choice for that number
        theirs = own.get("method", "auto")
        method = theirs if theirs in known and steps == own.get("steps") else "auto"
    elif method not in known:
        raise InvalidInputError(
            f"The model {bundle.name} cannot be sampled by {method!r}",
            remedy=f"choose one of auto, {', '.join(known)}",
        )
    if method == "auto":
        timesteps = getattr(model.process, "timesteps", None)
        method = "ddpm" if timesteps == steps and "ddpm" in known else known[0]
    return steps, method


def consistency_mode(
    asked: str, exact: Sequence[bool], window: HuWindow
) -> Literal["off", "soft", "hard"]:
    """How the samples are made to agree with the X-rays.

    Parameters
    ----------
    asked : {"auto", "off", "soft", "hard"}
        Auto is hard where all integrals are on their true scale, soft where one is not, and off
        where the model's volumes cannot be projected.
    exact : sequence of bool
        Views whose integrals are on their true scale.
    window : HuWindow
        Of the model's volumes. One that does not reach down to air gives air the weight of fat.

    Raises
    ------
    InvalidInputError
        If agreement is asked of volumes that cannot be projected.
    """
    if window.low > _LEAST_AIR_HU:
        if asked in ("auto", "off"):
            return "off"
        raise InvalidInputError(
            "Volumes of this model cannot be made to agree with an X-ray",
            why=f"its HU window begins at {window.low:g}, and air would weigh as that",
            remedy="set the consistency to off",
        )
    if asked == "auto":
        return "hard" if all(exact) else "soft"
    return cast(Literal["off", "soft", "hard"], asked)


def precision(device: str, dtype: str) -> tuple[Callable[[], AbstractContextManager[object]], str]:
    """What the networks run in, entered anew for every call, and its precision's name.

    Parameters
    ----------
    device : str
        As torch spells it.
    dtype : {"auto", "float32", "bfloat16"}
        Auto is bfloat16 on CUDA, float32 elsewhere.
    """
    import torch

    kind = device.partition(":")[0]
    if dtype == "bfloat16" or (dtype == "auto" and kind == "cuda"):
        return lambda: torch.autocast(kind, torch.bfloat16), "bfloat16"
    return nullcontext, "float32"


def stepwise(states: Iterator[T]) -> Iterator[T]:
    """The states of an iterator, each made without gradients, and looked at outside of that."""
    import torch

    while True:
        with torch.inference_mode():
            try:
                state = next(states)
            except StopIteration:
                return
        yield state


def noise_of(shape: Sequence[int], seeds: Sequence[int], device: str) -> Tensor:
    """Standard normal numbers, one sample a seed: the same on every device, in every batch.

    Parameters
    ----------
    shape : sequence of int
        Of one latent.
    seeds : sequence of int
        One for each sample.
    device : str
        Where they are wanted; they are drawn on the CPU.
    """
    import torch

    drawn = [torch.randn(tuple(shape), generator=generator_of(seed)) for seed in seeds]
    return torch.stack(drawn).to(device)


def generator_of(seed: int) -> torch.Generator:
    """The generator of a sample, on the CPU."""
    import torch

    return torch.Generator().manual_seed(seed)


def synthetic_volume(hu: npt.NDArray[Any], grid: Grid, name: str) -> Volume:
    """A volume that says that it is synthetic.

    Parameters
    ----------
    hu : ndarray, shape (I, P, L)
        Hounsfield units.
    grid : Grid
        Where it lies.
    name : str
        What it is: ``"seed 3"``.
    """
    source = SourceInfo(kind="reconstruction", description=f"SYNTHETIC CT · {name}")
    voxels = np.ascontiguousarray(hu, np.float32)
    return Volume(voxels, grid.spacing_mm, grid.origin_lps, source=source, synthetic=True)
