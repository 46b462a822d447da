"""The folder of a run: what lies where, and how it is opened again.

========================  =====================================================================
``config.yaml``           recipe, preset and all settings
``provenance.json``       versions, seed, hashes of settings and data, device, every session
``log.jsonl``             the curve: one line a logged step, the same for the same seed
``tensorboard/``          the curve again, with speeds and pictures
``checkpoints/``          the last few and the best, each with its sha256
========================  =====================================================================
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from cxr3d_training.engine.checkpoints import Checkpoint, CheckpointFolder
from cxr3d_training.engine.errors import TrainingError
from cxr3d_training.engine.settings import differences, read_yaml
from napari_cxr3d.errors import ExportError, UnreadableFileError

__all__ = ["RunFolder", "SavedRun", "replace_text"]

Which = Literal["best", "last"]

# Settings that leave every number as it is; a run may go on with others.
FREE_SETTINGS = ("run.workers", "run.keep_last", "run.checkpoint_every", "run.image_every")


@dataclass(frozen=True)
class SavedRun:
    """What ``config.yaml`` says.

    Attributes
    ----------
    recipe, preset : str
        Their names; the preset is where the settings began.
    settings : dict
        All settings, plain.
    """

    recipe: str
    preset: str
    settings: dict[str, Any]


class RunFolder:
    """Paths of a run, and its small files.

    Parameters
    ----------
    path : path-like
        The folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.provenance = self.path / "provenance.json"
        self.log = self.path / "log.jsonl"
        self.board = self.path / "tensorboard"
        self.checkpoints = self.path / "checkpoints"

    def begin(self, run: SavedRun) -> None:
        """Make the folder for a new run.

        Raises
        ------
        ExportError
            If the folder holds something already, or cannot be made.
        """
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise ExportError(
                "The folder of the run is not empty",
                remedy="choose another, or go on with what it holds by --resume",
                path=self.path,
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            record = {"recipe": run.recipe, "preset": run.preset, "settings": run.settings}
            text = yaml.safe_dump(record, sort_keys=False, allow_unicode=True)
            replace_text(self.config, text)
        except OSError as error:
            raise ExportError(
                "The folder of the run cannot be made", why=str(error), path=self.path
            ) from error

    def open_for(self, wanted: SavedRun, *, resume: bool) -> None:
        """Begin the folder, or, to go on, see that it holds this very run.

        Raises
        ------
        ExportError
            If it is to be begun and holds something.
        TrainingError
            If it holds another run, or this one with other settings.
        """
        if not (resume and self.config.is_file()):
            self.begin(wanted)
            return
        found = self.read()
        if found.recipe != wanted.recipe:
            raise TrainingError(
                "The run cannot go on with another recipe",
                why=f"it is of {found.recipe}, not of {wanted.recipe}",
                path=self.path,
            )
        changed = {
            key: pair
            for key, pair in differences(found.settings, wanted.settings).items()
            if key not in FREE_SETTINGS
        }
        if changed:
            told = [f"{key} was {old!r} and is {new!r}" for key, (old, new) in changed.items()]
            raise TrainingError(
                "The run cannot go on with other settings",
                why="; ".join(told[:5]) + (f"; and {len(told) - 5} more" if len(told) > 5 else ""),
                remedy="leave them as they were, or begin a new run in another folder",
                path=self.path,
            )

    def read(self) -> SavedRun:
        """What the run was begun with.

        Raises
        ------
        UnreadableFileError
            If the folder holds no run.
        """
        if not self.config.is_file():
            raise UnreadableFileError(
                "There is no training run here",
                why="the folder has no config.yaml",
                remedy="give the folder that --out of cxr3d-train fit named",
                path=self.path,
            )
        record = read_yaml(self.config)
        try:
            return SavedRun(str(record["recipe"]), str(record["preset"]), dict(record["settings"]))
        except (KeyError, TypeError, ValueError) as error:
            raise UnreadableFileError("The file is no run's", path=self.config) from error

    def read_provenance(self) -> dict[str, Any]:
        """How the run was made; empty while it has not begun.

        Raises
        ------
        UnreadableFileError
            If the file is damaged.
        """
        if not self.provenance.is_file():
            return {}
        try:
            record = json.loads(self.provenance.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UnreadableFileError(
                "The provenance cannot be read", path=self.provenance
            ) from error
        return dict(record)

    def write_provenance(self, record: Mapping[str, Any]) -> None:
        """Replace the provenance."""
        replace_text(self.provenance, json.dumps(record, indent=2) + "\n")

    def checkpoint(
        self, which: Which, *, higher_is_better: bool
    ) -> tuple[Checkpoint, dict[str, Any]]:
        """The best or the last checkpoint and its state.

        Raises
        ------
        TrainingError
            If the run has none.
        CheckpointError
            If it is damaged.
        """
        folder = CheckpointFolder(self.checkpoints, higher_is_better=higher_is_better)
        found = folder.best if which == "best" else None
        if found is None:
            found = next(iter(folder.listing()), None)
        if found is None:
            raise TrainingError(
                "The run has no checkpoint yet",
                remedy="let cxr3d-train fit come to its first one",
                path=self.path,
            )
        return found, found.read()


def replace_text(path: Path, text: str) -> None:
    """Write a small file so that it is whole at every moment."""
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
