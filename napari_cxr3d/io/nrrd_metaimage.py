"""NRRD and MetaImage headers and voxels, read with SimpleITK.

What SimpleITK passes over in silence is read from the text header: an NRRD space that is
missing or no patient space, its units, a MetaImage intensity function.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import GeometryError, UnreadableFileError, UnsupportedFileError
from napari_cxr3d.imaging.frames import FloatArray
from napari_cxr3d.io.guard import foreign_errors
from napari_cxr3d.io.synthetic_mark import is_marked
from napari_cxr3d.io.volume_header import VolumeHeader, require_volume_shape

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["metaimage_header", "nrrd_header"]

_HEADER_BYTES = 65536  # longer text headers are not searched
_PATIENT_SPACES = {
    "left-posterior-superior",
    "right-anterior-superior",
    "left-anterior-superior",
    "lps",
    "ras",
    "las",
}


def nrrd_header(path: Path) -> VolumeHeader:
    """The header of an NRRD file, attached (.nrrd) or detached (.nhdr).

    Raises
    ------
    UnreadableFileError, UnsupportedFileError
        If the file is damaged or holds no single scalar volume.
    GeometryError
        If it does not say how the patient lies in it, or not in millimetres.
    """
    fields = _fields(path, ":", end="")
    _require_data_file(fields.get("data file", fields.get("datafile", "")), path)
    if fields.get("space", "").lower() not in _PATIENT_SPACES:
        raise GeometryError(
            "The NRRD file does not say how the patient lies in it",
            why=f"its space is {fields.get('space') or 'not given'}, so that left and right "
            "are unknown",
            remedy="add the line 'space: left-posterior-superior' (or the right one) and the "
            "directions to its header",
            path=path,
        )
    if "none" in fields.get("space directions", ""):
        raise GeometryError(
            "The NRRD file gives no direction for one of its axes",
            remedy="add the missing direction to its header",
            path=path,
        )
    units = set(fields.get("space units", "").replace('"', " ").lower().split())
    if units - {"mm", "millimeter", "millimeters", "millimetre", "millimetres"}:
        raise GeometryError(
            "The NRRD file is not in millimetres",
            why=f"its space units are {', '.join(sorted(units))}",
            remedy="write its directions, origin and space units in mm",
            path=path,
        )
    return _header(path, "NRRD", "NrrdImageIO")


def metaimage_header(path: Path) -> VolumeHeader:
    """The header of a MetaImage file, attached (.mha) or detached (.mhd).

    Raises
    ------
    UnreadableFileError, UnsupportedFileError
        If the file is damaged or holds no single scalar volume.
    GeometryError
        If its orientation is unknown.
    """
    fields = _fields(path, "=", end="elementdatafile")
    data_file = fields.get("elementdatafile", "LOCAL")
    if data_file.upper() != "LOCAL" and "%" not in data_file and data_file.upper() != "LIST":
        _require_data_file(data_file, path)
    notes = []
    if not fields.keys() & {"transformmatrix", "rotation", "orientation"}:
        if fields.get("anatomicalorientation", "RAI").upper() not in ("RAI", "???"):
            raise GeometryError(
                "The MetaImage file gives an anatomical orientation but no transform matrix",
                remedy="write the file again with its TransformMatrix",
                path=path,
            )
        notes.append(
            "The file gives no transform matrix: the patient was taken to lie as MetaImage "
            "assumes (left, posterior, superior)."
        )
    with foreign_errors(path, "The MetaImage header cannot be read"):
        slope = float(fields.get("elementtointensityfunctionslope", 1))
        intercept = float(fields.get("elementtointensityfunctionoffset", 0))
    if (slope, intercept) != (1, 0):
        notes.append(f"The file's intensity function was applied: {slope:g} x {intercept:+g}.")
    return _header(path, "MetaImage", "MetaImageIO", slope, intercept, tuple(notes))


def _fields(path: Path, separator: str, *, end: str) -> dict[str, str]:
    """The text header's fields by lower-case name, up to a blank line or the field `end`."""
    with foreign_errors(path, "The header cannot be read"), path.open("rb") as file:
        text = file.read(_HEADER_BYTES).decode("latin-1")
    fields: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip() and not end:
            break
        name, found, value = line.partition(separator)
        if found and not line.startswith("#"):
            fields.setdefault(name.strip().lower(), value.strip().lstrip("=").strip())
            if name.strip().lower() == end:
                break
    return fields


def _require_data_file(name: str, path: Path) -> None:
    """Refuse a detached header whose voxels are not where it says."""
    first = name.split()[0] if name else ""
    if not first or first.upper() == "LIST" or "%" in name:
        return
    if not (path.parent / name).is_file() and not (path.parent / first).is_file():
        raise UnreadableFileError(
            "The file is only a header, and the voxels that it names are missing",
            remedy="copy its data file into the same folder",
            path=path,
        )


def _header(
    path: Path,
    kind: str,
    image_io: str,
    slope: float = 1.0,
    intercept: float = 0.0,
    notes: tuple[str, ...] = (),
) -> VolumeHeader:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(str(path))
    with foreign_errors(path, f"The {kind} header cannot be read"):
        reader.ReadImageInformation()
        size = tuple(int(n) for n in reader.GetSize())
        pixel_type = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    require_volume_shape(size, path)
    if reader.GetNumberOfComponents() != 1 or "complex" in pixel_type:
        raise UnsupportedFileError(
            "The file is not a CT",
            why=f"its voxels are colours or vectors ({pixel_type})",
            remedy="choose a volume with one value per voxel",
            path=path,
        )

    def load() -> npt.NDArray[Any]:
        with foreign_errors(path, f"The {kind} voxels cannot be read"):
            stored: npt.NDArray[Any] = sitk.GetArrayFromImage(reader.Execute())
            return stored.reshape(size[2::-1])

    bits = next((n for n in (64, 32, 16) if str(n) in pixel_type), 8)
    return VolumeHeader(
        kind=kind,
        shape=(size[2], size[1], size[0]),
        affine_lps=_affine(reader),
        bytes_per_voxel=bits // 8,
        slope=slope,
        intercept=intercept,
        notes=notes,
        synthetic=reader.HasMetaDataKey("comment") and is_marked(reader.GetMetaData("comment")),
        load=load,
    )


def _affine(reader: sitk.ImageFileReader) -> FloatArray:
    """Matrix from (plane, row, column) to LPS mm."""
    n = int(reader.GetDimension())
    direction = np.array(reader.GetDirection(), dtype=np.float64).reshape(n, n)[:3, :3]
    steps = direction * np.array(reader.GetSpacing()[:3], dtype=np.float64)
    affine = np.eye(4)
    affine[:3, :3] = steps[:, ::-1]
    affine[:3, 3] = reader.GetOrigin()[:3]
    return affine
