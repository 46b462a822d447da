"""Following a landmark through the frames of a sweep, and measuring how far it strays."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import Cxr3dError
from napari_cxr3d.imaging import Radiograph
from napari_cxr3d.progress import CancelToken, ProgressCallback
from napari_cxr3d.viewer.layers import require_volume, volume_refusal
from napari_cxr3d.viewer.planes import point_in_view
from napari_cxr3d.viewer.world_model import SIDES
from napari_cxr3d.viewer.world_model_tracks import (
    TRACK_COLOR,
    TrackLayers,
    sweep_refusal,
    sweep_views,
)
from napari_cxr3d.widgets.common.worker_session import unwrapped_images
from napari_cxr3d.widgets.world_model.landmark_files import Landmark
from napari_cxr3d.widgets.world_model.landmarks import LandmarkController
from napari_cxr3d.widgets.world_model.one_job import OneJob
from napari_cxr3d.widgets.world_model.pairing import PairController
from napari_cxr3d.widgets.world_model.plots import Curve
from napari_cxr3d.widgets.world_model.session import NO_MODEL, WorldModelSession

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_cxr3d.inference.similarity import PatchFeatures
    from napari_cxr3d.inference.tracking import Trajectory
    from napari_cxr3d.inference.world_model_tasks import SweepState
    from napari_cxr3d.inference.xray_input import XrayInput

__all__ = ["TrackController", "frames_of_sweep"]

_KEPT = 2  # sweeps whose features are kept
_NO_LANDMARK = "Place a landmark on picture A or B first."
_ENCODING = "The landmark's picture is being encoded."
_RUNNING = "A sweep is being encoded: wait, or cancel it."
_CT_POINT = "point of the CT"
_NO_RAY = "The geometry of the landmark's picture is not known: it is no DRR of a CT."


def frames_of_sweep(layer: Image) -> tuple[XrayInput, ...]:
    """The frames of a sweep's layer as X-rays of known geometry."""
    from napari_cxr3d.inference.xray_input import XrayInput

    return tuple(
        XrayInput(
            Radiograph(
                np.asarray(frame, np.float32),
                pitch_mm=(view.pixel_mm, view.pixel_mm),
                view=view,
                synthetic=True,
            ),
            "as-given",
        )
        for frame, view in zip(layer.data, sweep_views(layer), strict=True)
    )


class TrackController(OneJob):
    """Connects the sweep's form with the encoder, the tracker and the layers."""

    def __init__(
        self, session: WorldModelSession, pair: PairController, landmarks: LandmarkController
    ) -> None:
        super().__init__(session, "Cancelled; the sweep was not encoded.")
        self._pair, self._landmarks = pair, landmarks
        self.layers = TrackLayers(session.viewer)
        self._cache: OrderedDict[tuple[str, int], tuple[PatchFeatures, ...]] = OrderedDict()
        self._sweep: ref[Image] | None = None
        self.truth: tuple[float, float, float] | None = None
        form = session.panel.track_form
        form.track_requested.connect(self.track)
        form.frame_chosen.connect(self.show_frame)
        form.point_requested.connect(self.take_point)
        session.panel.cancel_requested.connect(self.cancel)
        session.state_changed.connect(self.show_reasons)

    def refresh(self) -> None:
        """Bring the choice of sweeps and CTs up to date with the viewer's layers."""
        images = unwrapped_images(self._session.viewer)
        form = self._session.panel.track_form
        form.sweeps.offer([layer.name for layer in images if not sweep_refusal(layer)])
        form.ct.offer([layer.name for layer in images if not volume_refusal(layer)])

    def show_reasons(self) -> None:
        """Say why nothing can be tracked, if so."""
        landmark = self._landmarks.selected
        features = None if landmark is None else self._pair.features(landmark.side)
        reason = ""
        if self._job is not None:
            reason = _RUNNING
        elif not self._session.model:
            reason = NO_MODEL
        elif self._chosen() is None:
            reason = sweep_refusal(None)
        elif landmark is None:
            reason = _NO_LANDMARK
        elif features is None:
            reason = _ENCODING
        unknown = features is not None and features.picture.center_lps is None
        self._session.panel.track_form.set_reason(reason, _NO_RAY if unknown else "")

    def take_point(self) -> None:
        """Take the CT's crosshair as the true place, and put a landmark where A or B shows it."""
        session = self._session
        name = session.panel.track_form.ct.chosen
        layer = next((x for x in unwrapped_images(session.viewer) if x.name == name), None)
        if layer is None:
            self.truth = None
            session.panel.track_form.show_point("")
            return
        try:
            require_volume(layer)
            self.truth = point_in_view(session.viewer)
        except Cxr3dError as error:
            session.report(error)
            return
        x, y, z = self.truth
        session.panel.track_form.show_point(f"True place: LPS ({x:.1f}, {y:.1f}, {z:.1f}) mm")
        for side in SIDES:
            features = self._pair.features(side)
            if features is None or features.picture.center_lps is None:
                continue
            picture = features.picture
            place = picture.to_source(picture.in_ct().frame().project(np.array(self.truth)))
            if picture.shows([place])[0]:
                self._landmarks.add(side, (float(place[0]), float(place[1])), _CT_POINT)
                return

    def track(self) -> None:
        """Find the selected landmark on every frame; the frames are encoded once."""
        session, landmark, sweep = self._session, self._landmarks.selected, self._chosen()
        if landmark is None or sweep is None or self._job is not None:
            return
        truth = self.truth
        key = (session.model, id(sweep.data))
        if key in self._cache:
            self._follow(landmark, sweep, self._cache[key], truth)
            return

        def done(last: SweepState) -> None:
            self._finish()
            if last.result is not None:
                self._cache[key] = last.result
                while len(self._cache) > _KEPT:
                    self._cache.popitem(last=False)
                self._follow(landmark, sweep, last.result, truth)

        try:
            self._job = session.worker.submit(
                session.engine.sweep_features(frames_of_sweep(sweep), session.model),
                owner=session,
                on_state=self._on_state,
                on_done=done,
                on_error=self._on_error,
                on_cancelled=self._on_cancelled,
            )
        except Cxr3dError as error:
            session.report(error)
            return
        session.panel.progress.start("encoding the sweep")
        session.state_changed.emit()

    def show_frame(self, index: int) -> None:
        """Step to a frame of the sweep that was tracked."""
        sweep = None if self._sweep is None else self._sweep()
        viewer = self._session.viewer
        if sweep is not None and viewer.dims.ndim >= 3:
            at = float(sweep.translate[0]) + index * float(sweep.scale[0])
            viewer.dims.set_point(viewer.dims.ndim - 3, at)

    def close(self) -> None:
        """Hear nothing more; the session cancels the job."""
        self._job = None
        self._cache.clear()

    def _chosen(self) -> Image | None:
        name = self._session.panel.track_form.sweeps.chosen
        images = unwrapped_images(self._session.viewer)
        return next((x for x in images if x.name == name and not sweep_refusal(x)), None)

    def _follow(
        self,
        landmark: Landmark,
        sweep: Image,
        frames: tuple[PatchFeatures, ...],
        truth: tuple[float, float, float] | None,
    ) -> None:
        """Search the frames beside the GUI: some hundred maps take longer than a moment."""
        session, query = self._session, self._pair.features(landmark.side)
        if query is None:
            return
        engine, point = session.engine, landmark.point
        epipolar = session.panel.track_form.epipolar and query.picture.center_lps is not None

        def work(progress: ProgressCallback, cancel: CancelToken) -> Trajectory:
            return engine.track(query, point, frames, epipolar=epipolar, truth_lps=truth)

        session.runner.submit(
            work,
            newest_wins=True,
            key=("track", id(self)),
            owner=session,
            on_done=lambda found: self._show(landmark, sweep, found, _projected(truth, frames)),
            on_error=session.report,
        )

    def _show(
        self,
        landmark: Landmark,
        sweep: Image,
        found: Trajectory,
        true: npt.NDArray[np.float64] | None,
    ) -> None:
        form = self._session.panel.track_form
        self._sweep = ref(sweep)
        points = np.array([each.point for each in found.points], np.float64)
        values = np.array([each.value for each in found.points], np.float64)
        errors = np.array(
            [np.nan if x.error_mm is None else x.error_mm for x in found.points], np.float64
        )
        self.layers.show(
            sweep, points, true, landmark.name, self._session.derivation(landmark=landmark.name)
        )
        axis = str(sweep.axis_labels[0])
        angles = np.array([float(getattr(view, axis, 0.0)) for view in sweep_views(sweep)])
        form.show_rows(
            [
                (
                    f"{angle:g}°",
                    f"{row:.0f}, {column:.0f}",
                    f"{value:.2f}",
                    "–" if np.isnan(error) else f"{error:.1f} mm",
                )
                for angle, (row, column), value, error in zip(
                    angles, points, values, errors, strict=True
                )
            ],
            _figures(errors),
        )
        if np.isfinite(errors).any():
            form.plot.y_label = "error in mm, at the isocenter"
            curves = [Curve(landmark.name, angles, errors, TRACK_COLOR)]
        else:
            form.plot.y_label = "similarity"
            curves = [Curve(landmark.name, angles, values, TRACK_COLOR)]
        form.plot.show_curves(curves)
        self.show_frame(int(np.argmin(np.abs(angles))))

    def _on_state(self, state: SweepState) -> None:
        if state.result is None:
            self._session.panel.progress.show_part(
                state.index / max(state.count, 1), f"frame {state.index} of {state.count}"
            )


def _projected(
    truth: tuple[float, float, float] | None, frames: Sequence[PatchFeatures]
) -> npt.NDArray[np.float64] | None:
    """Where a point of the CT lies on each frame, (row, column) each; None where none is known."""
    if truth is None or any(each.picture.center_lps is None for each in frames):
        return None
    places = [
        x.picture.to_source(x.picture.in_ct().frame().project(np.array(truth))) for x in frames
    ]
    return np.asarray(places, np.float64).reshape(-1, 2)


def _figures(errors: Any) -> str:
    known = errors[np.isfinite(errors)]
    if not known.size:
        return (
            "No true place is known: choose the CT, and put its crosshair on the landmark, to have "
            "the error in mm."
        )
    return (
        f"Error against the true projection: median {np.median(known):.1f} mm, largest "
        f"{known.max():.1f} mm over {known.size} frames (at the isocenter)."
    )
