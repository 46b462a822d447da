"""The user's settings for this plugin, as napari's Preferences hold them.

They are declared in the plugin's manifest, under ``configurations``; this is the one
place that reads them.
"""

from __future__ import annotations

from typing import Any

from napari_cxr3d.imaging import WINDOWS, Volume, Window

__all__ = [
    "opening_window",
    "preferred_window",
    "shows_cursor_readout",
    "works_in_own_process",
]

_PLUGIN = "napari-cxr3d"
_DEFAULT_WINDOW = "Mediastinum"


def _display_settings() -> Any:
    """The ``display`` settings; None where the plugin is not registered with napari."""
    return _settings("display")


def _settings(group: str) -> Any:
    from napari.settings import get_plugin_settings

    return getattr(get_plugin_settings().get(_PLUGIN), group, None)


def preferred_window() -> Window:
    """The window in which a CT opens when its file asks for none."""
    settings = _display_settings()
    return WINDOWS[_DEFAULT_WINDOW if settings is None else settings.window]


def opening_window(volume: Volume) -> Window:
    """The window in which a CT opens: the one its file asks for, or the preferred one."""
    asked = None if volume.source is None else volume.source.display_range
    return preferred_window() if asked is None else Window.from_limits(*asked)


def shows_cursor_readout() -> bool:
    """Whether HU and position under the cursor are written on the canvas."""
    settings = _display_settings()
    return settings is None or bool(settings.cursor_readout)


def works_in_own_process() -> bool:
    """Whether reconstructions run in a process beside napari."""
    settings = _settings("computing")
    return settings is None or bool(settings.worker_process)
