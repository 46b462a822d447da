"""A synthetic volume as a DICOM CT series, told apart from a scanner's in every file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from napari_cxr3d.errors import ExportError, InvalidInputError
from napari_cxr3d.imaging import HU_MIN, Volume
from napari_cxr3d.io.dicom_identity import add_nobody, comments, new_dataset, require_synthetic
from napari_cxr3d.progress import CancelToken, Progress, ProgressCallback

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["require_series_folder", "write_ct_series"]

_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
_DESCRIPTION = 64  # characters in DICOM's LO
_WINDOW_CENTER, _WINDOW_WIDTH = 40, 400
_IGNORED = (".DS_Store", "Thumbs.db")


def write_ct_series(
    volume: Volume,
    folder: str | Path,
    *,
    name: str = "",
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Path:
    """Write a synthetic volume as axial CT images, one file a slice.

    Every file says DERIVED, SECONDARY (PS3.3 C.8.2.1.1.1) and SYNTHETIC, in the series
    description too, which worklists show. No patient's identity is written; study, series,
    frame of reference and instances get new UIDs.

    Parameters
    ----------
    volume : Volume
        A synthetic one.
    folder : path-like
        To be made: ``IM0001.dcm`` and on, from the head down.
    name : str
        What follows SYNTHETIC CT in the series description: ``"seed 3"``.
    provenance : mapping, optional
        `Provenance.to_dict`; goes into the image comments.
    overwrite : bool
        Whether a folder of an earlier synthetic series may be replaced; no other ever is.
    progress, cancel : optional
        Progress over the slices, and cancellation between two.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InvalidInputError
        If the volume is not synthetic.
    ExportError
        If the folder must not or cannot be written; nothing is left behind.
    Cancelled
        If the token was cancelled.
    """
    from pydicom.uid import generate_uid

    if not volume.synthetic:
        raise InvalidInputError(
            "Only synthetic volumes are written as DICOM",
            why="this one was measured",
            remedy="copy its own files",
        )
    folder = Path(folder).expanduser()
    require_series_folder(folder, overwrite=overwrite)
    aside = folder.with_name(f".{uuid4().hex[:12]}")
    study, series, frame = (generate_uid() for _ in range(3))
    now = datetime.now()
    described = f"SYNTHETIC CT {name}".strip()[:_DESCRIPTION]
    said = comments(provenance)
    stored = np.clip(np.rint(volume.hu) - HU_MIN, 0, 65535).astype("<u2")
    try:
        aside.mkdir()
        for index, pixels in enumerate(stored):
            if cancel is not None:
                cancel.raise_if_cancelled()
            dataset = new_dataset(_CT_IMAGE, generate_uid())
            dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
            dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = frame, ""
            dataset.InstanceNumber = index + 1
            dataset.SeriesDescription = described
            dataset.ImageComments = said
            _add_identity(dataset, now)
            _add_geometry(dataset, volume, index)
            _add_pixels(dataset, pixels.shape, pixels.tobytes())
            dataset.save_as(aside / f"IM{index + 1:04d}.dcm", enforce_file_format=True)
            if progress is not None:
                progress(Progress(index + 1, len(stored), f"writing slice {index + 1}"))
        _take_place(aside, folder)
    except OSError as error:
        raise ExportError(
            "The DICOM series could not be written",
            why=error.strerror or type(error).__name__,
            remedy="check the disk's free space and your permissions",
            path=folder,
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def require_series_folder(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder for a series before the work begins.

    Raises
    ------
    ExportError
        If its parent is missing, or it is there and may not be replaced: without
        `overwrite`, or because it holds anything but an earlier synthetic series.
    """
    if not folder.parent.is_dir():
        raise ExportError(
            "The folder to write into does not exist", remedy="make it first", path=folder.parent
        )
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ExportError("There is a file of this name", remedy="choose another", path=folder)
    if not overwrite:
        raise ExportError(
            "The folder exists already",
            remedy="choose another name or allow overwriting",
            path=folder,
        )
    for path in folder.iterdir():
        if path.name in _IGNORED:
            continue
        if path.suffix != ".dcm" or path.is_dir():
            raise ExportError(
                "The folder holds something else than a series",
                remedy="choose another name",
                path=path,
            )
        require_synthetic(path)


def _take_place(aside: Path, folder: Path) -> None:
    """Put a finished folder where it belongs, in place of an older one."""
    if not folder.exists():
        os.replace(aside, folder)
        return
    old = folder.with_name(f".{uuid4().hex[:12]}")
    os.replace(folder, old)
    os.replace(aside, folder)
    shutil.rmtree(old, ignore_errors=True)


def _add_identity(dataset: Dataset, now: datetime) -> None:
    """Say what the picture is, and of nobody."""
    add_nobody(dataset, now)
    dataset.SeriesNumber = 1
    dataset.Modality = "CT"
    dataset.BodyPartExamined = "CHEST"
    dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL", "SYNTHETIC"]
    dataset.DerivationDescription = "Reconstructed from X-rays by a generative network"
    dataset.ManufacturerModelName = "SYNTHETIC"
    dataset.AcquisitionNumber = ""
    dataset.KVP = ""
    dataset.BurnedInAnnotation = "NO"


def _add_geometry(dataset: Dataset, volume: Volume, index: int) -> None:
    """Where the slice lies: rows grow toward posterior, columns toward left (PS3.3 C.7.6.2)."""
    di, dp, dl = volume.spacing_mm
    position = volume.grid.index_to_lps((index, 0, 0))
    dataset.ImagePositionPatient = [round(float(x), 6) for x in position]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PatientPosition = "HFS"
    dataset.PixelSpacing = [dp, dl]
    dataset.SliceThickness = di
    dataset.SpacingBetweenSlices = di
    dataset.SliceLocation = round(float(position[2]), 6)


def _add_pixels(dataset: Dataset, shape: tuple[int, ...], content: bytes) -> None:
    dataset.Rows, dataset.Columns = shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 0
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = HU_MIN, 1, "HU"
    dataset.WindowCenter, dataset.WindowWidth = _WINDOW_CENTER, _WINDOW_WIDTH
    dataset.PixelData = content
