"""A picture as it was chosen: the layer, what it is, and how it is shown."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np

from napari_cxr3d.imaging import XrayView
from napari_cxr3d.inference.world_model_tasks import CtSlice
from napari_cxr3d.viewer.layers import (
    METADATA_KEY,
    is_synthetic,
    radiograph_refusal,
    require_volume,
    volume_refusal,
)
from napari_cxr3d.viewer.planes import AXIS_ORDERS, Plane, current_plane
from napari_cxr3d.viewer.world_model import Side
from napari_cxr3d.viewer.world_model_board import (
    NO_LETTERS,
    Letters,
    Tile,
    letters_of_plane,
    letters_of_view,
    plane_slice,
)

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Image

    from napari_cxr3d.inference.similarity import PatchFeatures
    from napari_cxr3d.inference.world_model_tasks import PictureSource
    from napari_cxr3d.inference.xray_input import InputFinding, XrayInput
    from napari_cxr3d.widgets.common.xray_form import XrayForm

__all__ = ["Slot", "cut_slice", "fingerprint", "is_usable", "letters_of_input", "tile_of"]

_VIEWS = {
    "pa": XrayView(),
    "ap": XrayView(yaw=180.0, flip_columns=True),
    "lateral-left": XrayView(yaw=90.0),
    "lateral-right": XrayView(yaw=-90.0),
}


def letters_of_input(given: XrayInput) -> Letters:
    """The patient letters of an X-ray as it is stored, by what its user confirmed."""
    view = given.radiograph.view if given.projection == "as-given" else _VIEWS[given.projection]
    if view is None or given.rotation:
        return NO_LETTERS
    top, bottom, left, right = letters_of_view(view)
    return (top, bottom, right, left) if given.mirrored else (top, bottom, left, right)


def cut_slice(viewer: Viewer, layer: Image) -> tuple[CtSlice, Plane, int]:
    """The slice of a CT layer that the viewer shows now; the coronal one in its 3D view.

    Raises
    ------
    InvalidInputError
        If the layer shows no CT.
    """
    volume = require_volume(layer)
    plane = current_plane(viewer)
    if plane is None or plane is Plane.VOLUME:
        plane = Plane.CORONAL
    axis = AXIS_ORDERS[plane][0]
    point = viewer.dims.point[viewer.dims.ndim - 3 + axis]
    index = round((float(point) - float(layer.translate[axis])) / float(layer.scale[axis]))
    index = min(max(index, 0), volume.shape[axis] - 1)
    return CtSlice.cut(volume, plane.value, index), plane, index  # type: ignore[arg-type]


class Slot:
    """One of the pictures: its form, its layer, what was made of it."""

    def __init__(self, side: Side, form: XrayForm) -> None:
        self.side, self.form = side, form
        self.layer: ref[Image] | None = None
        self.slice: tuple[CtSlice, Plane, int] | None = None
        self.source: PictureSource | None = None
        self.features: PatchFeatures | None = None
        self.findings: tuple[InputFinding, ...] = ()

    @property
    def chosen(self) -> Image | None:
        """The layer, as long as it lives."""
        return None if self.layer is None else self.layer()


def is_usable(layer: Image) -> bool:
    """Whether a layer can be a picture: an X-ray, or a CT with a slice."""
    return not radiograph_refusal(layer) or not volume_refusal(layer)


def fingerprint(source: PictureSource) -> str:
    """What features depend on: pixels, and what was confirmed about them."""
    if isinstance(source, CtSlice):
        pixels, told = source.volume.hu, (source.plane, source.volume.spacing_mm)
    else:
        pixels, told = source.radiograph.pixels, source.to_dict()  # type: ignore[assignment]
    digest = blake2b(np.ascontiguousarray(pixels).tobytes(), digest_size=16)
    digest.update(repr((told, pixels.shape)).encode())
    return digest.hexdigest()


def tile_of(slot: Slot) -> Tile | None:
    """What the board shows of a picture."""
    layer, source = slot.chosen, slot.source
    if layer is None or source is None:
        return None
    limits = tuple(float(v) for v in layer.contrast_limits)
    record: dict[str, Any] = layer.metadata.get(METADATA_KEY) or {}
    if isinstance(source, CtSlice):
        assert slot.slice is not None
        _, plane, index = slot.slice
        pixels, pitch = plane_slice(source.volume, plane, 0)
        name, letters = f"{slot.side} · {layer.name} {plane.value} {index}", letters_of_plane(plane)
    else:
        pixels = source.radiograph.pixels
        pitch = source.known_pitch_mm or (1.0, 1.0)
        name, letters = f"{slot.side} · {layer.name}", letters_of_input(source)
    return Tile(
        slot.side,
        name,
        pixels,
        pitch,
        limits,  # type: ignore[arg-type]
        letters,
        synthetic=is_synthetic(layer),
        source=record.get("source", {}),
        geometry={"of": record.get("geometry", {})},
        derivation=record.get("derivation"),
    )
