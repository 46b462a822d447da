"""Saving the radiograph, and putting it into the main viewer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_cxr3d.progress import CancelToken, ProgressCallback
from napari_cxr3d.viewer.layers import add_radiograph, show_alone
from napari_cxr3d.widgets.xray.output_form import SAVE_KINDS, OutputForm
from napari_cxr3d.widgets.xray.session import XraySession

__all__ = ["OutputController", "source_paths"]

_NOTHING = "There is no radiograph at full resolution yet."
_INTEGRALS = ("nrrd", "nii.gz", "npy")


def source_paths(session: XraySession) -> tuple[Path, ...]:
    """The CT's own file, which nothing may overwrite."""
    scene = session.live.scene
    source = None if scene is None else scene.volume.source
    return () if source is None or source.path is None else (source.path,)


class OutputController:
    """Connects the save section with the exporters."""

    def __init__(self, session: XraySession, form: OutputForm) -> None:
        self._session, self._form = session, form
        form.save_requested.connect(self.ask_and_save)
        form.layer_requested.connect(self.add_to_viewer)
        session.state_changed.connect(self.show_reasons)

    def show_reasons(self) -> None:
        """Say why nothing can be saved, if so."""
        self._form.set_reason("" if self._session.full is not None else _NOTHING)

    def ask_and_save(self, kind: int) -> None:
        """Ask for a path and save in one of `SAVE_KINDS`."""
        title, pattern, suffix = SAVE_KINDS[kind]
        path = self._session.panel.ask_save_path(f"Save the radiograph: {title}", suffix, pattern)
        if path:
            self.save(Path(path), bits=8 if "8 bit" in title else 16)

    def save(self, path: Path, *, bits: int = 16) -> None:
        """Write the full picture, or its line integrals, as the suffix says."""
        session = self._session
        if session.full is None:
            return
        result, sources = session.full.result, source_paths(session)
        raw = path.name.lower().endswith(_INTEGRALS)

        def work(progress: ProgressCallback, cancel: CancelToken) -> Any:
            from napari_cxr3d.io.export import save

            return save(
                (result.integrals if raw else result.pictures)[0],
                path,
                views=result.views,
                quantity="line_integral" if raw else result.quantity,
                provenance=result.provenance.to_dict(),
                bits=8 if bits == 8 else 16,
                overwrite=True,  # the file dialog asked
                sources=sources,
                progress=progress,
                cancel=cancel,
            )

        session.runner.submit(
            work,
            lane="io",
            owner=session,
            on_done=lambda _: session.panel.status.show_info(f"Saved {path.name}."),
            on_error=session.report,
        )

    def add_to_viewer(self) -> None:
        """Add the sweep, if one is shown, else the radiograph, to the main viewer."""
        session = self._session
        canvas = session.canvas
        if canvas is not None and canvas.shows_sweep and canvas.sweep is not None:
            layer = session.viewer.add_image(canvas.sweep.pictures, **canvas.sweep.layer_settings())
        elif session.full is not None:
            result = session.full.result
            layer = add_radiograph(
                session.viewer, result.radiograph(), derivation=result.provenance.to_dict()
            )
        else:
            return
        show_alone(session.viewer, layer)
