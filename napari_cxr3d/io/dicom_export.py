"""Synthetic radiographs as DICOM secondary captures, told apart from real ones throughout."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d import __version__
from napari_cxr3d.imaging import XrayView, orientation_letters
from napari_cxr3d.imaging.radiograph import Quantity
from napari_cxr3d.io.destination import all_or_none, new_file, require_free
from napari_cxr3d.io.dicom_identity import add_nobody, comments, new_dataset, require_synthetic
from napari_cxr3d.io.image_stack import as_frames, display_range, numbered
from napari_cxr3d.io.synthetic_mark import burn_in, mark_text

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["write_dicom_secondary_capture"]

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_WHITE = 65535
_SHORT_TEXT = 1024  # characters in DICOM's ST
_PATIENT_LETTERS = str.maketrans("SI", "HF")  # DICOM says head and foot


def write_dicom_secondary_capture(
    images: npt.NDArray[Any],
    path: str | Path,
    *,
    views: Sequence[XrayView],
    quantity: Quantity = "display",
    provenance: Mapping[str, Any] | None = None,
    burn_mark: bool = True,
    overwrite: bool = False,
    sources: Sequence[Path] = (),
) -> tuple[Path, ...]:
    """Write pictures as secondary captures, marked DERIVED and SYNTHETIC (PS3.3 A.8.1).

    No patient's identity is written; study, series and instances get new UIDs. Several views
    become one series of numbered files, ``name_000.dcm`` and on.

    Parameters
    ----------
    images : ndarray, shape (rows, cols) or (V, rows, cols)
        0 to 1, or line integrals, which a rescale slope gives back.
    path : path-like
        A ``.dcm`` file.
    views : sequence of XrayView
        One for each picture, isocenter written out.
    quantity : {"display", "line_integral"}
        What `images` holds.
    provenance : mapping, optional
        `Provenance.to_dict`; goes into the image comments.
    burn_mark : bool
        Burn SYNTHETIC and the angles into the pixels.
    overwrite : bool
        Whether an earlier synthetic file may be replaced; no other DICOM file ever is.
    sources : sequence of Path
        Files and folders that are never replaced.

    Returns
    -------
    tuple of Path
        The files written.

    Raises
    ------
    InvalidInputError
        If pictures and views do not match.
    ExportError
        If a file must not or cannot be written.
    """
    from pydicom.uid import generate_uid

    path = Path(path).expanduser()
    frames = as_frames(images, views)
    paths = numbered(path, len(frames))
    for target in paths:
        require_free(target, overwrite=overwrite, sources=sources)
        require_synthetic(target)
    low, high = display_range(frames, quantity)
    series_text = mark_text(views[0]) if len(views) == 1 else "SYNTHETIC DRR sweep"
    study, series = generate_uid(), generate_uid()
    now = datetime.now()
    with all_or_none() as written:
        for number, (target, frame, view) in enumerate(zip(paths, frames, views, strict=True), 1):
            stored = np.clip((frame - low) / (high - low), 0.0, 1.0) * _WHITE
            pixels = np.rint(stored).astype(np.uint16)
            if burn_mark:
                pixels = burn_in(pixels, mark_text(view))
            dataset = new_dataset(_SECONDARY_CAPTURE, generate_uid())
            dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
            dataset.InstanceNumber = number
            dataset.SeriesDescription = series_text[:64]
            _add_identity(dataset, view, now, provenance)
            _add_geometry(dataset, view)
            _add_pixels(dataset, pixels, low, high, quantity)
            with new_file(target, overwrite=overwrite, sources=sources) as temporary:
                dataset.save_as(temporary, enforce_file_format=True)
            written.append(target)
    return paths


def _add_identity(
    dataset: Dataset, view: XrayView, now: datetime, provenance: Mapping[str, Any] | None
) -> None:
    """Say what the picture is, and of nobody."""
    add_nobody(dataset, now)
    dataset.SeriesNumber = 1
    dataset.Modality = "OT"  # no worklist takes it for an exposure
    dataset.BodyPartExamined = "CHEST"
    dataset.ImageType = ["DERIVED", "SECONDARY", "DRR"]
    dataset.ConversionType = "SYN"  # synthetic image, PS3.3 C.8.6.1
    dataset.SecondaryCaptureDeviceManufacturer = "napari-cxr3d"
    dataset.SecondaryCaptureDeviceSoftwareVersions = __version__
    dataset.DerivationDescription = (
        f"Digitally reconstructed radiograph: {json.dumps(view.to_dict())}"[:_SHORT_TEXT]
    )
    dataset.ImageComments = comments(provenance, without=("views",))
    # The mark names no patient, which is all that this attribute asks for.
    dataset.BurnedInAnnotation = "NO"


def _add_geometry(dataset: Dataset, view: XrayView) -> None:
    """Pixel pitch, distances and angles (PS3.3 C.8.7.5: LAO and cranial are positive)."""
    pitch = [view.pixel_mm, view.pixel_mm]
    dataset.ImagerPixelSpacing = pitch
    dataset.PixelSpacing = pitch
    dataset.EstimatedRadiographicMagnificationFactor = round(view.magnification, 6)
    dataset.DistanceSourceToDetector = view.source_to_detector_mm
    dataset.DistanceSourceToPatient = view.source_to_isocenter_mm
    # The angles tell where the detector is: against the source in yaw, and in pitch.
    dataset.PositionerPrimaryAngle = round((view.yaw + 180.0) % 360.0 - 180.0, 6)
    dataset.PositionerSecondaryAngle = round(-view.pitch, 6) + 0.0
    rows, columns = view.image_axes
    dataset.PatientOrientation = [
        orientation_letters(axis.tolist()).translate(_PATIENT_LETTERS) for axis in (columns, rows)
    ]


def _add_pixels(
    dataset: Dataset, pixels: npt.NDArray[np.uint16], low: float, high: float, quantity: Quantity
) -> None:
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 0
    if quantity == "line_integral":
        dataset.RescaleSlope = f"{(high - low) / _WHITE:.9g}"
        dataset.RescaleIntercept = f"{low:.9g}"
        dataset.RescaleType = "US"
        dataset.WindowCenter, dataset.WindowWidth = f"{(low + high) / 2:.6g}", f"{high - low:.6g}"
    else:
        dataset.WindowCenter, dataset.WindowWidth = (_WHITE + 1) // 2, _WHITE + 1
    dataset.PixelData = pixels.astype("<u2").tobytes()
