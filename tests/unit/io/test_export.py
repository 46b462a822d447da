"""Writing radiographs: whole, marked as synthetic, and where they may be written."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from PIL import Image

from napari_cxr3d.errors import BackendUnavailableError, Cancelled, ExportError, InvalidInputError
from napari_cxr3d.imaging import Radiograph, XrayView
from napari_cxr3d.io import export
from napari_cxr3d.progress import CancelToken

VIEW = XrayView(
    yaw=30.0, pitch=10.0, detector_shape=(40, 64), pixel_mm=2.5, isocenter_lps=(5.0, -7.0, 11.0)
)
SWEEP = [replace(VIEW, yaw=float(yaw)) for yaw in (0, 10, 20)]
PROVENANCE = {"operation": "drr", "inputs": ["ab" * 32], "parameters": {"views": [1], "kv": 120}}


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).random((40, 64), np.float32)


@pytest.fixture
def sweep() -> np.ndarray:
    return np.random.default_rng(1).random((3, 40, 64), np.float32)


def leftovers(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if p.name.startswith(".")]


# --- float images ---------------------------------------------------------------------------


def test_npy_is_the_float_array_alone(
    tmp_path: Path, picture: np.ndarray, sweep: np.ndarray
) -> None:
    export.save(5 * picture, tmp_path / "one.npy", views=[VIEW], quantity="line_integral")
    export.save(sweep, tmp_path / "many.npy", views=SWEEP)
    export.save(sweep[:1], tmp_path / "stack.npy", views=SWEEP[:1])
    one, many = np.load(tmp_path / "one.npy"), np.load(tmp_path / "many.npy")
    assert one.dtype == np.float32
    np.testing.assert_array_equal(one, 5 * picture)
    np.testing.assert_array_equal(many, sweep)
    assert np.load(tmp_path / "stack.npy").shape == (1, 40, 64)


@pytest.mark.parametrize("suffix", [".npy", ".nrrd", ".nii.gz", ".nii", ".mha"])
def test_the_geometry_stands_beside_float_images(
    tmp_path: Path, sweep: np.ndarray, suffix: str
) -> None:
    path, sidecar = export.write_integrals(
        sweep, tmp_path / f"drr{suffix}", views=SWEEP, provenance=PROVENANCE
    )
    assert path == tmp_path / f"drr{suffix}"
    record = json.loads(sidecar.read_text())
    assert record["synthetic"] is True
    assert "SYNTHETIC" in record["note"]
    assert record["quantity"] == "line_integral"
    assert record["provenance"] == PROVENANCE
    for entry, view in zip(record["views"], SWEEP, strict=True):
        frame = entry.pop("frame_lps_mm")
        assert XrayView.from_dict(entry) == view
        np.testing.assert_allclose(frame["source"], view.frame().source)
        np.testing.assert_allclose(frame["pixel_0_0"], view.frame().origin)


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz", ".nii", ".mha"])
@pytest.mark.parametrize("flip", [False, True])
def test_one_view_lies_where_its_detector_stood(
    tmp_path: Path, picture: np.ndarray, suffix: str, flip: bool
) -> None:
    view = replace(VIEW, flip_columns=flip)
    path = tmp_path / f"drr{suffix}"
    export.save(picture, path, views=[view], quantity="line_integral")
    image = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image)[0], picture)
    assert image.GetSpacing()[:2] == pytest.approx((2.5, 2.5))
    frame = view.frame()
    for row, column in ((0, 0), (39, 0), (0, 63), (20, 30)):
        expected = frame.origin + row * frame.row_step + column * frame.column_step
        place = image.TransformIndexToPhysicalPoint((column, row, 0))
        np.testing.assert_allclose(place, expected, atol=2e-3)
    directions = np.array(image.GetDirection()).reshape(3, 3)
    assert np.linalg.det(directions) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz"])
def test_headers_of_float_images_say_synthetic(
    tmp_path: Path, sweep: np.ndarray, suffix: str
) -> None:
    path = tmp_path / f"drr{suffix}"
    export.save(sweep, path, views=SWEEP)
    image = sitk.ReadImage(str(path))
    assert image.GetSize() == (64, 40, 3)
    assert image.GetSpacing() == pytest.approx((2.5, 2.5, 1.0))
    assert any("SYNTHETIC" in image.GetMetaData(key) for key in image.GetMetaDataKeys())


# --- PNG ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "white"), [(8, 255), (16, 65535)])
def test_png_keeps_grey_levels_and_scale(
    tmp_path: Path, picture: np.ndarray, bits: int, white: int
) -> None:
    path = tmp_path / "drr.png"
    export.save(
        picture, path, views=[VIEW], bits=bits, burn_mark=False, provenance=PROVENANCE  # type: ignore[arg-type]
    )  # fmt: skip
    with Image.open(path) as image:
        stored = np.array(image)
        assert stored.dtype == (np.uint8 if bits == 8 else np.uint16)
        np.testing.assert_array_equal(stored, np.rint(picture * white))
        assert image.info["dpi"] == pytest.approx((25.4 / 2.5,) * 2, rel=1e-3)
        assert image.text["Description"].startswith("SYNTHETIC")
        assert json.loads(image.text["Provenance"]) == PROVENANCE
        assert XrayView.from_dict(json.loads(image.text["View"])) == VIEW


def test_line_integrals_come_back_from_png(tmp_path: Path, picture: np.ndarray) -> None:
    path = tmp_path / "drr.png"
    export.save(7.5 * picture, path, views=[VIEW], quantity="line_integral", burn_mark=False)
    with Image.open(path) as image:
        low, high = (float(v) for v in image.text["Range"].split())
        values = low + (high - low) * np.array(image) / 65535
    np.testing.assert_allclose(values, 7.5 * picture, atol=1e-4)


@pytest.mark.parametrize("bits", [8, 16])
def test_the_mark_is_burnt_in_below_and_nowhere_else(tmp_path: Path, bits: int) -> None:
    view = replace(VIEW, detector_shape=(256, 256))
    grey = np.full((256, 256), 0.5, np.float32)
    export.save(grey, tmp_path / "drr.png", views=[view], bits=bits)  # type: ignore[arg-type]
    with Image.open(tmp_path / "drr.png") as image:
        stored = np.array(image) / (2**bits - 1)
    changed = np.argwhere(np.abs(stored - 0.5) > 0.01)
    assert len(changed) > 200
    assert changed[:, 0].min() > 220
    assert changed[:, 1].max() < 200
    assert stored.max() > 0.9
    assert stored.min() == 0


def test_tiny_pictures_can_be_marked_too(tmp_path: Path) -> None:
    view = replace(VIEW, detector_shape=(5, 7))
    export.save(np.ones((5, 7)), tmp_path / "drr.png", views=[view])
    with Image.open(tmp_path / "drr.png") as image:
        assert image.size == (7, 5)


def test_a_sweep_becomes_numbered_files(tmp_path: Path, sweep: np.ndarray) -> None:
    beside = export.save(sweep, tmp_path / "drr.png", views=SWEEP)
    assert [p.name for p in beside] == ["drr_000.png", "drr_001.png", "drr_002.png"]
    inside = export.save(sweep, tmp_path / "frames", views=SWEEP)
    assert [p.relative_to(tmp_path).as_posix() for p in inside] == [
        "frames/0000.png",
        "frames/0001.png",
        "frames/0002.png",
    ]
    titles = []
    for path in inside:
        with Image.open(path) as image:
            titles.append(image.text["Title"])
    assert titles == [
        "SYNTHETIC DRR yaw 0 pitch 10",
        "SYNTHETIC DRR yaw 10 pitch 10",
        "SYNTHETIC DRR yaw 20 pitch 10",
    ]


# --- DICOM ----------------------------------------------------------------------------------


def test_a_secondary_capture_says_what_it_is_and_of_nobody(
    tmp_path: Path, picture: np.ndarray
) -> None:
    path = tmp_path / "drr.dcm"
    assert export.save(picture, path, views=[VIEW], provenance=PROVENANCE) == (path,)
    header = pydicom.dcmread(path)
    assert list(header.ImageType[:2]) == ["DERIVED", "SECONDARY"]
    assert header.SOPClassUID == pydicom.uid.SecondaryCaptureImageStorage
    assert header.SeriesDescription.startswith("SYNTHETIC DRR")
    assert header.ImageComments.startswith("SYNTHETIC")
    assert header.ConversionType == "SYN"
    assert str(header.PatientName) == header.PatientID == "ANONYMOUS"
    assert header.PatientBirthDate == ""
    comments = json.loads(header.ImageComments[header.ImageComments.index("{") :])
    assert comments["parameters"] == {"kv": 120}
    uids = [header.StudyInstanceUID, header.SeriesInstanceUID, header.SOPInstanceUID]
    assert len(set(uids)) == 3
    export.save(picture, tmp_path / "again.dcm", views=[VIEW])
    again = pydicom.dcmread(tmp_path / "again.dcm")
    assert again.StudyInstanceUID != header.StudyInstanceUID


def test_a_secondary_capture_tells_its_geometry(tmp_path: Path, picture: np.ndarray) -> None:
    export.save(picture, tmp_path / "drr.dcm", views=[VIEW])
    header = pydicom.dcmread(tmp_path / "drr.dcm")
    assert list(header.PixelSpacing) == [2.5, 2.5]
    assert list(header.ImagerPixelSpacing) == [2.5, 2.5]
    assert header.DistanceSourceToDetector == 1800
    assert header.DistanceSourceToPatient == 1600
    # The detector stands to the patient's left (LAO) and, the source lifted, caudal.
    assert header.PositionerPrimaryAngle == 30
    assert header.PositionerSecondaryAngle == -10
    columns, rows = header.PatientOrientation
    assert columns.startswith("L")
    assert rows.startswith("F")
    export.save(picture, tmp_path / "ap.dcm", views=[replace(VIEW, yaw=200.0)])
    assert pydicom.dcmread(tmp_path / "ap.dcm").PositionerPrimaryAngle == -160


def test_dicom_pixels_come_back_through_two_readers(tmp_path: Path, picture: np.ndarray) -> None:
    path = tmp_path / "drr.dcm"
    export.save(6 * picture, path, views=[VIEW], quantity="line_integral", burn_mark=False)
    header = pydicom.dcmread(path)
    values = header.pixel_array * float(header.RescaleSlope) + float(header.RescaleIntercept)
    np.testing.assert_allclose(values, 6 * picture, atol=1e-4)
    image = sitk.ReadImage(str(path))
    np.testing.assert_allclose(sitk.GetArrayFromImage(image)[0], 6 * picture, atol=1e-4)
    assert image.GetSpacing()[:2] == (2.5, 2.5)


def test_our_own_reader_takes_the_secondary_capture(tmp_path: Path, picture: np.ndarray) -> None:
    from napari_cxr3d.io import read_cxr

    export.save(picture, tmp_path / "drr.dcm", views=[VIEW], burn_mark=False)
    radiograph = read_cxr(tmp_path / "drr.dcm")
    assert radiograph.pitch_mm == (2.5, 2.5)
    assert radiograph.source is not None
    assert "SYNTHETIC" in radiograph.source.description
    np.testing.assert_array_equal(radiograph.pixels, np.rint(picture * 65535))


def test_a_sweep_becomes_one_series(tmp_path: Path, sweep: np.ndarray) -> None:
    paths = export.save(sweep, tmp_path / "drr.dcm", views=SWEEP)
    headers = [pydicom.dcmread(path) for path in paths]
    assert [h.InstanceNumber for h in headers] == [1, 2, 3]
    assert len({h.SeriesInstanceUID for h in headers}) == 1
    assert {h.SeriesDescription for h in headers} == {"SYNTHETIC DRR sweep"}
    assert len({h.SOPInstanceUID for h in headers}) == 3
    assert [h.PositionerPrimaryAngle for h in headers] == [0, 10, 20]


def test_a_patient_s_dicom_file_is_never_replaced(tmp_path: Path, picture: np.ndarray) -> None:
    path = tmp_path / "image.dcm"
    export.save(picture, path, views=[VIEW])
    export.save(picture, path, views=[VIEW], overwrite=True)
    header = pydicom.dcmread(path)
    header.SeriesDescription = "Chest PA"
    header.save_as(path)
    before = path.read_bytes()
    with pytest.raises(ExportError, match="not marked as synthetic"):
        export.save(picture, path, views=[VIEW], overwrite=True)
    assert path.read_bytes() == before


# --- films ----------------------------------------------------------------------------------


def test_gif_plays_all_frames_for_ever_and_is_marked(tmp_path: Path) -> None:
    frames = np.linspace(0.2, 0.8, 3)[:, None, None] * np.ones((3, 64, 128))
    export.save(frames, tmp_path / "sweep.gif", views=SWEEP, frames_per_second=10)
    with Image.open(tmp_path / "sweep.gif") as film:
        assert film.n_frames == 3
        assert film.info["loop"] == 0
        assert film.info["duration"] == 100
        assert b"SYNTHETIC" in film.info["comment"]
        for k in range(3):
            film.seek(k)
            shown = np.array(film.convert("L"))
            np.testing.assert_array_equal(shown[:40], np.rint(255 * frames[k, :40]))
            assert shown[-10:, :30].max() > 220
            assert shown[-10:, :30].min() == 0


def test_mp4_has_every_frame(tmp_path: Path) -> None:
    ffmpeg = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    frames = np.linspace(0.2, 0.8, 4)[:, None, None] * np.ones((4, 65, 127))
    views = [replace(VIEW, yaw=float(k)) for k in range(4)]
    path = tmp_path / "sweep.mp4"
    export.save(frames, path, views=views)
    decode = [ffmpeg, "-loglevel", "error", "-i", str(path), "-f", "rawvideo"]
    decoded = subprocess.run([*decode, "-pix_fmt", "gray", "-"], capture_output=True, check=True)
    # The codec wants even sides.
    film = np.frombuffer(decoded.stdout, np.uint8).reshape(-1, 66, 128)
    assert len(film) == 4
    grey = film[:, :40].mean(axis=(1, 2)) / 255
    np.testing.assert_allclose(grey, np.linspace(0.2, 0.8, 4), atol=0.03)
    assert film[:, -10:, :30].max() > 180
    assert leftovers(tmp_path) == []


def test_without_ffmpeg_mp4_says_what_to_type(
    tmp_path: Path, sweep: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_cxr3d.io.movie_export.find_spec", lambda name: None)
    with pytest.raises(BackendUnavailableError, match="pip install imageio-ffmpeg"):
        export.save(sweep, tmp_path / "sweep.mp4", views=SWEEP)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["sweep.gif", "frames"])
def test_a_cancelled_film_leaves_nothing_half_written(
    tmp_path: Path, sweep: np.ndarray, name: str
) -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        export.save(sweep, tmp_path / name, views=SWEEP, cancel=token)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


# --- destinations ---------------------------------------------------------------------------

ALL = ["a.npy", "a.nrrd", "a.nii.gz", "a.mha", "a.png", "a.dcm", "a.gif"]


@pytest.mark.parametrize("name", ALL)
def test_existing_files_are_kept_unless_overwriting_is_allowed(
    tmp_path: Path, picture: np.ndarray, name: str
) -> None:
    path = tmp_path / name
    export.save(picture, path, views=[VIEW])
    before = path.read_bytes()
    with pytest.raises(ExportError, match="exists already"):
        export.save(1 - picture, path, views=[VIEW])
    assert path.read_bytes() == before
    export.save(1 - picture, path, views=[VIEW], overwrite=True)
    assert path.read_bytes() != before
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("name", ALL)
def test_a_source_is_never_written_over(tmp_path: Path, picture: np.ndarray, name: str) -> None:
    source = tmp_path / name
    source.write_bytes(b"a patient's CT")
    for sources in ([source], [tmp_path]):
        with pytest.raises(ExportError, match="source"):
            export.save(picture, source, views=[VIEW], overwrite=True, sources=sources)
    assert source.read_bytes() == b"a patient's CT"


def test_a_source_is_known_under_another_name(tmp_path: Path, picture: np.ndarray) -> None:
    source = tmp_path / "ct.nrrd"
    source.write_bytes(b"a patient's CT")
    (tmp_path / "link.nrrd").symlink_to(source)
    with pytest.raises(ExportError, match="source"):
        export.save(picture, tmp_path / "link.nrrd", views=[VIEW], overwrite=True, sources=[source])
    assert source.read_bytes() == b"a patient's CT"


def test_a_failed_write_leaves_nothing_behind(
    tmp_path: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ExportError, match="No space left"):
        export.save(picture, tmp_path / "a.png", views=[VIEW])
    assert not any(tmp_path.iterdir())


def test_wrong_destinations_are_told(tmp_path: Path, picture: np.ndarray) -> None:
    with pytest.raises(ExportError, match=r"\.npy, \.nii\.gz, .*\.mp4"):
        export.save(picture, tmp_path / "drr.jpg", views=[VIEW])
    with pytest.raises(ExportError, match="does not exist"):
        export.save(picture, tmp_path / "nowhere" / "drr.png", views=[VIEW])
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ExportError, match="folder of this name"):
        export.save(picture, tmp_path / "folder.png", views=[VIEW])
    with pytest.raises(InvalidInputError, match="1 images, 3 views"):
        export.save(picture, tmp_path / "drr.png", views=SWEEP)
    with pytest.raises(InvalidInputError, match="8 or 16"):
        export.save(picture, tmp_path / "drr.png", views=[VIEW], bits=12)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="frame rate"):
        export.save(picture, tmp_path / "drr.gif", views=[VIEW], frames_per_second=0)


def test_only_synthetic_radiographs_are_written(tmp_path: Path, picture: np.ndarray) -> None:
    synthetic = Radiograph(picture, (2.5, 2.5), VIEW, synthetic=True)
    assert export.save_radiograph(synthetic, tmp_path / "drr.npy")[0].exists()
    np.testing.assert_array_equal(np.load(tmp_path / "drr.npy"), picture)
    with pytest.raises(InvalidInputError, match="measured"):
        export.save_radiograph(Radiograph(picture), tmp_path / "cxr.npy")


@pytest.mark.parametrize("name", ["drr.png", "drr.dcm"])
def test_a_synthetic_radiograph_is_still_synthetic_when_read_back(
    tmp_path: Path, picture: np.ndarray, name: str
) -> None:
    from napari_cxr3d.io import read_cxr

    export.save(picture, tmp_path / name, views=[VIEW])
    assert read_cxr(tmp_path / name).synthetic
