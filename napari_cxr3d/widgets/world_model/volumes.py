"""A volume out of predicted views, streamed, with the best that true views allow beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import ref

from napari_cxr3d.errors import Cxr3dError
from napari_cxr3d.imaging import Volume
from napari_cxr3d.inference.world_model_tasks import CtSlice
from napari_cxr3d.viewer.layers import require_volume
from napari_cxr3d.viewer.reconstruction import ReconstructionLayers
from napari_cxr3d.viewer.world_model_volumes import add_orbit_volume
from napari_cxr3d.widgets.common.worker_session import unwrapped_images
from napari_cxr3d.widgets.world_model.one_job import OneJob, ct_names
from napari_cxr3d.widgets.world_model.pairing import PairController
from napari_cxr3d.widgets.world_model.session import WorldModelSession
from napari_cxr3d.widgets.world_model.viewing import reason_for_orbit

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_cxr3d.inference.orbit_volume import OrbitVolumeState

__all__ = ["VolumeController"]

XRAY_PANEL = "X-ray from CT"

_RUNNING = "A volume is being made: wait, or cancel it."
_NO_VOLUME = "There is no volume yet."


class VolumeController(OneJob):
    """Connects the volume's form with the worker and the viewer."""

    def __init__(self, session: WorldModelSession, pair: PairController) -> None:
        super().__init__(session, "Cancelled; nothing was kept.")
        self._pair = pair
        self._forming = ReconstructionLayers(session.viewer)
        self._made: ref[Image] | None = None
        form = session.panel.volume_form
        form.volume_requested.connect(self.make)
        form.xray_panel_requested.connect(self.send_to_xray_panel)
        session.panel.cancel_requested.connect(self.cancel)
        session.state_changed.connect(self.show_reasons)

    def refresh(self) -> None:
        """Bring the choice of CTs up to date with the viewer's layers."""
        self._session.panel.volume_form.ct.offer(ct_names(self._session))

    def show_reasons(self) -> None:
        """Say why nothing can be made or handed over, if so."""
        running = _RUNNING if self._job is not None else ""
        self._session.panel.volume_form.set_reason(
            running or reason_for_orbit(self._session, self._pair),
            "" if self._layer() is not None else _NO_VOLUME,
        )

    def make(self) -> None:
        """Make a volume from predicted views of picture A."""
        session, source = self._session, self._pair.source("A")
        if self._job is not None or reason_for_orbit(session, self._pair):
            return
        assert source is not None and not isinstance(source, CtSlice)
        form, features = session.panel.volume_form, self._pair.features("A")
        center = None if features is None else features.picture.center_lps
        name = form.ct.chosen
        layer = next((x for x in unwrapped_images(session.viewer) if x.name == name), None)
        try:
            request = session.engine.volume_request(
                source,
                session.model,
                method=form.method,
                accepted=session.panel.findings.accepted,
                ceiling_from=None if layer is None else require_volume(layer),
            )
            self._job = session.worker.submit(
                session.engine.volume(request, "auto"),
                owner=session,
                on_state=lambda state: self._on_state(state, center),
                on_done=lambda last: self._on_done(last, center),
                on_error=self._on_error,
                on_cancelled=self._on_cancelled,
            )
        except Cxr3dError as error:
            session.report(error)
            return
        self._forming.begin()
        session.panel.status.clear()
        session.panel.progress.start("predicting views")
        session.state_changed.emit()

    def _on_state(self, state: OrbitVolumeState, center: Any) -> None:
        if state.stage == "done":
            return
        text = state.message or state.stage
        self._session.panel.progress.show_part(state.fraction, text)
        if state.preview is not None:
            self._forming.show_forming(_placed(state.preview, center), text)

    def _on_done(self, last: OrbitVolumeState, center: Any) -> None:
        self._finish()
        result, session = last.result, self._session
        if result is None:
            return
        method = session.panel.volume_form.method
        derivation = result.provenance.to_dict()
        if result.ceiling is not None:
            add_orbit_volume(
                session.viewer, _placed(result.ceiling, center),
                f"SYNTHETIC CT · ceiling · {method} of true views", derivation, shown=False,
            )  # fmt: skip
        layer = add_orbit_volume(
            session.viewer, _placed(result.volume, center),
            f"SYNTHETIC CT · {method} of predicted views", derivation, shown=True,
        )  # fmt: skip
        self._made = ref(layer)
        beside = "" if result.ceiling is None else (
            " The ceiling, from the true views, is a layer of its own: compare them."
        )  # fmt: skip
        session.panel.status.show_notes(
            "A SYNTHETIC CT was made from predicted views: a model's guess, and not for "
            f"diagnosis.{beside}{_figures(result.figures)}",
            list(result.notes),
        )
        session.state_changed.emit()

    def _finish(self) -> None:
        self._forming.give_up()
        super()._finish()

    def send_to_xray_panel(self) -> None:
        """Open the X-ray panel with the volume chosen."""
        layer = self._layer()
        if layer is None:
            self._session.panel.status.show_info("The volume was deleted: make it again.")
            return
        layer.visible = True
        _, panel = self._session.viewer.window.add_plugin_dock_widget("napari-cxr3d", XRAY_PANEL)
        panel.controller.refresh()
        panel.controller.choose(layer.name)
        panel.controller.refresh()

    def close(self) -> None:
        """Hear nothing more; the session ends the worker."""
        self._job = None
        self._forming.give_up()

    def _layer(self) -> Image | None:
        layer = None if self._made is None else self._made()
        return layer if layer in unwrapped_images(self._session.viewer) else None


def _figures(figures: Mapping[str, float]) -> str:
    """How near volume and ceiling come to the CT; ``""`` without one."""
    if not figures:
        return ""
    near = [
        f"{what} {figures[f'{key}_psnr3d']:.1f} dB, {figures[f'{key}_mae_hu']:.0f} HU"
        for key, what in (("volume", "the volume"), ("ceiling", "the ceiling"))
    ]
    return f" PSNR and mean error against the CT: {'; '.join(near)}."


def _placed(volume: Volume, center: Any) -> Volume:
    """A volume where its CT lies, if picture A is a projection of one: to look at both."""
    if center is None:
        return volume
    x, y, z = (float(o + c) for o, c in zip(volume.origin_lps, center, strict=True))
    return replace(volume, origin_lps=(x, y, z))
