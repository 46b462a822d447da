"""The beginning and the end of what a panel does: it follows the layers and leaves nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Any

from napari_cxr3d.viewer.attach import attach
from napari_cxr3d.widgets.common.worker_session import WorkerSession, single_shot

if TYPE_CHECKING:
    from napari import Viewer

    from napari_cxr3d.widgets.common.docked import DockedPanel

__all__ = ["PanelController"]


class PanelController(ABC):
    """Calls `refresh` after the viewer's layers changed, and `close` at the panel's end.

    A controller makes its session and its parts first, then calls `follow`.
    """

    session: WorkerSession
    _closed = False

    def follow(self, viewer: Viewer, panel: DockedPanel) -> None:
        """Begin: connect with the layers and the window, and start the worker."""
        self._layers_timer = single_shot(self.session, 0, self.refresh)
        layers = viewer.layers.events
        self._layer_events = (layers.inserted, layers.removed, layers.reordered, layers.renamed)
        for event in self._layer_events:
            event.connect(self._on_layers)
        panel.window_closing.connect(self._on_window_closing)
        panel.detached.connect(self.close)
        panel.destroyed.connect(partial(_let_go, self))
        attach(viewer)
        self.session.start_worker()

    def refresh(self) -> None:
        """Bring every choice of layers up to date with the viewer's."""
        if not self._closed:
            self.refresh_parts()
            self.session.state_changed.emit()

    def close(self) -> None:
        """Leave nothing behind: no process, no job, no timer, no unfinished layer."""
        if self._closed:
            return
        self._closed = True
        self._layers_timer.stop()
        for event in self._layer_events:
            event.disconnect(self._on_layers)
        self.close_parts()
        self.session.close()

    @abstractmethod
    def refresh_parts(self) -> None:
        """What the controller's parts do after the layers changed."""

    @abstractmethod
    def close_parts(self) -> None:
        """What the controller's parts leave behind, taken away."""

    def _on_layers(self, event: Any = None) -> None:
        self._layers_timer.start()

    def _on_window_closing(self, by_user: bool) -> None:
        """A window closed by a program is gone; the user may yet keep it open."""
        if not by_user:
            self.close()


def _let_go(controller: PanelController, *_: Any) -> None:
    controller.close()
