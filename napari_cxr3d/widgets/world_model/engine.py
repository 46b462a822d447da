"""The pure functions that the panel stands on, gathered so that tests can put others there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.jobs import Call
from napari_cxr3d.widgets.common.model_choices import ModelChoice, models_of_kind

if TYPE_CHECKING:
    from napari_cxr3d.imaging import Radiograph, Volume
    from napari_cxr3d.inference.novel_views import NovelViewsRequest, NovelViewsResult
    from napari_cxr3d.inference.orbit_volume import OrbitVolumeRequest
    from napari_cxr3d.inference.similarity import MutualMatch, PatchFeatures, SimilarityMap
    from napari_cxr3d.inference.tracking import Trajectory
    from napari_cxr3d.inference.world_model_tasks import PictureSource
    from napari_cxr3d.inference.xray_input import InputFinding, InputGuess, XrayInput

__all__ = ["WORKER_MODULES", "YAWS", "WorldModelEngine"]

WORKER_MODULES = (
    "torch",
    "napari_cxr3d.models.world_model",
    "napari_cxr3d.inference.world_model_tasks",
    "napari_cxr3d.inference.similarity",
    "napari_cxr3d.inference.novel_views",
)
YAWS = tuple(float(yaw) for yaw in range(-90, 91, 3))
"""The angles of the slider, degrees from the given picture."""


class WorldModelEngine:
    """What the panel asks for; nothing here knows of windows.

    What returns a `Call` imports torch and belongs into a process of its own. The rest works
    on features that are in memory and answers while the mouse moves.
    """

    def models(self) -> tuple[ModelChoice, ...]:
        """The world models that are here, ours first."""
        from napari_cxr3d.inference.world_models import DEFAULT_MODEL, KIND

        return models_of_kind(KIND, DEFAULT_MODEL)

    def guess(self, radiograph: Radiograph) -> InputGuess:
        """What an X-ray seems to be."""
        from napari_cxr3d.inference.xray_input import guess_input

        return guess_input(radiograph)

    def examine(self, given: XrayInput) -> tuple[InputFinding, ...]:
        """What is unusual or wrong about an X-ray."""
        from napari_cxr3d.inference.xray_input import examine

        return examine([given])

    # Features

    def features(self, source: PictureSource, model: str, name: str) -> Call:
        """Work that encodes a picture; its result is a `PatchFeatures`."""
        from napari_cxr3d.inference.world_model_tasks import features_of

        return Call(features_of, (source, model), {"name": name})

    def sweep_features(self, frames: Sequence[XrayInput], model: str) -> Call:
        """Work that encodes the frames of a sweep; its states are `SweepState`."""
        from napari_cxr3d.inference.world_model_tasks import features_of_sweep

        return Call(features_of_sweep, (tuple(frames), model))

    # Landmarks

    def match(
        self,
        query: PatchFeatures,
        point: tuple[float, float],
        target: PatchFeatures,
        *,
        epipolar: bool,
    ) -> MutualMatch:
        """Where a point of one picture is found on another, and whether it is found back.

        Parameters
        ----------
        query, point, target
            As for `similarity_map`.
        epipolar : bool
            Whether both are projections of one CT: the match must lie on the point's ray.
        """
        from napari_cxr3d.inference.similarity import band_between, mutual_match

        band = band_between(query.picture, point, target.picture) if epipolar else None
        return mutual_match(query, point, target, band=band)

    def on_picture(
        self, found: SimilarityMap, target: PatchFeatures, points: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float32]:
        """The map at points of the target's picture as it is shown; NaN where it does not reach.

        Parameters
        ----------
        found : SimilarityMap
            The map.
        target : PatchFeatures
            Of the picture that it lies on.
        points : ndarray of float64, shape (n, 2)
            Rows and columns.
        """
        from scipy.ndimage import map_coordinates

        values = np.asarray(found.detector, np.float32)
        at = target.picture.to_detector(points)
        sampled = map_coordinates(values, at.T, order=1, mode="nearest")
        rows, cols = values.shape
        reached = ((at > -0.5) & (at < (rows - 0.5, cols - 0.5))).all(-1)
        nearest = np.clip(np.rint(at).astype(np.intp), 0, (rows - 1, cols - 1))
        reached &= target.picture.valid[nearest[:, 0], nearest[:, 1]]
        return np.where(reached, sampled, np.float32(np.nan)).astype(np.float32)

    def track(
        self,
        query: PatchFeatures,
        point: tuple[float, float],
        sweep: Sequence[PatchFeatures],
        *,
        epipolar: bool,
        truth_lps: tuple[float, float, float] | None,
    ) -> Trajectory:
        """A landmark followed through a sweep."""
        from napari_cxr3d.inference.tracking import track

        return track(query, point, sweep, epipolar=epipolar, truth_lps=truth_lps)

    # Views and volumes

    def views_request(
        self, given: XrayInput, model: str, accepted: Sequence[str], first: float
    ) -> NovelViewsRequest:
        """The whole orbit of an X-ray, frozen; the views nearest to an angle come first."""
        from napari_cxr3d.inference.novel_views import NovelViewsRequest

        yaws = tuple(sorted(YAWS, key=lambda yaw: abs(yaw - first)))
        return NovelViewsRequest(given, model=model, yaws=yaws, accepted=tuple(accepted))

    def views(self, request: NovelViewsRequest, device: str) -> Call:
        """Work that predicts views; its states are `NovelViewsState`."""
        from napari_cxr3d.inference.novel_views import novel_views

        return Call(novel_views, (request,), {"device": device})

    def compare(self, result: NovelViewsResult, volume: Volume, model: str) -> Call:
        """Work that holds predicted views against the projections of a CT."""
        from napari_cxr3d.inference.world_model_tasks import compare_with_ct

        return Call(compare_with_ct, (result, volume, model))

    def volume_request(self, given: XrayInput, model: str, **settings: Any) -> OrbitVolumeRequest:
        """All that a volume from predicted views depends on, frozen."""
        from napari_cxr3d.inference.orbit_volume import OrbitVolumeRequest

        return OrbitVolumeRequest(given, model=model, yaws=YAWS, **settings)

    def volume(self, request: OrbitVolumeRequest, device: str) -> Call:
        """Work that makes a volume; its states are `OrbitVolumeState`."""
        from napari_cxr3d.inference.orbit_volume import volume_from_orbit

        return Call(volume_from_orbit, (request,), {"device": device})

    # Many pictures

    def vectors(self, sources: Sequence[PictureSource], model: str) -> Call:
        """Work that gives pictures one vector each; its states are `VectorsState`."""
        from napari_cxr3d.inference.world_model_tasks import vectors_of

        return Call(vectors_of, (tuple(sources), model))
