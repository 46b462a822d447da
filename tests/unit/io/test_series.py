"""Folders with several series: what is offered, and what is chosen."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cxr3d.errors import (
    Cancelled,
    GeometryError,
    InvalidInputError,
    UnreadableFileError,
    UnsupportedFileError,
)
from napari_cxr3d.io import list_series, read_ct
from napari_cxr3d.progress import CancelToken


def _stack(n, start=0.0):
    return [(-10.0, -20.0, start + 4.0 * k) for k in range(n)]


def _becomes(**changes):
    def edit(ds, k):
        for name, value in changes.items():
            setattr(ds, name, value)

    return edit


def test_the_largest_ct_is_read_and_the_note_says_so(tmp_path, series, in_place):
    series(uid="1.1", positions=_stack(4)).write(tmp_path / "small")
    series(uid="1.2", positions=_stack(7)).write(tmp_path / "large")
    volume = read_ct(tmp_path)
    assert volume.shape[0] == 7
    in_place(volume)
    assert any("largest of 2 CT series" in n for n in volume.source.notes)


def test_a_series_is_chosen_by_uid_or_by_place_in_the_list(tmp_path, series):
    series(uid="1.1", positions=_stack(4)).write(tmp_path / "small")
    series(uid="1.2", positions=_stack(7)).write(tmp_path / "large")
    entries = list_series(tmp_path)
    assert [e.uid for e in entries] == ["1.2", "1.1"]
    assert [e.n_slices for e in entries] == [7, 4]
    assert read_ct(tmp_path, series="1.1").shape[0] == 4
    assert read_ct(tmp_path, series="1").shape[0] == 4
    for wrong in ("2", "-1", "9.9"):
        with pytest.raises(InvalidInputError, match="no series"):
            read_ct(tmp_path, series=wrong)


def test_an_entry_tells_what_a_user_needs_to_choose(tmp_path, series):
    series().write(tmp_path)
    (entry,) = list_series(tmp_path)
    assert entry.kind == "ct"
    assert entry.description == "Thorax 4.0"
    assert entry.modality == "CT"
    assert entry.shape == (6, 8, 10)
    assert entry.spacing_mm == (4.0, 2.0, 3.0)
    assert entry.body_part == "CHEST"
    assert entry.number == 2
    assert entry.n_files == 6
    assert "secret" not in repr(entry).lower()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Modality": "PT"}, "modality is PT"),
        ({"Modality": "RTDOSE"}, "modality is RTDOSE"),
        ({"Modality": ""}, "does not say its modality"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "scout"),
        ({"Modality": "DX"}, "radiograph"),
        ({"ImagePositionPatient": None}, "where the slices lie"),
        ({"PixelSpacing": None}, "where the slices lie"),
    ],
)
def test_what_is_no_ct_is_listed_with_its_reason_and_refused(tmp_path, series, changes, reason):
    series(edit=_becomes(**changes)).write(tmp_path)
    (entry,) = list_series(tmp_path)
    assert entry.kind != "ct"
    assert reason in entry.reason
    with pytest.raises(UnsupportedFileError, match=reason):
        read_ct(tmp_path)
    with pytest.raises(UnsupportedFileError, match=reason):
        read_ct(tmp_path, series=entry.uid)


def test_a_scout_in_the_series_is_left_out(tmp_path, series, in_place):
    def first_is_scout(ds, k):
        if k == 0:
            ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
            ds.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]

    series(positions=_stack(7), edit=first_is_scout).write(tmp_path)
    volume = read_ct(tmp_path)
    assert volume.shape[0] == 6
    in_place(volume)
    assert any("1 slices of the same series" in n for n in volume.source.notes)


def test_a_change_of_pixel_spacing_splits_the_series(tmp_path, series):
    def change(ds, k):
        if k >= 4:
            ds.PixelSpacing = [1.0, 1.0]

    series(positions=_stack(7), edit=change).write(tmp_path)
    assert [e.n_slices for e in list_series(tmp_path)] == [4, 3]


@pytest.mark.parametrize("attribute", ["TemporalPositionIdentifier", "AcquisitionNumber"])
def test_phases_at_the_same_positions_are_offered_apart(tmp_path, series, in_place, attribute):
    def phase(ds, k):
        setattr(ds, attribute, 1 + k // 6)
        if k >= 6:
            stored = np.frombuffer(ds.PixelData, np.uint16)
            ds.PixelData = (stored + 100).astype(np.uint16).tobytes()

    series(positions=_stack(6) * 2, edit=phase).write(tmp_path)
    entries = list_series(tmp_path)
    assert [(e.kind, e.n_slices) for e in entries] == [("ct", 6), ("ct", 6)]
    assert entries[0].uid != entries[1].uid
    first, second = (read_ct(tmp_path, series=e.uid) for e in entries)
    in_place(first)
    np.testing.assert_array_equal(second.hu, first.hu + 100)


def test_a_folder_without_images_says_so(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing here")
    assert list_series(tmp_path) == ()
    with pytest.raises(UnsupportedFileError, match="no DICOM image"):
        read_ct(tmp_path)


def test_a_missing_path_says_so(tmp_path):
    for reader in (read_ct, list_series):
        with pytest.raises(UnreadableFileError, match="no such file"):
            reader(tmp_path / "gone")


def test_a_folder_of_damaged_files_says_so(tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\x08\x00\x18\x00UI\xff\xff123")
    with pytest.raises((UnreadableFileError, UnsupportedFileError)):
        read_ct(tmp_path)


def test_reports_without_pixels_are_passed_over(tmp_path, series, write_dicom, in_place):
    series().write(tmp_path)
    report = series(uid="1.8", positions=_stack(1)).datasets()[0]
    report.Modality = "SR"
    for name in ("PixelData", "Rows", "Columns"):
        delattr(report, name)
    write_dicom(report, tmp_path / "report")
    assert len(list_series(tmp_path)) == 1
    in_place(read_ct(tmp_path))


def test_a_dicomdir_opens_its_media(tmp_path, series, write_dicom, in_place):
    from pydicom.dataset import Dataset

    series().write(tmp_path / "IMAGES" / "S0", "IM{}")
    directory = series(positions=_stack(1)).datasets()[0]
    listing = Dataset()
    listing.file_meta = directory.file_meta
    listing.SOPClassUID = "1.2.840.10008.1.3.10"
    listing.SOPInstanceUID = "1.9"
    listing.FileSetID = "DISC"
    write_dicom(listing, tmp_path / "DICOMDIR")
    in_place(read_ct(tmp_path / "DICOMDIR"))
    in_place(read_ct(tmp_path))


def test_listing_can_be_cancelled(tmp_path, series):
    series().write(tmp_path)
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(Cancelled):
        list_series(tmp_path, cancel=cancel)


def _enhanced(datasets):
    """One enhanced multi-frame object of single-frame data sets."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    ds = datasets[0]
    frames = []
    for one in datasets:
        frame, position = Dataset(), Dataset()
        position.ImagePositionPatient = one.ImagePositionPatient
        frame.PlanePositionSequence = Sequence([position])
        values = Dataset()
        values.RescaleSlope, values.RescaleIntercept = one.RescaleSlope, one.RescaleIntercept
        frame.PixelValueTransformationSequence = Sequence([values])
        frames.append(frame)
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = ds.ImageOrientationPatient
    measures.PixelSpacing = ds.PixelSpacing
    shared.PlaneOrientationSequence = Sequence([orientation])
    shared.PixelMeasuresSequence = Sequence([measures])
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    ds.PerFrameFunctionalGroupsSequence = Sequence(frames)
    ds.NumberOfFrames = len(datasets)
    ds.PixelData = b"".join(one.PixelData for one in datasets)
    for name in (
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "RescaleSlope",
        "RescaleIntercept",
    ):
        delattr(ds, name)
    return ds


def test_an_enhanced_multi_frame_ct_is_read(tmp_path, series, write_dicom, in_place):
    shuffled = [_stack(6)[k] for k in (2, 0, 5, 1, 4, 3)]
    write_dicom(_enhanced(series(positions=shuffled).datasets()), tmp_path / "enhanced.dcm")
    (entry,) = list_series(tmp_path)
    assert (entry.n_files, entry.n_slices, entry.kind) == (1, 6, "ct")
    in_place(read_ct(tmp_path / "enhanced.dcm"))


def test_multi_frame_without_positions_is_refused(tmp_path, series, write_dicom):
    ds = _enhanced(series().datasets())
    del ds.PerFrameFunctionalGroupsSequence
    write_dicom(ds, tmp_path / "capture.dcm")
    with pytest.raises((UnsupportedFileError, GeometryError)):
        read_ct(tmp_path)
