"""Phantoms: bodies whose anatomy is known exactly.

`make_thorax` makes a synthetic patient with findings and a report; `thorax_ellipsoids` a
thorax whose line integrals are known in closed form.
"""

from napari_cxr3d.phantom.case import (
    DEFAULT_SIZE_MM,
    Box,
    PhantomCase,
    make_thoraces,
    make_thorax,
)
from napari_cxr3d.phantom.ellipsoids import Ellipsoid, EllipsoidPhantom, thorax_ellipsoids
from napari_cxr3d.phantom.findings import CT_RATE_LABELS, FINDINGS, Finding, ct_rate_labels
from napari_cxr3d.phantom.labels import Label

__all__ = [
    "CT_RATE_LABELS",
    "DEFAULT_SIZE_MM",
    "FINDINGS",
    "Box",
    "Ellipsoid",
    "EllipsoidPhantom",
    "Finding",
    "Label",
    "PhantomCase",
    "ct_rate_labels",
    "make_thoraces",
    "make_thorax",
    "thorax_ellipsoids",
]
