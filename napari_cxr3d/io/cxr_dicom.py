"""A radiograph in a DICOM file (CR, DX, or a secondary capture of one)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_cxr3d.errors import UnsupportedFileError
from napari_cxr3d.imaging import Radiograph
from napari_cxr3d.io.cxr_source import SMALLEST_SIDE, radiograph_source
from napari_cxr3d.io.dicom_display import FloatImage, displayed_grey
from napari_cxr3d.io.dicom_headers import number, read_header, text
from napari_cxr3d.io.dicom_pixels import decoded_frames, read_dataset
from napari_cxr3d.io.guard import foreign_errors
from napari_cxr3d.io.pixel_pitch import dicom_pitch
from napari_cxr3d.io.synthetic_mark import is_marked

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["read_dicom_radiograph"]

_RADIOGRAPHY = ("CR", "DX", "DR", "RG")
_UNSPECIFIC = ("", "OT", "SC")  # of a secondary capture, which may show anything
_CAPTURE_CLASSES = ("Secondary Capture", "Radiography", "X-Ray Image Storage")
_CHEST = ("", "CHEST", "THORAX", "LUNG", "LUNGS", "RIB", "RIBS", "PORT CHEST")

_GATE_TAGS = [
    "SOPClassUID",
    "Modality",
    "ImageType",
    "BodyPartExamined",
    "PresentationIntentType",
    "NumberOfFrames",
    "Rows",
    "Columns",
]

_VIEWS = {
    "PA": "PA",
    "AP": "AP",
    "LL": "LL",
    "RL": "RL",
    # CID 4010 (SNOMED CT, and the SRT codes it replaced)
    "272479007": "PA",
    "R-10214": "PA",
    "399348003": "AP",
    "R-10206": "AP",
    "399173006": "LL",
    "R-10236": "LL",
    "399198007": "RL",
    "R-10232": "RL",
}


def read_dicom_radiograph(path: Path) -> Radiograph:
    """Read a radiograph from a single-frame DICOM file; see `read_cxr`.

    Raises
    ------
    UnreadableFileError, UnsupportedFileError, OutOfMemoryError
        As `read_cxr`.
    """
    header = read_header(path, tags=_GATE_TAGS)
    with foreign_errors(path, "An element of the DICOM header cannot be read"):
        notes = _require_radiograph(header, path)
    dataset = read_dataset(path)
    frame = decoded_frames(dataset, path)[0]
    with foreign_errors(path, "An element of the DICOM header cannot be read"):
        pixels, window, more = displayed_grey(dataset, frame)
        notes += more
        view, more = _view_position(dataset)
        notes += more
        pixels, more = _upright(dataset, pixels, view)
        notes += more
        pitch, more = dicom_pitch(dataset, (pixels.shape[0], pixels.shape[1]))
        notes += more
        inverted = text(dataset, "PhotometricInterpretation") == "MONOCHROME1"
        source = radiograph_source(
            "DICOM",
            path,
            pixels,
            pitch,
            notes,
            description=text(dataset, "SeriesDescription"),
            modality=text(dataset, "Modality").upper() or "OT",
            series_uid=text(dataset, "SeriesInstanceUID"),
        )
        return Radiograph(
            pixels=pixels,
            pitch_mm=pitch,
            photometric="MONOCHROME1" if inverted else "MONOCHROME2",
            source=source,
            view_position=view,
            display_range=window,
            synthetic=is_marked(text(dataset, "SeriesDescription")),
        )


def _require_radiograph(header: Dataset, path: Path) -> list[str]:
    """Refuse what cannot be one radiograph; notes on what is doubtful."""
    modality = text(header, "Modality").upper()
    uid = header.get("SOPClassUID")
    sop_class = str(uid.name) if uid else ""
    axial_capture = modality in _UNSPECIFIC and "AXIAL" in str(header.get("ImageType", "")).upper()
    if modality == "CT" or sop_class.startswith(("CT Image", "Enhanced CT")) or axial_capture:
        raise UnsupportedFileError(
            "This is a CT slice, not a chest X-ray",
            remedy="open its folder as a CT",
            path=path,
        )
    captured = modality in _UNSPECIFIC and any(c in sop_class for c in _CAPTURE_CLASSES)
    if modality not in _RADIOGRAPHY and not captured:
        said = f"its modality is {modality}" if modality else "it does not say its modality"
        raise UnsupportedFileError(
            "This is no radiograph",
            why=f"{said}, and it is of the class {sop_class}" if sop_class else said,
            remedy="choose a CR or DX image, or a picture file",
            path=path,
        )
    frames = number(header, "NumberOfFrames") or 1
    if frames > 1:
        raise UnsupportedFileError(
            "This is a sequence of pictures, not one radiograph",
            why=f"it holds {frames:.0f} frames",
            remedy="export the frame you want as a picture of its own",
            path=path,
        )
    rows, columns = number(header, "Rows") or 0, number(header, "Columns") or 0
    if min(rows, columns) < SMALLEST_SIDE:
        raise UnsupportedFileError(
            "The picture is too small to be a radiograph",
            why=f"it has {rows:.0f} rows and {columns:.0f} columns",
            remedy="choose the full-size image",
            path=path,
        )
    notes = []
    if captured:
        notes.append("The file does not say that it is a radiograph (a secondary capture).")
    body_part = text(header, "BodyPartExamined").upper()
    if body_part not in _CHEST:
        notes.append(f"The body part is {body_part}, not the chest.")
    if text(header, "PresentationIntentType").upper() == "FOR PROCESSING":
        notes.append("The file holds the detector's raw values (for processing, not for display).")
    return notes


def _view_position(dataset: Dataset) -> tuple[str, list[str]]:
    """PA, AP, LL or RL from the view position or its code; ``""`` if unknown."""
    stated = text(dataset, "ViewPosition").upper()
    codes = [text(item, "CodeValue") for item in dataset.get("ViewCodeSequence") or []]
    for name in (stated, *codes):
        if name in _VIEWS:
            return _VIEWS[name], []
    if stated.startswith("LAT"):
        return "", ["The file says a lateral view, but not of which side."]
    return "", []


def _upright(dataset: Dataset, pixels: FloatImage, view: str) -> tuple[FloatImage, list[str]]:
    """A frontal chest with the patient's left on the picture's right and the head up.

    PatientOrientation names the patient direction of the rows and columns (PS3.3
    C.7.6.1.1.1); a picture stored the other way round is flipped, which loses nothing.
    """
    stated = dataset.get("PatientOrientation") or ""
    chest = text(dataset, "BodyPartExamined").upper() in _CHEST
    if not chest or view not in ("PA", "AP") or isinstance(stated, str) or len(stated) != 2:
        return pixels, []
    along_row, along_column = (str(direction).upper()[:1] for direction in stated)
    notes = []
    if along_row == "R":
        pixels = pixels[:, ::-1]
        notes.append("The file holds the picture mirrored (PatientOrientation): flipped.")
    if along_column == "H":
        pixels = pixels[::-1]
        notes.append("The file holds the picture head down (PatientOrientation): flipped.")
    if along_row in ("H", "F"):
        notes.append("The file says that the patient lies sideways (PatientOrientation).")
    return np.ascontiguousarray(pixels), notes
