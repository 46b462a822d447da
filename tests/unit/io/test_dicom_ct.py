"""DICOM series become volumes that lie where the patient lay."""

from __future__ import annotations

import os
from itertools import permutations, product

import numpy as np
import pytest

from napari_cxr3d.errors import (
    Cancelled,
    ConsentRequiredError,
    Cxr3dError,
    GeometryError,
    OutOfMemoryError,
    UnreadableFileError,
)
from napari_cxr3d.io import read_ct
from napari_cxr3d.progress import CancelToken, Progress

AXIS = {"L": (1, 0, 0), "P": (0, 1, 0), "S": (0, 0, 1)}


def _orientations():
    """The 24 axis-aligned ways to lay rows and columns in the patient."""
    for row, column in permutations(AXIS, 2):
        for s, t in product((1, -1), repeat=2):
            yield tuple(s * v for v in AXIS[row]) + tuple(t * v for v in AXIS[column])


def test_an_axial_series_becomes_superior_first_posterior_last(tmp_path, series, in_place):
    series().write(tmp_path)
    volume = read_ct(tmp_path)
    assert volume.shape == (6, 8, 10)
    assert volume.spacing_mm == (4.0, 2.0, 3.0)
    assert volume.origin_lps == (-10.0, -20.0, 20.0)
    assert volume.hu.dtype == np.int16
    in_place(volume)


def test_a_sound_series_needs_no_note(tmp_path, series):
    series(shape=(8, 40)).write(tmp_path)
    assert read_ct(tmp_path).source.notes == ()


@pytest.mark.parametrize("orientation", list(_orientations()), ids=str)
@pytest.mark.parametrize("toward", [1, -1])
def test_any_axis_aligned_acquisition_lies_where_the_patient_lay(
    tmp_path, series, in_place, orientation, toward
):
    normal = np.cross(orientation[:3], orientation[3:])
    positions = [np.array([5.0, -7.0, 11.0]) + toward * 4.0 * k * normal for k in range(5)]
    series(positions=positions, orientation=orientation).write(tmp_path)
    in_place(read_ct(tmp_path))


def test_slices_are_sorted_by_position_whatever_names_and_numbers_say(tmp_path, series, in_place):
    order = [3, 0, 5, 1, 4, 2]

    def scramble(ds, k):
        ds.InstanceNumber = order[k]
        ds.SliceLocation = 100 - order[k]

    paths = series(edit=scramble).write(tmp_path)
    for k, path in enumerate(paths):
        path.rename(tmp_path / f"IM{order[k]}")  # no suffix either
    in_place(read_ct(tmp_path))


def test_nested_folders_and_clutter_are_searched(tmp_path, series, in_place):
    paths = series().write(tmp_path / "a" / "b")
    (tmp_path / "c").mkdir()
    for path in paths[:3]:
        path.rename(tmp_path / "c" / path.name)
    (tmp_path / "readme.txt").write_text("not an image")
    (tmp_path / "empty.dcm").touch()
    volume = read_ct(tmp_path)
    assert volume.shape[0] == 6
    in_place(volume)


def test_a_folder_linked_into_itself_does_not_hang(tmp_path, series, in_place):
    series().write(tmp_path / "s")
    os.symlink(tmp_path, tmp_path / "s" / "loop", target_is_directory=True)
    in_place(read_ct(tmp_path))


def test_files_without_preamble_are_read(tmp_path, series, in_place):
    series(preamble=False).write(tmp_path, "{:d}")
    in_place(read_ct(tmp_path))


def test_one_file_brings_its_whole_series_and_no_other(tmp_path, series, in_place):
    paths = series().write(tmp_path)
    series(uid="1.2.4", positions=[(0, 0, 50.0 + k) for k in range(9)]).write(tmp_path, "x{}.dcm")
    volume = read_ct(paths[2])
    assert volume.shape[0] == 6
    in_place(volume)


def test_each_slice_has_its_own_rescale_sign_and_width(tmp_path, series, in_place):
    def vary(ds, k):
        slope, intercept = (1.0, -1024.0) if k % 2 else (2.0, -2000.0)
        stored = np.rint((base.stored(k, 1.0, 0.0) - intercept) / slope)
        ds.RescaleSlope, ds.RescaleIntercept = slope, intercept
        if k == 2:  # one slice is signed
            ds.PixelRepresentation = 1
            ds.RescaleIntercept = intercept = 0.0
            stored = np.rint(base.stored(k, 1.0, 0.0) / slope)
        ds.PixelData = stored.astype(np.int16 if k == 2 else np.uint16).tobytes()

    base = series()
    series(edit=vary).write(tmp_path)
    volume = read_ct(tmp_path)
    in_place(volume, tolerance=1.01)
    assert any("differs between slices" in note for note in volume.source.notes)


def test_a_fractional_rescale_keeps_its_fractions(tmp_path, series, in_place):
    series(slope=0.3, intercept=-1024.0).write(tmp_path)
    volume = read_ct(tmp_path)
    assert volume.hu.dtype == np.float32
    in_place(volume, tolerance=0.16)


def test_padding_becomes_air_and_the_clipping_is_told(tmp_path, series):
    def pad(ds, k):
        stored = np.frombuffer(ds.PixelData, np.uint16).astype(np.int16)
        stored[0] = -2000  # padding, declared with the sign lost
        stored[1] = 32000 - 1024 if k == 0 else stored[1]
        ds.PixelRepresentation = 1
        ds.PixelData = stored.tobytes()
        ds.add_new("PixelPaddingValue", "US", 63536)

    series(edit=pad).write(tmp_path)
    volume = read_ct(tmp_path)
    assert volume.hu[:, 0, 0].tolist() == [-1024] * 6
    assert volume.hu[-1, 0, 1] == 3071
    assert any(n.startswith("6 voxels") and "padding" in n for n in volume.source.notes)
    assert any(n.startswith("1 voxels") and "above 3071" in n for n in volume.source.notes)


@pytest.mark.parametrize("slope", [0, 1e30])
def test_a_senseless_slope_is_refused(tmp_path, series, slope):
    series(edit=lambda ds, k: setattr(ds, "RescaleSlope", slope)).write(tmp_path)
    with pytest.raises(Cxr3dError, match="slope is"):
        read_ct(tmp_path)


def test_values_without_air_are_called_implausible(tmp_path, series):
    series(edit=lambda ds, k: setattr(ds, "RescaleIntercept", 500)).write(tmp_path)
    assert any("lack the rescale intercept" in n for n in read_ct(tmp_path).source.notes)


# Repeats, gaps, uneven spacing


def test_repeated_equal_slices_are_dropped_and_told(tmp_path, series, in_place):
    series().write(tmp_path / "a")
    series().write(tmp_path / "copy")
    volume = read_ct(tmp_path)
    in_place(volume)
    assert volume.shape[0] == 6
    assert any(n.startswith("6 repeated slices") for n in volume.source.notes)


def test_different_slices_at_one_position_are_refused(tmp_path, series):
    def brighten(ds, k):
        ds.PixelData = (np.frombuffer(ds.PixelData, np.uint16) + 1).tobytes()

    series().write(tmp_path / "a")
    series(edit=brighten).write(tmp_path / "b")
    with pytest.raises(GeometryError, match="same position but differ"):
        read_ct(tmp_path)


def _without(k):
    return [(-10.0, -20.0, 4.0 * j) for j in range(8) if j not in k]


def test_a_missing_slice_needs_consent_and_is_then_interpolated(tmp_path, series, in_place):
    series(positions=_without({3, 4})).write(tmp_path)
    with pytest.raises(ConsentRequiredError, match="lacks 2 of 8 slices") as refusal:
        read_ct(tmp_path)
    assert refusal.value.consent == "allow_gaps"
    with pytest.raises(ConsentRequiredError):
        read_ct(tmp_path, allow_resampling=True)
    volume = read_ct(tmp_path, allow_gaps=True)
    assert volume.shape[0] == 8
    assert volume.hu.dtype == np.int16
    in_place(volume)
    assert any("2 of 8 slices are missing" in n for n in volume.source.notes)


def test_uneven_slices_need_consent_and_are_then_interpolated(tmp_path, series, in_place):
    z = [0, 4, 8, 13, 17, 21, 25.5]
    series(positions=[(-10.0, -20.0, v) for v in z]).write(tmp_path)
    with pytest.raises(ConsentRequiredError, match="not evenly spaced") as refusal:
        read_ct(tmp_path, allow_gaps=True)
    assert refusal.value.consent == "allow_resampling"
    volume = read_ct(tmp_path, allow_resampling=True)
    assert volume.spacing_mm[0] == pytest.approx(4.0)
    in_place(volume)


def test_a_hole_among_uneven_slices_needs_both_consents(tmp_path, series):
    z = [0, 4, 8.6, 12, 16.4, 30, 34, 38.5]
    series(positions=[(-10.0, -20.0, v) for v in z]).write(tmp_path)
    with pytest.raises(ConsentRequiredError) as refusal:
        read_ct(tmp_path, allow_resampling=True)
    assert refusal.value.consent == "allow_gaps"


@pytest.mark.parametrize("spacing", [0.6, 1.25, 8.0])
def test_positions_rounded_to_a_hundredth_are_even(tmp_path, series, spacing):
    z = [round(spacing * k + 0.004 * (-1) ** k, 2) for k in range(12)]
    series(positions=[(0.0, 0.0, v) for v in z]).write(tmp_path)
    volume = read_ct(tmp_path)
    assert volume.spacing_mm[0] == pytest.approx(spacing, rel=2e-3)


def test_a_slice_a_tenth_of_the_spacing_off_is_noticed(tmp_path, series):
    z = [4.0 * k + (0.4 if k == 3 else 0.0) for k in range(8)]
    series(positions=[(0.0, 0.0, v) for v in z]).write(tmp_path)
    with pytest.raises(ConsentRequiredError, match="not evenly spaced"):
        read_ct(tmp_path)


def test_more_gaps_than_slices_are_refused_even_with_consent(tmp_path, series):
    z = [0, 4, 8, 400, 404, 408]
    series(positions=[(0.0, 0.0, v) for v in z]).write(tmp_path)
    with pytest.raises(GeometryError, match="More slices are missing") as refusal:
        read_ct(tmp_path, allow_gaps=True, allow_resampling=True)
    assert not isinstance(refusal.value, ConsentRequiredError)


def test_a_single_slice_is_no_volume(tmp_path, series):
    series(positions=[(0.0, 0.0, 0.0)]).write(tmp_path)
    with pytest.raises(GeometryError, match="single slice"):
        read_ct(tmp_path)


def test_a_slice_beside_the_line_is_refused(tmp_path, series):
    positions = [(0.0 if k != 3 else 5.0, 0.0, 4.0 * k) for k in range(8)]
    series(positions=positions).write(tmp_path)
    with pytest.raises(GeometryError, match="one line"):
        read_ct(tmp_path, allow_gaps=True, allow_resampling=True)


# Tilt and obliqueness


def _tilted(degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return (1.0, 0.0, 0.0, 0.0, c, s), np.array([0.0, -s, c])


@pytest.mark.parametrize("gantry", [True, False], ids=["gantry tilt", "oblique"])
def test_tilted_slices_need_consent_and_are_then_resampled(tmp_path, series, place_hu, gantry):
    orientation, normal = _tilted(20.0)
    step = np.array([0.0, 0.0, 4.0]) if gantry else 4.0 * normal
    positions = [np.array([-10.0, -20.0, 0.0]) + k * step for k in range(10)]
    series(positions=positions, orientation=orientation, shape=(20, 10)).write(tmp_path)
    with pytest.raises(ConsentRequiredError, match=r"20\.0 degrees") as refusal:
        read_ct(tmp_path)
    assert refusal.value.consent == "allow_resampling"
    volume = read_ct(tmp_path, allow_resampling=True)
    assert volume.source.grid.order is None
    assert any("Resampled" in n for n in volume.source.notes)
    index = np.stack(np.indices(volume.shape), axis=-1)
    inverse = np.linalg.inv(volume.source.grid.affine_lps)
    points = volume.grid.index_to_lps(index)
    source_index = points @ inverse[:3, :3].T + inverse[:3, 3]
    last = np.array(volume.source.grid.shape) - 1
    inside = np.all((source_index >= 0) & (source_index <= last), axis=-1)
    outside = np.any((source_index < -1) | (source_index > last + 1), axis=-1)
    assert inside.sum() > 200
    np.testing.assert_allclose(volume.hu[inside], place_hu(points)[inside], atol=0.6)
    assert np.all(volume.hu[outside] == -1024)


def test_a_contradictory_orientation_is_refused(tmp_path, series):
    def bend(ds, k):
        ds.ImageOrientationPatient = [1, 0, 0, 0.5, 0.5, 0]

    series(edit=bend).write(tmp_path)
    with pytest.raises(GeometryError, match="perpendicular"):
        read_ct(tmp_path, allow_resampling=True)


# Safety


def test_cancelling_stops_the_reading(tmp_path, series):
    series().write(tmp_path)
    cancel = CancelToken()

    def stop(progress: Progress) -> None:
        if progress.message == "reading slices":
            cancel.cancel()

    with pytest.raises(Cancelled):
        read_ct(tmp_path, progress=stop, cancel=cancel)


def test_progress_ends_at_its_total(tmp_path, series):
    series().write(tmp_path)
    seen: list[Progress] = []
    read_ct(tmp_path, progress=seen.append)
    assert seen[-1].fraction == 1
    assert {p.message for p in seen} == {"looking at files", "reading slices"}


def test_an_absurd_size_is_refused_before_anything_is_allocated(tmp_path, series):
    def inflate(ds, k):
        ds.Rows = ds.Columns = 65535

    series(edit=inflate, positions=[(0, 0, k) for k in range(60)], shape=(2, 2)).write(tmp_path)
    with pytest.raises(OutOfMemoryError, match="does not fit"):
        read_ct(tmp_path)


def test_a_truncated_slice_is_an_error_that_names_the_file(tmp_path, series):
    paths = series().write(tmp_path)
    paths[3].write_bytes(paths[3].read_bytes()[:-40])
    with pytest.raises(UnreadableFileError, match="0003"):
        read_ct(tmp_path)


def test_a_damaged_header_leaves_a_gap_that_needs_consent(tmp_path, series, in_place):
    paths = series().write(tmp_path)
    raw = paths[2].read_bytes()
    assert raw.count(b"-10\\-20\\8") == 1
    paths[2].write_bytes(raw.replace(b"-10\\-20\\8", b"-1x\\-20\\8"))
    with pytest.raises(ConsentRequiredError, match="lacks 1 of 6"):
        read_ct(tmp_path)
    volume = read_ct(tmp_path, allow_gaps=True)
    in_place(volume)
    assert any("1 damaged DICOM files" in n for n in volume.source.notes)


def test_nothing_of_the_patient_gets_into_volume_or_errors(tmp_path, series):
    series().write(tmp_path / "good")
    source = read_ct(tmp_path / "good").source
    assert source.description == "Thorax 4.0"
    assert "1.2.3" not in str(source.to_metadata())
    with pytest.raises(ConsentRequiredError) as refusal:
        series(positions=_without({3})).write(tmp_path / "bad")
        read_ct(tmp_path / "bad")
    for text in (str(source.to_metadata()), repr(source), str(refusal.value)):
        assert "secret" not in text.lower()


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.90"])
def test_lossless_compression_changes_no_voxel(tmp_path, series, syntax):
    def compress(ds, k):
        ds.compress(syntax, generate_instance_uid=False)

    series(shape=(64, 64)).write(tmp_path / "raw")
    series(shape=(64, 64), edit=compress).write(tmp_path / "compressed")
    np.testing.assert_array_equal(read_ct(tmp_path / "raw").hu, read_ct(tmp_path / "compressed").hu)


def test_equal_content_has_an_equal_hash_and_other_content_another(tmp_path, series):
    series().write(tmp_path / "a")
    series(uid="1.2.5").write(tmp_path / "b", "z{}.dcm")
    series(spacing=(2.0, 3.5)).write(tmp_path / "c")
    a, b, c = (read_ct(tmp_path / n).source.content_sha256 for n in "abc")
    assert a == b != c
