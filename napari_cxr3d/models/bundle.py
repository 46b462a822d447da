"""Bundles: a network's weights, how it was made and how it must be used, in one folder or zip.

A bundle holds ``bundle.yaml`` (format, card, network description, list of files with size and
sha256) and the weights in safetensors. Opening one reads and compares; nothing of it is run.
The sha256 of ``bundle.yaml`` covers every other file through the hashes in it, and so is the
identity of the whole, the same for a folder and its zip.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_cxr3d.errors import BundleError, InvalidInputError
from napari_cxr3d.io.guard import require_memory
from napari_cxr3d.models import plain_yaml
from napari_cxr3d.models.card import check_card, describe_card
from napari_cxr3d.models.hu_window import HuWindow
from napari_cxr3d.models.network import (
    TARGET,
    build_network,
    check_description,
    outline_network,
)
from napari_cxr3d.models.storage import (
    DESCRIPTION,
    Store,
    digest,
    is_plain_name,
    open_store,
    read_file,
    write_folder,
    write_zip,
)
from napari_cxr3d.models.weights import SUFFIX, WeightsDtype, pack, require_match, unpack

if TYPE_CHECKING:
    import torch

__all__ = ["FORMAT_VERSION", "Bundle", "BundleFile", "open_bundle", "write_bundle"]

FORMAT = "napari-cxr3d model bundle"
FORMAT_VERSION = 1
_AGAIN = "get the bundle again from where it came"
_FIRST = ("format", "format_version", "name", "version", "kind", "licence", "synthetic_training")
_LAST = ("network", "weights", "files")


@dataclass(frozen=True)
class BundleFile:
    """A file of a bundle, as its description states it.

    Attributes
    ----------
    name : str
        Its plain name.
    n_bytes : int
        Its size.
    sha256 : str
        Hash of its content, in hexadecimal.
    """

    name: str
    n_bytes: int
    sha256: str


@dataclass(frozen=True, eq=False)
class Bundle:
    """An opened bundle, its files checked against its description.

    Attributes
    ----------
    path : Path
        The folder or the zip.
    card : dict
        What it says of itself; see `napari_cxr3d.models.card.check_card`.
    description : dict
        The network in MONAI's form, with ``_target_``.
    weights : dict
        ``dtype``, and ``parameters``: how many numbers.
    files : tuple of BundleFile
        Everything beside ``bundle.yaml``.
    sha256 : str
        Identity of the whole bundle, for `Provenance`.
    """

    path: Path
    card: dict[str, Any]
    description: dict[str, Any]
    weights: dict[str, Any]
    files: tuple[BundleFile, ...]
    sha256: str
    _store: Store = field(repr=False)

    @property
    def name(self) -> str:
        """Its name, such as ``"codec-demo"``."""
        return str(self.card["name"])

    @property
    def version(self) -> str:
        """Its version, such as ``"1.0.0"``."""
        return str(self.card["version"])

    @property
    def kind(self) -> str:
        """What it is for, such as ``"codec"``."""
        return str(self.card["kind"])

    @property
    def n_bytes(self) -> int:
        """Size of all its files but the description."""
        return sum(file.n_bytes for file in self.files)

    @property
    def hu_window(self) -> HuWindow:
        """The HU window of its preprocessing.

        Raises
        ------
        InvalidInputError
            If it states none.
        """
        return HuWindow.from_dict(self.card["preprocessing"])

    def state(self) -> dict[str, torch.Tensor]:
        """The weights, on the CPU, in the type in which they are stored.

        Raises
        ------
        BundleError
            If a file changed since the bundle was opened, or is no safetensors file.
        """
        state: dict[str, torch.Tensor] = {}
        for file in self.files:
            if not file.name.endswith(SUFFIX):
                continue
            content = read_file(self._store, file.name, limit=file.n_bytes)
            if sha256(content).hexdigest() != file.sha256:
                raise _altered(file.name, self.path)
            tensors = unpack(content, file.name, self.path)
            if twice := sorted(set(state) & set(tensors)):
                raise BundleError(
                    "Two files hold weights of one name",
                    why=twice[0],
                    remedy=_AGAIN,
                    path=self.path,
                )
            state |= tensors
        return state

    def network(self, device: str | torch.device = "cpu") -> torch.nn.Module:
        """Build the network with its weights, in evaluation mode and float32.

        Names and shapes are compared before memory is taken for the network.

        Parameters
        ----------
        device : str or torch.device
            Where it shall be.

        Raises
        ------
        BundleError
            If the description makes no network, or the weights are not exactly its own.
        OutOfMemoryError
            If it does not fit into memory.
        """
        require_memory(3 * self.n_bytes, self.path)
        state = self.state()
        try:
            outline = outline_network(self.description)
            require_match(outline.state_dict(), state, str(self.description[TARGET]))
            network = build_network(self.description)
        except InvalidInputError as error:
            raise BundleError(
                error.what, why=error.why, remedy=error.remedy, path=self.path
            ) from error
        network.load_state_dict(state, strict=True)
        return network.to(device).eval().requires_grad_(False)

    def describe(self) -> str:
        """The card, the network and the files, as lines of text."""
        numbers = self.weights.get("parameters")
        lines = [describe_card(self.card), f"network: {self.description[TARGET]}"]
        if isinstance(numbers, int):
            lines.append(f"  numbers: {numbers:,} stored as {self.weights.get('dtype')}")
        lines.append(f"sha256: {self.sha256}")
        lines.append("files")
        lines += [f"  {f.name}: {f.n_bytes / 2**20:.2f} MiB" for f in self.files]
        return "\n".join(lines)


def open_bundle(
    path: str | Path, *, sha256: str | None = None, check_content: bool = True
) -> Bundle:
    """Open a bundle and compare its files with what its description states.

    Loads no torch, and runs nothing of the bundle.

    Parameters
    ----------
    path : path-like
        The folder (or its ``bundle.yaml``), or the zip.
    sha256 : str, optional
        The bundle's published hash. Hashes inside a bundle reveal damage; only this one,
        from a source of its own, reveals that somebody made another bundle.
    check_content : bool
        Whether the files are read and hashed now; if not, only their names and sizes are
        compared, and the content when `Bundle.network` reads it.

    Raises
    ------
    UnreadableFileError
        If there is nothing at `path`.
    BundleError
        If it is no bundle, of a later format, incomplete, altered, or asks for anything that
        a bundle must not ask for.
    """
    store = open_store(path)
    content = read_file(store, DESCRIPTION, limit=plain_yaml.MAX_BYTES)
    identity = _sha256(content)
    if sha256 is not None and sha256.strip().lower() != identity:
        raise BundleError(
            "This is another bundle than the one that is expected",
            why=f"its sha256 is {identity}",
            remedy="do not use it, unless you know why it differs",
            path=store.path,
        )
    record = plain_yaml.load(content, store.path / DESCRIPTION)
    _require_format(record, store.path)
    try:
        description = record.pop("network", None)
        weights = record.pop("weights", None)
        files = _files(record.pop("files", None))
        del record["format"], record["format_version"]
        check_card(record)
        check_description(description)
        if not isinstance(weights, dict):
            raise InvalidInputError("The description does not tell the weights' type")
    except InvalidInputError as error:
        raise BundleError(
            error.what, why=error.why, remedy=_AGAIN, path=store.path / DESCRIPTION
        ) from error
    _require_files(store, files)
    if check_content:
        for file in files:
            if digest(store, file.name) != file.sha256:
                raise _altered(file.name, store.path)
    return Bundle(store.path, record, description, weights, files, identity, store)


def _sha256(content: bytes) -> str:
    return sha256(content).hexdigest()


def _require_format(record: Mapping[str, Any], path: Path) -> None:
    version = record.get("format_version")
    if record.get("format") != FORMAT or type(version) is not int or version < 1:
        raise BundleError(
            "This is not a model bundle of napari-cxr3d",
            why=f"its {DESCRIPTION} does not say format: {FORMAT}",
            remedy="choose another file",
            path=path,
        )
    if version > FORMAT_VERSION:
        raise BundleError(
            "The bundle was made for a later version of napari-cxr3d",
            why=f"its format is {version} and this version reads up to {FORMAT_VERSION}",
            remedy="type pip install --upgrade napari-cxr3d",
            path=path,
        )


def _files(entries: object) -> tuple[BundleFile, ...]:
    if not isinstance(entries, list) or not entries:
        raise InvalidInputError("The description lists no files")
    files = []
    for entry in entries:
        name, n_bytes, digits = (
            (entry.get("name"), entry.get("bytes"), entry.get("sha256"))
            if isinstance(entry, dict)
            else (None, None, None)
        )
        if not (
            isinstance(name, str)
            and is_plain_name(name)
            and name != DESCRIPTION
            and type(n_bytes) is int
            and n_bytes >= 0
            and isinstance(digits, str)
            and len(digits) == 64
        ):
            raise InvalidInputError(
                "The description's list of files cannot be used", why=f"{str(entry)[:120]}"
            )
        files.append(BundleFile(name, n_bytes, digits.lower()))
    if len({file.name for file in files}) < len(files):
        raise InvalidInputError("The description lists a file twice")
    if not any(file.name.endswith(SUFFIX) for file in files):
        raise InvalidInputError("The description lists no weights")
    return tuple(files)


def _require_files(store: Store, files: tuple[BundleFile, ...]) -> None:
    for file in files:
        if file.name not in store.sizes:
            raise BundleError(f"{file.name} is missing", remedy=_AGAIN, path=store.path)
        if store.sizes[file.name] != file.n_bytes:
            word = "cut off" if store.sizes[file.name] < file.n_bytes else "too long"
            raise BundleError(
                f"{file.name} is {word}",
                why=f"it has {store.sizes[file.name]} bytes and should have {file.n_bytes}",
                remedy=_AGAIN,
                path=store.path,
            )
    if extra := sorted(set(store.sizes) - {DESCRIPTION} - {file.name for file in files}):
        raise BundleError(
            f"{extra[0]} does not belong to the bundle",
            why=f"its {DESCRIPTION} does not list it",
            remedy="remove it, or get the bundle again from where it came",
            path=store.path,
        )


def _altered(name: str, path: Path) -> BundleError:
    return BundleError(
        f"{name} was altered or damaged",
        why=f"its sha256 is not the one in {DESCRIPTION}",
        remedy=_AGAIN,
        path=path,
    )


def write_bundle(
    path: str | Path,
    *,
    network: Mapping[str, Any],
    state: Mapping[str, torch.Tensor],
    card: Mapping[str, Any],
    dtype: WeightsDtype | None = "bfloat16",
    attachments: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a bundle that `open_bundle` will accept: the same arguments, the same bytes.

    Parameters
    ----------
    path : path-like
        A folder to make, or a ``.zip``.
    network : mapping
        ``{"_target_": "napari_cxr3d.models.codecs.KLCodec", ...}``, plain values only.
    state : mapping of str to torch.Tensor
        The network's state, exactly.
    card : mapping
        See `napari_cxr3d.models.card.check_card`.
    dtype : {"bfloat16", "float32"} or None
        Type in which the weights are stored; None leaves each as it is.
    attachments : mapping of str to str, optional
        Further texts by file name, such as a licence or a report.
    overwrite : bool
        Whether a bundle that stands there may be replaced.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    InvalidInputError
        If the card is not complete, or the weights are not those of the network.
    ExportError
        If it must not or cannot be written; nothing is left behind.
    """
    path = Path(path).expanduser()
    check_card(card)
    check_description(network)
    outline = outline_network(network)
    files, stored = pack(state, dtype)
    require_match(outline.state_dict(), stored, str(network[TARGET]))
    files |= _attached(attachments or {})
    record = {
        **card,
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "network": network,
        "weights": {
            "dtype": dtype or "as trained",
            "parameters": sum(tensor.numel() for tensor in stored.values()),
        },
        "files": [
            {"name": name, "bytes": len(content), "sha256": _sha256(content)}
            for name, content in sorted(files.items())
        ],
    }
    content = {DESCRIPTION: plain_yaml.dump(_in_order(plain_yaml.plain(record))), **files}
    if path.suffix.lower() == ".zip":
        write_zip(path, content, overwrite=overwrite)
    else:
        write_folder(path, content, overwrite=overwrite)
    return path


def _attached(attachments: Mapping[str, str]) -> dict[str, bytes]:
    files = {}
    for name, text in attachments.items():
        if not is_plain_name(name) or Path(name).suffix not in {".md", ".txt", ".json"}:
            raise InvalidInputError(
                f"{name!r} cannot be attached to a bundle",
                remedy="give a plain name that ends in .md, .txt or .json",
            )
        files[name] = text.encode("utf-8")
    return files


def _in_order(record: dict[str, Any]) -> dict[str, Any]:
    """What people look for comes first; the rest by the alphabet, at every depth."""
    middle = sorted(set(record) - {*_FIRST, *_LAST})
    return {key: _sorted(record[key]) for key in (*_FIRST, *middle, *_LAST)}


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value
