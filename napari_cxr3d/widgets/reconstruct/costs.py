"""What a run will take, and what can be done where that is too much, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_cxr3d.widgets.reconstruct.settings_form import Settings

if TYPE_CHECKING:
    from napari_cxr3d.inference.reconstruct import RunEstimate

__all__ = ["estimate_text", "smaller_settings"]

_GIB, _MIB = 2**30, 2**20
_SMALL_TILE = 8
_LONG_S = 90.0


def estimate_text(estimate: RunEstimate) -> str:
    """What a run takes, in a line, and below it what to change."""
    need, free = _bytes(estimate.bytes), _bytes(estimate.free_bytes)
    seconds = estimate.seconds
    time = f"{seconds:.0f} s" if seconds >= 1 else "less than 1 s"
    if seconds >= _LONG_S:
        time = f"{seconds / 60:.0f} min"
    head = f"About {time} and {need} of {free} that are free"
    return "\n".join([head, *(f"• {line}" for line in estimate.advice)])


def _bytes(n: float) -> str:
    return f"{n / _GIB:.1f} GiB" if n >= _GIB else f"{max(1, round(n / _MIB))} MiB"


def smaller_settings(settings: Settings) -> tuple[tuple[str, dict[str, Any]], ...]:
    """What can be tried after memory ran out: a title and the settings to change, each."""
    offers: list[tuple[str, dict[str, Any]]] = []
    if settings.samples > 1:
        offers.append(("One sample", {"samples": 1}))
    if settings.tile != _SMALL_TILE:
        offers.append(("Small tiles", {"tile": _SMALL_TILE}))
    if settings.device != "cpu":
        offers.append(("On the CPU", {"device": "cpu"}))
    return tuple(offers)
