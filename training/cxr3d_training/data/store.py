"""A dataset on disk: one Zarr group a case, and a manifest that is made from the groups.

A case appears whole or not at all: it is written into a hidden folder of the dataset and moved
into its place last. Whatever a killed run leaves behind is such a hidden folder, which the next
run removes. See docs/reference/dataset-format.md.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from cxr3d_training.data.conditioning import Prepared
from cxr3d_training.data.memory import Memory
from napari_cxr3d.errors import Cxr3dError, ExportError, UnreadableFileError
from napari_cxr3d.imaging import Grid, Volume

__all__ = [
    "FORMAT",
    "VERSION",
    "StoredContent",
    "case_folder",
    "case_ids",
    "case_record",
    "clean_work",
    "content_sha256",
    "read_case",
    "read_json",
    "write_case",
    "write_json",
]

Array = npt.NDArray[Any]

FORMAT = "napari-cxr3d-dataset"
VERSION = 1

_WORK = ".work"
_ATTRIBUTE = "cxr3d"
_CHUNK = 64  # voxels along an edge: 512 KiB of int16, what a training crop of 64 to 128 touches


def case_folder(dataset: Path, case_id: str) -> Path:
    """Where a case's group lies."""
    return dataset / "cases" / case_id


def case_ids(dataset: Path) -> list[str]:
    """The complete cases, whatever the manifest says."""
    folder = dataset / "cases"
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if (entry / "zarr.json").is_file())


def content_sha256(prepared: Prepared) -> str:
    """sha256 of a case: of its arrays as they decode, its geometry and its facts.

    How the arrays are compressed does not count, so that another release of a codec keeps it.
    """
    digest = sha256(_canonical(_geometry_and_facts(prepared)).encode())
    for name in sorted(prepared.arrays):
        array = prepared.arrays[name]
        order = array.dtype.newbyteorder("<")
        digest.update(f"{name} {order.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array, dtype=order).data)
    return digest.hexdigest()


def write_case(dataset: Path, case_id: str, prepared: Prepared) -> str:
    """Store a case, whole or not at all; one that is there already stays.

    Parameters
    ----------
    dataset : Path
        The dataset's folder.
    case_id : str
        Its name.
    prepared : Prepared
        Its arrays and facts.

    Returns
    -------
    str
        `content_sha256` of the case that is on disk now.

    Raises
    ------
    ExportError
        If it cannot be written; nothing is left behind.
    """
    import zarr
    from zarr.codecs import BloscCodec, Crc32cCodec

    destination = case_folder(dataset, case_id)
    temporary = dataset / _WORK / f"{case_id}-{uuid4().hex[:12]}"
    digest = content_sha256(prepared)
    try:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        destination.parent.mkdir(parents=True, exist_ok=True)
        group = zarr.open_group(str(temporary), mode="w", zarr_format=3)
        for name, array in prepared.arrays.items():
            shape = array.shape
            stored = group.create_array(
                name,
                shape=shape,
                dtype=array.dtype,
                chunks=(_CHUNK,) * 3,
                shards=tuple(_CHUNK * -(-n // _CHUNK) for n in shape),  # one file an array
                compressors=[
                    BloscCodec(cname="zstd", clevel=5, shuffle="shuffle"),
                    Crc32cCodec(),
                ],
                dimension_names=("I", "P", "L"),
            )
            stored[...] = array
        record = {**_geometry_and_facts(prepared), "sha256": digest}
        group.attrs.update({_ATTRIBUTE: record})
        _flush(temporary)
        try:
            os.rename(temporary, destination)
        except OSError:
            if not (destination / "zarr.json").is_file():
                raise
            return str(case_record(dataset, case_id)["sha256"])
        _flush_folder(destination.parent)
        return digest
    except OSError as error:
        raise ExportError(
            "The case could not be written into the dataset",
            why=error.strerror or type(error).__name__,
            remedy="check the disk's free space and your permissions, and run the same again",
            path=dataset,
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def clean_work(dataset: Path) -> None:
    """Remove what killed runs left behind."""
    shutil.rmtree(dataset / _WORK, ignore_errors=True)


def case_record(dataset: Path, case_id: str) -> dict[str, Any]:
    """Geometry, facts and sha256 of a case, from its group's attributes.

    Raises
    ------
    UnreadableFileError
        If the case is not there or its attributes are damaged.
    """
    path = case_folder(dataset, case_id) / "zarr.json"
    record = read_json(path).get("attributes", {}).get(_ATTRIBUTE)
    if not isinstance(record, dict) or not {"sha256", "grid", "facts"} <= record.keys():
        raise UnreadableFileError(
            "The case's description is damaged",
            remedy="delete its folder and prepare the dataset again",
            path=path,
        )
    return record


def read_case(dataset: Path, case_id: str) -> Prepared:
    """A case with all its arrays.

    Raises
    ------
    UnreadableFileError
        If something of it is missing or damaged.
    """
    content = StoredContent(dataset, case_id, Memory(0))
    arrays = {name: content.read(name) for name in content.names}
    return Prepared(arrays, content.grid, content.facts)


@dataclass(frozen=True, eq=False)
class StoredContent:
    """A case of a dataset; arrays are read when they are asked for.

    Attributes
    ----------
    dataset : Path
        The dataset's folder.
    case_id : str
        Which case.
    memory : Memory
        Whole arrays are kept here; parts are read from disk, unless the whole is here.
    """

    dataset: Path
    case_id: str
    memory: Memory[Any]
    _opened: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    @property
    def grid(self) -> Grid:
        """Where the voxels lie."""
        return _grid(self._record["grid"])

    @property
    def facts(self) -> Mapping[str, Any]:
        """What is known of the case."""
        facts: dict[str, Any] = self._record["facts"]
        return facts

    @property
    def names(self) -> tuple[str, ...]:
        """The arrays that there are."""
        return tuple(sorted(self._group.array_keys()))

    def read(self, name: str, region: tuple[slice, slice, slice] | None = None) -> Array:
        """An array [I, P, L], or a part of it.

        Raises
        ------
        UnreadableFileError
            If the array is missing or damaged.
        """
        key = (self.case_id, name)
        if region is None:
            if name == "hu":
                return self.volume().hu
            whole: Array = self.memory.get(key, lambda: self._load(name, None))
            return whole
        kept = self.memory.peek(key)
        if kept is None:
            return self._load(name, region)
        part: Array = (kept.hu if isinstance(kept, Volume) else kept)[region]
        return part

    def volume(self) -> Volume:
        """The CT; the same object as long as its voxels are in memory."""
        volume: Volume = self.memory.get((self.case_id, "hu"), self._load_volume)
        return volume

    @property
    def _record(self) -> dict[str, Any]:
        if "record" not in self._opened:
            self._opened["record"] = case_record(self.dataset, self.case_id)
        record: dict[str, Any] = self._opened["record"]
        return record

    @property
    def _group(self) -> Any:
        if "group" not in self._opened:
            import zarr

            folder = case_folder(self.dataset, self.case_id)
            with _damage(folder):
                self._opened["group"] = zarr.open_group(str(folder), mode="r")
        return self._opened["group"]

    def _load_volume(self) -> Volume:
        grid, synthetic = self.grid, bool(self.facts.get("synthetic", False))
        hu = self._load("hu", None)
        return Volume(hu, grid.spacing_mm, grid.origin_lps, synthetic=synthetic)

    def _load(self, name: str, region: tuple[slice, slice, slice] | None) -> Array:
        with _damage(case_folder(self.dataset, self.case_id) / name):
            array: Array = np.asarray(self._group[name][... if region is None else region])
        array.flags.writeable = False
        return array


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises
    ------
    UnreadableFileError
        If the file is missing, or holds no JSON object.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UnreadableFileError(
            "The file is missing", remedy="prepare the dataset again", path=path
        ) from None
    except (OSError, ValueError) as error:
        raise UnreadableFileError(
            "The file is damaged", why=type(error).__name__, path=path
        ) from error
    if not isinstance(record, dict):
        raise UnreadableFileError("The file is damaged", why="it is no JSON object", path=path)
    return record


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all; what is there is replaced.

    Raises
    ------
    ExportError
        If it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            file.write(json.dumps(record, indent=1, sort_keys=True, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise ExportError(
            "The dataset could not be written",
            why=error.strerror or type(error).__name__,
            remedy="check the disk's free space and your permissions",
            path=path,
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """What Zarr and its codecs throw at damaged chunks, in our words."""
    try:
        yield
    except Cxr3dError:
        raise
    except MemoryError:
        raise
    except Exception as error:
        raise UnreadableFileError(
            "The array is missing or damaged",
            why=type(error).__name__,
            remedy="delete the case's folder and prepare the dataset again",
            path=path,
        ) from error


def _geometry_and_facts(prepared: Prepared) -> dict[str, Any]:
    grid = prepared.grid
    return {
        "grid": {
            "shape": list(grid.shape),
            "spacing_mm": list(grid.spacing_mm),
            "origin_lps": list(grid.origin_lps),
        },
        "facts": dict(prepared.facts),
    }


def _grid(record: Mapping[str, Any]) -> Grid:
    shape, spacing, origin = record["shape"], record["spacing_mm"], record["origin_lps"]
    return Grid(tuple(shape), tuple(spacing), tuple(origin))


def _canonical(record: Mapping[str, Any]) -> str:
    return json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _flush(folder: Path) -> None:
    """Have all files of a folder on the disk before the folder gets its name."""
    for parent, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(parent, name), "rb+") as file:
                os.fsync(file.fileno())
        _flush_folder(Path(parent))


def _flush_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
