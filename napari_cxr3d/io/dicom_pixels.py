"""Decoding DICOM pixel data, compressed or not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import UnreadableFileError
from napari_cxr3d.io.dicom_headers import number
from napari_cxr3d.io.guard import foreign_errors, require_memory

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["decoded_frames", "padding_mask", "read_dataset"]

_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"


def read_dataset(path: Path) -> Dataset:
    """The whole DICOM file, pixels included but not yet decoded.

    Raises
    ------
    UnreadableFileError
        If it is damaged or holds no pixels.
    """
    import pydicom

    with foreign_errors(path, "The DICOM file cannot be read"):
        dataset = pydicom.dcmread(path, force=True)
        has_pixels = any(
            k in dataset for k in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
        )
    if not has_pixels:
        raise UnreadableFileError(
            "The DICOM file holds no picture",
            why="it ends before its pixels, or is an object without any",
            remedy="check that the file was copied completely",
            path=path,
        )
    return dataset


def decoded_frames(dataset: Dataset, path: Path) -> npt.NDArray[Any]:
    """Stored pixel values, shape (frames, rows, columns) or (frames, rows, columns, samples).

    Colour comes as RGB; integers in the file's own sign and width; no rescale applied.

    Raises
    ------
    UnreadableFileError
        If the pixels are damaged, or compressed in a way that no decoder here knows.
    OutOfMemoryError
        If the header asks for more than the free memory.
    """
    with foreign_errors(path, "The DICOM header cannot be read"):
        frames = int(dataset.get("NumberOfFrames") or 1)
        samples = int(dataset.get("SamplesPerPixel") or 1)
        n_values = int(dataset.Rows) * int(dataset.Columns) * frames * samples
        require_memory(2 * n_values * max(1, int(dataset.BitsAllocated) // 8), path)
        if "TransferSyntaxUID" not in dataset.file_meta:
            _assume_transfer_syntax(dataset)
        twelve_bit = (
            dataset.file_meta.TransferSyntaxUID == _JPEG_EXTENDED and int(dataset.BitsStored) > 8
        )
    with foreign_errors(
        path,
        "The pixels cannot be decoded",
        remedy="the file may be cut short; otherwise export it uncompressed",
    ):
        if twelve_bit:
            return _twelve_bit_jpeg(dataset, path)
        array = np.asarray(dataset.pixel_array)
    return array if frames > 1 else array[np.newaxis]


def _assume_transfer_syntax(dataset: Dataset) -> None:
    """Give a file without meta header the uncompressed syntax it was parsed with."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    implicit, little_endian = dataset.original_encoding
    explicit = ExplicitVRBigEndian if little_endian is False else ExplicitVRLittleEndian
    dataset.file_meta.TransferSyntaxUID = explicit if implicit is False else ImplicitVRLittleEndian


def _twelve_bit_jpeg(dataset: Dataset, path: Path) -> npt.NDArray[Any]:
    """JPEG Extended with more than 8 bits: only ITK's decoder, of those not under the GPL.

    ITK applies the rescale, so it is undone here.
    """
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    rescaled = sitk.GetArrayFromImage(reader.Execute()).astype(np.float64)
    slope, intercept = number(dataset, "RescaleSlope"), number(dataset, "RescaleIntercept")
    signed = int(dataset.get("PixelRepresentation") or 0)
    stored: npt.NDArray[Any] = np.rint((rescaled - (intercept or 0.0)) / (slope or 1.0))
    return stored.astype(np.int16 if signed else np.uint16)


def padding_mask(dataset: Dataset, stored: npt.NDArray[Any]) -> npt.NDArray[np.bool_] | None:
    """Which stored values are the file's declared padding (PS3.3 C.7.5.1.1.2).

    None where the file declares none. A padding value written with the wrong sign (63536
    for -2000) is read as the pixels' type sees it.
    """
    if stored.dtype.kind not in "iu":
        return None
    limits = [
        np.array(int(dataset.get(keyword))).astype(stored.dtype)[()]
        for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")
        if isinstance(dataset.get(keyword), int)
    ]
    if not limits:
        return None
    return (stored >= min(limits)) & (stored <= max(limits))
