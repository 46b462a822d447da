"""Everything that a path offers to read as a CT, and the choice among it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_cxr3d.errors import (
    Cxr3dError,
    InvalidInputError,
    UnreadableFileError,
    UnsupportedFileError,
)
from napari_cxr3d.io.dicom_series import DicomStack, scan_dicom, walk_files
from napari_cxr3d.io.guard import existing_path
from napari_cxr3d.io.series_entry import SeriesEntry
from napari_cxr3d.io.sniff import is_dicom, is_picture, is_volume_file, volume_kind
from napari_cxr3d.io.volume_files import volume_header
from napari_cxr3d.progress import CancelToken, ProgressCallback

__all__ = ["Catalogue", "catalogue"]


@dataclass(frozen=True)
class Catalogue:
    """What lies at a path.

    Attributes
    ----------
    path : Path
        The file or folder that was looked at.
    entries : tuple of SeriesEntry
        CT candidates first, the largest first.
    stacks : dict of str to DicomStack
        The slices of the DICOM entries, by entry uid.
    n_unreadable : int
        DICOM files whose header is damaged.
    """

    path: Path
    entries: tuple[SeriesEntry, ...]
    stacks: dict[str, DicomStack]
    n_unreadable: int

    @property
    def candidates(self) -> tuple[SeriesEntry, ...]:
        """The entries that can be read as a CT."""
        return tuple(e for e in self.entries if e.kind == "ct")

    def choose(self, series: str | None) -> tuple[SeriesEntry, tuple[str, ...]]:
        """The entry that `series` names, or the largest CT; and notes on the choice.

        Raises
        ------
        InvalidInputError
            If `series` names no entry.
        UnsupportedFileError
            If the entry is no CT, or there is none.
        """
        entry = self._largest() if series is None else self._named(series)
        notes = []
        others = len(self.candidates) - 1
        if series is None and others > 0:
            notes.append(
                f"The largest of {others + 1} CT series was read ({entry.label}); "
                "choose another by its place in the list or its UID."
            )
        beside = sum(
            e.n_slices for e in self.entries if e is not entry and _base(e.uid) == _base(entry.uid)
        )
        if beside:
            notes.append(
                f"{beside} slices of the same series have another position in time, size, "
                "spacing or orientation and were left out."
            )
        if self.n_unreadable:
            notes.append(f"{self.n_unreadable} damaged DICOM files were left out.")
        return entry, tuple(notes)

    def _largest(self) -> SeriesEntry:
        if self.candidates:
            return self.candidates[0]
        if self.n_unreadable and not self.entries:
            raise UnreadableFileError(
                "There is no CT",
                why=f"the headers of {self.n_unreadable} DICOM files are damaged",
                remedy="check that they were copied completely",
                path=self.path,
            )
        if not self.entries:
            raise UnsupportedFileError(
                "There is no CT",
                why="no DICOM image, NIfTI, NRRD or MetaImage file is here",
                remedy="choose the folder or file that holds the series",
                path=self.path,
            )
        raise self._no_ct([e.reason for e in self.entries])

    def _named(self, series: str) -> SeriesEntry:
        by_uid = {e.uid: e for e in self.entries}
        if series in by_uid:
            entry = by_uid[series]
        elif series.isdecimal() and int(series) < len(self.entries):
            entry = self.entries[int(series)]
        else:
            raise InvalidInputError(
                f"There is no series {series!r}",
                why=f"{len(self.entries)} were found",
                remedy="give its place in the list, counted from 0, or its UID",
                path=self.path,
            )
        if entry.kind != "ct":
            raise self._no_ct([entry.reason])
        return entry

    def _no_ct(self, reasons: list[str]) -> UnsupportedFileError:
        counted = Counter(reasons).most_common(3)
        why = "; ".join(r if n == 1 else f"{r} ({n} series)" for r, n in counted)
        radiograph = any(e.kind == "cxr" for e in self.entries)
        return UnsupportedFileError(
            "This is no CT",
            why=why,
            remedy="open it as a chest X-ray" if radiograph else "choose a CT series",
            path=self.path,
        )


def catalogue(
    path: str | Path,
    *,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Catalogue:
    """Look at the headers of what lies at a path.

    Of a folder all subfolders are searched; of a DICOMDIR the folder it lies in. Of one
    DICOM file, the files beside it that belong to the same stack of slices are taken.

    Raises
    ------
    UnreadableFileError
        If nothing is there.
    UnsupportedFileError
        If a file is neither DICOM nor a volume.
    Cancelled
        If the user cancelled.
    """
    path = existing_path(path)
    if path.is_file() and is_volume_file(path):
        return Catalogue(path, (_volume_entry(path, path.name, 1, 1),), {}, 0)
    one_file = path.is_file() and path.name.upper() != "DICOMDIR"
    if one_file:
        _require_dicom(path)
    folder = path if path.is_dir() else path.parent
    files = list(walk_files(folder, recursive=not one_file, cancel=cancel))
    scan = scan_dicom(files, progress=progress, cancel=cancel)
    stacks = scan.stacks
    n_unreadable = len(scan.unreadable)
    volumes: list[Path] = []
    if one_file:
        stacks = tuple(s for s in stacks if path in s.entry.files)
        n_unreadable = int(path in scan.unreadable)
    else:
        volumes = [file for file in files if is_volume_file(file)]
    entries = [s.entry for s in stacks]
    entries += [
        _volume_entry(file, file.relative_to(folder).as_posix(), k + 1, len(volumes))
        for k, file in enumerate(volumes)
    ]
    entries.sort(key=lambda e: (e.kind != "ct", -e.n_slices))
    return Catalogue(path, tuple(entries), {s.entry.uid: s for s in stacks}, n_unreadable)


def _base(uid: str) -> str:
    return uid.split("#")[0]


def _require_dicom(path: Path) -> None:
    if is_dicom(path):
        return
    if is_picture(path):
        raise UnsupportedFileError(
            "This is a picture, not a CT", remedy="open it as a chest X-ray", path=path
        )
    raise UnsupportedFileError(
        "The file is not of a kind that this program reads",
        why="it is neither DICOM, NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr) nor MetaImage "
        "(.mha, .mhd)",
        remedy="convert it to one of these",
        path=path,
    )


def _volume_entry(path: Path, name: str, number: int, total: int) -> SeriesEntry:
    """The entry of a volume file; described by kind and place, for its name may be a patient's."""
    kind = volume_kind(path)
    shape = spacing = None
    reason = ""
    try:
        header = volume_header(path)
        shape = header.shape
        plane, row, column = (float(s) for s in np.linalg.norm(header.affine_lps[:3, :3], axis=0))
        spacing = (plane, row, column)
    except Cxr3dError as error:
        reason = f"{error.what}: {error.why}" if error.why else error.what
    return SeriesEntry(
        uid=f"file:{name}",
        description=f"{kind} file" if total == 1 else f"{kind} file {number} of {total}",
        modality="CT",
        kind="other" if reason else "ct",
        n_slices=0 if shape is None else shape[0],
        shape=shape,
        spacing_mm=spacing,
        body_part="",
        number=None,
        reason=reason,
        files=(path,),
    )
