"""Volumes and radiographs as napari layers, and back.

A layer of ours carries two metadata entries. ``metadata["napari_cxr3d"]`` is a plain
JSON-serialisable record (`LayerRecord.to_dict`) free of patient identity;
``metadata["napari_cxr3d_object"]`` is the `Volume` or `Radiograph` itself, so that work
on the layer starts from the very object that was read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import (
    AXIS_LABELS,
    HU_MAX,
    HU_MIN,
    WINDOWS,
    Radiograph,
    Volume,
    Window,
    lps_to_world,
    world_to_lps,
)

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

__all__ = [
    "METADATA_KEY",
    "OBJECT_KEY",
    "SCHEMA_VERSION",
    "LayerData",
    "LayerKind",
    "LayerRecord",
    "add_radiograph",
    "add_volume",
    "configure_layer",
    "is_synthetic",
    "kind_of_layer",
    "labels_layer_data",
    "radiograph_layer_data",
    "radiograph_of_layer",
    "radiograph_refusal",
    "require_volume",
    "set_window",
    "show_alone",
    "volume_layer_data",
    "volume_of_layer",
    "volume_refusal",
]

METADATA_KEY = "napari_cxr3d"
OBJECT_KEY = "napari_cxr3d_object"
SCHEMA_VERSION = 1
DEFAULT_WINDOW = WINDOWS["Mediastinum"]

LayerKind = Literal["ct", "cxr", "drr", "labels", "uncertainty", "picture", "similarity"]
LayerData = tuple[npt.NDArray[Any], dict[str, Any], str]

_PERCENTILES = (0.5, 99.5)  # where the file asks for no window: cut burned-in marks and edges


@dataclass(frozen=True)
class LayerRecord:
    """What a layer of ours says about itself; free of patient identity.

    Attributes
    ----------
    kind : {"ct", "cxr", "drr", "labels", "uncertainty", "picture", "similarity"}
        What the layer shows; an uncertainty is a standard deviation in HU, and no CT. A
        picture is a copy that stands beside others, a similarity what a model finds alike.
    source : mapping
        `SourceInfo.to_metadata` of the file it came from.
    geometry : mapping
        Where its voxels or pixels lie.
    derivation : mapping or None
        `Provenance.to_dict` of the work that made it; None for what was read from a file.
    synthetic : bool
        True for everything that no scanner measured.
    """

    kind: LayerKind
    source: Mapping[str, Any] = field(default_factory=dict)
    geometry: Mapping[str, Any] = field(default_factory=dict)
    derivation: Mapping[str, Any] | None = None
    synthetic: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-serialisable form."""
        return {
            "kind": self.kind,
            "schema_version": SCHEMA_VERSION,
            "source": dict(self.source),
            "geometry": dict(self.geometry),
            "derivation": None if self.derivation is None else dict(self.derivation),
            "synthetic": self.synthetic,
        }


def volume_layer_data(
    volume: Volume,
    window: Window | None = None,
    *,
    name: str | None = None,
    derivation: Mapping[str, Any] | None = None,
) -> LayerData:
    """A CT as a napari LayerData tuple ``(hu, settings, "image")``.

    Parameters
    ----------
    volume : Volume
        The CT; the layer shows its array, without a copy.
    window : Window, optional
        Display window in HU; the mediastinal window when None.
    name : str, optional
        Layer name; ``"CT · <series description>"`` when None.
    derivation : mapping, optional
        `Provenance.to_dict` of the work that made the volume.
    """
    source = volume.source
    i, p, ell = volume.spacing_mm
    source_grid = None if source is None else source.grid
    geometry = {
        "layout": "".join(AXIS_LABELS),
        "shape": list(volume.shape),
        "spacing_mm": [i, p, ell],
        "origin_lps": list(volume.origin_lps),
        "source_shape": None if source_grid is None else list(source_grid.shape),
        "source_affine_lps": None if source_grid is None else source_grid.affine_lps.tolist(),
        "resampled": source_grid is not None and source_grid.order is None,
    }
    record = LayerRecord(
        kind="ct",
        source={} if source is None else source.to_metadata(),
        geometry=geometry,
        derivation=derivation,
        synthetic=volume.synthetic,
    )
    settings = {
        "name": name or _volume_name(volume),
        "scale": volume.spacing_mm,
        "translate": tuple(lps_to_world(volume.origin_lps).tolist()),
        "units": ("mm", "mm", "mm"),
        "axis_labels": AXIS_LABELS,
        "colormap": "gray",
        "contrast_limits": (window or DEFAULT_WINDOW).limits,
        "interpolation2d": "linear",
        "rendering": "attenuated_mip",
        "metadata": {METADATA_KEY: record.to_dict(), OBJECT_KEY: volume},
    }
    return volume.hu, settings, "image"


def _volume_name(volume: Volume) -> str:
    description = volume.source.description if volume.source is not None else ""
    head = "SYNTHETIC CT" if volume.synthetic else "CT"
    return f"{head} · {description}" if description else head


def labels_layer_data(
    labels: npt.NDArray[Any], volume: Volume, *, name: str, visible: bool = True
) -> LayerData:
    """Labels that belong to a CT as a napari LayerData tuple ``(labels, settings, "labels")``.

    Parameters
    ----------
    labels : ndarray of integers, shape (I, P, L)
        On the CT's grid; 0 is nothing.
    volume : Volume
        The CT.
    name : str
        Layer name.
    visible : bool
        Whether it is shown at first.
    """
    record = LayerRecord(kind="labels", synthetic=volume.synthetic)
    settings = {
        "name": name,
        "scale": volume.spacing_mm,
        "translate": tuple(lps_to_world(volume.origin_lps).tolist()),
        "units": ("mm", "mm", "mm"),
        "axis_labels": AXIS_LABELS,
        "opacity": 0.4,
        "visible": visible,
        "metadata": {METADATA_KEY: record.to_dict()},
    }
    return labels, settings, "labels"


def radiograph_layer_data(
    radiograph: Radiograph,
    *,
    name: str | None = None,
    derivation: Mapping[str, Any] | None = None,
    contrast_limits: tuple[float, float] | None = None,
) -> LayerData:
    """A radiograph as a napari LayerData tuple ``(pixels, settings, "image")``.

    Parameters
    ----------
    radiograph : Radiograph
        The picture; the layer shows its array, without a copy.
    name : str, optional
        Layer name; ``"CXR · PA"`` or ``"DRR · yaw 30°"`` when None.
    derivation : mapping, optional
        `Provenance.to_dict` of the work that made the picture.
    contrast_limits : tuple of 2 float, optional
        Display window; the file's own, or the pixels' bulk, when None.
    """
    pitch, view, source = radiograph.pitch_mm, radiograph.view, radiograph.source
    record = LayerRecord(
        kind="drr" if view is not None else "cxr",
        source={} if source is None else source.to_metadata(),
        geometry={
            "shape": list(radiograph.shape),
            "pitch_mm": None if pitch is None else list(pitch),
            "view": None if view is None else view.to_dict(),
            "view_position": radiograph.view_position,
            "quantity": radiograph.quantity,
        },
        derivation=derivation,
        synthetic=radiograph.synthetic,
    )
    settings = {
        "name": name or _radiograph_name(radiograph),
        "scale": pitch or (1.0, 1.0),
        "units": ("mm", "mm") if pitch else ("pixel", "pixel"),
        "axis_labels": ("row", "column"),
        "colormap": "gray",
        "contrast_limits": contrast_limits
        or radiograph.display_range
        or _bulk_range(radiograph.pixels),
        "interpolation2d": "linear",
        "metadata": {METADATA_KEY: record.to_dict(), OBJECT_KEY: radiograph},
    }
    return radiograph.pixels, settings, "image"


def _radiograph_name(radiograph: Radiograph) -> str:
    view = radiograph.view
    if view is not None:
        turned = [
            f"{axis} {getattr(view, axis):g}°"
            for axis in ("yaw", "pitch", "roll")
            if axis == "yaw" or getattr(view, axis) != 0
        ]
        return f"DRR · {' · '.join(turned)}"
    description = radiograph.source.description if radiograph.source is not None else ""
    position = "" if radiograph.view_position in description.split() else radiograph.view_position
    return " · ".join(part for part in ("CXR", position, description) if part)


def _bulk_range(pixels: npt.NDArray[np.float32]) -> tuple[float, float]:
    low, high = (float(v) for v in np.percentile(pixels, _PERCENTILES))
    return (low, high) if high > low else (low, low + 1.0)


def add_volume(
    viewer: ViewerModel,
    volume: Volume,
    window: Window | None = None,
    *,
    name: str | None = None,
    derivation: Mapping[str, Any] | None = None,
) -> Image:
    """Add a CT to the viewer; returns its layer. Parameters as `volume_layer_data`."""
    hu, settings, _ = volume_layer_data(volume, window, name=name, derivation=derivation)
    layer = viewer.add_image(hu, **settings)
    configure_layer(layer)
    return layer


def add_radiograph(
    viewer: ViewerModel,
    radiograph: Radiograph,
    *,
    name: str | None = None,
    derivation: Mapping[str, Any] | None = None,
    contrast_limits: tuple[float, float] | None = None,
) -> Image:
    """Add a radiograph to the viewer; returns its layer. Parameters as `radiograph_layer_data`."""
    pixels, settings, _ = radiograph_layer_data(
        radiograph, name=name, derivation=derivation, contrast_limits=contrast_limits
    )
    layer = viewer.add_image(pixels, **settings)
    configure_layer(layer)
    return layer


def show_alone(viewer: ViewerModel, layer: Layer) -> None:
    """Hide what shares no space with a layer: CT and radiographs would be taken for one picture.

    Only images of ours are hidden; their eye buttons bring them back. CTs share the
    patient's space, radiographs nothing.

    Parameters
    ----------
    viewer : ViewerModel
        The viewer; for a radiograph it goes back to two dimensions and the whole picture.
    layer : Layer
        The CT or radiograph that stays.
    """
    kind = kind_of_layer(layer)
    in_the_patient = ("ct", "labels", "uncertainty")
    shares_space = (None, *in_the_patient) if kind in in_the_patient else (None,)
    for other in viewer.layers:
        if other.name != layer.name and kind_of_layer(other) not in shares_space:
            other.visible = False
    if kind not in in_the_patient:
        viewer.dims.ndisplay = 2
        viewer.dims.order = tuple(range(viewer.dims.ndim))
        viewer.reset_view()


def configure_layer(layer: Layer) -> None:
    """Settings that a LayerData tuple cannot carry; safe to repeat, ignores foreign layers.

    The contrast slider of a CT spans the whole HU scale, that of a radiograph its pixels,
    and a CT that was read from a file is locked against deletion by accident.
    """
    kind = kind_of_layer(layer)
    if kind == "ct":
        low, high = layer.contrast_limits
        layer.contrast_limits_range = (min(HU_MIN, low), max(HU_MAX, high))
        layer.locked = not is_synthetic(layer)
    elif kind in ("cxr", "drr"):
        low, high = layer.contrast_limits
        data = layer.data
        layer.contrast_limits_range = (min(float(data.min()), low), max(float(data.max()), high))


def kind_of_layer(layer: Layer) -> LayerKind | None:
    """What a layer of ours shows; None for a layer that somebody else made."""
    record = layer.metadata.get(METADATA_KEY)
    return record["kind"] if record else None


def is_synthetic(layer: Layer) -> bool:
    """Whether the layer shows something that no scanner measured."""
    record = layer.metadata.get(METADATA_KEY)
    return bool(record and record["synthetic"])


def set_window(layer: Image, window: Window) -> None:
    """Show a CT layer through a window in HU."""
    low, high = window.limits
    range_low, range_high = layer.contrast_limits_range
    layer.contrast_limits_range = (min(range_low, low), max(range_high, high))
    layer.contrast_limits = (low, high)


def volume_refusal(layer: Layer | None) -> str:
    """Why a layer cannot be used as a CT, in one sentence; ``""`` when it can.

    Looks at the layer's settings only, not at its voxels, so it is cheap.
    """
    from napari.layers import Image

    if layer is None:
        return "No layer is chosen: open a CT in the Study panel."
    if not isinstance(layer, Image) or layer.rgb:
        return f"“{layer.name}” is not a grey-value image."
    if layer.multiscale or layer.ndim != 3:
        return f"“{layer.name}” is not a single volume with three axes."
    kind = kind_of_layer(layer)
    if kind == "uncertainty":
        return f"“{layer.name}” shows how uncertain a CT is; it is none."
    if kind != "ct" and tuple(layer.axis_labels) != AXIS_LABELS:
        return (
            f"It is not known where the patient's left lies in “{layer.name}”, which this "
            "plugin did not read: open its file in the Study panel, or name the layer's axes "
            "I, P, L if its indices grow toward inferior, posterior and left."
        )
    if np.any(np.asarray(layer.rotate) != np.eye(3)) or np.any(np.asarray(layer.shear) != 0):
        return f"“{layer.name}” was rotated or sheared: reset its transform."
    if any(s <= 0 for s in layer.scale):
        return f"“{layer.name}” has a negative scale, which mirrors it: reset its transform."
    return ""


def volume_of_layer(layer: Layer | None) -> Volume | None:
    """The CT that a layer shows; None where `volume_refusal` gives a reason.

    The very object that was read, as long as the layer still shows it in its place; else
    one built from the layer's voxels, scale and translation.

    Raises
    ------
    InvalidInputError
        If the voxels are not finite real numbers.
    """
    if layer is None or volume_refusal(layer):
        return None
    spacing = tuple(float(s) for s in layer.scale)
    origin = tuple(world_to_lps(layer.translate).tolist())
    held = layer.metadata.get(OBJECT_KEY)
    if isinstance(held, Volume):
        in_place = np.allclose(held.spacing_mm, spacing) and np.allclose(held.origin_lps, origin)
        if in_place and held.hu is layer.data:
            return held
        return held.with_hu(np.asarray(layer.data), spacing_mm=spacing, origin_lps=origin)
    return Volume(
        np.asarray(layer.data),
        spacing_mm=spacing,  # type: ignore[arg-type]
        origin_lps=origin,  # type: ignore[arg-type]
        synthetic=is_synthetic(layer),
    )


def radiograph_refusal(layer: Layer | None) -> str:
    """Why a layer cannot be used as a radiograph, in one sentence; ``""`` when it can."""
    from napari.layers import Image

    if layer is None:
        return "No layer is chosen: open a radiograph in the Study panel."
    if not isinstance(layer, Image) or layer.rgb:
        return f"“{layer.name}” is not a grey-value image."
    if layer.multiscale or layer.ndim != 2:
        return f"“{layer.name}” is not a single picture with rows and columns."
    if kind_of_layer(layer) in ("picture", "similarity"):
        return f"“{layer.name}” is a copy or a map: choose the radiograph that it came from."
    return ""


def radiograph_of_layer(layer: Layer | None) -> Radiograph | None:
    """The radiograph that a layer shows; None where `radiograph_refusal` gives a reason.

    A two-dimensional picture that another plugin opened is taken as it is; its scale is
    the pixel pitch if its units are mm.
    """
    if layer is None or radiograph_refusal(layer):
        return None
    held = layer.metadata.get(OBJECT_KEY)
    if isinstance(held, Radiograph) and held.pixels is layer.data:
        return held
    pitch = None
    if all(str(unit) == "millimeter" for unit in layer.units):
        pitch = (float(layer.scale[0]), float(layer.scale[1]))
    return Radiograph(np.asarray(layer.data), pitch_mm=pitch, synthetic=is_synthetic(layer))


def require_volume(layer: Layer | None) -> Volume:
    """The CT that a layer shows.

    Raises
    ------
    InvalidInputError
        With the sentence of `volume_refusal`.
    """
    volume = volume_of_layer(layer)
    if volume is None:
        raise InvalidInputError(volume_refusal(layer))
    return volume
