"""Volumes that were made from predicted views, as layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from napari_cxr3d.imaging import Volume, Window
from napari_cxr3d.viewer.layers import add_volume, show_alone
from napari_cxr3d.viewer.planes import Plane, jump_to, show_plane
from napari_cxr3d.viewer.world_model_board import unwrapped

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

__all__ = ["add_orbit_volume"]

_WHOLE = Window.from_limits(-1000.0, 400.0)
_FILL = 0.9  # of the canvas


def add_orbit_volume(
    viewer: ViewerModel,
    volume: Volume,
    name: str,
    derivation: Mapping[str, Any],
    *,
    shown: bool,
) -> Image:
    """Add a volume; one that is shown gets the coronal plane, which a frontal view compares with.

    Parameters
    ----------
    viewer : ViewerModel
        The viewer.
    volume : Volume
        The volume.
    name : str
        Of the layer.
    derivation : mapping
        `Provenance.to_dict` of the work that made it.
    shown : bool
        Whether it takes the canvas.
    """
    layer = add_volume(viewer, volume, _WHOLE, name=name, derivation=derivation)
    layer.visible = shown
    if shown:
        show_alone(viewer, layer)
        for other in viewer.layers:
            if other.name != layer.name and other.name.startswith("SYNTHETIC CT"):
                other.visible = False
        show_plane(viewer, Plane.CORONAL)
        jump_to(viewer, volume.center_lps)
        down, _, across = (n * mm for n, mm in zip(volume.shape, volume.spacing_mm, strict=True))
        height, width = viewer.canvas.size
        viewer.scene.camera.zoom = _FILL * min(height / down, width / across)
    return unwrapped(layer)  # type: ignore[no-any-return]
