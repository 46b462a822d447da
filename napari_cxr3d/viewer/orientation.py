"""Which side of the patient lies at which edge of the canvas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.imaging import XrayView, orientation_letters, world_to_lps
from napari_cxr3d.viewer.layers import METADATA_KEY, kind_of_layer, volume_refusal

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

__all__ = ["EdgeLetters", "canvas_letters", "reference_layer"]

_PICTURES = ("ct", "cxr", "drr")  # labels lie over one of these
_LETTERS_OF_POSITION = {"PA": ("I", "L"), "AP": ("I", "L")}
_DIRECTIONS = {"I": (0.0, 0.0, -1.0), "L": (1.0, 0.0, 0.0)}


@dataclass(frozen=True)
class EdgeLetters:
    """The patient letters at the four edges of the canvas; ``""`` where unknown."""

    top: str = ""
    bottom: str = ""
    left: str = ""
    right: str = ""


def reference_layer(viewer: ViewerModel) -> Layer | None:
    """The topmost visible layer whose place in the patient is known.

    An uncertainty lies over a CT like labels do, and counts where it is shown alone.
    """
    visible = [layer for layer in reversed(viewer.layers) if layer.visible]
    pictures = (
        layer for layer in visible if kind_of_layer(layer) in _PICTURES or not volume_refusal(layer)
    )
    maps = (layer for layer in visible if kind_of_layer(layer) == "uncertainty")
    return next(pictures, None) or next(maps, None)


def canvas_letters(viewer: ViewerModel) -> EdgeLetters:
    """The letters for what the canvas shows now, as the camera shows it.

    The reference is the topmost visible CT or radiograph. A radiograph that a computer
    projected knows its axes; a measured one has letters only where its file names the
    view position, by the convention that frontal images are stored for reading.
    """
    layer = reference_layer(viewer)
    if layer is None:
        return EdgeLetters()
    axes = _axes_in_lps(viewer, layer)
    if axes is None:
        return EdgeLetters()
    down, right = _canvas_directions(viewer, layer.ndim)
    return _edge_letters(down @ axes, right @ axes)


def _edge_letters(down_lps: npt.NDArray[Any], right_lps: npt.NDArray[Any]) -> EdgeLetters:
    top, bottom, left, right = (
        orientation_letters(direction.tolist())
        for direction in (-down_lps, down_lps, -right_lps, right_lps)
    )
    return EdgeLetters(top, bottom, left, right)


def _axes_in_lps(viewer: ViewerModel, layer: Layer) -> npt.NDArray[np.float64] | None:
    """Direction in LPS of each of the layer's axes, shape (ndim, 3); None if unknown."""
    if kind_of_layer(layer) == "uncertainty" or not volume_refusal(layer):
        return world_to_lps(np.eye(3))
    geometry = layer.metadata[METADATA_KEY]["geometry"]
    view = _view_shown(viewer, layer, geometry)
    if view is None:
        return None
    rows, columns = view
    still = np.zeros((layer.ndim - 2, 3))
    return np.vstack([still, rows, columns])


def _view_shown(
    viewer: ViewerModel, layer: Layer, geometry: Mapping[str, Any]
) -> tuple[npt.ArrayLike, npt.ArrayLike] | None:
    """Directions of rows and columns of the picture that a radiograph layer shows.

    A stack of radiographs, one exposure per step of its first axis, lists its geometries
    under ``"views"``.
    """
    views = geometry.get("views")
    if views:
        point = viewer.dims.point[viewer.dims.ndim - layer.ndim]
        step = round((point - float(layer.translate[0])) / float(layer.scale[0]))
        return XrayView.from_dict(views[min(max(step, 0), len(views) - 1)]).image_axes
    if geometry.get("view"):
        return XrayView.from_dict(geometry["view"]).image_axes
    letters = _LETTERS_OF_POSITION.get(geometry.get("view_position", ""))
    return None if letters is None else (_DIRECTIONS[letters[0]], _DIRECTIONS[letters[1]])


def _canvas_directions(
    viewer: ViewerModel, layer_ndim: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The canvas's downward and rightward directions along the layer's axes, shape (ndim,)."""
    dims, camera = viewer.dims, viewer.scene.camera
    missing = dims.ndim - layer_ndim  # napari aligns a layer with the viewer's last axes
    order = [axis - missing for axis in dims.order if axis >= missing]
    down, right = np.zeros(layer_ndim), np.zeros(layer_ndim)
    if dims.ndisplay == 3 and layer_ndim >= 3:
        view, up = np.array(camera.view_direction), np.array(camera.up_direction)
        handed = 1.0 if str(camera.handedness) == "right" else -1.0
        down[order[-3:]] = -up
        right[order[-3:]] = handed * np.cross(view, up)
    else:
        vertical, horizontal = camera.orientation2d
        down[order[-2]] = 1.0 if str(vertical) == "down" else -1.0
        right[order[-1]] = 1.0 if str(horizontal) == "right" else -1.0
    return down, right
