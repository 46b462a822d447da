"""The planes of reading: axial, coronal, sagittal and 3D.

Each plane sets the order of the axes explicitly. napari's own roll button would show the
coronal plane transposed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import lps_to_world, world_to_lps

if TYPE_CHECKING:
    from napari.components import ViewerModel

__all__ = ["AXIS_ORDERS", "Plane", "current_plane", "jump_to", "point_in_view", "show_plane"]


class Plane(StrEnum):
    """How a volume is looked at."""

    AXIAL = "axial"
    CORONAL = "coronal"
    SAGITTAL = "sagittal"
    VOLUME = "3D"


# Slice axis first, then the vertical and the horizontal axis of the canvas, as indices
# into (I, P, L). 3D keeps the array's own order: an odd permutation would mirror it.
AXIS_ORDERS: Mapping[Plane, tuple[int, int, int]] = MappingProxyType(
    {
        Plane.AXIAL: (0, 1, 2),
        Plane.CORONAL: (1, 0, 2),
        Plane.SAGITTAL: (2, 0, 1),
        Plane.VOLUME: (0, 1, 2),
    }
)

# Directions in napari world (-z, y, x): the 3D view looks from the patient's front, head up.
_POSTERIOR = (0.0, 1.0, 0.0)
_SUPERIOR = (-1.0, 0.0, 0.0)


def show_plane(viewer: ViewerModel, plane: Plane) -> None:
    """Show a plane, fitted to the canvas, at the point that is shown now.

    Raises
    ------
    InvalidInputError
        If the viewer holds nothing with three axes.
    """
    spatial = _spatial_axes(viewer)
    order = (*range(spatial[0]), *(spatial[k] for k in AXIS_ORDERS[plane]))
    if tuple(viewer.dims.order) != order:
        viewer.dims.order = order
    viewer.dims.ndisplay = 3 if plane is Plane.VOLUME else 2
    viewer.reset_view()
    if plane is Plane.VOLUME:
        viewer.scene.camera.set_view_direction(_POSTERIOR, _SUPERIOR)
        viewer.fit_to_view()


def current_plane(viewer: ViewerModel) -> Plane | None:
    """The plane that is shown; None when it is none of ours."""
    dims = viewer.dims
    if dims.ndim < 3:
        return None
    if dims.ndisplay == 3:
        return Plane.VOLUME
    order = tuple(axis - (dims.ndim - 3) for axis in dims.order[-3:])
    planes = (Plane.AXIAL, Plane.CORONAL, Plane.SAGITTAL)
    return next((plane for plane in planes if AXIS_ORDERS[plane] == order), None)


def point_in_view(viewer: ViewerModel) -> tuple[float, float, float]:
    """The point where the three planes meet, in LPS mm."""
    spatial = _spatial_axes(viewer)
    x, y, z = world_to_lps([viewer.dims.point[axis] for axis in spatial])
    return (float(x), float(y), float(z))


def jump_to(viewer: ViewerModel, point_lps: Sequence[float]) -> None:
    """Move all three planes to a point in LPS mm, and the canvas's centre with them."""
    spatial = _spatial_axes(viewer)
    world = lps_to_world(point_lps)
    for axis, value in zip(spatial, world, strict=True):
        viewer.dims.set_point(axis, float(value))
    shown = [float(world[axis - spatial[0]]) for axis in viewer.dims.displayed]
    viewer.scene.camera.center = (0.0, *shown) if len(shown) == 2 else tuple(shown)


def _spatial_axes(viewer: ViewerModel) -> tuple[int, int, int]:
    """The viewer's axes that are (I, P, L): its last three."""
    ndim = viewer.dims.ndim
    if ndim < 3:
        raise InvalidInputError(
            "There is no volume whose planes could be shown",
            remedy="open a CT in the Study panel",
        )
    return (ndim - 3, ndim - 2, ndim - 1)
