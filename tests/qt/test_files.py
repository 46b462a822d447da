"""Drag and drop, File > Open, File > Save and the samples, through the manifest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from npe2 import PluginManifest

from napari_cxr3d import readers
from napari_cxr3d.errors import Cancelled, ConsentRequiredError, ExportError
from napari_cxr3d.imaging import Radiograph, Volume, Window, preset
from napari_cxr3d.io import read_ct
from napari_cxr3d.io.export import write_volume
from napari_cxr3d.viewer.layers import add_radiograph, add_volume, volume_of_layer
from napari_cxr3d.viewer.preferences import opening_window, preferred_window, shows_cursor_readout
from napari_cxr3d.widgets.common import dialogs

PLUGIN = "napari-cxr3d"
MANIFEST = Path(readers.__file__).with_name("napari.yaml")


@pytest.fixture
def viewer(npe2pm, make_napari_viewer_proxy):
    with npe2pm.tmp_plugin(manifest=PluginManifest.from_file(MANIFEST)):
        yield make_napari_viewer_proxy()


@pytest.fixture
def ct_file(ct, tmp_path):
    return write_volume(ct, tmp_path / "ct.nrrd")


def test_a_dropped_file_opens_with_letters(viewer, ct_file, ct):
    (layer,) = viewer.open(str(ct_file), plugin=PLUGIN)
    np.testing.assert_array_equal(layer.data, ct.hu)
    assert volume_of_layer(layer).origin_lps == pytest.approx(ct.origin_lps)
    assert viewer.canvas.overlays["napari_cxr3d_right"].text == "L"
    assert layer.locked


def test_real_dicom_opens_once_though_all_its_files_are_dropped(viewer, data_folder):
    folder = data_folder / "ct" / "cip-ct64_dicom"
    files = sorted(str(file) for file in folder.iterdir())[:3]
    opened = viewer.open(files, plugin=PLUGIN)
    assert len(opened) == 1
    assert opened[0].data.shape == (79, 64, 64)


@pytest.mark.parametrize("name", ["notes.txt", "picture.png", "table.csv"])
def test_a_foreign_file_is_refused_at_once(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"x" * 200)
    assert readers.get_reader(str(path)) is None


def test_folders_without_dicom_are_refused(tmp_path):
    assert readers.get_reader(str(tmp_path)) is None
    zarr = tmp_path / "cells.zarr"
    zarr.mkdir()
    (zarr / "slice").write_bytes(b"\0" * 128 + b"DICM")
    assert readers.get_reader(str(zarr)) is None
    assert readers.get_reader([]) is None


def test_a_folder_with_dicom_is_ours(tmp_path):
    (tmp_path / "0001").write_bytes(b"\0" * 128 + b"DICM")
    assert readers.get_reader(str(tmp_path)) is readers.read_layers


@pytest.mark.parametrize("answer", [True, False])
def test_a_consent_is_asked_for(monkeypatch, ct, tmp_path, answer):
    given = []

    def read(path, **consents):
        given.append(consents)
        if not consents:
            raise ConsentRequiredError("Slices are missing", consent="allow_gaps")
        return (ct,)

    monkeypatch.setattr(readers, "read_image", read)
    monkeypatch.setattr(dialogs, "can_ask", lambda: True)
    monkeypatch.setattr(dialogs, "ask_consent", lambda error: answer)
    (layer,) = readers.read_layers(tmp_path / "ct.dcm")
    assert given == ([{}, {"allow_gaps": True}] if answer else [{}])
    assert (layer[0] is not None) is answer


def test_without_a_window_the_missing_consent_is_an_error(monkeypatch, tmp_path):
    def read(path, **consents):
        raise ConsentRequiredError("Slices are missing", consent="allow_gaps")

    monkeypatch.setattr(readers, "read_image", read)
    monkeypatch.setattr(dialogs, "can_ask", lambda: False)
    with pytest.raises(ConsentRequiredError):
        readers.read_layers(tmp_path / "ct.dcm")


def test_whoever_chooses_no_series_gets_no_layer(monkeypatch, tmp_path):
    def choose(entries):
        raise Cancelled

    monkeypatch.setattr("napari_cxr3d.io.list_series", lambda path: ("a", "b"))
    monkeypatch.setattr(readers, "openable", lambda entries: entries)
    monkeypatch.setattr(dialogs, "can_ask", lambda: True)
    monkeypatch.setattr(dialogs, "choose_series", choose)
    assert readers.read_layers(tmp_path) == [(None,)]


def test_a_ct_is_saved_in_the_geometry_of_its_file(viewer, ct, tmp_path):
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(ct.hu[::-1, :, :])
    image.SetSpacing((2.0, 2.0, 5.0))
    image.SetOrigin((-19.0, -15.0, -15.0))
    source = tmp_path / "source.nii.gz"
    sitk.WriteImage(image, str(source))
    viewer.open(str(source), plugin=PLUGIN)
    saved = tmp_path / "saved.nii.gz"
    assert viewer.layers.save(str(saved), plugin=PLUGIN) == [str(saved)]
    again = sitk.ReadImage(str(saved))
    assert again.GetOrigin() == pytest.approx(image.GetOrigin())
    assert again.GetDirection() == pytest.approx(image.GetDirection())
    np.testing.assert_array_equal(sitk.GetArrayFromImage(again), ct.hu[::-1, :, :])


def test_nothing_is_saved_over_the_file_it_was_read_from(viewer, ct_file):
    before = ct_file.read_bytes()
    viewer.open(str(ct_file), plugin=PLUGIN)
    with pytest.raises(ExportError, match="source"):
        viewer.layers.save(str(ct_file), plugin=PLUGIN)
    assert ct_file.read_bytes() == before


def test_labels_go_back_into_the_geometry_of_their_ct(viewer, ct_file, ct, tmp_path):
    (layer,) = viewer.open(str(ct_file), plugin=PLUGIN)
    labels = np.zeros(ct.shape, np.int64)
    labels[1:5, 2:6, 14:18] = 3
    drawn = viewer.add_labels(labels, scale=layer.scale, translate=layer.translate)
    saved = tmp_path / "labels.nrrd"
    drawn.save(str(saved), plugin=PLUGIN)
    again = read_ct(saved)
    np.testing.assert_array_equal(again.hu, labels)
    assert again.origin_lps == pytest.approx(ct.origin_lps)


def test_labels_of_no_open_ct_are_refused(viewer, tmp_path):
    drawn = viewer.add_labels(np.zeros((3, 4, 5), np.int64))
    with pytest.raises(ExportError, match="no open CT"):
        drawn.save(str(tmp_path / "labels.nrrd"), plugin=PLUGIN)


def test_a_projection_is_saved_and_a_measured_radiograph_refused(viewer, tmp_path):
    pixels = np.linspace(0, 1, 64 * 64).reshape(64, 64)
    view = preset("pa")
    drr = add_radiograph(viewer, Radiograph(pixels, (1, 1), view, synthetic=True))
    (saved,) = drr.save(str(tmp_path / "drr.png"), plugin=PLUGIN)
    assert Path(saved).stat().st_size > 0
    measured = add_radiograph(viewer, Radiograph(pixels, view_position="PA"))
    with pytest.raises(ExportError, match="no radiograph that was projected"):
        measured.save(str(tmp_path / "cxr.png"), plugin=PLUGIN)


def test_a_synthetic_ct_is_saved_with_a_record(viewer, ct, tmp_path):
    made = add_volume(viewer, Volume(ct.hu, ct.spacing_mm, ct.origin_lps, synthetic=True))
    made.save(str(tmp_path / "made.nii.gz"), plugin=PLUGIN)
    assert (tmp_path / "made.nii.gz.json").is_file()


def test_the_phantom_sample_needs_no_network(viewer):
    (layer,) = viewer.open_sample(PLUGIN, "ellipsoid_thorax")
    assert layer.name.startswith("SYNTHETIC")


def test_the_synthetic_patient_opens_with_its_findings_marked(viewer):
    ct, anatomy, findings = viewer.open_sample(PLUGIN, "thorax_phantom")
    assert all(layer.name.startswith("SYNTHETIC") for layer in (ct, anatomy, findings))
    assert volume_of_layer(ct).synthetic
    assert not anatomy.visible and findings.visible
    for labels in (anatomy, findings):
        assert labels.data.shape == ct.data.shape
        assert labels.translate == pytest.approx(ct.translate)
        assert tuple(labels.scale) == tuple(ct.scale)
    clots = ct.data[findings.data == 1]
    assert 20 < np.median(clots) < 120  # clots, not the contrast around them


def test_a_dicom_ct_opens_in_the_window_its_file_asks_for(ct):
    source = replace(ct.source, display_range=(-160.0, 240.0))
    assert opening_window(replace(ct, source=source)) == Window(level=40, width=400)
    assert opening_window(ct) == preferred_window()


def test_settings_come_from_the_manifest(plugin_settings, npe2pm):
    from napari.settings import get_plugin_settings

    assert preferred_window().width == 350  # not registered: the default
    npe2pm.register(PluginManifest.from_file(MANIFEST))
    get_plugin_settings(PLUGIN).display.window = "Lung"
    get_plugin_settings(PLUGIN).display.cursor_readout = False
    assert preferred_window().width == 1500
    assert not shows_cursor_readout()
