"""Choosing X-rays, saying what they are, and seeing what the model will be shown of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING
from weakref import ref

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import Cxr3dError
from napari_cxr3d.imaging import Radiograph
from napari_cxr3d.progress import CancelToken, ProgressCallback
from napari_cxr3d.viewer.layers import (
    add_radiograph,
    radiograph_of_layer,
    radiograph_refusal,
    show_alone,
)
from napari_cxr3d.widgets.common.worker_session import single_shot, unwrapped_images
from napari_cxr3d.widgets.reconstruct.engine import Preparation
from napari_cxr3d.widgets.reconstruct.pictures import Picture, grey
from napari_cxr3d.widgets.reconstruct.session import ReconstructSession

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_cxr3d.inference.xray_input import InputGuess, XrayInput
    from napari_cxr3d.widgets.common.xray_form import XrayForm

__all__ = ["InputController"]

_PAUSE_MS = 200
_VIEW_NAMES = ("frontal", "lateral")


class _Slot:
    """One of the X-rays: its form, and the layer that was chosen for it."""

    def __init__(self, name: str, form: XrayForm) -> None:
        self.name, self.form = name, form
        self.layer: ref[Image] | None = None

    @property
    def chosen(self) -> Image | None:
        return None if self.layer is None else self.layer()


class InputController:
    """Connects the two X-ray forms with the viewer's layers and the preparation."""

    def __init__(self, session: ReconstructSession) -> None:
        self._session = session
        panel = session.panel
        self._slots = tuple(
            _Slot(name, form)
            for name, form in zip(
                _VIEW_NAMES, (panel.frontal_form, panel.lateral_form), strict=True
            )
        )
        for slot in self._slots:
            slot.form.layer_chosen.connect(partial(self.choose, slot.name))
            slot.form.open_requested.connect(partial(self.ask_and_open, slot.name))
            slot.form.edited.connect(self.prepare_soon)
        panel.findings.changed.connect(session.state_changed)
        panel.model_form.changed.connect(self.prepare_soon)
        self._timer = single_shot(session, _PAUSE_MS, self.prepare)

    def inputs(self) -> tuple[XrayInput, ...]:
        """The X-rays as they are confirmed now.

        Raises
        ------
        InvalidInputError
            If a field holds what cannot be.
        """
        given = (slot.form.input() for slot in self._slots)
        return tuple(each for each in given if each is not None)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the layers that the X-rays come from."""
        return tuple(slot.chosen.name for slot in self._slots if slot.chosen is not None)

    @property
    def pitches(self) -> list[tuple[Image, tuple[float, float]]]:
        """The X-rays' layers with the pixel pitch that is confirmed for each, where it is."""
        given = ((slot.chosen, slot.form.input()) for slot in self._slots)
        return [
            (layer, known.known_pitch_mm)
            for layer, known in given
            if layer is not None and known is not None and known.known_pitch_mm is not None
        ]

    def refresh(self) -> None:
        """Bring the choice of X-rays up to date with the viewer's layers."""
        layers = [
            layer for layer in unwrapped_images(self._session.viewer)
            if not radiograph_refusal(layer)
        ]  # fmt: skip
        names = [layer.name for layer in layers]
        for slot in self._slots:
            chosen = slot.chosen
            if slot.layer is not None and chosen not in layers:
                self._drop(slot)
                chosen = None
            slot.form.show_layers(names, "" if chosen is None else chosen.name)
        frontal, lateral = self._slots
        taken = lateral.chosen
        free = [layer for layer in layers if layer is not taken]
        if frontal.chosen is None and free:
            self.choose(frontal.name, free[0].name)

    def choose(self, which: str, name: str) -> None:
        """Take the layer of this name as the frontal or the lateral; ``""`` for none."""
        slot = self._slot(which)
        layers = unwrapped_images(self._session.viewer)
        layer = next(
            (one for one in layers if one.name == name and not radiograph_refusal(one)), None
        )
        if layer is slot.chosen and layer is not None:
            return
        self._drop(slot)
        if layer is None:
            self.refresh_names(slot)
            self.prepare_soon()
            return
        try:
            radiograph = radiograph_of_layer(layer)
        except Cxr3dError as error:
            slot.form.show_guess(None, str(error))
            self.refresh_names(slot)
            return
        assert radiograph is not None
        slot.layer = ref(layer)
        self.refresh_names(slot)
        slot.form.show_guess(None, "Looking at the X-ray…")
        self._guess(slot, radiograph)

    def refresh_names(self, slot: _Slot) -> None:
        """Show the names of the layers in one form."""
        layers = unwrapped_images(self._session.viewer)
        names = [layer.name for layer in layers if not radiograph_refusal(layer)]
        slot.form.show_layers(names, "" if slot.chosen is None else slot.chosen.name)

    def ask_and_open(self, which: str) -> None:
        """Ask for a file and take it as the frontal or the lateral."""
        path = self._session.panel.ask_open_path()
        if path:
            self.open(which, path)

    def open(self, which: str, path: str) -> None:
        """Read an X-ray, add it to the viewer, and choose it."""

        def work(progress: ProgressCallback, cancel: CancelToken) -> Radiograph:
            from napari_cxr3d.io import read_cxr

            return read_cxr(path)

        def add(radiograph: Radiograph) -> None:
            layer = add_radiograph(self._session.viewer, radiograph)
            show_alone(self._session.viewer, layer)
            self.choose(which, layer.name)

        self._session.runner.submit(
            work, lane="io", owner=self._session, on_done=add, on_error=self._session.report
        )

    def prepare_soon(self) -> None:
        """Prepare once the user's hand rests; what was prepared before holds no more."""
        self._session.preparation = None
        self._session.preparing = True
        self._timer.start()
        self._session.state_changed.emit()

    def prepare(self) -> None:
        """Show what the model will see of the X-rays, and what is unusual about them."""
        session = self._session
        try:
            inputs = self.inputs()
        except Cxr3dError as error:
            self._on_failed(error)
            return
        choice = session.panel.model_form.choice()
        if not inputs:
            session.preparing = False
            session.panel.findings.forget()
            session.panel.show_prepared((), ())
            session.state_changed.emit()
            return
        detector = (96, 96) if choice is None else choice.detector_shape
        engine = session.engine
        session.runner.submit(
            lambda progress, cancel: engine.prepare(inputs, detector),
            newest_wins=True,
            key=("prepare", id(self)),
            owner=session,
            on_done=self._on_prepared,
            on_error=self._on_failed,
        )

    def restore(self, names: tuple[str, ...]) -> None:
        """Choose the layers of a former run again, as far as they are there."""
        for slot, name in zip(self._slots, (*names, ""), strict=False):
            self.choose(slot.name, name)

    def close(self) -> None:
        """Stop the timer; the session cancels the jobs."""
        self._timer.stop()

    def _slot(self, which: str) -> _Slot:
        return next(slot for slot in self._slots if slot.name == which)

    def _guess(self, slot: _Slot, radiograph: Radiograph) -> None:
        engine, lateral = self._session.engine, slot.name == "lateral"

        def on_done(guess: InputGuess) -> None:
            slot.form.show_guess(guess)
            self.prepare_soon()

        def on_error(error: Exception) -> None:
            slot.form.show_guess(None, str(error))
            self._on_failed(error)

        self._session.preparing = True
        self._session.state_changed.emit()
        self._session.runner.submit(
            lambda progress, cancel: engine.guess(radiograph, lateral=lateral),
            newest_wins=True,
            key=("guess", slot.name, id(self)),
            owner=self._session,
            on_done=on_done,
            on_error=on_error,
        )

    def _drop(self, slot: _Slot) -> None:
        if slot.layer is not None:
            slot.layer = None
            slot.form.show_guess(None)
            self._session.panel.findings.forget()
            self.prepare_soon()

    def _on_prepared(self, made: Preparation) -> None:
        session, prepared = self._session, made.prepared
        session.preparation, session.preparing = made, False
        views = _VIEW_NAMES if len(prepared.views) > 1 else ()
        session.panel.findings.show_findings(made.findings, views)
        pictures = [
            Picture(
                grey(picture, _limits(picture, valid), valid),
                f"{_VIEW_NAMES[k] if views else 'seen by the model'}",
                "What the model is shown: bone bright, the patient's left on the right. Where "
                "the X-ray does not reach, or letters were taken out, it is set apart.",
            )
            for k, (picture, valid) in enumerate(
                zip(prepared.pictures, prepared.valid, strict=True)
            )
        ]
        session.panel.show_prepared(pictures, prepared.notes)
        session.state_changed.emit()

    def _on_failed(self, error: Exception) -> None:
        self._session.preparing = False
        self._session.preparation = None
        self._session.panel.show_prepared((), ())
        self._session.report(error)
        self._session.state_changed.emit()


def _limits(picture: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> tuple[float, float]:
    low, high = np.percentile(picture[valid] if valid.any() else picture, (0.5, 99.5))
    return (float(low), float(high))
