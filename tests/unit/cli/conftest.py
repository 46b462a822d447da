"""Small CTs on disk, and a way to run the command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

SHAPE = (20, 24, 28)  # (I, P, L)
SPACING_MM = 10.0


def chest() -> np.ndarray:
    """A box of water in air, with a dense block in the left upper part; int16 [I, P, L]."""
    hu = np.full(SHAPE, -1000, np.int16)
    hu[2:-2, 4:-4, 4:-4] = 0
    hu[3:8, 8:14, 18:23] = 1000
    return hu


@pytest.fixture
def run() -> Callable[..., object]:
    """Run the command line in this process."""
    from napari_cxr3d.cli.app import app

    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="session")
def ct_file(tmp_path_factory) -> Path:
    """The box as a MetaImage file with LPS axes."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(chest()[::-1]))
    image.SetSpacing((SPACING_MM,) * 3)
    path = tmp_path_factory.mktemp("ct") / "box.mha"
    sitk.WriteImage(image, str(path))
    return path


@pytest.fixture
def dicom_series(tmp_path) -> Callable[..., Path]:
    """Write a CT series: one 8 x 8 slice of water a position, 5 mm pixels."""
    import pydicom
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    def write(positions_mm: Sequence[float], description: str = "Chest") -> Path:
        series_uid, study_uid = generate_uid(), generate_uid()
        for number, z in enumerate(positions_mm):
            ds = pydicom.Dataset()
            ds.file_meta = pydicom.dataset.FileMetaDataset()
            ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            ds.SeriesInstanceUID, ds.StudyInstanceUID = series_uid, study_uid
            ds.Modality, ds.SeriesDescription = "CT", description
            ds.PatientName = "Secret^Name"
            ds.ImagePositionPatient = [0.0, 0.0, float(z)]
            ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            ds.PixelSpacing, ds.SliceThickness = [5.0, 5.0], 5.0
            ds.Rows = ds.Columns = 8
            ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
            ds.BitsAllocated = ds.BitsStored = 16
            ds.HighBit, ds.PixelRepresentation = 15, 1
            ds.RescaleSlope, ds.RescaleIntercept = 1, 0
            ds.PixelData = np.zeros((8, 8), np.int16).tobytes()
            ds.save_as(tmp_path / f"{description}-{number}.dcm", enforce_file_format=True)
        return tmp_path

    return write
