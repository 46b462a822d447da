"""Reading a chest radiograph: PNG, JPEG, TIFF or DICOM."""

from __future__ import annotations

from pathlib import Path

from napari_cxr3d.errors import UnsupportedFileError
from napari_cxr3d.imaging import Radiograph
from napari_cxr3d.io.cxr_dicom import read_dicom_radiograph
from napari_cxr3d.io.cxr_picture import read_picture
from napari_cxr3d.io.guard import existing_path
from napari_cxr3d.io.sniff import is_dicom, is_picture, is_volume_file

__all__ = ["read_cxr"]


def read_cxr(path: str | Path) -> Radiograph:
    """A chest radiograph with bone bright.

    Parameters
    ----------
    path : str or Path
        A PNG, JPEG or TIFF picture, or a single-frame DICOM file.

    Returns
    -------
    Radiograph
        Pixel values in the file's own scale, after the modality rescale; MONOCHROME1 is
        inverted to MONOCHROME2; ``pitch_mm``, ``view_position`` and ``display_range``
        where the file knows them. ``source.notes`` tells everything that was assumed.

    Raises
    ------
    UnreadableFileError
        If there is no such file, or it is damaged.
    UnsupportedFileError
        If it is not a single radiograph: a folder, a CT, another modality, several frames.
    OutOfMemoryError
        If the header asks for more than the free memory.
    """
    path = existing_path(path)
    if path.is_dir():
        raise UnsupportedFileError(
            "A chest X-ray is a single file, not a folder",
            remedy="choose the picture in it, or open the folder as a CT",
            path=path,
        )
    if is_dicom(path):
        return read_dicom_radiograph(path)
    if is_picture(path):
        return read_picture(path)
    if is_volume_file(path):
        raise UnsupportedFileError(
            "This is a volume, not a chest X-ray", remedy="open it as a CT", path=path
        )
    raise UnsupportedFileError(
        "The file is not of a kind that this program reads",
        why="it is neither DICOM, PNG, JPEG nor TIFF",
        remedy="convert it to one of these",
        path=path,
    )
