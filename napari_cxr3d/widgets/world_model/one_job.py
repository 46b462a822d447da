"""A part of the panel that has one piece of work under way at the most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_cxr3d.viewer.layers import volume_refusal
from napari_cxr3d.widgets.common.worker_session import unwrapped_images

if TYPE_CHECKING:
    from napari_cxr3d.jobs import Job
    from napari_cxr3d.widgets.world_model.session import WorldModelSession

__all__ = ["OneJob", "ct_names"]


def ct_names(session: WorldModelSession) -> list[str]:
    """The CT layers of the viewer, the topmost first."""
    return [layer.name for layer in unwrapped_images(session.viewer) if not volume_refusal(layer)]


class OneJob:
    """Work in the worker's process: how it is cancelled, and how it ends.

    Parameters
    ----------
    session : WorldModelSession
        Whose worker does it; cancelling ends the process, which is started again.
    cancelled : str
        What is said when the user has cancelled it.
    """

    def __init__(self, session: WorldModelSession, cancelled: str) -> None:
        self._session = session
        self._job: Job[Any] | None = None
        self._cancelled = cancelled

    @property
    def running(self) -> bool:
        """Whether something is under way."""
        return self._job is not None

    def cancel(self) -> None:
        """Stop it."""
        if self._job is not None:
            self._job.cancel()

    def _on_error(self, error: Exception) -> None:
        self._finish()
        self._session.report(error)
        self._session.start_worker()

    def _on_cancelled(self) -> None:
        self._finish()
        self._session.panel.status.show_info(self._cancelled)
        self._session.start_worker()

    def _finish(self) -> None:
        self._job = None
        self._session.panel.progress.finish()
        self._session.state_changed.emit()
