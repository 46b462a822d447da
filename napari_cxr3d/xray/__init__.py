"""X-ray projection: CT to line integrals and back, and line integrals to radiographs.

Importing this package loads numpy only; a backend's libraries load when
`projector` makes it.
"""

from napari_cxr3d.xray.projector import (
    Projector,
    Quality,
    available_backends,
    project_basis,
    projector,
)

__all__ = ["Projector", "Quality", "available_backends", "project_basis", "projector"]
