"""A synthetic volume as a DICOM series: whole, of nobody, and never in place of a patient's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from napari_cxr3d.errors import Cancelled, ExportError, InvalidInputError
from napari_cxr3d.imaging import Volume
from napari_cxr3d.io import read_ct, write_ct_series
from napari_cxr3d.progress import CancelToken

PROVENANCE = {"operation": "reconstruct", "inputs": ["ab" * 32], "parameters": {"seeds": [3]}}


@pytest.fixture
def volume() -> Volume:
    """Every voxel another HU, on an anisotropic grid off the centre."""
    hu = np.arange(5 * 6 * 7, dtype=np.float32).reshape(5, 6, 7) * 9.0 - 1024.0
    return Volume(hu, (4.0, 2.0, 3.0), (-11.0, 7.5, 90.25), synthetic=True)


def test_what_is_written_is_read_back_with_its_geometry(tmp_path: Path, volume: Volume) -> None:
    folder = write_ct_series(volume, tmp_path / "series", provenance=PROVENANCE)
    read = read_ct(folder)
    assert np.array_equal(read.hu, volume.hu)
    assert read.spacing_mm == pytest.approx(volume.spacing_mm)
    assert read.origin_lps == pytest.approx(volume.origin_lps)
    assert read.synthetic


def test_every_file_says_that_it_is_synthetic_and_of_nobody(tmp_path: Path, volume: Volume) -> None:
    folder = write_ct_series(volume, tmp_path / "series", name="demo seed 3", provenance=PROVENANCE)
    files = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    assert len(files) == 5
    for dataset in files:
        assert list(dataset.ImageType)[:3] == ["DERIVED", "SECONDARY", "AXIAL"]
        assert dataset.SeriesDescription == "SYNTHETIC CT demo seed 3"
        assert dataset.ImageComments.startswith("SYNTHETIC")
        assert '"seeds": [3]' in dataset.ImageComments
        assert dataset.PatientName == "ANONYMOUS" and dataset.PatientBirthDate == ""
    assert len({dataset.SOPInstanceUID for dataset in files}) == 5
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        assert len({getattr(dataset, keyword) for dataset in files}) == 1
    again = pydicom.dcmread(next(write_ct_series(volume, tmp_path / "again").iterdir()))
    assert again.SeriesInstanceUID != files[0].SeriesInstanceUID


def test_a_folder_is_replaced_only_on_demand_and_as_a_whole(tmp_path: Path, volume: Volume) -> None:
    folder = write_ct_series(volume, tmp_path / "series")
    smaller = Volume(volume.hu[:2], volume.spacing_mm, volume.origin_lps, synthetic=True)
    with pytest.raises(ExportError, match="exists already"):
        write_ct_series(smaller, folder)
    write_ct_series(smaller, folder, overwrite=True)
    assert len(list(folder.iterdir())) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["series"]


def test_a_patient_s_series_is_never_replaced(tmp_path: Path, volume: Volume) -> None:
    folder = write_ct_series(volume, tmp_path / "series")
    path = sorted(folder.iterdir())[2]
    dataset = pydicom.dcmread(path)
    dataset.SeriesDescription = "Thorax 1.0"
    dataset.save_as(path)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(ExportError, match="not marked as synthetic"):
        write_ct_series(volume, folder, overwrite=True)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_a_folder_with_other_files_is_never_replaced(tmp_path: Path, volume: Volume) -> None:
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "thesis.txt").write_text("ten years")
    with pytest.raises(ExportError, match="something else"):
        write_ct_series(volume, tmp_path / "series", overwrite=True)


def test_a_measured_volume_is_refused(tmp_path: Path, volume: Volume) -> None:
    measured = Volume(volume.hu, volume.spacing_mm)
    with pytest.raises(InvalidInputError, match="synthetic"):
        write_ct_series(measured, tmp_path / "series")


def test_a_cancelled_export_leaves_nothing(tmp_path: Path, volume: Volume) -> None:
    cancel = CancelToken()
    with pytest.raises(Cancelled):
        write_ct_series(
            volume, tmp_path / "series", progress=lambda p: cancel.cancel(), cancel=cancel
        )
    assert list(tmp_path.iterdir()) == []
