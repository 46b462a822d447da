"""The radiograph that follows the source: preview while it moves, full when it rests.

One preview runs at a time. What the hand asks for meanwhile replaces what waited, and is
rendered next: frames come as fast as the machine makes them, and never late ones. 150 ms
after the last request the full picture is rendered, and then, while nothing else is
asked, the orbit around the patient is projected ahead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QObject, QTimer, Signal

from napari_cxr3d.imaging import Volume, XrayView
from napari_cxr3d.jobs import Job, JobRunner
from napari_cxr3d.progress import CancelToken, ProgressCallback
from napari_cxr3d.widgets.xray.frame_cache import (
    CachedFrame,
    FrameCache,
    orbit_views,
    preview_view,
)

__all__ = ["Frame", "FrameRenderer", "LiveRadiograph", "Scene"]

SETTLE_MS = 150
IDLE_MS = 400

FloatArray = npt.NDArray[np.float32]
Stage = Literal["preview", "full"]


@dataclass(frozen=True, eq=False)
class Scene:
    """What is projected, but for the direction.

    Attributes
    ----------
    volume : Volume
        The CT.
    settings : hashable
        Backend, beam and what else shapes the projection.
    """

    volume: Volume
    settings: Hashable

    @property
    def key(self) -> Hashable:
        """Tells projections apart that must not be mixed."""
        return (id(self.volume), self.settings)


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture to show.

    Attributes
    ----------
    picture : ndarray of float32, shape (rows, columns)
        Display picture, 0 to 1.
    view : XrayView
        Its geometry: the view that was asked for, on a coarser detector in a preview.
    stage : {"preview", "full"}
        Which of the two it is.
    result : Any
        What the renderer wants kept with a full frame, for saving; None in a preview.
    """

    picture: FloatArray
    view: XrayView
    stage: Stage
    result: Any = None


class FrameRenderer(Protocol):
    """The pure functions that the live radiograph is made of; called in the background."""

    def prepare(self, scene: Scene, views: tuple[XrayView, ...]) -> None:
        """Do ahead what the first projection would wait for."""
        ...

    def project(self, scene: Scene, view: XrayView, cancel: CancelToken) -> FloatArray:
        """Project one preview, to be cached."""
        ...

    def develop(
        self, projection: FloatArray, scene: Scene, view: XrayView, look: Hashable
    ) -> FloatArray:
        """Make a display picture of a projection."""
        ...

    def render_full(
        self, scene: Scene, view: XrayView, look: Hashable, cancel: CancelToken
    ) -> tuple[FloatArray, Hashable, Any]:
        """The picture at full quality, the look that previews should have, and the result."""
        ...


class LiveRadiograph(QObject):
    """Turns requests for a view into frames.

    Parameters
    ----------
    runner : JobRunner
        Where the work is done.
    renderer : FrameRenderer
        The work.

    Signals
    -------
    frame_ready
        With a `Frame`, never one older than the last.
    failed
        With the exception.
    prepared
        The volume's copies and the compiled kernels are in place.
    """

    frame_ready = Signal(object)
    failed = Signal(object)
    prepared = Signal()

    def __init__(
        self,
        runner: JobRunner,
        renderer: FrameRenderer,
        parent: QObject | None = None,
        *,
        orbit_step_deg: int = 5,
    ) -> None:
        super().__init__(parent)
        self._runner, self._renderer = runner, renderer
        self._orbit_step = orbit_step_deg
        self._scene: Scene | None = None
        self._look: Hashable = None
        self._view: XrayView | None = None
        self._preview_job: Job[Any] | None = None
        self._full_job: Job[Any] | None = None
        self._waiting: XrayView | None = None
        self._orbit: deque[XrayView] = deque()
        self._cache = FrameCache()
        self._settle = QTimer(self)
        self._settle.setSingleShot(True)
        self._settle.timeout.connect(self._render_full)
        self._idle = QTimer(self)
        self._idle.setSingleShot(True)
        self._idle.timeout.connect(self._project_ahead)

    @property
    def cache(self) -> FrameCache:
        """The frames that are projected ahead."""
        return self._cache

    @property
    def scene(self) -> Scene | None:
        """What is projected."""
        return self._scene

    @property
    def look(self) -> Hashable:
        """How the pictures are developed; a full picture may have refined it."""
        return self._look

    @property
    def busy(self) -> bool:
        """Whether a frame that was asked for is still to come."""
        return (
            self._settle.isActive() or self._preview_job is not None or self._full_job is not None
        )

    def set_scene(self, scene: Scene | None) -> None:
        """Project something else from now on; None for nothing."""
        same = scene is not None and self._scene is not None and scene.key == self._scene.key
        if same:
            return
        self.stop()
        if scene is None or self._scene is None or scene.volume is not self._scene.volume:
            self._cache.clear()  # lets the memory of a volume that was deleted go
        self._scene, self._view = scene, None
        if scene is None:
            return
        self._runner.submit(
            lambda progress, cancel: self._renderer.prepare(scene, ()),
            owner=self,
            on_done=lambda _: self.prepared.emit(),
            on_error=self.failed.emit,
        )

    def set_look(self, look: Hashable) -> None:
        """Develop the pictures differently from now on; projections stay."""
        if look == self._look:
            return
        self._look = look
        if self._view is not None:
            self.show(self._view)

    def show(self, view: XrayView) -> None:
        """Ask for the radiograph of a view."""
        if self._scene is None:
            return
        self._view = view
        self._idle.stop()
        if self._full_job is not None:
            self._full_job.cancel()
            self._full_job = None
        self._settle.start(SETTLE_MS)
        coarse = preview_view(view)
        cached = self._cache.get((self._scene.key, coarse))
        if cached is not None and cached.look == self._look:
            self._waiting = None
            if self._preview_job is not None:
                self._preview_job.cancel()
                self._preview_job = None
            self.frame_ready.emit(Frame(cached.picture, coarse, "preview"))
        elif self._preview_job is not None:
            self._waiting = coarse
        else:
            self._render_preview(coarse)

    def stop(self) -> None:
        """Forget what was asked for; nothing is delivered any more."""
        self._settle.stop()
        self._idle.stop()
        self._runner.cancel_all(self)
        self._preview_job = self._full_job = self._waiting = None
        self._orbit.clear()

    def close(self) -> None:
        """Stop and release the memory."""
        self.stop()
        self._scene = self._view = None
        self._cache.clear()

    def _work(self, coarse: XrayView) -> Any:
        """Project, unless that is cached, and develop one preview."""
        scene, look, renderer = self._scene, self._look, self._renderer
        assert scene is not None
        cached = self._cache.get((scene.key, coarse))

        def work(progress: ProgressCallback, cancel: CancelToken) -> CachedFrame:
            projection = (
                renderer.project(scene, coarse, cancel) if cached is None else (cached.projection)
            )
            return CachedFrame(projection, renderer.develop(projection, scene, coarse, look), look)

        return work

    def _render_preview(self, coarse: XrayView) -> None:
        scene = self._scene
        assert scene is not None
        self._waiting = None
        self._preview_job = self._runner.submit(
            self._work(coarse),
            owner=self,
            on_done=lambda frame: self._on_preview(scene, coarse, frame),
            on_error=self._on_preview_error,
        )

    def _on_preview(self, scene: Scene, coarse: XrayView, frame: CachedFrame) -> None:
        self._preview_job = None
        self._cache.put((scene.key, coarse), frame)
        self.frame_ready.emit(Frame(frame.picture, coarse, "preview"))
        if self._waiting is not None:
            self._render_preview(self._waiting)

    def _on_preview_error(self, error: Exception) -> None:
        self._preview_job = self._waiting = None
        self._settle.stop()
        self.failed.emit(error)

    def _render_full(self) -> None:
        scene, view, look = self._scene, self._view, self._look
        if scene is None or view is None:
            return
        renderer = self._renderer
        self._full_job = self._runner.submit(
            lambda progress, cancel: renderer.render_full(scene, view, look, cancel),
            owner=self,
            on_done=lambda outcome: self._on_full(view, outcome),
            on_error=self._on_full_error,
        )

    def _on_full(self, view: XrayView, outcome: tuple[FloatArray, Hashable, Any]) -> None:
        self._full_job = None
        picture, self._look, result = outcome
        self.frame_ready.emit(Frame(picture, view, "full", result))
        self._orbit = deque(orbit_views(preview_view(view), self._orbit_step))
        self._idle.start(IDLE_MS)

    def _on_full_error(self, error: Exception) -> None:
        self._full_job = None
        self.failed.emit(error)

    def _project_ahead(self) -> None:
        """Project the next frame of the orbit that is not cached in the present look."""
        scene = self._scene
        if scene is None or self.busy:
            return
        while self._orbit:
            coarse = self._orbit.popleft()
            cached = self._cache.get((scene.key, coarse))
            if cached is not None and cached.look == self._look:
                continue
            self._runner.submit(
                self._work(coarse),
                background=True,
                owner=self,
                on_done=partial(self._on_ahead, scene, coarse),
                on_error=self.failed.emit,
                on_cancelled=partial(self._on_interrupted, coarse),
            )
            return

    def _on_ahead(self, scene: Scene, coarse: XrayView, frame: CachedFrame) -> None:
        if self._cache.has_room(frame.nbytes) or (scene.key, coarse) in self._cache:
            self._cache.put((scene.key, coarse), frame)
            self._project_ahead()

    def _on_interrupted(self, coarse: XrayView) -> None:
        self._orbit.appendleft(coarse)
        if not self.busy:
            self._idle.start(IDLE_MS)
