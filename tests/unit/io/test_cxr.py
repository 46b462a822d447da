"""Radiographs are read bone-bright, whole and with what their file knows."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from napari_cxr3d.errors import UnreadableFileError, UnsupportedFileError
from napari_cxr3d.io import read_cxr

PICTURE = np.add.outer(np.arange(40) * 3, np.arange(50)).astype(np.uint16)  # up to 166


def picture_8() -> np.ndarray:
    return PICTURE.astype(np.uint8)


@pytest.fixture
def radiograph(tmp_path, series, write_dicom):
    """A writer of a DICOM radiograph; keywords become elements, None removes one."""

    def write(stored=PICTURE, **elements):
        ds = series(positions=[(0, 0, 0)]).datasets()[0]
        ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
        ds.Modality = "CR"
        ds.ImageType = ["ORIGINAL", "PRIMARY"]
        ds.SeriesDescription = "Chest PA"
        ds.ViewPosition = "PA"
        ds.Rows, ds.Columns = stored.shape[:2]
        ds.BitsStored, ds.HighBit = 12, 11
        ds.PixelData = stored.tobytes()
        for name in ("PixelSpacing", "RescaleSlope", "RescaleIntercept", "ImagePositionPatient"):
            delattr(ds, name)
        for name, value in elements.items():
            if value is None:
                delattr(ds, name)
            else:
                setattr(ds, name, value)
        path = tmp_path / "cxr.dcm"
        write_dicom(ds, path)
        return path

    return write


# Pictures


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
def test_an_eight_bit_picture_is_read_as_it_is(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(picture_8()).save(path, **({"quality": 95} if suffix == "jpg" else {}))
    radiograph = read_cxr(path)
    assert radiograph.pixels.dtype == np.float32
    np.testing.assert_allclose(radiograph.pixels, PICTURE, atol=3 if suffix == "jpg" else 0)
    assert radiograph.pitch_mm is None
    assert radiograph.source.kind == {"png": "PNG", "tif": "TIFF", "jpg": "JPEG"}[suffix]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_kept(tmp_path, suffix):
    stored = (PICTURE * 300).astype(np.uint16)
    Image.fromarray(stored).save(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(read_cxr(tmp_path / f"a.{suffix}").pixels, stored)


def test_a_file_is_known_by_its_content_not_its_name(tmp_path):
    Image.fromarray(picture_8()).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "noname")
    np.testing.assert_array_equal(read_cxr(tmp_path / "noname").pixels, PICTURE)


def test_a_grey_picture_in_colour_channels_is_grey_again(tmp_path):
    Image.fromarray(np.repeat(picture_8()[..., None], 3, axis=-1)).save(tmp_path / "a.png")
    radiograph = read_cxr(tmp_path / "a.png")
    np.testing.assert_array_equal(radiograph.pixels, PICTURE)
    assert any("grey already" in n for n in radiograph.source.notes)


def test_a_coloured_picture_is_read_with_a_warning(tmp_path):
    rgb = np.zeros((40, 50, 3), np.uint8)
    rgb[..., 0] = 200
    Image.fromarray(rgb).save(tmp_path / "a.png")
    radiograph = read_cxr(tmp_path / "a.png")
    np.testing.assert_allclose(radiograph.pixels, 0.299 * 200, atol=1e-3)
    assert any("may not be a radiograph" in n for n in radiograph.source.notes)


def test_transparency_is_laid_on_black(tmp_path):
    rgba = np.full((40, 50, 4), 200, np.uint8)
    rgba[:20, :, 3] = 0
    rgba[20:, :, 3] = 255
    Image.fromarray(rgba).save(tmp_path / "a.png")
    radiograph = read_cxr(tmp_path / "a.png")
    assert np.all(radiograph.pixels[:20] == 0)
    assert np.all(radiograph.pixels[20:] == 200)


def test_palette_and_two_level_pictures_are_read(tmp_path):
    Image.fromarray(picture_8()).convert("P").save(tmp_path / "p.png")
    np.testing.assert_allclose(read_cxr(tmp_path / "p.png").pixels, PICTURE, atol=1)
    Image.fromarray(picture_8() > 80).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_cxr(tmp_path / "b.png").pixels, (PICTURE > 80) * 255.0)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_the_orientation_tag_is_obeyed(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise by 90 degrees to show
    Image.fromarray(picture_8()).save(tmp_path / f"a.{suffix}", exif=exif)
    radiograph = read_cxr(tmp_path / f"a.{suffix}")
    np.testing.assert_allclose(radiograph.pixels, np.rot90(PICTURE, -1), atol=4)
    assert any("turned upright" in n for n in radiograph.source.notes)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_white_is_zero_tiff_is_shown_bone_bright(tmp_path, dtype):
    import tifffile

    stored = PICTURE.astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="miniswhite")
    np.testing.assert_array_equal(read_cxr(tmp_path / "a.tif").pixels, np.iinfo(dtype).max - stored)


def test_only_a_meant_resolution_becomes_a_pixel_pitch(tmp_path):
    big = Image.fromarray(np.zeros((1000, 900), np.uint8))
    for dpi, pitch in (((72, 72), None), ((300, 300), None), ((63.5, 63.5), 0.4)):
        big.save(tmp_path / "a.png", dpi=dpi)
        found = read_cxr(tmp_path / "a.png").pitch_mm
        assert (found is None) if pitch is None else found == pytest.approx((pitch,) * 2, rel=1e-3)


def test_sequences_and_icons_are_refused(tmp_path):
    page = Image.fromarray(picture_8())
    page.save(tmp_path / "pages.tif", save_all=True, append_images=[page])
    with pytest.raises(UnsupportedFileError, match="2 pages"):
        read_cxr(tmp_path / "pages.tif")
    page.resize((16, 16)).save(tmp_path / "icon.png")
    with pytest.raises(UnsupportedFileError, match="too small"):
        read_cxr(tmp_path / "icon.png")


def test_a_picture_that_unpacks_to_a_giant_is_refused(tmp_path):
    Image.new("1", (20000, 20000)).save(tmp_path / "bomb.png")
    assert (tmp_path / "bomb.png").stat().st_size < 100_000
    with pytest.raises((UnsupportedFileError, UnreadableFileError)):
        read_cxr(tmp_path / "bomb.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_a_truncated_picture_is_an_error(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 255, (200, 200), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / f"a.{suffix}")
    whole = (tmp_path / f"a.{suffix}").read_bytes()
    (tmp_path / f"a.{suffix}").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableFileError):
        read_cxr(tmp_path / f"a.{suffix}")


def test_what_is_no_picture_is_refused_with_a_way_out(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(UnsupportedFileError, match="neither DICOM, PNG, JPEG nor TIFF"):
        read_cxr(tmp_path / "a.txt")
    with pytest.raises(UnsupportedFileError, match="not a folder"):
        read_cxr(tmp_path)
    (tmp_path / "a.nii.gz").write_bytes(b"1")
    with pytest.raises(UnsupportedFileError, match="Open it as a CT"):
        read_cxr(tmp_path / "a.nii.gz")
    (tmp_path / "empty.png").touch()
    with pytest.raises(UnreadableFileError, match="empty"):
        read_cxr(tmp_path / "empty.png")


# DICOM


def test_a_dicom_radiograph_knows_its_view_window_and_pitch(radiograph):
    found = read_cxr(
        radiograph(ImagerPixelSpacing=[3.0, 2.5], WindowCenter=[80, 9], WindowWidth=[61, 9])
    )
    np.testing.assert_array_equal(found.pixels, PICTURE)
    assert found.view_position == "PA"
    assert found.pitch_mm == (3.0, 2.5)
    assert found.display_range == (49.5, 109.5)  # PS3.3 C.11.2.1.2.1
    assert found.source.description == "Chest PA"
    assert found.source.modality == "CR"
    assert any("120 x 125 mm" in n for n in found.source.notes)


def test_monochrome1_is_inverted_with_its_window(radiograph):
    found = read_cxr(
        radiograph(PhotometricInterpretation="MONOCHROME1", WindowCenter=80.5, WindowWidth=61)
    )
    np.testing.assert_array_equal(found.pixels, 4095.0 - PICTURE)
    assert found.display_range == (4095 - 110, 4095 - 50)
    assert found.photometric == "MONOCHROME1"


def test_the_modality_rescale_comes_before_the_inversion(radiograph):
    found = read_cxr(
        radiograph(PhotometricInterpretation="MONOCHROME1", RescaleSlope=2, RescaleIntercept=-100)
    )
    np.testing.assert_array_equal(found.pixels, 2.0 * (4095 - PICTURE) - 100)


def test_a_display_table_is_applied(radiograph):
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    table = Dataset()
    table.LUTDescriptor = [256, 0, 16]
    table.add_new("LUTData", "OW", (255 * np.arange(255, -1, -1)).astype("<u2").tobytes())
    found = read_cxr(radiograph(VOILUTSequence=Sequence([table])))
    np.testing.assert_array_equal(found.pixels, 255.0 * (255 - PICTURE))
    assert found.display_range == (0, 65535)


def test_a_window_beside_the_pixels_is_ignored(radiograph):
    found = read_cxr(radiograph(WindowCenter=-5000, WindowWidth=100))
    assert found.display_range is None
    assert any("misses its pixel values" in n for n in found.source.notes)


def test_padding_is_black_even_when_inverted(radiograph):
    stored = PICTURE.copy()
    stored[:5] = 0  # white in a MONOCHROME1 picture
    stored[5:] += 1
    found = read_cxr(
        radiograph(stored, PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=0)
    )
    assert np.all(found.pixels[:5] == found.pixels[5:].min())


@pytest.mark.parametrize(
    ("elements", "pitch", "words"),
    [
        ({"PixelSpacing": [3, 3]}, 3.0, "from PixelSpacing"),
        (
            {
                "PixelSpacing": [3, 3],
                "PixelSpacingCalibrationType": "GEOMETRY",
                "EstimatedRadiographicMagnificationFactor": 1.25,
            },
            3.75,
            "calibration undone",
        ),
        (
            {"PixelSpacing": [3, 3], "PixelSpacingCalibrationType": "FIDUCIAL"},
            3.0,
            "patient's plane",
        ),
        ({"PixelSpacing": [3, 3], "ImagerPixelSpacing": [4, 4]}, 4.0, "from ImagerPixelSpacing"),
        ({"ImagerPixelSpacing": [0, 0], "PixelSpacing": [4, 4]}, 4.0, "ImagerPixelSpacing (0"),
        ({"NominalScannedPixelSpacing": [4, 4]}, 4.0, "NominalScanned"),
        ({"PixelSpacing": [0.01, 0.01]}, None, "no plausible"),
        ({}, None, "unknown"),
    ],
)
def test_the_pixel_pitch_is_the_detectors_and_the_note_says_whence(
    radiograph, elements, pitch, words
):
    found = read_cxr(radiograph(**elements))
    assert found.pitch_mm == (None if pitch is None else (pitch, pitch))
    assert any(words in n for n in found.source.notes)


@pytest.mark.parametrize(("pitch", "warned"), [(3.0, True), (7.0, False)])
def test_a_picture_too_small_for_an_adult_is_told(radiograph, pitch, warned):
    notes = read_cxr(radiograph(ImagerPixelSpacing=[pitch, pitch])).source.notes
    assert any("small for an adult's chest" in n for n in notes) is warned


@pytest.mark.parametrize(
    ("orientation", "flip"), [(["L", "F"], ()), (["R", "F"], (1,)), (["R", "H"], (0, 1))]
)
def test_a_frontal_chest_is_shown_left_on_the_right_and_head_up(radiograph, orientation, flip):
    found = read_cxr(radiograph(PatientOrientation=orientation))
    np.testing.assert_array_equal(found.pixels, np.flip(PICTURE, flip) if flip else PICTURE)


def test_the_view_is_found_in_its_code(radiograph):
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator = "399173006", "SCT"
    assert (
        read_cxr(radiograph(ViewPosition=None, ViewCodeSequence=Sequence([code]))).view_position
        == "LL"
    )
    assert read_cxr(radiograph(ViewPosition="LLO")).view_position == ""


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ({"Modality": "CT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, "CT slice"),
        ({"Modality": "OT", "ImageType": ["DERIVED", "SECONDARY", "AXIAL"]}, "CT slice"),
        ({"Modality": "MR"}, "modality is MR"),
        ({"Modality": "MG"}, "modality is MG"),
        ({"Modality": "", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}, "does not say its modality"),
        ({"NumberOfFrames": 7}, "7 frames"),
        ({"Rows": 8}, "too small"),
    ],
)
def test_what_is_no_single_radiograph_is_refused(radiograph, elements, words):
    with pytest.raises(UnsupportedFileError, match=words):
        read_cxr(radiograph(**elements))


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ({"BodyPartExamined": "FOOT"}, "body part is FOOT"),
        ({"Modality": "OT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "secondary capture"),
        ({"PresentationIntentType": "FOR PROCESSING"}, "raw values"),
        ({"PixelData": bytes(2 * PICTURE.size)}, "empty"),
    ],
)
def test_what_is_doubtful_is_read_with_a_warning(radiograph, elements, words):
    assert any(words in n for n in read_cxr(radiograph(**elements)).source.notes)


def test_nothing_of_the_patient_gets_into_the_radiograph(radiograph):
    source = read_cxr(radiograph()).source
    assert "secret" not in (str(source.to_metadata()) + repr(source)).lower()


def test_a_truncated_dicom_is_an_error(radiograph):
    path = radiograph()
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UnreadableFileError):
        read_cxr(path)
