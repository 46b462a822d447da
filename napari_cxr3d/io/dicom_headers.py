"""What the headers of DICOM files say about each slice, without their pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import GeometryError
from napari_cxr3d.io.guard import foreign_errors

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = [
    "FileHeader",
    "SliceHeader",
    "file_header",
    "number",
    "numbers",
    "positions",
    "read_header",
    "text",
]

# Everything that choosing and stacking slices needs; no patient element among them.
_TAGS = [
    "SpecificCharacterSet",
    "ImageType",
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "SeriesDescription",
    "BodyPartExamined",
    "SeriesInstanceUID",
    "SeriesNumber",
    "AcquisitionNumber",
    "InstanceNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "TemporalPositionIdentifier",
    "NumberOfFrames",
    "SamplesPerPixel",
    "Rows",
    "Columns",
    "PixelSpacing",
    "BitsAllocated",
    "RescaleIntercept",
    "RescaleSlope",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]

MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"  # SOP class of a DICOMDIR


@dataclass(frozen=True)
class SliceHeader:
    """One slice: a single-frame file, or one frame of an enhanced multi-frame file.

    Attributes
    ----------
    path : Path
        The file.
    frame : int
        Index of the frame in the file.
    shape : tuple of 2 int
        Rows and columns.
    position : tuple of 3 float or None
        ImagePositionPatient, LPS mm of the centre of the first pixel.
    orientation : tuple of 6 float or None
        ImageOrientationPatient: direction cosines of a row, then of a column.
    spacing_mm : tuple of 2 float or None
        PixelSpacing: between rows, between columns.
    slope, intercept : float or None
        The rescale to Hounsfield units.
    instance, acquisition, temporal : int or None
        Instance number, acquisition number, temporal position.
    localizer : bool
        Whether the image type says LOCALIZER (a scout view).
    """

    path: Path
    frame: int
    shape: tuple[int, int]
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing_mm: tuple[float, ...] | None
    slope: float | None
    intercept: float | None
    instance: int | None
    acquisition: int | None
    temporal: int | None
    localizer: bool


@dataclass(frozen=True)
class FileHeader:
    """One DICOM file: its series, and its slices if it holds an image.

    Attributes
    ----------
    series_uid, modality, description, body_part : str
        As the file says, ``""`` where it does not.
    series_number : int or None
        Series number.
    sop_class : str
        The kind of object, in DICOM's words.
    samples : int
        Values per pixel; 3 for colour.
    slices : tuple of SliceHeader
        Empty for objects without pixels.
    """

    path: Path
    series_uid: str
    modality: str
    description: str
    body_part: str
    series_number: int | None
    sop_class: str
    samples: int
    slices: tuple[SliceHeader, ...]


def read_header(path: Path, *, tags: list[str] | None = None) -> Dataset:
    """The elements of a DICOM file that stacking needs, or those in `tags`.

    Raises
    ------
    UnreadableFileError
        If the file is no DICOM file, or a damaged one.
    """
    import pydicom

    with foreign_errors(path, "The DICOM header cannot be read"):
        return pydicom.dcmread(
            path, stop_before_pixels=True, force=True, specific_tags=[*(tags or _TAGS)]
        )


def file_header(path: Path) -> FileHeader:
    """What one file says.

    Raises
    ------
    UnreadableFileError
        If the header, or an element that stacking needs, is damaged.
    """
    dataset = read_header(path)
    with foreign_errors(path, "An element of the DICOM header cannot be read"):
        return FileHeader(
            path=path,
            series_uid=text(dataset, "SeriesInstanceUID"),
            modality=text(dataset, "Modality").upper(),
            description=_description(dataset),
            body_part=text(dataset, "BodyPartExamined"),
            series_number=_integer(dataset, "SeriesNumber"),
            sop_class=_sop_class(dataset),
            samples=_integer(dataset, "SamplesPerPixel") or 1,
            slices=tuple(_slices(dataset, path)),
        )


def positions(slices: Sequence[SliceHeader]) -> npt.NDArray[np.float64]:
    """ImagePositionPatient of slices that all have one, shape (n_slices, 3).

    Raises
    ------
    GeometryError
        If a slice has none.
    """
    found = [s.position for s in slices if s.position is not None]
    if len(found) < len(slices):
        raise GeometryError(
            "Slices do not say where they lie",
            why="ImagePositionPatient is missing",
            remedy="export the series again from its archive",
        )
    return np.array(found, dtype=np.float64)


def text(dataset: Dataset, keyword: str) -> str:
    """A text element without padding; ``""`` where it is absent or empty."""
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip(" \0")


def numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """A numeric element of `count` finite values; None where it is absent or not that."""
    value = dataset.get(keyword)
    if value is None:
        return None
    values = [value] if isinstance(value, (int, float, str)) else list(value)
    if len(values) < count:
        return None
    found = tuple(float(v) for v in values[:count])
    return found if np.isfinite(found).all() else None


def number(dataset: Dataset, keyword: str) -> float | None:
    """A single finite number; the first of several; None where there is none."""
    found = numbers(dataset, keyword, 1)
    return None if found is None else found[0]


def _integer(dataset: Dataset, keyword: str) -> int | None:
    found = number(dataset, keyword)
    return None if found is None else int(found)


def _description(dataset: Dataset) -> str:
    found = text(dataset, "SeriesDescription")
    return "" if found.upper() in ("NONE", "UNKNOWN") else found


def _sop_class(dataset: Dataset) -> str:
    uid = dataset.get("SOPClassUID")
    return "" if not uid else str(uid.name)


def _slices(dataset: Dataset, path: Path) -> Iterator[SliceHeader]:
    rows, columns = _integer(dataset, "Rows"), _integer(dataset, "Columns")
    if not rows or not columns or text(dataset, "SOPClassUID") == MEDIA_DIRECTORY:
        return
    localizer = "LOCALIZER" in str(dataset.get("ImageType", "")).upper()
    shared = _first(dataset, "SharedFunctionalGroupsSequence")
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    for frame in range(max(1, _integer(dataset, "NumberOfFrames") or 1)):
        own = per_frame[frame] if frame < len(per_frame) else None
        if frame > 0 and own is None:
            return  # frames without a position of their own cannot be stacked
        position = _grouped(own, shared, "PlanePositionSequence") or dataset
        orientation = _grouped(own, shared, "PlaneOrientationSequence") or dataset
        measures = _grouped(own, shared, "PixelMeasuresSequence") or dataset
        values = _grouped(own, shared, "PixelValueTransformationSequence") or dataset
        content = _grouped(own, shared, "FrameContentSequence")
        frame_type = _grouped(own, shared, "CTImageFrameTypeSequence")
        scout = frame_type is not None and "LOCALIZER" in str(frame_type.get("FrameType", ""))
        yield SliceHeader(
            path=path,
            frame=frame,
            shape=(rows, columns),
            position=numbers(position, "ImagePositionPatient", 3),
            orientation=numbers(orientation, "ImageOrientationPatient", 6),
            spacing_mm=numbers(measures, "PixelSpacing", 2),
            slope=number(values, "RescaleSlope"),
            intercept=number(values, "RescaleIntercept"),
            instance=_integer(dataset, "InstanceNumber"),
            acquisition=_integer(content, "FrameAcquisitionNumber")
            if content is not None
            else _integer(dataset, "AcquisitionNumber"),
            temporal=_integer(content, "TemporalPositionIndex")
            if content is not None
            else _integer(dataset, "TemporalPositionIdentifier"),
            localizer=localizer or scout,
        )


def _first(dataset: Dataset | None, keyword: str) -> Any:
    """The first item of a sequence, or None."""
    sequence = None if dataset is None else dataset.get(keyword)
    return sequence[0] if sequence else None


def _grouped(own: Dataset | None, shared: Dataset | None, keyword: str) -> Any:
    """A functional group of one frame: its own, else the shared one (PS3.3 C.7.6.16)."""
    item = _first(own, keyword)
    return item if item is not None else _first(shared, keyword)
