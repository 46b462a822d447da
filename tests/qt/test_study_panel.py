"""The Study panel opens images in the background and says what happened."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QPushButton

from napari_cxr3d.errors import ConsentRequiredError, UnreadableFileError
from napari_cxr3d.imaging import WINDOWS, Radiograph
from napari_cxr3d.io import SeriesEntry
from napari_cxr3d.io.export import write_volume
from napari_cxr3d.jobs import job_runner
from napari_cxr3d.viewer.planes import Plane, current_plane
from napari_cxr3d.widgets.study import StudyPanel, controller


@pytest.fixture
def viewer(make_napari_viewer_proxy):
    return make_napari_viewer_proxy()


@pytest.fixture
def panel(viewer, qtbot):
    panel = StudyPanel(viewer)
    qtbot.addWidget(panel)
    return panel


@pytest.fixture
def ct_file(ct, tmp_path):
    return write_volume(ct, tmp_path / "ct.nii.gz")


def wait_for_reading(qtbot):
    qtbot.waitUntil(lambda: not job_runner().busy(), timeout=20_000)


def button(panel, text: str) -> QPushButton:
    return next(b for b in panel.findChildren(QPushButton) if b.text().startswith(text))


def entry(tmp_path, n_slices=2, kind="ct", description="CHEST") -> SeriesEntry:
    return SeriesEntry(
        uid=f"1.2.{n_slices}",
        description=description,
        modality="CT",
        kind=kind,
        n_slices=n_slices,
        shape=(n_slices, 4, 5),
        spacing_mm=(5.0, 1.0, 1.0),
        body_part="CHEST",
        number=n_slices,
        reason="" if kind == "ct" else "it is a scout view",
        files=(tmp_path,),
    )


def test_a_file_opens_as_a_ct_in_the_axial_plane(panel, viewer, ct_file, ct, qtbot):
    panel.file_chosen.emit(str(ct_file))
    assert not button(panel, "Open file").isEnabled()
    wait_for_reading(qtbot)
    (layer,) = viewer.layers
    np.testing.assert_array_equal(layer.data, ct.hu)
    assert current_plane(viewer) is Plane.AXIAL
    assert "Opened" in panel.status.text
    assert button(panel, "Open file").isEnabled()


def test_planes_and_windows_are_disabled_with_a_reason_until_a_ct_is_open(panel, ct_file, qtbot):
    for text in ("Axial", "Lung"):
        assert not button(panel, text).isEnabled()
        assert "Open a CT" in button(panel, text).toolTip()
    panel.file_chosen.emit(str(ct_file))
    wait_for_reading(qtbot)
    for text in ("Axial", "Lung"):
        assert button(panel, text).isEnabled()


def test_the_buttons_change_plane_and_window_and_show_which_is_used(panel, viewer, ct_file, qtbot):
    panel.file_chosen.emit(str(ct_file))
    wait_for_reading(qtbot)
    qtbot.mouseClick(button(panel, "Coronal"), Qt.MouseButton.LeftButton)
    qtbot.mouseClick(button(panel, "Lung"), Qt.MouseButton.LeftButton)
    assert current_plane(viewer) is Plane.CORONAL
    assert tuple(viewer.layers[0].contrast_limits) == WINDOWS["Lung"].limits
    assert button(panel, "Coronal").isChecked()
    assert not button(panel, "Axial").isChecked()
    assert button(panel, "Lung").isChecked()
    viewer.layers[0].contrast_limits = (0, 10)
    assert not button(panel, "Lung").isChecked()


def test_alt_and_a_number_choose_the_window(panel, viewer, ct_file, qtbot):
    panel.file_chosen.emit(str(ct_file))
    wait_for_reading(qtbot)
    keys = {str(key): function for key, function in viewer.keymap.items()}
    assert keys["Alt+2"].__name__  # napari looks at it on every key press
    keys["Alt+2"](viewer)
    assert tuple(viewer.layers[0].contrast_limits) == WINDOWS["Lung"].limits


def test_a_folder_with_several_series_asks_which(panel, viewer, monkeypatch, tmp_path, qtbot):
    entries = (entry(tmp_path, 3), entry(tmp_path, 2), entry(tmp_path, 1, "localizer"))
    monkeypatch.setattr("napari_cxr3d.io.list_series", lambda path, **_: entries)
    panel.folder_chosen.emit(str(tmp_path))
    wait_for_reading(qtbot)
    assert "2 series" in panel.status.text
    assert not viewer.layers


def test_a_series_that_is_chosen_is_read(panel, viewer, monkeypatch, tmp_path, ct, qtbot):
    asked = []

    def read(chosen, path, **settings):
        asked.append((chosen.uid, str(path)))
        return (ct,)

    entries = (entry(tmp_path, 3), entry(tmp_path, 2))
    monkeypatch.setattr("napari_cxr3d.io.list_series", lambda path, **_: entries)
    monkeypatch.setattr(controller, "read_entry", read)
    panel.folder_chosen.emit(str(tmp_path))
    wait_for_reading(qtbot)
    qtbot.mouseClick(button(panel, "Open series"), Qt.MouseButton.LeftButton)
    wait_for_reading(qtbot)
    assert asked == [("1.2.3", str(tmp_path))]
    assert len(viewer.layers) == 1


def test_a_folder_without_images_says_so(panel, tmp_path, qtbot):
    panel.folder_chosen.emit(str(tmp_path))
    wait_for_reading(qtbot)
    assert "no CT" in panel.status.text


def needs_consent(image):
    """A reader that wants a yes before it fills gaps, and remembers what it was given."""
    given = []

    def read(path, **settings):
        given.append(settings.get("allow_gaps", False))
        if not given[-1]:
            raise ConsentRequiredError("The series lacks 2 slices", consent="allow_gaps")
        return (image,)

    return read, given


@pytest.mark.parametrize("answer", [True, False])
def test_gaps_are_filled_only_with_the_user_s_yes(panel, viewer, monkeypatch, ct, qtbot, answer):
    read, given = needs_consent(ct)
    monkeypatch.setattr(controller, "read_image", read)
    monkeypatch.setattr(panel, "ask_consent", lambda error: answer)
    panel.file_chosen.emit("series")
    wait_for_reading(qtbot)
    assert given == ([False, True] if answer else [False])
    assert len(viewer.layers) == int(answer)
    assert answer or "lacks 2 slices" in panel.status.text


def test_an_error_is_shown_as_its_sentence(panel, viewer, monkeypatch, qtbot):
    def read(path, **settings):
        raise UnreadableFileError("The file is cut short", remedy="copy it again")

    monkeypatch.setattr(controller, "read_image", read)
    panel.file_chosen.emit("ct.nii")
    wait_for_reading(qtbot)
    assert panel.status.text == "The file is cut short. Copy it again."
    assert panel.status.report == ""
    assert not viewer.layers


def test_an_unexpected_error_offers_a_report_without_paths(panel, monkeypatch, qtbot):
    def read(path, **settings):
        raise KeyError("/archive/Jane_Doe/ct.nii")

    monkeypatch.setattr(controller, "read_image", read)
    panel.file_chosen.emit("ct.nii")
    wait_for_reading(qtbot)
    assert "KeyError" in panel.status.report
    assert "napari-cxr3d" in panel.status.report
    assert "Jane" not in panel.status.report


def slow_reader(begun: threading.Event):
    def read(path, *, cancel, **settings):
        begun.set()
        while True:
            cancel.raise_if_cancelled()
            threading.Event().wait(0.005)

    return read


def test_cancel_stops_the_reading_and_opens_nothing(panel, viewer, monkeypatch, qtbot):
    begun = threading.Event()
    monkeypatch.setattr(controller, "read_image", slow_reader(begun))
    panel.file_chosen.emit("ct.nii")
    qtbot.waitUntil(begun.is_set)
    panel.progress.cancel_requested.emit()
    wait_for_reading(qtbot)
    assert "Cancelled" in panel.status.text
    assert not viewer.layers
    assert button(panel, "Open file").isEnabled()


def test_closing_the_panel_stops_its_work(viewer, monkeypatch, qtbot):
    begun = threading.Event()
    monkeypatch.setattr(controller, "read_image", slow_reader(begun))
    panel = StudyPanel(viewer)
    panel.file_chosen.emit("ct.nii")
    qtbot.waitUntil(begun.is_set)
    with qtbot.waitSignal(panel.destroyed):
        panel.deleteLater()
    qtbot.waitUntil(lambda: not job_runner().busy())
    viewer.add_image(np.zeros((3, 4)))  # the viewer no longer calls the panel


def test_a_radiograph_opens_with_its_notes(panel, viewer, monkeypatch, qtbot):
    from napari_cxr3d.imaging import SourceInfo

    source = SourceInfo(kind="PNG", description="PNG 0a1b2c", notes=("The pitch is unknown.",))
    picture = Radiograph(np.zeros((4, 5)), source=source)
    monkeypatch.setattr(controller, "read_image", lambda path, **_: (picture,))
    panel.file_chosen.emit("cxr.png")
    wait_for_reading(qtbot)
    assert viewer.layers[0].name == "CXR · PNG 0a1b2c"
    assert "The pitch is unknown." in panel.status.text


def test_ct_and_radiograph_never_lie_over_each_other(panel, viewer, ct_file, monkeypatch, qtbot):
    panel.file_chosen.emit(str(ct_file))
    wait_for_reading(qtbot)
    viewer.dims.ndisplay = 3
    with monkeypatch.context() as patch:
        film = Radiograph(np.eye(64, dtype=np.float32), pitch_mm=(4.0, 4.0))
        patch.setattr(controller, "read_image", lambda path, **_: (film,))
        panel.file_chosen.emit("film.png")
        wait_for_reading(qtbot)
    assert [layer.visible for layer in viewer.layers] == [False, True]
    assert viewer.dims.ndisplay == 2
    panel.file_chosen.emit(str(ct_file))
    wait_for_reading(qtbot)
    assert [layer.visible for layer in viewer.layers] == [False, False, True]


def test_the_phantom_is_marked_synthetic_on_the_canvas(panel, viewer, qtbot):
    panel.sample_requested.emit("ellipsoid_thorax")
    wait_for_reading(qtbot)
    mark = viewer.canvas.overlays["napari_cxr3d_synthetic"]
    assert mark.visible
    assert mark.text.startswith("SYNTHETIC")
    viewer.layers[0].visible = False
    assert not mark.visible


def test_the_panel_fits_a_small_screen(panel):
    assert panel.minimumSizeHint().height() <= 500
    assert panel.sizeHint().height() >= 500
