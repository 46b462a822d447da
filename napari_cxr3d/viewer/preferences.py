"""The user's settings for this plugin, as napari's Preferences hold them.

They are declared in the plugin's manifest, under ``configurations``; this is the one
place that reads them.
"""

from __future__ import annotations

from typing import Any

from napari_cxr3d.imaging import WINDOWS, Volume, Window

__all__ = ["opening_window", "preferred_window", "shows_cursor_readout"]

_PLUGIN = "napari-cxr3d"
_DEFAULT_WINDOW = "Mediastinum"


def _display_settings() -> Any:
    """The ``display`` settings; None where the plugin is not registered with napari."""
    from napari.settings import get_plugin_settings

    settings = get_plugin_settings().get(_PLUGIN)
    return None if settings is None else settings.display


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
