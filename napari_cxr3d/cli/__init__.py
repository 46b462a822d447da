"""The command line: a headless command for every button."""

from napari_cxr3d.cli.app import main

__all__ = ["main"]
