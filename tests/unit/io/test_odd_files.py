"""Odd DICOM files from other projects' test sets: read rightly, or refused in a sentence."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from napari_cxr3d.errors import Cxr3dError
from napari_cxr3d.imaging import Radiograph
from napari_cxr3d.io import inspect_path, list_series, read_ct, read_cxr, sniff
from napari_cxr3d.io.dicom_pixels import decoded_frames, read_dataset

# What a radiograph's reader makes of them: shape and range of values, or words of the refusal.
RADIOGRAPHS = {
    "pydicom-data__RG3_J2KI.dcm": ((1760, 1760), (0, 1023)),
    "pydicom-data__HTJ2K_08_RGB.dcm": ((480, 640), None),
    "pydicom-data__JLSL_08_07_0_1F.dcm": ((128, 128), (0, 127)),
    "pydicom-data__JLSL_RGB_ILV0.dcm": ((256, 256), None),
    "pydicom-data__JLSN_RGB_ILV0.dcm": ((256, 256), None),
    "pydicom-data__SC_rgb.dcm": ((100, 100), (0, 255)),
    "pydicom-data__SC_rgb_expb.dcm": ((100, 100), (0, 255)),
    "pylibjpeg-data__JPEGBaseline_1s_1f_u_08_08.dcm": ((100, 100), (0, 255)),
    "pylibjpeg-data__SC_rgb_jpeg_gdcm.dcm": ((100, 100), (0, 255)),
    "pl-lungct__0000.dcm": ((512, 512), (44, 255)),
    "pl-lungct__PatientA.dcm": ((1024, 1024), (0, 255)),
    "pl-lungct__PatientC.dcm": ((1024, 1024), (0, 255)),
    "pydicom-data__RG1_J2KI.dcm": ((1955, 1841), (32767 - 26512, 32767 - 803)),
    "rse-panimg__cxr.dcm": ((440, 440), (1023 - 979, 1023)),
}
REFUSED_AS_RADIOGRAPH = {
    "dicom-test-files__CT1_JLSL.dcm": "CT slice",
    "dicom-test-files__CT1_RLE.dcm": "CT slice",
    "pydicom-data__bad_sequence.dcm": "CT slice",
    "pydicom-data__SC_rgb_16bit_2frame.dcm": "2 frames",
    "pydicom-data__OBXXXX1A_rle.dcm": "modality is US",
    "pydicom-data__emri_small_jpeg_2k_lossless_too_short.dcm": "modality is MR",
    "pylibjpeg-data__rtdose.dcm": "modality is RTDOSE",
    "pydicom-data__liver_deflate.dcm": "modality is SEG",
    "rse-panimg__full_no_bot.dcm": "modality is SM",
    "pydicom-data__parametric_map_double_float.dcm": "Parametric Map",
}
REFUSED_AS_CT = {
    "dicom-test-files__CT1_JLSL.dcm": "single slice",
    "pydicom-data__693_J2KR.dcm": "single slice",
    "rse-panimg__1.dcm": "single slice",
    "pylibjpeg-data__JPEGLossless_1s_1f_i_16_16_bad.dcm": "single slice",
    "dicom-test-files__MR1_JLSN.dcm": "modality is MR",
    "pydicom-data__RG3_J2KI.dcm": "radiograph",
    "pylibjpeg-data__rtdose.dcm": "modality is RTDOSE",
    "pydicom-data__SC_rgb.dcm": "modality is OT",
}
# Frames, rows, columns, lowest and highest stored value, on which all decoders agree.
STORED = {
    "dicom-test-files__CT1_JLSL.dcm": ((1, 512, 512), -2000, 2278),
    "dicom-test-files__CT1_RLE.dcm": ((1, 512, 512), -2000, 2278),
    "pylibjpeg-data__CT1_JLSN.dcm": ((1, 512, 512), -2004, 2278),
    "pydicom-data__693_J2KR.dcm": ((1, 512, 512), -2000, 2492),
    "pylibjpeg-data__693_J2KI.dcm": ((1, 512, 512), -2971, 2836),
    "pydicom-data__bad_sequence.dcm": ((1, 512, 512), 13, 2267),
    "pydicom-data__JPEG-LL.dcm": ((1, 1024, 256), 0, 278),
    "pydicom-data__MR2_J2KI.dcm": ((1, 1024, 1024), 0, 600),
    "pydicom-data__emri_small_jpeg_ls_lossless.dcm": ((10, 64, 64), 0, 467),
    "pydicom-data__emri_small_jpeg_2k_lossless.dcm": ((10, 64, 64), 0, 467),
    "pylibjpeg-data__MR_small_RLE.dcm": ((1, 64, 64), 127, 2145),
    "pylibjpeg-data__MR_small_jp2klossless.dcm": ((1, 64, 64), 127, 2145),
    "pylibjpeg-data__JPEGExtended_1s_1f_u_16_12.dcm": ((1, 1024, 256), 0, 264),
    "pylibjpeg-data__JPEG-lossy.dcm": ((1, 1024, 256), 0, 264),
    "pylibjpeg-data__rtdose.dcm": ((15, 10, 10), 795000, 1254000),
}


def _names() -> list[str]:
    """The files, found when the tests are collected; none where there are no test data."""
    default = Path(__file__).resolve().parents[4] / "shared" / "data"
    folder = Path(os.environ.get("CXR3D_TEST_DATA", default))
    found = [*folder.glob("dicom_odd/*"), *folder.glob("cxr/dicom/*")]
    return sorted(str(path.relative_to(folder)) for path in found)


@pytest.fixture
def alone(tmp_path, data_folder):
    """A copy of one file in a folder of its own, found by its name."""

    def copy(name: str) -> Path:
        (source,) = data_folder.glob(f"*/**/{Path(name).name}")
        return Path(shutil.copy(source, tmp_path / source.name))

    return copy


@pytest.mark.parametrize("name", _names())
def test_every_odd_file_is_read_or_refused_in_a_sentence(alone, name):
    path = alone(name)
    assert sniff(path) in ("ct", "cxr", "unknown")
    list_series(path.parent)
    for reader in (read_ct, read_cxr, inspect_path):
        try:
            found = reader(path)
        except Cxr3dError as error:
            assert str(error).endswith(".")
            assert "Traceback" not in str(error)
        else:
            assert min(found.shape) > 0


@pytest.mark.parametrize("name", RADIOGRAPHS)
def test_radiographs_and_captures_are_read(alone, name):
    if name == "pydicom-data__JLSL_08_07_0_1F.dcm" and find_spec("jpeg_ls") is None:
        pytest.skip("pyjpegls, which alone reads 7-bit JPEG-LS, is not installed")
    shape, values = RADIOGRAPHS[name]
    found = read_cxr(alone(name))
    assert isinstance(found, Radiograph)
    assert found.shape == shape
    if values is not None:
        low, high = values
        assert found.pixels.max() == pytest.approx(high, abs=40)
        assert found.pixels.min() == pytest.approx(low, abs=40)


@pytest.mark.parametrize("name", REFUSED_AS_RADIOGRAPH)
def test_what_is_no_radiograph_is_refused_for_the_right_reason(alone, name):
    with pytest.raises(Cxr3dError, match=REFUSED_AS_RADIOGRAPH[name]):
        read_cxr(alone(name))


@pytest.mark.parametrize("name", REFUSED_AS_CT)
def test_what_is_no_ct_is_refused_for_the_right_reason(alone, name):
    with pytest.raises(Cxr3dError, match=REFUSED_AS_CT[name]):
        read_ct(alone(name))


@pytest.mark.parametrize("name", STORED)
def test_compressed_pixels_are_decoded_to_the_values_that_decoders_agree_on(alone, name):
    path = alone(name)
    frames = decoded_frames(read_dataset(path), path)
    shape, low, high = STORED[name]
    assert frames.shape == shape
    assert (frames.min(), frames.max()) == (low, high)


def test_a_folder_of_all_odd_files_can_be_listed(data_folder):
    entries = list_series(data_folder / "dicom_odd")
    assert {e.modality for e in entries} >= {"CT", "MR", "US", "CR", "RTDOSE", "SEG"}
    assert all(e.reason for e in entries if e.kind != "ct")
