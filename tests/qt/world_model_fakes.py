"""An engine whose features are patches of pixels, for tests of the World model panel."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from napari_cxr3d.imaging import Volume, XrayView
from napari_cxr3d.inference.novel_views import (
    NovelViewsRequest,
    NovelViewsResult,
    NovelViewsState,
    ViewComparison,
)
from napari_cxr3d.inference.novel_views_types import turned_view
from napari_cxr3d.inference.orbit_picture import OrbitPicture
from napari_cxr3d.inference.orbit_volume import OrbitVolumeRequest, OrbitVolumeState
from napari_cxr3d.inference.similarity_features import PatchFeatures
from napari_cxr3d.inference.world_model_tasks import CtSlice, SweepState, VectorsState
from napari_cxr3d.inference.xray_input import InputGuess, XrayInput
from napari_cxr3d.jobs import Call
from napari_cxr3d.provenance import Provenance
from napari_cxr3d.widgets.common.model_choices import ModelChoice
from napari_cxr3d.widgets.world_model.engine import WorldModelEngine

SIDE, PATCH, FIELD_MM = 32, 4, 440.0
VIEW = XrayView(
    detector_shape=(SIDE, SIDE),
    pixel_mm=FIELD_MM / SIDE,
    source_to_isocenter_mm=1600.0,
    source_to_detector_mm=1800.0,
)


def features(source, model, name="", *, exact=False):
    """Blocks of pixels, standardised, of a square picture that fills the detector."""
    if isinstance(source, CtSlice):
        pixels, view, exact = np.squeeze(source.volume.hu).astype(np.float32), VIEW, False
        center = source.volume.center_lps
    else:
        pixels, exact = source.radiograph.pixels, exact or source.exact
        view = VIEW if source.radiograph.view is None else _on_detector(source.radiograph.view)
        center = (0.0, 0.0, 0.0) if exact else None
    ratios = [SIDE / n for n in pixels.shape]
    rows, cols = (np.floor((np.arange(SIDE) + 0.5) / r).astype(int) for r in ratios)
    small = pixels[np.ix_(rows, cols)].astype(np.float32)
    affine = np.array(
        [[ratios[0], 0, (ratios[0] - 1) / 2], [0, ratios[1], (ratios[1] - 1) / 2]], float
    )
    picture = OrbitPicture(
        small, np.ones((SIDE, SIDE), bool), view, exact, small, affine, pixels.shape, center,
        name=name,
    )  # fmt: skip
    n = SIDE // PATCH
    tokens = small.reshape(n, PATCH, n, PATCH).swapaxes(1, 2).reshape(n, n, PATCH * PATCH)
    tokens = tokens - tokens.mean(-1, keepdims=True)
    tokens = tokens / np.maximum(np.linalg.norm(tokens, axis=-1, keepdims=True), 1e-6)
    return PatchFeatures(tokens.astype(np.float32), picture, model)


def _on_detector(view):
    return replace(VIEW, yaw=view.yaw)


class FakeWorldModel(WorldModelEngine):
    """Matches and tracks as the real one; what needs a network is made up, and may be held up."""

    def __init__(self):
        self.may_work = threading.Event()
        self.may_work.set()
        self.encoded, self.predicted, self.mapped, self.volumes = [], [], [], []
        self.error = None
        self.findings = ()
        self.choices = (
            ModelChoice("xwin-demo", "1.0.0", "Not for patients.", "the card"),
            ModelChoice("other", "2.0.0", "None known.", "another card"),
        )

    def models(self):
        return self.choices

    def guess(self, radiograph):
        if radiograph.view is not None:
            return InputGuess(XrayInput(radiograph, "as-given"), ("It is a DRR.",))
        known = XrayInput(radiograph, "pa", radiograph.pitch_mm or (0.5, 0.5))
        return InputGuess(known, ("It looks like pa.",))

    def examine(self, given):
        return self.findings

    def features(self, source, model, name):
        return Call(self._features, (source, model, name))

    def _features(self, source, model, name, cancel):
        self._wait(cancel)
        self.encoded.append((model, name))
        return features(source, model, name)

    def sweep_features(self, frames, model):
        return Call(self._sweep, (frames, model))

    def _sweep(self, frames, model, cancel):
        made = []
        for k, frame in enumerate(frames):
            self._wait(cancel)
            made.append(features(frame, model, exact=True))
            yield SweepState(k + 1, len(frames))
        yield SweepState(len(frames), len(frames), tuple(made))

    # Views: each pixel of a view holds its angle

    def views(self, request, device):
        return Call(self._views, (request,))

    def _views(self, request: NovelViewsRequest, cancel):
        self.predicted.append(request)
        yield NovelViewsState("model", message="loading the model")
        picture = features(request.input, request.model).picture
        views = tuple(turned_view(picture.view, yaw) for yaw in request.yaws)
        pictures = [np.full((SIDE, SIDE), 100 + yaw, np.float32) for yaw in request.yaws]
        for k, view in enumerate(views):
            if k:  # the first comes at once
                self._wait(cancel)
            if self.error is not None:
                raise self.error
            yield NovelViewsState("predicting", k, len(views), view, pictures[k])
        result = NovelViewsResult(
            request.yaws, views, np.stack(pictures), picture, np.zeros((len(views), 1, 1)),
            np.linspace(0.5, 1, len(views), dtype=np.float32), (), ("The pitch was assumed.",),
            Provenance("novel views", {}, model=request.model),
        )  # fmt: skip
        yield NovelViewsState("done", result=result)

    def compare(self, result, volume, model):
        return Call(self._compare, (result,))

    def _compare(self, result):
        n = len(result.yaws)
        truth = result.integrals - 1
        return ViewComparison(
            result.views, result.yaws, truth, result.integrals - truth,
            np.full(n, 23.5, np.float32), np.full(n, 0.8, np.float32),
            np.full(n, 0.21, np.float32), np.full(n, 0.6, np.float32),
        )  # fmt: skip

    def volume(self, request, device):
        return Call(self._volume, (request,))

    def _volume(self, request: OrbitVolumeRequest, cancel):
        self.volumes.append(request)
        yield OrbitVolumeState("predicting", message="view 1 of 61", fraction=0.1)
        yield OrbitVolumeState("volume", preview=_volume(-500), message="first picture")
        self._wait(cancel)
        if self.error is not None:
            raise self.error
        result = SimpleNamespace(
            volume=_volume(40),
            ceiling=None if request.ceiling_from is None else _volume(50),
            provenance=Provenance("orbit volume", {"method": request.method}, model=request.model),
            notes=("The arc is limited.",),
            figures={}
            if request.ceiling_from is None
            else {
                "volume_psnr3d": 20.0,
                "volume_mae_hu": 150.0,
                "ceiling_psnr3d": 25.0,
                "ceiling_mae_hu": 90.0,
            },
        )
        yield OrbitVolumeState("done", fraction=1.0, result=result)

    def vectors(self, sources, model):
        return Call(self._vectors, (sources, model))

    def _vectors(self, sources, model, cancel):
        self.mapped.append(sources)
        for k in range(len(sources)):
            self._wait(cancel)
            yield VectorsState(k + 1, len(sources))
        vectors = np.stack([x.radiograph.pixels[:4, :4].ravel() for x in sources])
        yield VectorsState(len(sources), len(sources), vectors.astype(np.float32))

    def _wait(self, cancel):
        while not self.may_work.wait(0.005):
            cancel.raise_if_cancelled()
        cancel.raise_if_cancelled()


def _volume(value):
    hu = np.full((8, 8, 8), value, np.float32)
    return Volume(hu, (40.0, 40.0, 40.0), (-140.0, -140.0, 140.0), synthetic=True)
