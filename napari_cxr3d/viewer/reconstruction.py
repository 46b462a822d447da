"""A reconstruction as layers: it forms in place, and then stands beside what it came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np

from napari_cxr3d.imaging import AXIS_LABELS, Radiograph, Volume, Window, lps_to_world
from napari_cxr3d.viewer.layers import (
    METADATA_KEY,
    OBJECT_KEY,
    LayerRecord,
    add_radiograph,
    add_volume,
    kind_of_layer,
    show_alone,
)
from napari_cxr3d.viewer.overlays import set_caption
from napari_cxr3d.viewer.planes import Plane, current_plane, jump_to, show_plane

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

__all__ = ["ReconstructionLayers", "ShownRun", "add_reprojection", "add_uncertainty"]

# At the resolution of a synthetic CT there is no detail that a narrow window would bring out, and
# half of the patient would be black in it.
_WHOLE = Window.from_limits(-1000.0, 400.0)
_COARSE = "SYNTHETIC CT · coarse"
_FORMING = "SYNTHETIC CT · forming"
_UPPER_PERCENTILE = 99.5  # of an uncertainty: a few edge voxels must not darken the rest
_LEAST_RANGE_HU = 1.0
_FILL = 0.9  # of the canvas


@dataclass(frozen=True)
class ShownRun:
    """The layers that a finished run left, held weakly: deleting one frees its memory.

    Attributes
    ----------
    layers : tuple of weak references
        The volume to look at first, then the others.
    """

    layers: tuple[ref[Image], ...]

    def alive(self, viewer: ViewerModel) -> list[Image]:
        """Those that the viewer still has."""
        held = [layer for layer in (each() for each in self.layers) if layer is not None]
        present = {id(_unwrapped(layer)) for layer in viewer.layers}
        return [layer for layer in held if id(layer) in present]


class ReconstructionLayers:
    """Shows one run after the other; what is not finished goes away when it is given up.

    Parameters
    ----------
    viewer : ViewerModel
        Where the layers go.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._coarse: Image | None = None
        self._forming: Image | None = None
        self._hidden: list[ref[Any]] = []

    def begin(self, xrays: Sequence[tuple[Layer, tuple[float, float]]] = ()) -> None:
        """A run starts: from now on what is hidden can be brought back by `give_up`.

        Parameters
        ----------
        xrays : sequence of (layer, pitch)
            The X-rays with the pixel pitch (row, column) in mm that the user confirmed. A layer
            whose file gave none gets it: beside a volume in mm, pixels as long as a
            millimetre would be metres of picture.
        """
        self.give_up()
        for layer, pitch in xrays:
            _give_pitch(layer, pitch)

    def show_coarse(self, volume: Volume) -> None:
        """The first picture, before any sampling."""
        if self._coarse is None:
            self._coarse = self._add(volume, _COARSE)
        elif self._in_viewer(self._coarse):
            _replace(self._coarse, volume)
            self._step(volume)
        self._caption("coarse: the mean of what the X-ray allows")

    def show_forming(self, volume: Volume, message: str) -> None:
        """The sample as it is estimated now, in the place of the last estimate."""
        if self._forming is None:
            window = None
            if self._coarse is not None and self._in_viewer(self._coarse):
                self._coarse.visible = False
                window = Window.from_limits(*self._coarse.contrast_limits)
            self._forming = self._add(volume, _FORMING, window)
        elif self._in_viewer(self._forming):
            _replace(self._forming, volume)
            self._step(volume)
        self._caption(message)

    def finish(
        self,
        samples: Sequence[Volume],
        seeds: Sequence[int],
        *,
        mean: Volume | None = None,
        std: Volume | None = None,
        coarse: Volume | None = None,
        derivation: Mapping[str, Any] | None = None,
    ) -> ShownRun:
        """Put the result in the place of what was forming.

        Parameters
        ----------
        samples : sequence of Volume
            Each a draw; the first is looked at.
        seeds : sequence of int
            Of each sample, for its name.
        mean, std : Volume, optional
            Over the samples; the deviation in HU.
        coarse : Volume, optional
            The volume before sampling.
        derivation : mapping, optional
            `Provenance.to_dict` of the run.
        """
        window = self._window()
        forming, self._forming = self._forming, None
        if forming is not None and self._in_viewer(forming):
            self._viewer.layers.remove(forming.name)
        self._caption("")
        layers: list[Image] = []
        old, self._coarse = self._coarse, None
        if coarse is not None:
            if old is not None and self._in_viewer(old):
                _replace(old, coarse, derivation)
                old.visible = False
                layers.append(old)
            else:
                layers.append(self._add(coarse, _COARSE, window, derivation, visible=False))
        elif old is not None and self._in_viewer(old):
            self._viewer.layers.remove(old.name)
        if mean is not None:
            name = f"SYNTHETIC CT · mean of {len(samples)}"
            layers.append(self._add(mean, name, window, derivation, visible=False))
        for volume, seed in reversed(list(zip(samples, seeds, strict=True))):
            name = f"SYNTHETIC CT · seed {seed}"
            made = None if derivation is None else {**derivation, "seed": seed}
            layers.append(self._add(volume, name, window, made, visible=seed == seeds[0]))
        if std is not None:
            layers.insert(
                len(layers) - 1,
                add_uncertainty(self._viewer, std, len(samples), derivation=derivation),
            )
        self._hidden = []
        shown = ShownRun(tuple(ref(_unwrapped(layer)) for layer in reversed(layers)))
        self.show(shown)
        return shown

    def give_up(self) -> None:
        """Take away what was not finished, and bring back what it had covered."""
        for layer in (self._forming, self._coarse):
            if layer is not None and self._in_viewer(layer):
                self._viewer.layers.remove(layer.name)
        self._forming = self._coarse = None
        self._caption("")
        hidden, self._hidden = self._hidden, []
        for each in hidden:
            covered = each()
            if covered is not None and self._in_viewer(covered):
                covered.visible = True
        if hidden and self._viewer.dims.ndim == 2:
            self._viewer.reset_view()

    def show(self, run: ShownRun) -> bool:
        """Show a run's first volume again; False if all its layers were deleted."""
        layers = run.alive(self._viewer)
        if not layers:
            return False
        first = layers[0]
        self._hide_others(first)
        first.visible = True
        self._step(first.metadata[OBJECT_KEY])
        self._viewer.layers.selection.active = next(
            layer for layer in self._viewer.layers if _unwrapped(layer) is first
        )
        return True

    def _add(
        self,
        volume: Volume,
        name: str,
        window: Window | None = None,
        derivation: Mapping[str, Any] | None = None,
        *,
        visible: bool = True,
    ) -> Image:
        viewer = self._viewer
        plane = current_plane(viewer)
        fresh = not any(kind_of_layer(layer) == "ct" and layer.visible for layer in viewer.layers)
        layer = _unwrapped(
            add_volume(viewer, volume, window or _WHOLE, name=name, derivation=derivation)
        )
        layer.visible = visible
        if visible:
            self._hide_others(layer)
            if fresh:  # from an X-ray, or from nothing: the plane that a frontal view compares with
                show_plane(viewer, plane or Plane.CORONAL)
                jump_to(viewer, volume.center_lps)
                self._fit(volume)
            self._step(volume)
        return layer

    def _step(self, volume: Volume) -> None:
        """Let the sliders step by voxels; napari would step by the X-ray's finer pixels."""
        dims = self._viewer.dims
        begin = lps_to_world(volume.origin_lps)
        ranges = list(dims.range)
        ranges[-3:] = [
            (float(low), float(low) + (n - 1) * step, step)
            for low, n, step in zip(begin, volume.shape, volume.spacing_mm, strict=True)
        ]
        point = dims.point
        dims.range = tuple(ranges)
        dims.point = point  # a slider that became shorter has pushed it to its end

    def _fit(self, volume: Volume) -> None:
        """Zoom to the volume; napari would fit what is hidden as well."""
        viewer = self._viewer
        if viewer.dims.ndisplay == 2:
            rows, cols = (volume.size_mm[axis - viewer.dims.ndim] for axis in viewer.dims.displayed)
            height, width = viewer.canvas.size
            viewer.scene.camera.zoom = _FILL * min(height / rows, width / cols)

    def _hide_others(self, layer: Layer) -> None:
        """Hide our other pictures: another patient's CT lies elsewhere in the same space."""
        for other in self._viewer.layers:
            if _unwrapped(other) is layer or not other.visible or kind_of_layer(other) is None:
                continue
            other.visible = False
            self._hidden.append(ref(_unwrapped(other)))

    def _window(self) -> Window | None:
        """The window that the user looks at the forming volume through."""
        for layer in (self._forming, self._coarse):
            if layer is not None:
                return Window.from_limits(*(float(v) for v in layer.contrast_limits))
        return None

    def _in_viewer(self, layer: Layer) -> bool:
        return any(_unwrapped(one) is layer for one in self._viewer.layers)

    def _caption(self, text: str) -> None:
        set_caption(self._viewer, text, box=False)


def add_uncertainty(
    viewer: ViewerModel,
    std: Volume,
    samples: int,
    *,
    derivation: Mapping[str, Any] | None = None,
    visible: bool = False,
) -> Image:
    """Add a standard deviation over samples, in HU, to be laid over their CT.

    Parameters
    ----------
    viewer : ViewerModel
        The viewer.
    std : Volume
        The deviation in HU on the grid of the samples.
    samples : int
        How many there were.
    derivation : mapping, optional
        `Provenance.to_dict` of the run.
    visible : bool
        Whether it is shown at once.
    """
    upper = max(float(np.percentile(std.hu, _UPPER_PERCENTILE)), _LEAST_RANGE_HU)
    geometry = {
        "layout": "".join(AXIS_LABELS),
        "shape": list(std.shape),
        "spacing_mm": list(std.spacing_mm),
        "origin_lps": list(std.origin_lps),
    }
    record = LayerRecord("uncertainty", geometry=geometry, derivation=derivation, synthetic=True)
    layer = viewer.add_image(
        std.hu,
        name=f"Uncertainty · SD of {samples} (SYNTHETIC)",
        scale=std.spacing_mm,
        translate=tuple(lps_to_world(std.origin_lps).tolist()),
        units=("mm", "mm", "mm"),
        axis_labels=AXIS_LABELS,
        colormap="inferno",
        blending="additive",
        opacity=0.7,
        contrast_limits=(0.0, upper),
        interpolation2d="linear",
        visible=visible,
        metadata={METADATA_KEY: record.to_dict(), OBJECT_KEY: std},
    )
    return _unwrapped(layer)


def add_reprojection(
    viewer: ViewerModel,
    radiograph: Radiograph,
    *,
    derivation: Mapping[str, Any] | None = None,
) -> Image:
    """Add an X-ray of the synthetic volume as a layer, and show it alone."""
    layer = add_radiograph(
        viewer, radiograph, name="Re-projection (SYNTHETIC)", derivation=derivation
    )
    show_alone(viewer, layer)
    return _unwrapped(layer)


def _give_pitch(layer: Layer, pitch_mm: tuple[float, float]) -> None:
    """Lay an X-ray of unknown pitch out in mm, its centre at the origin like the volume's."""
    if all(str(unit) == "pixel" for unit in layer.units):
        layer.units = ("mm", "mm")
        layer.scale = pitch_mm
        layer.translate = tuple(
            -(n - 1) / 2 * p for n, p in zip(layer.data.shape, pitch_mm, strict=True)
        )


def _replace(layer: Image, volume: Volume, derivation: Mapping[str, Any] | None = None) -> None:
    """Give a layer another volume of the same grid; its window and place stay."""
    layer.metadata[OBJECT_KEY] = volume
    if derivation is not None:
        layer.metadata[METADATA_KEY] = {
            **layer.metadata[METADATA_KEY],
            "derivation": dict(derivation),
        }
    layer.data = volume.hu


def _unwrapped(layer: Any) -> Any:
    """The layer behind the proxy that plugins are handed; a weak reference needs it."""
    return getattr(layer, "__wrapped__", layer)
