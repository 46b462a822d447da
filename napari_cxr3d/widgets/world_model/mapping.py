"""A map of pictures: one vector each, laid out on their two main directions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import Cxr3dError
from napari_cxr3d.jobs import Job
from napari_cxr3d.progress import CancelToken, Progress, ProgressCallback
from napari_cxr3d.viewer.layers import (
    add_radiograph,
    is_synthetic,
    radiograph_of_layer,
    radiograph_refusal,
    show_alone,
)
from napari_cxr3d.widgets.common.worker_session import unwrapped_images
from napari_cxr3d.widgets.world_model.plots import Dot
from napari_cxr3d.widgets.world_model.session import NO_MODEL, WorldModelSession

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_cxr3d.imaging import Radiograph
    from napari_cxr3d.inference.world_model_tasks import VectorsState
    from napari_cxr3d.inference.xray_input import XrayInput

__all__ = ["MapController", "main_directions"]

_RUNNING = "A map is being made: wait, or cancel it."
_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm")
_MOST = 2000  # files of a folder
_LEAST = 3  # pictures: fewer span no plane
_MEASURED, _SYNTHETIC = "#56b4e9", "#ffb000"


def main_directions(
    vectors: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Vectors along their two directions of largest variance.

    Principal component analysis by a singular value decomposition of the centred vectors.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, E)
        One a picture, n of 3 or more.

    Returns
    -------
    places : ndarray of float64, shape (n, 2)
        Where each lies.
    explained : ndarray of float64, shape (2,)
        Part of the variance along each direction.
    """
    centred = np.asarray(vectors, np.float64)
    centred = centred - centred.mean(0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    variance = sizes**2
    total = max(float(variance.sum()), np.finfo(float).tiny)
    return left[:, :2] * sizes[:2], variance[:2] / total


@dataclass(eq=False)
class _Mapped:
    """A picture of the map: an open layer, or a file."""

    name: str
    given: XrayInput
    layer: ref[Image] | None = None
    path: Path | None = None
    synthetic: bool = False


class MapController:
    """Connects the map's form with the encoder; a point opens its picture."""

    def __init__(self, session: WorldModelSession) -> None:
        self._session = session
        self._job: Job[Any] | None = None
        self.pictures: list[_Mapped] = []
        form = session.panel.map_form
        form.open_ones_requested.connect(self.map_open_ones)
        form.folder_requested.connect(self.ask_and_map)
        form.plot.chosen.connect(self.open_picture)
        session.panel.cancel_requested.connect(self.cancel)
        session.state_changed.connect(self.show_reasons)

    def show_reasons(self) -> None:
        """Say why nothing can be mapped, if so."""
        reason = _RUNNING if self._job is not None else ("" if self._session.model else NO_MODEL)
        self._session.panel.map_form.set_reason(reason)

    def map_open_ones(self) -> None:
        """Map the X-rays that are open in the viewer."""
        layers = [x for x in unwrapped_images(self._session.viewer) if not radiograph_refusal(x)]
        engine, given = self._session.engine, []
        for layer in layers:
            radiograph = radiograph_of_layer(layer)
            assert radiograph is not None
            given.append((layer.name, radiograph, ref(layer), None, is_synthetic(layer)))

        def look(progress: ProgressCallback, cancel: CancelToken) -> list[_Mapped]:
            return [
                _Mapped(name, engine.guess(radiograph).input, layer, path, synthetic)
                for name, radiograph, layer, path, synthetic in given
            ]

        self._begin(look)

    def ask_and_map(self) -> None:
        """Ask for a folder and map its X-rays."""
        folder = self._session.panel.ask_folder()
        if folder:
            self.map_folder(Path(folder))

    def map_folder(self, folder: Path) -> None:
        """Map the X-rays of a folder; files that are none are passed over."""
        engine = self._session.engine
        files = sorted(x for x in folder.iterdir() if x.suffix.lower() in _SUFFIXES)[:_MOST]

        def look(progress: ProgressCallback, cancel: CancelToken) -> list[_Mapped]:
            from napari_cxr3d.io import read_cxr

            found = []
            for k, path in enumerate(files):
                cancel.raise_if_cancelled()
                progress(Progress(k, len(files), "reading"))
                try:
                    given = engine.guess(read_cxr(path)).input
                except Cxr3dError:  # no X-ray
                    continue
                found.append(_Mapped(path.name, given, path=path))
            return found

        self._begin(look)

    def open_picture(self, index: int) -> None:
        """Show the picture of a point, alone."""
        session, picture = self._session, self.pictures[index]
        layer = None if picture.layer is None else picture.layer()
        if layer not in unwrapped_images(session.viewer):
            radiograph: Radiograph = picture.given.radiograph
            layer = add_radiograph(session.viewer, radiograph, name=picture.name)
            picture.layer = ref(getattr(layer, "__wrapped__", layer))
        assert layer is not None
        layer.visible = True
        show_alone(session.viewer, layer)

    def cancel(self) -> None:
        """Stop reading and encoding."""
        if self._job is not None:
            self._job.cancel()

    def close(self) -> None:
        """Hear nothing more; the session cancels the job."""
        self._job = None
        self.pictures = []

    def _begin(self, look: Any) -> None:
        session = self._session
        if self._job is not None or not session.model:
            return
        self._job = session.runner.submit(
            look,
            lane="io",
            owner=session,
            on_done=self._encode,
            on_error=self._on_error,
            on_cancelled=self._finish,
            on_progress=session.panel.progress.show_progress,
        )
        session.panel.progress.start("reading")
        session.state_changed.emit()

    def _encode(self, pictures: list[_Mapped]) -> None:
        session = self._session
        if len(pictures) < _LEAST:
            self._finish()
            session.panel.status.show_info(
                f"A map needs {_LEAST} X-rays or more; there are {len(pictures)}."
            )
            return
        try:
            self._job = session.worker.submit(
                session.engine.vectors([each.given for each in pictures], session.model),
                owner=session,
                on_state=self._on_state,
                on_done=lambda last: self._show(pictures, last),
                on_error=self._on_error,
                on_cancelled=self._finish,
            )
        except Cxr3dError as error:
            self._on_error(error)

    def _on_state(self, state: VectorsState) -> None:
        self._session.panel.progress.show_part(
            state.index / max(state.count, 1), f"picture {state.index} of {state.count}"
        )

    def _show(self, pictures: list[_Mapped], last: VectorsState) -> None:
        self._finish()
        if last.vectors is None:
            return
        places, explained = main_directions(last.vectors)
        self.pictures = pictures
        form = self._session.panel.map_form
        form.plot.show_dots(
            [
                Dot(float(x), float(y), each.name, _SYNTHETIC if each.synthetic else _MEASURED)
                for (x, y), each in zip(places, pictures, strict=True)
            ],
            f"first direction, {100 * explained[0]:.0f} % of the variance",
            f"second direction, {100 * explained[1]:.0f} %",
        )
        form.show_note(
            f"{len(pictures)} pictures; click one to open it. Blue are measured, amber SYNTHETIC. "
            "Near ones look alike to the model, which need not be alike in disease."
        )

    def _on_error(self, error: Exception) -> None:
        self._finish()
        self._session.report(error)

    def _finish(self) -> None:
        self._job = None
        self._session.panel.progress.finish()
        self._session.state_changed.emit()
