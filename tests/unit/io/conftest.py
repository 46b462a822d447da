"""Small CTs whose every voxel says where it lies, written as DICOM series."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_cxr3d.imaging import HU_MIN, Volume

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CT_CLASS = "1.2.840.10008.5.1.4.1.1.2"


def hu_at(points_lps: np.ndarray) -> np.ndarray:
    """The HU of a point: linear in LPS, so that linear interpolation keeps it exactly.

    The three slopes differ, so that a permuted or mirrored volume cannot match.
    """
    return points_lps @ np.array([3.0, 5.0, 7.0]) - 500.0


def assert_in_place(volume: Volume, *, tolerance: float = 0.51) -> None:
    """Every voxel holds the HU of the place where it says that it lies."""
    index = np.stack(np.indices(volume.shape), axis=-1)
    expected = hu_at(volume.grid.index_to_lps(index))
    inside = volume.hu != HU_MIN
    assert inside.mean() > 0.3
    np.testing.assert_allclose(volume.hu[inside], expected[inside], atol=tolerance)


@dataclass
class Series:
    """How to write a DICOM series; the defaults make a plain axial CT."""

    positions: Sequence[Sequence[float]] = field(
        default_factory=lambda: [(-10.0, -20.0, 4.0 * k) for k in range(6)]
    )
    orientation: Sequence[float] = AXIAL
    shape: tuple[int, int] = (8, 10)
    spacing: tuple[float, float] = (2.0, 3.0)
    slope: float = 1.0
    intercept: float = -1024.0
    uid: str = "1.2.3"
    edit: Callable[[Any, int], None] | None = None
    preamble: bool = True

    def stored(self, k: int, slope: float, intercept: float) -> np.ndarray:
        """Stored values of slice k, shape (rows, columns)."""
        rows, columns = np.indices(self.shape)
        along_row, along_column = np.array(self.orientation[:3]), np.array(self.orientation[3:])
        points = (
            np.array(self.positions[k])
            + columns[..., None] * self.spacing[1] * along_row
            + rows[..., None] * self.spacing[0] * along_column
        )
        return np.rint((hu_at(points) - intercept) / slope)

    def datasets(self) -> list[Any]:
        """The slices in order of their positions; `edit` has had its way with each."""
        return [self._dataset(k) for k in range(len(self.positions))]

    def _dataset(self, k: int) -> Any:
        from pydicom.dataset import Dataset, FileMetaDataset
        from pydicom.uid import ExplicitVRLittleEndian

        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID = CT_CLASS
        ds.SOPInstanceUID = f"{self.uid}.{k + 1}"
        ds.PatientName = "Secret^Patient"
        ds.PatientID = "SECRET-ID"
        ds.Modality = "CT"
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.SeriesDescription = "Thorax 4.0 "
        ds.StudyInstanceUID = f"{self.uid}.9"
        ds.SeriesInstanceUID = self.uid
        ds.SeriesNumber = 2
        ds.InstanceNumber = k + 1
        ds.AcquisitionNumber = 1
        ds.BodyPartExamined = "CHEST"
        ds.ImagePositionPatient = [f"{v:.9g}" for v in self.positions[k]]
        ds.ImageOrientationPatient = [f"{v:.9g}" for v in self.orientation]
        ds.PixelSpacing = list(self.spacing)
        ds.SamplesPerPixel = 1
        ds.PhotometricInterpretation = "MONOCHROME2"
        ds.Rows, ds.Columns = self.shape
        ds.BitsAllocated = ds.BitsStored = 16
        ds.HighBit = 15
        ds.PixelRepresentation = 0
        ds.RescaleSlope, ds.RescaleIntercept = self.slope, self.intercept
        ds.PixelData = self.stored(k, self.slope, self.intercept).astype(np.uint16).tobytes()
        if self.edit is not None:
            self.edit(ds, k)
        return ds

    def write(self, folder: Path, name: str = "{:04d}.dcm") -> list[Path]:
        """Write the slices; `name` takes the slice's number."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for k, ds in enumerate(self.datasets()):
            paths.append(folder / name.format(k))
            write_dataset(ds, paths[-1], preamble=self.preamble)
        return paths


def write_dataset(ds: Any, path: Path, *, preamble: bool = True) -> None:
    """Write a data set as a DICOM file, or as a bare one without preamble and meta header."""
    import pydicom

    if preamble:
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        pydicom.dcmwrite(path, ds, enforce_file_format=True)
        return
    del ds.file_meta
    with path.open("wb") as file:
        pydicom.dcmwrite(file, ds, implicit_vr=True, little_endian=True)


@pytest.fixture
def series() -> type[Series]:
    """The maker of DICOM series."""
    return Series


@pytest.fixture
def in_place() -> Callable[..., None]:
    """The check that every voxel lies where it says."""
    return assert_in_place


@pytest.fixture
def write_dicom() -> Callable[..., None]:
    """The writer of single DICOM files."""
    return write_dataset


@pytest.fixture
def place_hu() -> Callable[[np.ndarray], np.ndarray]:
    """The HU of LPS points."""
    return hu_at
