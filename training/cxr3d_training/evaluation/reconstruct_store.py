"""Figures that were measured already: an evaluation that was stopped goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from napari_cxr3d.io.destination import write_json
from napari_cxr3d.metrics import Metric

__all__ = ["Store", "network_sha256"]

_FORMAT = 1  # another number, and what was kept is measured again


def network_sha256(network: torch.nn.Module) -> str:
    """Identity of a network: its class and its weights, on whatever device they lie."""
    digest = sha256(type(network).__qualname__.encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)  # a scalar has no bytes to view
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class Store:
    """Figures by method and case, each with what they depend on.

    Parameters
    ----------
    folder : Path or None
        Where to keep them, one file a method; None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._kept: dict[str, dict[str, Any]] = {}

    def get(self, method: str, depends: Mapping[str, Any], case: str) -> tuple[Metric, ...] | None:
        """What was measured of a method on a case, if it depends on the very same.

        Parameters
        ----------
        method : str
            Its name in the report.
        depends : mapping
            All that changes the figures: JSON-serialisable.
        case : str
            The case and the identity of its voxels.
        """
        entry = self._entries(method).get(_key(depends, case))
        return None if entry is None else tuple(Metric(**metric) for metric in entry)

    def put(
        self, method: str, depends: Mapping[str, Any], case: str, metrics: tuple[Metric, ...]
    ) -> None:
        """Keep figures; arguments as `get`."""
        entries = self._entries(method)
        entries[_key(depends, case)] = [asdict(metric) for metric in metrics]
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_json(self._path(method), {"method": method, "kept": entries}, overwrite=True)

    def _entries(self, method: str) -> dict[str, Any]:
        if method not in self._kept:
            self._kept[method] = {}
            if self._folder is not None and self._path(method).is_file():
                try:
                    record = json.loads(self._path(method).read_text(encoding="utf-8"))
                    self._kept[method] = dict(record["kept"])
                except (ValueError, KeyError, TypeError):
                    self._kept[method] = {}  # cut off, or somebody else's: measured again
        return self._kept[method]

    def _path(self, method: str) -> Path:
        assert self._folder is not None  # nobody asks without a folder
        slug = "".join(letter if letter.isalnum() else "-" for letter in method.lower())
        return self._folder / f"{slug}-{sha256(method.encode()).hexdigest()[:8]}.json"


def _key(depends: Mapping[str, Any], case: str) -> str:
    text = json.dumps([_FORMAT, depends, case], sort_keys=True)
    return sha256(text.encode()).hexdigest()
