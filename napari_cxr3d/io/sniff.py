"""What a path holds, told from its first bytes rather than from its name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from napari_cxr3d.errors import UnreadableFileError
from napari_cxr3d.io.guard import existing_path

__all__ = ["FileKind", "is_dicom", "is_picture", "is_volume_file", "sniff", "volume_kind"]

FileKind = Literal["ct", "cxr", "unknown"]

_VOLUME_SUFFIXES = {
    ".nii": "NIfTI",
    ".nii.gz": "NIfTI",
    ".nrrd": "NRRD",
    ".nhdr": "NRRD",
    ".mha": "MetaImage",
    ".mhd": "MetaImage",
}
_PICTURE_MAGIC = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"II*\x00",
    b"MM\x00*",
    b"II+\x00",
    b"MM\x00+",
)
_SNIFFED_FILES = 64  # looked at before a folder is called unknown


def _suffix(path: Path) -> str:
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else os.path.splitext(name)[1]


def is_volume_file(path: Path) -> bool:
    """Whether the name is that of a NIfTI, NRRD or MetaImage file."""
    return _suffix(path) in _VOLUME_SUFFIXES


def volume_kind(path: Path) -> str:
    """``"NIfTI"``, ``"NRRD"`` or ``"MetaImage"``, by the file's name."""
    return _VOLUME_SUFFIXES[_suffix(path)]


def _head(path: Path, n_bytes: int) -> bytes:
    """The first bytes of a file; none of one that cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(n_bytes)
    except OSError:
        return b""


def is_picture(path: Path) -> bool:
    """Whether the file starts as a PNG, JPEG or TIFF does."""
    return _head(path, 8).startswith(_PICTURE_MAGIC)


def is_dicom(path: Path) -> bool:
    """Whether the file is DICOM, with or without the 128-byte preamble (PS3.10, 7.1).

    A file without preamble must start with an element of group 0002 or 0008 whose value
    representation or length makes sense.
    """
    head = _head(path, 132)
    if head[128:132] == b"DICM":
        return True
    if len(head) < 16:
        return False
    group = int.from_bytes(head[:2], "little")
    element = int.from_bytes(head[2:4], "little")
    if group not in (0x0002, 0x0008) or element > 0x2000:
        return False
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    return explicit or int.from_bytes(head[4:8], "little") <= 256


def sniff(path: str | Path) -> FileKind:
    """Tell whether a file or folder is to be read as a CT or as a radiograph.

    Only headers are read: of a folder, those of its first files. A DICOM image of another
    modality counts as ``"cxr"``: `read_cxr` refuses it and says why.

    Raises
    ------
    UnreadableFileError
        If nothing is there.
    """
    path = existing_path(path)
    return _sniff_folder(path) if path.is_dir() else _sniff_file(path)


def _sniff_file(path: Path) -> FileKind:
    if is_volume_file(path):
        return "ct"
    if is_dicom(path):  # before pictures: a DICOM preamble may start as a TIFF does
        return _sniff_dicom(path)
    return "cxr" if is_picture(path) else "unknown"


def _sniff_folder(folder: Path) -> FileKind:
    looked_at = 0
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            if is_volume_file(path):
                return "ct"
            if is_dicom(path) and _sniff_dicom(path) == "ct":
                return "ct"
            looked_at += 1
            if looked_at >= _SNIFFED_FILES:
                return "unknown"
    return "unknown"


def _sniff_dicom(path: Path) -> FileKind:
    from napari_cxr3d.io.dicom_headers import read_header, text

    if path.name.upper() == "DICOMDIR":
        return "ct"
    try:
        header = read_header(path, tags=["Modality", "Rows"])
    except UnreadableFileError:
        return "unknown"
    if text(header, "Modality").upper() == "CT":
        return "ct"
    return "cxr" if "Rows" in header else "unknown"
