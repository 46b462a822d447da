"""Training of every model that `napari_cxr3d` uses."""

from napari_cxr3d import __version__

__all__ = ["__version__"]
