"""What the Study panel does: it reads in the background and puts the images on show."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_cxr3d.errors import ConsentRequiredError, UnsupportedFileError
from napari_cxr3d.imaging import WINDOWS, Radiograph, Volume, Window
from napari_cxr3d.jobs import Job, job_runner
from napari_cxr3d.progress import CancelToken, ProgressCallback
from napari_cxr3d.readers import openable, read_entry, read_image
from napari_cxr3d.viewer.attach import attach
from napari_cxr3d.viewer.layers import (
    add_radiograph,
    add_volume,
    kind_of_layer,
    radiograph_of_layer,
    set_window,
    show_alone,
    volume_of_layer,
    volume_refusal,
)
from napari_cxr3d.viewer.orientation import reference_layer
from napari_cxr3d.viewer.planes import Plane, current_plane, jump_to, show_plane
from napari_cxr3d.viewer.preferences import opening_window

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Layer

    from napari_cxr3d.io import SeriesEntry
    from napari_cxr3d.widgets.study.widget import StudyPanel

__all__ = ["StudyController"]

Images = tuple[Volume | Radiograph, ...]

_NO_CT = "Open a CT first."
_WINDOW_TOLERANCE_HU = 0.5


class StudyController:
    """Connects the Study panel with the readers, the job runner and the viewer."""

    def __init__(self, viewer: Viewer, panel: StudyPanel) -> None:
        self._viewer = viewer
        self._panel = panel
        self._folder = Path()
        self._job: Job[Any] | None = None
        self._watched: Layer | None = None
        self._described: Layer | None = None
        self._facts = facts_of_layer(None)
        attach(viewer)
        panel.folder_chosen.connect(self.open_folder)
        panel.file_chosen.connect(self.open_file)
        panel.sample_requested.connect(self.open_sample)
        panel.series_requested.connect(self.open_series)
        panel.cancel_requested.connect(self.cancel)
        panel.window_requested.connect(self.use_window)
        panel.plane_requested.connect(self.use_plane)
        panel.destroyed.connect(partial(_let_go, self))
        self._events = (
            viewer.layers.events.inserted,
            viewer.layers.events.removed,
            viewer.layers.events.reordered,
            viewer.layers.selection.events.active,
            viewer.dims.events.order,
            viewer.dims.events.ndisplay,
        )
        for event in self._events:
            event.connect(self.refresh)
        self._bind_keys()
        self.refresh()

    def _bind_keys(self) -> None:
        for number, name in enumerate(WINDOWS, start=1):
            self._viewer.bind_key(f"Alt-{number}", _use_window_key(name), overwrite=True)

    # Opening

    def open_folder(self, path: str) -> None:
        """List the series of a folder; open it at once if it holds a single one."""
        from napari_cxr3d.io import list_series

        self._folder = Path(path)
        self._start(
            "looking through the folder",
            lambda progress, cancel: list_series(path, progress=progress, cancel=cancel),
            self._show_series,
        )

    def _show_series(self, entries: tuple[SeriesEntry, ...]) -> None:
        self._panel.show_series(entries)
        choice = openable(entries)
        if len(choice) == 1:
            self.open_series(choice[0])
        elif choice:
            self._panel.status.show_info(
                f"{len(choice)} series can be opened: double-click one of them."
            )
        else:
            reasons = "; ".join(sorted({e.reason for e in entries if e.reason}))
            self._panel.status.show_error(
                UnsupportedFileError(
                    "The folder holds no CT and no chest X-ray in DICOM",
                    why=reasons or "no DICOM, NIfTI, NRRD or MetaImage file is in it",
                    remedy="choose another folder, or open a picture with “Open file…”",
                )
            )

    def open_series(self, entry: SeriesEntry | None) -> None:
        """Read one series of the folder that was opened last."""
        if entry is not None:
            self._read(partial(read_entry, entry, self._folder))

    def open_file(self, path: str) -> None:
        """Read a CT or a radiograph from one file."""
        self._panel.show_series(())
        self._read(partial(read_image, path))

    def open_sample(self, key: str) -> None:
        """Open a sample: ``"chest_ct"``, ``"thorax_phantom"`` or ``"ellipsoid_thorax"``."""
        from napari_cxr3d import sample_data

        self._panel.show_series(())
        if key == "chest_ct":
            self._read(
                lambda **settings: (sample_data.read_chest_ct(**settings),),
                name=sample_data.CHEST_CT_NAME,
            )
        elif key == "thorax_phantom":
            self._read(lambda **settings: (sample_data.make_sample_patient(**settings).volume,))
        else:
            self._read(lambda **_: (sample_data.read_ellipsoid_thorax(),))

    def cancel(self) -> None:
        """Stop what is being read; the viewer stays as it is."""
        if self._job is not None:
            self._job.cancel()

    def _read(
        self,
        reading: Callable[..., Images],
        *,
        name: str | None = None,
        consents: dict[str, bool] | None = None,
    ) -> None:
        granted = consents or {}

        def work(progress: ProgressCallback, cancel: CancelToken) -> Images:
            return reading(progress=progress, cancel=cancel, **granted)

        def on_error(error: Exception) -> None:
            if (
                isinstance(error, ConsentRequiredError)
                and error.consent not in granted
                and self._panel.ask_consent(error)
            ):
                self._read(reading, name=name, consents={**granted, error.consent: True})
            else:
                self._panel.status.show_error(error)

        self._start("reading", work, partial(self._add, name=name), on_error)

    def _start(
        self,
        message: str,
        work: Callable[[ProgressCallback, CancelToken], Any],
        on_done: Callable[[Any], None],
        on_error: Callable[[Exception], None] | None = None,
    ) -> None:
        panel = self._panel

        def ended(then: Callable[..., None], *result: Any) -> None:
            self._job = None
            panel.show_idle()
            then(*result)

        panel.status.clear()
        panel.show_busy(message)
        self._job = job_runner().submit(
            work,
            lane="io",
            newest_wins=True,
            key=("study", id(self)),
            owner=self,
            on_done=partial(ended, on_done),
            on_error=partial(ended, on_error or panel.status.show_error),
            on_cancelled=partial(ended, panel.status.show_info, "Cancelled; nothing was opened."),
            on_progress=panel.progress.show_progress,
        )

    def _add(self, images: Images, *, name: str | None = None) -> None:
        notes: list[str] = []
        for image in images:
            if isinstance(image, Volume):
                layer = add_volume(self._viewer, image, opening_window(image), name=name)
                show_alone(self._viewer, layer)
                show_plane(self._viewer, current_plane(self._viewer) or Plane.AXIAL)
                jump_to(self._viewer, image.center_lps)
            else:
                layer = add_radiograph(self._viewer, image, name=name)
                show_alone(self._viewer, layer)
            notes += image.source.notes if image.source is not None else ()
        self._panel.status.show_notes(f"Opened “{layer.name}”.", notes)

    # Reading

    def use_window(self, name: str) -> None:
        """Show the CT through one of the named windows."""
        layer = _shown_ct(self._viewer)
        if layer is not None:
            set_window(layer, WINDOWS[name])
        self.refresh()

    def use_plane(self, plane: Plane) -> None:
        """Show one of the planes."""
        show_plane(self._viewer, plane)
        self.refresh()

    def refresh(self, event: Any = None) -> None:
        """Bring the panel up to date with the viewer."""
        layer = _shown_ct(self._viewer)
        self._watch(layer)
        self._describe(layer or reference_layer(self._viewer))
        window = None
        if layer is not None:
            low, high = (float(v) for v in layer.contrast_limits)
            window = _name_of_window(Window.from_limits(low, high))
        self._panel.show_reading(
            plane=current_plane(self._viewer) if layer is not None else None,
            window=window,
            facts=self._facts,
            reason="" if layer is not None else _NO_CT,
        )

    def _watch(self, layer: Layer | None) -> None:
        if layer is self._watched:
            return
        if self._watched is not None:
            self._watched.events.contrast_limits.disconnect(self.refresh)
        if layer is not None:
            layer.events.contrast_limits.connect(self.refresh)
        self._watched = layer

    def _describe(self, layer: Layer | None) -> None:
        if layer is not self._described:  # facts look at every voxel: once a layer
            self._described = layer
            self._facts = facts_of_layer(layer)

    def close(self) -> None:
        """Stop the work and let go of the viewer; the panel is going away."""
        job_runner().cancel_all(self)
        for event in self._events:
            event.disconnect(self.refresh)
        self._watch(None)
        self._described = None


def _let_go(controller: StudyController, *_: Any) -> None:
    controller.close()


def _use_window_key(name: str) -> Callable[[Viewer], None]:
    def use_window(viewer: Viewer) -> None:  # napari wants a function with a name
        layer = _shown_ct(viewer)
        if layer is not None:
            set_window(layer, WINDOWS[name])

    return use_window


def _shown_ct(viewer: Viewer) -> Layer | None:
    """The CT that window and plane buttons act on: the active one, else the topmost visible."""
    active = viewer.layers.selection.active
    visible = [layer for layer in reversed(viewer.layers) if layer.visible]
    candidates = visible if active is None else [active, *visible]
    return next((layer for layer in candidates if not volume_refusal(layer)), None)


def _name_of_window(window: Window) -> str | None:
    return next(
        (
            name
            for name, known in WINDOWS.items()
            if abs(known.level - window.level) < _WINDOW_TOLERANCE_HU
            and abs(known.width - window.width) < _WINDOW_TOLERANCE_HU
        ),
        None,
    )


def facts_of_layer(layer: Layer | None) -> str:
    """What is known of a CT or a radiograph, a line a fact; nothing about the patient."""
    if layer is None:
        return "Nothing is open."
    volume = volume_of_layer(layer)
    if volume is not None:
        i, p, ell = volume.shape
        si, sp, sl = volume.spacing_mm
        low, high = int(volume.hu.min()), int(volume.hu.max())
        lines = [
            layer.name,
            f"{i} slices of {p} × {ell}, {si:.4g} × {sp:.4g} × {sl:.4g} mm (I, P, L)",
            f"{volume.size_mm[0]:.0f} × {volume.size_mm[1]:.0f} × {volume.size_mm[2]:.0f} mm",
            f"{low} to {high} HU",
        ]
        return "\n".join([*lines, *_origin_lines(volume)])
    radiograph = radiograph_of_layer(layer) if kind_of_layer(layer) else None
    if radiograph is None:
        return "Nothing is open."
    rows, columns = radiograph.shape
    pitch = radiograph.pitch_mm
    size = "pixel pitch unknown" if pitch is None else f"{pitch[0]:.4g} × {pitch[1]:.4g} mm pixels"
    lines = [layer.name, f"{rows} × {columns}, {size}"]
    return "\n".join([*lines, *_origin_lines(radiograph)])


def _origin_lines(image: Volume | Radiograph) -> list[str]:
    lines = ["SYNTHETIC"] if image.synthetic else []
    if image.source is not None:
        lines += [f"Source: {image.source.kind}", *image.source.notes]
    return lines
