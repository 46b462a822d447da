"""The healthy body: a list of painted shapes, and where everything lies."""

from napari_cxr3d.phantom.anatomy.build import build_anatomy
from napari_cxr3d.phantom.anatomy.model import Anatomy, Aorta, Branch, Dome, Ellipsoidal, Fissure
from napari_cxr3d.phantom.anatomy.person import Person

__all__ = [
    "Anatomy",
    "Aorta",
    "Branch",
    "Dome",
    "Ellipsoidal",
    "Fissure",
    "Person",
    "build_anatomy",
]
