"""What all DICOM files written here say: that they are computed, and of nobody."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_cxr3d import __version__
from napari_cxr3d.errors import ExportError
from napari_cxr3d.io.synthetic_mark import SYNTHETIC_NOTE, is_marked

if TYPE_CHECKING:
    from pydicom.dataset import Dataset, FileDataset

__all__ = ["add_nobody", "comments", "new_dataset", "require_synthetic"]

_LONG_TEXT = 10240  # characters in DICOM's LT


def new_dataset(sop_class: str, instance: str) -> FileDataset:
    """An empty file of a class, little endian, with the UID of its instance."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.MediaStorageSOPInstanceUID = UID(instance)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    return dataset


def add_nobody(dataset: Dataset, now: datetime) -> None:
    """The patient and study of a picture that was computed: no identity is copied."""
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName = "ANONYMOUS"
    dataset.PatientID = "ANONYMOUS"
    dataset.PatientBirthDate = ""
    dataset.PatientSex = ""
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = "Computed from pixels alone; no identity was copied"
    dataset.StudyDate, dataset.StudyTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    dataset.ContentDate, dataset.ContentTime = dataset.StudyDate, dataset.StudyTime
    dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = ""
    dataset.StudyID = ""
    dataset.StudyDescription = "SYNTHETIC"
    dataset.Manufacturer = "napari-cxr3d"
    dataset.SoftwareVersions = __version__


def comments(provenance: Mapping[str, Any] | None, *, without: Sequence[str] = ()) -> str:
    """Image comments: the mark, and the provenance without some of its parameters.

    Parameters
    ----------
    provenance : mapping or None
        `Provenance.to_dict`.
    without : sequence of str
        Parameters that are left out, such as a sweep's views: each image tells its own.
    """
    if provenance is None:
        return SYNTHETIC_NOTE
    kept = {k: v for k, v in provenance.get("parameters", {}).items() if k not in without}
    record = json.dumps({**provenance, "parameters": kept}, sort_keys=True)
    return f"{SYNTHETIC_NOTE} {record}"[:_LONG_TEXT]


def require_synthetic(path: Path) -> None:
    """Refuse to replace a DICOM file that was not written here.

    Raises
    ------
    ExportError
        If the file is there and may be a patient's.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError

    if not path.exists():
        return
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SeriesDescription"])
    except InvalidDicomError:
        return
    if not is_marked(str(header.get("SeriesDescription", ""))):
        raise ExportError(
            "A DICOM file that may be a patient's is never written over",
            why="it is not marked as synthetic",
            remedy="choose another name",
            path=path,
        )
