"""A network's weights as safetensors files of a bounded size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_cxr3d.errors import BundleError, InvalidInputError

if TYPE_CHECKING:
    import torch

__all__ = ["SHARD_BYTES", "WeightsDtype", "pack", "require_match", "unpack"]

SHARD_BYTES = 16 << 20
SUFFIX = ".safetensors"
WeightsDtype = Literal["bfloat16", "float32"]
_HEADER_BYTES = 1024  # of a file, beside its tensors' entries
_ENTRY_BYTES = 160  # of a tensor in the header, beside its name
_SHOWN = 3  # names in a message


def pack(
    state: Mapping[str, torch.Tensor], dtype: WeightsDtype | None
) -> tuple[dict[str, bytes], dict[str, torch.Tensor]]:
    """Weights as files of 16 MiB at most: the same weights, the same bytes.

    A tensor is never divided; one that is larger alone lies in a file of its own.

    Parameters
    ----------
    state : mapping of str to torch.Tensor
        A network's state.
    dtype : {"bfloat16", "float32"} or None
        Type of the floating tensors; None leaves them as they are. Single numbers, such as a
        latent's scale, are never rounded.

    Returns
    -------
    files : dict of str to bytes
        ``weights.safetensors``, or ``weights-00001-of-00002.safetensors`` and so on.
    stored : dict of str to torch.Tensor
        What the files hold.

    Raises
    ------
    InvalidInputError
        If a weight is not a tensor of finite numbers, or the type is unknown.
    """
    from safetensors.torch import save

    stored = {name: _stored(name, tensor, dtype) for name, tensor in sorted(state.items())}
    if not stored:
        raise InvalidInputError("There are no weights to write")
    shards = list(_shards(stored))
    files = {}
    for number, shard in enumerate(shards, 1):
        part = f"-{number:05d}-of-{len(shards):05d}" if len(shards) > 1 else ""
        files[f"weights{part}{SUFFIX}"] = save(shard)
    return files, stored


def _stored(name: str, tensor: torch.Tensor, dtype: WeightsDtype | None) -> torch.Tensor:
    import torch

    if dtype not in (None, "bfloat16", "float32"):
        raise InvalidInputError(
            f"Weights cannot be written as {dtype!r}", remedy="choose bfloat16 or float32"
        )
    if not isinstance(tensor, torch.Tensor):
        raise InvalidInputError(f"{name} is not a tensor", why=f"it is a {type(tensor).__name__}")
    tensor = tensor.detach()
    if tensor.is_floating_point():
        if not bool(torch.isfinite(tensor).all()):
            raise InvalidInputError(
                f"The weights {name} hold values that are not numbers",
                why="the training diverged",
                remedy="export an earlier checkpoint",
            )
        if dtype is not None:
            wanted = getattr(torch, dtype) if tensor.ndim else torch.float32
            tensor = tensor.to(wanted)
    return tensor.to("cpu").contiguous().clone()  # tied weights would share memory


def _shards(stored: Mapping[str, torch.Tensor]) -> Iterator[dict[str, torch.Tensor]]:
    shard: dict[str, torch.Tensor] = {}
    filled = _HEADER_BYTES
    for name, tensor in stored.items():
        n_bytes = tensor.numel() * tensor.element_size() + len(name) + _ENTRY_BYTES
        if shard and filled + n_bytes > SHARD_BYTES:
            yield shard
            shard, filled = {}, _HEADER_BYTES
        shard[name] = tensor
        filled += n_bytes
    yield shard


def unpack(content: bytes, name: str, path: Path) -> dict[str, torch.Tensor]:
    """The tensors of one file.

    Raises
    ------
    BundleError
        If the content is not a whole safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(content)
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise BundleError(
            f"{name} is not a whole safetensors file",
            why=str(error)[:200],
            remedy="get the bundle again from where it came",
            path=path,
        ) from error


def require_match(
    wanted: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor], network: str
) -> None:
    """Refuse weights that are not exactly those of a network.

    Parameters
    ----------
    wanted, found : mapping of str to torch.Tensor
        The network's state (the meta device will do), and the weights.
    network : str
        Its name, for the message.

    Raises
    ------
    InvalidInputError
        If a name is missing or unknown, or a shape or a kind of number differs.
    """
    missing = [name for name in wanted if name not in found]
    unknown = [name for name in found if name not in wanted]
    both = [name for name in wanted if name in found]
    shapes = [
        f"{n} is {tuple(found[n].shape)} and should be {tuple(wanted[n].shape)}"
        for n in both
        if found[n].shape != wanted[n].shape
    ]
    kinds = [n for n in both if found[n].is_floating_point() != wanted[n].is_floating_point()]
    troubles = [
        f"{what}: {', '.join(names[:_SHOWN])}{' and others' if len(names) > _SHOWN else ''}"
        for what, names in (
            ("missing", missing),
            ("unknown", unknown),
            ("shape", shapes),
            ("not of the same kind of number", kinds),
        )
        if names
    ]
    if troubles:
        raise InvalidInputError(
            f"The weights are not those of {network}",
            why="; ".join(troubles),
            remedy="use the weights and the description of one and the same training",
        )
