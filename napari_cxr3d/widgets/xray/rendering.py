"""What the live radiograph and the sweep ask of the projectors; runs in the background."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from napari_cxr3d.imaging import Volume, XrayView
from napari_cxr3d.progress import CancelToken, ProgressCallback
from napari_cxr3d.widgets.xray.frame_cache import preview_view
from napari_cxr3d.widgets.xray.live import Scene
from napari_cxr3d.xray.appearance import Appearance, AppearanceWindow

if TYPE_CHECKING:
    from napari_cxr3d.inference import DrrResult
    from napari_cxr3d.inference.drr import AppearanceName

__all__ = ["DrrRenderer", "Look", "ProjectionSettings"]

FloatArray = npt.NDArray[np.float32]

_DIRECTIONS = (0.0, 90.0)  # one view along each horizontal axis touches every copy


@dataclass(frozen=True)
class ProjectionSettings:
    """What shapes a projection besides volume and view.

    Attributes
    ----------
    backend, quality : str
        Of the full picture; previews take the fastest way there is.
    energy_kev : float
        Photon energy; not used in a polyenergetic beam.
    polyenergetic : bool
        Project water and bone apart, so that the tube voltage can be chosen later.
    hide_table : bool
        Put air in place of the CT table.
    """

    backend: str = "auto"
    quality: str = "full"
    energy_kev: float = 70.0
    polyenergetic: bool = True
    hide_table: bool = False


@dataclass(frozen=True)
class Look:
    """How a projection becomes a picture.

    Attributes
    ----------
    kilovolt : float or None
        Tube voltage of a polyenergetic beam.
    appearance : Appearance or {"integral", "minmax", "realistic"}
        The steps from readings to grey values.
    window : AppearanceWindow or None
        What is shown darkest and brightest; chosen from the picture itself if None.
    held : bool
        Whether the window stays when a full picture would choose another.
    seed : int
        Which of the realistic looks.
    """

    kilovolt: float | None
    appearance: Appearance | AppearanceName
    window: AppearanceWindow | None = None
    held: bool = False
    seed: int = 0


class DrrRenderer:
    """The projectors and appearance steps behind the panel."""

    def __init__(self) -> None:
        self._identified: WeakKeyDictionary[Volume, Volume] = WeakKeyDictionary()
        self._without_table: WeakKeyDictionary[Volume, Volume] = WeakKeyDictionary()

    def warm_up(self, progress: ProgressCallback, cancel: CancelToken) -> None:
        """Compile the kernels on a few voxels, before there is a CT."""
        volume = Volume(np.zeros((8, 8, 8), np.int16), (10.0, 10.0, 10.0))
        for polyenergetic in (True, False):
            scene = Scene(volume, ProjectionSettings(polyenergetic=polyenergetic))
            self.prepare(scene, ())
            cancel.raise_if_cancelled()

    def prepare(self, scene: Scene, views: tuple[XrayView, ...]) -> None:
        """Make the volume's copies and compile the kernels, by projecting a few rays."""
        from napari_cxr3d.xray import projector

        settings = _settings(scene)
        base = views[0] if views else XrayView()
        # Few rays are projected one by one; the copies that whole pictures read come first.
        turns = [replace(preview_view(base), yaw=yaw) for yaw in _DIRECTIONS]
        engine = projector("auto", "preview", energy_kev=settings.energy_kev)
        engine.prepare(self._volume(scene), turns)
        small = replace(preview_view(base), detector_shape=(16, 16), flip_columns=False)
        cancel = CancelToken()
        for yaw in _DIRECTIONS:
            turned = replace(small, yaw=yaw)
            projection = self.project(scene, turned, cancel)
            kilovolt = 120.0 if settings.polyenergetic else None
            self.develop(projection, scene, turned, Look(kilovolt, Appearance()))
            if settings.backend in ("auto", "cpu"):
                self._render(scene, (turned,), Look(kilovolt, Appearance()), cancel)

    def project(self, scene: Scene, view: XrayView, cancel: CancelToken) -> FloatArray:
        """A preview's line integrals, or its (water, bone) path lengths in mm.

        Returns
        -------
        ndarray of float32, shape (rows, columns) or (2, rows, columns)
        """
        from napari_cxr3d.xray import project_basis, projector

        settings = _settings(scene)
        volume = self._volume(scene)
        engine = projector("auto", "preview", energy_kev=settings.energy_kev)
        if not settings.polyenergetic:
            return engine.project(volume, [view], cancel=cancel)[0]
        water, bone = project_basis(engine, volume, [view], cancel=cancel)
        return np.stack([water[0], bone[0]])

    def develop(
        self, projection: FloatArray, scene: Scene, view: XrayView, look: Hashable
    ) -> FloatArray:
        """The display picture of a preview, 0 to 1."""
        from napari_cxr3d.xray.spectra import polyenergetic_integrals

        assert isinstance(look, Look)
        readings = projection
        if look.kilovolt is not None:
            readings = polyenergetic_integrals(projection[0], projection[1], look.kilovolt)
        if look.appearance == "realistic":
            from napari_cxr3d.xray.simulator import simulate

            return simulate(readings, view, "realistic", look.seed)
        return _picture(readings, look, view.pixel_mm)

    def render_full(
        self, scene: Scene, view: XrayView, look: Hashable, cancel: CancelToken
    ) -> tuple[FloatArray, Look, DrrResult]:
        """The full picture, the look with its window, and the result for saving."""
        assert isinstance(look, Look)
        result = self._render(scene, (view,), look, cancel)
        if not look.held:
            look = replace(look, window=_window(result))
        return _displayed(result, look)[0], look, result

    def render_sweep(
        self,
        scene: Scene,
        views: Sequence[XrayView],
        look: Look,
        progress: ProgressCallback,
        cancel: CancelToken,
    ) -> tuple[FloatArray, DrrResult]:
        """All views at full quality in one window; display pictures [views, rows, columns]."""
        free = look if look.held else replace(look, window=None)
        result = self._render(scene, tuple(views), free, cancel, progress)
        return _displayed(result, replace(free, window=free.window or _window(result))), result

    def _render(
        self,
        scene: Scene,
        views: tuple[XrayView, ...],
        look: Look,
        cancel: CancelToken,
        progress: ProgressCallback | None = None,
    ) -> DrrResult:
        from napari_cxr3d.inference import DrrRequest, render_drr

        settings = _settings(scene)
        held = look.window if look.held else None
        request = DrrRequest(
            self._volume(scene),
            views,
            backend=settings.backend,
            quality=settings.quality,
            energy_kev=settings.energy_kev,
            kilovolt=look.kilovolt,
            appearance=look.appearance,
            window=held if isinstance(look.appearance, Appearance) else None,
            seed=look.seed,
        )
        result = render_drr(request, progress=progress, cancel=cancel)
        return self._told(result, scene) if settings.hide_table else result

    def _told(self, result: DrrResult, scene: Scene) -> DrrResult:
        """The result, saying that the table was removed from which CT."""
        source = self._identify(scene.volume).content_sha256()
        provenance = replace(
            result.provenance,
            parameters={**result.provenance.parameters, "remove_table": True},
            inputs=(source,),
        )
        return replace(result, provenance=provenance)

    def _volume(self, scene: Scene) -> Volume:
        """The volume to project: with its hash at hand, and without the table if asked."""
        volume = self._identify(scene.volume)
        if not _settings(scene).hide_table:
            return volume
        stripped = self._without_table.get(volume)
        if stripped is None:
            from napari_cxr3d.imaging.masks import remove_table

            stripped = self._without_table[volume] = self._identify(remove_table(volume))
        return stripped

    def _identify(self, volume: Volume) -> Volume:
        """The volume with its content hash, so that it is computed once."""
        if volume.source is not None and volume.source.content_sha256:
            return volume
        known = self._identified.get(volume)
        if known is None:
            from napari_cxr3d.imaging import SourceInfo

            source = volume.source or SourceInfo(kind="layer", description="")
            source = replace(source, content_sha256=volume.content_sha256())
            known = self._identified[volume] = replace(volume, source=source)
        return known


def _settings(scene: Scene) -> ProjectionSettings:
    assert isinstance(scene.settings, ProjectionSettings)
    return scene.settings


def _picture(readings: FloatArray, look: Look, pixel_mm: float) -> FloatArray:
    from napari_cxr3d.xray.appearance import minmax, render

    if isinstance(look.appearance, Appearance):
        return render(readings, look.appearance, pixel_mm=pixel_mm, window=look.window)
    if look.appearance == "minmax":
        return minmax(readings)
    return _scaled(readings, look.window)


def _scaled(readings: FloatArray, window: AppearanceWindow | None) -> FloatArray:
    """Line integrals on a linear scale from 0 to 1, for the eye only."""
    low, high = (0.0, float(readings.max())) if window is None else (window.low, window.high)
    scaled: FloatArray = np.clip((readings - low) / max(high - low, 1e-6), 0, 1)
    return scaled


def _window(result: DrrResult) -> AppearanceWindow | None:
    """The window that previews should keep until the next full picture."""
    if result.quantity == "display":
        return result.window
    return AppearanceWindow(0.0, max(float(result.integrals.max()), 1e-6))


def _displayed(result: DrrResult, look: Look) -> Any:
    if result.quantity == "display":
        return result.pictures
    return _scaled(result.pictures, look.window)
