"""The X-ray tube, its beam and the detector as layers of the 3D view."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import DetectorFrame, lps_to_world, world_to_lps

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer, Points, Vectors

__all__ = ["LAYER_PREFIX", "XrayGeometryLayers", "angles_of_camera", "beam_vectors"]

FloatArray = npt.NDArray[np.float64]

LAYER_PREFIX = "X-ray source · "

_CENTRAL_RAY_COLOR = "#ffd24d"
_FIELD_EDGE_COLOR = "#b8902f"
_DETECTOR_COLOR = "#4dc3ff"
_SOURCE_SIZE_MM = 40.0
_EDGE_WIDTH_MM = 5.0


def beam_vectors(frame: DetectorFrame, shape: tuple[int, int]) -> FloatArray:
    """The beam as napari vectors in world coordinates.

    Parameters
    ----------
    frame : DetectorFrame
        Source and detector in LPS mm.
    shape : tuple of 2 int
        Detector (rows, columns).

    Returns
    -------
    ndarray, shape (9, 2, 3)
        Start and extent of the central ray, of the four edges of the field (source to
        detector corner), and of the four sides of the detector, clockwise from the top.
    """
    corners = frame.corners(shape)
    rays = [(frame.source, frame.center), *((frame.source, corner) for corner in corners)]
    sides = zip(corners, np.roll(corners, -1, axis=0), strict=True)
    segments = lps_to_world(np.array([*rays, *sides]))
    segments[:, 1] -= segments[:, 0]
    return segments


def angles_of_camera(viewer: ViewerModel) -> tuple[float, float]:
    """Yaw and pitch in degrees of a tube that stands where the 3D camera stands.

    Raises
    ------
    InvalidInputError
        If the viewer shows a slice, not 3D.
    """
    dims = viewer.dims
    direction = None
    if dims.ndisplay == 3:
        direction = viewer.scene.camera.calculate_nd_view_direction(dims.ndim, dims.displayed)
    if direction is None:
        raise InvalidInputError(
            "The viewer shows a slice, which has no viewing direction",
            remedy="switch to the 3D view, turn the patient, and try again",
        )
    x, y, z = -world_to_lps(direction[-3:])  # from the patient toward the camera
    length = math.sqrt(x * x + y * y + z * z)
    pitch = math.degrees(math.asin(max(-1.0, min(1.0, z / length))))
    yaw = math.degrees(math.atan2(-x, y))
    return (yaw, pitch)


class XrayGeometryLayers:
    """The focal spot and the beam of one view, in the main viewer.

    The layers stand in the viewer only while it shows 3D: they reach far outside the
    patient, and in a slice view they would stretch every slider to their extent.

    Parameters
    ----------
    viewer : ViewerModel
        The main viewer.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._frame: DetectorFrame | None = None
        self._shape = (1, 1)
        self._spot: Points | None = None
        self._beam: Vectors | None = None
        viewer.dims.events.ndisplay.connect(self._follow_display)
        viewer.layers.events.removed.connect(self._forget)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Our layers that stand in the viewer."""
        return tuple(layer for layer in (self._spot, self._beam) if layer is not None)

    @property
    def shown(self) -> bool:
        """Whether the geometry is switched on (it appears in 3D only)."""
        return self._frame is not None

    def show(self, frame: DetectorFrame, shape: tuple[int, int]) -> None:
        """Draw a view, or move what is drawn to it.

        Parameters
        ----------
        frame : DetectorFrame
            Source and detector in LPS mm.
        shape : tuple of 2 int
            Detector (rows, columns).
        """
        self._frame, self._shape = frame, shape
        if self._viewer.dims.ndisplay != 3:
            return
        spot = lps_to_world(frame.source[None])
        beam = beam_vectors(frame, shape)
        if self._spot is None or self._beam is None:
            self._remove()
            self._add(spot, beam)
        else:
            self._spot.data = spot
            self._beam.data = beam

    def hide(self) -> None:
        """Take the layers out of the viewer."""
        self._frame = None
        self._remove()

    def close(self) -> None:
        """Remove the layers and stop listening to the viewer."""
        self._viewer.dims.events.ndisplay.disconnect(self._follow_display)
        self._viewer.layers.events.removed.disconnect(self._forget)
        self.hide()

    def _add(self, spot: FloatArray, beam: FloatArray) -> None:
        from napari.layers import Points, Vectors

        common: dict[str, Any] = {
            "units": ("mm",) * 3,
            "axis_labels": ("I", "P", "L"),
            "blending": "translucent_no_depth",
        }
        self._spot = Points(
            spot,
            name=f"{LAYER_PREFIX}focal spot",
            size=_SOURCE_SIZE_MM,
            face_color=_CENTRAL_RAY_COLOR,
            border_color="#000000",
            **common,
        )
        self._beam = Vectors(
            beam,
            name=f"{LAYER_PREFIX}beam",
            edge_width=_EDGE_WIDTH_MM,
            vector_style="line",
            edge_color=[
                _CENTRAL_RAY_COLOR,
                *[_FIELD_EDGE_COLOR] * 4,
                *[_DETECTOR_COLOR] * 4,
            ],
            **common,
        )
        layers = self._viewer.layers
        active = layers.selection.active
        for layer in (self._beam, self._spot):
            layers.append(layer)
        layers.selection.active = active

    def _remove(self) -> None:
        ours = self.layers
        self._spot = self._beam = None
        for layer in ours:
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)

    def _follow_display(self) -> None:
        if self._frame is None:
            return
        if self._viewer.dims.ndisplay == 3:
            self.show(self._frame, self._shape)
        else:
            self._remove()

    def _forget(self, event: Any) -> None:
        """A layer that the user removed comes back with the next view."""
        if event.value is self._spot:
            self._spot = None
        elif event.value is self._beam:
            self._beam = None
