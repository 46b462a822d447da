"""Checkpoints on disk: whole or not there, checked when read, the last few and the best kept.

``step-00001200.pt`` holds the state, ``step-00001200.json`` its size, sha256 and validation
figure. The first is moved into place last, so a pair is whole wherever both are there.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from cxr3d_training.engine.errors import CheckpointError

__all__ = ["Checkpoint", "CheckpointFolder"]

_NAME = re.compile(r"step-(\d{8,})\.pt")
_CHUNK = 1 << 22


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint of a run.

    Attributes
    ----------
    path : Path
        The file with the state.
    step : int
        Steps done.
    sha256, bytes : str, int
        What the file must be.
    figure : float or None
        The validation figure that the run is judged by, if the step was validated.
    """

    path: Path
    step: int
    sha256: str
    bytes: int
    figure: float | None = None

    def read(self, *, device: str = "cpu") -> dict[str, Any]:
        """The state, after its hash was checked; nothing in the file is executed.

        Raises
        ------
        CheckpointError
            If the file is missing, damaged or no checkpoint.
        """
        import torch

        try:
            if self.path.stat().st_size != self.bytes or _sha256(self.path) != self.sha256:
                raise CheckpointError(
                    "The checkpoint is damaged",
                    why="its content is not what was written",
                    remedy="delete it; an older one will be used",
                    path=self.path,
                )
            state = torch.load(self.path, map_location=device, weights_only=True)
        except CheckpointError:
            raise
        except Exception as error:
            raise CheckpointError(
                "The checkpoint cannot be read",
                why=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}",
                path=self.path,
            ) from error
        if not isinstance(state, dict):
            raise CheckpointError("The file is no checkpoint", path=self.path)
        return state


class CheckpointFolder:
    """The checkpoints of one run.

    Parameters
    ----------
    path : Path
        The folder; made when the first one is saved.
    keep_last : int
        How many of the newest are kept.
    higher_is_better : bool
        Which way the validation figure is better.
    """

    def __init__(self, path: Path, *, keep_last: int = 3, higher_is_better: bool = False) -> None:
        self.path = path
        self._keep_last = keep_last
        self._sign = -1.0 if higher_is_better else 1.0

    def listing(self) -> list[Checkpoint]:
        """All checkpoints, the newest first; files without their record are passed over."""
        found = []
        for path in self.path.glob("step-*.pt") if self.path.is_dir() else ():
            name = _NAME.fullmatch(path.name)
            if name is None:
                continue
            try:
                record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
                made = Checkpoint(
                    path, int(name[1]), record["sha256"], record["bytes"], record["figure"]
                )
            except (OSError, ValueError, KeyError, TypeError):
                made = Checkpoint(path, int(name[1]), "", -1)
            found.append(made)
        return sorted(found, key=lambda c: c.step, reverse=True)

    @property
    def best(self) -> Checkpoint | None:
        """The one with the best validation figure; the newest of equals."""
        judged = [c for c in self.listing() if c.figure is not None]
        return min(judged, key=lambda c: self._sign * (c.figure or 0.0), default=None)

    def improves(self, figure: float) -> bool:
        """Whether a figure is better than all saved ones."""
        best = self.best
        return best is None or self._sign * figure < self._sign * (best.figure or 0.0)

    def save(self, state: Mapping[str, Any], *, step: int, figure: float | None) -> Checkpoint:
        """Write a checkpoint, and delete those that need not be kept.

        Raises
        ------
        CheckpointError
            If it cannot be written; what was there stays.
        """
        import torch

        path = self.path / f"step-{step:08d}.pt"
        temporary = self.path / f".{uuid4().hex[:12]}.part"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                torch.save(dict(state), file)
                file.flush()
                os.fsync(file.fileno())
            record: dict[str, Any] = {
                "step": step,
                "sha256": _sha256(temporary),
                "bytes": temporary.stat().st_size,
                "figure": figure,
            }
            _write_json(path.with_suffix(".json"), record)
            os.replace(temporary, path)
            _sync_folder(self.path)
        except (OSError, RuntimeError) as error:
            raise CheckpointError(
                "The checkpoint could not be written",
                why=str(error),
                remedy="check the disk's free space and your permissions",
                path=path,
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
        self._prune()
        return Checkpoint(path, step, record["sha256"], record["bytes"], figure)

    def newest(self, notify: Callable[[str], None]) -> tuple[Checkpoint, dict[str, Any]] | None:
        """The newest checkpoint that is whole, and its state; None if there is none at all.

        Parameters
        ----------
        notify : callable
            Told of every damaged one that is passed over.

        Raises
        ------
        CheckpointError
            If there are checkpoints but all are damaged.
        """
        listing = self.listing()
        for checkpoint in listing:
            try:
                return checkpoint, checkpoint.read()
            except CheckpointError as error:
                notify(f"{error} Falling back to the one before.")
        if listing:
            raise CheckpointError(
                "No checkpoint of the run is whole",
                remedy="begin again in a new folder",
                path=self.path,
            )
        return None

    def drop_after(self, step: int) -> None:
        """Delete checkpoints of later steps, and what a killed run left half written."""
        for checkpoint in self.listing():
            if checkpoint.step > step:
                self._delete(checkpoint)
        for leftover in self.path.glob(".*.part"):
            leftover.unlink(missing_ok=True)

    def _prune(self) -> None:
        listing, best = self.listing(), self.best
        for checkpoint in listing[self._keep_last :]:
            if best is None or checkpoint.path != best.path:
                self._delete(checkpoint)

    def _delete(self, checkpoint: Checkpoint) -> None:
        checkpoint.path.unlink(missing_ok=True)
        checkpoint.path.with_suffix(".json").unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _write_json(path: Path, record: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{uuid4().hex[:12]}.part")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(record, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _sync_folder(path: Path) -> None:
    """Make the rename itself durable, where the system can (not on Windows)."""
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
