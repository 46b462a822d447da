"""What can go wrong while training, beyond wrong input."""

from __future__ import annotations

from napari_cxr3d.errors import Cxr3dError

__all__ = ["CheckpointError", "DivergedError", "TrainingError"]


class TrainingError(Cxr3dError):
    """A training run that cannot begin or go on."""


class CheckpointError(TrainingError):
    """A checkpoint that is missing, damaged or of another run."""


class DivergedError(TrainingError):
    """A loss that is no longer a number."""
