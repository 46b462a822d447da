"""The predicted view at the slider's angle, beside the true one where there is a CT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import Cxr3dError
from napari_cxr3d.imaging import XrayView
from napari_cxr3d.inference.world_model_tasks import CtSlice
from napari_cxr3d.jobs import Job
from napari_cxr3d.viewer.layers import require_volume
from napari_cxr3d.viewer.world_model_board import Tile, difference_colormap, letters_of_view
from napari_cxr3d.widgets.common.worker_session import unwrapped_images
from napari_cxr3d.widgets.world_model.one_job import OneJob, ct_names
from napari_cxr3d.widgets.world_model.pairing import PairController
from napari_cxr3d.widgets.world_model.plots import Curve
from napari_cxr3d.widgets.world_model.session import NO_MODEL, WorldModelSession

if TYPE_CHECKING:
    from napari_cxr3d.inference.novel_views import NovelViewsResult, NovelViewsState, ViewComparison
    from napari_cxr3d.inference.world_model_tasks import PictureSource

__all__ = ["ViewController", "reason_for_orbit"]

Picture = npt.NDArray[np.float32]

_COLOR, _COPY_COLOR = "#ffb000", "#9a9a9a"
_NO_XRAY = "Choose an X-ray or a DRR as picture A first."
_SLICE = "A CT slice cannot be seen from elsewhere: choose an X-ray or a DRR as picture A."
_OPEN_FINDING = "Something is wrong with picture A: mend it above, or say that you know."
_RUNNING = "The views are being predicted: wait, or cancel it."
_NO_VIEWS = "Predict the views first."
_WHITE = 99.8  # percentile of the integrals that is shown white


def reason_for_orbit(session: WorldModelSession, pair: PairController) -> str:
    """Why nothing can be predicted from picture A, as a sentence; ``""`` when it can."""
    if not session.model:
        return NO_MODEL
    source = pair.source("A")
    if source is None:
        return _NO_XRAY
    if isinstance(source, CtSlice):
        return _SLICE
    return _OPEN_FINDING if session.panel.findings.open_ones else ""


class ViewController(OneJob):
    """Connects the slider with the predicted orbit, the true one, and the board."""

    def __init__(self, session: WorldModelSession, pair: PairController) -> None:
        super().__init__(session, "Cancelled; the views that came before are kept.")
        self._pair = pair
        self._comparing: Job[Any] | None = None
        self._source: PictureSource | None = None  # what the views below are of
        self._views: dict[float, tuple[Picture, XrayView]] = {}
        self.result: NovelViewsResult | None = None
        self.comparison: ViewComparison | None = None
        form = session.panel.views_form
        form.predict_requested.connect(self.predict)
        form.yaw_changed.connect(lambda _: self.show())
        form.ct_changed.connect(self.compare)
        form.metric_changed.connect(self._show_curves)
        session.panel.cancel_requested.connect(self.cancel)
        session.state_changed.connect(self.show_reasons)
        pair.encoded.connect(self._on_encoded)

    def refresh(self) -> None:
        """Bring the choice of CTs up to date with the viewer's layers."""
        self._session.panel.views_form.ct.offer(ct_names(self._session))

    def show_reasons(self) -> None:
        """Say why nothing can be predicted or shown, if so."""
        running = _RUNNING if self._job is not None else ""
        self._session.panel.views_form.set_reason(
            running or reason_for_orbit(self._session, self._pair),
            "" if self._views else _NO_VIEWS,
        )

    # The orbit

    def predict(self) -> None:
        """Predict every view; those nearest to the slider come first, and are shown at once."""
        session, source = self._session, self._pair.source("A")
        if self._job is not None or reason_for_orbit(session, self._pair):
            return
        assert source is not None and not isinstance(source, CtSlice)
        panel = session.panel
        self._forget()
        self._source = source
        try:
            request = session.engine.views_request(
                source, session.model, panel.findings.accepted, panel.views_form.yaw
            )
            self._job = session.worker.submit(
                session.engine.views(request, "auto"),
                owner=session,
                on_state=self._on_state,
                on_done=self._on_done,
                on_error=self._on_error,
                on_cancelled=self._on_cancelled,
            )
        except Cxr3dError as error:
            session.report(error)
            return
        panel.status.clear()
        panel.progress.start("predicting views")
        session.state_changed.emit()

    def cancel(self) -> None:
        """Stop predicting and comparing; views that came stay."""
        super().cancel()
        if self._comparing is not None:
            self._comparing.cancel()

    def _on_state(self, state: NovelViewsState) -> None:
        self._session.panel.progress.show_part(state.fraction, state.message or state.stage)
        if state.view is None or state.integrals is None or state.stage != "predicting":
            return
        yaw = round(self._turn(state.view), 3)
        first = not self._views
        self._views[yaw] = (state.integrals, state.view)
        if first:
            self._session.state_changed.emit()
        if yaw == self._session.panel.views_form.yaw:
            self.show()

    def _turn(self, view: XrayView) -> float:
        """Degrees from picture A, within (-180, 180]."""
        features = self._pair.features("A")
        base = 0.0 if features is None else features.picture.view.yaw
        return 180.0 - (180.0 - (view.yaw - base)) % 360.0

    def _on_done(self, last: NovelViewsState) -> None:
        self._finish()
        result = self.result = last.result
        if result is None:
            return
        self._views = {
            round(float(yaw), 3): (picture, view)
            for yaw, picture, view in zip(result.yaws, result.integrals, result.views, strict=True)
        }
        self._session.panel.status.show_notes(
            f"{len(result.yaws)} SYNTHETIC views: what the model expects, and not for diagnosis.",
            list(result.notes),
        )
        self._show_curves()
        self.show()
        self.compare()

    # The truth

    def compare(self) -> None:
        """Project the chosen CT from where the views were predicted; the newest choice wins."""
        session, result = self._session, self.result
        self.comparison = None
        if self._comparing is not None:
            self._comparing.cancel()
            self._comparing = None
        name = session.panel.views_form.ct.chosen
        layer = next((x for x in unwrapped_images(session.viewer) if x.name == name), None)
        if result is None:
            return
        if layer is None:
            self._show_curves()
            self.show()
            return

        def done(comparison: ViewComparison) -> None:
            session.panel.progress.finish()
            self._comparing = None
            self.comparison = comparison
            self._show_curves()
            self.show()

        def stop(error: Exception | None = None) -> None:
            session.panel.progress.finish()
            self._comparing = None
            if error is not None:
                session.report(error)

        try:
            self._comparing = session.worker.submit(
                session.engine.compare(result, require_volume(layer), session.model),
                newest_wins=True,
                key=("compare", id(self)),
                owner=session,
                on_done=done,
                on_error=stop,
                on_cancelled=stop,
                on_progress=session.panel.progress.show_progress,
            )
        except Cxr3dError as error:
            session.report(error)
            return
        session.panel.progress.start("projecting the CT")

    # Showing

    def show(self) -> None:
        """Show the view of the slider's angle, if it is there."""
        yaw = self._session.panel.views_form.yaw
        if yaw not in self._views:
            return
        picture, view = self._views[yaw]
        index = None if self.result is None else _index(self.result.yaws, yaw)
        true = None
        if self.comparison is not None:
            true = _index(self.comparison.yaws, yaw)
        self._session.turned.show(self._tiles(yaw, picture, view, true))
        self._session.turned.take_canvas_if_hidden()
        self._session.panel.views_form.show_figures(self._figures(index, true))

    def _tiles(self, yaw: float, picture: Picture, view: XrayView, true: int | None) -> list[Tile]:
        white = float(np.percentile(picture, _WHITE)) if self.result is None else self.result.white
        derivation = None if self.result is None else self.result.provenance.to_dict()
        pitch, letters = (view.pixel_mm, view.pixel_mm), letters_of_view(view)
        tiles = [
            Tile(
                "view",
                f"SYNTHETIC view · yaw {yaw:g}°",
                picture,
                pitch,
                (0.0, max(white, 1e-3)),
                letters,
                synthetic=True,
                geometry={"view": view.to_dict(), "quantity": "line_integral"},
                derivation=derivation or self._session.derivation(yaw=yaw),
            )
        ]
        if true is not None and self.comparison is not None:
            truth, off = self.comparison.truth[true], self.comparison.difference[true]
            told = {"view": self.comparison.views[true].to_dict(), "quantity": "line_integral"}
            limit = max(0.25 * white, 1e-3)
            tiles += [
                Tile(
                    "true", f"True DRR · yaw {yaw:g}°", truth, pitch, tiles[0].limits, letters,
                    synthetic=True, geometry=told,
                ),
                Tile(
                    "difference", f"SYNTHETIC less true · yaw {yaw:g}°", off, pitch,
                    (-limit, limit), letters, synthetic=True, colormap=difference_colormap(),
                    geometry=told,
                ),
            ]  # fmt: skip
        return tiles

    def _figures(self, index: int | None, true: int | None) -> str:
        parts = []
        if index is not None and self.result is not None:
            confidence = float(self.result.confidence[index])
            if np.isfinite(confidence):
                parts.append(f"steady to another exposure: {100 * confidence:.0f} %")
        if true is not None and self.comparison is not None:
            made = self.comparison
            parts += [f"PSNR {made.psnr[true]:.1f} dB", f"SSIM {made.ssim[true]:.3f}"]
            if np.isfinite(made.latent_error[true]):
                parts.append(
                    f"token error {made.latent_error[true]:.2f} (unturned picture: "
                    f"{made.copy_error[true]:.2f})"
                )
        return " · ".join(parts)

    def _show_curves(self) -> None:
        form, made = self._session.panel.views_form, self.comparison
        curves: list[Curve] = []
        if form.figure == "confidence" and self.result is not None:
            curves = [_curve("predicted", self.result.yaws, self.result.confidence, _COLOR)]
        elif form.figure != "confidence" and made is not None:
            curves = [_curve("predicted", made.yaws, getattr(made, form.figure), _COLOR)]
            if form.figure == "latent_error":
                curves.append(_curve("unturned", made.yaws, made.copy_error, _COPY_COLOR))
        form.show_curves(curves)

    # What was predicted of another picture

    def _on_encoded(self, side: str) -> None:
        """Another picture A: its views are not these."""
        if side == "A" and self._source is not self._pair.source("A"):
            self.cancel()
            self._forget()

    def _forget(self) -> None:
        self._views, self.result, self.comparison, self._source = {}, None, None, None
        self._session.turned.clear()
        self._session.panel.views_form.show_figures("")
        self._session.panel.views_form.show_curves(())
        self._session.state_changed.emit()

    def close(self) -> None:
        """Hear nothing more; the session cancels the jobs."""
        self._job = self._comparing = self.result = self.comparison = self._source = None
        self._views = {}


def _index(yaws: tuple[float, ...], yaw: float) -> int | None:
    return next((k for k, each in enumerate(yaws) if abs(each - yaw) < 1e-3), None)


def _curve(label: str, yaws: tuple[float, ...], values: Any, color: str) -> Curve:
    order = np.argsort(yaws)
    return Curve(label, np.asarray(yaws, float)[order], np.asarray(values, float)[order], color)
