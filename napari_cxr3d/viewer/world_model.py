"""Landmarks, their best matches and similarity maps, as layers over two pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from napari_cxr3d.viewer.layers import METADATA_KEY, LayerRecord
from napari_cxr3d.viewer.world_model_board import PictureBoard, unwrapped

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer, Points
    from napari.utils import Colormap

__all__ = [
    "COLORMAPS",
    "SIDES",
    "MapLook",
    "MapSampling",
    "Mark",
    "MarkLayers",
    "Side",
    "similarity_colormap",
]

Side = Literal["A", "B"]
SIDES: tuple[Side, Side] = ("A", "B")
COLORMAPS = ("inferno", "viridis", "magma", "turbo")

_RAMP = 0.15  # of the colours: from nothing at the threshold to all of the colour
_SIZE = 0.022  # of a mark, part of the picture's height
_UNNAMED = {"label": "", "color": "#ffffff"}  # a mark that was just clicked
_TEXT = {"string": "{label}", "size": 11, "anchor": "upper_left", "color": {"feature": "color"}}


@dataclass(frozen=True)
class MapLook:
    """How a similarity map is drawn.

    Attributes
    ----------
    colormap : str
        One of `COLORMAPS`.
    opacity : float
        0 to 1.
    threshold : float
        Part of the way from the map's least to its largest value, 0 to 1: below it nothing
        is drawn.
    """

    colormap: str = "inferno"
    opacity: float = 0.7
    threshold: float = 0.5

    def limits(self, values: npt.NDArray[np.float32]) -> tuple[float, float]:
        """The values between which a map is drawn; NaN in it does not count."""
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        lower = low + self.threshold * (high - low)
        return (lower, max(high, lower + 1e-4))


@dataclass(frozen=True)
class MapSampling:
    """On which of a picture's pixels a map is drawn: a large picture needs not all of them.

    Attributes
    ----------
    step : float
        Pixels of the picture from one sample to the next.
    shape : tuple of 2 int
        Samples along rows and columns.
    """

    step: float
    shape: tuple[int, int]

    @classmethod
    def of(cls, shape: tuple[int, int], most: int = 256) -> MapSampling:
        """A sampling of a picture by at most so many samples a side."""
        step = max(1.0, max(shape) / most)
        rows, cols = (max(1, round(n / step)) for n in shape)
        return cls(step, (rows, cols))

    def points(self) -> npt.NDArray[np.float64]:
        """The samples as (row, column) of the picture's pixel centres, shape (n, 2)."""
        rows, cols = ((np.arange(n) + 0.5) * self.step - 0.5 for n in self.shape)
        grid = np.meshgrid(rows, cols, indexing="ij")
        return np.stack([axis.ravel() for axis in grid], axis=-1)


@dataclass(frozen=True)
class Mark:
    """A point on a picture.

    Attributes
    ----------
    point : tuple of 2 float
        Row and column in the picture's pixels.
    label : str
        Written beside it.
    color : str
        As ``"#rrggbb"``.
    """

    point: tuple[float, float]
    label: str
    color: str


def similarity_colormap(name: str) -> Colormap:
    """A colormap that begins with nothing, so that the picture below stays in sight."""
    from napari.utils import Colormap
    from napari.utils.colormaps import ensure_colormap

    steps = np.linspace(0, 1, 256)
    colors = np.array(ensure_colormap(name).map(steps), np.float32)
    colors[:, 3] = np.clip(steps / _RAMP, 0, 1)
    return Colormap(colors, name=f"similarity {name}", display_name=name)


class MarkLayers:
    """Everything that lies over the two pictures of a board.

    Parameters
    ----------
    viewer : ViewerModel
        Where the layers go.
    board : PictureBoard
        The pictures, at places ``"A"`` and ``"B"``.
    on_edited : callable
        Told the side and the rows that went away, whenever the user added, moved or deleted
        landmarks with the mouse, during a drag too.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        board: PictureBoard,
        on_edited: Callable[[Side, tuple[int, ...]], None],
    ) -> None:
        self._viewer, self._board = viewer, board
        self._on_edited = on_edited
        self._landmarks: dict[Side, Points] = {}
        self._matches: dict[Side, Points] = {}
        self._map: Image | None = None
        self._map_side: Side | None = None
        self._writing = False

    # Landmarks, which the user edits

    def points(self, side: Side) -> npt.NDArray[np.float64]:
        """The landmarks that were placed on a side, (row, column) each, as they are now."""
        layer = self._landmarks.get(side)
        if layer is None or not self._board.holds(layer):
            return np.empty((0, 2))
        return np.array(layer.data, float).reshape(-1, 2)

    def show_landmarks(self, side: Side, marks: Sequence[Mark]) -> None:
        """Show these landmarks on the side where they were placed."""
        if self._board.layer(side) is None:
            return
        layer = self._landmarks.get(side)
        if layer is None or not self._board.holds(layer):
            if not marks:
                return
            layer = self._add_landmarks(side)
        self._write(layer, marks)

    def place(self, side: Side) -> None:
        """Let the next clicks on a side's picture place landmarks."""
        if self._board.layer(side) is None:
            return
        layer = self._landmarks.get(side)
        if layer is None or not self._board.holds(layer):
            layer = self._add_landmarks(side)
        self._activate(layer)
        layer.mode = "add"

    def stop_placing(self) -> None:
        """Let clicks select and drag landmarks from now on."""
        for layer in self._landmarks.values():
            if self._board.holds(layer) and str(layer.mode) == "add":
                layer.mode = "select"

    def show_matches(self, side: Side, marks: Sequence[Mark]) -> None:
        """Show the best matches of the other side's landmarks."""
        layer = self._matches.get(side)
        if layer is None or not self._board.holds(layer):
            if not marks or self._board.layer(side) is None:
                return
            layer = self._matches[side] = self._add_points(f"Best match · {side}", side, "cross")
        self._write(layer, marks)

    # The map

    def show_map(
        self,
        side: Side,
        values: npt.NDArray[np.float32],
        sampling: MapSampling,
        look: MapLook,
        derivation: Mapping[str, Any],
    ) -> None:
        """Lay a similarity map over a side's picture; NaN where it does not reach."""
        under = self._board.layer(side)
        if under is None:
            return
        limits = look.limits(values)
        data = np.nan_to_num(values, nan=limits[0] - 1.0)
        layer = self._map
        if layer is None or not self._board.holds(layer) or self._map_side != side:
            self.hide_map()
            layer = self._map = self._add_map(side, under, data, sampling, look)
            self._map_side = side
        else:
            layer.data = data
        layer.metadata[METADATA_KEY] = LayerRecord(
            "similarity", derivation=derivation, synthetic=True
        ).to_dict()
        layer.contrast_limits_range = (-1.0, 1.0)
        layer.contrast_limits = limits
        layer.visible = True

    def set_look(self, values: npt.NDArray[np.float32], look: MapLook) -> None:
        """Draw the map that is shown in another way."""
        layer = self._map
        if layer is not None and self._board.holds(layer):
            layer.colormap = similarity_colormap(look.colormap)
            layer.opacity = look.opacity
            layer.contrast_limits = look.limits(values)

    def hide_map(self) -> None:
        """Take the map away."""
        if self._map is not None and self._board.holds(self._map):
            self._viewer.layers.remove(self._map.name)
        self._map, self._map_side = None, None

    @property
    def map_layer(self) -> Image | None:
        """The layer of the map that is shown."""
        return self._map

    def clear(self) -> None:
        """Take everything away that lies over the pictures."""
        self.hide_map()
        for layers in (self._landmarks, self._matches):
            for layer in layers.values():
                if self._board.holds(layer):
                    self._viewer.layers.remove(layer.name)
            layers.clear()

    def _add_map(
        self,
        side: Side,
        under: Image,
        data: npt.NDArray[np.float32],
        sampling: MapSampling,
        look: MapLook,
    ) -> Image:
        pitch = np.asarray(under.scale[-2:], float)
        first = sampling.points()[0]
        other = "B" if side == "A" else "A"
        active = self._viewer.layers.selection.active
        layer = unwrapped(
            self._viewer.add_image(
                data,
                name=f"Similarity · {other} → {side} (SYNTHETIC)",
                scale=tuple(pitch * sampling.step),
                translate=tuple(np.asarray(under.translate[-2:], float) + first * pitch),
                units=("mm", "mm"),
                axis_labels=("row", "column"),
                colormap=similarity_colormap(look.colormap),
                contrast_limits=(-1.0, 1.0),
                opacity=look.opacity,
                blending="translucent",
                interpolation2d="linear",
                metadata={METADATA_KEY: LayerRecord("similarity", synthetic=True).to_dict()},
            )
        )
        layer.colorbar.visible = True
        self._board.lay_over(layer)
        self._below_marks(layer)
        if active is not None:
            self._activate(unwrapped(active))
        return layer  # type: ignore[no-any-return]

    def _below_marks(self, layer: Image) -> None:
        """Put the map right above the pictures: marks must stay in sight and in reach."""
        layers = self._viewer.layers
        names = [one.name for one in layers]
        pictures = [self._board.layer(side) for side in SIDES]
        top = max(names.index(one.name) for one in pictures if one is not None)
        layers.move(names.index(layer.name), top + 1)

    def _add_landmarks(self, side: Side) -> Points:
        layer = self._add_points(f"Landmarks · {side}", side, "disc")
        self._landmarks[side] = layer

        def edited(event: Any) -> None:
            gone = event.data_indices if event.action == "removed" else ()
            self._tell(side, tuple(int(k) for k in gone))

        def dragged(_: Any, event: Any) -> Iterator[None]:
            yield
            while event.type == "mouse_move":  # napari tells of a drag only once it has ended
                self._tell(side, ())
                yield

        layer.events.data.connect(edited)
        layer.mouse_drag_callbacks.append(dragged)
        return layer

    def _tell(self, side: Side, gone: tuple[int, ...]) -> None:
        if not self._writing:
            self._on_edited(side, gone)

    def _add_points(self, name: str, side: Side, symbol: str) -> Points:
        under = self._board.layer(side)
        assert under is not None
        rows, cols = under.data.shape
        layer = self._viewer.add_points(
            np.empty((0, 2)),
            name=name,
            features={"label": np.empty(0, str), "color": np.empty(0, str)},
            feature_defaults=_UNNAMED,
            text=dict(_TEXT),
            size=max(2.0, _SIZE * max(rows, cols)),
            symbol=symbol,
            scale=under.scale[-2:],
            translate=under.translate[-2:],
            units=("mm", "mm"),
            axis_labels=("row", "column"),
            border_color="white",
            border_width=0.1,
            metadata={METADATA_KEY: LayerRecord("similarity", synthetic=True).to_dict()},
        )
        self._board.lay_over(unwrapped(layer))
        return unwrapped(layer)  # type: ignore[no-any-return]

    def _write(self, layer: Points, marks: Sequence[Mark]) -> None:
        data = np.array([mark.point for mark in marks], float).reshape(-1, 2)
        told = {"label": [x.label for x in marks], "color": [x.color for x in marks]}
        moved = layer.data.shape != data.shape or not np.array_equal(layer.data, data)
        self._writing = True
        try:
            if moved:
                layer.selected_data = {k for k in layer.selected_data if k < len(data)}
                layer.data = data
            if any(list(layer.features[name]) != values for name, values in told.items()):
                layer.features = told
                layer.feature_defaults = _UNNAMED
                if marks:
                    layer.face_color = told["color"]
                layer.refresh()
        finally:
            self._writing = False

    def _activate(self, layer: Layer) -> None:
        """Make a layer the one that the mouse works on."""
        self._viewer.layers.selection.active = next(
            (one for one in self._viewer.layers if unwrapped(one) is layer), None
        )
