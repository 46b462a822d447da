"""The command line of the training package: ``cxr3d-train``."""

from cxr3d_training.cli.app import main

__all__ = ["main"]
