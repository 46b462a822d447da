"""Phantoms: bodies whose anatomy is known exactly."""

from napari_cxr3d.phantom.ellipsoids import Ellipsoid, EllipsoidPhantom, thorax_ellipsoids

__all__ = ["Ellipsoid", "EllipsoidPhantom", "thorax_ellipsoids"]
