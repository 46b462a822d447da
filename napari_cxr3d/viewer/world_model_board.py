"""Pictures side by side in the main viewer, each with its name and its own patient letters.

Two radiographs share no space, so that one canvas cannot carry one set of letters for
both: each picture gets its own, and the letters at the canvas's edges stay away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.imaging import Volume, XrayView, orientation_letters
from napari_cxr3d.viewer.layers import METADATA_KEY, LayerRecord, kind_of_layer
from napari_cxr3d.viewer.planes import AXIS_ORDERS, Plane

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer, Points

__all__ = [
    "Letters",
    "PictureBoard",
    "Tile",
    "difference_colormap",
    "letters_of_plane",
    "letters_of_position",
    "letters_of_view",
    "plane_slice",
    "unwrapped",
]

Letters = tuple[str, str, str, str]
"""At the top, the bottom, the left and the right of a picture; ``""`` where unknown."""

NO_LETTERS: Letters = ("", "", "", "")

_GAP_MM = 30.0
_FILL = 0.86  # of the canvas
_DIRECTIONS = np.array([(0.0, 0.0, -1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)])  # I, P, L in LPS
_LESS, _MORE = (0.35, 0.67, 1.0), (1.0, 0.69, 0.0)
_TEXT = {"size": 11, "color": "#e8e8e8"}


def unwrapped(layer: Any) -> Any:
    """The layer behind the proxy that plugins are handed; a weak reference needs it."""
    return getattr(layer, "__wrapped__", layer)


def letters_of_view(view: XrayView) -> Letters:
    """The patient letters of a picture that was projected."""
    return _letters(*(np.asarray(axis) for axis in view.image_axes))


def letters_of_position(position: str) -> Letters:
    """The letters of a measured picture, where its file names a frontal view."""
    return ("S", "I", "R", "L") if position in ("PA", "AP") else NO_LETTERS


def letters_of_plane(plane: Plane) -> Letters:
    """The letters of a CT slice as it is shown in one of the three planes."""
    _, rows, cols = AXIS_ORDERS[plane]
    return _letters(_DIRECTIONS[rows], _DIRECTIONS[cols])


def _letters(down: npt.NDArray[Any], right: npt.NDArray[Any]) -> Letters:
    top, bottom, left, right_ = (
        orientation_letters(direction.tolist()) for direction in (-down, down, -right, right)
    )
    return (top, bottom, left, right_)


def plane_slice(
    volume: Volume, plane: Plane, index: int
) -> tuple[npt.NDArray[Any], tuple[float, float]]:
    """One slice of a CT as it is shown, with the pitch of its rows and columns in mm."""
    axis, rows, cols = AXIS_ORDERS[plane]
    picture = np.take(volume.hu, index, axis)
    return picture, (volume.spacing_mm[rows], volume.spacing_mm[cols])


def difference_colormap() -> Any:
    """Dark between two hues that the colour-blind tell apart: blue for less, amber for more."""
    from napari.utils import Colormap

    return Colormap([_LESS, (0.0, 0.0, 0.0), _MORE], name="difference", display_name="difference")


@dataclass(frozen=True, eq=False)
class Tile:
    """A picture with what is said of it.

    Attributes
    ----------
    key : str
        Its place: a tile of the same key and shape takes the other's layer over.
    name : str
        Of the layer, and above the picture.
    pixels : ndarray, shape (rows, cols)
        What is shown.
    pitch_mm : tuple of 2 float
        Of its rows and columns.
    limits : tuple of 2 float
        The display window.
    letters : tuple of 4 str
        At its edges.
    synthetic : bool
        Whether no scanner measured it.
    colormap : str or Colormap
        How its values are drawn.
    source, geometry, derivation : mapping
        For the layer's record.
    """

    key: str
    name: str
    pixels: npt.NDArray[Any]
    pitch_mm: tuple[float, float]
    limits: tuple[float, float]
    letters: Letters = NO_LETTERS
    synthetic: bool = False
    colormap: Any = "gray"
    source: Mapping[str, Any] = field(default_factory=dict)
    geometry: Mapping[str, Any] = field(default_factory=dict)
    derivation: Mapping[str, Any] | None = None

    @property
    def size_mm(self) -> tuple[float, float]:
        """Height and width."""
        rows, cols = self.pixels.shape
        return (rows * self.pitch_mm[0], cols * self.pitch_mm[1])

    def record(self) -> dict[str, Any]:
        """What its layer says about itself."""
        geometry = {
            **self.geometry,
            "shape": list(self.pixels.shape),
            "pitch_mm": list(self.pitch_mm),
            "place": self.key,
        }
        return LayerRecord(
            "picture", self.source, geometry, self.derivation, self.synthetic
        ).to_dict()


class PictureBoard:
    """A row of pictures, centred, that takes the canvas while it is shown.

    Parameters
    ----------
    viewer : ViewerModel
        Where the layers go.
    caption_name : str
        Name of the layer that carries names and letters.
    """

    def __init__(self, viewer: ViewerModel, caption_name: str) -> None:
        self._viewer = viewer
        self._caption_name = caption_name
        self._tiles: dict[str, Tile] = {}
        self._layers: dict[str, Image] = {}
        self._captions: Points | None = None
        self._over: list[Layer] = []

    def layer(self, key: str) -> Image | None:
        """The layer of a place; None where there is none, or it was deleted."""
        layer = self._layers.get(key)
        return layer if layer is not None and self.holds(layer) else None

    def tile(self, key: str) -> Tile | None:
        """What a place shows; None where it shows nothing."""
        return self._tiles.get(key) if self.layer(key) is not None else None

    def holds(self, layer: Layer) -> bool:
        """Whether the viewer still has a layer."""
        return any(unwrapped(one) is layer for one in self._viewer.layers)

    def show(self, tiles: Sequence[Tile]) -> bool:
        """Show these pictures from left to right, and nothing of ours besides.

        Returns
        -------
        bool
            Whether the layout is new: what lies over the pictures must then be placed anew.
        """
        kept = {tile.key for tile in tiles}
        same = [tile.key for tile in tiles] == list(self._tiles) and all(
            self.layer(tile.key) is not None
            and self._tiles[tile.key].pixels.shape == tile.pixels.shape
            and self._tiles[tile.key].pitch_mm == tile.pitch_mm
            for tile in tiles
        )
        for key in [key for key in self._layers if key not in kept or not same]:
            self._remove(self._layers.pop(key))
        old, self._tiles = self._tiles, {tile.key: tile for tile in tiles}
        left = -(sum(tile.size_mm[1] for tile in tiles) + _GAP_MM * (len(tiles) - 1)) / 2
        for tile in tiles:
            height, width = tile.size_mm
            corner = (-height / 2 + tile.pitch_mm[0] / 2, left + tile.pitch_mm[1] / 2)
            if same:
                self._renew(self._layers[tile.key], tile, old[tile.key])
            else:
                self._layers[tile.key] = self._add(tile, corner)
            left += width + _GAP_MM
        self._write_captions()
        if not same:
            self.take_canvas()
        return not same

    def lay_over(self, layer: Layer) -> None:
        """A layer belongs to the row: it is shown and hidden with it."""
        self._over = [one for one in self._over if self.holds(one)]
        self._over.append(layer)

    def take_canvas(self) -> None:
        """Hide our other pictures, and fit the canvas to the row."""
        viewer = self._viewer
        own = [*self._layers.values(), *self._over]
        if self._captions is not None:
            own.append(self._captions)
        ids = {id(layer) for layer in own}
        for layer in viewer.layers:
            if id(unwrapped(layer)) in ids:
                layer.visible = True
            elif kind_of_layer(layer) is not None:
                layer.visible = False
        viewer.dims.ndisplay = 2
        viewer.dims.order = tuple(range(viewer.dims.ndim))
        self._fit()

    def take_canvas_if_hidden(self) -> None:
        """Take the canvas, unless the row is shown already."""
        if not all(layer.visible for layer in self._layers.values()):
            self.take_canvas()

    def clear(self) -> None:
        """Take the row out of the viewer."""
        for layer in self._layers.values():
            self._remove(layer)
        if self._captions is not None:
            self._remove(self._captions)
        self._captions = None
        self._layers, self._tiles, self._over = {}, {}, []

    def _add(self, tile: Tile, corner: tuple[float, float]) -> Image:
        layer = self._viewer.add_image(
            tile.pixels,
            name=tile.name,
            scale=tile.pitch_mm,
            translate=corner,
            units=("mm", "mm"),
            axis_labels=("row", "column"),
            colormap=tile.colormap,
            contrast_limits=tile.limits,
            interpolation2d="linear",
            metadata={METADATA_KEY: tile.record()},
        )
        return unwrapped(layer)  # type: ignore[no-any-return]

    def _renew(self, layer: Image, tile: Tile, old: Tile) -> None:
        layer.metadata[METADATA_KEY] = tile.record()
        layer.data = tile.pixels
        if layer.name != tile.name:
            layer.name = tile.name
        layer.contrast_limits_range = (
            min(layer.contrast_limits_range[0], tile.limits[0]),
            max(layer.contrast_limits_range[1], tile.limits[1]),
        )
        if old.limits != tile.limits:  # else the user's own window stays
            layer.contrast_limits = tile.limits

    def _remove(self, layer: Layer) -> None:
        if self.holds(layer):
            self._viewer.layers.remove(layer.name)

    def _write_captions(self) -> None:
        """Names above the pictures, and letters at their edges, as text of one Points layer."""
        places, texts = [], []
        for key, tile in self._tiles.items():
            corner = np.asarray(self._layers[key].translate[-2:], float)
            height, width = tile.size_mm
            middle = corner + np.array([height - tile.pitch_mm[0], width - tile.pitch_mm[1]]) / 2
            rim = 0.04 * height
            up, down, left, right = tile.letters
            for text, row, column in (
                (tile.name, -height / 2 - rim, 0.0),
                (up, -height / 2 + rim, 0.0),
                (down, height / 2 - rim, 0.0),
                (left, 0.0, -width / 2 + rim),
                (right, 0.0, width / 2 - rim),
            ):
                if text:
                    places.append(middle + np.array([row, column]))
                    texts.append(text)
        data = np.array(places).reshape(-1, 2)
        if self._captions is not None and self.holds(self._captions):
            layer = self._captions
            if np.array_equal(layer.data, data):
                layer.features = {"text": texts}
                layer.visible = True
                return
            self._remove(layer)
        self._captions = unwrapped(
            self._viewer.add_points(
                data,
                name=self._caption_name,
                features={"text": texts},
                text={"string": "{text}", **_TEXT},
                size=1,
                face_color="transparent",
                border_color="transparent",
                units=("mm", "mm"),
                axis_labels=("row", "column"),
                metadata={METADATA_KEY: LayerRecord("picture").to_dict()},
            )
        )

    def _fit(self) -> None:
        """Zoom to the row with its names; napari would fit what is hidden as well."""
        viewer = self._viewer
        if not self._tiles:
            return
        heights, widths = zip(*(tile.size_mm for tile in self._tiles.values()), strict=True)
        rows = 1.1 * max(heights)
        cols = sum(widths) + _GAP_MM * (len(widths) - 1)
        height, width = viewer.canvas.size
        viewer.scene.camera.center = (0.0, 0.0, 0.0)
        viewer.scene.camera.zoom = _FILL * min(height / rows, width / cols)
