"""Damaged files: whatever the bytes, only this package's own errors come out."""

from __future__ import annotations

import contextlib
import gzip
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_cxr3d.errors import Cxr3dError
from napari_cxr3d.io import inspect_path, list_series, read_ct, read_cxr

BOUNDED = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
FILES = ("a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.png", "a.jpg", "a.tif")
DAMAGE = st.fixed_dictionaries(
    {
        "keep": st.floats(0.02, 1.0),
        "bytes": st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=8),
        "in_header": st.booleans(),
    }
)


def _damaged(whole: bytes, damage, header: int) -> bytes:
    """The file cut short, with some bytes changed; only in its header if so asked."""
    cut = bytearray(whole[: max(8, int(len(whole) * damage["keep"]))])
    span = min(len(cut), header) if damage["in_header"] else len(cut)
    for place, value in damage["bytes"]:
        cut[int(place * span)] = value
    return bytes(cut)


def _read_everything(path: Path) -> None:
    for reader in (read_ct, read_cxr, inspect_path, list_series):
        with contextlib.suppress(Cxr3dError):
            reader(path)


@pytest.fixture(scope="module")
def wholes(tmp_path_factory) -> dict[str, tuple[bytes, int]]:
    """A whole file of each kind, and how long its header is."""
    import nibabel

    folder = tmp_path_factory.mktemp("whole")
    values = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    image = nibabel.Nifti1Image(values, np.diag([-2.0, -2.0, 3.0, 1.0]))
    nibabel.save(image, folder / "a.nii")
    nifti = (folder / "a.nii").read_bytes()
    nrrd = (
        b"NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 4 5 6\n"
        b"space directions: (2,0,0) (0,2,0) (0,0,3)\nspace origin: (0,0,0)\nendian: little\n"
        b"encoding: raw\n\n"
    )
    meta = (
        b"ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
        b"CompressedData = False\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 0 0 0\n"
        b"ElementSpacing = 2 2 3\nDimSize = 4 5 6\nElementType = MET_SHORT\n"
        b"ElementDataFile = LOCAL\n"
    )
    grey = np.random.default_rng(1).integers(0, 255, (40, 50), dtype=np.uint8)
    wholes = {
        "a.nii": (nifti, 352),
        "a.nii.gz": (gzip.compress(nifti, mtime=0), 60),
        "a.nrrd": (nrrd + values.tobytes(), len(nrrd)),
        "a.mha": (meta + values.tobytes(), len(meta)),
    }
    for name in ("a.png", "a.jpg", "a.tif"):
        Image.fromarray(grey).save(folder / name)
        wholes[name] = ((folder / name).read_bytes(), 120)
    return wholes


@pytest.mark.parametrize(
    "name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.png", "a.jpg", "a.tif"]
)
@BOUNDED
@given(damage=DAMAGE)
def test_a_damaged_file_raises_only_our_errors(wholes, name, damage):
    whole, header = wholes[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(_damaged(whole, damage, header))
        _read_everything(path)


@pytest.mark.parametrize("kind", ["plain", "bare", "radiograph", "compressed"])
@BOUNDED
@given(damage=DAMAGE)
def test_a_damaged_dicom_slice_raises_only_our_errors(tmp_path_factory, series, kind, damage):
    def edit(ds, k):
        if kind == "radiograph":
            ds.Modality, ds.SOPClassUID = "CR", "1.2.840.10008.5.1.4.1.1.1"
        if kind == "compressed":
            ds.compress("1.2.840.10008.1.2.4.90", generate_instance_uid=False)

    positions = [(0.0, 0.0, 2.0 * k) for k in range(3)]
    made = series(positions=positions, shape=(40, 40), preamble=kind != "bare", edit=edit)
    with tempfile.TemporaryDirectory() as folder:
        paths = made.write(Path(folder))
        paths[1].write_bytes(_damaged(paths[1].read_bytes(), damage, 900))
        for target in (paths[1], Path(folder)):
            _read_everything(target)


NUMBERS = st.sampled_from(["", "0", "-1", "1e300", "nan", "abc", "1\\2", "99999999"])
ELEMENTS = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "RescaleSlope",
    "RescaleIntercept",
    "NumberOfFrames",
    "WindowCenter",
    "InstanceNumber",
    "SeriesInstanceUID",
    "ImageType",
    "Modality",
    "PhotometricInterpretation",
)


def _spliced(whole: bytes, keyword: str, value: str) -> bytes:
    """A file of explicit little endian elements with another value in one of them."""
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    tag = tag_for_keyword(keyword)
    start = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + dictionary_VR(tag).encode()
    at = whole.index(start, 132)
    (length,) = struct.unpack_from("<H", whole, at + 6)
    raw = value.encode() + b" " * (len(value) % 2)
    return whole[: at + 6] + struct.pack("<H", len(raw)) + raw + whole[at + 8 + length :]


@pytest.mark.parametrize("keyword", ELEMENTS)
@settings(BOUNDED, max_examples=10)
@given(value=NUMBERS, every=st.booleans())
def test_a_nonsensical_element_raises_only_our_errors(series, keyword, value, every):
    def edit(ds, k):
        ds.NumberOfFrames = ds.WindowCenter = ds.WindowWidth = 1

    with tempfile.TemporaryDirectory() as folder:
        paths = series(shape=(40, 40), edit=edit, positions=[(0, 0, k) for k in range(3)]).write(
            Path(folder)
        )
        for path in paths if every else paths[1:2]:
            path.write_bytes(_spliced(path.read_bytes(), keyword, value))
        _read_everything(Path(folder))
        _read_everything(paths[1])


@BOUNDED
@given(
    rows=st.sampled_from([0, 1, 3, 41, 65535]),
    columns=st.sampled_from([0, 1, 3, 41, 65535]),
    bits=st.sampled_from([0, 1, 8, 16, 32, 64, 17]),
    samples=st.sampled_from([0, 1, 3, 4]),
    frames=st.sampled_from([0, 1, 2, 2**30]),
)
def test_a_header_that_lies_about_its_pixels_raises_only_our_errors(
    series, rows, columns, bits, samples, frames
):
    def edit(ds, k):
        ds.Rows, ds.Columns, ds.SamplesPerPixel = rows, columns, samples
        ds.BitsAllocated = ds.BitsStored = bits
        ds.NumberOfFrames = frames
        if k == 2:
            ds.Modality, ds.SOPClassUID = "CR", "1.2.840.10008.5.1.4.1.1.1"

    with tempfile.TemporaryDirectory() as folder:
        paths = series(shape=(40, 40), edit=edit).write(Path(folder))
        _read_everything(Path(folder))
        _read_everything(paths[2])
