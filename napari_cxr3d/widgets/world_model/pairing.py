"""Choosing picture A and picture B, and having them encoded once."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING
from weakref import ref

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_cxr3d.errors import Cxr3dError
from napari_cxr3d.imaging import Radiograph
from napari_cxr3d.inference.world_model_tasks import CtSlice
from napari_cxr3d.progress import CancelToken, ProgressCallback
from napari_cxr3d.viewer.layers import add_radiograph, radiograph_of_layer, volume_refusal
from napari_cxr3d.viewer.world_model import SIDES, Side
from napari_cxr3d.widgets.common.worker_session import single_shot, unwrapped_images
from napari_cxr3d.widgets.world_model.session import WorldModelSession
from napari_cxr3d.widgets.world_model.slots import Slot, cut_slice, fingerprint, is_usable, tile_of

if TYPE_CHECKING:
    from napari_cxr3d.inference.similarity import PatchFeatures
    from napari_cxr3d.inference.world_model_tasks import PictureSource
    from napari_cxr3d.inference.xray_input import InputFinding, InputGuess

__all__ = ["PairController"]

_PAUSE_MS = 200
_KEPT = 64  # pictures whose features are kept; each is some hundred KiB


class PairController(QObject):
    """Connects the two pickers with the viewer's layers and the encoder.

    Signals
    -------
    laid_out
        The pictures stand anew: what lay over them is gone.
    encoded
        With the side whose features are there, or are no longer.
    """

    laid_out = Signal()
    encoded = Signal(str)

    def __init__(self, session: WorldModelSession) -> None:
        super().__init__(session)
        self._session = session
        panel = session.panel
        self._slots = {side: Slot(side, panel.picture_forms[side]) for side in SIDES}
        self._cache: OrderedDict[tuple[str, str], PatchFeatures] = OrderedDict()
        for side, slot in self._slots.items():
            slot.form.layer_chosen.connect(partial(self.choose, side))
            slot.form.open_requested.connect(partial(self.ask_and_open, side))
            slot.form.edited.connect(partial(self._edited, side))
        panel.model_form.changed.connect(self._on_model)
        self._timers = {
            side: single_shot(session, _PAUSE_MS, partial(self.take, side)) for side in SIDES
        }

    def features(self, side: Side) -> PatchFeatures | None:
        """Of the picture on a side; None until it was encoded."""
        return self._slots[side].features

    def source(self, side: Side) -> PictureSource | None:
        """The picture on a side, as it was confirmed."""
        return self._slots[side].source

    @property
    def same_ct(self) -> bool:
        """Whether both are projections of one CT, as far as their geometry tells."""
        features = [self._slots[side].features for side in SIDES]
        places = [
            each.picture.center_lps
            for each, side in zip(features, SIDES, strict=True)
            if each is not None and not isinstance(self._slots[side].source, CtSlice)
        ]
        known = [place for place in places if place is not None]
        return len(known) == 2 and bool(np.allclose(known[0], known[1]))

    def name(self, side: Side) -> str:
        """Name of the layer on a side; ``""`` for none."""
        chosen = self._slots[side].chosen
        return "" if chosen is None else chosen.name

    def refresh(self) -> None:
        """Bring the choice of pictures up to date with the viewer's layers."""
        layers = [layer for layer in unwrapped_images(self._session.viewer) if is_usable(layer)]
        for slot in self._slots.values():
            if slot.layer is not None and slot.chosen not in layers:
                self._drop(slot)
            chosen = slot.chosen
            slot.form.show_layers(
                [layer.name for layer in layers], "" if chosen is None else chosen.name
            )

    def choose(self, side: Side, name: str) -> None:
        """Take the layer of this name as picture A or B: an X-ray, or a CT's shown slice."""
        slot = self._slots[side]
        layers = [layer for layer in unwrapped_images(self._session.viewer) if is_usable(layer)]
        layer = next((one for one in layers if one.name == name), None)
        if layer is None:
            self._drop(slot)
            self.refresh()
            return
        self._forget(slot)
        slot.layer = ref(layer)
        self.refresh()
        try:
            if volume_refusal(layer):
                radiograph = radiograph_of_layer(layer)
                assert radiograph is not None
                slot.form.show_guess(None, "Looking at the X-ray…")
                self._guess(slot, radiograph)
                return
            slot.slice = cut_slice(self._session.viewer, layer)
        except Cxr3dError as error:
            slot.form.show_guess(None, str(error))
            self._session.report(error)
            return
        _, plane, index = slot.slice
        slot.form.show_guess(
            None,
            f"• {plane.value.capitalize()} slice {index} as the viewer showed it. Choose the CT "
            "again after scrolling.\n• A slice is no X-ray: the models never saw one.",
        )
        self.take(side)

    def ask_and_open(self, side: Side) -> None:
        """Ask for a file and take it as picture A or B."""
        path = self._session.panel.ask_open_path()
        if path:
            self.open(side, path)

    def open(self, side: Side, path: str) -> None:
        """Read an X-ray, add it to the viewer, and choose it."""

        def work(progress: ProgressCallback, cancel: CancelToken) -> Radiograph:
            from napari_cxr3d.io import read_cxr

            return read_cxr(path)

        def add(radiograph: Radiograph) -> None:
            self.choose(side, add_radiograph(self._session.viewer, radiograph).name)

        self._session.runner.submit(
            work, lane="io", owner=self._session, on_done=add, on_error=self._session.report
        )

    def take(self, side: Side) -> None:
        """Show the picture of a side as it is confirmed now, and have it encoded."""
        slot = self._slots[side]
        if slot.layer is None:
            return
        try:
            slot.source = slot.form.input() if slot.slice is None else slot.slice[0]
        except Cxr3dError as error:
            self._session.report(error)
            return
        if slot.source is not None:
            self._show()
            self._encode(slot)

    def take_canvas(self) -> None:
        """Show the two pictures again."""
        self._session.pair.take_canvas()

    def close(self) -> None:
        """Stop the timers; the session cancels the jobs."""
        for timer in self._timers.values():
            timer.stop()
        self._cache.clear()

    # The pictures

    def _guess(self, slot: Slot, radiograph: Radiograph) -> None:
        engine = self._session.engine

        def look(
            progress: ProgressCallback, cancel: CancelToken
        ) -> tuple[InputGuess, tuple[InputFinding, ...]]:
            guess = engine.guess(radiograph)
            return guess, engine.examine(guess.input)

        def show(looked: tuple[InputGuess, tuple[InputFinding, ...]]) -> None:
            guess, slot.findings = looked
            slot.form.show_guess(guess)
            if slot.side == "A":  # what is predicted is predicted from this one
                self._session.panel.findings.show_findings(slot.findings)
            self.take(slot.side)

        def fail(error: Exception) -> None:
            slot.form.show_guess(None, str(error))
            self._session.report(error)

        self._session.runner.submit(
            look,
            newest_wins=True,
            key=("guess", slot.side, id(self)),
            owner=self._session,
            on_done=show,
            on_error=fail,
        )

    def _show(self) -> None:
        tiles = [tile for tile in (tile_of(slot) for slot in self._slots.values()) if tile]
        if not tiles:
            self._session.pair.clear()
            self.laid_out.emit()
        elif self._session.pair.show(tiles):
            self.laid_out.emit()

    def _edited(self, side: Side) -> None:
        self._timers[side].start()

    def _drop(self, slot: Slot) -> None:
        had = slot.layer is not None
        self._forget(slot)
        if had:
            slot.form.show_guess(None)
            self._show()

    def _forget(self, slot: Slot) -> None:
        self._timers[slot.side].stop()
        slot.layer = slot.slice = slot.source = slot.features = None
        slot.findings = ()
        if slot.side == "A":
            self._session.panel.findings.forget()
        self.encoded.emit(slot.side)

    # Features

    def _on_model(self) -> None:
        for slot in self._slots.values():
            if slot.source is not None:
                self._encode(slot)

    def _encode(self, slot: Slot) -> None:
        session, source = self._session, slot.source
        slot.features = None
        self.encoded.emit(slot.side)
        if source is None or not session.model:
            return
        key = (session.model, fingerprint(source))
        if key in self._cache:
            self._cache.move_to_end(key)
            self._on_encoded(slot, source, self._cache[key])
            return

        def done(features: PatchFeatures) -> None:
            self._cache[key] = features
            while len(self._cache) > _KEPT:
                self._cache.popitem(last=False)
            self._on_encoded(slot, source, features)

        try:
            session.worker.submit(
                session.engine.features(source, session.model, self.name(slot.side)),
                newest_wins=True,
                key=("features", slot.side, id(self)),
                owner=session,
                on_done=done,
                on_error=session.report,
            )
        except Cxr3dError as error:
            session.report(error)

    def _on_encoded(self, slot: Slot, source: PictureSource, features: PatchFeatures) -> None:
        if slot.source is source:
            slot.features = features
            self.encoded.emit(slot.side)
