"""A landmark's way through a sweep, as points on its frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.imaging import XrayView
from napari_cxr3d.viewer.layers import METADATA_KEY, LayerRecord, kind_of_layer, show_alone
from napari_cxr3d.viewer.world_model_board import unwrapped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.components import ViewerModel
    from napari.layers import Image, Layer, Points

__all__ = ["TRACK_COLOR", "TRUTH_COLOR", "TrackLayers", "sweep_refusal", "sweep_views"]

TRACK_COLOR, TRUTH_COLOR = "#ffb000", "#56b4e9"
_SIZE = 0.025  # of a mark, part of the frame's height
_FILL = 0.9  # of the canvas


def sweep_refusal(layer: Layer | None) -> str:
    """Why a layer cannot be used as a sweep of DRRs, in one sentence; ``""`` when it can."""
    from napari.layers import Image

    if layer is None:
        return "No sweep is chosen: make one in the X-ray panel and add it to the main viewer."
    geometry = layer.metadata.get(METADATA_KEY, {}).get("geometry", {})
    if not isinstance(layer, Image) or kind_of_layer(layer) != "drr" or "views" not in geometry:
        return f"“{layer.name}” is no sweep of the X-ray panel."
    if layer.ndim != 3 or len(geometry["views"]) != layer.data.shape[0]:
        return f"“{layer.name}” does not say how each of its frames was projected."
    return ""


def sweep_views(layer: Layer) -> tuple[XrayView, ...]:
    """The geometry of each frame of a sweep."""
    views = layer.metadata[METADATA_KEY]["geometry"]["views"]
    return tuple(XrayView.from_dict(view) for view in views)


class TrackLayers:
    """Shows one trajectory after the other over its sweep.

    Parameters
    ----------
    viewer : ViewerModel
        Where the layers go.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._layers: list[Points] = []

    def show(
        self,
        sweep: Image,
        points: npt.NDArray[np.float64],
        truth: npt.NDArray[np.float64] | None,
        name: str,
        derivation: Mapping[str, Any],
    ) -> None:
        """Show where a landmark was found on each frame, and where it truly is.

        Parameters
        ----------
        sweep : Image
            The sweep's layer, which is shown alone.
        points, truth : ndarray of float64, shape (frames, 2)
            Rows and columns of the frames' pixels; NaN where there is none.
        name : str
            Of the landmark.
        derivation : mapping
            Of the work that made it.
        """
        self.clear()
        show_alone(self._viewer, sweep)
        sweep.visible = True
        for label, places, color, symbol in (
            (f"True · {name}", truth, TRUTH_COLOR, "ring"),
            (f"Track · {name} (SYNTHETIC)", points, TRACK_COLOR, "cross"),
        ):
            if places is None:
                continue
            frames = np.arange(len(places), dtype=float)
            data = np.column_stack([frames, places])[np.isfinite(places).all(-1)]
            self._layers.append(
                unwrapped(
                    self._viewer.add_points(
                        data,
                        name=label,
                        size=max(2.0, _SIZE * sweep.data.shape[-2]),
                        symbol=symbol,
                        face_color=color,
                        border_color=color,
                        scale=sweep.scale,
                        translate=sweep.translate,
                        units=sweep.units,
                        axis_labels=sweep.axis_labels,
                        metadata={
                            METADATA_KEY: LayerRecord(
                                "similarity", derivation=derivation, synthetic=True
                            ).to_dict()
                        },
                    )
                )
            )

        self._fit(sweep)

    def _fit(self, sweep: Image) -> None:
        """Show the frames face on, as large as the canvas."""
        viewer = self._viewer
        viewer.dims.ndisplay = 2
        viewer.dims.order = tuple(range(viewer.dims.ndim))
        pitch, shape = np.asarray(sweep.scale[-2:], float), np.asarray(sweep.data.shape[-2:])
        middle = np.asarray(sweep.translate[-2:], float) + pitch * (shape - 1) / 2
        size_mm = np.maximum(pitch * shape, 1e-6)
        viewer.scene.camera.center = (0.0, float(middle[0]), float(middle[1]))
        viewer.scene.camera.zoom = _FILL * float(np.min(np.array(viewer.canvas.size) / size_mm))

    def clear(self) -> None:
        """Take the trajectory away."""
        present = {id(unwrapped(layer)) for layer in self._viewer.layers}
        for layer in self._layers:
            if id(layer) in present:
                self._viewer.layers.remove(layer.name)
        self._layers = []
