"""Chest CT and chest X-ray as one: a napari plugin and a library.

Importing this package loads no array, GUI or learning library; the submodules load
what they need when work starts.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("napari-cxr3d")
except PackageNotFoundError:  # a bare checkout on the path, without an install
    __version__ = "0+unknown"

__all__ = ["__version__"]
